"""Memory of this process, and the machine it runs on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax

from jaxrec.runtime.threads import n_threads


def peak_memory() -> int | None:
    """The most bytes of memory this process ever held, or None if the system does not tell."""
    try:
        # Not getrusage where this is to be had: a new process starts with the peak of the one that started it.
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine_memory() -> int | None:
    """Bytes of main memory of the machine, or None if the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def devices() -> list[dict[str, object]]:
    """What JAX computes on: platform, kind and, where the device tells it, bytes of memory."""
    return [
        {"platform": d.platform, "kind": d.device_kind, "memory_bytes": (d.memory_stats() or {}).get("bytes_limit")}
        for d in jax.devices()
    ]


def threads() -> dict[str, object]:
    """How many cores and threads there are to work with, and the settings that bound them."""
    settings = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    bounds = {name: os.environ[name] for name in settings if name in os.environ}
    return {"cores": os.cpu_count(), "threads": n_threads(), **bounds}
