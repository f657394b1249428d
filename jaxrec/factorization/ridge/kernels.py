"""The kernels: B ridge regressions at a time, exactly, by conjugate gradients, or block by block.

Row u minimises  sum_i s_ui (v_i'y)^2 - 2 b_ui v_i'y  +  p_u y'Gy + r_u y'y,  where i runs over its own entries only and
G = V'D(q)V stands for the sum over all items: (p_u G + V_u'D(s_u)V_u + r_u I) y = V_u'b_u (Hu, Koren & Volinsky 2008).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec.solvers import cg
from jaxrec.solvers.columns import HIGHEST
from jaxrec.solvers.spd import solve_each

FLOOR = 1e-6  # of the preconditioner's largest entry in a row: below it is rounding


class RegressionBatch(NamedTuple):
    """B rows padded to L entries; padding has index 0 and weights 0.

    Attributes:
      items: [B, L] rows of the table of factors.
      weights: [B, L] s, what an entry weighs beyond p q.
      targets: [B, L] b, weight times target.
      scale: [B] p.
      ridge: [B] r.
    """

    items: Any
    weights: Any
    targets: Any
    scale: Any
    ridge: Any


class Solved(NamedTuple):
    """The factors of B rows, and sums over the rows.

    Attributes:
      factors: [B, K] y.
      before: squared norm of the residuals of the equations at the start, half the gradient of the loss.
      after: the same at the end; of conjugate gradients before the last step, beyond which it would cost another pass.
      right: squared norm of the right-hand sides.
      entries: sum of s (v'y)^2 - 2 b v'y over the entries.
      everywhere: sum of p y'Gy.
      penalty: sum of r y'y.
    """

    factors: Any
    before: Any
    after: Any
    right: Any
    entries: Any
    everywhere: Any
    penalty: Any


def gram(factors: Float[ArrayLike, "N K"], col: Float[ArrayLike, " N"]) -> Float[Array, "K K"]:
    """[K, K] V'D(q)V; 2 N K^2 flops."""
    factors = jnp.asarray(factors)
    return jnp.matmul((factors * jnp.asarray(col)[:, None]).T, factors, precision=HIGHEST)


def right_sides(systems: RegressionBatch, gathered: Float[Array, "B L K"]) -> Float[Array, "B K"]:
    """[B, K] V_u'b_u."""
    return jnp.einsum("bl,blk->bk", systems.targets, gathered, precision=HIGHEST)


def apply(systems: RegressionBatch, gathered: Any, gram: Any, y: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """[B, K] the left-hand sides (p G + V_u'D(s)V_u + r I) y, without forming a matrix a row; 4 B L K flops."""
    predicted = jnp.einsum("blk,bk->bl", gathered, y, precision=HIGHEST)
    own = jnp.einsum("blk,bl->bk", gathered, systems.weights * predicted, precision=HIGHEST)
    everywhere = systems.scale[:, None] * jnp.matmul(y, gram, precision=HIGHEST)
    return own + everywhere + systems.ridge[:, None] * y


def matrices(
    systems: RegressionBatch, gathered: Float[Array, "B L K"], gram: Float[Array, "K K"]
) -> Float[Array, "B K K"]:
    """[B, K, K] the left-hand sides; 2 B L K^2 flops."""
    own = jnp.einsum("blk,blj->bkj", gathered, gathered * systems.weights[:, :, None], precision=HIGHEST)
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)[None]
    return own + systems.scale[:, None, None] * gram[None] + systems.ridge[:, None, None] * eye


def cholesky(
    systems: RegressionBatch, gathered: Float[Array, "B L K"], gram: Float[Array, "K K"], start: Any
) -> Solved:
    """The exact solutions; a row whose targets are all 0 is 0.

    Args:
      systems: the rows.
      gathered: [B, L, K] V at `systems.items`.
      gram: [K, K] V'D(q)V.
      start: [B, K], only for the residual before.

    Cost: B (2 L K^2 + K^3/3) flops; B K^2 numbers.
    Fails: NaN where a system is not numerically positive definite.
    """
    left, right = matrices(systems, gathered, gram), right_sides(systems, gathered)
    empty = jnp.all(right == 0, axis=1)  # such a row has the solution 0, whatever its matrix is
    before = right - jnp.einsum("bkj,bj->bk", left, jnp.where(empty[:, None], 0, start), precision=HIGHEST)
    left = jnp.where(empty[:, None, None], jnp.eye(gram.shape[0], dtype=gram.dtype)[None], left)
    y = solve_each(left, right[:, :, None])[:, :, 0]
    return _solved(systems, gram, y, right, before, jnp.zeros_like(y))


class GramSpectrum(NamedTuple):
    """G = V'D(q)V made diagonal, turn' G turn = D(values): what the rows without S share.

    Attributes:
      values: [K] at least 0.
      turn: [K, K] orthogonal.
    """

    values: Any
    turn: Any


def spectrum(gram: np.ndarray) -> GramSpectrum:
    """Of a Gram matrix on the host, in float64 and rounded once. Cost: 9 K^3 flops."""
    values, turn = np.linalg.eigh(np.nan_to_num(gram.astype(np.float64)))
    return GramSpectrum(np.maximum(values, 0).astype(gram.dtype), turn.astype(gram.dtype))


def base(values: Any, scale: Any, ridge: Any) -> Any:
    """[B, K] p D(values) + r, the rows' equations without S in the basis of `GramSpectrum`, kept away from 0."""
    found = scale[:, None] * values[None, :] + ridge[:, None]
    largest = found.max(axis=1, keepdims=True)
    return found.clip(FLOOR * largest) + (largest <= 0)


def conjugate_gradient(
    systems: RegressionBatch,
    gathered: Float[Array, "B L K"],
    gram: Float[Array, "K K"],
    start: Float[Array, "B K"],
    steps: Any,
    spectrum: GramSpectrum | None = None,
) -> Solved:
    """The solutions after `steps` of conjugate gradients from `start`, preconditioned by p G + r I.

    Takacs, Pilaszy & Tikk (RecSys 2011) take plain conjugate gradients. With the exact solution for S = 0 as
    preconditioner the condition number is at most the one of W over p q', such as 1 + alpha, whatever the factors are;
    two steps then come further than three plain ones. Every step lowers the loss of its row. A row that is solved stays
    as it is, and one whose targets are all 0 is 0.

    Args:
      systems: the rows.
      gathered: [B, L, K] V at `systems.items`.
      gram: [K, K] V'D(q)V.
      start: [B, K], such as the factors of the sweep before.
      steps: how many; may be traced.
      spectrum: of `gram`, which all batches can share; worked out where None.

    Cost: (steps + 1/2) B (4 L K + 6 K^2) flops.
    """
    values, turn = jnp.linalg.eigh(gram) if spectrum is None else spectrum
    below = base(jnp.maximum(values, 0), systems.scale, systems.ridge)
    right = right_sides(systems, gathered)
    start = jnp.where(jnp.all(right == 0, axis=1)[:, None], 0, start)
    before = right - apply(systems, gathered, gram, start)

    def precondition(residual):
        turned = jnp.matmul(residual, turn, precision=HIGHEST) / below
        return jnp.matmul(turned, turn.T, precision=HIGHEST)

    def dot(a, b):
        return jnp.sum(a * b, axis=1, keepdims=True)

    def body(_, state):
        return cg.step(state, lambda v, _: apply(systems, gathered, gram, v), precondition, dot)

    y, residual, direction, _, square, _ = lax.fori_loop(0, steps - 1, body, cg.begin(start, before, precondition, dot))
    # Of the last step's image only the curvature is needed, which the predictions tell.
    curvature = _curvature(systems, gathered, gram, direction)[:, None]
    length = cg.ratio(square, curvature, curvature > 0)
    last = length * direction
    quadratic = jnp.sum((y + 2 * last) * (right - residual), axis=1) + (length * square)[:, 0]
    return _solved(systems, gram, y + last, right, before, residual, quadratic)


def _curvature(systems: RegressionBatch, gathered: Any, gram: Any, y: Float[Array, "B K"]) -> Float[Array, " B"]:
    """[B] y'(p G + V_u'D(s)V_u + r I) y; 2 B L K flops."""
    predicted = jnp.einsum("blk,bk->bl", gathered, y, precision=HIGHEST)
    shared = systems.scale[:, None] * jnp.matmul(y, gram, precision=HIGHEST) + systems.ridge[:, None] * y
    return jnp.sum(systems.weights * predicted**2, axis=1) + jnp.sum(y * shared, axis=1)


def block_sweep(
    systems: RegressionBatch,
    gathered: Float[Array, "B L K"],
    gram: Float[Array, "K K"],
    start: Float[Array, "B K"],
    size: int,
    sweeps: Any = 1,
) -> Solved:
    """The solutions after `sweeps` over blocks of `size` coordinates, each solved exactly given the others.

    iALS++ (Rendle, Krichene, Zhang & Koren 2021): with the predictions of the entries at hand, a block costs what a
    rank of `size` would. size = K is `cholesky`; size = 1 is coordinate descent. Where `size` does not divide K, the
    last block takes some coordinates again.

    Args:
      systems: the rows.
      gathered: [B, L, K] V at `systems.items`.
      gram: [K, K] V'D(q)V.
      start: [B, K].
      size: of a block, at most K. Static.
      sweeps: how many times over all blocks; may be traced.

    Cost: B (4 L K + 2 L K size + 2 K^2 + K size^2 / 3) flops a sweep; B (L + size) size numbers.
    """
    k = gram.shape[0]
    n_blocks = -(-k // size)
    right = right_sides(systems, gathered)
    empty = jnp.all(right == 0, axis=1)
    start = jnp.where(empty[:, None], 0, start)
    predicted = jnp.einsum("blk,bk->bl", gathered, start, precision=HIGHEST)
    eye = jnp.eye(size, dtype=gram.dtype)[None]

    def body(step, carry):
        y, predicted = carry
        at = jnp.minimum(step % n_blocks * size, k - size)
        block = lax.dynamic_slice_in_dim(gathered, at, size, axis=2)
        rows = lax.dynamic_slice_in_dim(gram, at, size, axis=0)
        own = lax.dynamic_slice_in_dim(y, at, size, axis=1)
        slope = jnp.einsum("blk,bl->bk", block, systems.targets - systems.weights * predicted, precision=HIGHEST)
        slope = slope - systems.scale[:, None] * jnp.matmul(y, rows.T, precision=HIGHEST)
        slope = slope - systems.ridge[:, None] * own
        corner = lax.dynamic_slice_in_dim(rows, at, size, axis=1)
        left = matrices(systems, block, corner)
        left = jnp.where(empty[:, None, None], eye, left)
        move = solve_each(left, slope[:, :, None])[:, :, 0]
        move = jnp.where(empty[:, None], 0, move)
        y = lax.dynamic_update_slice_in_dim(y, own + move, at, axis=1)
        return y, predicted + jnp.einsum("blk,bk->bl", block, move, precision=HIGHEST)

    before = right - apply(systems, gathered, gram, start)
    y, _ = lax.fori_loop(0, n_blocks * sweeps, body, (start, predicted))
    return _solved(systems, gram, y, right, before, right - apply(systems, gathered, gram, y))


def _solved(
    systems: RegressionBatch, gram: Any, y: Any, right: Any, before: Any, after: Any, quadratic: Any = None
) -> Solved:
    """With `sum s (v'y)^2` from y'(p G + V_u'D(s)V_u + r I) y, `quadratic`, which spares a pass over the entries.

    Where that is None it is y'(right - after).
    """
    if quadratic is None:
        quadratic = jnp.sum(y * (right - after), axis=1)
    everywhere = jnp.sum(systems.scale * jnp.sum(y * jnp.matmul(y, gram, precision=HIGHEST), axis=1))
    penalty = jnp.sum(systems.ridge * jnp.sum(y**2, axis=1))
    entries = jnp.sum(quadratic) - 2 * jnp.sum(y * right) - everywhere - penalty
    before, after, right = (jnp.sum(part**2) for part in (before, after, right))
    return Solved(y, before, after, right, entries, everywhere, penalty)
