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
from jaxrec.closed_form.without_user.shown import Shown
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
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """(sums of the hashes of the rows, ascending; the user of each)."""
        sums = _row_sums(self._x)
        order = np.argsort(sums, kind="stable")
        return sums[order], order

    def users_of(self, history: Rows) -> np.ndarray:
        """[B] a user of the data with each of the rows, -1 where there is none."""
        sums, users = self._known
        wanted = _row_sums(history)
        at = np.minimum(np.searchsorted(sums, wanted), len(sums) - 1)
        return np.where(sums[at] == wanted, users[at], -1)

    def clear(self, parts: tuple[np.ndarray, ...], history: Rows, fold_in: Rows) -> None:
        """Sets to 0, in place, what the weights between different items add to scores, where that is 0 exactly.

        Args:
          parts: matrices [B, I] of such sums.
          history: [B, I] what is left out.
          fold_in: [B, I] what is shown.
        """
        if self._components.is_one:
            return
        labels, shown = self._components.labels, Shown(fold_in, self._components)
        largest = int(np.bincount(labels).argmax())
        far, near = np.flatnonzero(labels != largest), np.flatnonzero(labels == largest)
        reached = shown.counts > 0
        away = np.flatnonzero(~reached[:, largest])
        lost = [shown.alone(), *shown.lost_without(self.users_of(history))]
        for part in parts:
            part[:, far] = np.where(reached[:, labels[far]], part[:, far], 0)
            part[np.ix_(away, near)] = 0
            for rows, items in lost:
                part[rows, items] = 0

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
        if not self._tied_without:
            return
        for row, user in enumerate(self.users_of(history).tolist()):
            for items in self._tied_without.get(user, ()):
                hidden = items[~np.isin(items, fold_in.indices[fold_in.indptr[row] : fold_in.indptr[row + 1]])]
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
        new = (np.diff(user[chosen]) != 0) | (np.diff(rest[chosen]) != 0)
        first = np.concatenate([[0], np.flatnonzero(new) + 1])
        begins, ends = (np.searchsorted(sorted_total, rest[chosen[first]], side) for side in ("left", "right"))
        for owner, part, begin, end in zip(user[chosen[first]], np.split(chosen, first[1:]), begins, ends, strict=True):
            found.setdefault(int(owner), []).append(np.concatenate([x.indices[part], order[begin:end]]))
        return found


def _kinds(items: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The items of which several have one number, together: (items, where each number starts, how many have it)."""
    order = items[np.argsort(number[items], kind="stable")]
    _, where, counts = np.unique(number[order], return_inverse=True, return_counts=True)
    order, where = order[counts[where] > 1], where[counts[where] > 1]
    sizes = counts[counts > 1]
    return order, np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64), sizes


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each number stirred, so that sums of different ones do not meet (the finalizer of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _row_sums(rows: Rows) -> np.ndarray:
    """[B] a number for the items and values of each row, mod 2^64."""
    values = rows.data.astype(np.float32).view(np.uint32).astype(np.uint64)
    own = _mixed((rows.indices.astype(np.uint64) << np.uint64(32)) | values)
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(own, dtype=np.uint64)])
    return total[rows.indptr[1:]] - total[rows.indptr[:-1]]
