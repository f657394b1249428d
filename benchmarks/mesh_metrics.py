"""The same methods on one device and on a mesh of simulated ones: metrics side by side, and their largest difference.

python benchmarks/mesh_metrics.py DATA.npz --devices 8 --json out.json
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each simulated device would start threads of its own

import argparse
import json
import pathlib
import time

import jax
import numpy as np
from harness import machine

METRICS = "recall@20,recall@50,ndcg@100"


def main() -> None:
    """Fits on the host, then on the mesh, and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--split", default="per-user")
    parser.add_argument("--reg", type=float, default=100.0)
    parser.add_argument("--json")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.devices)

    import jaxrec
    from jaxrec.runtime.parallel import make_mesh

    data = jaxrec.load(options.data)
    train, (fold_in, targets), _ = jaxrec.split(data, options.split)
    mesh = make_mesh()
    record = {"data": data.summary(), "machine": machine(1), "devices": mesh.size, "methods": {}}
    for method in (jaxrec.Ease(options.reg), jaxrec.Edlae(options.reg, 0.3)):
        found = {}
        for place, on in {"one device": None, f"{mesh.size} devices": mesh}.items():
            begun = time.perf_counter()
            fitted = method.fit(train, devices=on)
            fit = time.perf_counter() - begun
            report = jaxrec.evaluate(fitted, fold_in, targets, METRICS)
            found[place] = {"metrics": report.mean, "fit seconds": fit, "residual": fitted.info.certificate.residual}
            print(f"{method} on {place}: {report.mean}, fit {fit:.0f} s", flush=True)
            weights = np.asarray(fitted.model.to_host().weights)
            if on is None:
                kept = weights
            else:
                size = np.abs(kept).max()
                found["largest difference of weights / largest weight"] = float(np.abs(weights - kept).max() / size)
        one, many = (found[place]["metrics"] for place in list(found)[:2])
        found["largest difference of metrics"] = max(abs(one[name] - many[name]) for name in one)
        print(f"largest difference of metrics {found['largest difference of metrics']:.1e}", flush=True)
        record["methods"][str(method)] = found
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
