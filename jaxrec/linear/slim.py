"""EASE >= 0 and SLIM: item-item weights under sign constraints and an L1 penalty, by ADMM.

SLIM (Ning & Karypis, ICDM 2011) minimises 1/2 ||X - X B||_F^2 + reg/2 ||B||_F^2 + l1 sum |B| over B >= 0 with zero
diagonal; l1 = 0 is EASE >= 0 (Steck, WWW 2019, the ablation on negative weights). The problem is convex. An
iteration of ADMM (one inverse beforehand) and a sweep of cyclic coordinate descent cost the same, one product with the
Gram matrix; after 60 of them on MovieLens 100K, reg 10 to 500, ADMM's residual was below 1/25 of the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
from jaxrec.models import Fitted, ItemWeights
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.runtime.progress import progress_bar
from jaxrec.solvers.columns import (
    HIGHEST,
    columns_product,
    on_diagonal,
    own_diagonal,
    sample_columns,
    take_columns,
    zero_diagonal,
)
from jaxrec.status import Certificate, Status

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


def residual_of(
    train: Interactions, columns: np.ndarray, reg: float, l1: float, nonnegative: bool
) -> Callable[[np.ndarray], float]:
    """A function from the chosen columns [I, S] of the weights to their relative KKT residual.

    That is the norm of the projected gradient (the part of the gradient along which the constraints let the weights
    move, with the L1 term's subgradient of least size) over its norm at zero weights, in float64 through sparse X.

    Args:
      train: the interactions X.
      columns: [S] indices of columns.
      reg: L2 strength.
      l1: L1 strength.
      nonnegative: whether B >= 0.
    """
    x = train.to_csr(np.float64)
    start = x.T @ x[:, columns].toarray()
    own = np.arange(train.n_items)[:, None] == columns[None, :]

    def violation(gradient: np.ndarray, weights: np.ndarray) -> float:
        below = np.minimum(gradient + l1, 0)  # at zero, a weight may grow ...
        above = 0.0 if nonnegative else np.maximum(gradient - l1, 0)  # ... or, where allowed, fall
        at_zero = below + above
        slope = np.where(weights == 0, at_zero, gradient + l1 * np.sign(weights))
        return float(np.linalg.norm(np.where(own, 0, slope)))

    most = violation(-start, np.zeros_like(start))

    def residual(weights: np.ndarray) -> float:
        found = violation(x.T @ (x @ weights) + reg * weights - start, weights)
        return found / most if most > 0 else found

    return residual


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
          up to 64 columns, chosen once.

        Raises:
          FitError: it does not fit in memory, or the residual is above `tolerance` after `max_iterations`.
          InputError: there is nothing to learn from.

        Cost: the Gram matrix, one inverse, and 2 I^3 flops an iteration, 20 to 100 of them.
        """
        return self._fit(train, devices)

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[ItemWeights, Certificate]:
        with clock.stage("gram"):
            gram = jax.block_until_ready(default_gram(train, mesh))
        with clock.stage("solve"):
            n, size = train.n_items, len(gram)
            reg, l1 = np.float32(self.reg), np.float32(self.l1)
            columns = sample_columns(n)
            residual_at = residual_of(train, columns, self.reg, self.l1, self.nonnegative)
            rho = np.asarray(couplings(squared_norms(train).astype(np.float32), reg))
            inverse = invert(gram, reg + rho, mesh, fill=float(reg) + 1)
            del gram
            rho = np.pad(rho, (0, size - n), constant_values=1)
            state, residual, done = parallel.zeros((size, size), mesh), np.inf, 0
            with progress_bar("ADMM", self.max_iterations) as advance:
                while residual > self.tolerance and done < self.max_iterations:
                    state = _steps(state, inverse, rho, reg, l1, self.nonnegative, mesh)
                    done += CHECK_EVERY
                    advance(CHECK_EVERY)
                    chosen = _columns(state, rho, l1, columns, self.nonnegative, mesh)
                    residual = residual_at(np.asarray(chosen, np.float64)[:n])
                    if not np.isfinite(residual):
                        break
            del inverse
            weights = jax.block_until_ready(_feasible(state, rho, l1, self.nonnegative, mesh))
        status = Status.OK if residual <= self.tolerance else Status.RESIDUAL_TOO_LARGE
        if not bool(jnp.isfinite(jnp.sum(weights))):
            status = Status.NOT_FINITE
        kept = float(jnp.mean(weights != 0)) * size**2 / n**2
        detail = {"iterations": float(done), "share of weights that are zero": 1 - kept}
        model = ItemWeights(ties.share_columns(weights, ties.identical_items(train)), padding=size - n)
        return model, Certificate(status, residual, self.tolerance, detail)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        done = certificate.detail["iterations"]
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
