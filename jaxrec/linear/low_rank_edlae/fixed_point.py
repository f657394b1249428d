"""The descent of low-rank EDLAE to a stationary point: the fixed point of its kernels, by conjugate gradients.

With the best decoder V of a basis P, the loss is a function f of what P spans alone. Let M = M(w, tau) be as in
`kernels`, with w and tau of `best_decoder`, and E = PV' - M. The gradient of J in UV' is 2 zd(L E) = 2 L E, since
diag(L E) = 0 is the optimality of diag(UV'); so half the gradient of f in P is

    g = E V = P V'V - M V,    with P'g = 0, because V = M'P.

The fixed point P = [M(w, tau)]_k is where g = 0. A power iteration, P <- orth(M V), is the step P + z with
z = -g (V'V)^-1: a step of descent, scaled by the curvature that f has while w and tau stay. They do not stay, so a
whole step may ascend, and near the end such steps are slow. Hence z is only the scaled gradient of nonlinear conjugate
gradients (Polak and Ribière, 1969) with a line search that never ascends. It is free but for I k^2 flops: where P
moves along D, orthogonal to it, L^-T P and L P move along L^-T D and L D, and P'P = 1 + step^2 D'D.

There need not be a minimum. A factor may come ever closer to one item, whose entry of diag(UV'), which does not count,
then grows beyond all bounds, while the product restores the item's row and column alike. Hence nearness to a stationary
point is told in the norm of z, ||g (V'V)^(-1/2)|| over ||M V (V'V)^(-1/2)||, to which the sizes of factors are nothing,
and whose square is what a step can gain.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxrec.linear.low_rank_edlae.kernels import LowRankProblem, LowRankSolution, decode, definite, turned
from jaxrec.solvers.columns import HIGHEST

DESCENT = 1e-4  # share of what the slope promises that a step must keep (Armijo, 1966)
LONGEST = 8.0  # step, in power iterations
TRIALS = 12  # shorter steps that are tried
_dot = partial(jnp.matmul, precision=HIGHEST)


class Images(NamedTuple):
    """Vectors [I, K] with their images, which stay with them through whatever is linear.

    Attributes:
      own: P, or a direction.
      encoder: L^-T times it.
      response: L times it.
    """

    own: Any
    encoder: Any
    response: Any


class Descent(NamedTuple):
    """Where the descent is.

    Attributes:
      basis: the Images of P.
      solution: its best decoder.
      direction: the Images of the last direction, in the tangent space of P; 0 after a step that failed.
      scaled: [I, K] the scaled gradient z of the step before, likewise.
      decrease: scalar -<g, z> of the step before; 0 where the next step begins anew, along z.
      gradient: the norm of z over its part from M, of the step before.
      moving: whether a step can still be made.
      done: steps.
    """

    basis: Images
    solution: LowRankSolution
    direction: Images
    scaled: Any
    decrease: Any
    gradient: Any
    moving: Any
    done: Any


def fixed_point(
    problem: LowRankProblem, basis: Float[Array, "I K"], steps: Any, tolerance: Any
) -> tuple[Float[Array, "I K"], Float[Array, ""], Int[Array, ""]]:
    """The basis after at most `steps` of the descent from `basis`, whose excess no step raises.

    Args:
      problem: what `kernels.prepare` returned.
      basis: [I, K] P with P'P = I.
      steps: largest number of steps.
      tolerance: stops where the relative gradient, in the norm above, is below; also where float32 sees no descent.

    Returns:
      [I, K] P; its excess; the number of steps.

    Cost: 12 I^2 k + 12 I k^2 flops a step.
    """
    first = _with_images(problem, basis)
    zero = jnp.zeros_like(first.own)
    number = jnp.zeros((), zero.dtype)
    start = Descent(
        first,
        decode(problem, first.encoder, first.response),
        Images(zero, zero, zero),
        zero,
        number,
        number + jnp.inf,
        jnp.asarray(True),
        jnp.asarray(0),
    )

    def going(state: Descent) -> Any:
        return state.moving & (state.gradient > tolerance) & (state.done < steps)

    end = lax.while_loop(going, partial(_step, problem), start)
    return end.basis.own, end.solution.excess, end.done


def _with_images(problem: LowRankProblem, own: Any) -> Images:
    return Images(own, _dot(problem.inverse.T, own), _dot(problem.lower, own))


def _step(problem: LowRankProblem, state: Descent) -> Descent:
    """One step of conjugate gradients; after a failed line search the next begins anew, and ends all if it fails."""
    basis, solution = state.basis, state.solution
    curvature = _dot(solution.decoder.T, solution.decoder)
    invertible = definite(curvature)
    moved = problem.target(solution.w, solution.tau).apply(solution.decoder)
    gradient = _tangent(basis.own, _dot(basis.own, curvature) - moved)
    scaled = jnp.linalg.solve(invertible, -gradient.T).T
    along = _with_images(problem, _tangent(basis.own, scaled))
    decrease = -jnp.sum(gradient * along.own)
    # Polak and Ribière: <z, g - g before> / <z before, g before>, never below 0.
    share = jnp.where(state.decrease > 0, decrease + jnp.sum(gradient * state.scaled), 0)
    share = jnp.maximum(share, 0) / jnp.where(state.decrease > 0, state.decrease, 1)
    direction = jax.tree.map(lambda z, d: z + share * d, along, state.direction)
    slope = 2 * jnp.sum(gradient * direction.own) / problem.scale
    downhill = slope < 0
    direction = jax.tree.map(partial(jnp.where, downhill), direction, along)
    slope = jnp.where(downhill, slope, -2 * decrease / problem.scale)

    length, found = _line_search(problem, basis, solution.excess, direction, slope)
    descends = found < solution.excess
    own = basis.own + jnp.where(descends, length, 0) * direction.own
    lower = jnp.linalg.cholesky(_dot(own.T, own))
    # Fresh images: in what the line search moved, rounding adds up.
    following = jax.tree.map(partial(jnp.where, descends), _with_images(problem, turned(lower, own)), basis)
    direction, scaled = jax.tree.map(lambda part: jnp.where(descends, turned(lower, part), 0), (direction, along.own))
    inside = _dot(following.own.T, direction.own)
    size = jnp.sum(moved * jnp.linalg.solve(invertible, moved.T).T)
    return Descent(
        following,
        decode(problem, following.encoder, following.response),
        jax.tree.map(lambda d, p: d - _dot(p, inside), direction, following),
        _tangent(following.own, scaled),
        jnp.where(descends, decrease, 0),
        jnp.sqrt(decrease / size),
        descends | (state.decrease > 0),
        state.done + 1,
    )


def _tangent(basis: Any, vectors: Any) -> Any:
    """[I, K] vectors without their part in the basis."""
    return vectors - _dot(basis, _dot(basis.T, vectors))


def _line_search(problem: LowRankProblem, basis: Images, excess: Any, direction: Images, slope: Any) -> tuple[Any, Any]:
    """(length, excess there) of a step that keeps enough of the descent, or of the last one tried.

    One power iteration long at first; then as long as the parabola through what is known says, at most `LONGEST`; then
    shorter.
    """
    square = _dot(direction.own.T, direction.own)
    eye = jnp.eye(len(square), dtype=square.dtype)

    def at(length: Any) -> Any:
        lower = jnp.linalg.cholesky(eye + length**2 * square)
        images = zip(basis[1:], direction[1:], strict=True)
        return decode(problem, *(turned(lower, p + length * d) for p, d in images)).excess

    def lowest(length: Any, found: Any) -> Any:
        bend = found - excess - slope * length
        return jnp.where(bend > 0, -slope * length**2 / jnp.where(bend > 0, 2 * bend, 1), jnp.inf)

    def keeps(length: Any, found: Any) -> Any:
        return found <= excess + DESCENT * slope * length

    one = jnp.ones_like(slope)
    whole = at(one)
    guess = jnp.clip(lowest(one, whole), 0.1, LONGEST)
    guessed = at(guess)
    better = guessed < whole
    start = jnp.where(better, guess, one), jnp.where(better, guessed, whole), 0

    def shorter(carry: Any) -> Any:
        length, found, trials = carry
        length = jnp.clip(lowest(length, found), 0.1 * length, 0.5 * length)
        return length, at(length), trials + 1

    length, found, _ = lax.while_loop(lambda c: ~keeps(c[0], c[1]) & (c[2] < TRIALS), shorter, start)
    return length, found
