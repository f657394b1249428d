"""Dense linear algebra on symmetric positive definite (SPD) matrices: one JAX kernel, and its in-place CPU twin."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped
from scipy.linalg import lapack

from jaxrec import _checks
from jaxrec.runtime import parallel
from jaxrec.runtime.blas import add_product
from jaxrec.runtime.progress import progress_bar
from jaxrec.status import Status

# LAPACK's potrf + potri is the fastest inverse up to here, and done in seconds. Above, the sweep can show progress
# and be interrupted; and from somewhere above n = 24,000 OpenBLAS's threaded spotrf crashes the process.
LAPACK_UP_TO = 10_000
HIGHEST = lax.Precision.HIGHEST

# -- JAX, on one device or a mesh ---------------------------------------------------------------------------------


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


def row_chunk(size: int, at_least: int = 1) -> int:
    """How many rows of a matrix of `size` rows to update at a time: a divisor of it, of at most 1024 and an eighth."""
    unit = math.gcd(size, 8) or 1
    most = max(at_least, unit, min(1024, size // 8))
    return max((d for d in range(unit, most + 1, unit) if size % d == 0), default=unit)


def _multiple(n: int, of: int) -> int:
    """N rounded up to a multiple of `of`."""
    return -(-n // of) * of


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


def take_columns(
    own: Shaped[Array, "N m"], columns: Int[ArrayLike, " S"], axis: str | None = None
) -> Shaped[Array, "N S"]:
    """[N, S] some columns of a matrix, from my columns of it, on every device."""
    m = own.shape[1]
    at = jnp.asarray(columns) - parallel.axis_index(axis) * m
    mine = (at >= 0) & (at < m)
    return parallel.psum(jnp.where(mine[None, :], own[:, jnp.clip(at, 0, m - 1)], 0), axis)


def columns_product(
    a: Float[Array, "R k"], b: Float[Array, "K m"], *, precision: Any = HIGHEST, axis: str | None = None
) -> Float[Array, "R m"]:
    """[R, m] my columns of A B, from mine of A and of B; rows of A are gathered chunk by chunk, never all of it.

    Cost: 2 R K m flops; received numbers R K; one chunk of at most 1024 rows of A and R/8.
    """
    product = partial(jnp.matmul, precision=precision)
    if axis is None:
        return product(a, b)
    chunks = a.reshape(-1, row_chunk(len(a)), a.shape[1])
    parts = lax.map(lambda rows: product(parallel.all_gather(rows, axis, dimension=1), b), chunks)
    return parts.reshape(len(a), b.shape[1])


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


# -- NumPy, in place --------------------------------------------------------------------------------------------


def spd_invert_in_place(a: np.ndarray, *, block: int = 512, lapack_up_to: int = LAPACK_UP_TO) -> Status:
    """Overwrites the lower triangle of an SPD matrix with that of its inverse; what the upper holds is undefined.

    Up to `lapack_up_to` rows by LAPACK's potrf and potri, above by the sweep of `spd_inverse` over the lower
    triangle alone, which halves its flops and runs at the speed of the matrix product.

    Args:
      a: [n, n] writable row-major float32 or float64; the lower triangle is read, everything is overwritten.
      block: size of the pivot blocks of the sweep.
      lapack_up_to: largest n that is given to LAPACK.

    Returns:
      Status.OK, or Status.NOT_POSITIVE_DEFINITE, after which `a` holds nothing of use.

    Cost: n^3 flops; one n x n matrix, and 2 n `block` numbers.
    """
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not a.flags.carray or a.dtype not in (np.float32, np.float64):
        raise ValueError(f"wanted a writable square row-major matrix of floats, got {a.dtype} of shape {a.shape}")
    if len(a) == 0:
        return Status.OK
    return _invert_by_lapack(a) if len(a) <= lapack_up_to else _invert_by_sweep(a, block)


def _invert_by_lapack(a: np.ndarray) -> Status:
    potrf, potri = lapack.get_lapack_funcs(("potrf", "potri"), (a,))
    # The transposed view is what LAPACK wants (column-major); our lower triangle is its upper one.
    factor, failed = potrf(a.T, lower=0, overwrite_a=1, clean=0)
    if not failed:
        _, failed = potri(factor, lower=0, overwrite_c=1)
    return Status.NOT_POSITIVE_DEFINITE if failed else Status.OK


def _invert_by_sweep(a: np.ndarray, block: int) -> Status:
    n = len(a)
    potrf, trtri = lapack.get_lapack_funcs(("potrf", "trtri"), (a,))
    panel_memory, w_memory = (np.empty((min(block, n), n), a.dtype) for _ in range(2))
    with progress_bar("inverting", n) as advance:
        for o in range(0, n, block):
            e = min(o + block, n)
            panel, w = panel_memory[: e - o], w_memory[: e - o]
            panel[:, :e] = a[o:e, :e]
            _transpose_into(panel[:, e:], a[e:, o:e])
            factor, failed = potrf(panel[:, o:e].T, lower=0, clean=1)
            if failed:
                return Status.NOT_POSITIVE_DEFINITE
            inverse = np.ascontiguousarray(trtri(factor, lower=0)[0].T)
            add_product(w, inverse, panel, beta=0)
            w[:, o:e] = -inverse
            a[o:e, :e] = 0
            a[e:, o:e] = 0
            for s in range(0, n, 2 * block):
                t = min(s + 2 * block, n)
                add_product(a[s:t, :t], w[:, s:t], w[:, :t], alpha=-1, transpose_a=True)
            advance(e - o)
    for s in range(0, n, block):
        t = min(s + block, n)
        np.negative(a[s:t, :t], out=a[s:t, :t])
    return Status.OK


def mirror_lower(a: np.ndarray, block: int = 512) -> None:
    """Copies the lower triangle of a square matrix onto its upper one, in place."""
    for s in range(0, len(a), block):
        t = min(s + block, len(a))
        _transpose_into(a[:s, s:t], a[s:t, :s])
        corner = a[s:t, s:t]
        corner[...] = np.tril(corner) + np.tril(corner, -1).T


def _transpose_into(target: np.ndarray, source: np.ndarray, block: int = 512) -> None:
    """Writes the transpose of `source`, tile by tile: a whole strided pass would miss the cache at every number."""
    for s in range(0, len(source), block):
        target[:, s : s + block] = source[s : s + block].T
