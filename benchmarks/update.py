"""Forgetting users exactly: `jaxrec.update` against fitting again without them.

    python benchmarks/update.py --data ml1m.npz          # any file that `jaxrec.load` reads; default synthetic

Both end with a certificate. Ratios are medians over rounds of (fit / update) within one round.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy as np
from harness import machine

import jaxrec
from jaxrec.data import synthetic
from jaxrec.runtime.threads import n_threads


def rounds(data, method, n_users, repeats):
    """Medians of seconds, ratio and differences over `repeats` random sets of users."""
    fitted = method.fit(data)
    ids = np.arange(data.n_users) if data.user_ids is None else data.user_ids
    runs = []
    for seed in range(repeats):
        gone = np.random.default_rng(seed).choice(data.n_users, n_users, replace=False)
        begun = time.perf_counter()
        updated = jaxrec.update(fitted, data, removed=ids[gone])
        middle = time.perf_counter()
        refitted = method.fit(updated.train)
        ended = time.perf_counter()
        assert updated.refitted is None, updated.refitted
        new, old = updated.fitted.model.weights, refitted.model.weights
        runs.append(
            {
                "update s": middle - begun,
                "fit s": ended - middle,
                "fit / update": (ended - middle) / (middle - begun),
                "max difference / max weight": float(np.abs(new - old).max() / np.abs(old).max()),
                "relative difference (Frobenius)": float(np.linalg.norm(new - old) / np.linalg.norm(old)),
                "KKT residual": updated.fitted.info.certificate.residual,
                "KKT residual of the fit": refitted.info.certificate.residual,
            }
        )
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--reg", type=float, default=200.0)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--users", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    data = (jaxrec.load(options.data) if options.data else synthetic(20_000, 3_000)).binarised()
    method = jaxrec.Edlae(options.reg, options.dropout) if options.dropout else jaxrec.Ease(options.reg)
    print(f"{data}\n{method}")
    figures = {}
    for n_users in options.users:
        figures[n_users] = rounds(data, method, n_users, options.repeats)
        print(f"{n_users} users forgotten, medians of {options.repeats} rounds")
        for name, value in figures[n_users].items():
            print(f"  {name:32} {value:.3g}")
    if options.json:
        record = {"data": data.summary(), "method": str(method), "machine": machine(n_threads())}
        pathlib.Path(options.json).write_text(json.dumps({**record, "users forgotten": figures}, indent=1) + "\n")
