"""What is exactly 0 or exactly equal in the scores of models that were trained without one user each.

A score is 0 where no chain of the other users links the item to the history (`components`), and equal for items that
the other users do not tell apart (`ties`). Both follow from which users have which items. In floating point the user
who was taken out leaves rounding errors there, which stand exactly on the user's own items: a ranking would see them.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from jaxrec.closed_form.components import Components
from jaxrec.data.interactions import Interactions

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little


@dataclasses.dataclass(frozen=True, eq=False)
class WithoutUser:
    """The exact zeros and ties without any one user of `data`.

    Attributes:
      data: U x I interactions X.
    """

    data: Interactions

    @cached_property
    def _x(self) -> Rows:
        x = self.data.to_csr(np.float32).copy()  # which shares no memory with the data
        x.sort_indices()
        return x

    @cached_property
    def _components(self) -> Components:
        return Components(self._x)

    @cached_property
    def _users(self) -> dict[bytes, int]:
        return {_name(self._x, user): user for user in range(self._x.shape[0])}

    def user_of(self, history: Rows) -> int | None:
        """A user of the data with the one row of `history`, or None."""
        return self._users.get(_name(history, 0))

    def clear(self, parts: tuple[np.ndarray, ...], history: Rows, fold_in: Rows) -> None:
        """Sets to 0, in place, what the weights between different items add to scores, where that is 0 exactly.

        Args:
          parts: matrices [B, I] of such sums.
          history: [B, I] what is left out.
          fold_in: [B, I] what is shown.
        """
        if self._components.is_one:
            return
        for row, (items, shown) in enumerate(zip(_lists(history), _lists(fold_in), strict=True)):
            labels = self._components.without(items)
            reached, count = np.unique(labels[shown], return_counts=True)
            if len(reached) <= 4:
                lost = np.ones(len(labels), bool)
                for label in reached:
                    lost &= labels != label
            else:
                lost = ~np.isin(labels, reached)
            lost = np.flatnonzero(lost)
            alone = shown[np.isin(labels[shown], reached[count == 1])]  # nothing else that is shown speaks for them
            for part in parts:
                part[row, lost] = part[row, alone] = 0

    def settle(self, scores: np.ndarray, history: Rows, fold_in: Rows, own: bool) -> None:
        """Makes scores [B, I] equal where they are exactly, and 0 where nobody else has an item, in place.

        Args:
          scores: of models that were each trained without one user.
          history: [B, I] what is left out.
          fold_in: [B, I] what is shown.
          own: whether items may speak for themselves.
        """
        self._tie(scores, history, fold_in)
        if own:
            row = np.repeat(np.arange(len(scores)), np.diff(history.indptr))
            private = self.data.item_counts[history.indices] == 1
            scores[row[private], history.indices[private]] = 0

    def _tie(self, scores: np.ndarray, history: Rows, fold_in: Rows) -> None:
        of_all, starts, sizes = self._twins
        rows = [np.repeat(np.arange(len(scores)), np.diff(part.indptr)) for part in (history, fold_in)]
        spared = np.concatenate(rows), np.concatenate([history.indices, fold_in.indices])
        before = scores[spared]
        if len(of_all):
            means = np.add.reduceat(scores[:, of_all].astype(np.float64), starts, axis=1) / sizes
            scores[:, of_all] = np.repeat(means, sizes, axis=1)
            scores[spared] = before  # what the user has is no twin of what others have
        for row, shown in enumerate(_lists(fold_in)):
            user = self.user_of(history[row : row + 1]) if self._tied_without else None
            for items in self._tied_without.get(user, ()) if user is not None else ():
                hidden = items[~np.isin(items, shown)]
                if len(hidden) > 1:
                    scores[row, hidden] = scores[row, hidden].mean(dtype=np.float64)

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """([nnz] a number for user and value of each entry, [I] their sum over the users of each item), mod 2^64."""
        draws = np.random.default_rng(0).integers(1, 2**63, self._x.shape[0], np.uint64)
        user = np.repeat(np.arange(self._x.shape[0]), np.diff(self._x.indptr))
        own = _mixed(draws[user] ^ (self._x.data.view(np.uint32).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
        total = np.zeros(self._x.shape[1], np.uint64)
        np.add.at(total, self._x.indices, own)
        return own, total

    @cached_property
    def _twins(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items that all users together do not tell apart, kind by kind: (items, where kinds start, sizes)."""
        total = self._hashes[1]
        return _kinds(np.flatnonzero(self.data.item_counts > 0), total)

    @cached_property
    def _tied_without(self) -> dict[int, list[np.ndarray]]:
        """Of each user, the lists of items that the others do not tell apart, with an item of the user in each."""
        own, total = self._hashes
        x = self._x
        user = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        rest = total[x.indices] - own  # the item without the user
        shared = self.data.item_counts[x.indices] > 1
        entries = np.flatnonzero(shared)
        order = np.argsort(total, kind="stable")
        sorted_total = total[order]
        first = np.searchsorted(sorted_total, rest[entries], "left")
        last = np.searchsorted(sorted_total, rest[entries], "right")
        by_user = entries[np.lexsort((rest[entries], user[entries]))]
        same = (user[by_user][1:] == user[by_user][:-1]) & (rest[by_user][1:] == rest[by_user][:-1])
        tied = np.zeros(len(user), bool)
        tied[entries[last > first]] = True
        tied[by_user[1:][same]] = tied[by_user[:-1][same]] = True
        chosen = by_user[tied[by_user]]
        found: dict[int, list[np.ndarray]] = {}
        if not len(chosen):
            return found
        new = np.flatnonzero((np.diff(user[chosen]) != 0) | (np.diff(rest[chosen]) != 0)) + 1
        for part in np.split(chosen, new):
            begin, end = (np.searchsorted(sorted_total, rest[part[0]], side) for side in ("left", "right"))
            found.setdefault(int(user[part[0]]), []).append(np.concatenate([x.indices[part], order[begin:end]]))
        return found


def _kinds(items: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The items of which several have one number, together: (items, where each number starts, how many have it)."""
    order = items[np.argsort(number[items], kind="stable")]
    _, where, counts = np.unique(number[order], return_inverse=True, return_counts=True)
    order, where = order[counts[where] > 1], where[counts[where] > 1]
    sizes = counts[counts > 1]
    return order, np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64), sizes


def _lists(rows: Rows) -> list[np.ndarray]:
    return np.split(rows.indices, rows.indptr[1:-1])


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each number stirred, so that sums of different ones do not meet (the finalizer of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _name(rows: Rows, row: int) -> bytes:
    begin, end = rows.indptr[row], rows.indptr[row + 1]
    items, values = rows.indices[begin:end], rows.data[begin:end].astype(np.float32)
    if (items[1:] < items[:-1]).any():
        order = np.argsort(items)
        items, values = items[order], values[order]
    return items.astype(np.int64).tobytes() + values.tobytes()
