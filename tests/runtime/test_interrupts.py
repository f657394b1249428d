"""Ctrl-C on the command line, whatever the process does: one line, exit code 130, soon."""

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, threading, time
from jaxrec.runtime import interrupts
interrupts.is_command_line = lambda: True
interrupts.GRACE = 0.2
def strike():
    os.kill(os.getpid(), signal.SIGINT)
"""
MOMENTS = {
    "while importing": "interrupts.end_while_importing(); strike(); time.sleep(600)",
    "swallowed": """
with interrupts.within_grace():
    try:
        strike(); time.sleep(600)
    except KeyboardInterrupt:
        pass
    time.sleep(600)
""",
    "in a compiled program": """
import jax
for_ever = jax.jit(lambda: jax.lax.while_loop(lambda x: x >= 0, lambda x: (x + 1) % 7, 0))
with interrupts.within_grace():
    threading.Timer(0.5, strike).start()
    for_ever().block_until_ready()
""",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_ends_with_one_line(moment):
    done = subprocess.run([sys.executable, "-c", BEGIN + MOMENTS[moment]], capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stderr, done.stdout) == (130, "interrupted\n", "")


def test_what_cleans_up_in_time_goes_on():
    code = """
try:
    with interrupts.within_grace():
        strike(); time.sleep(600)
except KeyboardInterrupt:
    print("cleaned up")
time.sleep(0.5)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stdout) == (0, "cleaned up\nTrue\n"), done.stderr


def test_it_is_told_from_a_program_that_uses_the_library(monkeypatch):
    from jaxrec.runtime import interrupts

    for words, argv, expected in (
        (["python", "-m", "jaxrec", "info"], ["-m", "info"], True),
        (["python", "/env/bin/jaxrec", "info"], ["/env/bin/jaxrec", "info"], True),
        (["python", "-m", "pytest", "jaxrec"], ["-m", "jaxrec"], False),
        (["python", "train.py", "-m", "fast"], ["train.py"], False),
        (["python"], [""], False),
    ):
        monkeypatch.setattr(sys, "orig_argv", words)
        monkeypatch.setattr(sys, "argv", argv)
        assert interrupts.is_command_line() is expected, words
