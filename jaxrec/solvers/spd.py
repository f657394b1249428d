"""Dense linear algebra on symmetric positive definite (SPD) matrices: the JAX kernel, on one device or a mesh."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec.runtime import parallel
from jaxrec.solvers.columns import HIGHEST, row_chunk


class SweepLayout(NamedTuple):
    """How a sweep cuts an n x n matrix.

    Attributes:
      size: N, n padded by the identity to a multiple of `block` times the number of devices.
      block: b, the size of the pivot blocks; divides the columns of a device.
      chunk: rows updated at a time; divides N.
    """

    size: int
    block: int
    chunk: int


def sweep_layout(n: int, n_devices: int = 1) -> SweepLayout:
    """The layout of an n x n matrix for the sweep on so many devices.

    The panels hold about 3 b N numbers on each device and its columns N^2 / D, so b is at most near n / (8 D): a
    multiple of 128 (the tile of a matrix unit) up to 512 or, where n / (8 D) is below 64, a multiple of 8. Of these
    and all smaller ones the largest that pads by at most 3 % (or 8 rows a device); else the one that pads least. One
    device takes up to 128 rows as one block, unpadded. A chunk is the largest divisor of N up to N / 8 and 1024, but
    a block at least.

    Args:
      n: rows of the matrix.
      n_devices: D.
    """
    if n_devices == 1 and n <= 128:
        block = max(1, n)
    else:
        wide = min(4, int(n / (1024 * n_devices) + 0.5))
        narrow = 120 if wide else max(8, n // (64 * n_devices) * 8)
        choices = [*range(128 * wide, 0, -128), *range(narrow, 0, -8)]
        enough = n + max(n / 32, 8 * n_devices)
        least = min(choices, key=lambda b: _multiple(n, b * n_devices))
        block = next((b for b in choices if _multiple(n, b * n_devices) <= enough), least)
    size = _multiple(n, block * n_devices)
    return SweepLayout(size, block, row_chunk(size, block))


def negative_inverse(a: Float[Array, "N m"], layout: SweepLayout, axis: str | None = None) -> Float[Array, "N m"]:
    """[N, m] my columns of -(A^-1), from my columns of an SPD matrix A; in place where the caller donates `a`.

    The symmetric Gauss-Jordan sweep over pivot blocks: with the pivot D = L L', the row panel R of D and W = L^-1 R in
    which the columns of D are overwritten by -L^-1, the update A <- mask(A) - W'W, where the mask zeroes the rows and
    columns of D, turns A step by step into -A^-1. By symmetry the row panel is the column panel too, so nobody sends
    columns: each step is one b x b sum, one gathering of b x N and one matrix product on each device. The mask is
    applied inside a loop over chunks of rows; zeroing the panels in passes of their own would make XLA copy A.

    Args:
      a: [N, m] columns p m to (p + 1) m of a symmetric positive definite matrix, on device p.
      layout: of the N x N matrix, from `sweep_layout`.
      axis: the mesh axis that the columns are split over, or None.

    Cost: 2 N^2 m flops; received numbers N^2 + b N; b x N twice and chunk x m as temporaries.
    """
    return lax.fori_loop(0, a.shape[0] // layout.block, lambda k, a: _pivot(k, a, layout, axis)[0], a)


def cholesky_and_inverse(
    a: Float[Array, "N m"], layout: SweepLayout, axis: str | None = None
) -> tuple[Float[Array, "N m"], Float[Array, "N m"]]:
    """[N, m] and [N, m], my columns of L' and of L^-1, A = L L', from my columns of A, by the sweep.

    The panels W of the sweep hold both factors: with the blocks before the pivot swept, the pivot's rows of W are minus
    the rows of L^-1 left of its diagonal, and the rows of L' right of it.

    Args:
      a: [N, m] my columns of A.
      layout: of A, from `sweep_layout`.
      axis: the mesh axis that the columns are split over, or None.

    Cost: 2 N^2 m flops, of which a Cholesky factorization and a triangular inverse would take a third, but those gather
    A or leave most devices waiting; three N x m matrices.
    """
    n, m = a.shape
    mine = parallel.axis_index(axis) * m + jnp.arange(m)

    def step(k, carry):
        a, upper, inverse = carry
        a, w, factor = _pivot(k, a, layout, axis)
        o = k * layout.block
        before, after = (mine < o)[None, :], (mine >= o + layout.block)[None, :]
        own = ~(before | after)
        # The columns of L_kk' that are mine; the others are masked.
        diagonal = jnp.take(factor.T, jnp.clip(mine - o, 0, layout.block - 1), axis=1)
        upper_rows = jnp.where(after, w, jnp.where(own, diagonal, 0))
        inverse_rows = jnp.where(after, 0, -w)
        upper, inverse = (
            lax.dynamic_update_slice(whole, rows, (o, 0))
            for whole, rows in ((upper, upper_rows), (inverse, inverse_rows))
        )
        return a, upper, inverse

    return lax.fori_loop(0, n // layout.block, step, (a, jnp.zeros_like(a), jnp.zeros_like(a)))[1:]


def inverse_columns(a: Float[Array, "N m"], layout: SweepLayout, axis: str | None = None) -> Float[Array, "N m"]:
    """[N, m] my columns of A^-1 from mine of an SPD matrix, on one device or in a kernel; see `negative_inverse`."""
    return spd_inverse(a) if axis is None else -negative_inverse(a, layout, axis)


def _pivot(k: Any, a: Any, layout: SweepLayout, axis: str | None) -> tuple[Any, Any, Any]:
    """One step of the sweep: (my columns after it, of W [b, m], the pivot's Cholesky factor [b, b])."""
    n, m = a.shape
    _, block, chunk = layout
    product = partial(jnp.matmul, precision=HIGHEST)
    me, eye = parallel.axis_index(axis), jnp.eye(block, dtype=a.dtype)
    rows, columns = jnp.arange(chunk), jnp.arange(m)
    o = k * block
    owner, local = o // m, o % m
    mine = owner == me
    panel = lax.dynamic_slice(a, (o, 0), (block, m))
    pivot = jnp.where(mine, lax.dynamic_slice(panel, (0, local), (block, block)), 0)
    factor = lax.linalg.cholesky(parallel.psum(pivot, axis), symmetrize_input=False)
    inverse = lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True)
    w = product(inverse, panel)
    w = jnp.where(mine, lax.dynamic_update_slice(w, -inverse, (0, local)), w)
    everyones = parallel.all_gather(w, axis, dimension=1)
    keep_columns = ~(mine & (columns >= local) & (columns < local + block))

    def update(i, a):
        s = i * chunk
        keep_rows = (s + rows < o) | (s + rows >= o + block)
        part = lax.dynamic_slice(a, (s, 0), (chunk, m))
        part = jnp.where(keep_rows[:, None] & keep_columns[None, :], part, 0)
        part -= product(lax.dynamic_slice(everyones, (0, s), (block, chunk)).T, w)
        return lax.dynamic_update_slice(a, part, (s, 0))

    return lax.fori_loop(0, n // chunk, update, a), w, factor


def spd_inverse(a: Float[ArrayLike, "n n"]) -> Float[Array, "n n"]:
    """[n, n] the inverse of an SPD matrix on one device; can be jitted, mapped and differentiated.

    By the sweep above, at the memory of one matrix besides the argument. Only b x b matrices are factored, so that no
    size limit of a LAPACK or cuSOLVER call is met.

    Args:
      a: [n, n] symmetric positive definite; both triangles are read. Not modified.

    Returns:
      [n, n], symmetric up to rounding; all NaN if a pivot block is not positive definite.

    Cost: 2 n^3 flops; the argument and one n x n matrix, with panels.
    Derivatives: forward and reverse of any order, by dP = -P dA P, with no second factorization.
    """
    return _inverse(jnp.asarray(a))


@jax.custom_jvp
def _inverse(a):
    n = a.shape[0]
    if n == 0:
        return a
    layout = sweep_layout(n)
    # Padding by the identity leaves the inverse of the rest alone.
    a = jnp.pad(a, (0, layout.size - n)) + jnp.diag((jnp.arange(layout.size) >= n).astype(a.dtype))
    return -negative_inverse(a, layout)[:n, :n]


@_inverse.defjvp
def _inverse_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse = _inverse(a)
    return inverse, -jnp.matmul(jnp.matmul(inverse, da, precision=HIGHEST), inverse, precision=HIGHEST)


def solve_each(a: Float[Array, "B n n"], right: Float[Array, "B n m"]) -> Float[Array, "B n m"]:
    """[B, n, m] the solutions of many SPD systems; NaN where a matrix is not positive definite.

    On a CPU one after the other: a batched call of LAPACK there hands parts of its batch to the thread pool that runs
    it and waits for them. If the programs of all devices of a mesh do so at once, nobody is left to do the work (jax
    0.10.2 hangs for ever). Factorizations one by one were no slower, in batches of 16.

    Cost: B (n^3/3 + 2 n^2 m) flops.
    """

    def solve(a, right):
        factor = lax.linalg.cholesky(a, symmetrize_input=False)
        half = lax.linalg.triangular_solve(factor, right, left_side=True, lower=True)
        return lax.linalg.triangular_solve(factor, half, left_side=True, lower=True, transpose_a=True)

    def one_by_one(a, right):
        return lax.map(lambda system: solve(*system), (a, right))

    return lax.platform_dependent(a, right, cpu=one_by_one, default=solve)


def _multiple(n: int, of: int) -> int:
    """N rounded up to a multiple of `of`."""
    return -(-n // of) * of
