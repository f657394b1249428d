"""The exact solutions on the CPU of rows with few entries: n x n equations for the entries in place of K x K ones.

In the basis in which G = V'D(q)V is diagonal, D(g), a row with the n entries V_u is (D + V_u'SV_u) y = V_u'b, where
D = p D(g) + r I. Since (D + V_u'SV_u)^-1 V_u' = D^-1 V_u' (I + SM)^-1 with M = V_u D^-1 V_u' [n, n],

    y = D^-1 V_u' z,    (I + SM) z = b.

Nothing is subtracted, so that no digits cancel, and with S >= 0 all eigenvalues of SM are real and at least 0. A row
costs n^2 K + 2 n^3 / 3 in place of n K^2 + K^3 / 3, which is a tenth and less for the short histories that most are.
"""

from __future__ import annotations

import functools

import numpy as np

from jaxrec.factorization.ridge.host_cg import Chunk, Gathered, chunks
from jaxrec.factorization.ridge.kernels import spectrum
from jaxrec.factorization.ridge.rows import Regressions
from jaxrec.runtime import blas
from jaxrec.runtime.threads import map_in_order

# Of K: up to so many entries a row is solved in this way; near there both cost the same (measured).
SHORT_ROW_SHARE = 1 / 3


def has_few(rows: Regressions, rank: int) -> np.ndarray:
    """[N] which rows are to be solved here: with few entries, none of them weighted below 0, and a ridge above 0."""
    below = np.bincount(np.repeat(np.arange(len(rows.scale)), rows.counts), rows.weights < 0, len(rows.scale))
    return (rows.counts <= SHORT_ROW_SHARE * rank) & (below == 0) & (rows.ridge > 0)


def solve_few(
    rows: Regressions, few: np.ndarray, factors: np.ndarray, gram: np.ndarray, start: np.ndarray | None, y: np.ndarray
) -> np.ndarray:
    """Solves some rows into `y` [N, K], which is 0; returns the sums that `solve_on_host` makes `Solved` of.

    Args:
      rows: the regressions.
      few: [N] which of them, as `has_few` says.
      factors: [M, K] V.
      gram: [K, K] V'D(q)V.
      start: [N, K] for the residual before; without it that is not computed.
      y: [N, K] for the solutions.

    Cost: the sum over rows of n^2 K + 2 n^3 / 3 flops, and 4 (M + N) K^2; another table of factors, 2^20 numbers a
      thread.
    """
    if not (cut := chunks(rows, factors.shape[1], factors.dtype, few)):
        return np.zeros(5)
    values, turn = spectrum(gram)
    with blas.one_thread():
        gather = Gathered(factors @ turn, max(chunk.items.size for chunk in cut))
        work = functools.partial(_chunk, gather, values, turn, start, y)
        return np.sum(list(map_in_order(work, cut)), axis=0)


@np.errstate(all="ignore")  # what overflows shows in the solution
def _chunk(
    gather: Gathered, values: np.ndarray, turn: np.ndarray, start: np.ndarray | None, out: np.ndarray, chunk: Chunk
) -> np.ndarray:
    """Solves the rows of a chunk; returns the sums (before, right, everywhere, penalty, right-hand side times y)."""
    gathered = gather(chunk.items)
    shared = chunk.scale[:, None] * values
    diagonal = shared + chunk.ridge[:, None]
    left = np.matmul(gathered / diagonal[:, None, :], gathered.swapaxes(1, 2)).astype(np.float64)  # M
    left *= chunk.weights[:, :, None]
    np.einsum("bll->bl", left)[...] += 1
    z = np.linalg.solve(left, chunk.targets[:, :, None].astype(np.float64)).astype(gathered.dtype)
    y = np.matmul(z.swapaxes(1, 2), gathered)[:, 0] / diagonal
    out[chunk.at] = y @ turn.T
    right = np.matmul(chunk.targets[:, None, :], gathered)[:, 0]
    before = 0.0
    if start is not None:
        begun = np.where(right.any(axis=1)[:, None], start[chunk.at] @ turn, 0)
        weighed = np.matmul(gathered, begun[:, :, None])[:, :, 0] * chunk.weights
        residual = right - np.matmul(weighed[:, None, :], gathered)[:, 0] - diagonal * begun
        before = np.sum(residual**2, dtype=np.float64)
    parts = right**2, shared * y**2, chunk.ridge[:, None] * y**2, right * y
    return np.array([before, *(np.sum(part, dtype=np.float64) for part in parts)])
