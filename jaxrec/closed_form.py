"""What the closed-form linear autoencoders share: one inverse, a scaled copy of it, and the evidence that it is right.

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

import abc
import dataclasses
import time
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks, linalg, stats
from jaxrec._checks import InputError
from jaxrec.data import Interactions
from jaxrec.memory import Plan, available_bytes, rough_seconds
from jaxrec.models import FitInfo, Fitted, ItemWeights
from jaxrec.status import Certificate, FitError, Status

PROBES = 8
# Largest relative KKT residual, and largest estimated rounding error of the weights, that leave `fit`.
RESIDUAL_LIMIT = {"float32": 1e-4, "float64": 1e-10}
ROUNDING_LIMIT = 1e-2


class Solution(NamedTuple):
    """The optimum.

    Attributes:
      weights: [I, I] B.
      unexplained: [I] 1 / C_jj, the squared error and penalty of item j's regression on all others plus Lambda_j.
    """

    weights: Any
    unexplained: Any


def objective(x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], penalty: Any) -> Float[Array, ""]:
    """The loss ||X - X B||_F^2 + ||Lambda^(1/2) B||_F^2, literally, for checking: it takes X dense.

    Args:
      x: [U, I] interactions.
      weights: [I, I] B.
      penalty: diagonal of Lambda: [I], or a scalar.
    """
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    error = x - jnp.matmul(x, weights, precision=linalg.HIGHEST)
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
    inverse = linalg.spd_inverse(gram + eye * penalty[None, :])
    unexplained = 1 / jnp.diagonal(inverse)
    s = jnp.maximum((1 - diagonal_limit) * unexplained, penalty)
    # Exactly 0 where it must be: compiled, s / unexplained may come out next to 1.
    diagonal = jnp.where(diagonal_limit > 0, jnp.maximum(0, 1 - s / unexplained), 0)
    return Solution(jnp.where(eye > 0, diagonal[None, :], -inverse * s[None, :]), unexplained)


_solve_on_device = partial(jax.jit, donate_argnums=0)(solve)


def solve_on_host(gram_lower: np.ndarray, penalty: np.ndarray, diagonal_limit: float = 0.0) -> tuple[Solution, Status]:
    """The same optimum in place on the CPU: the memory of the Gram matrix becomes that of the weights.

    Args:
      gram_lower: [I, I] row-major; its lower triangle is X'X. Overwritten.
      penalty: [I] diagonal of Lambda, above 0.
      diagonal_limit: xi in [0, 1], the largest diagonal.

    Returns:
      The solution in the dtype of `gram_lower`, and whether the inverse succeeded.

    Cost: I^3 flops; one I x I matrix.
    """
    diagonal = np.einsum("ii->i", gram_lower)  # a writable view
    diagonal += penalty
    status = linalg.spd_invert_in_place(gram_lower)
    with np.errstate(divide="ignore"):
        unexplained = 1 / diagonal.astype(np.float64)
    if status is Status.OK:
        linalg.mirror_lower(gram_lower)
        s = np.maximum((1 - diagonal_limit) * unexplained, penalty)
        for rows in np.array_split(gram_lower, max(1, len(gram_lower) // 256)):
            rows *= -s.astype(gram_lower.dtype)
        diagonal[:] = np.maximum(0, 1 - s / unexplained)
    return Solution(gram_lower, unexplained), status


def certify(
    train: Interactions,
    solution: Solution,
    penalty: np.ndarray,
    gram_diagonal: np.ndarray,
    status: Status = Status.OK,
) -> Certificate:
    """The evidence that `solution` is the optimum on `train`.

    Five checks, in this order; the status is that of the first that fails:
    the factorization succeeded; all weights are finite; each C_jj is positive and 1/C_jj - Lambda_j, the optimal value
    of item j's regression on all others, lies in [0, gram_jj] up to rounding; the estimated rounding error,
    eps/2 max_j (gram_jj + Lambda_j) C_jj, is below a hundredth (the second factor says how much of item j the others
    leave unexplained, and so how many digits cancel); the KKT residual ||zd(G B - A)||_F / ||zd(A)||_F is below its
    limit, where zd drops the diagonal. The residual is estimated from random signs z through the sparse X, with no
    second I x I matrix.

    Args:
      train: the interactions X.
      solution: weights [I, I] and 1 / diag(C).
      penalty: [I] diagonal of Lambda.
      gram_diagonal: [I] diagonal of X'X.
      status: what the solver said.

    Cost: 8 products with the weights and 32 with X.
    """
    dtype = np.dtype(solution.weights.dtype)
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
    if isinstance(solution.weights, np.ndarray):
        response = solution.weights @ signs
    else:
        response = np.asarray(jnp.matmul(solution.weights, signs, precision=linalg.HIGHEST))
    response = response.astype(np.float64)
    x = train.to_csr(np.float64)
    at_answer = x.T @ (x @ (response - signs)) + penalty[:, None] * response
    at_zero = x.T @ (x @ signs)
    start = stats.offdiagonal_norm(at_zero, signs)
    error = stats.offdiagonal_norm(at_answer, signs)
    residual = error / start if start > 0 else error  # no two items share a user: nothing off the diagonal is exact

    if not np.isfinite(residual):
        status = Status.NOT_FINITE
    elif not in_range.all():
        status = Status.MULTIPLIER_OUT_OF_RANGE
    elif rounding > ROUNDING_LIMIT:
        status = Status.ILL_CONDITIONED
    elif residual > limit:
        status = Status.RESIDUAL_TOO_LARGE
    detail = {"estimated rounding error": rounding, "smallest column error": float(errors.min())}
    return Certificate(status, residual, limit, detail)


@dataclasses.dataclass(frozen=True)
class ClosedForm(abc.ABC):
    """A method whose answer is B = I - C D(s): all of `fit` and `plan` but its penalty and its diagonal limit.

    Attributes:
      solver: "host" works in place in the memory of one I x I matrix on the CPU; "jax" runs the JAX kernel on the
        default device; "auto" takes "host" where the default device is a CPU, else "jax".
      dtype: "float32", or "float64" for nearly collinear items ("host" only).
    """

    solver: Literal["auto", "host", "jax"] = dataclasses.field(default="auto", kw_only=True)
    dtype: Literal["float32", "float64"] = dataclasses.field(default="float32", kw_only=True)

    def __post_init__(self):
        _checks.one_of("solver", self.solver, ("auto", "host", "jax"))
        _checks.one_of("dtype", self.dtype, ("float32", "float64"))
        if (self.solver, self.dtype) == ("jax", "float64"):
            raise InputError("solver='jax' computes in float32; for dtype='float64' use solver='host'.")

    @abc.abstractmethod
    def penalty(self, gram_diagonal: np.ndarray) -> np.ndarray:
        """[I] float64 diagonal of Lambda, from the diagonal [I] of X'X."""

    @property
    def diagonal_limit(self) -> float:
        """The largest diagonal xi: 0 forbids items to predict themselves, 1 leaves them free."""
        return 0.0

    @property
    def on_host(self) -> bool:
        """Whether `fit` takes the in-place CPU path."""
        return self.solver == "host" or (
            self.solver == "auto" and (jax.default_backend() == "cpu" or self.dtype == "float64")
        )

    def fit(self, train: Interactions) -> Fitted:
        """The fitted weights with their certificate.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.

        Returns:
          Fitted(model: ItemWeights, info: FitInfo with certificate and timings).

        Raises:
          FitError: the fit does not fit in memory, or its result is not certified; says what to change.
          InputError: there is nothing to learn from.

        Cost: see `plan`; on the host the sum over users of len(history)^2, and I^3 flops at GEMM speed.
        """
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")
        self.plan(train.n_users, train.n_items, train.nnz).require()
        seconds = {}
        begun = time.perf_counter()
        gram = stats.gram_lower(train, np.dtype(self.dtype)) if self.on_host else stats.device_gram(train)
        gram = jax.block_until_ready(gram)
        gram_diagonal = np.array(gram.diagonal(), np.float64)  # a copy: the solver works in place
        penalty = self.penalty(gram_diagonal)
        seconds["gram"] = time.perf_counter() - begun

        begun = time.perf_counter()
        if self.on_host:
            solution, status = solve_on_host(gram, penalty, self.diagonal_limit)
        else:
            solution = _solve_on_device(gram, penalty.astype(np.float32), self.diagonal_limit)
            solution, status = jax.block_until_ready(solution), Status.OK
        seconds["solve"] = time.perf_counter() - begun
        del gram

        begun = time.perf_counter()
        certificate = certify(train, solution, penalty, gram_diagonal, status)
        seconds["certificate"] = time.perf_counter() - begun
        if certificate.status is not Status.OK:
            raise FitError(certificate.status, self._advice(certificate, gram_diagonal))
        model = ItemWeights(solution.weights)
        return Fitted(model, FitInfo(self, certificate, train.items, train.summary(), seconds))

    def plan(self, n_users: int, n_items: int, nnz: int) -> Plan:
        """What a fit on data of this size takes."""
        size = np.dtype(self.dtype).itemsize
        device = None if self.on_host else jax.devices()[0]
        if self.on_host:
            parts = {
                "Gram matrix, inverse and weights, in one place": size * n_items**2,
                "panels of the inverse": 2 * size * n_items * min(512, n_items),
                "sparse data, twice": 2 * nnz * (size + 4) + 16 * (n_users + n_items),
            }
            flops, larger = float(n_items) ** 3, "a machine with more memory"
        else:
            parts = {
                "three I x I matrices": 3 * size * n_items**2,
                "a dense block of users": 4 * min(4096, n_users) * n_items,
            }
            flops = 2.0 * n_items**3 + 2.0 * n_users * n_items**2
            larger = "solver='host', which needs one I x I matrix, or a larger device"
        return Plan(
            method=str(self),
            shape=(n_users, n_items, nnz),
            where="host" if device is None else device.device_kind,
            parts=parts,
            available=available_bytes(device),
            flops=flops,
            seconds=rough_seconds(flops, device),
            advice=f"use {larger}, or fewer items (drop those with the fewest users)",
        )

    def _advice(self, certificate: Certificate, gram_diagonal: np.ndarray) -> str:
        """What to change, in one sentence."""
        eps = float(np.finfo(self.dtype).eps)
        now = float(self.penalty(gram_diagonal).min())
        enough = max(2 * now, eps / ROUNDING_LIMIT * float(gram_diagonal.max()))
        also = "" if self.dtype == "float64" else f", or use {type(self).__name__}(dtype='float64')"
        return (
            f"{self.dtype} cannot resolve these items at reg = {now:g} ({certificate}); some are copies or "
            f"combinations of others: raise reg, to {enough:.1g} at least{also}, or drop duplicate items."
        )
