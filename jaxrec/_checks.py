"""Argument checks at the door: every refusal is one sentence that names what was wanted, what came and what to do."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence


class InputError(ValueError):
    """The caller's input cannot be used; the message says why, in one sentence."""


def positive(name: str, value: float, unit: str = "") -> None:
    """Refuse anything but a finite number above zero."""
    _number(name, value)
    if not value > 0:
        raise InputError(f"{name} must be above 0{unit and f' ({unit})'}, got {value!r}.")


def fraction(name: str, value: float) -> None:
    """Refuse anything outside the open interval (0, 1)."""
    _number(name, value)
    if not 0 < value < 1:
        raise InputError(f"{name} must lie strictly between 0 and 1, got {value!r}.")


def dropout(value: float) -> None:
    """Refuse a probability of dropping an item that is not in [0, 1)."""
    if not 0 <= value < 1:
        raise InputError(f"dropout must be at least 0 and below 1, got {value!r}.")


def count(name: str, value: int, at_least: int = 0) -> None:
    """Refuse anything but a whole number of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} must be a whole number, got {value!r}.")
    if value < at_least:
        raise InputError(f"{name} must be at least {at_least}, got {value}.")


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is not among `choices`."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def _number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, got {value!r}.")
