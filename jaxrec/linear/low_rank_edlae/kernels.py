"""Kernels of the low-rank EDLAE: everything that works on the Cholesky factor of the regularised Gram matrix.

With G = X'X + Lambda = L L', t = 1 / diag(G^-1) and the full-rank optimum B* = I - G^-1 D(t), the loss of factors U, V
is J(B*) + ||L'(UV' - B* - D(beta))||_F^2 with beta = diag(UV') (exact). With w = 1 + beta that asks for the best
approximation of M(w, t) = L' D(w) - L^-1 D(t) by a matrix L'UV' of rank k such that UV' has the diagonal beta:

- Given the column space of L'U, as an orthonormal basis P, the best decoder is explicit (`best_decoder`).
- That decoder is M(w, tau)'P, tau being t less the multipliers of the constraint beta = diag(UV'). So at the optimum
  L'UV' is the truncated SVD of M(w, tau), and w and tau follow from it: a fixed point (see `fixed_point`).

Everything is products with L and L^-1; the square root of G is never formed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec.solvers import svd
from jaxrec.solvers.columns import HIGHEST, zero_diagonal

ONE_SHOTS = ("full_rank", "free_diagonal", "eigen")
FLATTEST = 4  # rounding units of the trace of V'V that are added to its diagonal: it may be singular
_dot = partial(jnp.matmul, precision=HIGHEST)


class LowRankProblem(NamedTuple):
    """What the Gram matrix says about every rank.

    Attributes:
      lower: [I, I] Cholesky factor L of G = X'X + Lambda.
      inverse: [I, I] L^-1.
      penalty: [I] diagonal of Lambda.
      diagonal: [I] diagonal of G.
      unexplained: [I] t = 1 / diag(G^-1); the full-rank optimum has the value sum(t - penalty).
    """

    lower: Any
    inverse: Any
    penalty: Any
    diagonal: Any
    unexplained: Any

    @property
    def scale(self) -> Any:
        """J(0) - J(B*): what full rank gains over no model at all, the unit of every excess."""
        return jnp.sum(self.diagonal - self.unexplained)

    def target(self, w: Any, tau: Any) -> svd.Operator:
        """M(w, tau) = L' D(w) - L^-1 D(tau), as an operator."""
        return svd.Operator(
            self.lower.shape,
            self.lower.dtype,
            lambda v: _dot(self.lower.T, w[:, None] * v) - _dot(self.inverse, tau[:, None] * v),
            lambda v: w[:, None] * _dot(self.lower, v) - tau[:, None] * _dot(self.inverse.T, v),
        )


class LowRankSolution(NamedTuple):
    """A rank-k model and its place among all models.

    Attributes:
      encoder: [I, K] U.
      decoder: [I, K] V.
      w: [I] 1 + diag(UV').
      tau: [I] t less the multipliers of beta = diag(UV'); V = M(w, tau)'L'U where L'U is orthonormal.
      excess: scalar (J(UV') - J(B*)) / (J(0) - J(B*)): 0 for full rank, 1 for no model.
    """

    encoder: Any
    decoder: Any
    w: Any
    tau: Any
    excess: Any


def prepare(gram: Float[ArrayLike, "I I"], penalty: Float[ArrayLike, " I"]) -> LowRankProblem:
    """The Cholesky factor of G = X'X + Lambda, its inverse, and the unexplained parts t = 1 / diag(G^-1).

    Args:
      gram: [I, I] X'X; symmetric. Not modified.
      penalty: [I] diagonal of Lambda, above 0.

    Cost: 2/3 I^3 flops; two I x I matrices besides the argument.
    Fails: NaN where X'X + Lambda is not numerically positive definite.
    """
    gram, penalty = jnp.asarray(gram), jnp.asarray(penalty)
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    lower = lax.linalg.cholesky(gram + eye * penalty[None, :], symmetrize_input=False)
    inverse = lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
    return LowRankProblem(lower, inverse, penalty, jnp.diagonal(gram) + penalty, 1 / jnp.sum(inverse**2, axis=0))


def excess(problem: LowRankProblem, encoder: Float[Array, "I K"], decoder: Float[Array, "I K"]) -> Float[Array, ""]:
    """(J(UV') - J(B*)) / (J(0) - J(B*)) by J(UV') - J(B*) = ||L'(UV' - B* - D(diag(UV')))||_F^2: no data needed.

    Args:
      problem: what `prepare` returned.
      encoder: [I, K] U.
      decoder: [I, K] V.

    Cost: 4 I^2 k flops; two I x I matrices.
    """
    w = 1 + jnp.sum(encoder * decoder, axis=1)
    error = _dot(_dot(problem.lower.T, encoder), decoder.T)
    error = error - problem.lower.T * w[None, :] + problem.inverse * problem.unexplained[None, :]
    return jnp.sum(error**2) / problem.scale


