"""The sparse users x items matrix on the host."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data import columns as checked
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.sparse import rows_of
from jaxrec.runtime.memory import require_memory

MANY_USERS = 10_000_000  # whose rows alone take much memory, whether they hold anything or not
REPEAT_RULES = ("last", "first", "sum", "max", "error")


@dataclasses.dataclass(frozen=True, eq=False)
class Interactions:
    """Who interacted with what: a users x items matrix in compressed sparse rows, kept on the host in NumPy.

    It is never traced by JAX: every new number of interactions would compile anew. Each (user, item) pair occurs
    at most once. Within a user the entries keep the order of the source, which splits by order rely on.
    Build one with `load`, `from_triples`, `from_csr` or `from_lists`; the constructor itself checks nothing.

    Attributes:
      indptr: [U + 1] int64; user u's entries are `indptr[u]:indptr[u + 1]`.
      indices: [nnz] int32 item indices.
      values: [nnz] float32, finite and nonzero; all 1 for plain implicit feedback.
      items: names of the items; `items.n_items` is the number of columns.
      user_ids: [U] the source's own user ids, or None.
      timestamps: [nnz] int64, or None; only their order matters.
      split: [nnz] uint8, the source's fixed split of interactions (0 train, 1 test), or None.
      user_split: [U] uint8, the source's fixed split of users (0 train, 1 test), or None.
      name: what the data set is called in reports.
      source: how it was read (columns, filters), or None; models say it of the data they were fitted on.
      divisions: the splits that it is a part of, the outermost first; see `jaxrec.data.provenance`.
      row_numbers: [U] where the rows stood before some were chosen, or None: they stand there still.
      origin: the same object in all data whose rows were once the same; with `row_numbers` it tells who is who where
        users have no ids.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    items: Catalogue
    user_ids: np.ndarray | None = None
    timestamps: np.ndarray | None = None
    split: np.ndarray | None = None
    user_split: np.ndarray | None = None
    name: str = "interactions"
    source: dict[str, Any] | None = None
    divisions: tuple[dict[str, Any], ...] = ()
    row_numbers: np.ndarray | None = None
    origin: object = dataclasses.field(default_factory=object, repr=False)

    def __post_init__(self):
        if self.row_numbers is not None and len(self.row_numbers) != self.n_users:  # made of rows of other data
            object.__setattr__(self, "row_numbers", None)
            object.__setattr__(self, "origin", object())

    @classmethod
    @door
    def from_triples(
        cls,
        users: Any,
        items: Any,
        values: Any = None,
        *,
        n_users: int | None = None,
        n_items: int | None = None,
        timestamps: Any = None,
        split: Any = None,
        user_split: Any = None,
        user_ids: Any = None,
        item_ids: Any = None,
        titles: Any = None,
        repeats: str | None = None,
        name: str = "interactions",
    ) -> Interactions:
        """Interactions from parallel arrays of user indices, item indices and (optional) values.

        Entries with value 0 are dropped: 0 is what a missing cell means. Repeated (user, item) pairs become one
        entry by the rule `repeats`: "last" (in time if there are timestamps, else in the order given),
        "first", "sum" or "max" of the values, or "error". None means "last", with a warning that counts them.

        Args:
          users: [nnz] integers in [0, n_users).
          items: [nnz] integers in [0, n_items).
          values: [nnz] finite numbers, or None for all ones.
          n_users: U; default one more than the largest user index.
          n_items: I; default one more than the largest item index.
          timestamps: [nnz] integers, or None.
          split: [nnz] of 0 (train) and 1 (test), or None.
          user_split: [U] of 0 (train) and 1 (test), or None.
          user_ids: [U] ids in the source, or None.
          item_ids: [I] ids in the source, or None.
          titles: [I] strings, or None.
          repeats: the rule for repeated pairs.
          name: what the data set is called in reports and errors.

        Returns:
          Interactions of shape U x I.

        Raises:
          InputError: one sentence on the first thing that is wrong with the input.
        """
        users = checked.indices(f"{name}: user", users)
        items = checked.indices(f"{name}: item", items)
        nnz = len(users)
        if len(items) != nnz:
            raise InputError(f"{name}: column item has {len(items)} rows where user has {nnz}.")
        if nnz == 0 and (n_users is None or n_items is None):
            raise InputError(f"{name}: there are no interactions, so there is nothing to learn from.")
        n_users = checked.size(f"{name}: user", n_users, users, "n_users")
        n_items = checked.size(f"{name}: item", n_items, items, "n_items")
        values = np.ones(nnz, np.float32) if values is None else checked.numbers(f"{name}: value", values)
        columns = {"item": items, "value": values}
        if timestamps is not None:
            columns["timestamp"] = checked.times(f"{name}: timestamp", timestamps)
        if split is not None:
            columns["split"] = checked.zero_one(f"{name}: split", split)
        for column, array in columns.items():
            if len(array) != nnz:
                raise InputError(f"{name}: column {column} has {len(array)} rows where user has {nnz}.")
        if user_split is not None:
            user_split = checked.zero_one(f"{name}: user_split", user_split)
        user_ids = checked.distinct(f"{name}: user_ids", checked.names(f"{name}: user_ids", user_ids))
        item_ids = checked.distinct(f"{name}: item_ids", checked.names(f"{name}: item_ids", item_ids))
        for column, array in {"user_ids": user_ids, "user_split": user_split}.items():
            if array is not None and len(array) != n_users:
                raise InputError(f"{name}: {column} has {len(array)} entries for {n_users} users.")

        if n_users > MANY_USERS:
            require_memory(3 * 8 * n_users, f"{name}: the rows of {n_users:,} users")
        users, columns = _merge_repeats(*_without_zeros(users, columns), n_items, repeats, name)
        order = np.argsort(users, kind="stable")
        indptr = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=n_users), out=indptr[1:])
        return cls(
            indptr=indptr,
            indices=columns["item"][order].astype(np.int32),
            values=columns["value"][order],
            items=Catalogue(n_items, item_ids, checked.names(f"{name}: titles", titles)),
            user_ids=user_ids,
            timestamps=columns["timestamp"][order] if "timestamp" in columns else None,
            split=columns["split"][order] if "split" in columns else None,
            user_split=user_split,
            name=name,
        )

    @classmethod
    @door
    def from_csr(cls, matrix: Any, *, items: Catalogue | None = None, name: str = "matrix") -> Interactions:
        """Interactions from a SciPy sparse matrix (users x items).

        A CSR matrix in canonical form with float32 values and int32 indices is wrapped without copying them.
        Otherwise repeated entries are summed, which is what they mean in SciPy, and stored zeros are dropped.

        Raises:
          InputError: the matrix is none, its arrays do not fit one another, or a value is no finite float32.
        """
        csr = rows_of(matrix, name)
        n_items = int(matrix.shape[1])
        if items is not None and items.n_items != n_items:
            raise InputError(f"{name}: {n_items} columns, but the catalogue names {items.n_items} items.")
        return cls(
            indptr=csr.indptr.astype(np.int64),
            indices=csr.indices.astype(np.int32, copy=False),
            values=csr.data,
            items=Catalogue(n_items) if items is None else items,
            name=name,
        )

    @classmethod
    @door
    def from_lists(cls, lists: Iterable[Sequence[int]], items: int | Catalogue, name: str = "lists") -> Interactions:
        """Interactions from one list of item indices a user, each entry with value 1."""
        rows = [checked.integers(f"{name}: row {row}", indices) for row, indices in enumerate(lists)]
        if not isinstance(items, Catalogue):
            _checks.count("items", items)
        catalogue = items if isinstance(items, Catalogue) else Catalogue(int(items))
        made = cls.from_triples(
            np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
            np.concatenate([np.zeros(0, np.int64), *rows]),
            n_users=len(rows),
            n_items=catalogue.n_items,
            name=name,
        )
        return dataclasses.replace(made, items=catalogue)

    @door
    def to_csr(self, dtype: DTypeLike = np.float32) -> sp.csr_array:
        """The matrix as SciPy CSR; float32 shares the memory of `indices` and `values`."""
        values = self.values.astype(dtype, copy=False)
        # SciPy wants both index arrays of one type, and would widen and copy `indices` to suit an int64 `indptr`.
        indptr = self.indptr.astype(np.int32) if self.nnz <= np.iinfo(np.int32).max else self.indptr
        return sp.csr_array((values, self.indices, indptr), shape=self.shape, copy=False)

    @door
    def rows(self, users: np.ndarray) -> Interactions:
        """The rows of the chosen users (indices or a boolean mask), in the order given; all items stay."""
        users = checked.places(f"{self.name}: user", users, self.n_users)
        lengths = self.user_counts[users]
        indptr = np.zeros(len(users) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        # The position of every chosen entry: the start of its row, plus how far into the row it stands.
        entries = np.repeat(self.indptr[users] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return self._take(entries, indptr, users)

    @door
    def keep(self, mask: np.ndarray) -> Interactions:
        """The entries where `mask` [nnz] is true; all users and items stay."""
        mask = checked.mask(f"{self.name}: entry", mask, self.nnz)
        kept_before = np.concatenate([[0], np.cumsum(mask)])
        return self._take(np.flatnonzero(mask), kept_before[self.indptr])

    @door
    def select_items(self, items: np.ndarray) -> Interactions:
        """Only the chosen items (distinct indices or a mask), renumbered in the order given; entries of others go."""
        items = checked.places(f"{self.name}: item", items, self.n_items, distinct=True)
        new_index = np.full(self.n_items, -1, np.int32)
        new_index[items] = np.arange(len(items), dtype=np.int32)
        kept = self.keep(new_index[self.indices] >= 0)
        return dataclasses.replace(kept, indices=new_index[kept.indices], items=self.items.take(items))

    @door
    def aligned_to(self, other: Any, *, users: bool = False) -> Interactions:
        """The same entries in the numbering of something else, matched by id, not by position.

        Items that the other does not know are left out, which one warning counts. Where the ids stand in the same
        places already, it is this object itself, at the cost of a comparison.

        Args:
          other: Interactions, a `Catalogue`, what `fit` returned, or a model that carries its catalogue.
          users: match the rows as well, by user id, with `other` Interactions: its users in its order, with empty rows
            for those who are not here; users whom it does not have are left out.

        Raises:
          InputError: nothing in common; or one side has no ids, and the numbers of items (of users) differ.
        """
        from jaxrec.data import alignment  # here because it is written in terms of this class

        return alignment.aligned(self, other, users=users)

    def binarised(self) -> Interactions:
        """The same entries, all with value 1."""
        return self if self.is_binary else dataclasses.replace(self, values=np.ones_like(self.values))

    def _take(self, entries: np.ndarray, indptr: np.ndarray, users: np.ndarray | None = None) -> Interactions:
        """The entries of these positions; of these users, or of all."""

        def pick(array: np.ndarray | None, index: np.ndarray | None) -> np.ndarray | None:
            return array if array is None or index is None else array[index]

        return dataclasses.replace(
            self,
            indptr=indptr,
            indices=self.indices[entries],
            values=self.values[entries],
            user_ids=pick(self.user_ids, users),
            timestamps=pick(self.timestamps, entries),
            split=pick(self.split, entries),
            user_split=pick(self.user_split, users),
            row_numbers=users if self.row_numbers is None else pick(self.row_numbers, users),
        )

    @property
    def n_users(self) -> int:
        """U, the number of rows."""
        return len(self.indptr) - 1

    @property
    def n_items(self) -> int:
        """I, the number of columns."""
        return self.items.n_items

    @property
    def nnz(self) -> int:
        """The number of interactions."""
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, int]:
        """(U, I)."""
        return self.n_users, self.n_items

    @cached_property
    def is_binary(self) -> bool:
        """Whether every value is 1: products of such data are exact in bfloat16 and int8."""
        return bool((self.values == 1).all())

    @property
    def user_counts(self) -> np.ndarray:
        """[U] number of items of each user."""
        return np.diff(self.indptr)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """[I] number of users of each item."""
        return np.bincount(self.indices, minlength=self.n_items)

    @cached_property
    def user_of_entry(self) -> np.ndarray:
        """[nnz] the user index of each entry, as int32."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_counts)

    @door
    def user_index(self, user_id: str | int) -> int:
        """The row of the user with this id (its index, if the source has no ids)."""
        if (user := self._by_user_id.get(str(user_id))) is None:
            near = "" if self.user_ids is None else checked.nearest(user_id, self.user_ids)
            raise InputError(f"{self.name}: there is no user with the id {_checks.shown(user_id)}{near}.")
        return user

    @cached_property
    def _by_user_id(self) -> dict[str, int]:
        ids = np.arange(self.n_users) if self.user_ids is None else self.user_ids
        return {str(name): u for u, name in enumerate(ids)}

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of shape, pattern and values: two data sets that train alike have the same one."""
        digest = hashlib.sha256(np.asarray(self.shape, np.int64).tobytes())
        for array in (self.indptr, self.indices, self.values):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def summary(self) -> dict[str, Any]:
        """Name, sizes, fingerprint and where it is from, for reports and saved models."""
        return {
            "name": self.name,
            "n_users": self.n_users,
            "n_items": self.n_items,
            "nnz": self.nnz,
            "fingerprint": self.fingerprint,
            "source": self.source,
            "divisions": list(self.divisions),
        }

    def __repr__(self) -> str:
        density = self.nnz / max(1, self.n_users * self.n_items)
        size = f"{self.n_users:,} users x {self.n_items:,} items, {self.nnz:,} entries"
        return f"Interactions({self.name}: {size}, {density:.2%})"


def _without_zeros(users: np.ndarray, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    if columns["value"].all():
        return users, columns
    present = np.flatnonzero(columns["value"])
    return users[present], {key: array[present] for key, array in columns.items()}


def _merge_repeats(
    users: np.ndarray, columns: dict[str, np.ndarray], n_items: int, rule: str | None, name: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One entry a (user, item) pair, standing where the kept entry stood."""
    _checks.one_of("repeats", rule, (None, *REPEAT_RULES))
    pair = users.astype(np.int64) * n_items + columns["item"]
    ordered = np.sort(pair)
    if not (ordered[1:] == ordered[:-1]).any():
        return users, columns
    if "timestamp" in columns:
        by_pair = np.lexsort((np.arange(len(pair)), columns["timestamp"], pair))
    else:
        by_pair = np.argsort(pair, kind="stable")
    ordered = pair[by_pair]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    extra = len(pair) - len(starts)
    if rule == "error":
        first = by_pair[np.flatnonzero(ordered[1:] == ordered[:-1])[0] + 1]
        where = f"user {users[first]}, item {columns['item'][first]}"
        raise InputError(
            f"{name}: {extra} rows repeat a (user, item) pair, the first at {where}; choose a repeats rule."
        )
    if rule is None:
        warnings.warn(
            f"{name}: {extra} rows repeat a (user, item) pair; the last of each was kept (repeats='last').",
            stacklevel=4,
        )
    ends = np.append(starts[1:], len(pair)) - 1
    kept = np.sort(by_pair[starts if rule == "first" else ends])
    merged = {key: array[kept] for key, array in columns.items()}
    if rule in ("sum", "max"):
        reduce = np.add.reduceat if rule == "sum" else np.maximum.reduceat
        reduced = reduce(columns["value"][by_pair].astype(np.float64), starts)
        merged["value"] = checked.numbers(f"{name}: {rule} of repeated values,", reduced[np.argsort(by_pair[ends])])
    return _without_zeros(users[kept], merged)  # a sum can be 0
