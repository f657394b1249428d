"""Products with X and with the weighted errors on the host, for the sweeps of `awmf`.

Z = X A belongs to the users, A and V to the items. `on_devices` has the same products for devices, so that a
sweep is written once.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from jaxrec.factorization import ridge
from jaxrec.factorization.ridge import Regressions, Solved
from jaxrec.runtime.threads import map_in_order

ENTRIES_AT_ONCE = 2**15  # of predictions on the host: gathered factors then stay in the cache
ROWS_OF_ENTRIES = 2**18


class OnHost:
    """The products in sparse matrices on the CPU.

    Args:
      x: [U, I] X.
      users: the weights by user.
      items: the regressions of the items.
      spectrum: of X'D(p)X, a `JointSpectrum`, for `precondition`.
      dtype: float32 or float64.
    """

    def __init__(self, x: sp.csr_array, users: Regressions, items: Regressions, spectrum: Any, dtype: Any):
        self.dtype = dtype
        self.x: Any = x.astype(dtype)
        self.by_item: Any = self.x.T.tocsr()
        self.users, self.items, self.spectrum, self.ridge = users, items, spectrum, spectrum.ridge
        shape = len(users.scale), len(users.col)
        self.targets: Any = sp.csr_array((users.targets.astype(dtype), users.indices, users.indptr), shape)
        self.weights = users.weights.astype(dtype)
        self.p, self.q = users.scale.astype(dtype), users.col.astype(dtype)

    def place(self, table: np.ndarray) -> np.ndarray:
        """A table of the items, from the host."""
        return np.ascontiguousarray(table, self.dtype)

    def fetch(self, table: np.ndarray) -> np.ndarray:
        """The opposite of `place`."""
        return table

    def encode(self, a: np.ndarray) -> np.ndarray:
        """[U, K] X A; 2 nnz K flops."""
        return _product(self.x, a)

    def back(self, y: np.ndarray) -> np.ndarray:
        """[I, K] X'Y."""
        return _product(self.by_item, y)

    def right(self, v: np.ndarray) -> np.ndarray:
        """[U, K] (W o X) V."""
        return _product(self.targets, v)

    def weigh(self, z: np.ndarray, v: np.ndarray, gram: np.ndarray) -> np.ndarray:
        """[U, K] (W o (Z V')) V = D(p) Z gram + (S o (Z V')) V; 4 nnz K + 2 U K^2 flops."""
        y = z @ np.asarray(gram, self.dtype)
        y *= self.p[:, None]
        if not self.weights.any():
            return y

        @np.errstate(all="ignore")  # which threads do not inherit
        def add(rows: slice) -> None:
            first = self.users.indptr[rows.start]
            indptr = self.users.indptr[rows.start : rows.stop + 1] - first
            items = self.users.indices[first : first + indptr[-1]]
            row = np.repeat(np.arange(rows.start, rows.stop), np.diff(indptr))
            values = self.weights[first : first + indptr[-1]].copy()
            for start in range(0, len(row), ENTRIES_AT_ONCE):
                some = slice(start, start + ENTRIES_AT_ONCE)
                values[some] *= np.einsum("ek,ek->e", z[row[some]], v[items[some]])
            y[rows] += sp.csr_array((values, items, indptr), (rows.stop - rows.start, len(v))) @ v

        for _ in map_in_order(add, _cuts(self.users.indptr)):
            pass
        return y

    def decode(self, z: np.ndarray, start: np.ndarray) -> Solved:
        """The exact V given Z, item by item."""
        return ridge.solve_on_host(self.items, z, self.user_gram(z), start)

    def user_gram(self, z: np.ndarray, weighted: bool = True) -> np.ndarray:
        """[K, K] Z'D(p)Z, or Z'Z."""
        return z.T @ (self.p[:, None] * z) if weighted else z.T @ z

    def item_gram(self, v: np.ndarray) -> np.ndarray:
        """[K, K] V'D(q)V."""
        return v.T @ (self.q[:, None] * v)

    def gram(self, table: np.ndarray) -> np.ndarray:
        """[K, K] of a table of the items."""
        return table.T @ table

    def turned(self, table: np.ndarray, by: np.ndarray) -> np.ndarray:
        """[I, K] a table of the items times a K x K matrix."""
        return table @ by.astype(self.dtype)

    def precondition(self, r: np.ndarray, t: np.ndarray, turn: np.ndarray, ridge: float) -> np.ndarray:
        """[I, K] the A that solves the equations with S = 0 and right-hand side r, where V'D(q)V = turn D(t) turn'."""
        turn, s = turn.astype(self.dtype), self.spectrum.values[:, None]
        below = (s * t[None, :] + ridge).astype(self.dtype)
        if self.spectrum.basis is None:
            scale = self.spectrum.scale[:, None].astype(self.dtype)
            return (((scale * r) @ turn) / below) @ turn.T * scale
        basis = self.spectrum.basis
        return basis @ ((((basis.T @ r) @ turn) / below) @ turn.T)

    def orthonormal(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Q [I, K] and R [K, K] with table = Q R."""
        return scipy.linalg.qr(table, mode="economic", check_finite=False)  # pyright: ignore[reportReturnType]

    def dot(self, a: np.ndarray, b: np.ndarray) -> float:
        """The sum of a b."""
        return float(np.einsum("ik,ik->", a, b, dtype=np.float64))


def _cuts(indptr: np.ndarray) -> list[slice]:
    last = len(indptr) - 1
    edges = np.searchsorted(indptr, np.arange(0, indptr[-1] + ROWS_OF_ENTRIES, ROWS_OF_ENTRIES)).clip(0, last)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(np.unique(np.append(edges, last)))]


def _product(matrix: Any, table: np.ndarray) -> np.ndarray:
    """Sparse times dense, blocks of rows on all threads."""
    out = np.empty((matrix.shape[0], table.shape[1]), table.dtype)

    def fill(rows: slice) -> None:
        out[rows] = matrix[rows] @ table

    for _ in map_in_order(fill, _cuts(matrix.indptr)):
        pass
    return out
