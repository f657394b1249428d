"""The solver of the closed forms on accelerators and meshes: in place, every matrix split by columns, nothing gathered.

The same answer as `jaxrec.closed_form.kernel.solve`, which is for one device and can be differentiated.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrec.closed_form.kernel import Solution, scale
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import on_diagonal, own_diagonal
from jaxrec.solvers.spd import SweepLayout, inverse_columns, negative_inverse, sweep_layout


def solve_columns(
    gram: Float[Array, "N m"],
    penalty: Float[Array, " m"],
    diagonal_limit: Any,
    layout: SweepLayout,
    axis: str | None = None,
) -> tuple[Array, Any]:
    """[N, m] my columns of B = I - C D(s), and [m] 1 / C_jj; in place, where the caller donates `gram`.

    Args:
      gram: [N, m] my columns of X'X, padded with empty items.
      penalty: [m] my part of the diagonal of Lambda; anything above 0 where padded.
      diagonal_limit: scalar xi in [0, 1].
      layout: of the N x N matrix, from `sweep_layout`. Static.
      axis: the mesh axis over which columns are split, or None.

    Cost: 2 N^2 m flops on each device; one N x m matrix, and the panels of `negative_inverse`,
    which alone communicates.
    """
    whole = penalised(gram, penalty, axis)
    negative = negative_inverse(whole, layout, axis)
    unexplained = -1 / own_diagonal(negative, axis)
    s = scale(unexplained, penalty, diagonal_limit)
    diagonal = jnp.where(diagonal_limit > 0, jnp.maximum(0, 1 - s / unexplained), 0)
    return jnp.where(on_diagonal(gram, axis), diagonal[None, :], negative * s[None, :]), unexplained


def penalised(gram: Float[Array, "N m"], penalty: Float[Array, " m"], axis: str | None = None) -> Float[Array, "N m"]:
    """[N, m] my columns of X'X + D(penalty)."""
    return gram + jnp.where(on_diagonal(gram, axis), penalty[None, :], 0)


@partial(jax.jit, static_argnames=("mesh", "layout"), donate_argnums=0)
def _solve_on_mesh(gram, penalty, diagonal_limit, *, mesh, layout):
    kernel = partial(solve_columns, layout=layout)
    inputs = (parallel.COLUMNS, parallel.ROWS, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, inputs, (parallel.COLUMNS, parallel.ROWS))(gram, penalty, diagonal_limit)


def solve_on_mesh(gram: Array, penalty: np.ndarray, diagonal_limit: float, mesh: Any) -> Solution:
    """The optimum in place on a mesh: the weights come to stand in the memory of the Gram matrix.

    Args:
      gram: [N, N] X'X in float32, padded with empty items and split by columns. Donated.
      penalty: [I] diagonal of Lambda, above 0.
      diagonal_limit: xi in [0, 1], the largest diagonal.
      mesh: what `parallel.make_mesh` returned.

    Returns:
      The solution with weights [N, N], split by columns, zero where padded; and 1 / C_jj, [I] on the host.
    """
    layout = sweep_layout(len(penalty), mesh.size)
    placed = place_penalty(penalty, mesh, layout.size)
    weights, unexplained = _solve_on_mesh(gram, placed, np.float32(diagonal_limit), mesh=mesh, layout=layout)
    return Solution(weights, parallel.to_host(unexplained)[: len(penalty)])


def place_penalty(penalty: np.ndarray, mesh: Any, size: int, fill: float = 1.0) -> Array:
    """[N] the diagonal of Lambda in float32, split as the columns of the Gram matrix are; `fill` where padded."""
    padded = np.pad(np.asarray(penalty, np.float32), (0, size - len(penalty)), constant_values=fill)
    return parallel.place(padded, mesh, parallel.ROWS)


@partial(jax.jit, static_argnames=("mesh", "layout"), donate_argnums=0)
def _invert(gram, penalty, mesh, layout):
    def kernel(gram, penalty, axis):
        return inverse_columns(penalised(gram, penalty, axis), layout, axis)

    return parallel.over_columns(kernel, mesh, (parallel.COLUMNS, parallel.ROWS), parallel.COLUMNS)(gram, penalty)


def invert(gram: Array, penalty: np.ndarray, mesh: Any = None, fill: float = 1.0) -> Float[Array, "N N"]:
    """[N, N] (X'X + D(penalty))^-1: whole on the default device, or on a mesh, padded and split by columns.

    Args:
      gram: [N, N] X'X in float32, from `default_gram` on the same mesh. Donated.
      penalty: [I] diagonal of Lambda, above 0.
      mesh: what `parallel.make_mesh` returned, or None.
      fill: the penalty of the items that only pad.

    Cost: 2 N^3 flops, in the memory of `gram`.
    """
    layout = sweep_layout(len(penalty), mesh.size if mesh else 1)
    placed = place_penalty(penalty, mesh, layout.size, fill) if mesh else jnp.asarray(penalty, jnp.float32)
    return _invert(gram, placed, mesh, layout)
