"""The process that cases are tried in: reads "class seed" lines, answers each with a verdict as a line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing that is tried writes between the answers

import numpy as np  # noqa: E402
from fuzz import room  # noqa: E402
from fuzz.classes import CLASSES  # noqa: E402

from jaxrec import FitError, InputError  # noqa: E402


def resident() -> int:
    """The most bytes of memory that this process held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_the_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def verdict_of(kind: str, seed: int) -> tuple[str, str]:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        case = CLASSES[kind](np.random.default_rng([seed, *kind.encode()]), folder)
        forget_the_peak()
        before = resident()
        try:
            value = case.run()
        except (InputError, FitError) as error:
            text = str(error)
            good = "\n" not in text and text.endswith(".") and len(text) < 1500
            verdict, seen = ("refused" if good else "sentence"), text[:300]
        except MemoryError as error:
            verdict, seen = "memory", repr(error)[:300]
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            verdict, seen = "traceback", f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"[:400]
        else:
            problem = case.problem(value)
            verdict, seen = ("held", "") if problem is None else ("wrong value", problem[:300])
        if verdict in room.GOOD and (taken := resident() - before) > room.RESIDENT:
            verdict, seen = "memory", f"{taken >> 20} MB"
        return verdict, f"{seen} <- {case.said}"[:600]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    warnings.simplefilter("ignore")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + room.ADDRESS_SPACE, size + room.ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps({"verdict": "ready", "seen": ""}), file=answers, flush=True)
    for line in sys.stdin:
        kind, seed = line.split()
        verdict, seen = verdict_of(kind, int(seed))
        print(json.dumps({"verdict": verdict, "seen": seen}), file=answers, flush=True)


if __name__ == "__main__":
    main()
