"""A child that was forked after JAX was used is told to be spawned, and does not hang."""

import os
import subprocess
import sys

import pytest

CODE = """
import multiprocessing, sys, warnings
import jaxrec
warnings.simplefilter("ignore")
data = jaxrec.load("msweb")
def work(_):
    try:
        return jaxrec.Ials(8, sweeps=1).fit(data).info.certificate.status.value
    except jaxrec.InputError as error:
        return str(error)
if __name__ == "__main__":
    if sys.argv[1] == "after":
        work(0)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(work, [0])[0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked on this system")
@pytest.mark.parametrize(("when", "said"), (("before", "ok"), ("after", "start it by 'spawn'")))
def test_a_child_says_spawn(when, said, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CODE)
    done = subprocess.run([sys.executable, script, when], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and said in done.stdout, done
