"""The solver of the closed forms on accelerators and meshes: in place, every matrix split by columns, nothing gathered.

The same answer as `jaxrec.closed_form.solve`, which is for one device and can be differentiated.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrec import linalg, parallel


def solve_columns(
    gram: Float[Array, "N m"],
    penalty: Float[Array, " m"],
    diagonal_limit: Any,
    cut: linalg.Blocks,
    precision: Any = linalg.HIGHEST,
    axis: str | None = None,
) -> tuple[Array, Any]:
    """[N, m] my columns of B = I - C D(s), and [m] 1 / C_jj; in place, where the caller donates `gram`.

    Args:
      gram: [N, m] my columns of X'X, padded with empty items.
      penalty: [m] my part of the diagonal of Lambda; anything above 0 where padded.
      diagonal_limit: scalar xi in [0, 1].
      cut: how the sweep cuts N. Static.
      precision: of every product. Static.
      axis: the mesh axis over which columns are split, or None.

    Cost: 2 N^2 m flops on each device; one N x m matrix, and the panels of `linalg.sweep`. Only the sweep communicates.
    """
    m = gram.shape[1]
    columns = jnp.arange(m)
    rows = parallel.axis_index(axis) * m + columns  # of the diagonal
    penalised = gram.at[rows, columns].add(penalty)
    negative = linalg.sweep(penalised, block=cut.block, chunk=cut.chunk, precision=precision, axis=axis)
    unexplained = -1 / negative[rows, columns]
    s = jnp.maximum((1 - diagonal_limit) * unexplained, penalty)
    diagonal = jnp.where(diagonal_limit > 0, jnp.maximum(0, 1 - s / unexplained), 0)
    on_diagonal = jnp.arange(gram.shape[0])[:, None] == rows[None, :]
    return jnp.where(on_diagonal, diagonal[None, :], negative * s[None, :]), unexplained


@partial(jax.jit, static_argnames=("mesh", "cut", "precision"), donate_argnums=0)
def _solve_on_mesh(gram, penalty, diagonal_limit, *, mesh, cut, precision=linalg.HIGHEST):
    kernel = partial(solve_columns, cut=cut, precision=precision)
    inputs = (parallel.COLUMNS, parallel.ROWS, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, inputs, (parallel.COLUMNS, parallel.ROWS))(gram, penalty, diagonal_limit)


def solve_on_mesh(
    gram: Array, penalty: np.ndarray, diagonal_limit: float, mesh: Any, cut: linalg.Blocks
) -> tuple[Array, Any]:
    """The optimum in place on a mesh: the memory of the Gram matrix becomes that of the weights.

    Args:
      gram: [N, N] X'X in float32, padded with empty items and split by columns. Donated.
      penalty: [I] diagonal of Lambda, above 0.
      diagonal_limit: xi in [0, 1], the largest diagonal.
      mesh: what `parallel.make_mesh` returned.
      cut: what `linalg.blocks` returned for I items on this mesh.

    Returns:
      Weights [N, N], split by columns, zero where padded; and 1 / C_jj, [I] on the host.
    """
    n = len(penalty)
    padded = np.pad(penalty.astype(np.float32), (0, cut.size - n), constant_values=1)
    placed = parallel.place(padded, mesh, parallel.ROWS)
    weights, unexplained = _solve_on_mesh(gram, placed, np.float32(diagonal_limit), mesh=mesh, cut=cut)
    return weights, parallel.to_host(unexplained)[:n]


def respond(weights: Any, signs: np.ndarray) -> np.ndarray:
    """[I, P] B z of each probe, wherever the weights lie, in their precision."""
    if isinstance(weights, np.ndarray):
        return weights @ signs
    padded = np.pad(signs, ((0, weights.shape[0] - len(signs)), (0, 0)))
    return parallel.to_host(_respond_on_mesh(weights, padded, mesh=parallel.mesh_of(weights)))[: len(signs)]


@partial(jax.jit, static_argnames="mesh")
def _respond_on_mesh(weights, signs, *, mesh):
    def kernel(columns, part, axis):
        return parallel.psum(jnp.matmul(columns, part, precision=linalg.HIGHEST), axis)

    return parallel.over_columns(kernel, mesh, (parallel.COLUMNS, parallel.ROWS), parallel.REPLICATED)(weights, signs)
