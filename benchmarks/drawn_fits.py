"""Drawn fits: certificates held against float64 references on adversarial data, family by family.

    python benchmarks/drawn_fits.py --fits 2000 --family ease edlae --json benchmarks/results/drawn-fits.json

Each fit has its own seed, from which data and settings are drawn (`tests/drawn.py`, of models of factors
`tests/drawn_factors.py`). A family's record says how many fits were certified and refused, how many of the refused ones
float32 arithmetic would have got right (the same method solved with every limit lifted, within a hundredth), and the
largest true error over its own estimate. Of fits by sweeps or epochs it says what as many again change, over the
change by the last one times their number: how often that is above 1 and above 3.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import drawn
import drawn_factors
import numpy as np

import jaxrec

RUNS = dict.fromkeys(drawn.FAMILIES, drawn.run) | dict.fromkeys(drawn_factors.FAMILIES, drawn_factors.run)


def family_record(family: str, fits: int, first: int = 0) -> dict:
    """The counts and the worst figures of one family."""
    begun = time.perf_counter()
    counts, ratios, above, errors = collections.Counter(), [(0.0, -1, "")], 0, [0.0]
    refused_right, changes = 0, []
    for seed in range(first, first + fits):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = RUNS[family](family, seed)
        counts[outcome.status] += 1
        if outcome.status == "certified":
            ratios.append((outcome.ratio, seed, outcome.repr))
            errors.append(outcome.error)
            above += outcome.error > 0.01
            changes.append(outcome.change_ratio)
        elif outcome.was_right:
            refused_right += 1
    ratio, seed, method = max(ratios)
    record, moved = {}, np.array(changes)
    if any(changes):
        record["what as many sweeps again change, over the last one's change times their number"] = {
            "above 1": int(np.sum(moved > 1)),
            "above 3": int(np.sum(moved > 3)),
        }
    certified = sum(n for status, n in counts.items() if status.startswith("certified"))
    return {
        "fits": fits,
        "certified": certified,
        "refused": fits - certified - counts["nothing to learn"],
        "refused though float32 was right": refused_right,
        "without a reference": counts["certified, without a reference"],
        "nothing to learn": counts["nothing to learn"],
        "worst true error over estimate": ratio,
        "of seed": seed,
        "of": method,
        "certified and more than 1 % off": int(above),
        "largest true error of a certified fit": float(np.nanmax(errors)),
        "by status": dict(counts),
        **record,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    """Runs the families and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--family", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    found = known.get("families", {})
    for family in options.family:
        found[family] = family_record(family, options.fits, options.first)
        print(family, json.dumps(found[family]), flush=True)
        if options.json:
            record = {"version": jaxrec.__version__, "free of rounding": drawn.FREE_OF_ROUNDING, "families": found}
            options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
