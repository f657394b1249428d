"""The largest eigenpairs of a symmetric operator, every copy of a repeated eigenvalue among them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

MOST_ROUNDS = 16  # of Lanczos iterations, each outside of what those before it found


OUTSIDE = 1e-6  # relative: how exactly the largest eigenvalue outside is known, and by how much it may be above


class Eigenpairs(NamedTuple):
    """The largest eigenvalues [K] of X'X, that is sigma^2, descending, and their eigenvectors [I, K]."""

    values: np.ndarray
    vectors: np.ndarray


def lanczos(operator: LinearOperator, rank: int, *, tolerance: float) -> Eigenpairs:
    """The `rank` largest eigenpairs of a symmetric operator with eigenvalues of at least 0, repeated ones included.

    Lanczos iterations from one vector see one direction of each eigenspace, and so may take a smaller eigenvalue for
    the second copy of a larger one. Groups of users with the same items make such copies. Therefore the largest
    eigenvalue outside of what was found is asked for, from another start; while it is above the smallest one found,
    the iterations are repeated outside, and the largest of all are kept.

    Args:
      operator: n x n.
      rank: at most n / 2.
      tolerance: relative, of the eigenvalues.

    Raises: ArpackError where it does not converge, or after `MOST_ROUNDS` repetitions.
    """
    n = operator.shape[0]
    draws = np.random.default_rng(0)  # fixed, so that the result is

    def largest(of: LinearOperator, count: int, tolerance: float) -> Eigenpairs:
        start = draws.normal(size=n)
        if not np.any(of.matvec(start)):  # nothing is left outside, which ARPACK refuses
            return Eigenpairs(np.zeros(count), np.zeros((n, count)))
        values, vectors = eigsh(of, count, which="LA", v0=start, tol=tolerance)  # pyright: ignore[reportArgumentType]: SciPy documents a float
        return Eigenpairs(values[::-1], vectors[:, ::-1])

    found = largest(operator, rank, tolerance)
    for _ in range(MOST_ROUNDS):
        outside = _without(operator, found)
        least = found.values[-1] + OUTSIDE * max(found.values[-1], 1e-3 * found.values[0])
        if not largest(outside, 1, OUTSIDE).values[0] > least:
            return Eigenpairs(np.maximum(found.values, 0), found.vectors)
        more = largest(outside, rank, tolerance)
        values, vectors = np.append(found.values, more.values), np.hstack([found.vectors, more.vectors])
        kept = np.argsort(-values, kind="stable")[:rank]
        found = Eigenpairs(values[kept], vectors[:, kept])
    raise ArpackNoConvergence(f"more than {MOST_ROUNDS} equal singular values", *found)


def largest_singular_value(*parts: Any) -> float:
    """The largest singular value of a product of sparse matrices, to six digits; infinity where it is not found.

    Cost: some 30 products with each of them and its transpose.
    """
    n = parts[-1].shape[1]

    def product(v: np.ndarray) -> np.ndarray:
        for part in reversed(parts):
            v = part @ v
        return v

    def square(v: np.ndarray) -> np.ndarray:
        v = product(v)
        for part in parts:
            v = part.T @ v
        return v

    if n < 3:  # too small for Lanczos iterations
        return float(np.linalg.norm(product(np.eye(n)), 2))
    operator = LinearOperator((n, n), matvec=square, dtype=np.float64)  # pyright: ignore[reportCallIssue]: of SciPy
    try:
        return float(np.sqrt(lanczos(operator, 1, tolerance=1e-6).values[0]))
    except ArpackError:
        return float("inf")


def _without(operator: LinearOperator, found: Eigenpairs) -> LinearOperator:
    """The operator with these eigenvalues moved to 0."""

    def product(v: np.ndarray) -> np.ndarray:
        v = v.ravel()
        return operator.matvec(v) - found.vectors @ (found.values * (found.vectors.T @ v))

    return LinearOperator(operator.shape, matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]: of SciPy
