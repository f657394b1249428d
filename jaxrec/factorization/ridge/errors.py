"""How far the solutions of many regressions are from the exact ones: some of them solved once more, in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxrec.factorization.ridge.rows import Regressions
from jaxrec.solvers.columns import largest_share, sample_by

NUMBERS_AT_ONCE = 2**18  # of a table, in float64
SAMPLE = 64  # rows that are looked at


class RowErrors(NamedTuple):
    """Estimated relative errors of the predictions that solved rows make.

    Attributes:
      whole: of all rows, in the Frobenius norm.
      worst: of the row that is worst in it, of those that were looked at.
    """

    whole: float
    worst: float


def gram_in_float64(a: Any, b: Any, weights: np.ndarray | None = None) -> np.ndarray:
    """[K, L] A'D(w)B in float64, from tables [N, K] and [N, L]; 2 N K L flops, some rows at a time."""
    size = max(1, NUMBERS_AT_ONCE // a.shape[1])
    found = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), size):
        some = slice(start, start + size)
        left = np.asarray(a[some], np.float64)
        found += (left if weights is None else left * weights[some, None]).T @ np.asarray(b[some], np.float64)
    return found


@np.errstate(all="ignore")  # what overflows is not certified
def row_errors(rows: Regressions, solved: Any, factors: Any, gradient: np.ndarray) -> RowErrors:
    """The errors of the solutions of all rows, from the exact solutions of up to 64 of them.

    A row's system is (p V'D(q)V + V_u'D(s)V_u + r I) y = V_u'b. The inverse of its matrix times the gradient is what is
    wrong with y, and is measured by what it does to the predictions V y: along directions that these do not see factors
    may be anything.

    Args:
      rows: N regressions.
      solved: [N, K] Y.
      factors: [M, K] V, the other side's.
      gradient: [N, K] half the gradient of the loss at Y, in float64. Of the rows with the largest ones half of the
        sample is, the others are drawn.

    Returns:
      Infinity where a matrix is singular in float64.

    Cost: (2 N + 4 M) K^2 flops, and 2 n K^2 + 2/3 K^3 of each row of n entries that is looked at.
    """
    everywhere, predicted = gram_in_float64(factors, factors, rows.col), gram_in_float64(factors, factors)
    some, examples = sample_by(np.linalg.norm(gradient, axis=1), SAMPLE)
    wrong, size = np.zeros((len(some), len(predicted))), np.asarray(solved[some], np.float64)
    for at, row in enumerate(some.tolist()):
        if not gradient[row].any():  # such as of an item without users and without weights, which determine nothing
            continue
        entries = slice(int(rows.indptr[row]), int(rows.indptr[row + 1]))
        near = np.asarray(factors[rows.indices[entries]], np.float64)
        matrix = rows.scale[row] * everywhere + near.T @ (rows.weights[entries, None] * near)
        matrix[np.diag_indices_from(matrix)] += rows.ridge[row]
        try:
            wrong[at] = np.linalg.solve(matrix, gradient[row])
        except np.linalg.LinAlgError:
            wrong[at] = np.inf
    if not np.isfinite(wrong).all():
        return RowErrors(float("inf"), float("inf"))
    errors, sizes = (np.einsum("sk,kl,sl->s", part, predicted, part).clip(0) for part in (wrong, size))
    total = float(np.sum(predicted * gram_in_float64(solved, solved)))
    lost = float(examples @ errors)
    whole = float(np.sqrt(lost / total)) if total > 0 else float("inf" if lost > 0 else 0)
    return RowErrors(whole, largest_share(np.sqrt(errors), np.sqrt(sizes)))
