"""The inverse of a symmetric positive definite (SPD) matrix on the CPU, in the memory of the matrix itself."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from jaxrec.runtime.blas import add_product
from jaxrec.runtime.progress import progress_bar
from jaxrec.status import Status

# LAPACK's potrf + potri is the fastest inverse up to here, and done in seconds. Above, the sweep can show progress
# and be interrupted; and from somewhere above n = 24,000 OpenBLAS's threaded spotrf crashes the process.
LAPACK_UP_TO = 10_000


def spd_invert_in_place(a: np.ndarray, *, block: int = 512, lapack_up_to: int = LAPACK_UP_TO) -> Status:
    """Overwrites the lower triangle of an SPD matrix by its inverse's; what the upper holds is undefined.

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
