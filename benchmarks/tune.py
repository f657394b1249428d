"""Tuning over ten values of reg: how many fits it costs, with one Gram matrix for all of them.

python benchmarks/tune.py --data ml1m.npz --plot curve.png     # any file that `jaxrec.load` reads; default synthetic
"""

import argparse
import json
import pathlib
import statistics
import time

from harness import machine

import jaxrec
from jaxrec.data import synthetic
from jaxrec.runtime.threads import n_threads

REGS = (10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--protocols", nargs="+", default=["leave-user-out", "strong"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot")
    parser.add_argument("--json")
    options = parser.parse_args()
    data = (jaxrec.load(options.data) if options.data else synthetic(20_000, 3_000)).binarised()
    figures = {}
    for protocol in options.protocols:
        rounds = []
        for _ in range(options.repeats):
            begun = time.perf_counter()
            jaxrec.Ease(REGS[0]).fit(data)
            middle = time.perf_counter()
            tuning = jaxrec.tune("ease", data, {"reg": REGS}, protocol=protocol)
            fit, total = middle - begun, time.perf_counter() - middle
            rounds.append((fit, total, total / fit, tuning.seconds["gram"]))
        names = ("one fit s", "tune s", "tune / one fit", "of it the Gram matrix s")
        figures[protocol] = dict(zip(names, map(statistics.median, zip(*rounds, strict=True)), strict=True))
        print(tuning)
        print("\n".join(f"{name:26} {value:.3g}" for name, value in figures[protocol].items()), flush=True)
        if options.plot:
            tuning.plot(options.plot)
    if options.json:
        record = {"data": data.summary(), "regs": REGS, "machine": machine(n_threads()), "medians": figures}
        pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
