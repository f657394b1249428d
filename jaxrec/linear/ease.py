"""EASE: the linear autoencoder with zero diagonal, in closed form (Steck, WWW 2019, arXiv 1905.03375)."""

from __future__ import annotations

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
from jaxrec._threads import n_threads
from jaxrec.data import Interactions
from jaxrec.memory import Plan, available_bytes, rough_seconds
from jaxrec.models import FitInfo, Fitted, ItemWeights
from jaxrec.status import Certificate, FitError, Status

PROBES = 8
# Largest relative KKT residual, and largest estimated rounding error of the weights, that leave `fit`.
RESIDUAL_LIMIT = {"float32": 1e-4, "float64": 1e-10}
ROUNDING_LIMIT = 1e-2


def objective(x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], reg: Any) -> Float[Array, ""]:
    """The regularised squared error ||X - X B||_F^2 + reg ||B||_F^2 (Steck 2019), of which EASE is the minimum.

    The minimum is taken over weights B with zero diagonal. This is the literal loss, for checking: it takes X dense.

    Args:
      x: [U, I] interactions.
      weights: [I, I] B.
      reg: scalar > 0.
    """
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    error = x - jnp.matmul(x, weights, precision=linalg.HIGHEST)
    return jnp.sum(error**2) + reg * jnp.sum(weights**2)


class Solution(NamedTuple):
    """The optimal weights [I, I], and the multiplier [I] of each item's constraint B_jj = 0."""

    weights: Any
    multipliers: Any


def solve(gram: Float[ArrayLike, "I I"], reg: Any) -> Solution:
    """The optimum of the EASE objective, with its multipliers; see `weights`.

    The multiplier of column j is 1/C_jj - reg: also the optimal value of that column's part of the objective, so it
    lies in [0, gram_jj].
    """
    gram = jnp.asarray(gram)
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    inverse = linalg.spd_inverse(gram + reg * eye)
    diagonal = jnp.diagonal(inverse)
    return Solution(jnp.where(eye > 0, 0, -inverse / diagonal[None, :]), 1 / diagonal - reg)


def weights(gram: Float[ArrayLike, "I I"], reg: Any) -> Float[Array, "I I"]:
    """[I, I] the EASE weights: the minimum of ||X - X B||_F^2 + reg ||B||_F^2 subject to diag(B) = 0.

    With C = (X'X + reg I)^-1, B_ij = -C_ij / C_jj for i != j (Steck 2019). It takes the Gram matrix, so that a sweep
    over `reg` computes that once; `reg` is traced, so the sweep compiles once. Can be jitted, mapped and
    differentiated.

    Args:
      gram: [I, I] X'X, uncentred; symmetric. Not modified.
      reg: scalar > 0, in the unit of the diagonal of `gram` (interactions per item).

    Returns:
      [I, I] zero diagonal.

    Cost: 2 I^3 flops; three I x I matrices (the argument, the result, one update).
    Fails: NaN where gram + reg I is not numerically positive definite.
    Differs from the paper: nothing.
    """
    return solve(gram, reg).weights


_solve_on_device = partial(jax.jit, donate_argnums=0)(solve)


