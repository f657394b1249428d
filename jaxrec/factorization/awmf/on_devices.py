"""The products of `on_host` in JAX, on one device or a mesh.

Tables of users (X A) and of items (A, V) are split by rows, rows of all lengths on every device. A product with X
gathers the other side's whole table on every device, a Gram matrix is a sum over devices of K x K numbers.
"""

from __future__ import annotations

import functools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxrec.factorization import ridge
from jaxrec.factorization.ridge import RegressionBatch, Regressions, Solved
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import HIGHEST


class OnDevices:
    """The products in batches of padded rows; for the meaning of each see `OnHost`.

    Args:
      x: [U, I] X.
      users: the weights by user, with ridge 0.
      items: the regressions of the items.
      spectrum: of X'D(p)X, a `JointSpectrum`, for `precondition`.
      rank: K.
      mesh: what `parallel.make_mesh` returned.
    """

    def __init__(self, x: sp.csr_array, users: Regressions, items: Regressions, spectrum: Any, rank: int, mesh: Any):
        self.dtype, self.mesh, self.ridge = jnp.zeros(()).dtype, mesh, spectrum.ridge
        self.at_users, self.at_items = (ridge.positions(rows.counts, mesh.size) for rows in (users, items))
        by_item: Any = x.T.tocsr()
        made = []
        for pair in ((users, items), (_sums(x), _sums(by_item))):
            shapes = ridge.shapes(list(pair), rank, mesh.size, square=pair[0] is users)
            made.append(ridge.side(pair[0], self.at_users, self.at_items, shapes, mesh))
            made.append(ridge.side(pair[1], self.at_items, self.at_users, shapes, mesh))
        self.users, self.items, self.x, self.by_item = made
        self.empty_users = ridge.put(np.zeros((self.at_users[1], rank)), mesh)
        self.empty_items = ridge.put(np.zeros((self.at_items[1], rank)), mesh)
        self.ones_users, self.ones_items = (ridge.put(np.ones(at[1]), mesh) for at in (self.at_users, self.at_items))
        diagonal = spectrum.basis is None
        table = np.asarray(spectrum.scale if diagonal else spectrum.basis)
        values = ridge.at_positions(spectrum.values, self.at_items) if diagonal else spectrum.values
        self.spectrum = (
            ridge.put(ridge.at_positions(table, self.at_items), mesh),
            ridge.put(values, mesh) if diagonal else self._shared(values),
        )
        self.compiled = _compiled(mesh)

    def _shared(self, array: Any) -> Any:
        return parallel.place(np.asarray(array, self.dtype), self.mesh, parallel.REPLICATED)

    def place(self, table: np.ndarray) -> Any:
        """A table of the items, from the host."""
        return ridge.put(ridge.at_positions(np.asarray(table), self.at_items), self.mesh)

    def fetch(self, table: Any) -> np.ndarray:
        """The opposite of `place`."""
        return parallel.to_host(table)[self.at_items[0]]

    def _over(self, kernel: Any, side: Any, own: Any, other: Any, *shared: Any) -> Any:
        return ridge.over_batches(kernel, side, own, other, self.mesh, *shared)

    def encode(self, a: Any) -> Any:
        """[U, K] X A."""
        return self._over(self.compiled.sum, self.x, self.empty_users, a)[0]

    def back(self, y: Any) -> Any:
        """[I, K] X'Y."""
        return self._over(self.compiled.sum, self.by_item, self.empty_items, y)[0]

    def right(self, v: Any) -> Any:
        """[U, K] (W o X) V."""
        return self._over(self.compiled.sum, self.users, self.empty_users, v)[0]

    def weigh(self, z: Any, v: Any, gram: Any) -> Any:
        """[U, K] (W o (Z V')) V; rows of users without entries are 0, as their Z is."""
        return self._over(self.compiled.weigh, self.users, z, v, gram)[0]

    def decode(self, z: Any, start: Any) -> Solved:
        """The exact V given Z, item by item."""
        table, sums = self._over(self.compiled.solve, self.items, start, z, self.user_gram(z))
        return Solved(table, *sums)

    def user_gram(self, z: Any, weighted: bool = True) -> Any:
        """[K, K] Z'D(p)Z, or Z'Z."""
        return ridge.table_operations(self.mesh).gram(z, self.items.col if weighted else self.ones_users)

    def item_gram(self, v: Any) -> Any:
        """[K, K] V'D(q)V."""
        return ridge.table_operations(self.mesh).gram(v, self.users.col)

    def gram(self, table: Any) -> Any:
        """[K, K] of a table of the items."""
        return ridge.table_operations(self.mesh).gram(table, self.ones_items)

    def turned(self, table: Any, by: Any) -> Any:
        """[I, K] a table of the items times a K x K matrix."""
        return ridge.table_operations(self.mesh).turned(table, self._shared(by))

    def precondition(self, r: Any, t: np.ndarray, turn: np.ndarray, ridge: float) -> Any:
        """[I, K] the A that solves the equations with S = 0 and right-hand side r."""
        return self.compiled.precondition(r, *self.spectrum, self._shared(t), self._shared(turn), self._shared(ridge))

    def orthonormal(self, table: Any) -> tuple[Any, Any]:
        """Q [I, K] and R [K, K] with table = Q R; the table is gathered."""
        return self.compiled.orthonormal(table)

    def dot(self, a: Any, b: Any) -> float:
        """The sum of a b."""
        return float(self.compiled.dot(a, b))


