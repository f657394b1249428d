"""Every form of a low-rank denoising autoencoder that the experiments compare, on one Cholesky factor.

The letters are from the kernels' derivation in `jaxrec.linear.low_rank_edlae.kernels`: (a) to (c) guess the
diagonal of UV' and take one truncated SVD, (d) repeats it, (e) is the exact decoder for a given encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrec.closed_form.gram import gram_matrix
from jaxrec.data import Interactions
from jaxrec.experiments.low_rank import iterative
from jaxrec.linear.low_rank_edlae import kernels
from jaxrec.linear.low_rank_edlae import method as low_rank
from jaxrec.linear.low_rank_edlae.kernels import LowRankProblem
from jaxrec.models import ItemFactors
from jaxrec.solvers import svd
from jaxrec.solvers.columns import HIGHEST
from jaxrec.status import FitError, Status

Form = Callable[[int, Any], tuple[Any, Any]]  # from rank and key to encoder and decoder
ONE_SHOTS = {"SVD of B* (a)": "full_rank", "free-diagonal beta (b)": "free_diagonal", "eigen beta (c)": "eigen"}
TIED_STEPS = 20
TIED = f"tied diagonal, {TIED_STEPS} SVDs (d)"
EIGEN, CLOSED, FIXED = "eigen only (c')", "closed form: best of (a)-(c) + (e)", "fixed point"
ADMM, DROPPED, LBFGS = "ADMM, best iterate", "constraint dropped", "L-BFGS"

_dot = partial(jnp.matmul, precision=HIGHEST)
excess = jax.jit(kernels.excess)
_one_shot = jax.jit(kernels.one_shot, static_argnames=("kind", "rank"))
_best_decoder = jax.jit(kernels.best_decoder)
_tied = jax.jit(kernels.tied_diagonal, static_argnums=2)
_free = jax.jit(kernels.free_diagonal, static_argnums=1)
_eigen = jax.jit(kernels.eigen_factors, static_argnums=1)


def problem_of(train: Interactions, reg: float, dropout: float) -> LowRankProblem:
    """What every form works on.

    Raises:
      FitError: X'X + Lambda is not numerically positive definite.
    """
    problem = low_rank.prepare(jnp.asarray(gram_matrix(train)), float(dropout), float(reg))
    if not bool(jnp.isfinite(problem.scale)):
        raise FitError(Status.NOT_POSITIVE_DEFINITE, "float32 cannot resolve these items: raise reg.")
    return jax.block_until_ready(problem)


@dataclasses.dataclass(frozen=True)
class LowRankDlae:
    """The denoising autoencoder of rank k whose diagonal counts, in closed form (DLAE; Jin et al., KDD 2021).

    Attributes:
      rank: k.
      reg: L2 strength of the product UV', in interactions per item.
      dropout: the probability that an item of a history is dropped.
    """

    rank: int
    reg: float
    dropout: float

    def fit(self, train: Interactions) -> ItemFactors:
        """The factors L^-T [L^-1 X'X]_k, with L L' = X'X + Lambda."""
        problem = problem_of(train, self.reg, self.dropout)
        return ItemFactors(*jax.block_until_ready(_free(problem, self.rank, jax.random.key(0))))


@dataclasses.dataclass(frozen=True)
class ZeroDiagonal:
    """The low-rank linear autoencoder with diag(UV') = 0 enforced, as Figure 1 of the EDLAE paper has it.

    Attributes:
      rank: k.
      reg: L2 strength of the product UV', in interactions per item.
      dropout: the probability that an item of a history is dropped.
      steps: of the alternation; the paper takes 10.
    """

    rank: int
    reg: float
    dropout: float = 0.0
    steps: int = 10

    def fit(self, train: Interactions) -> ItemFactors:
        """The factors after so many steps."""
        problem = problem_of(train, self.reg, self.dropout)
        start = _one_shot(problem, "eigen", self.rank, jax.random.key(0))[0]
        return ItemFactors(*jax.block_until_ready(_zero_diagonal(problem, start, self.steps)))


def zero_diagonal(problem: LowRankProblem, basis: Any, steps: Any) -> tuple[Any, Any]:
    """[I, K] U and V after `steps` of alternating exact minimisation under diag(UV') = 0; the loss never rises.

    The loss is J(B*) + ||L'(UV' - B*)||_F^2. Given a basis P of the columns of L'U, row j of V is the projection of
    P'L'b*_j = h - t u on what is orthogonal to u: h - tau u with tau = h'u / u'u, u and h being rows j of U and of L P.
    Given V, with K the projection on its columns and C = G^-1, U is (I - C D(g)) V (V'V)^-1 where (C o K) g = diag(K):
    g - t are the multipliers. (Both steps are in the author's published notebook; here they are derived anew.)

    Args:
      problem: from `problem_of`.
      basis: [I, K] P with P'P = I.
      steps: how many.

    Cost: 2 I^3 flops, and I^3 / 3 + 12 I^2 k a step.
    """
    inverse = _dot(problem.inverse.T, problem.inverse)
    eye = jnp.eye(len(inverse), dtype=inverse.dtype)

    def decode(basis: Any) -> tuple[Any, Any]:
        u, h = _dot(problem.inverse.T, basis), _dot(problem.lower, basis)
        uu = jnp.sum(u**2, axis=1)
        tau = jnp.where(uu > 0, jnp.sum(u * h, axis=1) / jnp.where(uu > 0, uu, 1), 0)
        return u, h - tau[:, None] * u

    def body(_: Any, basis: Any) -> Any:
        q = svd.orthonormal(decode(basis)[1])
        projection = _dot(q, q.T)
        system = inverse * projection
        # Items that V leaves out have no equation: a small share of the largest one keeps them determined.
        small = 8 * jnp.finfo(q.dtype).eps * jnp.max(jnp.diagonal(system))
        g = jnp.linalg.solve(system + small * eye, jnp.diagonal(projection))
        u = q - _dot(inverse, g[:, None] * q)
        return svd.orthonormal(_dot(problem.lower.T, u))

    return decode(lax.fori_loop(0, steps, body, basis))


_zero_diagonal = jax.jit(zero_diagonal)


def by_name(
    problem: LowRankProblem, *, omega: float, admm_steps: int, lbfgs_steps: int, lbfgs_starts: int
) -> dict[str, Form]:
    """Each form by name.

    Args:
      problem: from `problem_of`.
      omega: strength of the constraint of ADMM, in interactions per item.
      admm_steps: its iterations.
      lbfgs_steps: of each run of L-BFGS.
      lbfgs_starts: how many runs, of which the best counts: from the closed form, the fixed point, random factors.
    """

    def of(basis: Any, w: Any = None) -> tuple[Any, Any]:
        if w is None:
            return _best_decoder(problem, basis)[:2]
        return _dot(problem.inverse.T, basis), problem.target(w, problem.unexplained).transpose(basis)

    def one_shot(kind: str) -> Form:
        return lambda rank, key: of(*_one_shot(problem, kind, rank, key))

    def tied(rank: int, key: Any) -> tuple[Any, Any]:
        w = _one_shot(problem, "free_diagonal", rank, key)[1]
        return of(*_tied(problem, w, rank, key, TIED_STEPS))

    def closed(rank: int, key: Any) -> tuple[Any, Any]:
        return of(low_rank.closed_form_basis(problem, rank, key)[0])

    def fixed_point(rank: int, key: Any) -> tuple[Any, Any]:
        start, _ = low_rank.closed_form_basis(problem, rank, key)
        return of(low_rank._fixed_point(problem, start, low_rank.STEPS["fixed_point"], low_rank.TOLERANCE)[0])

    def lbfgs(rank: int, key: Any) -> tuple[Any, Any]:
        size = problem.lower.shape[0]

        def random(rank: int, key: Any) -> tuple[Any, Any]:
            u, v = jax.random.normal(key, (2, size, rank)) / jnp.sqrt(size)
            return _dot(problem.inverse.T, u), v

        starts = (closed, fixed_point, random)[:lbfgs_starts]
        ends = [iterative.lbfgs(problem, *start(rank, key), lbfgs_steps)[:2] for start in starts]
        return min(ends, key=lambda end: float(excess(problem, *end)))

    return {
        **{name: one_shot(kind) for name, kind in ONE_SHOTS.items()},
        EIGEN: partial(_eigen, problem),
        TIED: tied,
        CLOSED: closed,
        FIXED: fixed_point,
        ADMM: lambda rank, key: iterative.admm(problem, rank, key, admm_steps, omega)[:2],
        DROPPED: partial(_free, problem),
        LBFGS: lbfgs,
    }
