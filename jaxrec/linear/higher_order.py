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
from jaxrec.runtime.progress import progress_bar
from jaxrec.solvers.columns import (
    HIGHEST,
    columns_product,
    largest_share,
    on_diagonal,
    own_diagonal,
    sample_columns,
    zero_diagonal,
)
from jaxrec.solvers.restricted import restricted_solve
from jaxrec.solvers.spd import SweepLayout, inverse_columns, sweep_layout
from jaxrec.solvers.spd_host import mirror_lower
from jaxrec.status import ERROR_LIMIT, WORST_LIMIT, Certificate, Status

RESIDUAL_LIMIT = 1e-3
LOOK_AFTER = 40  # iterations, at first; then after half as many as were done


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
    start: tuple[Float[Array, "M m"], Float[Array, "M m"]] | None = None,
    *,
    layouts: tuple[SweepLayout, SweepLayout],
    axis: str | None = None,
) -> tuple[Float[Array, "N m"], Float[Array, "M m"], Float[Array, "M m"]]:
    """My columns of B [N, m] and W [M, m] near the minimum of `objective` where no weight predicts its own items.

    And [M, m] of the multipliers of that constraint, with which W goes on from here.

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
      start: W and multipliers, where an earlier call ended; None is 0.
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

    w, multiplier = (jnp.zeros_like(cross), jnp.zeros_like(cross)) if start is None else start
    w, multiplier = lax.fori_loop(0, n_iterations, step, (w, multiplier))
    return items_given(w), w, multiplier


@partial(jax.jit, static_argnames=("layouts", "mesh"))
def _admm(matrices, pairs, floats, n_iterations, start, layouts, mesh):
    columns, whole = parallel.COLUMNS, parallel.REPLICATED
    solve = parallel.over_columns(
        partial(admm, layouts=layouts), mesh, (*[columns] * 4, *[whole] * 5, columns), (columns,) * 3
    )
    return solve(*matrices, pairs, *floats, n_iterations, start)


class Admm:
    """The iterations of `admm` from whole matrices, on the default device or a mesh, which can go on where they were.

    Args:
      gram: [I, I] X'X.
      cross: [M, I] Z'X.
      pair_gram: [M, M] Z'Z.
      pairs: [M, 2] items of each pair.
      reg: L2 strength of B.
      pair_reg: L2 strength of W.
      rho: ADMM's penalty.
      mesh: what `parallel.make_mesh` returned, by way of which the weights end on the host, where the matrices come
        from; or None.
    """

    def __init__(
        self,
        gram: np.ndarray,
        cross: np.ndarray,
        pair_gram: np.ndarray,
        pairs: np.ndarray,
        reg: float,
        pair_reg: float,
        rho: float,
        mesh: Any = None,
    ):
        n, m = self.shape = len(gram), len(pairs)
        matrices: tuple = gram, cross, cross.T, pair_gram
        layouts = tuple(sweep_layout(size, mesh.size if mesh else 1) for size in (n, m))
        if mesh is not None:
            shapes = [(layouts[i].size, layouts[j].size) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
            matrices = tuple(parallel.place_columns(a, mesh, shape) for a, shape in zip(matrices, shapes, strict=True))
            pairs = np.pad(pairs, ((0, layouts[1].size - m), (0, 0)), constant_values=-1)
        floats = tuple(np.float32(value) for value in (reg, pair_reg, rho))
        zeros = jnp.zeros_like(jnp.asarray(matrices[1]))
        self.state, self.mesh, self.done = (zeros, zeros), mesh, 0
        self._run = partial(_admm, tuple(map(jnp.asarray, matrices)), jnp.asarray(pairs), floats)
        self._how = layouts, mesh

    def advance(self, n_iterations: int) -> HigherOrderWeights:
        """The weights after so many iterations more."""
        items, of_pairs, multipliers = jax.block_until_ready(self._run(n_iterations, self.state, *self._how))
        self.state, self.done = (of_pairs, multipliers), self.done + n_iterations
        if self.mesh is None:
            return HigherOrderWeights(items, of_pairs)
        n, m = self.shape
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


class Check:
    """What is wrong with the weights of up to 64 sampled columns, in float64 and through the sparse data.

    Args:
      x: [U, I] X.
      z: [U, M] Z.
      pairs: [M, 2] items of each pair.
      reg: L2 strength of B.
      pair_reg: L2 strength of W.
    """

    def __init__(self, x: sp.csr_array, z: sp.csr_array, pairs: np.ndarray, reg: float, pair_reg: float):
        n = int(x.shape[1])  # pyright: ignore[reportOptionalSubscript]: of SciPy
        self.items = sample_columns(n)
        self.features: Any = sp.hstack([x, z], format="csr")
        self.target = x[:, self.items].toarray()
        self.penalty = np.repeat([reg, pair_reg], [n, len(pairs)])[:, None]
        may_b = np.arange(n)[:, None] != self.items
        self.allowed = np.vstack([may_b, (pairs[:, :1] != self.items) & (pairs[:, 1:] != self.items)])
        self.start = self.allowed * (self.features.T @ self.target)
        self.diagonal = np.asarray(self.features.multiply(self.features).sum(axis=0)).ravel() + self.penalty[:, 0]

    def times(self, columns: np.ndarray) -> np.ndarray:
        """[I + M, S] the Hessian times columns that are 0 where no weight may stand."""
        return self.allowed * (self.features.T @ (self.features @ columns) + self.penalty * columns)

    def of(self, solution: HigherOrderWeights) -> tuple[float, float, float]:
        """The relative norm of the gradient, the estimated relative error of the weights, and of the worst column.

        The error is the Newton step, exact for a quadratic; of B alone or of B and W, whichever is larger.
        """
        n = len(solution.items)
        weights = np.vstack([np.asarray(part[:, self.items], np.float64) for part in solution])
        gradient = self.times(weights) - self.start
        at_zero, found = (float(np.linalg.norm(g)) for g in (self.start, gradient))
        residual = found / at_zero if at_zero > 0 else found
        if not np.isfinite(residual):
            return residual, np.inf, np.inf
        step, reached = restricted_solve(
            lambda v: self.features.T @ (self.features @ v) + self.penalty * v, self.diagonal, gradient, self.allowed
        )
        error = worst = 0.0 if reached.all() else np.inf
        for part in (slice(n), slice(None)):
            wrong, sizes = (np.linalg.norm(a[part], axis=0) for a in (step, weights))
            if sizes.any():
                error = max(error, float(np.linalg.norm(wrong) / np.linalg.norm(sizes)))
                worst = max(worst, largest_share(wrong, sizes))
        return residual, error, worst


@dataclasses.dataclass(frozen=True)
class HigherOrder(Method):
    """EASE with the most frequent pairs of items as further features (Steck & Liang 2021).

    Attributes:
      reg: L2 strength of the item-item weights B, in interactions per item.
      pair_reg: L2 strength of the weights W of pairs; the paper takes 200 to 30,000.
      n_pairs: most pairs that become features, the most frequent first.
      threshold: take the pairs that more than so many users share, in place of `n_pairs`.
      rho: ADMM's penalty; default 10 times pair_reg, the paper's usual ratio.
      max_iterations: most iterations of ADMM, which end once the estimated error of the weights is below a hundredth;
        the paper takes 40, which may leave some per cent.
    """

    name: ClassVar[str] = "higher-order"

    reg: float = 100.0
    pair_reg: float = 1000.0
    n_pairs: int = 1000
    threshold: float | None = None
    rho: float | None = None
    max_iterations: int = 5000

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.positive("pair_reg", self.pair_reg, "the unit is users per pair")
        _checks.count("n_pairs", self.n_pairs, at_least=1)
        _checks.count("max_iterations", self.max_iterations, at_least=1)
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
          of 64 columns over its norm at zero. Its detail counts pairs and iterations, and holds the estimated error of
          the weights of these columns: the Newton step from there, by conjugate gradients in float64.

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
        check = Check(x, z, pairs, self.reg, self.pair_reg)
        with clock.stage("ADMM"):
            floats = self.reg, self.pair_reg, self.rho or 10 * self.pair_reg
            iterations = Admm(gram, cross, pair_gram, pairs, *floats, mesh)
            with progress_bar("ADMM", self.max_iterations) as advance:
                while True:
                    more = min(max(LOOK_AFTER, iterations.done // 2), self.max_iterations - iterations.done)
                    solution = iterations.advance(more)
                    advance(more)
                    residual, error, worst = check.of(solution)
                    if not residual > RESIDUAL_LIMIT and error <= ERROR_LIMIT / 2 and worst <= WORST_LIMIT / 2:
                        break
                    if iterations.done >= self.max_iterations or not np.isfinite(residual):
                        break
        if not np.isfinite(residual):
            status = Status.NOT_FINITE
        elif residual > RESIDUAL_LIMIT or not (error <= ERROR_LIMIT and worst <= WORST_LIMIT):
            status = Status.RESIDUAL_TOO_LARGE
        else:
            status = Status.OK
        put = np.asarray if mesh is not None and mesh.size > 1 else jnp.asarray
        model = PairWeights(*map(put, (solution.items, pairs, solution.pairs)))
        detail = {
            "pairs": float(len(pairs)),
            "iterations": float(iterations.done),
            "estimated error of the weights": error,
            "estimated error of the worst column": worst,
        }
        return model, Certificate(status, residual, RESIDUAL_LIMIT, detail)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        return f"ADMM has not converged ({certificate}): raise max_iterations, reg or pair_reg, or change rho."

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
        flops = 2.0 * (n_items**3 + pairs**3) + 100 * 2.0 * pairs * n_items * (2 * n_items + pairs)
        return Needs(parts, flops, "use fewer pairs, fewer items, or a larger device")