def _sums(matrix: Any) -> Regressions:
    """The rows of a sparse matrix as what `summed` takes: its entries are the targets."""
    n, m = matrix.shape
    none = np.zeros(matrix.nnz)
    return Regressions(matrix.indptr, matrix.indices, none, matrix.data, np.zeros(n), np.zeros(n), np.zeros(m))


def summed(systems: RegressionBatch, gathered: Any, start: Any, axis: str | None = None) -> tuple[Any]:
    """[B, K] sums of the gathered factors of each row times its targets."""
    return (ridge.right_sides(systems, gathered),)


def weighed(systems: RegressionBatch, gathered: Any, z: Any, gram: Any, axis: str | None = None) -> tuple[Any]:
    """[B, K] the weighted predictions of each row times the gathered factors."""
    return (ridge.apply(systems, gathered, gram, z),)


def solved(systems: RegressionBatch, gathered: Any, start: Any, gram: Any, axis: str | None = None) -> Solved:
    """[B, K] the exact solutions, and the sums of `Solved` over all devices."""
    found = ridge.cholesky(systems, gathered, gram, start)
    return Solved(found.factors, *(parallel.psum(part, axis) for part in found[1:]))


def preconditioned(r: Any, table: Any, values: Any, t: Any, turn: Any, reg: Any, axis: str | None = None) -> Any:
    """My rows of E C turn' with C = (E' r turn) / (s t' + reg).

    Args:
      r: [I, K] my rows of the right-hand side.
      table: [I, N] my rows of E, or [I] its diagonal.
      values: [N] s, or [I] my part of it where E is diagonal.
      t: [K] eigenvalues of V'D(q)V.
      turn: [K, K] its eigenvectors.
      reg: scalar.
      axis: the mesh axis that the items are split over, or None.
    """
    product = partial(jnp.matmul, precision=HIGHEST)
    below = values[:, None] * t[None, :] + reg
    if table.ndim == 1:
        below = jnp.where(below == 0, 1, below)  # of padding
        return table[:, None] * product(product(table[:, None] * r, turn) / below, turn.T)
    inner = parallel.psum(product(table.T, product(r, turn)), axis)
    return product(table, product(inner / below, turn.T))


class Compiled(NamedTuple):
    """The kernels above, jitted for a mesh."""

    sum: Any
    weigh: Any
    solve: Any
    dot: Any
    precondition: Any
    orthonormal: Any


@functools.cache
def _compiled(mesh: Any) -> Compiled:
    rows, same = parallel.ROWS, parallel.REPLICATED
    over = partial(parallel.over_columns, mesh=mesh)
    exact = jax.jit(over(preconditioned, inputs=(rows, rows, same, same, same, same), outputs=rows))
    diagonal = jax.jit(over(preconditioned, inputs=(rows, rows, rows, same, same, same), outputs=rows))
    placed = parallel.sharding(mesh, rows), parallel.sharding(mesh, same)

    def dot(a, b, axis):
        return parallel.psum(jnp.sum(a * b), axis)

    return Compiled(
        sum=jax.jit(over(summed, inputs=(rows, rows, rows), outputs=(rows,))),
        weigh=jax.jit(over(weighed, inputs=(rows, rows, rows, same), outputs=(rows,))),
        solve=jax.jit(over(solved, inputs=(rows, rows, rows, same), outputs=Solved(rows, *[same] * 6))),
        dot=jax.jit(over(dot, inputs=(rows, rows), outputs=same)),
        precondition=lambda r, table, *rest: (diagonal if table.ndim == 1 else exact)(r, table, *rest),
        orthonormal=jax.jit(lambda table: tuple(jnp.linalg.qr(parallel.replicate(table, mesh))), out_shardings=placed),
    )
