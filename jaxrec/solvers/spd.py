"""Dense linear algebra on symmetric positive definite (SPD) matrices: the JAX kernel, on one device or a mesh."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import HIGHEST, row_chunk


class Blocks(NamedTuple):
    """How a sweep cuts an n x n matrix.

    Attributes:
      size: N, n padded by the identity to a multiple of `block` times the number of devices.
      block: b, the size of the pivot blocks; divides the columns of a device.
      chunk: rows updated at a time; divides N.
    """

    size: int
    block: int
    chunk: int


def blocks(n: int, n_devices: int = 1, block: int | None = None) -> Blocks:
    """How to cut an n x n matrix for the sweep on so many devices.

    The panels hold about 3 b N numbers on each device and its columns N^2 / D, so b is at most near n / (8 D): a
    multiple of 128 (the tile of a matrix unit) up to 512 or, where n / (8 D) is below 64, a multiple of 8. Of these
    and all smaller ones the largest that pads by at most 3 % (or 8 rows a device); else the one that pads least. One
    device takes up to 128 rows as one block, unpadded. A chunk is the largest divisor of N up to N / 8 and 1024, but
    a block at least.

    Args:
      n: rows of the matrix.
      n_devices: D.
      block: b, where it shall not be chosen by these rules.
    """
    if block is not None:
        _checks.count("block", block, at_least=1)
        steps = max(1, -(-n // (block * n_devices)))
        block = max(8, -(-n // (8 * steps * n_devices)) * 8)  # blocks of equal size, so that little is padded
    elif n_devices == 1 and n <= 128:
        block = max(1, n)
    else:
        wide = min(4, int(n / (1024 * n_devices) + 0.5))
        narrow = 120 if wide else max(8, n // (64 * n_devices) * 8)
        choices = [*range(128 * wide, 0, -128), *range(narrow, 0, -8)]
        enough = n + max(n / 32, 8 * n_devices)
        least = min(choices, key=lambda b: _multiple(n, b * n_devices))
        block = next((b for b in choices if _multiple(n, b * n_devices) <= enough), least)
    size = _multiple(n, block * n_devices)
    return Blocks(size, block, row_chunk(size, block))


def sweep(
    a: Float[Array, "N m"], *, block: int, chunk: int, precision: Any = HIGHEST, axis: str | None = None
) -> Float[Array, "N m"]:
    """[N, m] my columns of -(A^-1), from my columns of an SPD matrix A; in place where the caller donates `a`.

    The symmetric Gauss-Jordan sweep over pivot blocks: with the pivot D = L L', the row panel R of D and W = L^-1 R in
    which the columns of D are overwritten by -L^-1, the update A <- mask(A) - W'W, where the mask zeroes the rows and
    columns of D, turns A step by step into -A^-1. By symmetry the row panel is the column panel too, so nobody sends
    columns: each step is one b x b sum, one gathering of b x N and one matrix product on each device. The mask is
    applied inside a loop over chunks of rows; zeroing the panels in passes of their own would make XLA copy A.

    Args:
      a: [N, m] columns p m to (p + 1) m of a symmetric positive definite matrix, on device p.
      block: b, which divides m.
      chunk: rows updated at a time; divides N.
      precision: of every product.
      axis: the mesh axis that the columns are split over, or None.

    Cost: 2 N^2 m flops; received numbers N^2 + b N; b x N twice and chunk x m as temporaries.
    """
    step = partial(_pivot, block=block, chunk=chunk, precision=precision, axis=axis)
    return lax.fori_loop(0, a.shape[0] // block, lambda k, a: step(k, a)[0], a)


def cholesky_and_inverse(
    a: Float[Array, "N m"], *, block: int, chunk: int, precision: Any = HIGHEST, axis: str | None = None
) -> tuple[Float[Array, "N m"], Float[Array, "N m"]]:
    """[N, m] and [N, m], my columns of L' and of L^-1 where A = L L', from those of A, by the sweep.

    The panels W of the sweep hold both factors: with the blocks before the pivot swept, the pivot's rows of W are minus
    those of L^-1 left of its diagonal, and those of L' right of it.

    Args: as in `sweep`.

    Cost: 2 N^2 m flops, of which a Cholesky factorization and a triangular inverse would take a third, but those gather
    A or leave most devices waiting; three N x m matrices.
    """
    n, m = a.shape
    mine = parallel.axis_index(axis) * m + jnp.arange(m)

    def step(k, carry):
        a, upper, inverse = carry
        a, w, factor = _pivot(k, a, block=block, chunk=chunk, precision=precision, axis=axis)
        o = k * block
        before, after = (mine < o)[None, :], (mine >= o + block)[None, :]
        own = ~(before | after)
        # The columns of L_kk' that are mine; those of others are masked.
        diagonal = jnp.take(factor.T, jnp.clip(mine - o, 0, block - 1), axis=1)
        upper_rows = jnp.where(after, w, jnp.where(own, diagonal, 0))
        inverse_rows = jnp.where(after, 0, -w)
        upper, inverse = (
            lax.dynamic_update_slice(whole, rows, (o, 0))
            for whole, rows in ((upper, upper_rows), (inverse, inverse_rows))
        )
        return a, upper, inverse

    return lax.fori_loop(0, n // block, step, (a, jnp.zeros_like(a), jnp.zeros_like(a)))[1:]


def inverse_columns(a: Float[Array, "N m"], cut: Blocks, *, axis: str | None = None) -> Float[Array, "N m"]:
    """[N, m] my columns of A^-1 from mine of an SPD matrix, in a kernel of its own or within one; see `sweep`."""
    return spd_inverse(a) if axis is None else -sweep(a, block=cut.block, chunk=cut.chunk, axis=axis)


def _pivot(k: Any, a: Any, *, block: int, chunk: int, precision: Any, axis: str | None) -> tuple[Any, Any, Any]:
    """One step of the sweep: (my columns after it, of W [b, m], the pivot's Cholesky factor [b, b])."""
    n, m = a.shape
    product = partial(jnp.matmul, precision=precision)
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


def spd_inverse(
    a: Float[ArrayLike, "n n"], mesh: Any = None, *, block: int | None = None, precision: Any = HIGHEST
) -> Float[Array, "N N"]:
    """[N, N] the inverse of an SPD matrix, on one device (N = n) or split over a mesh by columns.

    By the sweep above, at the memory of one matrix besides the argument. Only b x b matrices are factored, so that no
    size limit of a LAPACK or cuSOLVER call is met. Every product states its precision: the defaults of GPUs (TF32) and
    TPUs (bfloat16) ruin an inverse.

    Args:
      a: [n, n] symmetric positive definite; both triangles are read. Not modified. For a mesh a NumPy array, of which
        each process places the columns of its own devices, or a JAX array.
      mesh: None, or what `parallel.make_mesh` returned. JAX itself would gather the whole matrix on every device.
      block: size of the pivot blocks; default by the rules of `blocks`.
      precision: lax.Precision.HIGHEST; or HIGH, half the cost on a TPU and safe up to a condition number of about 1e4;
        or a `jax.lax.DotAlgorithmPreset`.

    Returns:
      [N, N], symmetric up to rounding. On a mesh N is `blocks(n, D, block).size`, n padded so that all devices own
      equally much; the inverse is the leading [n, n], the rest the identity. All NaN where a pivot block is not
      positive definite.

    Cost: 2 n^3 flops; the argument and one N x N matrix, with panels.
    Derivatives: forward and reverse of any order, by dP = -P dA P, with no second factorization; not on a mesh.
    """
    if mesh is None:
        return _inverse(jnp.asarray(a), block, precision)
    n = np.shape(a)[0]
    cut = blocks(n, mesh.size, block)
    if isinstance(a, jax.Array):
        placed = _padded_on_mesh(a, mesh, cut.size)
    else:
        a = np.asarray(a)
        placed = parallel.fill_columns(
            (cut.size, cut.size), mesh, lambda columns: _padded_columns(a, columns, cut.size)
        )
    return _inverse_on_mesh(placed, mesh, cut, precision)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _inverse(a, block, precision):
    n = a.shape[0]
    if n == 0:
        return a
    cut = blocks(n, 1, block)
    # Padding by the identity leaves the inverse of the rest alone.
    a = jnp.pad(a, (0, cut.size - n)) + jnp.diag((jnp.arange(cut.size) >= n).astype(a.dtype))
    return -sweep(a, block=cut.block, chunk=cut.chunk, precision=precision)[:n, :n]


@_inverse.defjvp
def _inverse_jvp(block, precision, primals, tangents):
    (a,), (da,) = primals, tangents
    inverse = _inverse(a, block, precision)
    return inverse, -jnp.matmul(jnp.matmul(inverse, da, precision=precision), inverse, precision=precision)


@partial(jax.jit, static_argnums=(1, 2, 3), donate_argnums=0)
def _inverse_on_mesh(a, mesh, cut, precision):
    kernel = partial(sweep, block=cut.block, chunk=cut.chunk, precision=precision)
    return -parallel.over_columns(kernel, mesh, parallel.COLUMNS, parallel.COLUMNS)(a)


def _padded_on_mesh(a: jax.Array, mesh: Any, size: int) -> jax.Array:
    """A copy of `a`, padded by the identity and split over the mesh; a copy, since the sweep overwrites it."""

    def padded(a):
        return jnp.pad(a, (0, size - len(a))) + jnp.diag((jnp.arange(size) >= len(a)).astype(a.dtype))

    return jax.jit(padded, out_shardings=parallel.sharding(mesh, parallel.COLUMNS))(a)


def _padded_columns(a: np.ndarray, columns: slice, size: int) -> np.ndarray:
    """[size, width] some columns of `a` padded by the identity."""
    start, stop, _ = columns.indices(size)
    out = np.zeros((size, stop - start), a.dtype)
    real = a[:, start:stop]
    out[: len(a), : real.shape[1]] = real
    extra = np.arange(max(start, len(a)), stop)
    out[extra, extra - start] = 1
    return out


def _multiple(n: int, of: int) -> int:
    """N rounded up to a multiple of `of`."""
    return -(-n // of) * of
