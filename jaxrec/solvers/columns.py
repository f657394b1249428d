"""A square matrix split over devices by columns: its diagonal, some of its columns, and products."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxrec.runtime import parallel

HIGHEST = lax.Precision.HIGHEST
SMALL_COLUMN = 1e-2  # of the root mean square


def row_chunk(size: int, at_least: int = 1) -> int:
    """How many rows of a matrix of `size` rows to update at a time: a divisor of it, of at most 1024 and an eighth."""
    unit = math.gcd(size, 8) or 1
    most = max(at_least, unit, min(1024, size // 8))
    return max((d for d in range(unit, most + 1, unit) if size % d == 0), default=unit)


def on_diagonal(columns: Shaped[Array, "N m"], axis: str | None = None) -> Bool[Array, "N m"]:
    """[N, m] which entries of my columns of a square matrix lie on its diagonal."""
    n, m = columns.shape
    return jnp.arange(n)[:, None] == (parallel.axis_index(axis) * m + jnp.arange(m))[None, :]


def own_diagonal(columns: Shaped[Array, "N m"], axis: str | None = None) -> Shaped[Array, " m"]:
    """[m] my part of the diagonal of a square matrix, from my columns of it."""
    m = columns.shape[1]
    return columns[parallel.axis_index(axis) * m + jnp.arange(m), jnp.arange(m)]


def zero_diagonal(columns: Float[Array, "N m"], axis: str | None = None) -> Float[Array, "N m"]:
    """[N, m] my columns of the matrix with zeros on its diagonal."""
    return jnp.where(on_diagonal(columns, axis), 0, columns)


def without_diagonal(matrix: Any, items: np.ndarray) -> Any:
    """The matrix, made in place, with 0 on the diagonal of some items, on the host or split over devices."""
    if isinstance(matrix, np.ndarray):
        matrix[items, items] = 0
        return matrix
    return _without_diagonal(matrix, np.isin(np.arange(len(matrix)), items), mesh=parallel.mesh_of(matrix))


@partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def _without_diagonal(matrix, chosen, *, mesh):
    def kernel(own, chosen, axis):
        return jnp.where(on_diagonal(own, axis) & chosen[:, None], 0, own)

    split = (parallel.COLUMNS, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, split, parallel.COLUMNS)(matrix, chosen)


def take_columns(
    own: Shaped[Array, "N m"], columns: Int[ArrayLike, " S"], axis: str | None = None
) -> Shaped[Array, "N S"]:
    """[N, S] some columns of a matrix, from my columns of it, on every device."""
    m = own.shape[1]
    at = jnp.asarray(columns) - parallel.axis_index(axis) * m
    mine = (at >= 0) & (at < m)
    return parallel.psum(jnp.where(mine[None, :], own[:, jnp.clip(at, 0, m - 1)], 0), axis)


def columns_product(a: Float[Array, "R k"], b: Float[Array, "K m"], axis: str | None = None) -> Float[Array, "R m"]:
    """[R, m] my columns of A B, from mine of A and of B; rows of A are gathered chunk by chunk, never all of it.

    Cost: 2 R K m flops; received numbers R K; one chunk of at most 1024 rows of A and R/8.
    """
    product = partial(jnp.matmul, precision=HIGHEST)
    if axis is None:
        return product(a, b)
    chunks = a.reshape(-1, row_chunk(len(a)), a.shape[1])
    parts = lax.map(lambda rows: product(parallel.all_gather(rows, axis, dimension=1), b), chunks)
    return parts.reshape(len(a), b.shape[1])


def sample_columns(n: int, most: int = 64) -> np.ndarray:
    """[S] at most `most` of n columns in order, the same for every matrix of n: what certificates look at."""
    return np.sort(np.random.default_rng(0).permutation(n)[:most])


def sample_by(figures: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """([S] what to look at, [S] of how many each is an example): half of them the largest figures, half at random.

    The largest are examples of themselves alone, the others of all the rest. All of them if there are at most `most`.
    """
    n = len(figures)
    if n <= most:
        return np.arange(n), np.ones(n)
    order = np.argsort(-figures, kind="stable")
    largest, rest = order[: most // 2], order[most // 2 :]
    drawn = np.random.default_rng(0).permutation(rest)[: most - most // 2]
    return np.concatenate([largest, drawn]), np.repeat([1.0, len(rest) / len(drawn)], [len(largest), len(drawn)])


def columns_of(matrix: Any, columns: np.ndarray) -> np.ndarray:
    """[N, S] some columns of a matrix, in float64 on the host, wherever the matrix lies."""
    if isinstance(matrix, np.ndarray):
        return matrix[:, columns].astype(np.float64)
    return parallel.to_host(_columns_of(matrix, columns, parallel.mesh_of(matrix))).astype(np.float64)


@partial(jax.jit, static_argnames="mesh")
def _columns_of(matrix, columns, mesh):
    inputs = (parallel.COLUMNS, parallel.REPLICATED)
    return parallel.over_columns(take_columns, mesh, inputs, parallel.REPLICATED)(matrix, columns)


def largest_share(errors: np.ndarray, sizes: np.ndarray) -> float:
    """The largest relative error of a column, given the norms [N] of errors and of columns.

    Columns that are smaller than a hundredth of the others (in the root mean square) are measured by that: next to
    nothing is next to nothing, whatever its digits. 1 where all columns are 0 and should not be.
    """
    if not len(sizes) or not np.any(errors > 0):
        return 0.0
    least = SMALL_COLUMN * float(np.sqrt(np.mean(np.square(sizes))))
    return float(np.max(errors / np.maximum(sizes, least))) if least > 0 else 1.0
