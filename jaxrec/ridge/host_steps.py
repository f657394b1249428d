"""Conjugate gradients on the CPU: rows of like length in chunks that fit in its caches, their products by NumPy.

XLA's products of many small matrices take twice the time or more, and every width would be compiled. Here the shapes
need not be few, so that hardly anything is padded. Threads work on different chunks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrec import _blas
from jaxrec._threads import map_in_order
from jaxrec.ridge.rows import Rows
from jaxrec.ridge.systems import Solved, base, spectrum

CHUNK_NUMBERS = 2**20  # of gathered factors in a chunk: 4 MB in float32
LONGER = 1.1  # how much longer the longest row of a chunk may be than its shortest


class Chunk(NamedTuple):
    """B regressions on the host, padded to L entries; padding has index 0 and weights 0.

    Attributes:
      at: [B] which rows.
      items: [B, L] int32.
      weights: [B, L] s.
      targets: [B, L] b.
      scale: [B] p.
      ridge: [B] r.
    """

    at: np.ndarray
    items: np.ndarray
    weights: np.ndarray
    targets: np.ndarray
    scale: np.ndarray
    ridge: np.ndarray


def chunks(rows: Rows, rank: int) -> list[Chunk]:
    """The rows that have entries, shortest first; the others are 0 in any case. Cost: 12 bytes an entry."""
    dtype = jnp.zeros(()).dtype
    order = np.argsort(rows.counts, kind="stable")
    order = order[np.searchsorted(rows.counts[order], 1) :]
    counts = rows.counts[order]
    made, start = [], 0
    while start < len(order):
        like = int(np.searchsorted(counts, max(LONGER * counts[start], counts[start] + 2), side="right"))
        most = max(1, CHUNK_NUMBERS // (rank * int(counts[like - 1])))
        at = order[start : min(like, start + most)]
        start += len(at)
        width = int(counts[start - 1])
        real = np.arange(width) < rows.counts[at, None]
        entry = (rows.indptr[at, None] + np.arange(width))[real]
        items = np.zeros(real.shape, np.int32)
        weights, targets = np.zeros((2, *real.shape), dtype)
        items[real], weights[real], targets[real] = rows.indices[entry], rows.weights[entry], rows.targets[entry]
        made.append(Chunk(at, items, weights, targets, rows.scale[at].astype(dtype), rows.ridge[at].astype(dtype)))
    return made


def steps_on_host(cut: list[Chunk], factors: np.ndarray, gram: np.ndarray, start: np.ndarray, steps: int) -> Solved:
    """What `systems.conjugate_gradient` returns, for all rows at once, in the dtype of `factors`.

    Args:
      cut: from `chunks`.
      factors: [M, K] V.
      gram: [K, K] V'D(q)V.
      start: [N, K], such as the factors of the sweep before.
      steps: how many.

    Cost: (steps + 1) 4 nnz K + 4 (M + N) K^2 flops; a second table of factors, and a chunk of them a thread.
    """
    values, turn = spectrum(gram)
    y = np.zeros_like(start)
    # In the basis of the Gram matrix the preconditioner is diagonal, and so is what all rows share.
    work = functools.partial(_chunk, factors @ turn, values, start @ turn, steps, y)
    with _blas.one_thread():
        sums = np.sum([np.zeros(6), *map_in_order(work, cut)], axis=0)
    return Solved(y @ turn.T, *sums)


@np.errstate(all="ignore")  # what overflows shows in the solution
def _chunk(factors: Any, values: np.ndarray, start: np.ndarray, steps: int, out: Any, chunk: Chunk) -> np.ndarray:
    """Solves the rows of a chunk into `out`; returns the sums of `Solved`."""
    near = factors.take(chunk.items, axis=0)  # twice as fast as indexing
    shared = chunk.scale[:, None] * values
    diagonal = shared + chunk.ridge[:, None]

    def apply(y: np.ndarray, and_sum: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The left-hand sides, and V_u'b_u of what else is given, which costs nothing in the same product."""
        weighed = np.empty((len(y), 1 if and_sum is None else 2, near.shape[1]), y.dtype)
        np.matmul(near, y[:, :, None], out=weighed[:, 0, :, None])
        weighed[:, 0] *= chunk.weights
        weighed[:, 1:] = 0 if and_sum is None else and_sum[:, None]
        sums = np.matmul(weighed, near)
        image = sums[:, 0]
        image += diagonal * y
        return image, sums[:, -1]

    y = start[chunk.at]
    image, right = apply(y, chunk.targets)
    residual, empty = right - image, ~right.any(axis=1)
    y[empty] = residual[empty] = 0
    before = _dots(residual, residual)
    inverse = 1 / base(values, chunk.scale, chunk.ridge)
    direction = inverse * residual
    square = _dots(residual, direction)
    for step in range(steps):
        image, _ = apply(direction)
        length = _quotient(square, _dots(direction, image))
        y += np.multiply(length, direction)
        residual -= np.multiply(length, image, out=image)
        if step + 1 < steps:
            conditioned = np.multiply(inverse, residual, out=image)
            square, last = _dots(residual, conditioned), square
            direction *= _quotient(square, last)
            direction += conditioned
    out[chunk.at] = y
    penalty = chunk.ridge * _dots(y, y)
    everywhere = _dots(y, shared * y)
    linear = _dots(y, right) + _dots(y, residual)
    after = _dots(residual, residual)
    parts = before, after, _dots(right, right), -linear - everywhere - penalty, everywhere, penalty
    return np.array([np.sum(part, dtype=np.float64) for part in parts])


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bk,bk->b", a, b)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[B, 1] a / b, or 0 where b is not above 0: a row that is solved stays as it is."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)[:, None]
