"""Gradient descent on any loss, by an optimizer of optax: the referee that the exact solvers are compared with.

The public `objective` of each method takes plain arrays, so that it can be handed over as it is. Small data only: those
objectives are literal and dense.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.runtime.progress import progress_bar

REPORTS = 50  # how many losses a run records, besides the first


class Descent(NamedTuple):
    """Where a descent came to.

    Attributes:
      parameters: the last ones, of the structure of the ones it started from.
      losses: the loss at the start and after every recorded step; NaN once it diverged.
      steps: after how many steps each was recorded.
    """

    parameters: Any
    losses: np.ndarray
    steps: np.ndarray


class Carry(NamedTuple):
    """What a step hands to the next: parameters, the optimizer's state, the norm of the last update, steps done."""

    parameters: Any
    state: Any
    change: Any
    done: Any


def descend(loss: Callable[[Any], Any], parameters: Any, steps: int = 1000, optimizer: Any = None) -> Descent:
    """The parameters after so many steps of gradient descent, with the course of the loss.

    Args:
      loss: a differentiable function of the parameters, such as `lambda b: kernel.objective(x, b, reg)` of
        `jaxrec.closed_form`.
      parameters: a pytree of floating-point arrays to start from; not all 0 if the loss is stationary there, as
        the loss of a factorization is.
      steps: at least 1; it ends earlier if an update is 0.
      optimizer: of optax, such as `optax.adam(1e-2)`; default L-BFGS with line search, which needs no step size.

    Raises:
      InputError: `steps` is no count, or optax is not installed.

    Cost: one loss with its gradient a step; L-BFGS evaluates the loss a few times more, and keeps 40 copies of the
    parameters.
    """
    _checks.count("steps", steps, at_least=1)
    optimizer = lbfgs() if optimizer is None else optimizer
    parameters = jax.tree.map(jnp.asarray, parameters)
    run, value = jax.jit(partial(advance, loss, optimizer)), jax.jit(loss)
    carry, losses, at = begin(optimizer, parameters), [value(parameters)], [0]
    with progress_bar("gradient descent", steps) as bar:
        for until in np.unique(np.linspace(0, steps, REPORTS + 1).round().astype(int))[1:].tolist():
            carry = run(carry, until)
            losses.append(value(carry.parameters))
            at.append(int(carry.done))
            bar(at[-1] - at[-2])
            if at[-1] < until:
                break
    return Descent(carry.parameters, np.array(jax.device_get(losses)), np.array(at))


def lbfgs(memory_size: int = 20) -> Any:
    """L-BFGS with line search.

    Raises:
      InputError: optax is not installed.
    """
    return require_optax("gradient descent").lbfgs(memory_size=memory_size)


def require_optax(what: str) -> Any:
    """The module optax, which is optional.

    Raises:
      InputError: it is not installed; says so of `what`.
    """
    try:
        import optax
    except ImportError:
        raise InputError(f"{what} needs optax; install it with: pip install optax.") from None
    return optax


def begin(optimizer: Any, parameters: Any) -> Carry:
    """What the first step starts from."""
    kind = jnp.result_type(*jax.tree.leaves(parameters))
    return Carry(parameters, optimizer.init(parameters), jnp.asarray(jnp.inf, kind), jnp.asarray(0))


def advance(loss: Callable[[Any], Any], optimizer: Any, carry: Carry, until: Any) -> Carry:
    """The carry once `until` steps are done, or an update was 0; can be jitted."""
    optax = require_optax("gradient descent")
    known = optax.tree.get(carry.state, "value") is not None  # a line search left both behind
    value_and_grad = optax.value_and_grad_from_state(loss) if known else _value_and_grad(loss)
    update = optax.with_extra_args_support(optimizer).update

    def body(carry: Carry) -> Carry:
        value, slope = value_and_grad(carry.parameters, state=carry.state)
        changes, state = update(slope, carry.state, carry.parameters, value=value, grad=slope, value_fn=loss)
        return Carry(optax.apply_updates(carry.parameters, changes), state, optax.tree.norm(changes), carry.done + 1)

    return lax.while_loop(lambda carry: (carry.change > 0) & (carry.done < until), body, carry)


def _value_and_grad(loss: Callable[[Any], Any]) -> Callable[..., tuple[Any, Any]]:
    return lambda parameters, state: jax.value_and_grad(loss)(parameters)
