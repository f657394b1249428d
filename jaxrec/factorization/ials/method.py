"""Weighted matrix factorization by alternating least squares: iALS, iALS++ and the WMF of Hu, Koren and Volinsky.

    min over P [U, K], V [I, K] of   sum over ALL u, i of W_ui (T_ui - p_u'v_i)^2
                                     + reg [ sum_u (n_u + p_u sum(q))^nu |p_u|^2 + sum_i (m_i + q_i sum(p))^nu |v_i|^2 ]

with W = p q' + S (`jaxrec.Weights`). Given V the users are independent weighted ridge regressions, and the other way
round; the sum over the missing cells is one Gram matrix (Hu, Koren & Volinsky, ICDM 2008). Regularization in
proportion to the weight of a row, nu = 1, and enough factors are what made it competitive again (Rendle, Krichene,
Zhang & Koren, "Revisiting the Performance of iALS", RecSys 2022, and "iALS++", 2021). The problem is not convex.
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
from jaxrec.factorization.ials import sweeps
from jaxrec.factorization.ials.model import UserItemFactors
from jaxrec.factorization.ials.sweeps import IalsInfo, IalsProblem, IalsState, SolverSettings
from jaxrec.factorization.ridge import FoldIn
from jaxrec.factorization.weights import Weights
from jaxrec.fitting import HostOrJax, Stopwatch
from jaxrec.models import Fitted
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.runtime.threads import n_threads
from jaxrec.solvers.columns import HIGHEST
from jaxrec.status import ERROR_LIMIT, WORST_LIMIT, Certificate, Status, last_checks

MODES = ("cg", "cholesky", "block")
# Of the relative gradient in the item factors, whose equations were solved last: exactly, or for a few steps.
LIMITS = {"cholesky": 1e-3, "cg": 0.1, "block": 0.1}
# Of the error of the predictions that the item factors make, given the user factors, and of the worst item.
ERROR_LIMITS = {"cholesky": (ERROR_LIMIT, WORST_LIMIT), "cg": (0.2, 0.6), "block": (0.2, 0.6)}
COMPILED_BYTES = 420_000_000  # bytes that XLA takes on a CPU to compile a solver for some ten widths
Callback = Callable[[int, IalsInfo, IalsState], Any]


def objective(
    x: Float[ArrayLike, "U I"],
    base: Float[ArrayLike, "U I"],
    entries: Float[ArrayLike, "U I"],
    user_factors: Float[ArrayLike, "U K"],
    item_factors: Float[ArrayLike, "I K"],
    user_reg: Float[ArrayLike, " U"],
    item_reg: Float[ArrayLike, " I"],
    target: str = "shrunk",
) -> Float[Array, ""]:
    """The loss, literally, for checking: it takes all matrices dense.

    For target "one" it is sum (p q + s)(x - y)^2 + regularization (Hu et al. 2008), for "shrunk"
    sum s (x - y)^2 + sum p q y^2 + regularization (Rendle et al. 2021), where y = p_u'v_i.

    Args:
      x: [U, I] 0 or 1.
      base: [U, I] p q'.
      entries: [U, I] S; 0 where x is.
      user_factors: [U, K] P.
      item_factors: [I, K] V.
      user_reg: [U] strength for each user.
      item_reg: [I] strength for each item.
      target: "shrunk" or "one".
    """
    x, base, entries, p, v = map(jnp.asarray, (x, base, entries, user_factors, item_factors))
    predicted = jnp.matmul(p, v.T, precision=HIGHEST)
    if target == "one":
        loss = jnp.sum((base + entries) * (x - predicted) ** 2)
    else:
        loss = jnp.sum(entries * (x - predicted) ** 2) + jnp.sum(base * predicted**2)
    return loss + jnp.sum(user_reg * jnp.sum(p**2, axis=1)) + jnp.sum(item_reg * jnp.sum(v**2, axis=1))


@dataclasses.dataclass(frozen=True, repr=False)
class Ials(HostOrJax):
    """Matrix factorization of implicit feedback by alternating least squares (iALS; Rendle et al. 2021).

    The defaults are the loss of the iALS papers: weight unobserved_weight on all cells and 1 more on observed ones,
    regularization in proportion, with strengths in the middle of those published (reg 0.002 to 0.02). Of a grid over
    rank 32 to 128, reg 0.003 to 0.03 and unobserved_weight 0.1 and 0.3, they are the ones that lose little on each of
    four data sets from 294 to 17,632 items, and the best on none: short histories want more reg, long catalogues more
    rank and less reg. Other packages write the loss differently: see `jaxrec.factorization.conventions`.

    Attributes:
      rank: K. The published results take hundreds to thousands.
      reg: L2 strength; with reg_exponent 1 in the unit of weights, the papers' lambda, 0.001 to 0.01.
      unobserved_weight: weight of a missing cell, the papers' alpha_0; published values 0.007 to 0.3.
      alpha: weight of a unit of strength (a count, an hour; 1 for plain feedback) on top of that.
      reg_exponent: nu; 1 makes the strength proportional to the number of entries plus the weight of all cells of the
        row, 0 the same for all.
      target: what observed cells are to be. "shrunk": S (1 - y)^2 + p q y^2, the second pulling all cells to 0
        (iALS); "one": W (1 - y)^2 on them (Hu et al. 2008).
      mode: how a row's equations are solved: "cg" by `cg_steps` of conjugate gradients from the factors of the sweep
        before, "cholesky" exactly, "block" by one pass over blocks of `block_size` factors (iALS++), for large ranks.
      sweeps: how many times users and items are solved for.
      tolerance: stop early once a sweep lowers the loss by less than this share; 0 never does.
      init_std: of the random start, times sqrt(K).
      cg_steps: preconditioned by the exact solution for weights p q'; 2 come further than 3 of the plain ones do.
      block_size: of "block"; as large as the rank it is "cholesky".
      solver: "host" takes BLAS and LAPACK on the CPU, for "cg" and "cholesky"; "jax" the JAX kernels on the default
        device; "auto" the former where it can and the default device is a CPU.
    """

    name: ClassVar[str] = "ials"

    rank: int = 64
    reg: float = 0.01
    unobserved_weight: float = 0.1
    alpha: float = 1.0
    reg_exponent: float = 1.0
    target: Literal["shrunk", "one"] = "shrunk"
    mode: Literal["cg", "cholesky", "block"] = "cg"
    sweeps: int = 16
    tolerance: float = 0.0
    init_std: float = 0.1
    cg_steps: int = 2
    block_size: int = 128

    def __post_init__(self):
        super().__post_init__()
        for name in ("rank", "sweeps", "cg_steps", "block_size"):
            _checks.count(name, getattr(self, name), at_least=1)
        for name in ("unobserved_weight", "alpha", "init_std"):
            _checks.positive(name, getattr(self, name))
        for name in ("reg", "reg_exponent", "tolerance"):
            _checks.nonnegative(name, getattr(self, name))
        _checks.one_of("target", self.target, ("shrunk", "one"))
        _checks.one_of("mode", self.mode, MODES)
        if self.solver == "host" and self.mode == "block":
            raise InputError("solver='host' is for mode='cg' or 'cholesky', got mode='block'; leave out the solver.")

    @property
    def on_host(self) -> bool:
        """Whether a fit without devices takes the path of the CPU, which "block" has not."""
        return super().on_host and self.mode != "block"

    def cell_weights(self, train: Interactions) -> Weights:
        """W of a fit that is given none: unobserved_weight + alpha x_ui."""
        return Weights.constant(train, self.alpha, unobserved_weight=self.unobserved_weight)

    def problem(self, train: Interactions, cell_weights: Weights | None = None) -> tuple[IalsProblem, FoldIn]:
        """The regressions of all users and items, and the rule that makes the regressions of others.

        Raises:
          InputError: the weights do not belong to `train`, or nothing can be learned with them.
        """
        weights = self.cell_weights(train) if cell_weights is None else cell_weights
        weights.require(train)
        rule = weights.rule and jax.tree.map(np.float32, weights.rule)
        scalars = (self.reg, self.reg_exponent, float(self.target == "one"), float(np.sum(weights.col)))
        fold = FoldIn(*map(np.float32, scalars), rule=rule)
        exact = dataclasses.replace(fold, reg=self.reg, reg_exponent=self.reg_exponent)
        problem = sweeps.problem(train, weights, exact)
        if not problem.constant > 0 or problem.users.targets.min() < 0:
            raise InputError(
                "target='shrunk' asks for weights of observed cells above those of missing ones (its target is "
                "s / (p q + s)), which these are not; use target='one'."
            )
        return problem, fold

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
        the loss in the item factors over the norm of the right-hand sides of their equations, in float64 through the
        sparse data. It certifies that the equations that were solved last are solved: to below 1e-3 by "cholesky", and
        by the few steps of "cg" and "block" to below 0.1, with a zero start being 1 (their residual sinks further only
        as the sweeps converge: 0.002 to 0.02 after 16). Of up to 64 items it takes the exact factors, given the user
        factors, in float64: the estimated error of the item factors is how far that changes the predictions of all
        items, relative to these, and is below a hundredth, for "cg" and "block" a fifth; of no item three times that.

        It does not say how near a stationary point is, which may be far: for that see, among its details, how far the
        last sweep changed the predictions; the gradient in the users, whose equations hold no more once the items have
        moved; and the loss after every sweep. "loss" is in float64; the last "loss after sweep" is what the kernels
        made of it.

        Args:
          train: U x I interactions X; with the default weights their values are strengths. The targets are 1.
          devices: what to split both tables of factors over by rows (see `jaxrec.runtime.parallel.make_mesh`).
          cell_weights: W in place of unobserved_weight + alpha x_ui, made from `train`.
          key: random key of the start; default `jax.random.key(0)`.
          callback: called after each sweep with its number (from 1), its `IalsInfo` and the state; stops the fit
            where it returns something true.
          checkpoint: a file that is replaced after each sweep, from which a fit that was killed goes on, with the very
            result it would have had. It may have fewer `sweeps`. Delete it afterwards.

        Returns:
          Fitted(model: UserItemFactors, info: FitInfo).

        Raises:
          InputError: there is nothing to learn from, or an argument does not suit the data.
          FitError: it does not fit in memory, or an equation has no finite solution; says what to change.

        Cost: see `plan`.
        """
        return self._fit(train, devices, cell_weights=cell_weights, key=key, callback=callback, checkpoint=checkpoint)

    def _refuse(self, train: Interactions) -> None:
        super()._refuse(train)
        if self.reg == 0 and self.rank > min(train.shape):
            raise InputError(
                f"without reg the rank must be at most the number of users and of items, here {min(train.shape):,}, "
                f"got {self.rank}; raise reg, or lower the rank."
            )
        if self.reg == 0 and not (train.user_counts.all() and train.item_counts.all()):
            raise InputError(
                f"reg = 0 leaves users and items without interactions undetermined, and {train.name} has "
                f"{np.sum(train.user_counts == 0)} such users and {np.sum(train.item_counts == 0)} such items; raise "
                "reg, or drop them."
            )

    def _settings(self, mesh: Any) -> SolverSettings:
        return SolverSettings(self.mode, self.cg_steps, self.block_size, mesh)

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
    ) -> tuple[UserItemFactors, Certificate]:
        with clock.stage("prepare"):
            problem, fold = self.problem(train, cell_weights)
            settings = self._settings(mesh)
            sides = sweeps.sides(problem, self.rank, settings)
            key = jax.random.key(0) if key is None else key
        with clock.stage("sweeps"):
            made = alternate(
                "iALS",
                lambda state: sweeps.step(state, sides, problem.constant, settings),
                sweeps.init(key, *train.shape, self.rank, self.init_std),
                IalsInfo,
                sweeps=self.sweeps,
                tolerance=self.tolerance,
                place=lambda state: sweeps.place(state, sides, settings),
                fetch=lambda state: sweeps.fetch(state, sides, settings),
                callback=callback,
                checkpoint=checkpoint,
                belongs_to=None if checkpoint is None else identity(self, train.fingerprint, problem.users[2:], key),
            )
        del sides
        with clock.stage("certificate"):
            state = made.state
            certificate = certify(problem, made, self.mode)
            # Factors that shrink to nothing have no right-hand sides to measure a gradient by.
            learned = certificate.detail["loss"] < (1 - SMALLEST_GAIN) * problem.constant
            if not learned and (largest := sweeps.singular_value_at_zero(problem)) <= 1:
                state = IalsState(*map(np.zeros_like, state))
                certificate = nothing_to_learn(self, certificate.limit, problem.constant, largest)
        put = np.asarray if mesh is None or mesh.size > 1 else jnp.asarray
        users, items = map(put, state)
        model = UserItemFactors(
            user_factors=users,
            item_factors=items,
            user_gram=put(ridge.gram(users, problem.users.scale)),
            item_gram=put(ridge.gram(items, problem.users.col)),
            user_weights=put(np.float32(problem.users.scale)),
            fold=fold,
        )
        return model, certificate

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        rank, copies, on_cpu = self.rank, on.on_host, on.platform == "cpu"
        numbers = rank * (n_users + n_items)
        parts = {
            "factors, at the start, old and new": 12 * numbers * copies // on.count,
            "factors of the other side, gathered": 4 * rank * max(n_users, n_items) * copies * (on.count > 1),
        }
        if on_cpu:  # on an accelerator these are in the memory of the host
            parts |= {
                "gradients in the factors, in float64": 8 * rank * (n_users + 3 * n_items),
                "interactions by user and by item": 72 * nnz,
            }
        if host:
            parts |= {
                "interactions padded": 25 * nnz,
                "a chunk of rows a thread": ridge.HOST_BYTES[self.mode] * n_threads(),
            }
        else:
            square = 1 if self.mode == "cg" else 2  # of K x K numbers a row, or none
            batch = 4 * ridge.batch_numbers(on.platform)
            parts |= {
                "interactions padded": 36 * nnz * copies // on.count,
                "batches of rows, in flight": ridge.IN_FLIGHT * (batch * square + 8 * rank**2) * copies,
            }
            parts |= {"compiled programs": COMPILED_BYTES} if on_cpu else {}
        size = min(self.block_size, rank)
        per_sweep = {
            "cholesky": 2.0 * nnz * rank**2 + (n_users + n_items) * rank**3 / 3,
            "cg": (self.cg_steps + 1) * (8.0 * nnz * rank + 2.0 * (n_users + n_items) * rank**2),
            "block": 8.0 * nnz * rank + 4.0 * nnz * rank * size + (n_users + n_items) * rank * (2 * rank + size**2),
        }
        advice = "use a lower rank, or split it over more devices with devices="
        return Needs(parts, self.sweeps * per_sweep[self.mode], advice)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        if certificate.status is Status.NOT_FINITE:
            return (
                f"{certificate}; scale the values down, of which the largest is {train.values.max():.3g}, or raise reg."
            )
        if certificate.status is Status.ILL_CONDITIONED and self.mode == "cholesky":
            return f"{certificate}; raise reg: float32 cannot resolve these equations."
        also = "" if self.mode == "cholesky" else ", or use mode='cholesky'"
        return f"{certificate}; raise sweeps{also}."


