"""Weighted matrix factorization by alternating least squares: iALS, iALS++ and the WMF of Hu, Koren and Volinsky.

    min over P [U, K], V [I, K] of   sum over ALL u, i of W_ui (T_ui - p_u'v_i)^2
                                     + reg [ sum_u (n_u + p_u sum(q))^nu |p_u|^2 + sum_i (m_i + q_i sum(p))^nu |v_i|^2 ]

or, with regularizer="product", + reg ||P V'||^2,

with W = p q' + S (`jaxrec.Weights`). Given V the users are independent weighted ridge regressions, and the other way
round; the sum over the missing cells is one Gram matrix (Hu, Koren & Volinsky, ICDM 2008). Regularization in
proportion to the weight of a row, nu = 1, and enough factors are what made it competitive again (Rendle, Krichene,
Zhang & Koren, "Revisiting the Performance of iALS", RecSys 2022, and "iALS++", 2021). The problem is not convex.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data import Interactions
from jaxrec.factorization import ridge
from jaxrec.factorization.alternation import alternate, identity
from jaxrec.factorization.ials import sweeps
from jaxrec.factorization.ials.model import UserItemFactors
from jaxrec.factorization.ials.sweeps import How, Info, Problem, State
from jaxrec.factorization.ridge import FoldIn
from jaxrec.factorization.weights import Weights
from jaxrec.models import FitInfo, Fitted
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Plan, available_bytes, hardware, rough_seconds
from jaxrec.runtime.threads import n_threads
from jaxrec.solvers.columns import HIGHEST
from jaxrec.status import Certificate, FitError, Status

MODES = ("cg", "cholesky", "block")
# Of the relative gradient in the item factors, whose equations were solved last: exactly, or for a few steps.
LIMITS = {"cholesky": 1e-3, "cg": 0.1, "block": 0.1}
PROGRAMS = 420_000_000  # bytes that XLA takes on a CPU to compile a solver for some ten widths
Callback = Callable[[int, Info, State], Any]


def objective(
    x: Float[ArrayLike, "U I"],
    base: Float[ArrayLike, "U I"],
    entries: Float[ArrayLike, "U I"],
    user_factors: Float[ArrayLike, "U K"],
    item_factors: Float[ArrayLike, "I K"],
    user_reg: Float[ArrayLike, " U"],
    item_reg: Float[ArrayLike, " I"],
    target: str = "shrunk",
    product_reg: float = 0.0,
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
      product_reg: strength of ||P V'||^2, for which user_reg and item_reg are 0.
    """
    x, base, entries, p, v = map(jnp.asarray, (x, base, entries, user_factors, item_factors))
    predicted = jnp.matmul(p, v.T, precision=HIGHEST)
    if target == "one":
        loss = jnp.sum((base + entries) * (x - predicted) ** 2)
    else:
        loss = jnp.sum(entries * (x - predicted) ** 2) + jnp.sum(base * predicted**2)
    loss += product_reg * jnp.sum(predicted**2)
    return loss + jnp.sum(user_reg * jnp.sum(p**2, axis=1)) + jnp.sum(item_reg * jnp.sum(v**2, axis=1))


