"""The kernel of the closed-form linear autoencoders: one inverse, and a scaled copy of it.

Each of them minimises ||X - X B||_F^2 + ||Lambda^(1/2) B||_F^2 over item-item weights B whose diagonal is at most xi.
With the Gram matrix A = X'X, G = A + Lambda and C = G^-1, the answer is B = I - C D(s), s_j = max(Lambda_j,
(1 - xi) / C_jj) (Moon et al., SIGIR 2023); the methods differ in the penalty Lambda, which may depend on the diagonal
of A, and in the limit xi:

- xi = 0, diagonal zero (EASE, EDLAE): s_j = 1 / C_jj, since that is never below Lambda_j;
- xi = 1, diagonal free (LAE, DLAE): s_j = Lambda_j, since the free optimum has a diagonal below 1;
- between them: RLAE, RDLAE.

Always G B - A = Lambda - D(s), which is diagonal: the gradient vanishes off the diagonal, and s - Lambda >= 0 are the
multipliers of the constraint. One certificate fits all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec.data.interactions import Interactions
from jaxrec.solvers.columns import HIGHEST
from jaxrec.solvers.spd import spd_inverse
from jaxrec.solvers.spd_host import mirror_lower, spd_invert_in_place
from jaxrec.status import Status


class Problem(NamedTuple):
    """What a closed form minimises, but for its Gram matrix.

    Attributes:
      x: the interactions X, U x I.
      gram_diagonal: [I] diagonal of X'X.
      penalty: [I] diagonal of Lambda, above 0.
      diagonal_limit: xi in [0, 1], the largest diagonal.
    """

    x: Interactions
    gram_diagonal: np.ndarray
    penalty: np.ndarray
    diagonal_limit: float = 0.0

    def scale(self, unexplained: Any) -> Any:
        """[I] s of the solution, from 1 / diag(C) [I]."""
        return scale(unexplained, self.penalty, self.diagonal_limit)


class Solution(NamedTuple):
    """The optimum.

    Attributes:
      weights: [I, I] B.
      unexplained: [I] 1 / C_jj, the squared error and penalty of item j's regression on all others plus Lambda_j.
    """

    weights: Any
    unexplained: Any


def scale(unexplained: Any, penalty: Any, diagonal_limit: Any) -> Any:
    """[I] s = max((1 - xi) / C_jj, Lambda_j), by which B = I - C D(s) scales the columns of C."""
    xp = jnp if isinstance(unexplained, jax.Array) else np
    return xp.maximum((1 - diagonal_limit) * unexplained, penalty)


def objective(x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], penalty: Any) -> Float[Array, ""]:
    """The loss ||X - X B||_F^2 + ||Lambda^(1/2) B||_F^2, literally, for checking: it takes X dense.

    Args:
      x: [U, I] interactions.
      weights: [I, I] B.
      penalty: diagonal of Lambda: [I], or a scalar.
    """
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    error = x - jnp.matmul(x, weights, precision=HIGHEST)
    return jnp.sum(error**2) + jnp.sum(jnp.reshape(penalty, (-1, 1)) * weights**2)


def dropout_penalty(gram_diagonal: Any, dropout: Any, reg: Any) -> Any:
    """[I] the diagonal of Lambda, reg + p/(1-p) (X'X)_jj: what dropout with probability p costs in expectation."""
    return reg + dropout / (1 - dropout) * gram_diagonal


def solve(gram: Float[ArrayLike, "I I"], penalty: Float[ArrayLike, " I"], diagonal_limit: Any = 0.0) -> Solution:
    """The optimum B = I - C D(s) with C = (gram + D(penalty))^-1; can be jitted, mapped and differentiated.

    Args:
      gram: [I, I] X'X; symmetric. Not modified.
      penalty: [I] diagonal of Lambda, above 0.
      diagonal_limit: scalar xi in [0, 1], the largest diagonal.

    Cost: 2 I^3 flops; three I x I matrices.
    Fails: NaN where gram + D(penalty) is not numerically positive definite.
    """
    gram, penalty = jnp.asarray(gram), jnp.asarray(penalty)
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    inverse = spd_inverse(gram + eye * penalty[None, :])
    unexplained = 1 / jnp.diagonal(inverse)
    s = scale(unexplained, penalty, diagonal_limit)
    # Exactly 0 where it must be: compiled, s / unexplained may come out next to 1.
    diagonal = jnp.where(diagonal_limit > 0, jnp.maximum(0, 1 - s / unexplained), 0)
    return Solution(jnp.where(eye > 0, diagonal[None, :], -inverse * s[None, :]), unexplained)


def solve_on_host(gram_lower: np.ndarray, penalty: np.ndarray, diagonal_limit: float = 0.0) -> tuple[Solution, Status]:
    """The same optimum in place on the CPU: the weights come to stand in the memory of the Gram matrix.

    Args:
      gram_lower: [I, I] row-major; its lower triangle is X'X. Overwritten.
      penalty: [I] diagonal of Lambda, above 0.
      diagonal_limit: xi in [0, 1], the largest diagonal.

    Returns:
      The solution in the dtype of `gram_lower`, and whether the inverse succeeded.

    Cost: I^3 flops; one I x I matrix.
    """
    status = invert_on_host(gram_lower, penalty)
    if status is not Status.OK:
        return Solution(gram_lower, np.full(len(gram_lower), np.nan)), status
    return weights_in_place(gram_lower, penalty, diagonal_limit), status


def invert_on_host(gram_lower: np.ndarray, penalty: np.ndarray) -> Status:
    """Overwrites X'X, of which the lower triangle is read, with C = (X'X + D(penalty))^-1, both triangles.

    Cost: I^3 flops; one I x I matrix.
    """
    diagonal = np.einsum("ii->i", gram_lower)  # a writable view
    with np.errstate(over="ignore"):  # what overflows is not certified
        diagonal += penalty
    status = spd_invert_in_place(gram_lower)
    if status is Status.OK:
        mirror_lower(gram_lower)
    return status


def weights_in_place(inverse: np.ndarray, penalty: np.ndarray, diagonal_limit: float = 0.0) -> Solution:
    """The optimum from C = (X'X + D(penalty))^-1, in the memory of C."""
    diagonal = np.einsum("ii->i", inverse)
    with np.errstate(all="ignore"):  # what overflows is not certified
        unexplained = 1 / diagonal.astype(np.float64)
        s = scale(unexplained, penalty, diagonal_limit)
        for rows in np.array_split(inverse, max(1, len(inverse) // 256)):
            rows *= -s.astype(inverse.dtype)
        diagonal[:] = np.maximum(0, 1 - s / unexplained)
    return Solution(inverse, unexplained)
