"""What is shown of each user, counted by the components of the items, with all users or without the one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrec.closed_form.components import Components

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little
Places = tuple[Any, np.ndarray]  # rows and items, of equal length, or one row and some items


class Shown:
    """What is shown of B users.

    Attributes:
      counts: [B, components] how many items of each component.
    """

    def __init__(self, fold_in: Rows, components: Components):
        self._cuts, self._labels = components.cuts, components.labels
        self._row = np.repeat(np.arange(fold_in.shape[0]), np.diff(fold_in.indptr))
        self._item = fold_in.indices
        shape = fold_in.shape[0], int(self._labels.max(initial=-1)) + 1
        cells = self._row * shape[1] + self._labels[self._item]
        self.counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

    def alone(self) -> Places:
        """What is shown as the only item of its component: nothing else that is shown speaks for it."""
        alone = self.counts[self._row, self._labels[self._item]] == 1
        return self._row[alone], self._item[alone]

    def lost_without(self, users: np.ndarray) -> Iterator[Places]:
        """What nothing that is shown speaks for only because a user is taken out.

        Args:
          users: [B] who is taken out of the data, -1 for nobody.
        """
        cuts = self._cuts
        size, first = len(cuts.order), np.searchsorted(cuts.user, users, "left")
        many = np.searchsorted(cuts.user, users, "right") - first
        row = np.repeat(np.arange(len(users)), many)  # of each stretch that a user cuts off
        stretch = np.arange(len(row)) + np.repeat(first - np.cumsum(many) + many, many)
        begin, end = cuts.begin[stretch], cuts.end[stretch]

        keys = self._row * size + cuts.place[self._item]
        by_place = np.argsort(keys)
        keys = keys[by_place]
        earlier = np.searchsorted(keys, row * size + begin)
        inside = np.searchsorted(keys, row * size + end) - earlier
        one = inside == 1
        yield row[one], self._item[by_place[earlier[one]]]
        single = (inside == 0) & (end == begin + 1)
        yield row[single], cuts.order[begin[single]]  # an item: users stand below items
        for k in np.flatnonzero((inside == 0) & ~single):
            yield row[k], cuts.items(stretch[k])

        # And of the component of the user, what is not cut off.
        left = -np.bincount(row, inside, len(users)).astype(np.int64)
        label = np.full(len(users), -1)
        label[row] = self._labels[cuts.order[begin]]
        rows = np.flatnonzero(label >= 0)
        left[rows] += self.counts[rows, label[rows]]
        for r in rows[left[rows] <= 1]:
            rest = self._labels == label[r]
            for k in stretch[row == r]:
                rest[cuts.items(k)] = False
            if left[r] == 1:
                shown = self._item[self._row == r]
                yield r, shown[rest[shown]]
            else:
                yield r, np.flatnonzero(rest)
