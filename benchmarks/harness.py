"""Runs contenders of a benchmark in processes of their own, interleaved, and prints medians and ratios.

A benchmark file defines functions from a data file's path to a dict of seconds, and calls `main` with them. Every
run is a fresh process with pinned threads; peak memory is that process's high-water mark, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

Contender = Callable[[str], dict[str, float]]


def main(
    title: str, contenders: dict[str, Contender], datasets: dict[str, Callable[[], object]], baseline: str
) -> None:
    """The command line of one benchmark: with --worker it is one run, without it is the conductor of all."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", default=list(datasets), help="data sets to run")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--worker", nargs=2, metavar=("CONTENDER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, path = options.worker
        result = contenders[name](path)
        print(json.dumps({**result, "peak GB": peak_gb()}))
        return

    figures = {}
    for dataset in options.only:
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / "data.npz")
            _store(datasets[dataset](), path)
            runs = {name: [] for name in contenders}
            for _ in range(options.repeats):
                for name in contenders:
                    runs[name].append(_run(name, path, options.threads))
        figures[dataset] = _report(f"{title}: {dataset}, {options.threads} threads", runs, baseline)
    if options.json:
        record = {"title": title, "machine": machine(options.threads), "repeats": options.repeats, "data": figures}
        pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")


def _store(data: object, path: str) -> None:
    """Writes CSR arrays as SciPy does, so that every contender reads the same file."""
    import scipy.sparse as sp

    sp.save_npz(path, data.to_csr(), compressed=False)


def _run(name: str, path: str, threads: int) -> dict[str, float]:
    pinned = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [sys.executable, sys.argv[0], "--worker", name, path]
    done = subprocess.run(command, env={**os.environ, **pinned}, stdout=subprocess.PIPE, check=True, timeout=3600)
    return json.loads(done.stdout.splitlines()[-1])


def _report(title: str, runs: dict[str, list[dict[str, float]]], baseline: str) -> dict:
    """Prints a line a contender, and returns what it printed.

    The ratio is the median over rounds of (contender / baseline) within one round, so that a disturbance that lasts
    longer than a round falls out of it.
    """
    print(f"\n{title}")
    columns = [key for key in runs[baseline][0] if key != "peak GB"]
    print(f"{'':20}" + "".join(f"{key:>16}" for key in columns) + f"{'peak GB':>10}{'ratio to ' + baseline:>22}")
    figures = {}
    for name, rounds in runs.items():
        median = {key: statistics.median(run[key] for run in rounds) for key in rounds[0]}
        pairs = zip(rounds, runs[baseline], strict=True)
        ratio = statistics.median(run["total"] / base["total"] for run, base in pairs)
        cells = "".join(_cell(key, median) for key in columns)
        print(f"{name:20}{cells}{median['peak GB']:>10.2f}{ratio:>22.2f}")
        figures[name] = {**median, f"ratio to {baseline}": ratio}
    return figures


def _cell(key: str, median: dict[str, float]) -> str:
    if key not in median:
        return f"{'-':>16}"
    return f"{median[key]:>16.6g}" if key == "loss" else f"{median[key]:>14.3f} s"


def peak_gb() -> float:
    """High-water mark of this process; that of `getrusage` begins with what the parent had when it forked."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def machine(threads: int) -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "python": platform.python_version()}
