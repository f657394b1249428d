"""Argument checks at the door: every refusal is one sentence that names what was wanted, what came and what to do."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_INTERVALS = {
    "[]": "lie between {low} and {high}",
    "()": "lie strictly between {low} and {high}",
    "[)": "be at least {low} and below {high}",
    "(]": "be above {low} and at most {high}",
}


LONGEST_SHOWN = 200  # letters of a value that a message repeats


class InputError(ValueError):
    """The caller's input cannot be used; the message says why, in one sentence."""


def shown(value: object) -> str:
    """`value` as a message repeats it: a long one, such as a damaged file may hold, only in part."""
    try:
        text = repr(value)
    except Exception as error:  # an object may do anything here, and a huge integer has no text
        text = f"a {type(value).__name__} ({type(error).__name__})"
    text = re.sub(r"\s*\n\s*", " ", text)  # arrays have several lines
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]} ... {text[-LONGEST_SHOWN // 4 :]}"


def briefly(value: object) -> str:
    """What came in place of something else: a text or a number as it is, of another thing its kind."""
    if value is None or isinstance(value, str | bytes | numbers.Number) or type(value) in (list, tuple, dict, type):
        return shown(value)
    kind = type(value).__name__
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


def sparse_rows(name: str, indptr: np.ndarray, indices: np.ndarray, shape: tuple[int, int]) -> None:
    """Refuse compressed sparse rows whose numbers point outside their arrays: native code would follow them.

    Args:
      name: of the matrix.
      indptr: [rows + 1]; the entries of row r are `indptr[r]:indptr[r + 1]`.
      indices: at least `indptr[-1]` of columns.
      shape: rows and columns.
    """
    for what, array in {"indptr": indptr, "indices": indices}.items():
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InputError(f"{name}: {what} must be a row of whole numbers, got {array.dtype} of {array.shape}.")
    if len(indptr) != shape[0] + 1:
        raise InputError(f"{name}: indptr must have {shape[0] + 1} numbers for {shape[0]} rows, got {len(indptr)}.")
    if indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any() or indptr[-1] > len(indices):
        raise InputError(f"{name}: indptr must rise from 0 to at most {len(indices)}, the number of indices.")
    used = indices[: indptr[-1]]
    if used.size and not (0 <= used.min() and used.max() < shape[1]):
        wrong = used.min() if used.min() < 0 else used.max()
        raise InputError(f"{name}: indices must lie between 0 and {shape[1] - 1}, got {wrong}.")


def positive(name: str, value: float, unit: str = "") -> None:
    """Refuse anything but a finite number above zero."""
    finite(name, value)
    if not value > 0:
        raise InputError(f"{name} must be above 0{unit and f' ({unit})'}, got {shown(value)}.")


def nonnegative(name: str, value: float, unit: str = "") -> None:
    """Refuse anything but a finite number of at least zero."""
    number(name, value)
    if not 0 <= value < math.inf:
        raise InputError(f"{name} must be a finite number of at least 0{unit and f' ({unit})'}, got {shown(value)}.")


def between(name: str, value: float, ends: str = "[]", low: float = 0, high: float = 1) -> None:
    """Refuse a number outside an interval, of which a bracket "[" or "]" says that the end belongs to it, "(" not."""
    number(name, value) if ends[0] == "[" else finite(name, value)
    if not (low < value < high or (ends[0] == "[" and value == low) or (ends[1] == "]" and value == high)):
        raise InputError(f"{name} must {_INTERVALS[ends].format(low=low, high=high)}, got {shown(value)}.")


def share(name: str, value: float) -> None:
    """Refuse anything outside the closed interval [0, 1]."""
    between(name, value, "[]")


def fraction(name: str, value: float) -> None:
    """Refuse anything outside the open interval (0, 1)."""
    between(name, value, "()")


def dropout(value: float) -> None:
    """Refuse a probability of dropping an item that is not in [0, 1)."""
    between("dropout", value, "[)")


def count(name: str, value: int, at_least: int = 0) -> None:
    """Refuse anything but a whole number of at least `at_least`."""
    whole(name, value)
    if value < at_least:
        raise InputError(f"{name} must be at least {at_least}, got {shown(value)}.")
    if value >= 2**63:
        raise InputError(f"{name} must be below 2^63, got {shown(value)}.")


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is not among `choices`, which are texts or None."""
    if not isinstance(value, str | None) or value not in choices:
        near = difflib.get_close_matches(str(value).lower(), map(str, choices), n=1) if isinstance(value, str) else ()
        hint = f"; the closest is {near[0]}" if near else ""
        raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {briefly(value)}{hint}.")


def plain_numbers(config: Any) -> None:
    """Makes the fields of a frozen dataclass what their annotations say, NumPy's numbers Python's own; refuses others.

    A field of another kind than a number or a truth value is for the class to look at.
    """
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), str(field.type)
        if (taken := PLAIN.get(kind.removesuffix(" | None"))) and not (value is None and kind.endswith(" | None")):
            value = taken(field.name, value)
        elif isinstance(value, tuple):
            value = tuple(each.item() if isinstance(each, np.generic) else each for each in value)
        if value is not getattr(config, field.name):
            object.__setattr__(config, field.name, value)


def array(name: str, value: Any) -> np.ndarray:
    """`value` as a NumPy array, which rows of unlike lengths, or random keys, are not."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be an array, got {briefly(value)}.") from None


def whole(name: str, value: Any) -> int:
    """A whole number as Python's own."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} must be a whole number, got {shown(value)}.")
    return int(value)


def number(name: str, value: Any) -> float:
    """A real number as Python's own."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} must be a number, got {shown(value)}.")
    try:
        as_float = float(value)
    except OverflowError:
        raise InputError(f"{name} must fit 64-bit floating point, got {shown(value)}.") from None
    return int(value) if isinstance(value, numbers.Integral) else as_float


def truth(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)


PLAIN: dict[str, Callable[[str, Any], Any]] = {"int": whole, "float": number, "bool": truth}


def finite(name: str, value: float) -> None:
    """Refuse what is no finite number."""
    number(name, value)
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, got {shown(value)}.")
