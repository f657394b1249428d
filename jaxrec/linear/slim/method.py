"""EASE >= 0 and SLIM: item-item weights under sign constraints and an L1 penalty, by ADMM.

SLIM (Ning & Karypis, ICDM 2011) minimises 1/2 ||X - X B||_F^2 + reg/2 ||B||_F^2 + l1 sum |B| over B >= 0 with zero
diagonal; l1 = 0 is EASE >= 0 (Steck, WWW 2019, the ablation on negative weights). The problem is convex. An
iteration of ADMM (one inverse beforehand) and a sweep of cyclic coordinate descent cost the same, one product with the
Gram matrix; after 60 of them on MovieLens 100K, reg 10 to 500, ADMM's residual was below 1/25 of the other.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec.closed_form import ties
from jaxrec.closed_form.gram import default_gram, squared_norms
from jaxrec.closed_form.mesh import invert
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import Method, Stopwatch
from jaxrec.linear.slim.certificate import Columns, Errors, gram_product, slopes
from jaxrec.models import Fitted, ItemWeights
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.runtime.progress import progress_bar
from jaxrec.solvers.columns import (
    HIGHEST,
    columns_of,
    columns_product,
    on_diagonal,
    own_diagonal,
    sample_columns,
    take_columns,
    zero_diagonal,
)
from jaxrec.solvers.restricted import DENSE
from jaxrec.status import ERROR_LIMIT, WORST_LIMIT, Certificate, Status, last_checks

RELAXATION = 1.8  # ADMM converges for values in (0, 2); chosen with COUPLING on MovieLens data
COUPLING = 8.0  # rho relative to the Gram matrix's diagonal
CHECK_EVERY = 5  # iterations between checks of the residual


def objective(x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], reg: Any, l1: Any) -> Float[Array, ""]:
    """The elastic net 1/2 ||X - X B||_F^2 + reg/2 ||B||_F^2 + l1 sum |B| (Ning & Karypis 2011), literally.

    Args:
      x: [U, I] interactions.
      weights: [I, I] B.
      reg: scalar > 0, the paper's beta.
      l1: scalar >= 0, the paper's lambda.
    """
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    error = x - jnp.matmul(x, weights, precision=HIGHEST)
    return (jnp.sum(error**2) + reg * jnp.sum(weights**2)) / 2 + l1 * jnp.sum(jnp.abs(weights))


def couplings(gram_diagonal: Float[ArrayLike, " I"], reg: Any) -> Float[Array, " I"]:
    """[I] rho, ADMM's coupling strength for the row of each item: between one for its own scale and one for all."""
    scale = jnp.asarray(gram_diagonal) + reg
    return COUPLING * jnp.sqrt(scale * jnp.mean(scale))


def feasible(
    state: Float[Array, "N m"], rho: Float[Array, " N"], l1: Any, nonnegative: bool, axis: str | None = None
) -> Float[Array, "N m"]:
    """[N, m] my columns of the weights of a state: shrunk by l1 / rho towards zero, zero where they must be."""
    bound = (l1 / rho)[:, None]
    shrunk = jnp.maximum(state - bound, 0)
    if not nonnegative:
        shrunk = shrunk - jnp.maximum(-state - bound, 0)
    return zero_diagonal(shrunk, axis)


