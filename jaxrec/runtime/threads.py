"""Threads over independent blocks: SciPy's sparse products and NumPy's partitions release the interpreter lock."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Block = TypeVar("Block")
Result = TypeVar("Result")


def n_threads() -> int:
    """The number of threads to use: the cores this process may run on, or fewer if OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(asked))) if asked.isdecimal() else cores


def map_in_order(work: Callable[[Block], Result], blocks: Iterable[Block]) -> Iterator[Result]:
    """The results of `work` on each block, in order, with at most one block a thread ahead of the consumer."""
    ahead: collections.deque = collections.deque()
    threads = n_threads()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for block in blocks:
                ahead.append(pool.submit(work, block))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
