"""What the doors take for data: Interactions, or a SciPy matrix in their place, catalogues, and parts of splits."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp

from jaxrec._checks import InputError, briefly, whole
from jaxrec._checks.doors import kind
from jaxrec.data.batching import RowBatch
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions
from jaxrec.data.splits import HeldOut, Split


@kind("Interactions")
def interactions(name: str, value: Any) -> Interactions:
    """Interactions, as which a SciPy sparse matrix counts too: `Interactions.from_csr` of it."""
    if isinstance(value, Interactions):
        return value
    if sp.issparse(value):
        return Interactions.from_csr(value)
    raise InputError(f"{name} must be Interactions or a SciPy sparse matrix, got {briefly(value)}; {_remedy(value)}.")


@kind("Interactions | HeldOut")
def interactions_or_users(name: str, value: Any) -> Interactions | HeldOut:
    """Interactions, or users with their fold-in and targets."""
    return held_out(name, value) if isinstance(value, HeldOut) else interactions(name, value)


@kind("HeldOut")
def held_out(name: str, value: Any) -> HeldOut:
    """Fold-in and targets, as which a pair of Interactions counts too."""
    if isinstance(value, tuple) and not isinstance(value, Split) and len(value) == 2:
        return HeldOut(
            interactions(f"the fold-in of {name}", value[0]), interactions(f"the targets of {name}", value[1])
        )
    hint = "take its .test or its .validation" if isinstance(value, Split) else "such as split.test"
    raise InputError(f"{name} must be a HeldOut, the fold-in and targets of users, got {briefly(value)}; {hint}.")


@kind("RowBatch")
def row_batch(name: str, value: Any) -> RowBatch:
    """Rows of fixed shape."""
    if isinstance(value, RowBatch):
        return value
    hint = "jaxrec.recommend and evaluate make them of Interactions, and so does jaxrec.data.row_batches"
    raise InputError(f"{name} must be a RowBatch, got {briefly(value)}; {hint}.")


@kind("sp.csr_array")
def rows(name: str, value: Any) -> Any:
    """Compressed sparse rows of SciPy."""
    if sp.issparse(value) and value.ndim == 2:
        return value if value.format == "csr" else value.tocsr()
    hint = "data.to_csr() makes them of Interactions"
    raise InputError(f"{name} must be a SciPy sparse matrix, got {briefly(value)}; {hint}.")


@kind("str | Split")
def protocol(name: str, value: Any) -> str | Split:
    """The name of a protocol, or a split made already."""
    if isinstance(value, str | Split):
        return value
    raise InputError(f"{name} must be a name or a Split, got {briefly(value)}; jaxrec.split(data) makes one.")


@kind("Catalogue")
def catalogue(name: str, value: Any) -> Catalogue:
    """The names of items."""
    if isinstance(value, Catalogue):
        return value
    hint = "take its .items" if isinstance(value, Interactions) else "such as data.items or fitted.info.items"
    raise InputError(f"{name} must be a Catalogue, got {briefly(value)}; {hint}.")


@kind("int | Catalogue")
def size_or_catalogue(name: str, value: Any) -> int | Catalogue:
    """A number of items, or their names."""
    return value if isinstance(value, Catalogue) else whole(f"{name}, if they are no Catalogue,", value)


def _remedy(value: Any) -> str:
    """What makes Interactions of a thing like this."""
    if isinstance(value, HeldOut):
        return "take its .fold_in or its .targets"
    if isinstance(value, Split):
        return "take a part of it, such as .train"
    if isinstance(value, str):
        return "jaxrec.load reads a file or a bundled data set"
    if hasattr(value, "columns"):
        return "jaxrec.data.from_frame(frame) makes them of a table"
    if hasattr(value, "dtype") and getattr(value, "ndim", 0) == 2:
        return "Interactions.from_csr(scipy.sparse.csr_array(array)) makes them of a dense matrix"
    if isinstance(value, int) and not isinstance(value, bool):
        return "a user's history is data.rows([data.user_index(id)])"
    return "they come from jaxrec.load, jaxrec.data.from_frame, or Interactions.from_csr and its like"
