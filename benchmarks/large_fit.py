"""One large EASE fit: its time against I^3 flops at the matrix-product rate of the same run, and its peak memory.

python benchmarks/large_fit.py DATA.npz --reg 80 --metrics recall@20,ndcg@20 --json out.json
"""

import argparse
import json
import os
import pathlib
import resource
import time

import numpy as np
from harness import machine

import jaxrec
from jaxrec.runtime.blas import add_product


def gemm_rate(n: int = 8192) -> float:
    """Flops per second of a square float32 product, the best of two."""
    a, c = np.ones((n, n), np.float32), np.empty((n, n), np.float32)
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        add_product(c, a, a, beta=0)
        times.append(time.perf_counter() - begun)
    return 2 * n**3 / min(times)


def peak_bytes() -> int:
    """High-water mark of this process's memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Loads, fits, evaluates, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--reg", type=float, default=100.0)
    parser.add_argument("--split", default="auto")
    parser.add_argument("--metrics", default="recall@20,recall@50,ndcg@20,ndcg@50")
    parser.add_argument("--json")
    options = parser.parse_args()

    data = jaxrec.load(options.data)
    train, (fold_in, targets), _ = jaxrec.split(data, options.split)
    before = peak_bytes()
    fitted = jaxrec.Ease(options.reg).fit(train)
    after = peak_bytes()
    rates = [gemm_rate()]  # after the fit, so that its memory does not count
    report = jaxrec.evaluate(fitted, fold_in, targets, options.metrics)
    rates.append(gemm_rate())
    rate = max(rates)

    seconds = fitted.info.seconds
    bound = data.n_items**3 / rate
    fit = seconds["gram"] + seconds["solve"]
    matrix = 4 * data.n_items**2
    print(data)
    print(f"GEMM {rate / 1e9:.0f} GF/s; I^3 at that rate: {bound:.1f} s")
    print(f"fit {fit:.1f} s = {fit / bound:.2f} x bound ({', '.join(f'{k} {v:.1f} s' for k, v in seconds.items())})")
    print(
        f"peak {after / 1e9:.2f} GB, of it {before / 1e9:.2f} GB before; fit {(after - before) / matrix:.3f} matrices"
    )
    print(fitted.info.certificate)
    print(report)
    if options.json:
        record = {
            "data": data.summary(),
            "machine": machine(int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))),
            "gemm GF/s": rate / 1e9,
            "seconds": seconds,
            "fit over bound": fit / bound,
            "peak bytes": after,
            "peak bytes before the fit": before,
            "fit peak in matrices": (after - before) / matrix,
            "residual": fitted.info.certificate.residual,
            "metrics": report.mean,
            "evaluation seconds": report.seconds,
        }
        pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
