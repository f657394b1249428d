"""The loop around the sweeps of a method that alternates: early stop, progress, callback, checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxrec.factorization.ridge import gram_in_float64
from jaxrec.runtime import checkpoint as kept
from jaxrec.runtime.progress import progress_bar
from jaxrec.status import Certificate, NothingToLearn, Status

SMALLEST_GAIN = 1e-4  # over factors of 0, below which it is asked whether these are the optimum
NOTHING = "{}: nothing is left to learn, the optimum is that all factors are 0; lower reg."
CHANGE = "change of the predictions by the last sweep"  # in the details of a certificate


class Alternation(NamedTuple):
    """What came of the sweeps, on the host.

    Attributes:
      state: after them.
      before: the state before the last of them; None where a run that is taken up again has no sweep left to make.
      course: [sweeps, fields of what a sweep reports].
    """

    state: Any
    before: Any
    course: np.ndarray


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
) -> Alternation:
    """The state after the sweeps, the state before the last one, and what all of them reported.

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
    state, before = place(start), None
    with progress_bar(label, sweeps) as advance:
        advance(len(course))
        while len(course) < sweeps and not _is_done(course, tolerance):
            before = state
            state, info = step(state)
            course.append(info)
            advance(1)
            if checkpoint is not None:
                kept.write(checkpoint, belongs_to or {}, fetch(state)._asdict() | {"course": np.array(course)})
            if not np.isfinite(info.objective):
                break
            if callback is not None and callback(len(course), info, fetch(state)):
                break
    return Alternation(fetch(state), None if before is None else fetch(before), np.array(course))


def movement(before: Any, after: Any) -> dict[str, float]:
    """||P V' - P0 V0'||_F / ||P V'||_F over all cells, for the details of a certificate; nothing where it is not known.

    That is no distance to a fixed point, of which there may be none near: where such changes shrink slowly the sweeps
    go on to change a lot. Times the sweeps so far it mostly bounds what as many again change, but sweeps that leave a
    saddle become faster.

    Args:
      before: P0 [U, K] and V0 [I, K], of the state before the last sweep; or None.
      after: P and V.

    Cost: 6 (U + I) K^2 flops in float64.
    """
    if before is None:
        return {}
    (p, v), (p0, v0) = after, before
    pairs = ((p, p), (v, v)), ((p0, p0), (v0, v0)), ((p0, p), (v0, v))
    with np.errstate(all="ignore"):  # what overflows is not certified
        now, then, both = (float(np.sum(gram_in_float64(*a) * gram_in_float64(*b))) for a, b in pairs)
        return {CHANGE: float(np.sqrt(max(now + then - 2 * both, 0.0) / now)) if now > 0 else float(then > 0)}


def nothing_to_learn(method: Any, limit: float, loss: float, largest: float) -> Certificate:
    """The certificate of factors of 0 that are the optimum, and a warning of it to who called the method's `fit`.

    Args:
      method: its configuration.
      limit: of its certificates.
      loss: of these factors.
      largest: singular value that shows it.
    """
    warnings.warn(NOTHING.format(method), NothingToLearn, stacklevel=6)
    return Certificate(Status.OK, 0.0, limit, {"loss": loss, "largest singular value at zero": largest})


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
