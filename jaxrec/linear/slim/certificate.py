"""How far the weights of an elastic net are from their optimum: by the gradient, and by a Newton step.

The problem of a column, 1/2 b'(G + reg) b - a'b + l1 |b|_1, maybe over b >= 0, is strongly convex. Where the weights
that are not 0 are the right ones, what is wrong with them is (G + reg)^-1 times the gradient, restricted to them: a
gradient that is tiny on the whole may be large along the flattest directions. The same holds approximately once the
zeros are nearly settled; weights at 0 that the gradient would let grow count as free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrec.closed_form.products import weights_times
from jaxrec.data.interactions import Interactions
from jaxrec.solvers.columns import largest_share
from jaxrec.solvers.restricted import DENSE, restricted_solve

ROUNDS = 30  # most Newton steps, where they are cheap


class Errors(NamedTuple):
    """What is known of some columns.

    Attributes:
      residual: the norm of the projected gradient over its norm at zero weights, of those drawn.
      weights: the estimated relative error of the weights, of those that were drawn at random.
      worst: the largest of a column.
    """

    residual: float
    weights: float
    worst: float


def slopes(gradient: Any, weights: Any, l1: float, nonnegative: bool, xp: Any = np) -> Any:
    """The part of the gradient along which the constraints let the weights move, with the least subgradient of l1.

    Args:
      gradient: of the smooth part.
      weights: of the same shape.
      l1: L1 strength.
      nonnegative: whether weights may not be negative.
      xp: NumPy, or JAX's.
    """
    below = xp.minimum(gradient + l1, 0)  # at zero, a weight may grow ...
    above = 0.0 if nonnegative else xp.maximum(gradient - l1, 0)  # ... or, where allowed, fall
    return xp.where(weights == 0, below + above, gradient + l1 * xp.sign(weights))


class Columns:
    """Some columns of the problem, in float64 through the sparse X.

    Args:
      train: interactions X.
      items: [S] which.
      drawn: [S] whether each was drawn at random.
      reg: L2 strength.
      l1: L1 strength.
      nonnegative: whether B >= 0.
    """

    def __init__(
        self, train: Interactions, items: np.ndarray, drawn: np.ndarray, reg: float, l1: float, nonnegative: bool
    ):
        self.x: Any = train.to_csr(np.float64)
        self.items, self.drawn = items, drawn
        self.reg, self.l1, self.nonnegative = reg, l1, nonnegative
        self.start = self.x.T @ self.x[:, items].toarray()
        self.own = np.arange(train.n_items)[:, None] == items[None, :]
        self.at_zero = float(np.linalg.norm(self.violation(np.zeros(self.start.shape))[:, drawn]))

    def violation(self, weights: np.ndarray) -> np.ndarray:
        """[I, S] the projected gradient at weights [I, S]."""
        gradient = self.x.T @ (self.x @ weights) + self.reg * weights - self.start
        return np.where(self.own, 0, slopes(gradient, weights, self.l1, self.nonnegative))

    def residual(self, weights: np.ndarray) -> float:
        """The norm of the projected gradient over its norm at zero weights, of the columns drawn."""
        found = float(np.linalg.norm(self.violation(weights)[:, self.drawn]))
        return found / self.at_zero if self.at_zero > 0 else found

    def errors(self, weights: np.ndarray, times_gram: Callable[[np.ndarray], np.ndarray]) -> Errors:
        """What is known of weights [I, S]; `times_gram` multiplies by X'X, to a few digits."""
        violation = self.violation(weights)
        found = float(np.linalg.norm(violation[:, self.drawn]))
        residual = found / self.at_zero if self.at_zero > 0 else found
        if not np.isfinite(residual):
            return Errors(residual, np.inf, np.inf)
        wrong = np.linalg.norm(self._step(weights, violation, times_gram), axis=0)
        sizes = np.linalg.norm(weights, axis=0)
        with np.errstate(all="ignore"):
            size = np.linalg.norm(sizes[self.drawn])
            whole = float(np.linalg.norm(wrong[self.drawn]) / size) if size > 0 else float(wrong[self.drawn].any())
        return Errors(residual, whole, largest_share(wrong, sizes))

    def settled(self, weights: np.ndarray) -> np.ndarray:
        """[I, S] the weights after the Newton steps that estimate their errors, unless these lead nowhere."""
        step = self._step(weights, self.violation(weights), self._times_gram)
        return np.where(np.isfinite(step).all(axis=0), weights - step, weights)

    def _step(
        self, weights: np.ndarray, violation: np.ndarray, times_gram: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """[I, S] what is wrong with the weights: Newton steps, each on the weights that are free after the one before.

        Those that a step takes across zero stay there; those that the gradient then pulls off zero become free.
        """
        diagonal = np.asarray(self.x.multiply(self.x).sum(axis=0)).ravel() + self.reg
        small = len(weights) <= DENSE
        if small:
            times_gram = self._times_gram
        now, known = weights, np.ones(weights.shape[1], bool)
        for _ in range(ROUNDS if small else 1):
            free = ((now != 0) | (violation != 0)) & ~self.own
            step, reached = restricted_solve(lambda v: times_gram(v) + self.reg * v, diagonal, violation, free)
            known &= reached
            after = now - step
            signs = np.where(now != 0, np.sign(now), -np.sign(violation))
            across = (after * signs < 0) & (signs != 0)
            if not small:
                now = after
                break
            now = np.where(across, 0, after)
            moved = self.violation(now)
            level = np.abs(self.start).max(axis=0, keepdims=True) * 1e-13
            violation = np.where(np.abs(moved) > level, moved, 0)
            if not across.any() and not (violation[now == 0] != 0).any():
                break
        return np.where(known, weights - now, np.inf)

    def _times_gram(self, columns: np.ndarray) -> np.ndarray:
        return self.x.T @ (self.x @ columns)


def gram_product(gram: Any, n: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that multiplies [I, S] by a Gram matrix that lies padded on devices."""
    return lambda columns: weights_times(gram, columns)[:n]