def step(
    state: Float[Array, "N m"],
    inverse: Float[Array, "N m"],
    rho: Float[Array, " N"],
    reg: Any,
    l1: Any,
    nonnegative: bool = True,
    axis: str | None = None,
) -> Float[Array, "N m"]:
    """[N, m] my columns of the state V after one over-relaxed iteration of ADMM; its weights are `feasible(V, ...)`.

    V is the sum of ADMM's unconstrained iterate and its scaled dual; ADMM is Douglas-Rachford splitting on it, so that
    ||D(rho)^(1/2) (V_next - V)||_F never rises.

    Args:
      state: [N, m] V; zeros to begin with.
      inverse: [N, m] P = (X'X + D(reg + rho))^-1.
      rho: [N] from `couplings`, of all items.
      reg: scalar > 0.
      l1: scalar >= 0.
      nonnegative: whether B >= 0 is asked for. Static.
      axis: the mesh axis over which columns are split, or None, with m = N.

    Cost: 2 N^2 m flops; four N x m matrices.
    """
    weights = feasible(state, rho, l1, nonnegative, axis)
    own = on_diagonal(state, axis)
    # P (X'X + D(rho) M) = I + P (D(rho) M - D(reg + rho)), which spares keeping X'X.
    target = rho[:, None] * (2 * weights - state) - jnp.where(own, (reg + rho)[:, None], 0)
    ridge = own + columns_product(inverse, target, axis=axis)
    ridge = ridge - inverse * (own_diagonal(ridge, axis) / own_diagonal(inverse, axis))[None, :]
    return state + RELAXATION * (ridge - weights)


_BY_COLUMNS = (parallel.COLUMNS, parallel.REPLICATED, parallel.REPLICATED)


@partial(jax.jit, static_argnames=("nonnegative", "mesh"), donate_argnums=0)
def _steps(state, inverse, rho, reg, l1, nonnegative, mesh):
    def kernel(state, inverse, rho, reg, l1, axis):
        return lax.fori_loop(0, CHECK_EVERY, lambda _, v: step(v, inverse, rho, reg, l1, nonnegative, axis), state)

    placed = (parallel.COLUMNS, *_BY_COLUMNS, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, placed, parallel.COLUMNS)(state, inverse, rho, reg, l1)


@partial(jax.jit, static_argnames=("nonnegative", "mesh"), donate_argnums=0)
def _feasible(state, rho, l1, nonnegative, mesh):
    def kernel(state, rho, l1, axis):
        return feasible(state, rho, l1, nonnegative, axis)

    return parallel.over_columns(kernel, mesh, _BY_COLUMNS, parallel.COLUMNS)(state, rho, l1)


@partial(jax.jit, static_argnames=("nonnegative", "mesh"))
def _columns(state, rho, l1, columns, nonnegative, mesh):
    def kernel(state, rho, l1, columns, axis):
        return take_columns(feasible(state, rho, l1, nonnegative, axis), columns, axis)

    placed = (*_BY_COLUMNS, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, placed, parallel.REPLICATED)(state, rho, l1, columns)


def violations(
    state: Float[Array, "N m"],
    gram: Float[Array, "N m"],
    rho: Float[Array, " N"],
    reg: Any,
    l1: Any,
    nonnegative: bool = True,
    axis: str | None = None,
) -> Float[Array, "3 m"]:
    """[3, m] of my columns the squared norms of projected gradient, its value at zero weights, and weights.

    Args:
      state: [N, m] V.
      gram: [N, m] X'X.
      rho: as in `step`.
      reg: as in `step`.
      l1: as in `step`.
      nonnegative: as in `step`.
      axis: as in `step`.

    Cost: of an iteration, 2 N^2 m flops.
    """
    weights = feasible(state, rho, l1, nonnegative, axis)
    at_answer = columns_product(gram, weights, axis=axis) + reg * weights - gram
    parts = slopes(at_answer, weights, l1, nonnegative, jnp), slopes(-gram, 0 * weights, l1, nonnegative, jnp), weights
    return jnp.stack([jnp.sum(zero_diagonal(part, axis) ** 2, axis=0) for part in parts])


@partial(jax.jit, static_argnames=("nonnegative", "mesh"))
def _violations(state, gram, rho, reg, l1, nonnegative, mesh):
    def kernel(state, gram, rho, reg, l1, axis):
        return violations(state, gram, rho, reg, l1, nonnegative, axis)

    placed = (parallel.COLUMNS, *_BY_COLUMNS, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, placed, parallel.COLUMNS)(state, gram, rho, reg, l1)


