"""Columns of interactions, checked as they come in: indices, numbers, times, marks and names."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError

LONGEST_NAME = 10_000  # letters of an id or a title; a longer one is a damaged file, such as a quote that never ends
FEW = 20_000  # names that are compared with one that is not among them, which takes a moment each
# How many users or items there may be without an interaction: room for each is made, whatever a small file claims.
UNUSED, UNUSED_PER_ENTRY = 10_000_000, 100


def integers(what: str, column: Any) -> np.ndarray:
    """[rows] whole numbers, those that passed through a column of floats too."""
    array = _checks.array(what, column)
    if array.ndim != 1:
        raise InputError(f"{what} must be one-dimensional, got shape {array.shape}.")
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all():
        if array.size and np.abs(array).max() >= 2**63:
            raise InputError(f"{what} must be below 2^63, got {array[np.abs(array).argmax()]}.")
        array = array.astype(np.int64)
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"{what} must be whole numbers, got {'NaN or ' * (array.dtype.kind == 'f')}{array.dtype}.")
    return array if array.size else array.astype(np.int64)


def times(what: str, column: Any) -> np.ndarray:
    """[rows] int64."""
    array = integers(what, column)
    if array.size and array.max() >= 2**63:
        raise InputError(f"{what} must be below 2^63, got {array.max()}.")
    return array.astype(np.int64)


def indices(what: str, column: Any) -> np.ndarray:
    """[rows] whole numbers of at least 0."""
    array = integers(what, column)
    if array.size and array.min() < 0:
        raise InputError(f"{what} indices must not be negative, got {array.min()}.")
    return array


def size(what: str, bound: Any, found: np.ndarray, bound_name: str) -> int:
    """The number of users or items: `bound`, above every index, or what follows from the indices if it is None."""
    if bound is None:
        bound = int(found.max()) + 1
        proportionate(bound_name, bound, len(found))
    _checks.count(bound_name, bound)
    countable(bound_name, bound)
    if found.size and found.max() >= bound:
        raise InputError(f"{what} index {found.max()} is beyond {bound_name} = {bound} (indices start at 0).")
    return int(bound)


def places(what: str, chosen: Any, n: int, *, distinct: bool = False) -> np.ndarray:
    """[N] indices below n, from indices or from a mask of n truth values.

    Args:
      what: what there are n of, for messages, as in "msweb: user".
      chosen: [N] indices in any order, or [n] bool.
      n: how many there are.
      distinct: whether an index may stand there only once.
    """
    array = _checks.array(f"{what} indices", chosen)
    if array.dtype == bool:
        return np.flatnonzero(mask(what, array, n))
    array = indices(what, array)
    size(what, n, array, f"n_{what.rsplit(' ', 1)[-1]}s")
    if distinct and len(array) and (most := np.bincount(array)).max() > 1:
        raise InputError(f"{what} indices must be distinct, got {most.argmax()} more than once.")
    return array


def mask(what: str, chosen: Any, n: int) -> np.ndarray:
    """[n] bool."""
    array = _checks.array(f"{what} mask", chosen)
    if array.shape != (n,) or not (array.dtype == bool or n == 0):
        raise InputError(f"{what} mask must be {n} truth values, got {array.dtype} of shape {array.shape}.")
    return array.astype(bool)


def countable(name: str, bound: int) -> None:
    """Refuse a number of users or items that no index can count."""
    if bound > np.iinfo(np.int32).max:
        raise InputError(f"{name} must be below 2^31, got {_checks.shown(bound)}; number the ids from 0 without gaps.")


def proportionate(name: str, bound: int, nnz: int) -> None:
    """Refuse a number of users or items of which nearly all would be empty, as a damaged file may claim."""
    countable(name, bound)
    if bound > UNUSED + UNUSED_PER_ENTRY * nnz:
        raise InputError(f"{name} = {bound} is too many for {nnz} interactions; number the ids from 0 without gaps.")


def numbers(what: str, column: Any) -> np.ndarray:
    """[rows] finite float32."""
    array = _checks.array(what, column)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise InputError(f"{what} must be a column of numbers, got {array.dtype} of shape {array.shape}.")
    with np.errstate(over="ignore", under="ignore"):
        made = array.astype(np.float32, copy=False)
    if not np.isfinite(made).all():
        raise InputError(f"{what} number {int(np.argmin(np.isfinite(made)))} is NaN or infinite in float32.")
    if made is not array and array.dtype.kind == "f" and (lost := (made == 0) & (array != 0)).any():
        raise InputError(f"{what} number {int(np.argmax(lost))} is too small for float32, in which it is 0.")
    return made


def zero_one(what: str, column: Any) -> np.ndarray:
    """[rows] uint8 of 0 and 1."""
    array = integers(what, column)
    if not np.isin(array, (0, 1)).all():
        raise InputError(f"{what} must hold only 0 (train) and 1 (test), got {array[(array != 0) & (array != 1)][0]}.")
    return array.astype(np.uint8)


def names(what: str, given: Any) -> np.ndarray | None:
    """[names] numbers, or text: as objects, of which one long one takes no more room than its own.

    Args:
      what: they are, in the plural.
      given: names, or None. An array of text of a fixed width, which is there already, stays one.
    """
    if given is None:
        return None
    if isinstance(given, np.ndarray) and given.ndim != 1:
        raise InputError(f"{what} must be one-dimensional, got shape {given.shape}.")
    array = given
    if not isinstance(given, np.ndarray) or given.dtype.kind in "OT":
        listed = _listed(what, given)
        words = isinstance(given, np.ndarray) or any(isinstance(name, str) for name in listed)
        array = text(listed) if words or (made := np.asarray(listed)).dtype.kind == "O" else made
    if array.dtype.kind not in "biufUO":
        raise InputError(f"{what} must be numbers or text, got {array.dtype}.")
    long: Any = ()
    if array.dtype.kind == "O":
        long = [number for number, name in enumerate(array) if len(name) > LONGEST_NAME]
    elif array.dtype.kind == "U" and array.dtype.itemsize > 4 * LONGEST_NAME:
        long = np.flatnonzero(np.strings.str_len(array) > LONGEST_NAME)
    if len(long):
        raise InputError(f"{what} must have at most {LONGEST_NAME:,} letters each, and number {long[0]} has more.")
    if array.dtype.kind == "O":
        try:
            "".join(array).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{what} must be text, but hold {error.object[error.start]!a}, half a letter.") from None
    return array


def _listed(what: str, given: Any) -> list[Any]:
    """Names as a list, of which each is a text or a number."""
    try:
        listed = list(given)
    except TypeError:
        raise InputError(f"{what} must be a sequence of names, got {_checks.shown(given)}.") from None
    for number, name in enumerate(listed):
        if not isinstance(name, str | int | float | np.generic) or (isinstance(name, int) and abs(name) >= 2**64):
            raise InputError(f"{what} must be numbers or text, got {_checks.shown(name)} at {number}.")
    return listed


def nearest(name: Any, known: np.ndarray) -> str:
    """In words, the names most like one that is not among them; nothing where none is like it."""
    words = list(map(str, known.tolist()))
    bare = str(name).lstrip("0")
    close = [word for word in words if word.lstrip("0") == bare][:3]
    if not close and len(words) <= FEW:
        close = difflib.get_close_matches(str(name), words)
    return f"; the closest: {', '.join(map(_checks.shown, close))}" if close else ""


def distinct(what: str, array: np.ndarray | None) -> np.ndarray | None:
    """The names, of which no two may be the same."""
    if array is None:
        return None
    if array.dtype.kind == "O":
        seen: set[str] = set()
        twice = next((name for name in array if name in seen or seen.add(name)), None)
    else:
        ordered = np.sort(array)
        again = ordered[1:] == ordered[:-1]
        twice = ordered[1:][again][0].item() if again.any() else None
    if twice is not None:
        raise InputError(f"{what} must be distinct, but {_checks.shown(twice)} occurs more than once.")
    return array


def text(given: Any) -> np.ndarray:
    """[names] objects, each its text."""
    array = np.empty(len(given), object)
    array[:] = list(map(str, given.tolist() if isinstance(given, np.ndarray) else given))
    return array
