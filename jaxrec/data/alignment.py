"""Ids decide: data brought into the numbering of a catalogue, or of other users, by id and never by position.

Ids are compared as numbers where both sides have integers, else as text. Without ids nothing is known but how many
items and users there are, so that only this can be compared, with one exception: what was chosen from the same data,
such as the parts of a split, knows where it stood there.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

import numpy as np

from jaxrec._checks import InputError
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions

SHOWN = 3  # ids in a message


class Aligned(NamedTuple):
    """Data in another numbering, and what that numbering does not know.

    Attributes:
      data: the entries of known items.
      unknown: [N] the items of `data` as it was that are unknown there and have entries.
      n_entries: how many entries these have.
    """

    data: Interactions
    unknown: np.ndarray
    n_entries: int


def catalogue_of(thing: Any) -> Catalogue | None:
    """The catalogue that a catalogue, Interactions, a fit or a model is numbered by; None if it carries none."""
    for holder in (thing, getattr(thing, "info", None)):
        items = holder if isinstance(holder, Catalogue) else getattr(holder, "items", None)
        if isinstance(items, Catalogue):
            return items
    return None


def aligned(data: Interactions, other: Any, *, users: bool = False) -> Interactions:
    """What `Interactions.aligned_to` returns."""
    wanted = catalogue_of(other)
    whose = other.name if isinstance(other, Interactions) else "the model"
    if wanted is None:
        raise InputError(
            f"{type(other).__name__} carries no catalogue to align to; give one, such as fitted.info.items."
        )
    found, unknown, n_entries = align_items(data, wanted, whose)
    if found.n_items != wanted.n_items:
        raise InputError(f"{data.name} has {found.n_items} items and {whose} {wanted.n_items}; they must agree.")
    n_users = 0
    if users:
        if not isinstance(other, Interactions):
            raise InputError(f"users=True matches the users of Interactions, got {type(other).__name__}.")
        found, n_users = align_users(found, other)
    warn_of_left_out(data, unknown, n_entries, whose, n_users, stacklevel=5)
    return found


def align_items(data: Interactions, wanted: Catalogue | None, whose: str, *, keep_unknown: bool = False) -> Aligned:
    """The data in the numbering of `wanted`; as they are where one side has no ids, whatever their number of items.

    Args:
      data: U x I.
      wanted: the numbering; None where nothing is known of it.
      whose: whose numbering it is, for messages.
      keep_unknown: number the unknown items that have entries after the known ones, and leave nothing out.

    Raises:
      InputError: nothing in common, or an id that stands for several items.
    """
    column = None if wanted is None else places(data.items, wanted, data.name, whose)
    if column is None or wanted is None:
        return Aligned(data, np.zeros(0, np.int64), 0)
    entries = column[data.indices]
    lost = entries < 0
    unknown, items, n_entries = np.unique(data.indices[lost]), wanted, int(lost.sum())
    if keep_unknown and n_entries:
        column[unknown] = wanted.n_items + np.arange(len(unknown))
        entries, items = column[data.indices], Catalogue(wanted.n_items + len(unknown))
    elif n_entries:
        data, entries = data.keep(~lost), entries[~lost]
    data = dataclasses.replace(data, indices=entries.astype(np.int32), items=items)
    return Aligned(data, unknown, n_entries)


def align_users(data: Interactions, other: Interactions) -> tuple[Interactions, int]:
    """The rows of the users of `other`, in its order, and how many users with entries it does not have.

    Raises:
      InputError: nobody in common, an id that stands for several users, or no ids and other numbers of rows.
    """
    theirs, wanted = data.user_ids, other.user_ids
    if theirs is None or wanted is None:
        theirs, wanted = _row_numbers(data, other)
    if theirs is None or wanted is None or _same(theirs, wanted):
        if data.n_users != other.n_users:
            raise InputError(
                f"{other.name} and {data.name} must hold the same users in the same rows, got {other.n_users} and "
                f"{data.n_users} rows, and no ids on both sides by which to match them."
            )
        return data, 0
    at = _find(wanted, theirs, f"{other.name} and {data.name}", "user")
    here = at >= 0
    if not here.any() and len(at) and len(theirs):
        raise InputError(
            f"{data.name} and {other.name} have no users in common ({_some(theirs)} and {_some(wanted)}); "
            "take both from one split."
        )
    n_unknown = np.count_nonzero(data.user_counts) - np.count_nonzero(data.user_counts[at[here]])
    found = data.rows(at[here])
    lengths = np.zeros(len(at) + 1, np.int64)
    lengths[1:][here] = found.user_counts
    who = {"user_ids": other.user_ids, "row_numbers": other.row_numbers, "origin": other.origin}
    return dataclasses.replace(found, indptr=np.cumsum(lengths), user_split=None, **who), int(n_unknown)


def places(items: Catalogue, wanted: Catalogue, name: str, whose: str) -> np.ndarray | None:
    """[I] the place of each item in `wanted`, -1 where it is unknown there; None where there is nothing to match.

    That is so where both are the same or in the same order, and where one of them has no ids.

    Raises:
      InputError: nothing in common, an id that stands for several items, or indices where the other side has names.
    """
    if items is wanted:
        return None
    ids, known = items.ids, wanted.ids
    if ids is None and wanted.origin is not None:
        ids = _indices_in(items, wanted, name, whose)
    elif known is None and items.origin is not None:
        known = _indices_in(wanted, items, whose, name)
    if ids is None or known is None or _same(ids, known):
        return None
    if (items.origin is None) != (wanted.origin is None) and items.ids is not None and wanted.ids is not None:
        bare = name if items.origin is not None else whose
        raise InputError(
            f"{name} and {whose} cannot be matched: the items of {bare} have no ids, only indices in the matrix they "
            "were chosen from; give that matrix ids, or take both from one split."
        )
    at = _find(ids, known, f"{name} and {whose}", "item")
    if (at < 0).all() and len(at):
        raise InputError(
            f"{name}: {whose} knows none of its items ({_some(ids)}; there they are {_some(known)}); give data of the "
            "same items."
        )
    return at


def warn_of_left_out(
    data: Interactions,
    unknown: np.ndarray,
    n_entries: int,
    whose: str,
    n_users: int = 0,
    n_missed: int = 0,
    *,
    name: str | None = None,
    stacklevel: int,
) -> None:
    """The one warning of an alignment, if anything was left out.

    Args:
      data: as it was.
      unknown: its items that are unknown.
      n_entries: how many entries these have, which are left out.
      whose: who does not know them.
      n_users: users left out.
      n_missed: targets of unknown items, which stay and are missed.
      name: what the warning speaks of; default the data.
      stacklevel: of `warnings.warn`, so that the warning points at the caller of a public function.
    """
    said = []
    if n_entries:
        of = f"of {len(unknown):,} items that {whose} does not know ({_some(data.items.names[unknown])})"
        said.append(f"{n_entries:,} entries {of} are left out")
    if n_missed:
        said.append(f"{n_missed:,} targets are of items that {whose} does not know, and count as missed")
    if n_users:
        said.append(f"{n_users:,} users of whom the other part has no row are left out")
    if said:
        warnings.warn(f"{name or data.name}: {'; '.join(said)}.", stacklevel=stacklevel)


def _indices_in(bare: Catalogue, chosen: Catalogue, name: str, other: str) -> np.ndarray | None:
    """[I] what the items of a catalogue without ids are called by one whose items were chosen from such a one.

    None where the two have nothing to do with each other.
    """
    origin = chosen.origin
    assert origin is not None and chosen.ids is not None
    if bare.n_items != origin.n_items:
        return None
    indices = np.arange(bare.n_items)
    if bare is origin or bare.n_items != chosen.n_items or np.array_equal(chosen.ids, indices):
        return indices
    raise InputError(
        f"the items of {name} have no ids, and those of {other} are as many, in another order than in the matrix they "
        "were chosen from; say what the columns are: Interactions.from_csr(matrix, items=fitted.info.items)."
    )


def _row_numbers(data: Interactions, other: Interactions) -> tuple[np.ndarray | None, np.ndarray | None]:
    """[U] and [U'] what rows of the same origin were numbered there; None where there is nothing to compare."""
    if data.origin is not other.origin or (data.row_numbers is None and other.row_numbers is None):
        return None, None
    mine, theirs = (np.arange(part.n_users) if part.row_numbers is None else part.row_numbers for part in (data, other))
    return mine, theirs


def _find(ids: np.ndarray, known: np.ndarray, where: str, what: str) -> np.ndarray:
    """[N] the place of each of `ids` in `known`, -1 where it is not.

    Raises:
      InputError: an id stands there twice.
    """
    numbers = ids.dtype.kind in "iu" and known.dtype.kind in "iu"
    asked, there = (array.tolist() if numbers else list(map(str, array.tolist())) for array in (ids, known))
    at = {name: place for place, name in enumerate(there)}
    if len(at) < len(there) or len(set(asked)) < len(asked):
        raise InputError(f"{where} cannot be matched by id, because an id stands for more than one {what}.")
    return np.fromiter((at.get(name, -1) for name in asked), np.int64, len(asked))


def _same(ids: np.ndarray, known: np.ndarray) -> bool:
    """Whether the ids are equal, place by place."""
    if ids is known:
        return True
    kinds = ids.dtype.kind, known.dtype.kind
    alike = kinds[0] == kinds[1] or set(kinds) <= set("iu")
    return alike and len(ids) == len(known) and bool(np.array_equal(ids, known))


def _some(ids: np.ndarray) -> str:
    """The first few ids, in words."""
    return ", ".join(map(str, ids[:SHOWN].tolist())) + ", ..." * (len(ids) > SHOWN)
