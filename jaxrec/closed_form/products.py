"""Products with item-item weights from either side, wherever they lie and whatever they were scaled by."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.runtime import parallel
from jaxrec.solvers.columns import HIGHEST


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """The matrix D(left) (M - D(diagonal)) D(right) of which only M is stored: an optimum seen through a model of it.

    Attributes:
      matrix: [N, N] M, maybe padded; on the host or on devices.
      left: [I] factors of rows, or a scalar.
      diagonal: [I], or a scalar.
      right: [I] factors of columns, or a scalar.
    """

    matrix: Any
    left: Any = 1.0
    diagonal: Any = 0.0
    right: Any = 1.0

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers of M."""
        return np.dtype(self.matrix.dtype)


def weights_times(weights: Any, vectors: np.ndarray) -> np.ndarray:
    """[I, P] float64 B z of each vector, computed where the weights lie and in their precision."""
    if isinstance(weights, Rescaled):
        left, diagonal, right = (np.reshape(part, (-1, 1)) for part in (weights.left, weights.diagonal, weights.right))
        vectors = right * vectors
        return left * (weights_times(weights.matrix, vectors) - diagonal * vectors)
    rounded = vectors.astype(weights.dtype)
    if isinstance(weights, np.ndarray):
        return (weights @ rounded).astype(np.float64)
    padded = np.pad(rounded, ((0, weights.shape[0] - len(rounded)), (0, 0)))
    found = parallel.to_host(_times_on_mesh(weights, padded, mesh=parallel.mesh_of(weights)))
    return found[: len(vectors)].astype(np.float64)


def times_weights(rows: np.ndarray, weights: Any) -> np.ndarray:
    """[P, I] float64 z'B of each row, computed where the weights lie and in their precision."""
    if isinstance(weights, Rescaled):
        left, diagonal, right = (np.reshape(part, (1, -1)) for part in (weights.left, weights.diagonal, weights.right))
        rows = rows * left
        return (times_weights(rows, weights.matrix) - rows * diagonal) * right
    rounded = rows.astype(weights.dtype)
    if isinstance(weights, np.ndarray):
        return (rounded @ weights).astype(np.float64)
    padded = np.pad(rounded, ((0, 0), (0, weights.shape[0] - rounded.shape[1])))
    found = parallel.to_host(_rows_times_on_mesh(padded, weights, mesh=parallel.mesh_of(weights)))
    return found[:, : rows.shape[1]].astype(np.float64)


@partial(jax.jit, static_argnames="mesh")
def _times_on_mesh(weights, vectors, *, mesh):
    def kernel(columns, part, axis):
        return parallel.psum(jnp.matmul(columns, part, precision=HIGHEST), axis)

    inputs = (parallel.COLUMNS, parallel.ROWS)
    return parallel.over_columns(kernel, mesh, inputs, parallel.REPLICATED)(weights, vectors)


@partial(jax.jit, static_argnames="mesh")
def _rows_times_on_mesh(rows, weights, *, mesh):
    def kernel(rows, columns, axis):
        return jnp.matmul(rows, columns, precision=HIGHEST)

    inputs = (parallel.REPLICATED, parallel.COLUMNS)
    return parallel.over_columns(kernel, mesh, inputs, parallel.COLUMNS)(rows, weights)
