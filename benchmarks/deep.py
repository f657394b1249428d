"""Deep autoencoders beside the closed forms under strong generalization, and the two ways into the first layer.

python benchmarks/deep.py --data ml1m.npz --json figures.json     # any file that `jaxrec.load` reads; default msweb
python benchmarks/deep.py --data ml1m.npz --first-layer           # users per second of a Mult-VAE step, both ways

Settings are chosen by ndcg@100 on the validation users; the nets also stop by it. All figures are of the test users.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time

import jax
import numpy as np
from harness import machine

import jaxrec
from jaxrec.data.splits import strong_generalization
from jaxrec.deep.network.step import GROUPS, init, step
from jaxrec.deep.network.training import Run

METRICS = ("ndcg@100", "calibrated_recall@20", "calibrated_recall@50")
SHORT = {"batch_size": 100, "patience": 10}  # a few thousand users: more steps than the published batches of 500 give
CANDIDATES = {
    "popularity": [jaxrec.Popularity()],
    "ease": [jaxrec.Ease(reg) for reg in (300.0, 600.0, 1000.0)],
    "edlae": [jaxrec.Edlae(reg=reg, dropout=p) for reg in (300.0, 600.0) for p in (0.2, 0.4)],
    "mult-dae": [jaxrec.MultDae(epochs=100, **SHORT)],
    "mult-vae": [
        # No layer beside the code, annealed in 800 or 500 steps: how they were found is told in the docs.
        jaxrec.MultVae((), epochs=100, kl_steps=4000, learning_rate=2e-3, batch_size=50, patience=10),
        jaxrec.MultVae((), epochs=100, kl_steps=5000, kl_weight=0.1, learning_rate=3e-3, **SHORT),
    ],
    "rec-vae": [jaxrec.RecVae(200, 100, epochs=200, **SHORT)],
}


def best_of(methods, parts):
    """The figures of the method that is best on the validation users."""
    found = []
    for method in methods:
        begun = time.perf_counter()
        early = {"validation": parts.validation} if hasattr(method, "patience") else {}
        fitted = method.fit(parts.train, **early)
        seconds = time.perf_counter() - begun
        held_out = jaxrec.evaluate(fitted, *parts.validation, "ndcg@100").mean["ndcg@100"]
        report = jaxrec.evaluate(fitted, *parts.test, METRICS)
        detail = fitted.info.certificate.detail
        found.append(
            {
                "method": str(method),
                "validation": held_out,
                **report.mean,
                "standard error": report.standard_error["ndcg@100"],
                "fit seconds": seconds,
                "users per second": detail.get("users per second"),
                "epochs": detail.get("epochs"),
                "best epoch": detail.get("best epoch"),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return max(found, key=lambda one: one["validation"])


def step_seconds(data, first_layer, repeats=5):
    """The fastest of some steps of Mult-VAE on the first users, their number, and entries a user with padding."""
    task = jaxrec.MultVae().task(data)
    architecture = dataclasses.replace(task.config.architecture, first_layer=first_layer)
    task = task._replace(config=dataclasses.replace(task.config, architecture=architecture))
    run = Run(task, data, None, None, jax.random.key(0), None, {})
    state = init(task.config, run.start_key)
    batch = run.batch_of(np.arange(run.users.batch_size))
    seconds = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        state, _ = step(task.config, state, batch, run.numbers, run.noise_key, GROUPS, None)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:]), run.users.batch_size, batch.entries_per_row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="msweb")
    parser.add_argument("--methods", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--heldout", type=int, help="users for validation and for test; default a tenth each")
    parser.add_argument("--first-layer", action="store_true")
    parser.add_argument("--note", help="said in the record: what else the machine was doing")
    parser.add_argument("--json")
    options = parser.parse_args()
    data = jaxrec.load(options.data).binarised()
    record = {"data": data.summary(), "machine": machine(os.cpu_count()), "note": options.note}
    if options.first_layer:
        rows = {}
        for way in ("dense", "gather"):
            seconds, batch_size, entries = step_seconds(data, way)
            rows[way] = {"users per second": batch_size / seconds, "entries per user, with padding": entries}
            print(way, rows[way], flush=True)
        record["items per entry"] = data.n_items / entries
    else:
        parts = strong_generalization(data, **({"n_heldout": options.heldout} if options.heldout else {}))
        rows = {name: best_of(CANDIDATES[name], parts) for name in options.methods}
        for name, row in rows.items():
            rate = "" if row["users per second"] is None else f"{row['users per second']:10,.0f} users/s"
            print(f"{name:12}", *(f"{row[metric]:.4f}" for metric in METRICS), f"{row['fit seconds']:8.1f} s", rate)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**record, "figures": rows}, indent=1) + "\n")