def solve_on_host(gram_lower: np.ndarray, reg: float) -> tuple[Solution, Status]:
    """The same optimum in place on the CPU: the memory of the Gram matrix becomes that of the weights.

    Args:
      gram_lower: [I, I] row-major; its lower triangle is X'X. Overwritten.
      reg: scalar > 0.

    Returns:
      The solution in the dtype of `gram_lower`, and whether the inverse succeeded.

    Cost: I^3 flops; one I x I matrix.
    """
    diagonal = np.einsum("ii->i", gram_lower)  # a writable view
    with np.errstate(over="ignore"):  # what overflows is not certified
        diagonal += reg
    status = linalg.spd_invert_in_place(gram_lower)
    inverse_diagonal = diagonal.copy()
    if status is Status.OK:
        linalg.mirror_lower(gram_lower)
        with np.errstate(divide="ignore", invalid="ignore"):
            for rows in np.array_split(gram_lower, max(1, len(gram_lower) // 256)):
                rows /= -inverse_diagonal
        diagonal[:] = 0
    with np.errstate(divide="ignore"):
        return Solution(gram_lower, 1 / inverse_diagonal.astype(np.float64) - reg), status


@dataclasses.dataclass(frozen=True)
class Ease:
    """EASE: item-item weights B that minimise ||X - X B||_F^2 + reg ||B||_F^2 with zero diagonal (Steck 2019).

    Attributes:
      reg: L2 strength, the paper's lambda, in interactions per item; larger means weights nearer to zero. Hundreds to
        a thousand on data with ten million interactions, tens on small or sparse data. The optimum is flat.
      solver: "host" works in place in the memory of one I x I matrix on the CPU; "jax" runs the JAX kernel on the
        default device; "auto" takes "host" where the default device is a CPU, else "jax".
      dtype: "float32", or "float64" for nearly collinear items ("host" only).
    """

    reg: float = 100.0
    solver: Literal["auto", "host", "jax"] = "auto"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self):
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.one_of("solver", self.solver, ("auto", "host", "jax"))
        _checks.one_of("dtype", self.dtype, ("float32", "float64"))
        if (self.solver, self.dtype) == ("jax", "float64"):
            raise InputError("solver='jax' computes in float32; for dtype='float64' use solver='host'.")

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
        seconds["gram"] = time.perf_counter() - begun

        begun = time.perf_counter()
        if self.on_host:
            solution, status = solve_on_host(gram, self.reg)
        else:
            solution, status = jax.block_until_ready(_solve_on_device(gram, self.reg)), Status.OK
        seconds["solve"] = time.perf_counter() - begun
        del gram

        begun = time.perf_counter()
        certificate = certify(train, solution, self.reg, gram_diagonal, status)
        seconds["certificate"] = time.perf_counter() - begun
        if certificate.status is not Status.OK:
            raise FitError(certificate.status, _advice(self, certificate, gram_diagonal))
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
                "blocks of the Gram matrix": n_threads() * min(2 * stats.BLOCK_BYTES, size * n_items**2),
                "sparse data, twice": 24 * nnz + 16 * (n_users + n_items),
            }
            flops, larger = float(n_items) ** 3, "a machine with more memory"
        else:
            parts = {
                "four I x I matrices, at the most": 4 * size * n_items**2,
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


def certify(
    train: Interactions, solution: Solution, reg: float, gram_diagonal: np.ndarray, status: Status = Status.OK
) -> Certificate:
    """The evidence that `solution` minimises the EASE objective on `train`.

    Six checks, in this order; the status is that of the first that fails:
    the factorization succeeded; all weights and multipliers are finite; each C_jj is positive and each multiplier
    1/C_jj - reg lies in [0, gram_jj] up to rounding; the estimated rounding error, eps max_j (gram_jj + reg) C_jj, is
    below a hundredth (the second factor says how much of item j the others leave unexplained, and so how many digits
    cancel); the KKT residual ||zd((X'X + reg I) B - X'X)||_F / ||zd(X'X)||_F is below its limit, where zd drops the
    diagonal; the estimated error of the weights is below a hundredth. The residual is estimated from random signs z
    through the sparse X, with no second I x I matrix. The error, which along the flattest directions can be large
    where the residual is tiny, is the first step of iterative refinement from there: C (diag(1/C_jj) - (X'X + reg I)
    (I - B)), where C = (I - B) diag(C_jj), again without its diagonal and relative to B.

    Args:
      train: the interactions X.
      solution: weights [I, I] and multipliers [I].
      reg: the L2 strength.
      gram_diagonal: [I] diagonal of X'X.
      status: what the solver said.

    Cost: 16 products with the weights and 32 with X.
    """
    dtype = np.dtype(solution.weights.dtype)
    limit = RESIDUAL_LIMIT[dtype.name]
    multipliers = np.asarray(solution.multipliers, np.float64)
    if status is not Status.OK or not np.isfinite(multipliers).all():
        failed = Status.NOT_POSITIVE_DEFINITE if status is Status.OK else status
        return Certificate(failed, float("nan"), limit)

    total = gram_diagonal + reg
    unexplained = multipliers + reg  # 1 / C_jj
    eps = float(np.finfo(dtype).eps)
    rounding = eps / 2 * float(np.max(total / np.maximum(unexplained, np.finfo(np.float64).tiny)))
    slack = 64 * eps * total
    in_range = (unexplained > 0) & (multipliers >= -slack) & (multipliers <= gram_diagonal + slack)

    signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype), (train.n_items, PROBES))
    response = _times(solution.weights, signs)
    x = train.to_csr(np.float64)
    at_answer = x.T @ (x @ (response - signs)) + reg * response
    at_zero = x.T @ (x @ signs)
    start = stats.offdiagonal_norm(at_zero, signs)
    error = stats.offdiagonal_norm(at_answer, signs)
    residual = error / start if start > 0 else error  # no two items share a user: B = 0 is exact

    # The diagonal of the first term would not count; adding it would only cost digits.
    with np.errstate(all="ignore"):
        missing = (at_answer + multipliers[:, None] * signs) / unexplained[:, None]
        step = at_answer / unexplained[:, None] - _times(solution.weights, missing.astype(dtype))
    size = stats.offdiagonal_norm(response, signs)
    weight_error = stats.offdiagonal_norm(step, signs) / size if size > 0 else 0.0

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
        "smallest multiplier": float(multipliers.min()),
    }
    return Certificate(status, residual, limit, detail)


def _times(weights: Any, vectors: np.ndarray) -> np.ndarray:
    """[I, P] weights times vectors, where the weights are, at full precision of their dtype."""
    if isinstance(weights, np.ndarray):
        return (weights @ vectors).astype(np.float64)
    return np.asarray(jnp.matmul(weights, vectors, precision=linalg.HIGHEST), np.float64)


def _advice(method: Ease, certificate: Certificate, gram_diagonal: np.ndarray) -> str:
    """What to change, in one sentence."""
    limits = np.finfo(method.dtype)
    eps, most = float(limits.eps), float(gram_diagonal.max())
    # The inverse holds products of two of them.
    if not (most > float(limits.tiny) ** 0.5 and most + method.reg < float(limits.max) ** 0.5):
        return (
            f"squared values of up to {most:.1g} an item and reg = {method.reg:g} leave the range of {method.dtype}: "
            "multiply the values by some s and reg by s^2, which changes no weight."
        )
    enough = max(2 * method.reg, eps / ROUNDING_LIMIT * most)
    also = "" if method.dtype == "float64" else ", or use Ease(dtype='float64')"
    return (
        f"{method.dtype} cannot resolve these items at reg = {method.reg:g} ({certificate}); some are copies or "
        f"combinations of others: raise reg, to {enough:.1g} at least{also}, or drop duplicate items."
    )
