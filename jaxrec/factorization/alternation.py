"""The loop around the sweeps of a method that alternates: early stop, progress, callback, checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxrec.runtime import checkpoint as kept
from jaxrec.runtime.progress import progress_bar


def alternate(
    label: str,
    step: Callable[[Any], tuple[Any, Any]],
    start: Any,
    kind: Any,
    *,
    sweeps: int,
    tolerance: float = 0.0,
    place: Callable[[Any], Any],
    fetch: Callable[[Any], Any],
    callback: Callable[[int, Any, Any], Any] | None = None,
    checkpoint: str | os.PathLike | None = None,
    belongs_to: dict[str, Any] | None = None,
) -> tuple[Any, np.ndarray]:
    """The state after the sweeps, on the host, and [sweeps, fields of `kind`] what they reported.

    Args:
      label: of the progress bar.
      step: from a state to the next, and what there is to report of it.
      start: the state to begin with, a named tuple of arrays on the host.
      kind: the named tuple of numbers that `step` reports; one of them is the `objective`.
      sweeps: how many there are at most.
      tolerance: stop once a sweep lowers the objective by less than this share of it; 0 never does.
      place: from the host to where the sweeps want a state.
      fetch: the opposite.
      callback: called after each sweep with its number (from 1), its report and the state; stops where it returns
        something true.
      checkpoint: a file that is replaced after each sweep, from which a run that was killed goes on.
      belongs_to: what must be the same where a run is taken up again, from `identity`; with a checkpoint.
    """
    course: list[Any] = []
    if checkpoint is not None and (found := kept.read(checkpoint, belongs_to or {})) is not None:
        kept.require(checkpoint, found, start._asdict(), len(kind._fields))
        start = start._replace(**{name: found[name] for name in start._fields})
        course = [kind._make(row) for row in found["course"].tolist()]
    state = place(start)
    with progress_bar(label, sweeps) as advance:
        advance(len(course))
        while len(course) < sweeps and not _is_done(course, tolerance):
            state, info = step(state)
            course.append(info)
            advance(1)
            if checkpoint is not None:
                kept.write(checkpoint, belongs_to or {}, fetch(state)._asdict() | {"course": np.array(course)})
            if not np.isfinite(info.objective):
                break
            if callback is not None and callback(len(course), info, fetch(state)):
                break
    return fetch(state), np.array(course)


def identity(method: Any, data: str, arrays: Iterable[np.ndarray], key: Any) -> dict[str, Any]:
    """What a run that is taken up again must share with the one before, all but how long they go on.

    Args:
      method: its configuration, with `sweeps` and `tolerance`.
      data: fingerprint of what it is trained on.
      arrays: the weights.
      key: random key of the start, or None.
    """
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in arrays))
    lasting = str(dataclasses.replace(method, sweeps=1, tolerance=0.0))
    return kept.identity(lasting, data, key, weights=digest.hexdigest()[:16])


def _is_done(course: list[Any], tolerance: float) -> bool:
    if tolerance == 0 or len(course) < 2:
        return False
    return course[-2].objective - course[-1].objective < tolerance * course[-2].objective
