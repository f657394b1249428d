"""Cases of which the verdict is known, to try the room itself."""

import os
import signal
import time

import numpy as np
from fuzz.room import Case

from jaxrec import InputError


def _refuse(sentence):
    raise InputError(sentence)


def _write():
    os.write(2, b"\nthread '<unnamed>' panicked at lib.rs:1\n")


RUNS = {
    "held": lambda: 1,
    "refused": lambda: _refuse("This will not do."),
    "long": lambda: _refuse("This\nwill not do."),
    "raised": lambda: [][0],
    "wrong": lambda: 2,
    "asks": lambda: np.ones(2**36, np.uint8),
    "takes": lambda: np.ones(2**30, np.uint8).nbytes * 0 + 1,
    "writes": _write,
    "dies": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "sleeps": lambda: time.sleep(600),
}
CLASSES = {
    f"self_{name}": lambda rng, folder, run=run: Case(run, lambda value: "two" if value == 2 else None)
    for name, run in RUNS.items()
}
