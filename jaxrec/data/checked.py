"""Columns and choices at the door of `Interactions`: each comes out as the array it should be, or is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError


def integers(what: str, column: Any) -> np.ndarray:
    """[N] whole numbers; those that passed through a column of floats are accepted."""
    array = np.asarray(column)
    if array.ndim != 1:
        raise InputError(f"{what} must be one-dimensional, got shape {array.shape}.")
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"{what} must be whole numbers, got {'NaN or ' * (array.dtype.kind == 'f')}{array.dtype}.")
    return array if array.size else array.astype(np.int64)


def indices(what: str, column: Any) -> np.ndarray:
    """[N] whole numbers of at least 0."""
    array = integers(what, column)
    if array.size and array.min() < 0:
        raise InputError(f"{what} indices must not be negative, got {array.min()}.")
    return array


def below(what: str, indices: np.ndarray, bound: int, bound_name: str) -> None:
    """Refuses indices from `bound` on, and a bound that no 32-bit index can reach."""
    _checks.count(bound_name, bound)
    if bound > np.iinfo(np.int32).max:
        raise InputError(f"{bound_name} must be below 2^31, got {bound}; number the ids from 0 without gaps.")
    if indices.size and indices.max() >= bound:
        raise InputError(f"{what} index {indices.max()} is beyond {bound_name} = {bound} (indices start at 0).")


def places(what: str, chosen: Any, n: int, *, distinct: bool = False) -> np.ndarray:
    """[N] indices below n, from indices or from a mask of n truth values.

    Args:
      what: what there are n of, for messages, as in "msweb: user".
      chosen: [N] indices in any order, or [n] bool.
      n: how many there are.
      distinct: whether an index may stand there only once.
    """
    array = np.asarray(chosen)
    if array.dtype == bool:
        return np.flatnonzero(mask(what, array, n))
    array = indices(what, array)
    below(what, array, n, f"n_{what.rsplit(' ', 1)[-1]}s")
    if distinct and len(array) and (most := np.bincount(array)).max() > 1:
        raise InputError(f"{what} indices must be distinct, got {most.argmax()} more than once.")
    return array


def mask(what: str, chosen: Any, n: int) -> np.ndarray:
    """[n] bool."""
    array = np.asarray(chosen)
    if array.shape != (n,) or not (array.dtype == bool or n == 0):
        raise InputError(f"{what} mask must be {n} truth values, got {array.dtype} of shape {array.shape}.")
    return array.astype(bool)


def numbers(what: str, column: Any) -> np.ndarray:
    """[N] float32, finite."""
    array = np.asarray(column)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise InputError(f"{what} must be a column of numbers, got {array.dtype} of shape {array.shape}.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise InputError(f"{what} number {int(np.argmin(np.isfinite(array)))} is NaN or infinite in float32.")
    return array


def zero_one(what: str, column: Any) -> np.ndarray:
    """[N] uint8 of 0 (train) and 1 (test)."""
    array = integers(what, column)
    if not np.isin(array, (0, 1)).all():
        raise InputError(f"{what} must hold only 0 (train) and 1 (test), got {array[(array != 0) & (array != 1)][0]}.")
    return array.astype(np.uint8)


def names(names: Any) -> np.ndarray | None:
    """[N] ids or titles; objects become text."""
    if names is None:
        return None
    array = np.asarray(names)
    return array.astype(str) if array.dtype.kind == "O" else array
