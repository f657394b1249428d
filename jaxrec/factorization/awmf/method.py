"""Asymmetric weighted matrix factorization (AWMF): an item-item model of low rank, under any weights of the cells.

    min over A, V [I, K] of   sum over ALL u, i of W_ui (X_ui - (X A V')_ui)^2  +  reg R(A, V)

with W = p q' + S (`jaxrec.Weights`) and one of three regularizers: "l2" ||A||^2 + ||V||^2, "product" ||A V'||^2, and
"factor" ||X A||^2 + ||V||^2, which is weight decay on the embeddings of users X A and of items V. Without weights all
three have closed forms, see `jaxrec.closed_form.spectral`. With them A and V are solved for in turn; given X A the
items are independent weighted ridge regressions, while A is one system of I K equations. The models and the comparison
of their weights and regularizers follow Ayoub, Robertson, Liang, Steck & Kallus, "Does Weighting Improve Matrix
Factorization for Recommender Systems?" (WWW 2025, arXiv 2510.10440). The problem is not convex.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form.spectral import KINDS
from jaxrec.data.interactions import Interactions
from jaxrec.factorization import ridge
from jaxrec.factorization.alternation import (
    SMALLEST_GAIN,
    Alternation,
    alternate,
    identity,
    movement,
    nothing_to_learn,
)
from jaxrec.factorization.awmf import sweeps
from jaxrec.factorization.awmf.on_devices import OnDevices
from jaxrec.factorization.awmf.on_host import OnHost
from jaxrec.factorization.awmf.start import spectrum, start
from jaxrec.factorization.awmf.sweeps import AwmfInfo, AwmfProblem, AwmfState
from jaxrec.factorization.weights import Weights
from jaxrec.fitting import HostOrJax, Stopwatch
from jaxrec.models import Fitted, ItemFactors
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.runtime.threads import n_threads
from jaxrec.solvers.columns import HIGHEST
from jaxrec.status import Certificate, Status, last_checks

LIMIT = 1e-3  # of the relative gradient in V, whose equations were solved last, exactly
EXACT_UP_TO = {"cpu": 8192, "gpu": 20_000, "tpu": 20_000}  # items, where I^3 flops are a small part of a fit
Callback = Callable[[int, AwmfInfo, AwmfState], Any]


def objective(
    x: Float[ArrayLike, "U I"],
    cell_weights: Float[ArrayLike, "U I"],
    encoder: Float[ArrayLike, "I K"],
    decoder: Float[ArrayLike, "I K"],
    reg: Any,
    regularizer: str = "l2",
) -> Float[Array, ""]:
    """The loss sum W (X - X A V')^2 + reg R(A, V), literally, for checking: it takes all matrices dense.

    Args:
      x: [U, I] interactions.
      cell_weights: [U, I] W.
      encoder: [I, K] A.
      decoder: [I, K] V.
      reg: scalar >= 0.
      regularizer: "l2", "product" or "factor".
    """
    x, w, a, v = map(jnp.asarray, (x, cell_weights, encoder, decoder))
    z = jnp.matmul(x, a, precision=HIGHEST)
    loss = jnp.sum(w * (x - jnp.matmul(z, v.T, precision=HIGHEST)) ** 2)
    if regularizer == "product":
        return loss + reg * jnp.sum(jnp.matmul(a, v.T, precision=HIGHEST) ** 2)
    return loss + reg * (jnp.sum((z if regularizer == "factor" else a) ** 2) + jnp.sum(v**2))


@dataclasses.dataclass(frozen=True, repr=False)
class Awmf(HostOrJax):
    """Asymmetric weighted matrix factorization: scores x A V', errors weighted (Ayoub et al. 2025).

    Attributes:
      rank: K, at most the number of users and of items.
      reg: strength; in the unit of W times squared singular values of X for "l2" and "product", of W times singular
        values for "factor". For 0/1 data hundreds to thousands are usual for the former two (see `tune`).
      regularizer: "l2" for ||A||^2 + ||V||^2, "product" for ||A V'||^2, "factor" for ||X A||^2 + ||V||^2.
      alpha: what an observed cell weighs on top of a missing one.
      unobserved_weight: weight of a missing cell.
      sweeps: how many times A and V are solved for, at most.
      tolerance: stop once a sweep lowers the loss by less than this share; 0 never does.
      cg_tolerance: how far each sweep takes the equations for A: the residual at its end over that at its start.
      cg_steps: the most steps of conjugate gradients in a sweep.
      preconditioner: "exact" solves these equations without S, by an eigendecomposition of I^3 flops once a fit, of an
        I x I matrix that is factored whole, on the host or the default device, before it is split: no decomposition
        over devices is at hand. "diagonal" takes diagonals of X'X instead, for many items; "auto" the former up to
        8,192 items on a CPU, 20,000 elsewhere.
      solver: "host" takes sparse products and LAPACK on the CPU, "jax" the JAX kernels on the default device; "auto"
        the former where that device is a CPU and there is no mesh.
    """

    name: ClassVar[str] = "awmf"

    rank: int = 16
    reg: float = 10.0
    regularizer: Literal["l2", "product", "factor"] = "l2"
    alpha: float = 1.0
    unobserved_weight: float = 1.0
    sweeps: int = 30
    tolerance: float = 1e-4
    cg_tolerance: float = 0.1
    cg_steps: int = 30
    preconditioner: Literal["auto", "exact", "diagonal"] = "auto"

    def __post_init__(self):
        super().__post_init__()
        for name in ("rank", "sweeps", "cg_steps"):
            _checks.count(name, getattr(self, name), at_least=1)
        for name in ("alpha", "unobserved_weight"):
            _checks.positive(name, getattr(self, name))
        for name in ("reg", "tolerance"):
            _checks.nonnegative(name, getattr(self, name))
        _checks.fraction("cg_tolerance", self.cg_tolerance)
        _checks.one_of("regularizer", self.regularizer, KINDS)
        _checks.one_of("preconditioner", self.preconditioner, ("auto", "exact", "diagonal"))

    def cell_weights(self, train: Interactions) -> Weights:
        """W of a fit that is given none: unobserved_weight, and alpha more where there is an interaction."""
        return Weights.constant(train.binarised(), self.alpha, unobserved_weight=self.unobserved_weight)

    def problem(self, train: Interactions, cell_weights: Weights | None = None) -> AwmfProblem:
        """What the sweeps work on.

        Raises:
          InputError: the weights do not belong to `train`, or nothing can be learned with them.
        """
        weights = self.cell_weights(train) if cell_weights is None else cell_weights
        weights.require(train)
        parts = (weights.row, weights.col, weights.on_pattern(train))
        least = min(float(np.min(part, initial=0.0)) for part in parts)
        if not all(np.isfinite(part).all() for part in parts) or least < -1e-9:
            raise InputError(f"weights must be finite and not negative, got {least:g}; make them by a constructor.")
        made = sweeps.problem(train, weights, self.reg)
        if not made.constant > 0:
            raise InputError("the weights of all interactions are 0, which leaves nothing to learn; raise them.")
        return made

    def fit(
        self,
        train: Interactions,
        devices: Any = None,
        *,
        cell_weights: Weights | None = None,
        key: PRNGKeyArray | None = None,
        callback: Callback | None = None,
        checkpoint: str | os.PathLike | None = None,
    ) -> Fitted:
        """The fitted factors with their certificate.

        The loss is not convex, so the certificate cannot say that the factors are the optimum. It holds the gradient of
        the loss in V over the norm of the right-hand sides of its equations, in float64 through the sparse data. Of up
        to 64 items it takes the exact rows of V, given A, in float64: the estimated error of the decoder is how far
        that changes the predictions of all items, relative to these, and is below a hundredth, of no item above three.
        Among its details are how far the last sweep changed the predictions, the gradient in A, the loss after every
        sweep, and the steps and the last residual of conjugate gradients.

        Args:
          train: U x I interactions X, both what is predicted and what it is predicted from. Values other than 1 are
            used as they are, as in `Ease`. Where they are strengths that shall only weigh (`Ials` reads them so), fit
            `train.binarised()` with `cell_weights=Weights.constant(train, alpha)`.
          devices: what to split users and items over (see `jaxrec.runtime.parallel.make_mesh`). The I x I matrix of an
            exact preconditioner is factored whole before it is split.
          cell_weights: W in place of unobserved_weight + alpha on the interactions, made from `train`.
          key: random key of a random start. Default is the solution in closed form for weights without S, which
            depends on no key.
          callback: called after each sweep with its number (from 1), its `AwmfInfo` and the state; stops the fit
            where it returns something true.
          checkpoint: a file that is replaced after each sweep, from which a fit that was killed goes on, with the very
            result it would have had. It may have fewer `sweeps`. Delete it afterwards.

        Returns:
          Fitted(model: ItemFactors, info: FitInfo). For "product" any (A M, V M'^-1) is as good; A is orthonormal.

        Raises:
          InputError: there is nothing to learn from, or an argument does not suit the data.
          FitError: it does not fit in memory, or an equation has no finite solution; says what to change.

        Cost: see `plan`.
        """
        return self._fit(train, devices, cell_weights=cell_weights, key=key, callback=callback, checkpoint=checkpoint)

    def _refuse(self, train: Interactions) -> None:
        super()._refuse(train)
        if self.rank > min(train.shape):
            raise InputError(
                f"rank must be at most the number of users and of items, here {min(train.shape):,}, got {self.rank}."
            )
        if self.reg == 0 and not train.item_counts.all():
            raise InputError(
                f"reg = 0 leaves items without interactions undetermined, and {train.name} has "
                f"{np.sum(train.item_counts == 0)} of them; raise reg, or drop them."
            )

    def _solve(
        self,
        train: Interactions,
        mesh: Any,
        clock: Stopwatch,
        *,
        cell_weights: Weights | None = None,
        key: Any = None,
        callback: Callback | None = None,
        checkpoint: str | os.PathLike | None = None,
        **_: Any,
    ) -> tuple[ItemFactors, Certificate]:
        kind, reg, dtype = self.regularizer, self.reg, np.dtype(jnp.zeros(()).dtype)
        with clock.stage("prepare"):
            weights = self.cell_weights(train) if cell_weights is None else cell_weights
            problem = self.problem(train, weights)
            platform = "cpu" if mesh is None else mesh.devices.flat[0].platform
            exact = self._exact(train.n_items, platform)
            found, pairs = spectrum(train, problem.users, kind, reg, exact, platform == "cpu")
            parts = problem.x, problem.users, problem.items, found
            with np.errstate(over="ignore"):
                products = OnHost(*parts, dtype) if mesh is None else OnDevices(*parts, self.rank, mesh)
        with clock.stage("start"):
            if key is None:
                simple = weights.entries is None and np.ptp(weights.col) == 0
                simple = simple and (kind != "factor" or np.ptp(weights.row) == 0)
                first = AwmfState(*start(train, problem, pairs, self.rank, kind, reg, simple))
            else:
                shape = train.n_items, self.rank
                draws = (jax.random.normal(k, shape, dtype) for k in jax.random.split(key))
                first = AwmfState(*(np.asarray(draw) / np.sqrt(train.n_items) for draw in draws))
        with clock.stage("sweeps"):
            made = alternate(
                "AWMF",
                lambda state: sweeps.step(state, products, problem, kind, reg, (self.cg_tolerance, self.cg_steps)),
                first,
                AwmfInfo,
                sweeps=self.sweeps,
                tolerance=self.tolerance,
                place=lambda state: AwmfState(*map(products.place, state)),
                fetch=lambda state: AwmfState(*map(products.fetch, state)),
                callback=callback,
                checkpoint=checkpoint,
                belongs_to=None if checkpoint is None else identity(self, train.fingerprint, problem.users[2:], key),
            )
        with clock.stage("certificate"):
            state, certificate = made.state, certify(problem, made, kind, reg)
            learned = certificate.detail["loss"] < (1 - SMALLEST_GAIN) * problem.constant
            if not learned and (largest := sweeps.singular_value_at_zero(problem, kind, reg)) <= 1:
                state = AwmfState(*map(np.zeros_like, state))
                certificate = nothing_to_learn(self, LIMIT, problem.constant, largest)
        return ItemFactors(*map(np.asarray, state)), certificate

    def _exact(self, n_items: int, platform: str) -> bool:
        if self.preconditioner == "auto":
            return n_items <= EXACT_UP_TO[platform]
        return self.preconditioner == "exact"

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        rank = min(self.rank, n_users, n_items)
        batch = 0 if host else 8 * ridge.batch_numbers(on.platform)
        parts = {
            "factors and images, and what is freed late": on.share(4 * rank * (4 * n_users + 36 * n_items)),
            "gradients of the certificate, in float64": 8 * rank * (2 * n_users + 6 * n_items),
            "factors gathered for predictions, in float64": 16 * min(nnz * rank, sweeps.NUMBERS_AT_ONCE),
            "factors of the other side, gathered": 4 * rank * max(n_users, n_items) * on.on_host * (on.count > 1),
            "interactions by user and by item": 100 * nnz,
            "interactions padded": 0 if host else on.share(72 * nnz),
            "a batch of rows": batch * on.on_host,
            "a chunk of rows a thread": ridge.HOST_BYTES["cholesky"] * n_threads() * host,
        }
        # A product with the matrix of the equations for A, the right-hand side, and V; about 4 steps a sweep.
        flops = 6 * (8.0 * nnz * rank + 4.0 * (n_users + n_items) * rank**2)
        flops += 2.0 * nnz * rank**2 + n_items * rank**3 / 3
        once = 0.0
        if self._exact(n_items, on.platform):
            parts["preconditioner"] = on.share(4 * n_items**2)
            parts["its factorization"] = 16 * n_items**2
            once = 9.0 * n_items**3
            flops += 24.0 * n_items**2 * rank
        advice = "use a lower rank, preconditioner='diagonal', or more devices with devices="
        return Needs(parts, once + self.sweeps * flops, advice)


def certify(problem: AwmfProblem, made: Alternation, kind: str, reg: float) -> Certificate:
    """The evidence on factors, as told in `Awmf.fit`.

    Cost: 24 nnz K + 12 (U + I) K^2 flops in float64 on the host, and 64 items solved for.
    """
    state, before, course = made
    with np.errstate(all="ignore"):  # what overflows is not certified
        loss, in_a, in_v = sweeps.loss_and_gradients(problem, state, kind, reg)
        sizes = sweeps.right_sides(problem, state)
        encoder, decoder = (
            float(np.linalg.norm(slope)) / max(size, np.finfo(float).tiny)
            for slope, size in zip((in_a, in_v), sizes, strict=True)
        )
    detail = {"loss": loss, "gradient in A": encoder}
    if len(course):
        detail |= {"residual of the equations for A": float(course[-1, 2]), "steps": float(course[:, 3].sum())}
    status = Status.NOT_FINITE
    if np.isfinite([loss, encoder, decoder]).all():
        z = problem.x @ np.asarray(state.encoder, np.float64)
        errors = ridge.row_errors(problem.items, state.decoder, z, in_v)
        detail["estimated error of the decoder"] = errors.whole
        detail["estimated error of the worst item"] = errors.worst
        if before is not None:
            then = problem.x @ np.asarray(before.encoder, np.float64), before.decoder
            detail |= movement(then, (z, state.decoder))
        status = last_checks(decoder, LIMIT, *errors)
    detail |= {f"loss after sweep {number}": float(row[0]) for number, row in enumerate(course, 1)}
    return Certificate(status, decoder, LIMIT, detail)
