"""EASE with pairs of items as further features, by ADMM (Steck & Liang, RecSys 2021).

"Negative Interactions for Improved Collaborative Filtering": a history speaks not only through its items but through
pairs of them, and what a pair says beyond its two items is often negative.
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxrec import _checks, linalg, stats
from jaxrec._checks import InputError
from jaxrec.data import Interactions
from jaxrec.memory import Plan, available_bytes, rough_seconds
from jaxrec.models import FitInfo, Fitted, PairWeights
from jaxrec.status import Certificate, FitError, Status

SAMPLE = 64  # columns whose stationarity is checked
RESIDUAL_LIMIT = 1e-2


class Weights(NamedTuple):
    """The minimum.

    Attributes:
      items: [I, I] B, zero diagonal.
      pairs: [M, I] W; 0 where a pair would predict one of its own items.
    """

    items: Any
    pairs: Any


def objective(
    x: Float[ArrayLike, "U I"], weights: Weights, pairs: Int[ArrayLike, "M 2"], reg: Any, pair_reg: Any
) -> Float[Array, ""]:
    """The loss ||X - X B - Z W||_F^2 + reg ||B||_F^2 + pair_reg ||W||_F^2, literally, for checking: it takes X dense.

    Args:
      x: [U, I] interactions; z_p = x_i x_k for the pair p = (i, k).
      weights: B and W.
      pairs: [M, 2] items of each pair.
      reg: scalar > 0.
      pair_reg: scalar > 0.
    """
    x, (b, w) = jnp.asarray(x), weights
    z = x[:, jnp.asarray(pairs)[:, 0]] * x[:, jnp.asarray(pairs)[:, 1]]
    product = partial(jnp.matmul, precision=linalg.HIGHEST)
    return jnp.sum((x - product(x, b) - product(z, w)) ** 2) + reg * jnp.sum(b**2) + pair_reg * jnp.sum(w**2)


def admm(
    gram: Float[ArrayLike, "I I"],
    cross: Float[ArrayLike, "M I"],
    pair_gram: Float[ArrayLike, "M M"],
    pairs: Int[ArrayLike, "M 2"],
    reg: Any,
    pair_reg: Any,
    rho: Any,
    n_iterations: Any,
) -> Weights:
    """The minimum of `objective` where B has a zero diagonal and no pair predicts its own items; can be jitted.

    ADMM on the constraint of W; B is the exact optimum for a given W, as in EASE with X'X - X'Z W in place of X'X. What
    is returned meets both constraints exactly (Steck & Liang 2021).

    Args:
      gram: [I, I] X'X.
      cross: [M, I] Z'X.
      pair_gram: [M, M] Z'Z.
      pairs: [M, 2] items of each pair.
      reg: scalar > 0, on B.
      pair_reg: scalar > 0, on W.
      rho: scalar > 0, ADMM's penalty; it changes the speed, not the limit.
      n_iterations: how many.

    Cost: 2 I^3 + 2 M^3 flops, and 4 M I^2 + 2 M^2 I each iteration; six M x I matrices besides three I x I.
    """
    gram, cross, pair_gram, pairs = map(jnp.asarray, (gram, cross, pair_gram, pairs))
    product = partial(jnp.matmul, precision=linalg.HIGHEST)
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    inverse = linalg.spd_inverse(gram + reg * eye)
    pair_inverse = linalg.spd_inverse(pair_gram + (pair_reg + rho) * jnp.eye(pair_gram.shape[0], dtype=gram.dtype))
    alone = eye - reg * inverse  # inverse @ gram
    spread = product(inverse, cross.T)
    own = jnp.arange(gram.shape[0])
    allowed = (own[None, :] != pairs[:, :1]) & (own[None, :] != pairs[:, 1:])

    def items_given(w):
        free = alone - product(spread, w)
        b = free - inverse * (jnp.diagonal(free) / jnp.diagonal(inverse))[None, :]
        return jnp.where(eye > 0, 0, b)

    def step(_, state):
        w, multiplier = state
        b = items_given(w)
        free = product(pair_inverse, cross - product(cross, b) + rho * (w - multiplier))
        w = jnp.where(allowed, free + multiplier, 0)
        return w, multiplier + free - w

    start = jnp.zeros_like(cross), jnp.zeros_like(cross)
    w, _ = lax.fori_loop(0, n_iterations, step, start)
    return Weights(items_given(w), w)


_admm = jax.jit(admm)


def frequent_pairs(gram_lower: np.ndarray, threshold: float | None, n_pairs: int) -> np.ndarray:
    """[M, 2] the pairs of items that more than `threshold` users share, or the at most `n_pairs` most frequent.

    Args:
      gram_lower: [I, I] co-counts, below the diagonal.
      threshold: None takes the least that leaves at most `n_pairs`; ties fall together.
      n_pairs: see there.
    """
    larger, smaller = np.tril_indices(len(gram_lower), -1)
    counts = gram_lower[larger, smaller]
    if threshold is None:
        threshold = float(np.partition(counts, -n_pairs - 1)[-n_pairs - 1]) if len(counts) > n_pairs else 0.0
    chosen = counts > threshold
    return np.stack([smaller[chosen], larger[chosen]], axis=1).astype(np.int32)


def pair_features(x: sp.csr_array, pairs: np.ndarray) -> sp.csr_array:
    """[U, M] Z: the product of the values of both items of every pair."""
    columns = x.tocsc()
    product: Any = columns[:, pairs[:, 0]].multiply(columns[:, pairs[:, 1]])
    return product.tocsr()


@dataclasses.dataclass(frozen=True)
class HigherOrder:
    """EASE with the most frequent pairs of items as further features (Steck & Liang 2021).

    Attributes:
      reg: L2 strength of the item-item weights B, in interactions per item.
      pair_reg: L2 strength of the weights W of pairs; the paper takes 200 to 30,000.
      n_pairs: most pairs that become features, the most frequent first.
      threshold: take the pairs that more than so many users share, in place of `n_pairs`.
      rho: ADMM's penalty; default 10 times pair_reg, the paper's usual ratio.
      n_iterations: of ADMM; the paper takes 40.
    """

    reg: float = 100.0
    pair_reg: float = 1000.0
    n_pairs: int = 1000
    threshold: float | None = None
    rho: float | None = None
    n_iterations: int = 40

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.positive("pair_reg", self.pair_reg, "the unit is users per pair")
        _checks.count("n_pairs", self.n_pairs, at_least=1)
        _checks.count("n_iterations", self.n_iterations, at_least=1)
        if self.threshold is not None:
            _checks.nonnegative("threshold", self.threshold, "the unit is users")
        if self.rho is not None:
            _checks.positive("rho", self.rho)

    def fit(self, train: Interactions) -> Fitted:
        """The fitted weights with their certificate.

        Args:
          train: U x I interactions X; a pair's feature is the product of its values.

        Returns:
          Fitted(model: PairWeights, info); the certificate's residual is the norm of the gradient of a random sample
          of columns over its norm at zero, and its detail counts the pairs.

        Raises:
          FitError: the fit does not fit in memory, or ADMM has not converged; says what to change.
          InputError: there is nothing to learn from, or no pair is frequent enough.

        Cost: see `admm`.
        """
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")
        self.plan(train.n_users, train.n_items, train.nnz).require()
        seconds = {}
        begun = time.perf_counter()
        gram = stats.gram_lower(train)
        pairs = frequent_pairs(gram, self.threshold, self.n_pairs)
        if len(pairs) == 0 and train.n_items > 1:
            raise InputError(f"no two items share more than {self.threshold or 0:g} users; lower threshold.")
        linalg.mirror_lower(gram)
        x = train.to_csr(np.float64)
        z = pair_features(x, pairs)
        cross, pair_gram = ((z.T @ y).toarray().astype(np.float32) for y in (x, z))
        seconds["Gram matrices"] = time.perf_counter() - begun

        begun = time.perf_counter()
        floats = (np.float32(value) for value in (self.reg, self.pair_reg, self.rho or 10 * self.pair_reg))
        solution = jax.block_until_ready(_admm(gram, cross, pair_gram, pairs, *floats, self.n_iterations))
        seconds["ADMM"] = time.perf_counter() - begun

        begun = time.perf_counter()
        residual = self._residual(x, z, pairs, solution)
        status = Status.OK if residual <= RESIDUAL_LIMIT else Status.RESIDUAL_TOO_LARGE
        status = status if np.isfinite(residual) else Status.NOT_FINITE
        certificate = Certificate(status, residual, RESIDUAL_LIMIT, {"pairs": float(len(pairs))})
        seconds["certificate"] = time.perf_counter() - begun
        if status is not Status.OK:
            raise FitError(status, f"ADMM has not converged ({certificate}): raise n_iterations, or change rho.")
        model = PairWeights(solution.items, jnp.asarray(pairs), solution.pairs)
        return Fitted(model, FitInfo(self, certificate, train.items, train.summary(), seconds))

    def plan(self, n_users: int, n_items: int, nnz: int) -> Plan:
        """What a fit on data of this size takes; with a `threshold`, counted as if it left `n_pairs` pairs."""
        pairs = min(self.n_pairs, n_items * (n_items - 1) // 2)
        device = jax.devices()[0]
        parts = {
            "five I x I matrices": 20 * n_items**2,
            "three matrices of pairs x pairs": 12 * pairs**2,
            "seven matrices of pairs x items": 28 * pairs * n_items,
            "sparse data, by user and by item": 48 * nnz,
        }
        flops = 2.0 * (n_items**3 + pairs**3) + self.n_iterations * 2.0 * pairs * n_items * (2 * n_items + pairs)
        return Plan(
            method=str(self),
            shape=(n_users, n_items, nnz),
            where=device.device_kind,
            parts=parts,
            available=available_bytes(device),
            flops=flops,
            seconds=rough_seconds(flops, device),
            advice="use fewer pairs, fewer items, or a larger device",
        )

    def _residual(self, x: sp.csr_array, z: sp.csr_array, pairs: np.ndarray, solution: Weights) -> float:
        """The relative norm of the gradient of sampled columns, in float64 and through the sparse data."""
        n = len(solution.items)
        items = np.random.default_rng(0).choice(n, min(SAMPLE, n), replace=False)
        b, w = (np.asarray(part[:, items], np.float64) for part in solution)
        target = x[:, items].toarray()
        error = target - x @ b - z @ w
        may_b = np.arange(n)[:, None] != items
        may_w = (pairs[:, :1] != items) & (pairs[:, 1:] != items)
        at_answer = np.hypot(
            np.linalg.norm(may_b * (self.reg * b - x.T @ error)),
            np.linalg.norm(may_w * (self.pair_reg * w - z.T @ error)),
        )
        at_zero = np.hypot(np.linalg.norm(may_b * (x.T @ target)), np.linalg.norm(may_w * (z.T @ target)))
        return float(at_answer / at_zero) if at_zero > 0 else float(at_answer)
