"""Every example runs as it stands, in a folder of its own, and leaves nothing there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrec

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
WITHOUT_CHECKOUT = pytest.mark.skipif(not EXAMPLES, reason="the examples are not part of the wheel")

# A line of the output that shows the script came to its point.
SAYS = {
    "deep_vs_linear": "Mult-VAE minus EASE",
    "ease_in_ten_lines": "relative KKT residual",
    "exact_weighted_mf": "500 steps of Adam",
    "learn_regularization": "the learned penalty",
    "one_gram_many_models": "on validation users",
    "regularization_in_small": "EDLAE, reg 10",
    "sharding_on_a_tpu": "8 x cpu",
    "talk_about_films": "because of Alien (1979)",
    "your_own_data": "Ubik",
}


def run(*command, cwd):
    """Runs Python with warnings as errors, on one device as users do, with the very jaxrec that is tested."""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(Path(jaxrec.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-W", "error", *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )


SLOW = {"deep_vs_linear", "exact_weighted_mf", "learn_regularization", "regularization_in_small"}


@WITHOUT_CHECKOUT
@pytest.mark.parametrize(
    "script", [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem) for path in EXAMPLES]
)
def test_example_runs(script, tmp_path):
    ran = run(script, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert SAYS[script.stem] in ran.stdout, ran.stdout
    assert not list(tmp_path.iterdir())
