"""Compiled programs, of which JAX keeps every one: dropped once fits of many different sizes have piled them up.

A program is compiled for each shape of its arguments and stays in memory for good, 1 to 5 MB each and 10 to 100 MB for
all that a fit compiles. Sweeps over data sets, prefixes and folds would fill the memory with programs that no one asks
for again. Which of them are whose cannot be told, so all are dropped together, the caller's too; what is still in use
is compiled again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator

import jax

SIZES_KEPT = 8  # of data, the programs for which may be in memory at a time
_COMPILED = "/jax/core/compile/backend_compile_duration"

_lock = threading.Lock()
_sizes: set[Hashable] = set()
_running = _compiled = 0


@contextlib.contextmanager
def bounded(size: Hashable) -> Iterator[None]:
    """Keeps the programs that its body compiles for data of this size; before that, drops those of too many others.

    Nothing is dropped while another body runs, in another thread or around this one.

    Args:
      size: what the shapes of the programs follow from.
    """
    global _running
    _listen()
    with _lock:
        if _running == 0 and size not in _sizes and len(_sizes) >= SIZES_KEPT:
            jax.clear_caches()
            _sizes.clear()
        _running += 1
        before = _compiled
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _compiled > before:
                _sizes.add(size)


def _count(event: str, duration_secs: float, **kwargs: str | int) -> None:
    global _compiled
    del duration_secs, kwargs
    if event == _COMPILED:
        _compiled += 1


_listening = False


def _listen() -> None:
    """Has JAX tell of what it compiles, from the first body on."""
    global _listening
    if not _listening:
        _listening = True
        jax.monitoring.register_event_duration_secs_listener(_count)
