"""What the second path of a CPU gains: every pair of host and JAX code on the same CPU, in one process, as ratios.

    python benchmarks/host_paths.py --data ml1m.npz --json benchmarks/results/host-paths-ml1m-cpu.json

The JAX path runs on one CPU device, after one run that compiles it; a ratio is the median of its times over the median
of the host path, both taken in turn. It is what a user without an accelerator would lose if the second path went.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import time

import jax
import numpy as np
from harness import machine

from jaxrec import Awmf, Ease, Edlae, Ials, ItemKnn, Mrf, WeightedEase, load
from jaxrec.closed_form.gram import gram_matrix, mesh_gram
from jaxrec.data.splits import strong_generalization
from jaxrec.evaluation.leave_user_out import leave_user_out
from jaxrec.evaluation.ranking import _on_device, _on_host
from jaxrec.runtime import parallel


def seconds(calls, repeats: int) -> list[float]:
    """The medians of two calls, taken in turn, after one of each."""
    times = []
    for _ in range(repeats + 1):
        for call in calls:
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
    return [statistics.median(times[start::2]) for start in (2, 3)]


def main() -> None:
    """The command line: one table of all pairs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="msweb")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="parts of the names of pairs")
    parser.add_argument("--json")
    options = parser.parse_args()
    data = load(options.data)
    data = data.binarised() if not data.is_binary else data
    one = [jax.devices()[0]]
    mesh = parallel.make_mesh(one)

    def fits(method, on_device=None):
        """Both paths of a method: by its `solver`, or without and with a device."""
        if on_device is None:
            on_device = dataclasses.replace(method, solver="jax")
            return lambda: method.fit(data), lambda: jax.block_until_ready(on_device.fit(data).model)
        return lambda: method.fit(data), lambda: jax.block_until_ready(method.fit(data, devices=one).model)

    def ranked():
        train, test, _ = strong_generalization(data, min(1000, data.n_users // 5))
        model = Ease(100.0).fit(train).model
        models = model, jax.device_put(dataclasses.replace(model, unexplained=None))
        return [
            lambda by=by, model=model: sum(len(part[1]) for part in by(model, test.fold_in, 100, True, 256))
            for by, model in zip((_on_host, _on_device), models, strict=True)
        ]

    def left_out():
        rows = data.rows(np.arange(256)).to_csr()
        found = [leave_user_out(Edlae(100.0, 0.0, solver=solver), data) for solver in ("host", "jax")]
        return [lambda without=without: without.scores(rows, rows) for without in found]

    pairs = {
        "Gram matrix": lambda: (
            lambda: gram_matrix(data),
            lambda: mesh_gram(data, mesh, data.n_items).block_until_ready(),
        ),
        "closed forms (Ease)": lambda: fits(Ease(100.0)),
        "blocks of MRF": lambda: fits(Mrf(4.0)),
        "item kNN": lambda: fits(ItemKnn(), True),
        "ridge, Cholesky (Ials rank 64)": lambda: fits(Ials(64, mode="cholesky", sweeps=2)),
        "ridge, conjugate gradients (Ials rank 64)": lambda: fits(Ials(64, mode="cg", sweeps=2)),
        "products of AWMF (rank 32)": lambda: fits(Awmf(32, 300.0, sweeps=3)),
        "weighted EASE": lambda: fits(WeightedEase(100.0, alpha=4.0)),
        "ranking by EASE": ranked,
        "leave one user out": left_out,
    }
    figures = {}
    for name, calls in pairs.items():
        if options.only and not any(part in name for part in options.only):
            continue
        found = seconds(calls(), options.repeats)
        figures[name] = {"host s": found[0], "jax s": found[1], "ratio": found[1] / found[0]}
        print(f"{name:44} {found[0]:8.3f} s {found[1]:8.3f} s {found[1] / found[0]:7.2f}", flush=True)
    if options.json:
        record = {"data": data.name, "machine": machine(2), "repeats": options.repeats, "pairs": figures}
        pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
