"""Preconditioned conjugate gradients for many systems P + E_j at once, with P^-1 at hand: on the host or in a kernel.

P itself is never multiplied by: P times a direction obeys the recurrence of the direction. So an iteration is one
product with P^-1 and one with E_j, however dense P. The same lines serve NumPy and JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class State(NamedTuple):
    """Of systems (P + E_j) c_j = b_j, where c_j is P^-1 b_j and a correction, each a column of what follows, or a row.

    Attributes:
      correction: what is added.
      residual: what is left.
      direction: where to go next.
      image: P times that.
      size: squared norm of the residuals in P^-1, of each system.
      limit: at which a system is done.
      iterations: of each system.
    """

    correction: Any
    residual: Any
    direction: Any
    image: Any
    size: Any
    limit: Any
    iterations: Any


Product = Callable[[Any], Any]
Excess = Callable[[Any, Any], Any]


def start(first: Any, right: Any, spread: Product, excess: Excess, limit: Any, along: int) -> State:
    """The state at c_j = P^-1 b_j.

    Args:
      first: P^-1 b_j.
      right: b_j.
      spread: multiplies by P^-1.
      excess: from v and P v to E_j v.
      limit: the squared norm of its residual in P^-1 at which a system is done; not below rounding of the first one.
      along: the axis along which a system lies, 0 for columns.
    """
    residual = -excess(first, right)
    direction = spread(residual)
    size = (residual * direction).sum(along, keepdims=True)
    xp = jnp if isinstance(residual, jax.Array) else np
    limit = xp.maximum(limit, xp.finfo(size.dtype).eps ** 2 * size)
    return State(first * 0, residual, direction, residual, size, limit, size * 0)


def step(state: State, spread: Product, excess: Excess, along: int) -> State:
    """One iteration of preconditioned conjugate gradients on every system that is not done; the others stay.

    The denominators are guarded, so that a system without a residual, as of an item without users, makes no NaN.
    """
    xp = jnp if isinstance(state.residual, jax.Array) else np
    x, residual, direction, image, size, limit, iterations = state
    bent = image + excess(direction, image)
    curvature = (direction * bent).sum(along, keepdims=True)
    active = (size > limit) & (curvature > 0)
    length = xp.where(active, size / xp.where(active, curvature, 1), 0)
    x = x + length * direction
    residual = residual - length * bent
    at = spread(residual)
    new = xp.maximum((residual * at).sum(along, keepdims=True), 0)
    share = xp.where(active, new / xp.where(active, size, 1), 0)
    return State(
        x, residual, at + share * direction, residual + share * image, xp.where(active, new, size), limit,
        iterations + active,
    )  # fmt: skip


def busy(state: State) -> Any:
    """Whether some system is not done."""
    return (state.size > state.limit).any()


def left_over(state: State) -> Any:
    """Of each system, the norm of its residual over that at which it is done."""
    xp = jnp if isinstance(state.residual, jax.Array) else np
    return xp.sqrt(state.size / xp.where(state.limit > 0, state.limit, 1))
