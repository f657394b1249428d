"""Preconditioned conjugate gradients, one system or many at once: the loop of every solver here, in NumPy or JAX.

Vectors are arrays of any shape; what a scalar product is, over which axes and devices, the caller says by `dot`. Where
the matrix is P + E with P^-1 as preconditioner, P itself need not be multiplied by: P times a direction obeys the
recurrence of the direction, and `apply` is given both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Apply = Callable[[Any, Any], Any]
Precondition = Callable[[Any], Any]
Dot = Callable[[Any, Any], Any]


class Iterate(NamedTuple):
    """Where the iterations are.

    Attributes:
      solution: so far.
      residual: the right-hand side less the matrix times the solution.
      direction: where to go next.
      image: P times the direction, P^-1 being the preconditioner.
      square: squared norm of the residual in P^-1, of each system.
      steps: taken, of each system.
    """

    solution: Any
    residual: Any
    direction: Any
    image: Any
    square: Any
    steps: Any


def begin(solution: Any, residual: Any, precondition: Precondition, dot: Dot) -> Iterate:
    """The iterations before their first step.

    Args:
      solution: where to begin.
      residual: of `solution`.
      precondition: multiplies by P^-1.
      dot: the scalar products of two vectors, a number for each system that broadcasts against a vector.
    """
    direction = precondition(residual)
    square = dot(residual, direction)
    none = 0.0 if isinstance(square, float) else (jnp if isinstance(square, jax.Array) else np).zeros_like(square)
    return Iterate(solution, residual, direction, residual, square, none)


def step(state: Iterate, apply: Apply, precondition: Precondition, dot: Dot, enough: Any = 0.0) -> Iterate:
    """One iteration on every system that is active: its residual is above `enough`, its curvature above 0.

    The others stay as they are: rounding, or a system without a residual, makes no NaN.

    Args:
      state: from `begin` or `step`.
      apply: from v and P v to the matrix times v.
      precondition: multiplies by P^-1.
      dot: the scalar products of two vectors, see `begin`.
      enough: the `square` at which a system is solved.
    """
    solution, residual, direction, image, square, steps = state
    bent = apply(direction, image)
    curvature = dot(direction, bent)
    active = (square > enough) & (curvature > 0)
    length = ratio(square, curvature, active)
    solution, residual = solution + length * direction, residual - length * bent
    conditioned = precondition(residual)
    following = dot(residual, conditioned)
    share = ratio(following, square, active)
    following = _chosen(active, following, square)
    return Iterate(
        solution, residual, conditioned + share * direction, residual + share * image, following, steps + active
    )


def ratio(a: Any, b: Any, active: Any) -> Any:
    """A / b where `active`, else 0."""
    if isinstance(a, float):  # which stays one: NumPy's would turn float32 vectors into float64
        return a / b if active else 0.0
    xp = jnp if isinstance(a, jax.Array) else np
    return xp.where(active, a / xp.where(active, b, 1), 0)


def any_active(state: Iterate, enough: Any) -> Any:
    """Whether some system is not solved."""
    return (state.square > enough).any()


def relative_residual(state: Iterate, enough: Any) -> Any:
    """The norm of the residual over the norm at which it is enough, of each system."""
    xp = jnp if isinstance(state.square, jax.Array) else np
    return xp.sqrt(state.square / xp.where(enough > 0, enough, 1))


def _chosen(active: Any, a: Any, b: Any) -> Any:
    if isinstance(a, float):
        return a if active else b
    xp = jnp if isinstance(a, jax.Array) else np
    return xp.where(active, xp.maximum(a, 0), b)
