"""Conjugate gradients on the CPU: rows of like length in chunks that fit in its caches, their products by NumPy.

XLA's products of many small matrices take twice the time or more, and every width would be compiled. Here the shapes
need not be few, so that hardly anything is padded. Threads work on different chunks.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrec.factorization.ridge.kernels import Solved, base, spectrum
from jaxrec.factorization.ridge.rows import Regressions
from jaxrec.runtime import blas
from jaxrec.runtime.threads import map_in_order

CHUNK_NUMBERS = 2**20  # of gathered factors in a chunk: 4 MB in float32
MAX_LENGTH_RATIO = 1.1  # how much longer the longest row of a chunk may be than its shortest


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


def chunks(rows: Regressions, rank: int, dtype: Any = None, some: np.ndarray | None = None) -> list[Chunk]:
    """The rows that have entries, shortest first; the others are 0 in any case. Cost: 12 bytes an entry.

    Args:
      rows: the regressions.
      rank: K.
      dtype: of their numbers; None is JAX's.
      some: [N] which rows are wanted; None are all.
    """
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    order = np.argsort(rows.counts, kind="stable")
    order = order[np.searchsorted(rows.counts[order], 1) :]
    if some is not None:
        order = order[some[order]]
    counts = rows.counts[order]
    made, start = [], 0
    while start < len(order):
        like = int(np.searchsorted(counts, max(MAX_LENGTH_RATIO * counts[start], counts[start] + 2), side="right"))
        most = max(1, CHUNK_NUMBERS // (rank * int(counts[like - 1])))
        at = order[start : min(like, start + most)]
        start += len(at)
        width = int(counts[start - 1])
        real = np.arange(width) < rows.counts[at, None]
        entry = (rows.indptr[at, None] + np.arange(width))[real]
        items = np.zeros(real.shape, np.int32)
        weights, targets = (np.zeros(real.shape, dtype) for _ in range(2))
        items[real], weights[real], targets[real] = rows.indices[entry], rows.weights[entry], rows.targets[entry]
        made.append(Chunk(at, items, weights, targets, rows.scale[at].astype(dtype), rows.ridge[at].astype(dtype)))
    return made


def steps_on_host(cut: list[Chunk], factors: np.ndarray, gram: np.ndarray, start: np.ndarray, steps: int) -> Solved:
    """What `kernels.conjugate_gradient` returns, for all rows at once, in the dtype of `factors`.

    Args:
      cut: from `chunks`.
      factors: [M, K] V.
      gram: [K, K] V'D(q)V.
      start: [N, K], such as the factors of the sweep before.
      steps: how many.

    Cost: (steps + 1/2) 4 nnz K + 4 (M + N) K^2 flops; a second table of factors, and a chunk of them a thread. What it
    takes is to read the chunks: twice a step, and in the last once.
    """
    values, turn = spectrum(gram)
    y = np.zeros_like(start)
    with blas.one_thread():
        # In the basis of the Gram matrix the preconditioner is diagonal, and so is what all rows share.
        gather = Gathered(factors @ turn, max((chunk.items.size for chunk in cut), default=0))
        work = functools.partial(_chunk, gather, values, start @ turn, steps, y)
        sums = np.sum([np.zeros(6), *map_in_order(work, cut)], axis=0)
        return Solved(y @ turn.T, *sums)


class Gathered(threading.local):
    """Rows of a table, put into memory that a thread keeps: fresh memory for every chunk costs more than the products.

    Attributes:
      table: [M, K].
      room: for the rows of `most` entries; a thread has its own.
    """

    def __init__(self, table: np.ndarray, most: int):
        self.table, self.room = table, np.empty((most, table.shape[1]), table.dtype)

    def __call__(self, items: np.ndarray) -> np.ndarray:
        """[B, L, K], until the next call of the thread."""
        gathered = self.room[: items.size].reshape(*items.shape, -1)
        return self.table.take(items, axis=0, out=gathered, mode="clip")  # any other mode takes a copy first


@np.errstate(all="ignore")  # what overflows shows in the solution
def _chunk(gather: Gathered, values: np.ndarray, start: np.ndarray, steps: int, out: Any, chunk: Chunk) -> np.ndarray:
    """Solves the rows of a chunk into `out`; returns the sums of `Solved`."""
    gathered = gather(chunk.items)
    shared = chunk.scale[:, None] * values
    diagonal = shared + chunk.ridge[:, None]

    def predict(y: np.ndarray, rows: int = 1) -> np.ndarray:
        """[B, rows, L] the predictions of the entries in the first row; the others are left to the caller."""
        predicted = np.empty((len(y), rows, gathered.shape[1]), y.dtype)
        np.matmul(gathered, y[:, :, None], out=predicted[:, 0, :, None])
        return predicted

    y = start[chunk.at]
    weighed = predict(y, rows=2)
    weighed[:, 0] *= chunk.weights
    weighed[:, 1] = chunk.targets  # their sum costs nothing in the same product
    image, right = np.matmul(weighed, gathered).swapaxes(0, 1)
    residual, empty = right - image - diagonal * y, ~right.any(axis=1)
    y[empty] = residual[empty] = 0
    before = _dots(residual, residual)
    inverse = 1 / base(values, chunk.scale, chunk.ridge)
    direction = inverse * residual
    square = _dots(residual, direction)
    for _ in range(steps - 1):
        predicted = predict(direction)
        predicted[:, 0] *= chunk.weights
        image = np.matmul(predicted, gathered)[:, 0]
        image += diagonal * direction
        length = _quotient(square, _dots(direction, image))
        y += np.multiply(length, direction)
        residual -= np.multiply(length, image, out=image)
        conditioned = np.multiply(inverse, residual, out=image)
        square, last = _dots(residual, conditioned), square
        direction *= _quotient(square, last)
        direction += conditioned
    # Of the last step's image only the curvature is needed, which the predictions tell.
    predicted = predict(direction)[:, 0]
    curvature = np.einsum("bl,bl,bl->b", predicted, predicted, chunk.weights) + _dots(direction, diagonal * direction)
    length = _quotient(square, curvature)
    image = right - residual
    after = _dots(residual, residual)
    quadratic = _dots(y, image)
    direction *= length
    quadratic += 2 * _dots(direction, image) + length[:, 0] * square
    y += direction
    out[chunk.at] = y
    penalty = chunk.ridge * _dots(y, y)
    everywhere = _dots(y, shared * y)
    entries = quadratic - 2 * _dots(y, right) - everywhere - penalty
    parts = before, after, _dots(right, right), entries, everywhere, penalty
    return np.array([np.sum(part, dtype=np.float64) for part in parts])


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bk,bk->b", a, b)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[B, 1] a / b, or 0 where b is not above 0: a row that is solved stays as it is."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)[:, None]
