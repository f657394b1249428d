"""EASE with pairs of items as further features, by ADMM (Steck & Liang, RecSys 2021).

"Negative Interactions for Improved Collaborative Filtering": a history speaks not only through its items but through
pairs of them, and what a pair says beyond its two items is often negative.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form.gram import lower_gram
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import Method, Stopwatch
from jaxrec.models import Fitted, PairWeights
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.solvers.columns import HIGHEST, columns_product, on_diagonal, own_diagonal, sample_columns, zero_diagonal
from jaxrec.solvers.spd import SweepLayout, inverse_columns, sweep_layout
from jaxrec.solvers.spd_host import mirror_lower
from jaxrec.status import Certificate, Status

RESIDUAL_LIMIT = 1e-2


class HigherOrderWeights(NamedTuple):
    """The minimum.

    Attributes:
      items: [I, I] B, zero diagonal.
      pairs: [M, I] W; 0 where a pair would predict one of its own items.
    """

    items: Any
    pairs: Any


def objective(
    x: Float[ArrayLike, "U I"], weights: HigherOrderWeights, pairs: Int[ArrayLike, "M 2"], reg: Any, pair_reg: Any
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
    product = partial(jnp.matmul, precision=HIGHEST)
    return jnp.sum((x - product(x, b) - product(z, w)) ** 2) + reg * jnp.sum(b**2) + pair_reg * jnp.sum(w**2)


def admm(
    gram: Float[Array, "N m"],
    cross: Float[Array, "M m"],
    pair_columns: Float[Array, "N q"],
    pair_gram: Float[Array, "M q"],
    pairs: Int[Array, "M 2"],
    reg: Any,
    pair_reg: Any,
    rho: Any,
    n_iterations: Any,
    *,
    layouts: tuple[SweepLayout, SweepLayout],
    axis: str | None = None,
) -> tuple[Float[Array, "N m"], Float[Array, "M m"]]:
    """[N, m] and [M, m], my columns of B and W at the minimum of `objective` where no weight predicts its own items.

    ADMM on the constraint of W; B is the exact optimum for a given W, as in EASE with X'X - X'Z W in place of X'X. What
    is returned meets both constraints exactly (Steck & Liang 2021). Can be jitted.

    Args:
      gram: [N, m] my columns of X'X.
      cross: [M, m] my columns of Z'X.
      pair_columns: [N, q] my columns of X'Z, one for each of my pairs.
      pair_gram: [M, q] my columns of Z'Z.
      pairs: [M, 2] items of each pair, of all.
      reg: scalar > 0, on B.
      pair_reg: scalar > 0, on W.
      rho: scalar > 0, ADMM's penalty; it changes the speed, not the limit.
      n_iterations: how many.
      layouts: of the N x N and the M x M matrix, from `sweep_layout`. Static.
      axis: the mesh axis over which columns are split, or None, with m = N and q = M.

    Cost: 2 N^2 m + 2 M^2 q flops, and (4 M N + 2 M^2) m each iteration; six M x m matrices besides three N x m.
    """
    product = partial(columns_product, axis=axis)
    own = on_diagonal(gram, axis)
    inverse = inverse_columns(gram + reg * own, layouts[0], axis)
    penalised = pair_gram + (pair_reg + rho) * on_diagonal(pair_gram, axis)
    pair_inverse = inverse_columns(penalised, layouts[1], axis)
    alone = own - reg * inverse  # inverse @ gram
    spread = product(inverse, pair_columns)
    mine = parallel.axis_index(axis) * gram.shape[1] + jnp.arange(gram.shape[1])
    allowed = (mine[None, :] != pairs[:, :1]) & (mine[None, :] != pairs[:, 1:])

    def items_given(w):
        free = alone - product(spread, w)
        b = free - inverse * (own_diagonal(free, axis) / own_diagonal(inverse, axis))[None, :]
        return zero_diagonal(b, axis)

    def step(_, state):
        w, multiplier = state
        b = items_given(w)
        free = product(pair_inverse, cross - product(cross, b) + rho * (w - multiplier))
        w = jnp.where(allowed, free + multiplier, 0)
        return w, multiplier + free - w

    start = jnp.zeros_like(cross), jnp.zeros_like(cross)
    w, _ = lax.fori_loop(0, n_iterations, step, start)
    return items_given(w), w


@partial(jax.jit, static_argnames=("layouts", "mesh"))
def _admm(matrices, pairs, floats, n_iterations, layouts, mesh):
    columns, whole = parallel.COLUMNS, parallel.REPLICATED
    solve = parallel.over_columns(
        partial(admm, layouts=layouts), mesh, (*[columns] * 4, *[whole] * 5), (columns, columns)
    )
    return solve(*matrices, pairs, *floats, n_iterations)


def minimum(
    gram: np.ndarray,
    cross: np.ndarray,
    pair_gram: np.ndarray,
    pairs: np.ndarray,
    reg: float,
    pair_reg: float,
    rho: float,
    n_iterations: int,
    mesh: Any = None,
) -> HigherOrderWeights:
    """What `admm` leads to from whole matrices [I, I], [M, I] and [M, M]: on the default device, or by way of a mesh.

    With a mesh the weights end on the host, where the matrices come from.
    """
    n, m = len(gram), len(pairs)
    matrices: tuple = gram, cross, cross.T, pair_gram
    layouts = tuple(sweep_layout(size, mesh.size if mesh else 1) for size in (n, m))
    if mesh is not None:
        shapes = [(layouts[i].size, layouts[j].size) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
        matrices = tuple(parallel.place_columns(a, mesh, shape) for a, shape in zip(matrices, shapes, strict=True))
        pairs = np.pad(pairs, ((0, layouts[1].size - m), (0, 0)), constant_values=-1)
    floats = tuple(np.float32(value) for value in (reg, pair_reg, rho))
    items, of_pairs = jax.block_until_ready(_admm(matrices, pairs, floats, n_iterations, layouts, mesh))
    if mesh is None:
        return HigherOrderWeights(items, of_pairs)
    return HigherOrderWeights(parallel.to_host(items)[:n, :n], parallel.to_host(of_pairs)[:m, :n])


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
class HigherOrder(Method):
    """EASE with the most frequent pairs of items as further features (Steck & Liang 2021).

    Attributes:
      reg: L2 strength of the item-item weights B, in interactions per item.
      pair_reg: L2 strength of the weights W of pairs; the paper takes 200 to 30,000.
      n_pairs: most pairs that become features, the most frequent first.
      threshold: take the pairs that more than so many users share, in place of `n_pairs`.
      rho: ADMM's penalty; default 10 times pair_reg, the paper's usual ratio.
      n_iterations: of ADMM; the paper takes 40.
    """

    name: ClassVar[str] = "higher-order"

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

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted weights with their certificate.

        Args:
          train: U x I interactions X; a pair's feature is the product of its values.
          devices: what to split the matrices of the solver over, as in `Ease.fit`; the host makes the Gram matrices,
            and gets the model. None is the default device.

        Returns:
          Fitted(model: PairWeights, info); the certificate's residual is the norm of the gradient of a random sample
          of columns over its norm at zero, and its detail counts the pairs.

        Raises:
          FitError: the fit does not fit in memory, or ADMM has not converged; says what to change.
          InputError: there is nothing to learn from, or no pair is frequent enough.

        Cost: see `admm`.
        """
        return self._fit(train, devices)

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[PairWeights, Certificate]:
        with clock.stage("Gram matrices"):
            gram = lower_gram(train)
            pairs = frequent_pairs(gram, self.threshold, self.n_pairs)
            if len(pairs) == 0 and train.n_items > 1:
                raise InputError(f"no two items share more than {self.threshold or 0:g} users; lower threshold.")
            mirror_lower(gram)
            x = train.to_csr(np.float64)
            z = pair_features(x, pairs)
            cross, pair_gram = ((z.T @ y).toarray().astype(np.float32) for y in (x, z))
        with clock.stage("ADMM"):
            floats = self.reg, self.pair_reg, self.rho or 10 * self.pair_reg
            solution = minimum(gram, cross, pair_gram, pairs, *floats, self.n_iterations, mesh)
        with clock.stage("certificate"):
            residual = self._residual(x, z, pairs, solution)
        status = Status.OK if residual <= RESIDUAL_LIMIT else Status.RESIDUAL_TOO_LARGE
        status = status if np.isfinite(residual) else Status.NOT_FINITE
        put = np.asarray if mesh is not None and mesh.size > 1 else jnp.asarray
        model = PairWeights(*map(put, (solution.items, pairs, solution.pairs)))
        return model, Certificate(status, residual, RESIDUAL_LIMIT, {"pairs": float(len(pairs))})

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        return f"ADMM has not converged ({certificate}): raise n_iterations, or change rho."

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        """With a `threshold`, counted as if it left `n_pairs` pairs; the host must hold the Gram matrices as well."""
        pairs = min(self.n_pairs, n_items * (n_items - 1) // 2)
        parts = {
            "five I x I matrices": on.share(20 * n_items**2),
            "three matrices of pairs x pairs": on.share(12 * pairs**2),
            "seven matrices of pairs x items": on.share(28 * pairs * n_items),
            # The most frequent pairs are taken to have four times as many users as an item has on average.
            "features of pairs, three times": 36 * pairs * int(min(n_users, 4 * nnz / n_items)),
            "sparse data, by user and by item": 48 * nnz,
        } | on.working()
        flops = 2.0 * (n_items**3 + pairs**3) + self.n_iterations * 2.0 * pairs * n_items * (2 * n_items + pairs)
        return Needs(parts, flops, "use fewer pairs, fewer items, or a larger device")

    def _residual(self, x: sp.csr_array, z: sp.csr_array, pairs: np.ndarray, solution: HigherOrderWeights) -> float:
        """The relative norm of the gradient of sampled columns, in float64 and through the sparse data."""
        n = len(solution.items)
        items = sample_columns(n)
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