def certify(problem: IalsProblem, made: Alternation, mode: str) -> Certificate:
    """The evidence on factors, as told in `Ials.fit`.

    Cost: 12 nnz K + 12 (U + I) K^2 flops in float64 on the host, and 64 items solved for.
    """
    state, before, course = made
    with np.errstate(all="ignore"):  # what overflows is not certified
        loss, in_users, in_items = sweeps.loss_and_gradients(problem, *state)
        of_users, of_items = sweeps.right_sides(problem, *state)
        users, items = (
            float(np.linalg.norm(slope)) / max(right, np.finfo(float).tiny)
            for slope, right in ((in_users, of_users), (in_items, of_items))
        )
    detail = {"loss": loss, "gradient in the users": users}
    if len(course):
        detail["residual of the equations"] = float(course[-1, 2])
    status, limit = Status.NOT_FINITE, LIMITS[mode]
    if np.isfinite([loss, users, items]).all():
        errors = ridge.row_errors(problem.items, state.item_factors, state.user_factors, in_items)
        detail |= {
            "estimated error of the item factors": errors.whole,
            "estimated error of the worst item": errors.worst,
        }
        detail |= movement(before, state)
        status = last_checks(items, limit, *errors, ERROR_LIMITS[mode])
    detail |= {f"loss after sweep {number}": float(row[0]) for number, row in enumerate(course, 1)}
    return Certificate(status, items, limit, detail)