@dataclasses.dataclass(frozen=True)
class Ials:
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
      reg_exponent: nu, of "l2"; 1 makes the strength proportional to the number of entries plus the weight of all
        cells of the row, 0 the same for all.
      regularizer: "l2", as above, which lowers singular values by a constant and so the rank; or "product", reg times
        the sum of all squared predictions, which is the same as weights W + reg with targets W x / (W + reg). With
        constant weights that is one knob less than there seem to be: (alpha, reg) rank items as
        (alpha / (1 + reg / unobserved_weight), 0) do.
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

    rank: int = 64
    reg: float = 0.01
    unobserved_weight: float = 0.1
    alpha: float = 1.0
    reg_exponent: float = 1.0
    regularizer: Literal["l2", "product"] = "l2"
    target: Literal["shrunk", "one"] = "shrunk"
    mode: Literal["cg", "cholesky", "block"] = "cg"
    sweeps: int = 16
    tolerance: float = 0.0
    init_std: float = 0.1
    cg_steps: int = 2
    block_size: int = 128
    solver: Literal["auto", "host", "jax"] = "auto"

    def __post_init__(self):
        _checks.plain_numbers(self)
        for name in ("rank", "sweeps", "cg_steps", "block_size"):
            _checks.count(name, getattr(self, name), at_least=1)
        for name in ("unobserved_weight", "alpha", "init_std"):
            _checks.positive(name, getattr(self, name))
        for name in ("reg", "reg_exponent", "tolerance"):
            _checks.nonnegative(name, getattr(self, name))
        _checks.one_of("regularizer", self.regularizer, ("l2", "product"))
        _checks.one_of("target", self.target, ("shrunk", "one"))
        _checks.one_of("mode", self.mode, MODES)
        _checks.one_of("solver", self.solver, ("auto", "host", "jax"))
        if self.solver == "host" and self.mode == "block":
            raise InputError("solver='host' is for mode='cg' or 'cholesky', got mode='block'; leave out the solver.")

    def weights(self, train: Interactions) -> Weights:
        """W of a fit that is given none: unobserved_weight + alpha x_ui."""
        return Weights.constant(train, self.alpha, unobserved_weight=self.unobserved_weight)

    def problem(self, train: Interactions, weights: Weights | None = None) -> tuple[Problem, FoldIn]:
        """The regressions of all users and items, and the rule that makes those of others.

        Raises:
          InputError: the weights do not belong to `train`, or nothing can be learned with them.
        """
        weights = self.weights(train) if weights is None else weights
        weights.require(train)
        if self.reg == 0 and self.rank > min(train.shape):
            raise InputError(
                f"without reg the rank must be at most the number of users and of items, here {min(train.shape):,}, "
                f"got {self.rank}; raise reg, or lower the rank."
            )
        if self.reg == 0 and (not train.user_counts.all() or not train.item_counts.all()):
            raise InputError(
                f"reg = 0 leaves users and items without interactions undetermined, and {train.name} has "
                f"{np.sum(train.user_counts == 0)} such users and {np.sum(train.item_counts == 0)} such items; raise "
                "reg, or drop them."
            )
        rule = weights.rule and jax.tree.map(np.float32, weights.rule)
        product = self.regularizer == "product"
        exponent = 0.0 if product else self.reg_exponent
        scalars = (self.reg, exponent, float(self.target == "one"), float(np.sum(weights.col)))
        fold = FoldIn(*map(np.float32, scalars), rule=rule, product=np.float32(product))
        exact = dataclasses.replace(fold, reg=self.reg, reg_exponent=exponent)
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
        weights: Weights | None = None,
        key: PRNGKeyArray | None = None,
        callback: Callback | None = None,
        checkpoint: str | os.PathLike | None = None,
    ) -> Fitted:
        """The fitted factors with their certificate.

        The loss is not convex, so the certificate cannot say that the factors are the optimum. It holds the gradient of
        the loss in the item factors over the norm of the right-hand sides of their equations, in float64 through the
        sparse data. It certifies that the equations that were solved last are solved: to below 1e-3 by "cholesky", and
        by the few steps of "cg" and "block" to below 0.1, with a zero start being 1 (their residual sinks further only
        as the sweeps converge: 0.002 to 0.02 after 16). It does not say how near a stationary point is; for that see,
        among its details, the same for the users, whose equations hold no more once the items have moved, and the loss
        after every sweep. "loss" is in float64; the last "loss after sweep" is what the kernels made of it.

        Args:
          train: U x I interactions X; with the default weights their values are strengths. The targets are 1.
          devices: what to split both tables of factors over by rows (see `jaxrec.runtime.parallel.make_mesh`).
          weights: W in place of unobserved_weight + alpha x_ui, made from `train`.
          key: random key of the start; default `jax.random.key(0)`.
          callback: called after each sweep with its number (from 1), its `Info` and the state; stops the fit where it
            returns something true.
          checkpoint: a file that is replaced after each sweep, from which a fit that was killed goes on, with the very
            result it would have had. It may have fewer `sweeps`. Delete it afterwards.

        Returns:
          Fitted(model: UserItemFactors, info: FitInfo).

        Raises:
          InputError: there is nothing to learn from, or an argument does not suit the data.
          FitError: it does not fit in memory, or an equation has no finite solution; says what to change.

        Cost: see `plan`.
        """
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")
        how = self._how(devices)
        self.plan(train.n_users, train.n_items, train.nnz, how.mesh).require()
        begun = time.perf_counter()
        problem, fold = self.problem(train, weights)
        sides = sweeps.sides(problem, self.rank, how)
        key = jax.random.key(0) if key is None else key
        seconds = {"prepare": time.perf_counter() - begun}

        begun = time.perf_counter()
        state, course = self._run(problem, sides, how, key, callback, checkpoint, train.fingerprint)
        if how.product:  # the ridge of a history is that for orthonormal item factors
            state = State(*ridge.orthonormal_on_host(*state))
        seconds["sweeps"] = time.perf_counter() - begun

        del sides
        begun = time.perf_counter()
        certificate = certify(problem, state, course, LIMITS[self.mode])
        seconds["certificate"] = time.perf_counter() - begun
        if certificate.status is not Status.OK:
            raise FitError(certificate.status, f"{certificate}; raise reg, or use mode='cholesky'.")
        put = np.asarray if how.host or how.mesh is not None else jnp.asarray
        users, items = map(put, state)
        model = UserItemFactors(
            user_factors=users,
            item_factors=items,
            user_gram=put(ridge.gram(users, problem.users.scale)),
            item_gram=put(ridge.gram(items, problem.users.col)),
            user_weights=put(np.float32(problem.users.scale)),
            fold=fold,
        )
        return Fitted(model, FitInfo(self, certificate, train.items, train.summary(), seconds))

    def _how(self, devices: Any) -> How:
        on_cpu = jax.default_backend() == "cpu"
        host = self.mode != "block" and (
            self.solver == "host" or (self.solver == "auto" and on_cpu and devices is None)
        )
        if host and devices is not None:
            raise InputError("solver='host' runs without a mesh; leave out devices, or the solver.")
        mesh = None if devices is None else parallel.make_mesh(devices)
        return How(self.mode, self.cg_steps, self.block_size, host, mesh, self.regularizer == "product")

    def _run(
        self, problem: Problem, sides: Any, how: How, key: Any, callback: Any, checkpoint: Any, data: str
    ) -> tuple[State, np.ndarray]:
        """The factors on the host, and [sweeps, 3] what the sweeps reported."""
        shape = len(problem.users.scale), len(problem.items.scale)
        return alternate(
            "iALS",
            lambda state: sweeps.step(state, sides, problem.constant, how),
            sweeps.init(key, *shape, self.rank, self.init_std),
            Info,
            sweeps=self.sweeps,
            tolerance=self.tolerance,
            place=lambda state: sweeps.place(state, sides, how),
            fetch=lambda state: sweeps.fetch(state, sides, how),
            callback=callback,
            checkpoint=checkpoint,
            belongs_to=None if checkpoint is None else identity(self, data, problem.users[2:], key),
        )

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes, on each device.

        Args:
          n_users: U.
          n_items: I.
          nnz: number of interactions.
          devices: a mesh or its devices, or such as "8xH100"; None is what `fit` takes without a mesh.
        """
        rank = self.rank
        how = self._how(None if isinstance(devices, str) else devices)
        found = hardware(devices if isinstance(devices, str) else how.mesh) if devices is not None else None
        count, copies = (found.count, found.on_host) if found else (1, 1)
        device = jax.devices()[0]
        host = found is None and device.platform == "cpu"
        numbers = rank * (n_users + n_items)
        on_cpu = host or (found is not None and found.platform == "cpu")
        parts = {
            "factors, old and new": 8 * numbers * copies // count,
            "factors of the other side, gathered": 4 * rank * max(n_users, n_items) * copies * (count > 1),
        }
        if on_cpu:  # on an accelerator these are in the memory of the host
            parts |= {
                "factors on the host and their gradients": 12 * numbers,
                "interactions by user and by item": 72 * nnz,
            }
        if how.host:
            parts |= {
                "interactions padded": 25 * nnz,
                "a chunk of rows a thread": ridge.HOST_BYTES[self.mode] * n_threads(),
            }
        else:
            square = 1 if self.mode == "cg" else 2  # of K x K numbers a row, or none
            batch = 4 * ridge.batch_numbers("cpu" if on_cpu else found.platform if found else device.platform)
            parts |= {
                "interactions padded": 36 * nnz * copies // count,
                "batches of rows, in flight": ridge.IN_FLIGHT * (batch * square + 8 * rank**2) * copies,
            }
            parts |= {"compiled programs": PROGRAMS} if on_cpu else {}
        per_sweep = {
            "cholesky": 2.0 * nnz * rank**2 + (n_users + n_items) * rank**3 / 3,
            "cg": (self.cg_steps + 1) * (8.0 * nnz * rank + 2.0 * (n_users + n_items) * rank**2),
        }
        size = min(self.block_size, rank)
        per_sweep["block"] = (
            8.0 * nnz * rank + 4.0 * nnz * rank * size + (n_users + n_items) * rank * (2 * rank + size**2)
        )
        flops = self.sweeps * per_sweep[self.mode]
        seconds = rough_seconds(flops, found or device)
        return Plan(
            method=str(self),
            shape=(n_users, n_items, nnz),
            where="host" if host else found.device_kind if found else device.device_kind,
            parts={part: int(size) for part, size in parts.items()},
            available=found.available if found else available_bytes(None if host else device),
            flops=flops,
            seconds=seconds and seconds / (1 if found is None or found.platform == "cpu" else count),
            advice="use a lower rank, or split it over more devices with devices=",
        )


def certify(problem: Problem, state: State, course: np.ndarray, limit: float) -> Certificate:
    """The evidence on factors, as told in `Ials.fit`.

    Cost: 12 nnz K flops in float64 on the host.
    """
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
    detail |= {f"loss after sweep {number}": float(row[0]) for number, row in enumerate(course, 1)}
    status = Status.OK
    if not np.isfinite([loss, users, items]).all():
        status = Status.NOT_FINITE
    elif items > limit:
        status = Status.RESIDUAL_TOO_LARGE
    return Certificate(status, items, limit, detail)
