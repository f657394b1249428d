"""Weighted EASE beside EASE: iterations, time, residual, and how far from direct solves in float64.

    python benchmarks/weighted_full_rank.py DATA --alphas 1 4 16 --reg 200 --columns 20 --out FOLDER

DATA is any file that `jaxrec.load` reads; all its interactions count as 1. Writes weighted_full_rank_NAME.md and
.json to FOLDER. Times are those of a fit over that of one EASE fit in the same round, the median over rounds. The
deviation is the largest one of the random columns from its own float64 Cholesky solve, relative to the largest weight;
"direct" is what all items would take that way, from the time of these.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy as np
import scipy.linalg
from harness import machine

import jaxrec
from jaxrec import WeightedEase
from jaxrec.closed_form.gram import lower_gram
from jaxrec.factorization.weighted_ease.solve import weights_of_item
from jaxrec.runtime.blas import add_product
from jaxrec.runtime.threads import n_threads
from jaxrec.solvers.spd_host import mirror_lower


def seconds_of(work):
    """(what it returns, how long it took)."""
    begun = time.perf_counter()
    out = work()
    return out, time.perf_counter() - begun


def direct_columns(data, weights, reg, items):
    """c_j [I] in float64 of each of the items, by a Cholesky factorization of its own."""
    n, x, row = data.n_items, data.to_csr(np.float64), np.asarray(weights.row, np.float64)
    gram = lower_gram(data, np.dtype(np.float64), row)
    mirror_lower(gram)
    for item in np.asarray(items).tolist():
        own = weights_of_item(weights, data, item) - row * float(weights.col[item])
        system = float(weights.col[item]) * gram
        system[np.diag_indices(n)] += reg
        users = np.flatnonzero(own)
        for part in np.array_split(users, -(-len(users) // 1024) or 1):
            rows = x[part].toarray()
            if rows.size:
                add_product(system, own[part][:, None] * rows, rows, transpose_a=True)
        unit = np.zeros(n)
        unit[item] = 1
        yield scipy.linalg.solve(system, unit, assume_a="pos", overwrite_a=True, check_finite=False)


def deviation(data, method, model, columns):
    """The largest deviation of the columns from direct solves, and seconds a column of those."""
    items = np.random.default_rng(0).permutation(data.n_items)[:columns]
    weights, scale, worst = method.cell_weights(data), float(np.abs(model.weights).max()), 0.0
    solved, seconds = seconds_of(lambda: list(direct_columns(data, weights, method.reg, items)))
    for item, c in zip(items, solved, strict=True):
        expected = -c / c[item]
        expected[item] = 0
        worst = max(worst, float(np.abs(model.weights[:, item] - expected).max()) / scale)
    return worst, seconds / columns


def run(options):
    """The figures of every alpha."""
    data = jaxrec.load(options.data).binarised()
    rows = []
    jaxrec.Ease(options.reg).fit(data)  # threads and caches are warm
    for alpha in options.alphas:
        method = WeightedEase(options.reg, alpha)
        ratios, times, plain = [], [], []
        for _ in range(options.repeats):
            _, ease = seconds_of(lambda: jaxrec.Ease(options.reg).fit(data))
            (model, info), taken = seconds_of(lambda method=method: method.fit(data))
            ratios.append(taken / ease)
            times.append(taken)
            plain.append(ease)
        worst, a_column = deviation(data, method, model, options.columns)
        ease = statistics.median(plain)
        rows.append(
            {
                "alpha": alpha,
                "iterations": info.certificate.detail["iterations"],
                "mean iterations": info.certificate.detail["mean iterations"],
                "condition bound": info.certificate.detail["condition bound"],
                "seconds": statistics.median(times),
                "EASE seconds": ease,
                "per EASE fit": statistics.median(ratios),
                "residual": info.certificate.residual,
                "deviation": worst,
                "direct per EASE fit": a_column * data.n_items / ease,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    about = {"data": data.summary(), "reg": options.reg, "columns": options.columns, "repeats": options.repeats}
    return about | {"note": options.note, "machine": machine(n_threads()), "rows": rows}


def markdown(figures):
    """The record as a page."""
    data, used = figures["data"], figures["machine"]
    where = f"{used['threads']} threads on {used['cpu']}" + (figures["note"] and f", {figures['note']}")
    lines = [
        f"# Weighted EASE on {data['name']}",
        "",
        f"{data['n_users']:,} users x {data['n_items']:,} items, {data['nnz']:,} interactions;",
        f"weight 1 + alpha on them, reg {figures['reg']:g}, float32; {where}.",
        f"Deviation: of {figures['columns']} random columns",
        "from direct float64 solves, relative to the largest weight.",
        "",
        "| alpha | iterations, most (mean) | time, EASE fits | direct, EASE fits | KKT residual | deviation |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        iterations = f"{row['iterations']:.0f} ({row['mean iterations']:.1f})"
        times = f"{row['per EASE fit']:.0f} | {row['direct per EASE fit']:,.0f}"
        lines.append(f"| {row['alpha']:g} | {iterations} | {times} | {row['residual']:.1e} | {row['deviation']:.1e} |")
    return "\n".join(lines) + "\n"


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--alphas", type=float, nargs="+", default=[1.0, 4.0, 16.0])
    parser.add_argument("--reg", type=float, default=200.0)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="about the machine, such as 'doing other work'")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    figures = run(options)
    name = options.out / f"weighted_full_rank_{figures['data']['name']}"
    name.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    name.with_suffix(".md").write_text(markdown(figures))
    print(name.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
