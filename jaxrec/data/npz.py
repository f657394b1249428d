"""Arrays in NumPy's .npz: the layout of this library, and SciPy's sparse matrices."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data.columns import proportionate, text
from jaxrec.data.interactions import Interactions
from jaxrec.data.lines import one_line_end
from jaxrec.data.load_options import Options, among
from jaxrec.runtime.archive import DAMAGE, Archive, Header, Pickled
from jaxrec.runtime.files import regular
from jaxrec.runtime.memory import require_memory

ENTRY_BYTES = 64  # of memory that an interaction takes until all are in their rows
TITLES_BYTES, TITLE_BYTES = 2**20, 1000  # of titles in all, and of each on an average: more is no file of titles
MATRIX_KINDS = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "bsr": ("indices", "indptr"),
    "coo": ("row", "col"),
    "dia": ("offsets",),
}
MATRIX_ARRAYS = {"format", "shape", "data", *(name for names in MATRIX_KINDS.values() for name in names)}


def read_npz(path: Any, titles_path: Any, options: Options, name: str) -> Interactions:
    """Interactions from an .npz file, either of this library's layout or written by `scipy.sparse.save_npz`.

    Args:
      path: the file, a `Path` or a resource of a package.
      titles_path: a gzip file of one title a line, also a `Path` or a resource; used if it exists.
      options: what was asked of `load`.
      name: what the data set is called.
    """
    with _opened(path) as archive:
        if {"format", "shape", "data"} <= archive.headers.keys():
            return _from_scipy(path, archive, options, name)
        return _from_layout(path, archive, titles_path, options, name)


def _from_layout(path: Any, archive: Archive, titles_path: Any, options: Options, name: str) -> Interactions:
    headers, keys = archive.headers, list(archive.headers)
    user_key, item_key = options.user or "user", options.item or "item"
    for key in (user_key, item_key, "n_users", "n_items"):
        if key not in headers:
            raise InputError(f"{path}: there is no array {key!r}, {among(keys, 'arrays')}.")
    nnz = math.prod(headers[user_key].shape)
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
        if key in headers and headers[key].shape != (nnz,):
            raise InputError(f"{path}: array {key!r} has shape {headers[key].shape} where {user_key!r} has {nnz} rows.")
    n_users, n_items = (_size(path, key, archive, nnz) for key in ("n_users", "n_items"))
    per_name = {"user_ids": f"{n_users} users", "item_ids": f"{n_items} items", "user_split": f"{n_users} users"}
    for key, of_them in per_name.items():
        if key in headers:
            _check_names(path, key, headers[key], of_them)
    require_memory(ENTRY_BYTES * nnz + 2 * 8 * n_users, f"{path}: {nnz:,} interactions of {n_users:,} users")
    arrays = _read(archive, {*per_entry.values(), *per_name} - {None})
    per_entry = {role: arrays[key] for role, key in per_entry.items() if key in arrays}

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
    return _some(path, dataclasses.replace(made, name=name))


@contextlib.contextmanager
def _opened(path: Any) -> Iterator[Archive]:
    with regular(path) if isinstance(path, Path) else path.open("rb") as file:
        try:
            archive = Archive(file, str(path))
        except Pickled:
            raise InputError(f"{path} holds pickled objects, which are never loaded; save plain arrays.") from None
        except DAMAGE as error:
            file.seek(0)
            if file.read(1) == b"\x80":
                raise InputError(f"{path} holds pickled objects, which are never loaded; save plain arrays.") from None
            if "no array" in str(error):
                raise InputError(f"{path} holds files that are no NumPy arrays.") from None
            raise InputError(f"{path} is no readable .npz file: it is truncated, damaged or of another kind.") from None
        yield archive


def _read(archive: Archive, names: Iterable[str]) -> dict[str, np.ndarray]:
    try:
        return archive.read(names)
    except InputError:
        raise
    except DAMAGE:
        where = archive.where
        raise InputError(f"{where} is no readable .npz file: it is truncated, damaged or of another kind.") from None


def _from_scipy(path: Any, archive: Archive, options: Options, name: str) -> Interactions:
    headers = archive.headers
    require_memory(ENTRY_BYTES * math.prod(headers["data"].shape), f"{path}: the entries of its matrix")
    arrays = _read(archive, MATRIX_ARRAYS)
    try:
        kind = arrays["format"].item()
        kind = kind.decode("ascii") if isinstance(kind, bytes) else str(kind)
        if kind not in MATRIX_KINDS:
            raise ValueError(kind)
        shape = tuple(arrays["shape"].tolist())
        for what, size in zip(("rows", "columns"), shape, strict=True):
            _checks.count(f"{path}: the number of {what}", size)
            proportionate(f"{path}: the number of {what}", size, arrays["data"].size)
        parts = (arrays["data"], *(arrays[part] for part in MATRIX_KINDS[kind]))
        matrix = getattr(sp, f"{kind}_array")((parts[0], parts[1:]) if kind == "coo" else parts, shape=shape)
        made = Interactions.from_csr(matrix, name=str(path))
    except InputError:
        raise
    except DAMAGE:
        raise InputError(f"{path} holds no valid SciPy sparse matrix: its arrays do not fit one another.") from None
    if options.values not in (None, "data", "rating"):
        raise InputError(f"{path} is a SciPy matrix with 'data' alone; there is no {options.values!r} (values=).")
    if (kept := _reaching(path, None if options.min_rating is None else made.values, options.min_rating)) is not None:
        made = made.keep(kept)
        if made.nnz == 0:
            raise InputError(f"{path} holds no interactions that reach min_rating.")
    return dataclasses.replace(_some(path, made) if options.values else _some(path, made).binarised(), name=name)


def _some(path: Any, made: Interactions) -> Interactions:
    if made.nnz == 0:
        raise InputError(f"{path} holds no interactions, or only of value 0.")
    return made


def _size(path: Any, key: str, archive: Archive, nnz: int) -> int:
    header = archive.headers[key]
    if header.shape != () or header.dtype.kind not in "iu" or (array := _read(archive, [key])[key]) < 0:
        raise InputError(f"{path}: {key} must be one whole number of at least 0, got {header.dtype} of {header.shape}.")
    proportionate(f"{path}: {key}", int(array), nnz)
    return int(array)


def _check_names(path: Any, key: str, names: Header, of_them: str) -> None:
    if names.shape != (int(of_them.split()[0]),):
        raise InputError(f"{path}: {key} has shape {names.shape} for {of_them}.")
    if names.dtype.kind not in "iuU":
        raise InputError(f"{path}: {key} must be integers or text, got {names.dtype}.")


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
    """[I] titles, one a line of a gzip file, of which no more is unpacked than so many titles can be long."""
    most = TITLES_BYTES + TITLE_BYTES * n_items
    try:
        with path.open("rb") as file, gzip.open(file) as unpacked:
            content = unpacked.read(most + 1)
    except DAMAGE:
        raise InputError(f"{path} is no readable gzip file of UTF-8 text: it is truncated or damaged.") from None
    if len(content) > most:
        raise InputError(f"{path} unpacks to more than {most:,} bytes, which {n_items} titles are not.")
    try:
        titles = one_line_end(content).decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{path} is no readable gzip file of UTF-8 text: it is truncated or damaged.") from None
    if len(titles) != n_items:  # not by splitlines(): a title may hold other line separators
        raise InputError(f"{path} has {len(titles)} titles for {n_items} items.")
    return text([title.removesuffix("\r") for title in titles])
