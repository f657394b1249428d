"""Sparse MRF beside dense EASE: density x r -> metrics and seconds, the shape of the paper's table (Steck 2019).

python benchmarks/mrf.py gowalla.npz --densities 0.001 0.005 --rs 0 0.1 0.5 --dense-json ease.json --out FOLDER

The dense fit takes I^3 flops: it is run by benchmarks/large_fit.py, whose JSON file gives the first row. Writes
NAME_mrf.md and NAME_mrf.json to the folder. With several values of --reg, the one used is that with the best first
metric where a tenth of the training interactions of each user is held out, at the first density and r.
"""

import argparse
import json
import os
import pathlib
import resource
import time

from harness import machine

import jaxrec
from jaxrec.data.splits import per_user_random


def main() -> None:
    """Loads once, fits and evaluates every setting, writes the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--densities", type=float, nargs="+", default=[0.001, 0.005])
    parser.add_argument("--rs", type=float, nargs="+", default=[0.0, 0.1, 0.5])
    parser.add_argument("--reg", type=float, nargs="+", default=[1.0], help="several: chosen on held-out interactions")
    parser.add_argument("--alpha", type=float, default=0.75)
    parser.add_argument("--center", action="store_true")
    parser.add_argument("--solver", default="auto")
    parser.add_argument("--split", default="auto")
    parser.add_argument("--metrics", default="recall@20,recall@50,ndcg@20")
    parser.add_argument("--dense-json", help="what large_fit.py --json wrote for dense EASE on the same data")
    parser.add_argument(
        "--rows", help="take the sparse rows from this NAME_mrf.json of an earlier run, and fit nothing"
    )
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    data = jaxrec.load(options.data)
    train, (fold_in, targets), _ = jaxrec.split(data, options.split)
    rows = []
    if options.dense_json:
        dense = json.loads(pathlib.Path(options.dense_json).read_text())
        seconds = dense["seconds"]["gram"] + dense["seconds"]["solve"]
        rows.append({"model": "EASE, dense", "seconds": seconds, "metrics": dense["metrics"]})
    if options.rows:
        rows += [row for row in json.loads(pathlib.Path(options.rows).read_text())["rows"] if "method" in row]
        write(options.out, data, rows)
        return
    reg = options.reg[0] if len(options.reg) == 1 else chosen_reg(train, options)
    for density in options.densities:
        for r in options.rs:
            method = jaxrec.Mrf(reg, options.alpha, density, r=r, center=options.center, solver=options.solver)
            cpu = time.process_time()
            fitted = method.fit(train)
            cpu = time.process_time() - cpu
            report = jaxrec.evaluate(fitted, fold_in, targets, options.metrics)
            stages = fitted.info.seconds
            certificate = fitted.info.certificate
            rows.append(
                {
                    "model": f"MRF {100 * density:g} %, r = {r:g}",
                    "seconds": stages["pattern"] + stages["solve"],
                    "cpu seconds": cpu,
                    "stages": stages,
                    "metrics": report.mean,
                    "standard errors": report.standard_error,
                    "evaluation seconds": report.seconds,
                    "method": str(method),
                    "residual": certificate.residual,
                    **certificate.detail,
                }
            )
            write(options.out, data, rows)
            print(table(rows).splitlines()[-1], flush=True)


def chosen_reg(train: jaxrec.Interactions, options: argparse.Namespace) -> float:
    """The best of the values of reg on a tenth of the training interactions."""
    kept, (fold_in, targets), _ = per_user_random(train, 0.1)
    metric = options.metrics.split(",")[0]
    found = {}
    for reg in options.reg:
        method = jaxrec.Mrf(reg, options.alpha, options.densities[0], r=options.rs[0], solver=options.solver)
        found[reg] = jaxrec.evaluate(method.fit(kept), fold_in, targets, metric).mean[metric]
        print(f"held out of training: reg {reg:g}, {metric} {found[reg]:.5f}", flush=True)
    return max(found, key=lambda reg: found[reg])


def table(rows: list[dict]) -> str:
    """A Markdown table; shares and speed-ups are against a first row that is dense."""
    names = list(rows[-1]["metrics"])
    dense = rows[0] if rows[0]["model"].startswith("EASE") else None
    head = [
        "model",
        *names,
        f"share of dense {names[0]}",
        "gap",
        "blocks",
        "fit seconds",
        "CPU seconds",
        "times faster",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row["model"], *(f"{row['metrics'].get(name, float('nan')):.5f}" for name in names)]
        cells.append(f"{row['metrics'][names[0]] / dense['metrics'][names[0]]:.3f}" if dense else "-")
        gap = row.get("objective gap over the pattern's optimum")
        cells += ["-" if gap is None else f"{gap:.3f}", f"{int(row['blocks']):,}" if "blocks" in row else "1"]
        cells += [f"{row['seconds']:.1f}", f"{row['cpu seconds']:.1f}" if "cpu seconds" in row else "-"]
        cells += [f"{dense['seconds'] / row['seconds']:.1f}" if dense else "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(folder: pathlib.Path, data: jaxrec.Interactions, rows: list[dict]) -> None:
    """Both files."""
    folder.mkdir(parents=True, exist_ok=True)
    on = machine(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    record = {"data": data.summary(), "machine": on, "peak bytes": peak, "rows": rows}
    (folder / f"{data.name}_mrf.json").write_text(json.dumps(record, indent=1) + "\n")
    title = f"Sparse MRF on {data.name}, {data.n_users:,} users and {data.n_items:,} items."
    title += f" {on['cpu']}, {on['threads']} threads."
    (folder / f"{data.name}_mrf.md").write_text(f"{title}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
