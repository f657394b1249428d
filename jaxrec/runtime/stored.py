"""Arrays on disk with what is written elsewhere of each: whose it is, its type, its shape; nothing else is read."""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

import jax
import numpy as np

from jaxrec import _checks
from jaxrec.runtime.archive import LONGEST_HEADER, Archive, Header
from jaxrec.runtime.files import storable

KINDS = ("numpy", "jax", "text")


def described(name: str, array: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """An array as npz keeps it, and what there is to say of it, in JSON's types.

    Text is kept as JSON's list in UTF-8: NumPy's own is as wide as the longest piece, and drops what ends in NUL.
    """
    kind = "jax" if isinstance(array, jax.Array) else "numpy"
    if kind == "numpy" and array.dtype.kind in "OTU":
        kind, array = "text", np.frombuffer(json.dumps(list(map(str, array.tolist()))).encode(), np.uint8)
    kept, dtype = storable(array)
    return kept, {"kind": kind, "dtype": dtype, "shape": kept.shape}


def most_bytes(content: dict[str, dict[str, Any]]) -> int:
    """The bytes of the largest npz file that may hold arrays so described."""
    return LONGEST_HEADER + sum(_bytes_of(**each) + LONGEST_HEADER for each in content.values())


def read(file: BinaryIO, where: str, content: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """The arrays that are described, NumPy's all of them, text as objects.

    Raises:
      InputError: they need more memory than is free.
      Exception: one of `archive.DAMAGE`, where one is not there, or not as described.
    """
    archive = Archive(file, where)
    for name, each in content.items():
        _check(name, archive.headers[name], **each)
    return {name: _restored(array, **content[name]) for name, array in archive.read(content).items()}


def _bytes_of(kind: str, dtype: str, shape: list[int]) -> int:
    _checks.one_of("the kind of an array", kind, KINDS)
    for size in shape:
        _checks.count("a size of an array", size)
    return math.prod(shape) * np.dtype(dtype).itemsize


def _check(name: str, header: Header, kind: str, dtype: str, shape: list[int]) -> None:
    wanted = np.dtype(dtype)
    kept = np.dtype(f"u{wanted.itemsize}") if wanted.isbuiltin == 2 else wanted
    if header.dtype != kept or list(header.shape) != shape:
        had, said = f"{header.dtype} of shape {header.shape}", f"{dtype} of shape {shape}"
        raise ValueError(f"{name[:40]} is {_checks.shown(had)} where {_checks.shown(said)} was announced")


def _restored(array: np.ndarray, kind: str, dtype: str, shape: list[int]) -> np.ndarray:
    if kind != "text":
        return array.view(dtype) if np.dtype(dtype).isbuiltin == 2 else array
    words = json.loads(array.tobytes())
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("names that are no text")
    made = np.empty(len(words), object)
    made[:] = words
    return made
