"""A fuzzing room: cases drawn from a class and a seed, each tried in a child process that may die of it.

A class is a function `make(rng, folder) -> Case`; everything random comes from `rng`: a class and a seed name a case.
The verdicts:

  held          the right value, or what no oracle knows to be wrong
  refused       an InputError or a FitError of one sentence
  sentence      such an error of another form
  traceback     another exception
  wrong value   an oracle knows better
  memory        MemoryError, or far more memory than the case needs
  rust trace    Rust wrote to the terminal
  native crash  the process died
  hang          no answer in time
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

GOOD = ("held", "refused")
VERDICTS = (*GOOD, "sentence", "traceback", "wrong value", "memory", "rust trace", "native crash", "hang")
CHILD = Path(__file__).with_name("child.py")
ADDRESS_SPACE = 4 << 30  # bytes that a child may have beyond what it begins with
RESIDENT = 400 << 20  # bytes of memory that no case of these sizes needs
SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Case:
    """What is tried.

    Attributes:
      run: does it, and returns a value.
      problem: what is wrong with the value, in words; None if nothing is known to be.
      said: what was done to the input, for the report.
    """

    run: Callable[[], Any]
    problem: Callable[[Any], str | None] = lambda value: None
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a case ended: class and seed, which make it again, a verdict of `VERDICTS`, and what was seen."""

    kind: str
    seed: int
    verdict: str
    seen: str
    seconds: float


class Child:
    """A process that tries cases one after the other, and is replaced when it dies or does not answer."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.stderr = tempfile.TemporaryFile()
        self.process: Any = None

    def __enter__(self):
        return self

    def __exit__(self, *ended):
        self._stop()
        self.stderr.close()

    def start(self) -> None:
        self.stderr.truncate(0)
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "RUST_BACKTRACE": "0"},
        )
        if self._answer(600) is None:
            raise RuntimeError(f"a child does not start: {self._written()[-2000:]}")

    def attempt(self, kind: str, seed: int) -> Outcome:
        if self.process is None or self.process.poll() is not None:
            self.start()
        begun, before = time.monotonic(), os.fstat(self.stderr.fileno()).st_size
        self.process.stdin.write(f"{kind} {seed}\n".encode())
        self.process.stdin.flush()
        answer = self._answer(self.seconds)
        taken = time.monotonic() - begun
        written = self._written(before)
        if answer is not None:
            verdict, seen = answer["verdict"], answer["seen"]
            if "panicked at" in written or "stack backtrace" in written:
                verdict, seen = "rust trace", written[:300]
        elif self.process.poll() is None and taken >= self.seconds:
            verdict, seen = "hang", ""
        else:
            self.process.wait()
            verdict, seen = "native crash", f"exit code {self.process.returncode}; {written[-300:]}"
        if answer is None or verdict == "memory":
            self._stop()
        return Outcome(kind, seed, verdict, seen, taken)

    def _answer(self, seconds: float) -> dict[str, str] | None:
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            if not ready.select(max(0.0, until - time.monotonic())):
                return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def _written(self, since: int = 0) -> str:
        return os.pread(self.stderr.fileno(), 1 << 16, since).decode("utf-8", "replace")

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


def outcomes(cases: Iterable[tuple[str, int]], seconds: float = SECONDS) -> Iterator[Outcome]:
    """Tries cases in one child process after the other.

    Args:
      cases: names of classes with seeds.
      seconds: that each may take.
    """
    with Child(seconds) as child:
        for kind, seed in cases:
            yield child.attempt(kind, seed)


def counts(found: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """How many cases of each class had which verdict."""
    table: dict[str, collections.Counter] = {}
    for outcome in found:
        table.setdefault(outcome.kind, collections.Counter())[outcome.verdict] += 1
    return {kind: dict(counter) for kind, counter in table.items()}
