"""The exact solutions on the CPU: one rank-L update and one Cholesky solve a row, straight in BLAS and LAPACK.

XLA solves a batch of small systems at about a third of the speed, and would pad histories. A row is three calls through
ctypes, which release the interpreter lock, so that threads work on different rows. Rows with few entries are left to
`host_short_rows`.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from typing import Any

import numpy as np
import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack
import scipy.sparse as sp

from jaxrec.factorization.ridge.host_short_rows import has_few, solve_few
from jaxrec.factorization.ridge.kernels import Solved
from jaxrec.factorization.ridge.rows import Regressions
from jaxrec.runtime import blas
from jaxrec.runtime.threads import map_in_order

BLOCK_NUMBERS = 2**20  # of gathered factors at a time and thread
_SCALARS = {np.dtype(np.float32): ("s", ctypes.c_float), np.dtype(np.float64): ("d", ctypes.c_double)}


def solve_on_host(rows: Regressions, factors: np.ndarray, gram: np.ndarray, start: np.ndarray | None = None) -> Solved:
    """What `kernels.cholesky` returns, for all rows at once, in the dtype of `factors`.

    Args:
      rows: the regressions.
      factors: [M, K] V, row-major.
      gram: [K, K] V'D(q)V.
      start: [N, K] for the residual before; without it that is not computed.

    Cost: nnz K^2 + N K^3/3 flops; no padding, and one K x K matrix a thread. For rows with few
      entries see `host_short_rows`.
    """
    few = has_few(rows, factors.shape[1])
    y = np.zeros((len(rows.scale), factors.shape[1]), factors.dtype)
    sums = solve_few(rows, few, factors, gram, start, y)
    if not few.any():
        sums += _solve_many(rows, factors, gram, start, y)
    elif not few.all():
        own = np.zeros((np.count_nonzero(~few), y.shape[1]), y.dtype)
        sums += _solve_many(rows.take(~few), factors, gram, None if start is None else start[~few], own)
        y[~few] = own
    before, right, everywhere, penalty, linear = sums
    return Solved(y, before, 0.0, right, -linear - everywhere - penalty, everywhere, penalty)


def _solve_many(rows: Regressions, factors: np.ndarray, gram: np.ndarray, start: Any, y: np.ndarray) -> np.ndarray:
    """What `solve_few` does, for rows with many entries."""
    blocks = _cuts(rows.indptr, max(1, BLOCK_NUMBERS // factors.shape[1]))
    work = functools.partial(_block, rows, factors, gram, start, y)
    with blas.one_thread():
        return np.sum([np.zeros(5), *map_in_order(work, blocks)], axis=0)


def _cuts(indptr: np.ndarray, entries: int) -> list[slice]:
    """Ranges of rows with about so many entries (or empty rows) each."""
    position = indptr + np.arange(len(indptr))  # rows count as well, lest empty ones pile up
    edges = np.searchsorted(position, np.arange(0, position[-1] + entries, entries)).clip(0, len(indptr) - 1)
    edges = np.unique(np.append(edges, len(indptr) - 1))
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


@functools.cache
def _routines(dtype: np.dtype) -> tuple[Any, ...]:
    letter, scalar = _SCALARS[dtype]
    modules = {"syrk": (scipy.linalg.cython_blas, 10), "gemm": (scipy.linalg.cython_blas, 13)}
    modules |= {"symv": (scipy.linalg.cython_blas, 10), "posv": (scipy.linalg.cython_lapack, 8)}
    found = [
        blas.routine(module, letter + name, ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments))
        for name, (module, arguments) in modules.items()
    ]
    return *found, scalar


@np.errstate(all="ignore")  # what overflows shows in the solution
def _block(
    rows: Regressions, factors: np.ndarray, gram: np.ndarray, start: Any, y: np.ndarray, block: slice
) -> np.ndarray:
    """Solves some rows into `y`; returns the sums (before, right, everywhere, penalty, right-hand side times y)."""
    dtype, k = factors.dtype, factors.shape[1]
    syrk, gemm, symv, posv, scalar = _routines(dtype)
    indptr = rows.indptr[block.start : block.stop + 1]
    entries = slice(indptr[0], indptr[-1])
    weights = rows.weights[entries].astype(dtype)
    items = rows.indices[entries]
    out = y[block]
    shape = (len(out), len(factors))
    out[:] = sp.csr_array((rows.targets[entries].astype(dtype), items, indptr - indptr[0]), shape=shape) @ factors
    right = out.copy()
    residual = right.copy() if start is not None else None
    wanted: np.ndarray = np.any(right, axis=1)
    # With s >= 0 half of V_u'D(s)V_u is enough, and the other half of the work is spared.
    rooted = weights.size == 0 or weights.min() >= 0
    gathered = factors.take(items, axis=0)  # twice as fast as indexing
    if rooted:
        gathered *= np.sqrt(weights)[:, None]
        left = gathered
    else:
        left = gathered * weights[:, None]

    matrix, base = np.empty((k, k), dtype), np.ascontiguousarray(gram, dtype)
    diagonal = np.einsum("kk->k", matrix)
    values = {"k": ctypes.c_int(k), "n": ctypes.c_int(0), "unit": ctypes.c_int(1), "failed": ctypes.c_int(0)}
    values |= {"upper": ctypes.c_char(b"U"), "plain": ctypes.c_char(b"N"), "transposed": ctypes.c_char(b"T")}
    values |= {"one": scalar(1), "minus": scalar(-1)}
    at = {name: ctypes.addressof(value) for name, value in values.items()}
    c, a, b, x = matrix.ctypes.data, left.ctypes.data, gathered.ctypes.data, out.ctypes.data
    r = residual.ctypes.data if residual is not None else 0
    begun = np.ascontiguousarray(start[block], dtype) if start is not None else None
    s = begun.ctypes.data if begun is not None else 0
    stride = k * dtype.itemsize
    each = zip(
        np.diff(indptr).tolist(), rows.scale[block].tolist(), rows.ridge[block].tolist(), wanted.tolist(), strict=True
    )
    for count, scale, ridge, has_target in each:
        if has_target:
            np.multiply(base, scale, out=matrix)
            diagonal += ridge
            values["n"].value = count
            # Column-major, a row-major [n, k] reads as its transpose: C + A A' here is C + A'A there.
            if rooted:
                syrk(at["upper"], at["plain"], at["k"], at["n"], at["one"], a, at["k"], at["one"], c, at["k"])
            else:
                gemm(
                    *(at["plain"], at["transposed"], at["k"], at["k"], at["n"], at["one"], a, at["k"], b, at["k"]),
                    *(at["one"], c, at["k"]),
                )
            if r:
                symv(at["upper"], at["k"], at["minus"], c, at["k"], s, at["unit"], at["one"], r, at["unit"])
            posv(at["upper"], at["k"], at["unit"], c, at["k"], x, at["k"], at["failed"])
            if values["failed"].value:
                out[(x - out.ctypes.data) // stride] = np.nan
        a, b = a + count * stride, b + count * stride
        x, r, s = x + stride, r and r + stride, s and s + stride
    squares = np.einsum("nk,nk->n", out, out, dtype=np.float64)
    everywhere = np.einsum("nk,nk->n", out, out @ base, dtype=np.float64)
    before = 0.0 if residual is None else np.sum(residual[wanted].astype(np.float64) ** 2)
    return np.array(
        [
            before,
            np.sum(right.astype(np.float64) ** 2),
            rows.scale[block] @ everywhere,
            rows.ridge[block] @ squares,
            np.einsum("nk,nk->", right, out, dtype=np.float64),
        ]
    )
