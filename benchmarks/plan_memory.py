"""Planned against measured memory: the peak of a fit, in a process of its own, over what `method.plan` says of it.

    python benchmarks/plan_memory.py --folder DATA --json benchmarks/results/plan-memory-cpu.json

DATA holds data sets as `jaxrec.load` reads them, `<name>.npz`. Before it is measured a process has imported what it
needs, loaded the data and fitted the same method to 60 users x 50 items, which takes the libraries and the compiler's
own memory off. What is measured is the high-water mark of the resident memory during the fit over what was resident
when it began. A fit may run for fewer epochs, sweeps or iterations than by default, where all of them are alike.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import pathlib
import re
import subprocess
import sys
import warnings

from harness import machine, peak_gb

LIMIT_S = 400
# The methods with their modes, by the label in the table, and the most items a dense one of them is tried on.
METHODS = {
    "ease": ("Ease()", 12000),
    "ease float64": ("Ease(dtype='float64')", 6000),
    "ease jax": ("Ease(solver='jax')", 4000),
    "edlae": ("Edlae()", 6000),
    "lae": ("Lae()", 6000),
    "rlae": ("Rlae()", 6000),
    "dan": ("Dan()", 6000),
    "dan float64": ("Dan(dtype='float64')", 6000),
    "deql": ("Deql()", 6000),
    "low-rank-edlae": ("LowRankEdlae(rank=64)", 5000),
    "low-rank-edlae closed form": ("LowRankEdlae(rank=64, method='closed_form')", 5000),
    "pure-svd": ("PureSvd(rank=64)", 100_000),
    "pure-svd rank 512": ("PureSvd(rank=512)", 6000),
    "item-knn": ("ItemKnn()", 100_000),
    "popularity": ("Popularity()", 100_000),
    "elsa": ("Elsa(epochs=1)", 100_000),
    "elsa rank 512": ("Elsa(rank=512, epochs=1)", 100_000),
    "slim": ("Slim(max_iterations=10)", 4000),
    "ease-nonnegative": ("NonnegativeEase(max_iterations=10)", 4000),
    "higher-order": ("HigherOrder(max_iterations=4)", 3000),
    "mrf": ("Mrf()", 100_000),
    "mrf float64": ("Mrf(dtype='float64')", 100_000),
    "weighted-ease": ("WeightedEase(max_iterations=4)", 3000),
    "weighted-ease float64": ("WeightedEase(max_iterations=4, dtype='float64')", 3000),
    "awmf": ("Awmf(sweeps=2)", 100_000),
    "awmf rank 64": ("Awmf(rank=64, sweeps=2)", 100_000),
    "ials cg": ("Ials(sweeps=2)", 100_000),
    "ials cg rank 256": ("Ials(rank=256, sweeps=2)", 100_000),
    "ials cg rank 512": ("Ials(rank=512, sweeps=2)", 100_000),
    "ials cholesky": ("Ials(mode='cholesky', sweeps=2)", 100_000),
    "ials cholesky rank 256": ("Ials(mode='cholesky', rank=256, sweeps=1)", 100_000),
    "ials block": ("Ials(mode='block', sweeps=1)", 100_000),
    "mult-vae": ("MultVae(epochs=1)", 100_000),
    "mult-dae": ("MultDae(epochs=1)", 100_000),
    "rec-vae": ("RecVae(epochs=1)", 100_000),
    "autoencoder": ("Autoencoder(epochs=1)", 100_000),
    "autoencoder squared": ("Autoencoder(epochs=1, loss='squared', activation='linear')", 100_000),
}
DATASETS = ("ml1m", "gowalla", "amazon_book_kgat", "lastfm_hetrec", "citeulike_a", "filmtrust", "msweb")


def main() -> None:
    """The command line: all methods on all data sets, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="where the data sets are")
    parser.add_argument("--only", default="", help="methods whose label holds this regular expression")
    parser.add_argument("--data", nargs="*", default=list(DATASETS), help="data sets, maybe with their items: ml1m:500")
    parser.add_argument("--json", help="adds the figures to this file")
    parser.add_argument("--worker", nargs=3, metavar=("METHOD", "FILE", "ITEMS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        method, file, items = options.worker
        print(json.dumps(measured(method, file, int(items))))
        return
    figures = []
    print(f"{'method':28}{'data':18}{'users':>8}{'items':>8}{'nnz':>10}{'planned':>10}{'measured':>10}{'ratio':>8}  MB")
    for label, (method, most) in METHODS.items():
        if not re.search(options.only, label):
            continue
        for name in options.data:
            name, _, items = name.partition(":")
            row = in_a_process(method, f"{options.folder}/{name}.npz", min(most, int(items or most)))
            row = {"method": label, "data": name, **row}
            figures.append(row)
            print(line(row), flush=True)
            if options.json:
                add(figures, pathlib.Path(options.json))


def line(row: dict) -> str:
    """One line of the table."""
    if "planned" not in row:
        return f"{row['method']:28}{row['data']:18} {row['failed']}"
    planned, found = row["planned"] / 1e6, row["measured"] / 1e6
    sizes = f"{row['users']:>8}{row['items']:>8}{row['nnz']:>10}"
    ratio = f"{planned / max(found, 1e-3):>8.2f}"
    return f"{row['method']:28}{row['data']:18}{sizes}{planned:>10.1f}{found:>10.1f}{ratio}  {row['end']}"


def add(figures: list[dict], file: pathlib.Path) -> None:
    """Writes the figures, with those in the file that are of other methods or data."""
    title = "planned and measured memory of a fit, bytes"
    new = {(row["method"], row["data"], row.get("items")): row for row in figures}
    old = json.loads(file.read_text())["figures"] if file.exists() else []
    kept = {(row["method"], row["data"], row.get("items")): row for row in old}
    record = {"title": title, "machine": machine(0), "figures": list((kept | new).values())}
    file.write_text(json.dumps(record, indent=1) + "\n")


def in_a_process(method: str, file: str, items: int) -> dict:
    """What `measured` returns, in a process of its own; or why there is nothing."""
    command = [sys.executable, sys.argv[0], "--folder", ".", "--worker", method, file, str(items)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {LIMIT_S} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:120]}
    return json.loads(done.stdout.splitlines()[-1])


def measured(text: str, file: str, most_items: int) -> dict:
    """Planned and measured bytes of a fit of a method to the most popular items of a data set."""
    import numpy as np

    import jaxrec
    from jaxrec.data import synthetic

    warnings.simplefilter("ignore")
    method = eval(text, vars(jaxrec))
    data = jaxrec.load(file)
    if most_items < data.n_items:
        popular = np.sort(np.argsort(-data.item_counts, kind="stable")[:most_items])
        data = data.select_items(popular)
        data = data.rows(np.flatnonzero(data.user_counts))
    tiny = eval(re.sub(r"rank=\d+", "rank=8", text), vars(jaxrec))
    end_of(tiny, synthetic(60, 50))
    planned = method.plan(*data.shape, data.nnz)
    before = start_measuring()
    end = end_of(method, data)
    peak = peak_gb() * 1e9 - before
    users, items = data.shape
    sizes = {"users": users, "items": items, "nnz": data.nnz}
    return {**sizes, "planned": planned.total, "measured": int(peak), "end": end, "parts": planned.parts}


def end_of(method: object, data: object) -> str:
    """How a fit ends: "ok", or what it refuses in short; few iterations need not be certified."""
    import jaxrec

    try:
        fitted = method.fit(data)
    except jaxrec.FitError as error:
        return error.status.name.lower().replace("_", " ")
    del fitted
    return "ok"


def start_measuring() -> float:
    """Bytes that are resident now, with the high-water mark set back to them."""
    import gc

    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return peak_gb() * 1e9


if __name__ == "__main__":
    main()
