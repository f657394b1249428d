"""The certificate of the closed forms B = I - C D(s), C = (X'X + Lambda)^-1: is this the optimum, and how exactly?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.closed_form.gram import offdiagonal_norm
from jaxrec.closed_form.kernel import Problem, Solution
from jaxrec.closed_form.mesh import weights_times
from jaxrec.solvers.columns import HIGHEST
from jaxrec.status import Certificate, Status

PROBES = 8
# Largest relative KKT residual, and largest estimated rounding error of the weights, that leave `fit`.
RESIDUAL_LIMIT = {"float32": 1e-4, "float64": 1e-10}
ROUNDING_LIMIT = 1e-2
# Of iterative refinement: most steps, and the relative change that ends it.
REFINEMENTS = 8
REFINED = 1e-9


@np.errstate(over="ignore", invalid="ignore")  # weights that are not finite end in a status
def certify(problem: Problem, solution: Solution, status: Status = Status.OK) -> Certificate:
    """The evidence that `solution` is the optimum of `problem`.

    Six checks, in this order; the status names the first that fails:
    the factorization succeeded; all weights are finite; each C_jj is positive and 1/C_jj - Lambda_j, the optimal value
    of item j's regression on all others, lies in [0, gram_jj] up to rounding; the estimated rounding error,
    eps/2 max_j (gram_jj + Lambda_j) C_jj, is below a hundredth (the second factor says how much of item j the others
    explain, and so how many digits cancel); the KKT residual ||zd(G B - A)||_F / ||zd(A)||_F is below its limit, where
    zd drops the diagonal; the estimated error of the weights is below a hundredth. The residual is estimated from
    random signs z through the sparse X, with no second I x I matrix. The error, which along the flattest directions
    can be large where the residual is tiny, is the first step of iterative refinement from there,
    C (D(s) - G (I - B)) with C = (I - B) D(1/s), again without its diagonal and relative to B.

    Args:
      problem: data, penalty and limit of the diagonal.
      solution: weights [I, I] and 1 / diag(C) [I]; the weights may be anything with `@`.
      status: what the solver said.

    Cost: 16 products with the weights and 32 with X.
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

    signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype), (train.n_items, PROBES))
    response = _times(solution.weights, signs)
    x = train.to_csr(np.float64)
    at_answer = x.T @ (x @ (response - signs)) + penalty[:, None] * response
    at_zero = x.T @ (x @ signs)
    start = offdiagonal_norm(at_zero, signs)
    error = offdiagonal_norm(at_answer, signs)
    residual = error / start if start > 0 else error  # no two items share a user: nothing off the diagonal is exact

    # The diagonal of the first term would not count; adding it would only cost digits.
    s = problem.scale(unexplained)
    with np.errstate(all="ignore"):
        missing = (at_answer + (s - penalty)[:, None] * signs) / s[:, None]
        step = at_answer / s[:, None] - _times(solution.weights, missing.astype(dtype))
    size = offdiagonal_norm(response, signs)
    weight_error = offdiagonal_norm(step, signs) / size if size > 0 else 0.0

    if not np.isfinite(residual):
        status = Status.NOT_FINITE
    elif not in_range.all():
        status = Status.MULTIPLIER_OUT_OF_RANGE
    elif rounding > ROUNDING_LIMIT:
        status = Status.ILL_CONDITIONED
    elif residual > limit:
        status = Status.RESIDUAL_TOO_LARGE
    elif not weight_error <= ROUNDING_LIMIT:
        status = Status.ILL_CONDITIONED
    detail = {
        "estimated rounding error": rounding,
        "estimated error of the weights": weight_error,
        "smallest column error": float(errors.min()),
    }
    return Certificate(status, residual, limit, detail)


def refined_rows(rows: Any, inverse: Any, x: Any, penalty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([B, I] R C, [B] the relative errors) in float64, from a C = (X'X + Lambda)^-1 that is only nearly so.

    Iterative refinement: what R C leaves of R, R - (R C)(X'X + Lambda) in float64 through the sparse X, is multiplied
    by C and added, until nothing changes that matters; each time the error shrinks by eps times the condition number.

    Args:
      rows: [B, I] sparse R.
      inverse: [I, I] C.
      x: [U, I] float64 sparse X.
      penalty: [I] diagonal of Lambda.

    Cost: 2 B I^2 + 4 B nnz flops a step, mostly two or three of them.
    """
    right = rows.toarray().astype(np.float64)
    found, errors = np.zeros_like(right), np.full(len(right), np.inf)
    left = right
    for _ in range(REFINEMENTS):
        step = _times_inverse(left, inverse)
        found += step
        size = np.maximum(np.linalg.norm(found, axis=1), np.finfo(np.float64).tiny)
        errors = np.linalg.norm(step, axis=1) / size
        if not errors.max(initial=0) > REFINED:
            break
        left = right - found * penalty - (x.T @ (x @ found.T)).T
    return found, errors


def _times_inverse(rows: np.ndarray, inverse: Any) -> np.ndarray:
    """[B, I] float64 rows C, computed where C lies and in its precision; C is symmetric."""
    rows = rows.astype(inverse.dtype)
    product = jnp.matmul(rows, inverse, precision=HIGHEST) if isinstance(inverse, jax.Array) else rows @ inverse
    return np.asarray(product, np.float64)


def _times(weights: Any, vectors: np.ndarray) -> np.ndarray:
    """[I, P] weights times vectors, wherever the weights are, in their precision."""
    product = weights_times(weights, vectors) if isinstance(weights, jax.Array) else weights @ vectors
    return product.astype(np.float64)
