"""A short run of the fuzzing room with fixed seeds, and a long one by `python -m pytest -m fuzz`."""

import os
import time

import pytest
from fuzz import room
from fuzz.classes import CLASSES

FEW = 2  # cases of each class
LONG = float(os.environ.get("JAXREC_FUZZ_SECONDS", "600"))


def broke(outcomes):
    return [outcome for outcome in outcomes if outcome.verdict not in room.GOOD]


def test_a_few_cases_of_every_class_hold():
    found = list(room.outcomes((kind, seed) for kind in CLASSES for seed in range(FEW)))
    assert len(found) == FEW * len(CLASSES) and not broke(found)
    assert {"held", "refused"} == {outcome.verdict for outcome in found}


@pytest.mark.fuzz
def test_many_cases_of_every_class_hold():
    until, first = time.monotonic() + LONG, time.time_ns() % 10**9

    def drawn():
        seed = first
        while time.monotonic() < until:
            yield from ((kind, seed) for kind in CLASSES)
            seed += 1

    assert not broke(room.outcomes(drawn()))


VERDICTS = {
    "held": "held",
    "refused": "refused",
    "long": "sentence",
    "raised": "traceback",
    "wrong": "wrong value",
    "asks": "memory",
    "takes": "memory",
    "writes": "rust trace",
    "dies": "native crash",
    "sleeps": "hang",
}


@pytest.mark.fuzz
def test_the_verdicts_themselves(monkeypatch):
    """A room that calls everything good would find nothing."""
    monkeypatch.setenv("JAXREC_FUZZ_SELFTEST", "1")
    found = {o.kind: o.verdict for o in room.outcomes([(f"self_{kind}", 0) for kind in VERDICTS], seconds=5)}
    assert found == {f"self_{kind}": verdict for kind, verdict in VERDICTS.items()}
