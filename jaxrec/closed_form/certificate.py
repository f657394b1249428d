"""The certificate of the closed forms B = I - C D(s), C = (X'X + Lambda)^-1: is this the optimum, and how exactly?"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrec.closed_form.gram import offdiagonal_norm
from jaxrec.closed_form.kernel import Problem, Solution
from jaxrec.closed_form.products import times_weights, weights_times
from jaxrec.status import Certificate, Status, last_checks

PROBES = 8  # random signs for norms of residuals
EXACT_ITEMS = 64  # up to which errors of weights are not sampled
ERROR_PROBES = 16  # normal draws for errors of weights: a few signs may all be blind for two items that go together
# Largest relative KKT residual, and largest estimated rounding error, that leave `fit`.
RESIDUAL_LIMIT = {"float32": 1e-4, "float64": 1e-10}
ROUNDING_LIMIT = 1e-2
# Of iterative refinement: most steps, and the relative change that ends it.
REFINEMENTS = 8
REFINED = 1e-9


@np.errstate(all="ignore")  # weights that are not finite end in a status
def certify(problem: Problem, solution: Solution, status: Status = Status.OK) -> Certificate:
    """The evidence that `solution` is the optimum of `problem`.

    Seven checks, in this order; the status names the first that fails:
    the factorization succeeded; all weights are finite; each C_jj is positive and 1/C_jj - Lambda_j, the optimal value
    of item j's regression on all others, lies in [0, gram_jj] up to rounding; the estimated rounding error,
    eps/2 max_j (gram_jj + Lambda_j) C_jj, is below a hundredth (the second factor says how much of item j the others
    explain, and so how many digits cancel); the KKT residual ||zd(G B - A)||_F / ||zd(A)||_F is below its limit, where
    zd drops the diagonal; the estimated error of the weights, of all and of every column, is below its limit: see
    `weight_errors`. The residual is estimated from random signs z through the sparse X, with no second I x I matrix.

    Args:
      problem: data, penalty and limit of the diagonal.
      solution: weights [I, I], maybe as `Rescaled` from what a model holds, and 1 / diag(C) [I].
      status: what the solver said.

    Cost: 56 products with the weights and 64 with X.
    """
    dtype, (train, gram_diagonal, penalty, _) = np.dtype(solution.weights.dtype), problem
    limit = RESIDUAL_LIMIT[dtype.name]
    unexplained = np.asarray(solution.unexplained, np.float64)
    if status is not Status.OK or not np.isfinite(unexplained).all():
        failed = Status.NOT_POSITIVE_DEFINITE if status is Status.OK else status
        return Certificate(failed, float("nan"), limit)

    total, errors = gram_diagonal + penalty, unexplained - penalty
    eps = float(np.finfo(dtype).eps)
    rounding = eps / 2 * float(np.max(total / np.maximum(unexplained, np.finfo(np.float64).tiny)))
    slack = 64 * eps * total
    in_range = (unexplained > 0) & (errors >= -slack) & (errors <= gram_diagonal + slack)

    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), (train.n_items, PROBES))
    s = problem.scale(unexplained)[:, None]
    if train.n_items <= EXACT_ITEMS:
        draws = np.eye(train.n_items) * train.n_items**0.5
    else:
        draws = np.random.default_rng(1).normal(size=(train.n_items, ERROR_PROBES))
    both = weights_times(solution.weights, np.hstack([signs, draws / s]))
    response = both[:, :PROBES]
    x = train.to_csr(np.float64)
    at_answer = x.T @ (x @ (response - signs)) + penalty[:, None] * response
    at_zero = x.T @ (x @ signs)
    start = offdiagonal_norm(at_zero, signs)
    error = offdiagonal_norm(at_answer, signs)
    residual = error / start if start > 0 else error  # no two items share a user: nothing off the diagonal is exact
    weight_error, column_error = weight_errors(problem, solution, x, draws, draws / s - both[:, PROBES:])

    if not np.isfinite(residual):
        status = Status.NOT_FINITE
    elif not in_range.all():
        status = Status.MULTIPLIER_OUT_OF_RANGE
    elif rounding > ROUNDING_LIMIT:
        status = Status.ILL_CONDITIONED
    else:
        status = last_checks(residual, limit, weight_error, column_error)
    detail = {
        "estimated rounding error": rounding,
        "estimated error of the weights": weight_error,
        "estimated error of the worst column": column_error,
    }
    if errors[smallest := int(errors.argmin())] > slack[smallest]:  # else it is rounding alone
        detail["smallest column error"] = float(errors[smallest])
    return Certificate(status, residual, limit, detail)


def weight_errors(
    problem: Problem, solution: Solution, x: Any, draws: np.ndarray, rows: np.ndarray
) -> tuple[float, float]:
    """The estimated relative error of the weights in the Frobenius norm, and of the column that is worst in it.

    Along the flattest directions weights can be far off where the residual is tiny. The first step of iterative
    refinement from B sees both: with E = G (B - I) + D(s), which is 0 at the optimum, it is C E for a column whose
    diagonal is free. Where the diagonal is fixed the step is (C E)_oj - C_oj (C E)_jj / C_jj, in which errors of s_j
    cancel. From the left, z'C E = v'E with v = C z needs one product with the weights for all columns, and the mean
    square over normal draws z is the squared norm of each column (up to 64 items: over all rows, exactly).

    Args:
      problem: data, penalty and limit of the diagonal.
      solution: weights and 1 / diag(C).
      x: [U, I] float64 sparse X.
      draws: [I, P] z.
      rows: [I, P] C z.
    """
    count = draws.shape[1]
    unexplained = np.asarray(solution.unexplained, np.float64)
    penalty, s = problem.penalty[:, None], problem.scale(unexplained)[:, None]
    a = x.T @ (x @ rows)
    products = times_weights(np.hstack([a + penalty * rows, draws]).T, solution.weights).T
    step = products[:, :count] - a + (s - penalty) * rows
    plain = products[:, count:]
    # Of a row z, z'C E_j is (C E)_jj (z_j - u z'b_j) and the step's, u = 1 / (s_j C_jj): the first by least squares,
    # which may take so much of a step along b_j with it.
    diagonal = np.where(s < unexplained[:, None], 1 - s / unexplained[:, None], 0)
    others = (plain - diagonal * draws) * unexplained[:, None] / s
    freed = s <= penalty
    along = np.where(freed, draws, draws - others)
    if count == len(draws):
        share = np.diagonal(step)[:, None] / count**0.5
        off = step - share * along
    else:
        share = (along * step).sum(axis=1, keepdims=True) / (along**2).sum(axis=1, keepdims=True)
        taken = np.where(freed, 0, (others**2).mean(axis=1, keepdims=True))
        off = (step - share * along) * np.sqrt(count / (count - 1) * (1 + taken))
    errors, sizes = [(off**2).sum(axis=1)], [(plain**2).sum(axis=1)]
    if problem.diagonal_limit > 0:  # the weights between different items, which rank, and all of them
        sizes.insert(0, (_without(plain, draws) ** 2).sum(axis=1))
        errors.append(np.where(freed[:, 0], (step**2).sum(axis=1), errors[0]))
    known = sizes[-1]
    found = [(0.0, 0.0)]
    for error, size in zip(errors, sizes, strict=True):
        columns = size > 1e-12 * known  # the others have nothing but a diagonal
        if columns.any():
            found.append((np.sqrt(error.sum() / size.sum()), np.sqrt((error[columns] / size[columns]).max())))
    return tuple(map(float, np.max(found, axis=0)))  # pyright: ignore[reportReturnType]


def _without(products: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """[I, P] the products less what the diagonal of the matrix adds to them, by least squares."""
    own = (draws * products).sum(axis=1, keepdims=True) / (draws**2).sum(axis=1, keepdims=True)
    more = 1 if draws.shape[1] == len(draws) else draws.shape[1] / (draws.shape[1] - 1)
    return (products - own * draws) * np.sqrt(more)


def refined_rows(rows: Any, times_inverse: Any, x: Any, penalty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([B, I] R C, [B] the relative errors) in float64, from a C = (X'X + Lambda)^-1 that is only nearly so.

    Iterative refinement: what R C leaves of R, R - (R C)(X'X + Lambda) in float64 through the sparse X, is multiplied
    by C and added, until nothing changes that matters; each time the error shrinks by eps times the condition number.

    Args:
      rows: [B, I] sparse R.
      times_inverse: multiplies [B, I] float64 rows by C.
      x: [U, I] float64 sparse X.
      penalty: [I] diagonal of Lambda.

    Cost: 2 B I^2 + 4 B nnz flops a step, mostly two or three of them.
    """
    right = rows.toarray().astype(np.float64)
    found, errors = np.zeros_like(right), np.full(len(right), np.inf)
    left = right
    for _ in range(REFINEMENTS):
        step = times_inverse(left)
        found += step
        size = np.maximum(np.linalg.norm(found, axis=1), np.finfo(np.float64).tiny)
        errors = np.linalg.norm(step, axis=1) / size
        if not errors.max(initial=0) > REFINED:
            break
        left = right - found * penalty - (x.T @ (x @ found.T)).T
    return found, errors
