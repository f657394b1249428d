"""Iterations that the forms of the low-rank EDLAE are compared with: the published ADMM, and L-BFGS as a judge."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec.linear.low_rank_edlae import kernels
from jaxrec.linear.low_rank_edlae.kernels import LowRankProblem
from jaxrec.solvers import descent
from jaxrec.solvers.columns import HIGHEST

DIVERGED = 10.0  # ADMM has, once the excess is so many times the excess of its best iterate

_dot = partial(jnp.matmul, precision=HIGHEST)
_excess = jax.jit(kernels.excess)


class AdmmState(NamedTuple):
    """State of the iteration `admm_step`: the factors [I, K], beta [I] and the dual variables [I]."""

    encoder: Any
    decoder: Any
    beta: Any
    dual: Any


def admm_step(problem: LowRankProblem, state: AdmmState, omega: Any) -> AdmmState:
    """The state after one iteration of the alternating updates published with EDLAE (Steck, NeurIPS 2020).

    They are not an exact ADMM: the decoder's update has the penalty omega, the encoder's has not. They approach the
    optimum and then diverge, so the number of iterations acts as early stopping; keep the best iterate.

    Args:
      problem: what `low_rank_edlae.prepare` returned.
      state: the factors, beta and the dual variables.
      omega: scalar > 0, strength of the constraint beta = diag(UV'), in interactions per item.

    Cost: 12 I^2 k flops.
    """
    u, _, beta, dual = state
    both = problem.penalty + omega
    counts = problem.diagonal - problem.penalty

    def gram(v):
        return _dot(problem.lower, _dot(problem.lower.T, v)) - problem.penalty[:, None] * v

    image = gram(u)
    system = _dot(u.T, image + (problem.penalty + both)[:, None] * u)
    right = (1 + beta)[:, None] * image + (both * (beta - dual))[:, None] * u
    v = jnp.linalg.solve(system, right.T).T
    pull = gram((1 + beta)[:, None] * v) + (both * (beta - dual))[:, None] * v
    u = _dot(problem.inverse.T, _dot(problem.inverse, pull))
    u = jnp.linalg.solve(_dot(v.T, v), u.T).T
    diagonal = jnp.sum(u * v, axis=1)
    aimed = jnp.sum(gram(u) * v, axis=1) - counts + both * (diagonal + dual)
    beta = jnp.maximum(0, aimed / (counts + omega))
    return AdmmState(u, v, beta, dual + diagonal - beta)


_admm_step = jax.jit(admm_step)


def admm(
    problem: LowRankProblem, rank: int, key: PRNGKeyArray, steps: int, omega: float
) -> tuple[Float[Array, "I K"], Float[Array, "I K"], list[float]]:
    """[I, K] U and V of the best iterate of `admm_step` from small random factors, and the excess of every iterate.

    It stops early if the iterates diverge, which they may do at any number of steps.
    """
    encoder = 1e-4 * jax.random.normal(key, (problem.lower.shape[0], rank), problem.lower.dtype)
    zero = jnp.zeros_like(problem.penalty)
    state = AdmmState(encoder, jnp.zeros_like(encoder), zero, zero)
    best, course = state, []
    for _ in range(steps):
        state = _admm_step(problem, state, omega)
        course.append(float(_excess(problem, state.encoder, state.decoder)))
        if not course[-1] < DIVERGED * min(course):
            break
        if course[-1] == min(course):
            best = state
    return best.encoder, best.decoder, course


@jax.jit
def lbfgs(
    problem: LowRankProblem, encoder: Float[Array, "I K"], decoder: Float[Array, "I K"], steps: Any
) -> tuple[Float[Array, "I K"], Float[Array, "I K"], Any]:
    """[I, K] U and V after `steps` of L-BFGS on the loss itself, in the variables L'U and V; for small data.

    Args:
      problem: what `low_rank_edlae.prepare` returned.
      encoder: [I, K] U to start from.
      decoder: [I, K] V to start from.
      steps: largest number of steps.

    Returns:
      [I, K] U and V; the number of steps done.

    Cost: about 15 I^2 k flops a step, and 80 I k numbers.

    Raises:
      InputError: optax is not installed.
    """
    solver = descent.lbfgs()

    def loss(factors):
        whitened, decoder = factors
        return kernels.excess(problem, _dot(problem.inverse.T, whitened), decoder)

    start = descent.begin(solver, (_dot(problem.lower.T, encoder), decoder))
    (whitened, decoder), *_, done = descent.advance(loss, solver, start, steps)
    return _dot(problem.inverse.T, whitened), decoder, done