def gradients(
    problem: LowRankProblem, gram: Float[Array, "I I"], encoder: Float[Array, "I K"], decoder: Float[Array, "I K"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The relative gradient of the loss in the encoder and in the decoder.

    With R = zd(G zd(UV') - X'X) the gradients are 2 R V and 2 R'U, and what the data contribute to them is 2 zd(X'X) V
    and 2 zd(X'X)'U. In the encoder both are measured in the norm of L^-1 A (V'V)^(-1/2), to which it is nothing how
    the factors are scaled and which tells what a step can gain (see `fixed_point`). R is from the Gram matrix alone,
    without its factorization.

    Cost: 12 I^2 k flops; two I x I matrices.
    """
    w = 1 + jnp.sum(encoder * decoder, axis=1)
    response = _dot(gram, encoder) + problem.penalty[:, None] * encoder
    rest = zero_diagonal(_dot(response, decoder.T) - gram * w[None, :])
    start = zero_diagonal(gram)
    lower = jnp.linalg.cholesky(definite(_dot(decoder.T, decoder)))

    def scaled(a):
        """L^-1 A K^-T, V'V being KK'."""
        return turned(lower, _dot(problem.inverse, _dot(a, decoder)))

    def ratio(a, b):
        return jnp.linalg.norm(a) / jnp.maximum(jnp.linalg.norm(b), jnp.finfo(b.dtype).tiny)

    return ratio(scaled(rest), scaled(start)), ratio(_dot(rest.T, encoder), _dot(start, encoder))


def definite(curvature: Float[Array, "K K"]) -> Float[Array, "K K"]:
    """[K, K] V'V with rounding units on its diagonal, so that it can be inverted."""
    return curvature + FLATTEST * jnp.finfo(curvature.dtype).eps * jnp.trace(curvature) * jnp.eye(len(curvature))


def turned(lower: Float[Array, "K K"], vectors: Float[Array, "I K"]) -> Float[Array, "I K"]:
    """[I, K] A K^-T for a lower triangular K: of orthonormal columns where K is the Cholesky factor of A'A."""
    return lax.linalg.triangular_solve(lower, vectors, left_side=False, lower=True, transpose_a=True)


def best_decoder(problem: LowRankProblem, basis: Float[Array, "I K"]) -> LowRankSolution:
    """The optimum over all decoders, for the encoders U = L^-T P that an orthonormal basis P spans; explicit.

    Column j of the loss is ||P v - beta l - d||^2 with l = L'e_j, d = L'b*_j and beta = u'v, where u and h are the
    rows j of U and of G U = L P. For a given beta the minimum is at v = P'(d + beta l) + lambda u, and
    P'd = h - t u, P'l = h: so v = (1 + beta) h - (t - lambda) u, and what is left is a parabola in beta.

    Args:
      problem: what `prepare` returned.
      basis: [I, K] P with P'P = I.

    Cost: 4 I^2 k flops for U and G U; the decoder itself O(I k).
    """
    return decode(problem, _dot(problem.inverse.T, basis), _dot(problem.lower, basis))


def decode(problem: LowRankProblem, u: Float[Array, "I K"], h: Float[Array, "I K"]) -> LowRankSolution:
    """What `best_decoder` returns, from U = L^-T P and G U = L P; I k flops."""
    t, g = problem.unexplained, problem.diagonal
    uu, uh, hh = (jnp.sum(a * b, axis=1) for a, b in ((u, u), (u, h), (h, h)))
    tiny = jnp.finfo(u.dtype).tiny
    # Inner products of l and d outside the span of P; d'd = d'l = g - t.
    ll, dl, dd = g - hh, g - t - hh + t * uh, g - t - hh + 2 * t * uh - t**2 * uu
    curvature = (1 - uh) ** 2 + uu * ll
    slope = (uh - t * uu) * (1 - uh) - uu * dl
    # Damped where the parabola is flat up to rounding (a basis that holds nearly all): there any beta is as good.
    flat = 16 * jnp.finfo(u.dtype).eps * uu * g
    beta = slope * curvature / jnp.maximum(curvature**2 + flat**2, tiny)
    multiplier = (beta * (1 - uh) - uh + t * uu) / jnp.maximum(uu, tiny)
    multiplier = jnp.where(uu > tiny, multiplier, 0)
    w, tau = 1 + beta, t - multiplier
    value = multiplier**2 * uu + dd + 2 * beta * dl + beta**2 * ll
    return LowRankSolution(u, w[:, None] * h - tau[:, None] * u, w, tau, jnp.sum(value) / problem.scale)


def one_shot(
    problem: LowRankProblem, kind: str, rank: int, key: PRNGKeyArray
) -> tuple[Float[Array, "I K"], Float[Array, " I"]]:
    """A basis P and w = 1 + beta from a guess of beta = diag(UV') and one truncated SVD, [M(w, t)]_k.

    Args:
      problem: what `prepare` returned.
      kind: static; the guess of beta.
        "full_rank": 0, the SVD of B* itself; good for ranks near I.
        "free_diagonal": the diagonal of the optimum without the constraint, `free_diagonal`; good for small ranks.
        "eigen": the diagonal that is its own where the encoder spans the top eigenvectors Q of G,
        w = (1 - t sum_l Q_l^2 / g_l) / (1 - sum_l Q_l^2).
      rank: static; k.
      key: random key of the truncated SVD.

    Returns:
      [I, K] P, [I] w. The factors of the SVD are L^-T P and M(w, t)'P; `best_decoder(problem, P)` is never worse.

    Cost: one truncated SVD ("full_rank") or two.
    """
    t = problem.unexplained
    if kind == "free_diagonal":
        w = 1 + jnp.sum(jnp.multiply(*free_diagonal(problem, rank, key)), axis=1)
    elif kind == "eigen":
        w = 1 + _eigen_diagonal(problem, *eigenpairs(problem, rank, key))
    else:
        w = jnp.ones_like(t)
    return svd.truncated_svd(problem.target(w, t), rank, key)[0], w


def free_diagonal(
    problem: LowRankProblem, rank: int, key: PRNGKeyArray
) -> tuple[Float[Array, "I K"], Float[Array, "I K"]]:
    """[I, K] U and V of the optimum L^-T [L^-1 X'X]_k of the loss J(UV') in which the diagonal counts (DLAE)."""
    target = problem.target(jnp.ones_like(problem.penalty), problem.penalty)  # L^-1 X'X = L' - L^-1 Lambda
    basis = svd.truncated_svd(target, rank, key)[0]
    return _dot(problem.inverse.T, basis), target.transpose(basis)


def eigen_factors(
    problem: LowRankProblem, rank: int, key: PRNGKeyArray
) -> tuple[Float[Array, "I K"], Float[Array, "I K"]]:
    """[I, K] U and V from the top eigenvectors Q of G alone: UV' = Q [Q' D(w) - D(1/g) Q' D(t)], no other SVD."""
    q, values = eigenpairs(problem, rank, key)
    w = 1 + _eigen_diagonal(problem, q, values)
    return q, w[:, None] * q - problem.unexplained[:, None] * q / values[None, :]


def eigenpairs(problem: LowRankProblem, rank: int, key: PRNGKeyArray) -> tuple[Float[Array, "I K"], Float[Array, " K"]]:
    """[I, K] eigenvectors and [K] eigenvalues of G, largest first."""
    lower = problem.lower
    apply = lambda v: _dot(lower, _dot(lower.T, v))  # noqa: E731
    return svd.truncated_svd(svd.Operator(lower.shape, lower.dtype, apply, apply), rank, key)[:2]


def _eigen_diagonal(problem: LowRankProblem, q, values):
    """[I] beta = (sum_l Q_l^2 - t sum_l Q_l^2 / g_l) / (1 - sum_l Q_l^2), 0 where Q holds the item whole."""
    inside = jnp.sum(q**2, axis=1)
    outside = 1 - inside
    beta = (inside - problem.unexplained * jnp.sum(q**2 / values[None, :], axis=1)) / jnp.maximum(outside, 1e-6)
    return jnp.where(outside > 1e-6, beta, 0)


def tied_diagonal(
    problem: LowRankProblem, w: Float[Array, " I"], rank: int, key: PRNGKeyArray, steps: Any
) -> tuple[Float[Array, "I K"], Float[Array, " I"]]:
    """A basis P and w after `steps` of: w - 1 <- diag(UV'), the diagonal of the truncated SVD of M(w, t).

    For comparison: it leaves the multipliers of the constraint at 0, so it stops next to the optimum. `rank` is static.
    """

    def body(_, carry):
        basis, w = carry
        decoder = problem.target(w, problem.unexplained).transpose(basis)
        w = 1 + jnp.sum(_dot(problem.inverse.T, basis) * decoder, axis=1)
        return svd.truncated_svd(problem.target(w, problem.unexplained), rank, key)[0], w

    start = svd.truncated_svd(problem.target(w, problem.unexplained), rank, key)[0]
    return lax.fori_loop(0, steps, body, (start, w))
