"""The scaled covariance of items without its I x I matrix: its large entries, and its blocks on item neighbourhoods.

The sparse Markov random field (Steck, NeurIPS 2019) works on S = D(1/s) (X'X - U mu mu') D(1/s), where mu_j is the mean
of item j, v_j = (X'X)_jj - U mu_j^2 is U times its variance and s_j = v_j^(alpha/2). With q = 1/s and p = sqrt(U) mu/s,
S_ij = (X'X)_ij q_i q_j - p_i p_j: away from the few most popular items, a pair that shares no user has next to nothing.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxrec.closed_form.gram import EXACT_COUNTS
from jaxrec.data.interactions import Interactions
from jaxrec.runtime.threads import map_in_order

CACHE_ENTRIES = 2**26  # of X'X among the most popular items, kept dense
CONSTANT = 1e-12  # of (X'X)_jj: a smaller v_j is what rounding leaves of 0


@dataclasses.dataclass(frozen=True, eq=False)
class ScaledGram:
    """The matrix S, entry by entry where it is asked for; S = 0 where an item is constant (nobody's or everybody's).

    Attributes:
      by_item: [I, U] X', sparse.
      mean: [I] float64 mu.
      variance: [I] float64 v, U times the variance; 0 for constant items.
      inverse_scale: [I] float64 q; 0 for constant items.
      shift: [I] float64 p; 0 for constant items.
    """

    by_item: sp.csr_array
    mean: np.ndarray
    variance: np.ndarray
    inverse_scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, train: Interactions, alpha: float) -> ScaledGram:
        """S of the interactions; mu and v in float64, because v cancels.

        Args:
          train: U x I interactions X.
          alpha: 0 for the covariance, 1 for the correlation.
        """
        exact = train.is_binary and train.item_counts.max(initial=0) < EXACT_COUNTS
        by_item = train.to_csr(np.float32 if exact else np.float64).T.tocsr()
        values = by_item.astype(np.float64)
        mean = values.sum(axis=1) / train.n_users
        total = values.power(2).sum(axis=1)
        variance = total - train.n_users * mean**2
        variance[variance <= CONSTANT * total] = 0
        inverse_scale = np.where(variance > 0, np.maximum(variance, CONSTANT) ** (-alpha / 2), 0)
        return cls(by_item, mean, variance, inverse_scale, math.sqrt(train.n_users) * mean * inverse_scale)

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.mean)

    @cached_property
    def by_user(self) -> sp.csr_array:
        """[U, I] X, sparse."""
        return self.by_item.T.tocsr()

    @property
    def constant(self) -> np.ndarray:
        """[I] whether the item tells nobody from anybody."""
        return self.inverse_scale == 0

    @cached_property
    def _popular(self) -> tuple[np.ndarray, np.ndarray]:
        """X'X among the most popular items, dense, and [I] the place of each item in it, or -1."""
        size = min(self.n_items, math.isqrt(CACHE_ENTRIES))
        chosen = np.sort(np.argsort(-np.diff(self.by_item.indptr), kind="stable")[:size])
        rank = np.full(self.n_items, -1)
        rank[chosen] = np.arange(size)
        rows = self.by_item[chosen]
        columns = rows.T.tocsr()
        counts = np.empty((size, size), self.by_item.dtype)

        def fill(s: int) -> None:
            counts[s : s + 512] = (rows[s : s + 512] @ columns).toarray()

        list(map_in_order(fill, range(0, size, 512)))
        return counts, rank

    def columns(self, items: np.ndarray) -> np.ndarray:
        """[I, M] float64, the columns of M items."""
        counts = (self.by_item @ self.by_item[items].T).toarray().astype(np.float64)
        q, p = self.inverse_scale, self.shift
        return counts * (q[:, None] * q[items]) - p[:, None] * p[items]

    def times(self, right: np.ndarray) -> np.ndarray:
        """[I, M] float64 S right, through the sparse X."""
        q, p = self.inverse_scale[:, None], self.shift[:, None]
        return q * (self.by_item @ (self.by_user @ (q * right))) - p * (p.T @ right)

    def blocks(self, items: np.ndarray, sizes: np.ndarray, width: int, reg: float, dtype: Any) -> np.ndarray:
        """[N, width, width] the blocks of S + reg I on N lists of items, each padded *in front* with the identity.

        Args:
          items: the lists, one after another.
          sizes: [N] their lengths, at most `width`.
          width: of the result.
          reg: added to the diagonal.
          dtype: of the result.

        Cost: the sum over lists and users of the squared number of the user's items that are in the list.
        """
        n, n_users = len(sizes), len(self.by_user.indptr) - 1
        block = np.repeat(np.arange(n), sizes)
        place = np.arange(len(items)) + np.repeat(width - np.cumsum(sizes), sizes)
        out = np.zeros((n, width, width), dtype)
        flat = out.reshape(-1)
        first = (block * width + place) * width  # of the row of each item
        known, rank = self._popular
        ranks = rank[items]
        for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
            at = np.flatnonzero(ranks[stop - size : stop] >= 0) + stop - size
            flat[first[at][:, None] + place[at]] = known.take(ranks[at][:, None] * len(known) + ranks[at])
        rare = np.flatnonzero(ranks < 0)
        if len(rare):
            # A user of each block of its own: one sparse product then gives all blocks and nothing between them.
            rows = self.by_item[items]
            lengths = np.diff(rows.indptr)
            keys = rows.indices + np.repeat(block * n_users, lengths)
            is_rare = np.repeat(ranks < 0, lengths)
            users = _places(keys, keys[is_rare], n * n_users)  # all that is of use: those who have a rare item
            of_use = users >= 0
            starts = np.concatenate([[0], np.cumsum(of_use)])[rows.indptr]
            shape = (len(items), int(is_rare.sum()))
            apart = sp.csr_array((rows.data[of_use], users[of_use], starts), shape=shape)
            counts = apart[rare] @ apart.T.tocsr()
            row = np.repeat(rare, np.diff(counts.indptr))
            flat[first[row] + place[counts.indices]] = counts.data
            flat[first[counts.indices] + place[row]] = counts.data
        q, p = np.zeros((2, n, width), dtype)
        q[block, place], p[block, place] = self.inverse_scale[items], self.shift[items]
        out *= q[:, :, None]
        out *= q[:, None, :]
        out -= p[:, :, None] * p[:, None, :]
        np.einsum("njj->nj", out)[...] += np.where(np.arange(width) < width - sizes[:, None], 1, reg)
        return out


_scratch = threading.local()


def _places(keys: np.ndarray, among: np.ndarray, n_keys: int) -> np.ndarray:
    """[N] a place of every key in `among`, the same for equal keys, or -1: a sparse set, whose table is never cleared.

    Args:
      keys: [N] integers in [0, n_keys).
      among: [M] such integers, M at least 1; may repeat.
      n_keys: size of the table, which each thread keeps.
    """
    if len(getattr(_scratch, "table", ())) < n_keys:
        _scratch.table = np.zeros(n_keys, np.int32)
    table = _scratch.table
    table[among] = np.arange(len(among))
    place = np.minimum(table[keys], len(among) - 1)  # what an earlier call left may lie beyond
    return np.where(among[place] == keys, place, -1)
