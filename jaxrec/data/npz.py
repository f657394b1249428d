"""Arrays in NumPy's .npz: the layout of this library, and SciPy's sparse matrices."""

from __future__ import annotations

import dataclasses
import gzip
import io
import zipfile
import zlib
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxrec._checks import InputError
from jaxrec.data.interactions import Interactions
from jaxrec.data.load_options import Options, among

# What the zip, gzip and array readers raise on damaged files.
DAMAGE = (ValueError, TypeError, LookupError, EOFError, OSError, SyntaxError, NotImplementedError, RuntimeError)
DAMAGE += (zipfile.BadZipFile, zlib.error, MemoryError)


def read_npz(path: Any, titles_path: Any, options: Options, name: str) -> Interactions:
    """Interactions from an .npz file, either of this library's layout or written by `scipy.sparse.save_npz`.

    Args:
      path: the file, a `Path` or a resource of a package.
      titles_path: a gzip file of one title a line, also a `Path` or a resource; used if it exists.
      options: what was asked of `load`.
      name: what the data set is called.
    """
    content = path.read_bytes()
    arrays = _arrays(path, content)
    if {"format", "shape", "data"} <= arrays.keys():
        return _from_scipy(path, content, options, name)
    keys = list(arrays)
    user_key, item_key = options.user or "user", options.item or "item"
    for key in (user_key, item_key, "n_users", "n_items"):
        if key not in arrays:
            raise InputError(f"{path}: there is no array {key!r}, {among(keys, 'arrays')}.")
    n_users, n_items = (_size(path, key, arrays[key]) for key in ("n_users", "n_items"))
    nnz = arrays[user_key].size
    value_key, rating_key = options.value_column(keys, str(path)), options.rating_column(keys, str(path))
    per_entry = {
        "users": user_key,
        "items": item_key,
        "values": value_key,
        "rating": rating_key,
        "timestamps": options.timestamp or "timestamp",
        "split": "split",
        "position": "position",
    }
    for key in per_entry.values():
        if key in arrays and arrays[key].shape != (nnz,):
            raise InputError(f"{path}: array {key!r} has shape {arrays[key].shape} where {user_key!r} has {nnz} rows.")
    per_entry = {role: arrays[key] for role, key in per_entry.items() if key in arrays}
    for key, of_them in {"user_ids": f"{n_users} users", "item_ids": f"{n_items} items"}.items():
        if key in arrays:
            _check_ids(path, key, arrays[key], of_them)

    order = _rows_in_order(path, per_entry.pop("position", None), per_entry["users"])
    kept = _reaching(path, per_entry.pop("rating", None), options.min_rating)
    if kept is not None:
        order = np.flatnonzero(kept) if order is None else order[kept[order]]
    if order is not None:
        per_entry = {role: array[order] for role, array in per_entry.items()}
    if not len(per_entry["users"]):
        raise InputError(f"{path} holds no interactions{' that reach min_rating' * (nnz > 0)}.")
    made = Interactions.from_triples(
        **per_entry,
        n_users=n_users,
        n_items=n_items,
        user_split=arrays.get("user_split"),
        user_ids=arrays.get("user_ids"),
        item_ids=arrays.get("item_ids"),
        titles=_titles(titles_path, n_items) if titles_path.is_file() else None,
        repeats=options.repeats,
        name=str(path),
    )
    return dataclasses.replace(made, name=name)


def _arrays(path: Any, content: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except DAMAGE as error:
        if "pickle" in str(error) and content[:1] in (b"P", b"\x80"):  # NumPy takes any other file for a pickle
            raise InputError(f"{path} holds pickled objects, which are never loaded; save plain arrays.") from None
        raise InputError(f"{path} is no readable .npz file: it is truncated, damaged or of another kind.") from None
    if any(not isinstance(array, np.ndarray) for array in arrays.values()):
        raise InputError(f"{path} holds files that are no NumPy arrays.")
    return arrays


def _from_scipy(path: Any, content: bytes, options: Options, name: str) -> Interactions:
    try:
        matrix = sp.load_npz(io.BytesIO(content))
        csr = sp.csr_array(matrix)
        for compressed in (matrix, csr):  # indices within bounds and in order of rows: SciPy itself looks only here
            if hasattr(compressed, "check_format"):
                compressed.check_format(full_check=True)
    except DAMAGE:
        raise InputError(f"{path} holds no valid SciPy sparse matrix: its arrays do not fit one another.") from None
    if options.values not in (None, "data", "rating"):
        raise InputError(f"{path} is a SciPy matrix with 'data' alone; there is no {options.values!r} (values=).")
    made = Interactions.from_csr(csr, name=str(path))
    if (kept := _reaching(path, None if options.min_rating is None else made.values, options.min_rating)) is not None:
        made = made.keep(kept)
    if made.nnz == 0:
        raise InputError(f"{path} holds no interactions{' that reach min_rating' * (csr.nnz > 0)}.")
    return dataclasses.replace(made if options.values else made.binarised(), name=name)


def _size(path: Any, key: str, array: np.ndarray) -> int:
    if array.shape != () or array.dtype.kind not in "iu" or array < 0:
        raise InputError(f"{path}: {key} must be one whole number of at least 0, got {array.dtype} of {array.shape}.")
    return int(array)


def _check_ids(path: Any, key: str, ids: np.ndarray, of_them: str) -> None:
    if ids.ndim != 1 or len(ids) != int(of_them.split()[0]):
        raise InputError(f"{path}: {key} has shape {ids.shape} for {of_them}.")
    if ids.dtype.kind not in "iuU":
        raise InputError(f"{path}: {key} must be integers or text, got {ids.dtype}.")
    distinct, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{path}: {key} must be distinct, but {distinct[counts > 1][0]} occurs more than once.")


def _rows_in_order(path: Any, position: np.ndarray | None, users: np.ndarray) -> np.ndarray | None:
    """The order of the rows that puts every user's entries by `position`, or None if they stand so already."""
    if position is None:
        return None
    if position.dtype.kind not in "iu" or users.dtype.kind not in "iu":
        raise InputError(f"{path}: position must be whole numbers, got {position.dtype}.")
    return np.lexsort((position, users))


def _reaching(path: Any, rating: np.ndarray | None, least: float | None) -> np.ndarray | None:
    """[nnz] whether the rating is at least `least`, or None if nothing is asked of it."""
    if rating is None:
        return None
    if rating.dtype.kind not in "biuf" or not np.isfinite(rating).all():
        raise InputError(f"{path}: the rating must be finite numbers, got {rating.dtype} with text, NaN or infinity.")
    return rating >= least


def _titles(path: Any, n_items: int) -> np.ndarray:
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8-sig")
    except DAMAGE:
        raise InputError(f"{path} is no readable gzip file of UTF-8 text: it is truncated or damaged.") from None
    titles = text.removesuffix("\n").split("\n")  # not splitlines(): a title may hold other line separators
    if len(titles) != n_items:
        raise InputError(f"{path} has {len(titles)} titles for {n_items} items.")
    return np.array([title.removesuffix("\r") for title in titles])