def _taken(state: Any, items: np.ndarray, *, rho: Any, l1: Any, nonnegative: bool, mesh: Any, n: int) -> np.ndarray:
    """[I, S] float64 some columns of the weights of a state."""
    return np.asarray(_columns(state, rho, l1, items, nonnegative, mesh), np.float64)[:n]


def _relative(norms: np.ndarray) -> float:
    """The residual over all columns, from what `violations` returns of them."""
    at_answer, at_zero = np.sqrt(norms[:2].sum(axis=1))
    return float(at_answer / at_zero) if at_zero > 0 else float(at_answer)


@dataclasses.dataclass(frozen=True)
class Slim(Method):
    """SLIM: sparse item-item weights from an elastic net, nonnegative by default (Ning & Karypis, ICDM 2011).

    Attributes:
      reg: L2 strength in interactions per item, the paper's beta; above 0.
      l1: L1 strength, the paper's lambda, in co-occurrences: two items that share fewer users get no weight.
      nonnegative: whether weights must be at least 0.
      tolerance: relative KKT residual at which the iterations stop; also the certificate's limit.
      max_iterations: of ADMM.
    """

    name: ClassVar[str] = "slim"

    reg: float = 100.0
    l1: float = 1.0
    nonnegative: bool = True
    tolerance: float = 1e-4
    max_iterations: int = 500

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.positive("tolerance", self.tolerance)
        _checks.count("max_iterations", self.max_iterations, at_least=1)
        _checks.nonnegative("l1", self.l1, "the unit is co-occurrences")

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted weights with their certificate.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.
          devices: what to split every I x I matrix over by columns, as in `Ease.fit`; None is the default device.

        Returns:
          Fitted(model: ItemWeights, info: FitInfo). The certificate holds the relative projected-gradient residual of
          up to 64 columns in float64: 32 drawn once, and the 32 that look worst. Its detail holds the residual of all
          columns, to float32's digits; and the estimated error of the weights, of the columns drawn and of the worst
          column of these 64. The iterations go on until that is below a hundredth as well; where float32 lacks the
        digits for it, up to 256 items are solved for in float64 and rounded.

        Raises:
          FitError: it does not fit in memory, or the residual is above `tolerance` after `max_iterations`.
          InputError: there is nothing to learn from.

        Cost: the Gram matrix, one inverse, and 2 I^3 flops an iteration, 20 to 100 of them.
        """
        return self._fit(train, devices)

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[ItemWeights, Certificate]:
        with clock.stage("gram"):
            gram = jax.block_until_ready(default_gram(train, mesh))
        n, size = train.n_items, len(gram)
        floats = np.float32(self.reg), np.float32(self.l1), self.nonnegative, mesh
        problem = self.reg, self.l1, self.nonnegative
        items = sample_columns(n)
        columns = Columns(train, items, np.ones(len(items), bool), *problem)
        with clock.stage("solve"):
            rho = np.asarray(couplings(squared_norms(train).astype(np.float32), np.float32(self.reg)))
            inverse = invert(jnp.copy(gram), self.reg + rho, mesh, fill=float(self.reg) + 1)
            rho = np.pad(rho, (0, size - n), constant_values=1)
            state, done, enough = parallel.zeros((size, size), mesh), 0, self.tolerance
            taken = partial(_taken, rho=rho, l1=floats[1], nonnegative=self.nonnegative, mesh=mesh, n=n)
            with progress_bar("ADMM", self.max_iterations) as advance:
                while True:
                    state = _steps(state, inverse, rho, *floats)
                    done += CHECK_EVERY
                    advance(CHECK_EVERY)
                    residual = columns.residual(taken(state, columns.items))
                    last = done >= self.max_iterations or not np.isfinite(residual)
                    if residual > enough and not last:
                        continue
                    norms = parallel.to_host(_violations(state, gram, rho, *floats))[:, :n].astype(np.float64)
                    columns = self._worst_and_drawn(train, items, norms)
                    found = columns.errors(taken(state, columns.items), gram_product(gram, n))
                    settled = found.weights <= ERROR_LIMIT / 2 and found.worst <= WORST_LIMIT / 2
                    if last or (settled and found.residual <= self.tolerance):
                        break
                    enough = residual / (2 if settled else 4)
            del inverse
        with clock.stage("certificate"):
            weights, twins = _feasible(state, rho, *floats[1:]), ties.identical_items(train)
            in_float64 = found.residual <= self.tolerance and not settled and mesh is None and n <= DENSE
            if in_float64:
                whole = Columns(train, np.arange(n), np.ones(n, bool), *problem)
                weights = whole.settled(columns_of(weights, whole.items)[:n]).astype(np.float32)
                size = n
            if len(twins.items):
                weights = ties.tie(weights, twins)
            if len(twins.items) or in_float64:
                found = columns.errors(columns_of(weights, columns.items)[:n], gram_product(gram, n))
            certificate = self._certificate(weights, found, _relative(norms), float(done), n)
        return ItemWeights(weights, padding=size - n), certificate

    def _worst_and_drawn(self, train: Interactions, items: np.ndarray, norms: np.ndarray) -> Columns:
        """The columns that are looked at in float64: all if they are few; else half at random, half the worst."""
        if len(items) < train.n_items:
            with np.errstate(all="ignore"):
                looks = np.nan_to_num(norms[0] / norms[2], nan=0.0)
            items = items[::2]
            worst = np.setdiff1d(np.argsort(-looks, kind="stable")[: len(items)], items)
            chosen = np.concatenate([items, worst])
        else:
            chosen = items
        drawn = np.arange(len(chosen)) < len(items)
        return Columns(train, chosen, drawn, self.reg, self.l1, self.nonnegative)

    def _certificate(self, weights: Any, found: Errors, everywhere: float, done: float, n: int) -> Certificate:
        residual = found.residual
        kept = float(jnp.mean(weights != 0)) * len(weights) ** 2 / n**2
        detail = {
            "iterations": done,
            "share of weights that are zero": 1 - kept,
            "residual of all columns": everywhere,
            "estimated error of the weights": found.weights,
            "estimated error of the worst column": found.worst,
        }
        status = last_checks(residual, self.tolerance, found.weights, found.worst)
        if not bool(jnp.isfinite(jnp.sum(weights))):
            status = Status.NOT_FINITE
        return Certificate(status, residual, self.tolerance, detail)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        done = certificate.detail["iterations"]
        if certificate.status is Status.ILL_CONDITIONED:
            return f"after {done:.0f} iterations ({certificate}); raise reg or max_iterations."
        return f"after {done:.0f} iterations ({certificate}); raise reg, max_iterations or tolerance."

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        parts = {
            "Gram matrix, inverse and state": on.share(12 * n_items**2),
            "five I x I matrices of an iteration": on.share(20 * n_items**2),
            "columns that are checked": 24 * 64 * (n_users + n_items),
            "sparse data, twice": 24 * nnz,
        } | on.working()
        advice = "use fewer items (drop those with the fewest users), or Ease, which needs one I x I matrix"
        return Needs(parts, 102.0 * n_items**3, advice)  # of 50 iterations


@dataclasses.dataclass(frozen=True)
class NonnegativeEase(Slim):
    """EASE >= 0: EASE whose weights must not be negative (Steck, WWW 2019): SLIM with l1 = 0.

    Attributes:
      reg: L2 strength in interactions per item, as in Ease.
      l1: L1 strength, 0.
      nonnegative: True.
      tolerance: as in Slim.
      max_iterations: as in Slim.
    """

    name: ClassVar[str] = "ease-nonnegative"

    l1: float = 0.0
