"""Dense linear algebra on symmetric positive definite (SPD) matrices: one JAX kernel, and its in-place CPU twin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.linalg import lapack

from jaxrec._blas import add_product
from jaxrec._progress import progress_bar
from jaxrec.status import Status

# LAPACK's potrf + potri is the fastest inverse up to here, and done in seconds. Above, the sweep can show progress
# and be interrupted; and from somewhere above n = 24,000 OpenBLAS's threaded spotrf crashes the process.
LAPACK_UP_TO = 10_000
HIGHEST = lax.Precision.HIGHEST
# A truncated SVD is cut from the whole one up to this size: the whole one takes a fraction of a second.
WHOLE_SVD_UP_TO = 256

# -- JAX, any device --------------------------------------------------------------------------------------------


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def spd_inverse(a: Float[ArrayLike, "n n"], block: int = 256) -> Float[Array, "n n"]:
    """[n, n] the inverse of an SPD matrix.

    The in-place symmetric Gauss-Jordan sweep over pivot blocks: with the pivot D = L L', the row panel R of D and
    W = L^-1 R in which the columns of D are overwritten by -L^-1, the update A <- mask(A) - W'W, where the mask
    zeroes the rows and columns of D, turns A step by step into -A^-1. Each step is one matrix product; only
    `block` x `block` matrices are factored, so that no size limit of a LAPACK or cuSOLVER call is met. Every
    product runs at full float32 precision: the defaults of GPUs (TF32) and TPUs (bfloat16) ruin an inverse.

    Args:
      a: [n, n] symmetric positive definite; both triangles are read. Not modified.
      block: size of the pivot blocks; the number of blocks is n / block, rounded up.

    Returns:
      [n, n], symmetric to the last bit. All NaN where a pivot block is not positive definite.

    Cost: 2 n^3 flops; three n x n matrices at the most (argument, result, one update).
    Derivatives: forward and reverse of any order, by dP = -P dA P, with no second factorization.
    """
    a = jnp.asarray(a)
    n = a.shape[0]
    if n == 0:
        return a
    steps = -(-n // block)
    b = -(-n // (8 * steps)) * 8  # equal blocks, a multiple of 8, so that little is padded
    size = b * steps
    # Padding by the identity leaves the inverse of the rest alone.
    a = jnp.pad(a, (0, size - n)) + jnp.diag((jnp.arange(size) >= n).astype(a.dtype))
    index, eye = jnp.arange(size), jnp.eye(b, dtype=a.dtype)

    def step(k, a):
        o = k * b
        panel = lax.dynamic_slice(a, (o, 0), (b, size))
        pivot = lax.dynamic_slice(panel, (0, o), (b, b))
        factor = lax.linalg.cholesky(pivot, symmetrize_input=False)
        inverse = lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True)
        w = lax.dynamic_update_slice(jnp.matmul(inverse, panel, precision=HIGHEST), -inverse, (0, o))
        others = (index < o) | (index >= o + b)
        return jnp.where(others[:, None] & others[None, :], a, 0) - jnp.matmul(w.T, w, precision=HIGHEST)

    return -lax.fori_loop(0, steps, step, a)[:n, :n]


@spd_inverse.defjvp
def _spd_inverse_jvp(block, primals, tangents):
    (a,), (da,) = primals, tangents
    inverse = spd_inverse(a, block)
    product = jnp.matmul(jnp.matmul(inverse, da, precision=HIGHEST), inverse, precision=HIGHEST)
    return inverse, -product


def zero_diagonal(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """[n, n] the matrix with zeros on its diagonal."""
    return jnp.where(jnp.eye(a.shape[0], dtype=bool), 0, a)


def orthonormal(a: Float[Array, "n K"]) -> Float[Array, "n K"]:
    """[n, K] an orthonormal basis of the columns (Householder QR); 4 n K^2 flops."""
    return jnp.linalg.qr(a)[0]


class Operator(NamedTuple):
    """A matrix given by its products with blocks of vectors.

    Attributes:
      shape: (m, n).
      dtype: of its entries.
      apply: [n, K] -> [m, K], the product.
      transpose: [m, K] -> [n, K], the product with the transpose.
    """

    shape: tuple[int, ...]
    dtype: Any
    apply: Callable[[Any], Any]
    transpose: Callable[[Any], Any]


def truncated_svd(
    a: Operator | Float[ArrayLike, "m n"],
    rank: int,
    key: PRNGKeyArray,
    *,
    power_iterations: int = 6,
    oversampling: int = 16,
) -> tuple[Float[Array, "m K"], Float[Array, " K"], Float[Array, "n K"]]:
    """The `rank` largest singular values with their left and right singular vectors: a is near u D(s) v'.

    Randomized subspace iteration (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1), orthonormalized at every
    product. Where it would save nothing it gives way to the whole SVD: for matrices of at most 256 rows or columns,
    and where rank + oversampling passes half of the smaller side. To be called inside `jax.jit`.

    Args:
      a: [m, n] matrix, or an `Operator`, which is applied to blocks of rank + oversampling vectors.
      rank: static, 1 to min(m, n).
      key: random key of the starting block.
      power_iterations: static; each multiplies the error of the subspace by (s_beyond / s_rank)^2.
      oversampling: static; how many more vectors are carried along.

    Returns:
      [m, rank] u, [rank] s descending, [n, rank] v; u and v with orthonormal columns, each pair free in sign.

    Cost: 2 + 2 `power_iterations` products of 2 m n rank flops each; the whole SVD about 20 n^3.
    """
    if not isinstance(a, Operator):
        matrix = jnp.asarray(a)
        multiply = partial(jnp.matmul, precision=HIGHEST)
        a = Operator(matrix.shape, matrix.dtype, partial(multiply, matrix), partial(multiply, matrix.T))
    (m, n), width = a.shape, rank + oversampling
    if min(m, n) <= WHOLE_SVD_UP_TO or 2 * width > min(m, n):
        u, s, vt = jnp.linalg.svd(a.apply(jnp.eye(n, dtype=a.dtype)), full_matrices=False)
        return u[:, :rank], s[:rank], vt[:rank].T

    def iterate(_, basis):
        return orthonormal(a.apply(orthonormal(a.transpose(basis))))

    basis = orthonormal(a.apply(jax.random.normal(key, (n, width), a.dtype)))
    basis = lax.fori_loop(0, power_iterations, iterate, basis)
    v, s, ut = jnp.linalg.svd(a.transpose(basis), full_matrices=False)
    u = jnp.matmul(basis, ut[:rank].T, precision=HIGHEST)
    return u, s[:rank], v[:, :rank]


# -- NumPy, in place --------------------------------------------------------------------------------------------


def spd_invert_in_place(a: np.ndarray, *, block: int = 512, lapack_up_to: int = LAPACK_UP_TO) -> Status:
    """Overwrites the lower triangle of an SPD matrix with that of its inverse; what the upper holds is undefined.

    Up to `lapack_up_to` rows by LAPACK's potrf and potri, above by the sweep of `spd_inverse` over the lower
    triangle alone, which halves its flops and runs at the speed of the matrix product.

    Args:
      a: [n, n] row-major float32 or float64; the lower triangle is read, everything is overwritten.
      block: size of the pivot blocks of the sweep.
      lapack_up_to: largest n that is given to LAPACK.

    Returns:
      Status.OK, or Status.NOT_POSITIVE_DEFINITE, after which `a` holds nothing of use.

    Cost: n^3 flops; one n x n matrix, and 2 n `block` numbers.
    """
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not a.flags.c_contiguous:
        raise ValueError(f"wanted a square row-major matrix, got shape {a.shape}")
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
