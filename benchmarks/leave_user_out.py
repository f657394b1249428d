"""Leave-one-user-out evaluation: what it costs beside plain scoring, and that it equals fitting without the user.

    python benchmarks/leave_user_out.py --data ml1m.npz          # any file that `jaxrec.load` reads; default synthetic

Plain scoring is `evaluate` of the model of all users on the same fold-in and targets (which it has seen: its metrics
are too good). Ratios are medians over rounds.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import time

import numpy as np
from harness import machine

import jaxrec
from jaxrec.data import synthetic
from jaxrec.data.splits import per_user_random
from jaxrec.evaluation.leave_user_out import evaluate, leave_user_out, of_users
from jaxrec.evaluation.metrics import parse
from jaxrec.runtime.threads import n_threads

METRICS = parse("recall@20,ndcg@100")


def cost(data, method, repeats):
    """Medians of seconds and of their ratio."""
    part = per_user_random(data).test
    fitted, without = method.fit(data), leave_user_out(method, data)
    runs = []
    for _ in range(repeats):
        begun = time.perf_counter()
        plain = jaxrec.evaluate(fitted, *part, METRICS)
        middle = time.perf_counter()
        exact = evaluate(without, data, of_users(data, part), METRICS)
        ended = time.perf_counter()
        runs.append((middle - begun, ended - middle, (ended - middle) / (middle - begun)))
    print(f"trained on everyone:\n{plain}\nleave one user out:\n{exact}")
    names = ("plain scoring s", "leave-user-out s", "leave-user-out / plain")
    return dict(zip(names, map(statistics.median, zip(*runs, strict=True)), strict=True))


def difference(data, method, n_users):
    """The largest difference of scores to refits for some random users, relative to the largest score.

    A refit takes the user out of the Gram matrix, which is exact for 0/1 data, and goes on as any fit.
    """
    fold_in, without, gram = per_user_random(data).test.fold_in, leave_user_out(method, data), method.gram(data)
    worst = 0.0
    for u in np.random.default_rng(0).choice(data.n_users, n_users, replace=False):
        row = np.array([u])
        gram_without = gram.copy()
        items = data.rows(row).indices
        gram_without[np.ix_(items, items)] -= 1
        refit = method.fit_from_gram(data.rows(np.delete(np.arange(data.n_users), u)), gram_without).model
        shown = fold_in.rows(row).to_csr(method.dtype)
        expected = shown @ refit.weights
        found = without.scores(data.rows(row).to_csr(method.dtype), shown)
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return {f"max difference to refits, {n_users} users": worst}


def rounding(data, method):
    """The largest error of float32 in the scores of all users, relative to the largest score of each."""
    fold_in = per_user_random(data).test.fold_in
    single, double = (leave_user_out(dataclasses.replace(method, dtype=d), data) for d in ("float32", "float64"))
    worst = 0.0
    for start in range(0, data.n_users, 256):
        rows = np.arange(start, min(start + 256, data.n_users))
        found, exact = (
            without.scores(data.rows(rows).to_csr(d), fold_in.rows(rows).to_csr(d))
            for without, d in ((single, np.float32), (double, np.float64))
        )
        worst = max(worst, float((np.abs(found - exact).max(1) / np.abs(exact).max(1)).max()))
    return {"max error of float32, all users": worst}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--reg", type=float, default=200.0)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--users", type=int, default=50, help="how many users to compare with refits")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    data = (jaxrec.load(options.data) if options.data else synthetic(20_000, 2_000)).binarised()
    method = jaxrec.Ease(options.reg, dtype=options.dtype)
    if options.dropout:
        method = jaxrec.Edlae(options.reg, options.dropout, dtype=options.dtype)
    print(f"{data}\n{method}")
    figures = {**cost(data, method, options.repeats), **difference(data, method, options.users)}
    figures |= rounding(data, method)
    for name, value in figures.items():
        print(f"{name:40} {value:.3g}")
    if options.json:
        record = {"data": data.summary(), "method": str(method), "machine": machine(n_threads())}
        pathlib.Path(options.json).write_text(json.dumps({**record, "medians": figures}, indent=1) + "\n")
