"""Classes of cases: what is handed to the constructors of Interactions, and then fitted: bad indices would show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from fuzz.mutate import ODD_NUMBERS, odd_array, odd_json, odd_text, pick
from fuzz.room import Case

from jaxrec import Ease, Interactions, ItemKnn, recommend


def used(data: Interactions) -> Interactions:
    """The data, after they were fitted and recommended from."""
    if 0 < data.n_items <= 2000 and data.n_users <= 100_000 and data.nnz:
        for method in (Ease(reg=1e3), ItemKnn()):
            try:
                recommend(method.fit(data).model, data, 2)
            except RuntimeError:
                continue
    return data


def structure(data: Interactions) -> str | None:
    """What is wrong with the arrays of interactions, whatever they were made of."""
    if data.nnz and not (0 <= data.indices.min() and data.indices.max() < data.n_items):
        return f"indices {data.indices}"
    if data.indptr[0] != 0 or (np.diff(data.indptr) < 0).any() or data.indptr[-1] != data.nnz:
        return f"indptr {data.indptr}"
    if len(data.values) != data.nnz or not np.isfinite(data.values).all() or not data.values.all():
        return f"values {data.values}"
    pairs = data.user_of_entry.astype(np.int64) * data.n_items + data.indices
    return "repeated pairs" if len(np.unique(pairs)) < len(pairs) else None


def from_csr(rng: np.random.Generator, folder: Path) -> Case:
    """Sparse matrices with arrays altered in place, after SciPy has looked at them."""
    form = pick(rng, ("csr", "csr", "csr", "csc", "coo", "bsr", "dia", "lil", "dok"))
    shape = tuple(rng.integers(1, 12, 2).tolist())
    dense = ((rng.random(shape) < 0.4) * rng.integers(1, 6, shape)).astype(pick(rng, ("f4", "f8", "i1", "i8", "?")))
    matrix = getattr(sp.csr_array(dense), f"to{form}")()
    said, whole = form, rng.random() < 0.2
    for _ in range(0 if whole else int(rng.integers(1, 3))):
        fields = [name for name in ("data", "indices", "indptr", "row", "col", "offsets") if hasattr(matrix, name)]
        field = pick(rng, fields or ["_shape"])
        if field == "_shape" or rng.random() < 0.1:
            large = pick(rng, (0, 1, 5, 2**31 - 1, 2**31 + 5, 2**32 + 5, 2**40))
            matrix._shape = (matrix.shape[0], large) if rng.random() < 0.7 else (large, matrix.shape[1])
            said += f"; shape {matrix._shape}"
            continue
        array = getattr(matrix, field)
        if rng.random() < 0.6 and array.size and array.dtype.kind in "iuf":
            value = pick(rng, [v for v in ODD_NUMBERS if array.dtype.kind == "f" or isinstance(v, int)])
            with np.errstate(all="ignore"):
                try:
                    array.reshape(-1)[int(rng.integers(array.size))] = value
                    said += f"; {field} gets {value!r:.20}"
                except (OverflowError, ValueError):
                    said += f"; {field} unchanged"
        else:
            array, done = odd_array(rng, array)
            try:
                setattr(matrix, field, array)
            except (ValueError, AttributeError, TypeError):
                done = "unchanged"
            said += f"; {field} {done}"

    def problem(data: Interactions) -> str | None:
        if (wrong := structure(data)) is not None:
            return wrong
        if whole and not np.array_equal(data.to_csr(np.float64).toarray(), dense.astype(np.float64)):
            return f"{data.to_csr().toarray()} is not {dense}"
        return None

    return Case(lambda: used(Interactions.from_csr(matrix)), problem, said)


def from_triples(rng: np.random.Generator, folder: Path) -> Case:
    """Columns of odd numbers, types and shapes, odd sizes, ids, titles and rules."""
    n = int(rng.integers(1, 20))
    given: dict[str, Any] = {"users": rng.integers(0, 5, n), "items": rng.integers(0, 6, n)}
    if rng.random() < 0.5:
        given |= {"n_users": 5, "n_items": 6}
        if rng.random() < 0.5:
            given |= {"user_ids": [f"u{u}" for u in range(5)], "item_ids": list(range(6)), "titles": ["t"] * 6}
    given |= {"values": rng.integers(1, 5, n).astype(float)} if rng.random() < 0.5 else {}
    given |= {"timestamps": rng.integers(0, 9, n)} if rng.random() < 0.5 else {}
    given |= {"split": rng.integers(0, 2, n)} if rng.random() < 0.3 else {}
    said = ""
    for _ in range(int(rng.integers(1, 3))):
        name = pick(rng, sorted(given))
        if isinstance(given[name], np.ndarray):
            given[name], done = odd_array(rng, given[name])
        elif not isinstance(given[name], list):
            given[name] = pick(rng, [*ODD_NUMBERS, np.int8(5), 20.7, True, "6", None])
            done = f"{given[name]!r:.30}"
        else:
            names = list(given[name])
            names[int(rng.integers(len(names)))] = odd_json(rng) if rng.random() < 0.3 else odd_text(rng)
            given[name], done = names, "a name"
        said += f"{name} {done}; "
    given["repeats"] = pick(rng, (None, "last", "first", "sum", "max", "error"))
    return Case(lambda: used(Interactions.from_triples(**given)), structure, said)


def from_lists(rng: np.random.Generator, folder: Path) -> Case:
    """Lists of items with odd entries."""
    lists: list[Any] = [rng.integers(0, 6, rng.integers(0, 5)).tolist() for _ in range(int(rng.integers(1, 6)))]
    items: Any = 6
    if rng.random() < 0.7:
        row = int(rng.integers(len(lists)))
        lists[row] = [*lists[row], pick(rng, [n for n in ODD_NUMBERS if isinstance(n, int | float)])]
    if rng.random() < 0.4:
        items = pick(rng, (*ODD_NUMBERS, 6.5, True))
    return Case(lambda: used(Interactions.from_lists(lists, items)), structure, f"{lists!r:.100} of {items!r:.20}")


CLASSES = {"from_csr": from_csr, "from_triples": from_triples, "from_lists": from_lists}
