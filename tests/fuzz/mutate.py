"""Mutators: of bytes, of texts that separate and end, of numbers and of JSON."""

from __future__ import annotations

import copy
import string
from typing import Any

import numpy as np

ODD_TEXTS = [
    *("", " ", '"', '""', "'", ",", ";", "\t", "::", "|", "\n", "\r", "\r\n", "\n\n", "\0", "\ufeff", "\u2028", "\x85"),
    *("-1", "0", "00", "1.5", "1e5", "1e300", "1e-300", "1e999", "nan", "NaN", "inf", "-inf", "null", "NULL", "None"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "1" * 400,
        "é",
        "七人",
        "\U0001f3ac",
        "a\0",
    ),
    *(
        "2020-01-02",
        "01/02/2020",
        "2020-01-02T03:04:05Z",
        "true",
        "[1]",
        "=1+1",
        "x" * 9999,
        "x" * 10_001,
        "../x",
        "%s",
    ),
    *(
        "user",
        "item",
        "rating",
        "user_duplicated_0",
        "user:token",
        "{",
        "}",
        "\\",
        "/",
        "#",
        "NA",
        "+5",
        "0x10",
        "1_000",
    ),
]
ODD_NUMBERS = [
    *(
        0,
        -1,
        1,
        2,
        7,
        127,
        128,
        255,
        256,
        2**15,
        2**16,
        2**31 - 1,
        2**31,
        2**32 + 5,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64,
    ),
    *(-(2**31), -(2**63), 10**21, 10**400, 0.5, -0.0, 1e-46, 1e-300, 1e38, 1e39, 1e300),
    *(float("nan"), float("inf"), float("-inf")),
]
DTYPES = ["?", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c16", "U3", "S3", "M8[s]", ">i4", ">f8"]


def pick(rng: np.random.Generator, of: Any) -> Any:
    """One of a sequence."""
    return of[int(rng.integers(len(of)))]


def damaged(rng: np.random.Generator, raw: bytes) -> tuple[bytes, str]:
    """Bytes with a few of them altered, cut out, doubled, put in or moved; and what was done."""
    done = []
    for _ in range(int(rng.integers(1, 4))):
        if not raw:
            return raw, "emptied"
        at, other = np.sort(rng.integers(0, len(raw) + 1, 2)).tolist()
        how = pick(rng, ("bit", "byte", "bytes", "truncate", "cut", "double", "insert", "swap"))
        content = bytearray(raw)
        if how == "bit":
            content[min(at, len(raw) - 1)] ^= 1 << int(rng.integers(8))
        elif how == "byte":
            content[min(at, len(raw) - 1)] = int(rng.integers(256))
        elif how == "bytes":
            for place in rng.integers(0, len(raw), 1 + len(raw) // 50).tolist():
                content[place] = int(rng.integers(256))
        elif how == "truncate":
            content = content[:at]
        elif how == "cut":
            content = content[:at] + content[min(other, at + int(rng.integers(1, 64))) :]
        elif how == "double":
            content = content[:other] + content[at:other] + content[other:]
        elif how == "insert":
            content = content[:at] + rng.bytes(int(rng.integers(1, 40))) + content[at:]
        else:
            middle = (at + other) // 2
            content = content[:at] + content[middle:other] + content[at:middle] + content[other:]
        raw = bytes(content)
        done.append(f"{how} at {at}")
    return raw, ", ".join(done)


def odd_text(rng: np.random.Generator) -> str:
    """A text that readers may stumble over."""
    return pick(rng, ODD_TEXTS) if rng.random() < 0.8 else "".join(rng.choice(list(string.printable), 5))


def misprinted(rng: np.random.Generator, raw: bytes) -> tuple[bytes, str]:
    """A text with odd pieces put in or in place of others."""
    done = []
    for _ in range(int(rng.integers(1, 4))):
        at, piece = int(rng.integers(len(raw) + 1)), odd_text(rng).encode()
        end = at + int(rng.integers(0, 4))
        raw = raw[:at] + piece + raw[end:]
        done.append(f"{piece[:20]!r} at {at}")
    return raw, ", ".join(done)


def odd_array(rng: np.random.Generator, array: np.ndarray) -> tuple[np.ndarray, str]:
    """An array of other numbers, another type or another shape."""
    how = pick(
        rng, ("value", "values", "dtype", "shorter", "longer", "empty", "shape", "scalar", "strides", "shuffled")
    )
    with np.errstate(all="ignore"):
        try:
            if how == "value" and array.size:
                array, value = array.copy(), pick(rng, ODD_NUMBERS)
                wide = array.astype(np.float64) if isinstance(value, float) and array.dtype.kind in "iu" else array
                wide.reshape(-1)[int(rng.integers(array.size))] = value
                return wide, f"value {value!r:.30}"
            if how == "values":
                return np.full_like(array, pick(rng, ODD_NUMBERS)), how
            if how == "dtype":
                dtype = pick(rng, DTYPES)
                return array.astype(dtype), f"dtype {dtype}"
        except (ValueError, TypeError, OverflowError):
            return array, f"{how} that does not go"
    if how == "shorter":
        return array[: len(array) - 1] if array.ndim else array, how
    if how == "longer":
        return np.concatenate([array, array[:1]]) if array.ndim else np.array([array, array]), how
    if how == "empty":
        return array[:0] if array.ndim else array.reshape(0, *array.shape) if array.size == 0 else array, how
    if how == "shape":
        return (array.reshape(1, -1), array.reshape(-1, 1), array[None], array.ravel())[int(rng.integers(4))], how
    if how == "scalar":
        return array.reshape(-1)[0] * np.ones(
            (), array.dtype
        ) if array.size and array.dtype.kind in "iuf" else array, how
    if how == "strides":
        return (array[::-1] if array.ndim else array), how
    return (rng.permutation(array) if array.ndim else array), how


def odd_json(rng: np.random.Generator) -> Any:
    """A value that no reader of JSON expects."""
    deep: Any = []
    for _ in range(50):
        deep = [deep]
    values = [None, True, [], {}, "", "x", "x" * 100_000, deep, {"a": {"b": [1]}}, [[]], "nan", *ODD_NUMBERS]
    return pick(rng, values)


def other_json(rng: np.random.Generator, value: Any) -> tuple[Any, str]:
    """The same JSON with something in it replaced, removed or added; and where."""
    value = copy.deepcopy(value)
    path, here = [], value
    while isinstance(here, dict | list) and len(here):
        key = pick(rng, list(here) if isinstance(here, dict) else range(len(here)))
        path.append(key)
        if not isinstance(here[key], dict | list) or not len(here[key]) or rng.random() < 0.3:
            break
        here = here[key]
    how = pick(rng, ("replace", "replace", "replace", "remove", "add"))
    if how == "remove":
        del here[path[-1]]
    elif how == "add" and isinstance(here, dict):
        here[pick(rng, ("weights", "x", "__class__", "padding", "0"))] = odd_json(rng)
    else:
        here[path[-1]] = odd_json(rng)
    return value, f"{how} {path}"
