"""What the other items leave of an item, where the formula for it cancels.

The squared error of the regression of item j on all others, with its penalty, is 1 / C_jj - Lambda_j. Where Lambda_j is
far above it, rounding of C leaves nothing of the difference. It is also A_jj - sum over k of A_jk w_kj, A = X'X, with
the weights w_j of that regression, in which nothing cancels that matters: the sum is the part that is explained.
The diagonal of a linear autoencoder that is free to predict items from themselves, 1 - Lambda_j C_jj, follows from it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from jaxrec.closed_form.kernel import Problem, Solution
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import columns_of, on_diagonal

CHUNK = 256  # columns at a time
DIGITS_LEFT = 1e4  # a difference below so many times the rounding of its terms is computed anew


def lost(problem: Problem, unexplained: np.ndarray, dtype: Any) -> np.ndarray:
    """[L] the items whose 1 / C_jj - Lambda_j rounding has spoilt."""
    rounding = float(np.finfo(dtype).eps) * (problem.penalty + np.abs(unexplained))
    return np.flatnonzero(~(unexplained - problem.penalty > DIGITS_LEFT * rounding))


def squared_errors(
    problem: Problem, unexplained: np.ndarray, columns: Any, ratio: np.ndarray, items: np.ndarray | None = None
) -> np.ndarray:
    """[I] float64 1 / C_jj - Lambda_j, from the weights where it cancels: for all such items, or for those given.

    Args:
      problem: data and penalty.
      unexplained: [I] 1 / C_jj.
      columns: [I, I], maybe padded: off its diagonal, B or C.
      ratio: [I] what its columns are multiplied by to become the regression of each item on all others.
      items: those that are computed anew; default `lost`.

    Cost: of these items, the sum over their users of len(history), and their columns of the weights.
    """
    errors = np.clip(unexplained - problem.penalty, 0, problem.gram_diagonal)
    items = lost(problem, unexplained, columns.dtype) if items is None else items
    if not len(items):
        return errors
    x: Any = problem.x.to_csr(np.float64)
    by_item, by_column = x.T.tocsr(), x.tocsc()
    for s in range(0, len(items), CHUNK):
        some = items[s : s + CHUNK]
        shared = (by_item @ by_column[:, some]).tocoo()
        found = columns_of(columns, some)
        others = shared.row != some[shared.col]
        row, col = shared.row[others], shared.col[others]
        explained = np.bincount(col, shared.data[others] * found[row, col], minlength=len(some)) * ratio[some]
        errors[some] = np.clip(problem.gram_diagonal[some] - explained, 0, problem.gram_diagonal[some])
    return errors


def with_exact_diagonal(problem: Problem, solution: Solution) -> Solution:
    """The solution, whose diagonal is computed anew where it may differ from 0 and rounding has spoilt it."""
    if problem.diagonal_limit == 0:
        return solution
    unexplained = np.asarray(solution.unexplained, np.float64)
    items = lost(problem, unexplained, solution.weights.dtype)
    if not len(items) or not np.isfinite(unexplained).all():
        return solution
    ratio = unexplained / problem.scale(unexplained)
    left = squared_errors(problem, unexplained, solution.weights, ratio, items)[items]
    own = np.minimum(left / (problem.penalty[items] + left), problem.diagonal_limit).astype(solution.weights.dtype)
    if isinstance(solution.weights, np.ndarray):
        solution.weights[items, items] = own
        return solution
    size = len(solution.weights)
    chosen, values = np.zeros(size, bool), np.zeros(size, own.dtype)
    chosen[items], values[items] = True, own
    return solution._replace(
        weights=_replaced(solution.weights, chosen, values, mesh=parallel.mesh_of(solution.weights))
    )


@partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def _replaced(weights, chosen, values, *, mesh):
    def kernel(own, chosen, values, axis):
        return jax.numpy.where(on_diagonal(own, axis) & chosen[:, None], values[:, None], own)

    inputs = (parallel.COLUMNS, parallel.REPLICATED, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, inputs, parallel.COLUMNS)(weights, chosen, values)
