"""EDLAE of low rank: encoder and decoder factors U, V whose product, without its diagonal, minimises the EDLAE loss.

    min over U, V [I, k] of  ||X - X zd(UV')||_F^2 + ||Lambda^(1/2) zd(UV')||_F^2,   Lambda_j = reg + p/(1-p) (X'X)_jj,

where zd drops the diagonal (Steck, NeurIPS 2020; Steck & Garcia Garcia, arXiv 2110.11402). It is not convex. The
kernels, and why one truncated SVD nearly solves it, are in `kernels`; the descent from there to where no small change
improves it is in `fixed_point`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form import kernel
from jaxrec.closed_form.gram import default_gram, reg_dominates, squared_norms
from jaxrec.closed_form.kernel import dropout_penalty
from jaxrec.closed_form.mesh import penalised
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import Method, Stopwatch
from jaxrec.linear.low_rank_edlae import kernels
from jaxrec.linear.low_rank_edlae.certificate import ENCODER_LIMIT, certify
from jaxrec.linear.low_rank_edlae.fixed_point import fixed_point
from jaxrec.linear.low_rank_edlae.kernels import ONE_SHOTS, LowRankProblem
from jaxrec.models import Fitted, ItemFactors
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.solvers.columns import HIGHEST, own_diagonal, zero_diagonal
from jaxrec.solvers.spd import SweepLayout, cholesky_and_inverse, sweep_layout
from jaxrec.status import Certificate, FitError, Status

METHODS = ("fixed_point", "closed_form")
STEPS = {"fixed_point": 300, "closed_form": 0}
TOLERANCE = 3e-4  # of the relative gradient in the encoder, at which the descent ends

_prepare = jax.jit(kernels.prepare)
_penalty = jax.jit(lambda gram, odds, reg: reg + odds * jnp.diagonal(gram))
_one_shot = jax.jit(kernels.one_shot, static_argnames=("kind", "rank"))
_best_decoder = jax.jit(kernels.best_decoder)
_fixed_point = jax.jit(fixed_point)


def objective(
    x: Float[ArrayLike, "U I"],
    encoder: Float[ArrayLike, "I K"],
    decoder: Float[ArrayLike, "I K"],
    dropout: Any,
    reg: Any,
) -> Float[Array, ""]:
    """The loss ||X - X zd(UV')||_F^2 + ||Lambda^(1/2) zd(UV')||_F^2, Lambda_j = reg + p/(1-p) (X'X)_jj (Steck 2020).

    Literally, for checking: it takes X dense.

    Args:
      x: [U, I] interactions.
      encoder: [I, K] U.
      decoder: [I, K] V.
      dropout: scalar p in [0, 1).
      reg: scalar > 0.
    """
    product = jnp.matmul(jnp.asarray(encoder), jnp.asarray(decoder).T, precision=HIGHEST)
    penalty = dropout_penalty(jnp.sum(jnp.asarray(x) ** 2, axis=0), dropout, reg)
    return kernel.objective(x, zero_diagonal(product), penalty)


def excess(
    gram: Float[ArrayLike, "I I"],
    encoder: Float[ArrayLike, "I K"],
    decoder: Float[ArrayLike, "I K"],
    dropout: Any,
    reg: Any,
) -> Float[Array, ""]:
    """J(UV') - J(B*), how much the loss of the factors is above the loss at full rank, from the Gram matrix alone.

    It is ||L'(UV' - B* - D(diag(UV')))||_F^2, where X'X + Lambda = L L' and B* is the EDLAE of full rank.

    Args:
      gram: [I, I] X'X; symmetric. Not modified.
      encoder: [I, K] U.
      decoder: [I, K] V.
      dropout: scalar p in [0, 1).
      reg: scalar > 0, in interactions per item.

    Cost: 2/3 I^3 + 4 I^2 k flops; four I x I matrices.
    """
    problem = prepare(gram, dropout, reg)
    return kernels.excess(problem, jnp.asarray(encoder), jnp.asarray(decoder)) * problem.scale


def prepare(
    gram: Float[ArrayLike, "N N"], dropout: Any, reg: Any, mesh: Any = None, n_items: int = 0
) -> LowRankProblem:
    """What the kernels of `kernels` need of the data, for every rank.

    Args:
      gram: [N, N] X'X; symmetric. Not modified.
      dropout: scalar p in [0, 1), the probability that an input is dropped.
      reg: scalar > 0, in interactions per item.
      mesh: what `parallel.make_mesh` returned, if `gram` is from `default_gram` on it; then everything is split.
      n_items: with a mesh: I, N without padding.

    Cost: 2/3 N^3 flops, on a mesh 2 N^3; two N x N matrices besides the argument, on a mesh three.
    Fails: NaN where X'X + Lambda is not numerically positive definite.
    """
    gram = jnp.asarray(gram)
    # p / (1 - p) in the precision of the numbers given: in float32 the difference would cancel.
    penalty = _penalty(gram, dropout / (1 - dropout), reg)
    if mesh is None:
        return _prepare(gram, penalty)
    return prepare_on(mesh, gram, penalty, sweep_layout(n_items, mesh.size))


def prepare_columns(
    gram: Float[Array, "N m"], penalty: Float[Array, " m"], layout: SweepLayout, axis: str | None = None
) -> tuple[Float[Array, "N m"], Float[Array, "N m"], Float[Array, " m"], Float[Array, " m"]]:
    """My columns [N, m] of L' and of L^-1, and my parts [m] of diag(G) and of t, by the sweep: for `prepare_on`.

    Args:
      gram: [N, m] my columns of X'X.
      penalty: [m] my part of the diagonal of Lambda, above 0.
      layout: of the N x N matrix, from `sweep_layout`. Static.
      axis: the mesh axis over which columns are split, or None.
    """
    whole = penalised(gram, penalty, axis)
    upper, inverse = cholesky_and_inverse(whole, layout, axis)
    return upper, inverse, own_diagonal(whole, axis), 1 / jnp.sum(inverse**2, axis=0)


@partial(jax.jit, static_argnames=("mesh", "layout"))
def prepare_on(
    mesh: Any, gram: Float[Array, "N N"], penalty: Float[Array, " N"], layout: SweepLayout
) -> LowRankProblem:
    """What `prepare` returns, split over a mesh: L by rows, L^-1 by columns. JAX splits the other kernels by that.

    Args:
      mesh: what `parallel.make_mesh` returned. Static.
      gram: [N, N] X'X, padded and split by columns. Not modified.
      penalty: [N] diagonal of Lambda, above 0; of items that only pad, at most the penalty of others.
      layout: what `sweep_layout` returned. Static.

    Cost: 2 N^3 flops; three N x N matrices besides the argument.
    """
    columns, rows = parallel.COLUMNS, parallel.ROWS
    kernel = partial(prepare_columns, layout=layout)
    split = parallel.over_columns(kernel, mesh, (columns, rows), (columns, columns, rows, rows))
    upper, inverse, diagonal, unexplained = split(gram, penalty)
    lower = parallel.constrain(upper.T, mesh, rows)
    return LowRankProblem(
        lower, inverse, *(parallel.replicate(part, mesh) for part in (penalty, diagonal, unexplained))
    )


def closed_form_basis(problem: LowRankProblem, rank: int, key: PRNGKeyArray) -> tuple[Float[Array, "I K"], str]:
    """[I, K] the best of the one-shot bases, each with its best decoder, and its name.

    Cost: five truncated SVDs.
    """
    found = {kind: _one_shot(problem, kind, rank, key)[0] for kind in ONE_SHOTS}
    value = {kind: float(_best_decoder(problem, basis).excess) for kind, basis in found.items()}
    best = min(ONE_SHOTS, key=lambda kind: np.nan_to_num(value[kind], nan=np.inf))
    return found[best], best


@dataclasses.dataclass(frozen=True)
class LowRankEdlae(Method):
    """EDLAE of rank k: item-item weights UV' trained to restore dropped items from the others.

    Whatever finds the encoder, the decoder is the exact optimum for it.

    Attributes:
      rank: k, from 1 to the number of items, where it is EDLAE itself.
      reg: L2 strength in interactions per item, the paper's lambda.
      dropout: the probability p in [0, 1) that an item of a history is dropped.
      method: "fixed_point" improves the best of the closed forms until it is a stationary point, which is not always
        the best there is; "closed_form" is that start alone: one truncated SVD for each of three guesses of diag(UV').
      steps: largest number of iterations of "fixed_point"; None takes 300, of which it mostly needs 20 to 60.
    """

    name: ClassVar[str] = "low-rank-edlae"

    rank: int = 16
    reg: float = 100.0
    dropout: float = 0.3
    method: Literal["fixed_point", "closed_form"] = "fixed_point"
    steps: int | None = None

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.count("rank", self.rank, at_least=1)
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.one_of("method", self.method, METHODS)
        if self.steps is not None:
            _checks.count("steps", self.steps, at_least=1)
        _checks.dropout(self.dropout)

    def fit(self, train: Interactions, devices: Any = None, *, key: PRNGKeyArray | None = None) -> Fitted:
        """The fitted factors with their certificate.

        The loss is not convex, so the certificate cannot say that the factors are the optimum: on small data other
        starts were seen to end up to 8 % lower. It says that they are finite, that the decoder is the optimum for the
        encoder (the relative gradient of the loss in the decoder, from the Gram matrix, is below 1e-3), that they are
        better than no model, and of "fixed_point" that they are a stationary point (the relative gradient in the
        encoder is below 1e-2). Of up to 64 items it takes the exact decoder, given the encoder, in float64: the
        estimated error of the decoder is how far that changes the weights zd(UV') of all items, relative to these, and
        is below a hundredth, of no item above three. Its other details: the loss, its value at full rank, the excess
        (their difference as a share of what full rank gains over no model), the estimated rounding error of the excess,
        which must be below 0.03, and the relative gradient in the encoder. How far the weights are from those of the
        nearest stationary point it does not say: there need not be one.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.
          devices: what to split every I x I matrix over, as in `Ease.fit`; blocks of k vectors are whole on each. Ranks
            above half of the items take a whole singular value decomposition, for which each device gathers a matrix.
            None is the default device.
          key: random key of the truncated SVDs; the same key gives the same model.

        Returns:
          Fitted(model: ItemFactors, info: FitInfo with certificate and timings).

        Raises:
          FitError: the fit does not fit in memory, or its result is not certified; says what to change.
          InputError: there is nothing to learn from, or `rank` is above the number of items.

        Cost: see `plan`; I^3 flops once, about 70 I^2 k for the closed forms, 8 I^2 k for a step of the fixed point.
        """
        return self._fit(train, devices, key=jax.random.key(0) if key is None else key)

    def _refuse(self, train: Interactions) -> None:
        super()._refuse(train)
        if self.rank > train.n_items:
            raise InputError(
                f"rank must be at most the number of items, {train.n_items}, got {self.rank}; at that rank it is Edlae."
            )

    def _solve(
        self, train: Interactions, mesh: Any, clock: Stopwatch, *, key: PRNGKeyArray
    ) -> tuple[ItemFactors, Certificate]:
        with clock.stage("gram"):
            gram = jax.block_until_ready(default_gram(train, mesh))
        with clock.stage("factorization"):
            problem = jax.block_until_ready(prepare(gram, float(self.dropout), float(self.reg), mesh, train.n_items))
        if not bool(jnp.isfinite(problem.scale)):
            raise FitError(Status.NOT_POSITIVE_DEFINITE, "float32 cannot resolve these items: raise reg.")
        with clock.stage("solve"):
            solution = jax.block_until_ready(_best_decoder(problem, self._find(problem, key)))
        model = ItemFactors(solution.encoder, solution.decoder)
        with clock.stage("certificate"):
            certificate = certify(train, gram, problem, model, stationary=self.method == "fixed_point")
        if mesh is not None:
            model = ItemFactors(
                *(jnp.asarray(parallel.to_host(part)[: train.n_items]) for part in jax.tree.leaves(model))
            )
        return model, certificate

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        if certificate.status is Status.ILL_CONDITIONED:
            return f"{certificate}; {self._way(train)}."
        if certificate.residual <= certificate.limit and certificate.detail["encoder gradient"] > ENCODER_LIMIT:
            return f"{certificate}; raise steps, or take method='closed_form', which promises no stationary point."
        return f"{certificate}; raise reg, or lower the rank."

    def _way(self, train: Interactions) -> str:
        """What to change where the penalty leaves so little to learn that float32 does not see it."""
        odds = self.dropout / (1 - self.dropout)
        name = "reg" if reg_dominates(train, self.reg) or self.reg > odds * squared_norms(train).max() else "dropout"
        return f"lower {name}: next to nothing is left to learn, less than float32 resolves"

    def _find(self, problem: LowRankProblem, key: PRNGKeyArray) -> Float[Array, "I K"]:
        """[I, K] the basis P of L'U that the method ends with."""
        steps = STEPS[self.method] if self.steps is None else self.steps
        basis, _ = closed_form_basis(problem, self.rank, key)
        if self.method == "fixed_point":
            return _fixed_point(problem, basis, steps, TOLERANCE)[0]
        return basis

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        rank = min(self.rank, n_items)
        steps = STEPS[self.method] if self.steps is None else self.steps
        parts = {
            "Gram matrix, Cholesky factor and its inverse": on.share(12 * n_items**2),
            "four I x I matrices of the products": on.share(16 * n_items**2),
            "blocks of vectors": 50 * n_items * rank * on.on_host,
            "sparse data, twice": 16 * nnz + 16 * (n_users + n_items),
        } | on.working()
        flops = float(n_items) ** 3 + float(n_items) ** 2 * rank * (70 + 15 * steps)
        advice = "use a machine with more memory, or fewer items (drop those with the fewest users)"
        return Needs(parts, flops, advice)
