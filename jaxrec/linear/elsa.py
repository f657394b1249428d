"""ELSA: the scalable linear shallow autoencoder, trained by gradient steps (Vancura et al., RecSys 2022)."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data import Interactions, RowBatch, row_batches
from jaxrec.models import FitInfo, Fitted, ItemFactors
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Needs, Plan, hardware, plan_on
from jaxrec.runtime.progress import progress_bar
from jaxrec.solvers.columns import HIGHEST
from jaxrec.solvers.descent import require_optax
from jaxrec.status import Certificate, FitError, Status


def objective(x: Float[ArrayLike, "U I"], factors: Float[ArrayLike, "I K"]) -> Float[Array, ""]:
    """The summed squared distance of each row of X and of X B, both scaled to length 1, with B = E E' - I.

    E is `factors` with rows scaled to length 1, so that B has zero diagonal. A user's share is 2 - 2 cos(x, x B).

    Args:
      x: [U, I] interactions; empty rows count nothing.
      factors: [I, K].

    Cost: 4 U I K flops.
    """
    x = jnp.asarray(x)
    e = _unit_rows(jnp.asarray(factors))
    predicted = jnp.matmul(jnp.matmul(x, e, precision=HIGHEST), e.T, precision=HIGHEST) - x
    return jnp.sum((_unit_rows(x) - _unit_rows(predicted)) ** 2)


def _unit_rows(rows: Any) -> Any:
    # The square is bounded below before the root, whose derivative at 0 is infinite.
    return rows * jax.lax.rsqrt(jnp.maximum(jnp.sum(rows**2, axis=1, keepdims=True), 1e-12))


def _batch_loss(factors: Any, batch: RowBatch) -> Any:
    return objective(batch.dense(factors.shape[0]), factors)


_normalised = jax.jit(_unit_rows)


@partial(jax.jit, static_argnames="mesh")
def _loss_and_slope(factors, batch, mesh):
    return parallel.replicate(jax.value_and_grad(_batch_loss)(factors, batch), mesh)


@partial(jax.jit, static_argnames=("optimiser", "mesh"), donate_argnums=(0, 1))
def _step(factors, state, batch, optimiser, mesh):
    loss, slope = jax.value_and_grad(_batch_loss)(factors, batch)
    updates, state = optimiser.update(slope / jnp.sum(batch.rows >= 0), state, factors)
    return parallel.replicate((factors + updates, state, loss), mesh)


def _on(mesh: Any, batch: RowBatch) -> RowBatch:
    """The batch, its users split over the mesh."""
    if mesh is None:
        return batch
    arrays = [np.asarray(part) for part in (batch.rows, batch.items, batch.values)]
    return RowBatch(*parallel.place_rows(arrays, mesh, fill=(-1, 0, 0)))


@dataclasses.dataclass(frozen=True)
class Elsa:
    """ELSA: B = E E' - I with unit rows E, by NAdam on the cosine between a history and its reconstruction.

    The loss is not convex: the result is where so many epochs lead, not a certified optimum; it depends on `init_seed`.

    Attributes:
      rank: K, the length of an item's factors; the paper takes 256 to 2048.
      epochs: passes over the users.
      learning_rate: NAdam's; the paper's 0.1.
      batch_size: users in a step.
      init_seed: of the random start and the order of users.
    """

    rank: int = 128
    epochs: int = 20
    learning_rate: float = 0.1
    batch_size: int = 128
    init_seed: int = 0

    def __post_init__(self):
        _checks.plain_numbers(self)
        for name in ("rank", "epochs", "batch_size"):
            _checks.count(name, getattr(self, name), at_least=1)
        _checks.count("init_seed", self.init_seed)
        _checks.positive("learning_rate", self.learning_rate)

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted factors; E stands for both encoder and decoder.

        The model scores x E E'; the paper's x (E E' - I) differs only in the scores of the items of the history, which
        a recommendation leaves out. The certificate reports the gradient's norm on all users at the end over that at
        the random start, and the mean loss of each epoch; it asks only that both losses are finite and the loss fell.

        Args:
          train: U x I interactions X.
          devices: what to split the users of a batch over, as in `Ease.fit`; each holds all factors. None is the
            default device.

        Returns:
          Fitted(model: ItemFactors, info: FitInfo).

        Raises:
          InputError: there is nothing to learn from, or optax is not installed.
          FitError: it does not fit in memory, or the loss did not fall.

        Cost: 12 U I K flops an epoch, in dense blocks of `batch_size` users.
        """
        optax = require_optax("Elsa")
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")
        mesh = None if devices is None else parallel.make_mesh(devices)
        self.plan(train.n_users, train.n_items, train.nnz, mesh).require()
        users = np.flatnonzero(train.user_counts)
        train_rows = train.rows(users)
        start_key, order_key = jax.random.split(jax.random.key(self.init_seed))
        bound = math.sqrt(6 / (train.n_items + self.rank))
        factors = jax.random.uniform(start_key, (train.n_items, self.rank), jnp.float32, -bound, bound)

        begun = time.perf_counter()
        first_loss, first_slope = self._measure(train_rows, factors, mesh)
        optimiser = optax.nadam(self.learning_rate)
        state, losses = optimiser.init(factors), []
        with progress_bar("ELSA", self.epochs * len(users)) as advance:
            for epoch in range(self.epochs):
                order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), len(users)))
                total = []
                for batch in row_batches(train_rows.rows(order), min(self.batch_size, len(users))):
                    factors, state, loss = _step(factors, state, _on(mesh, batch), optimiser, mesh)
                    total.append(loss)
                    advance(batch.rows.shape[0])
                losses.append(float(np.sum(jax.device_get(total))) / len(users))
        last_loss, last_slope = self._measure(train_rows, factors, mesh)
        seconds = {"train": time.perf_counter() - begun}

        finite = all(map(math.isfinite, (*losses, last_loss, last_slope)))
        fell = finite and (last_loss < first_loss or first_slope == 0)
        status = Status.OK if fell else Status.RESIDUAL_TOO_LARGE if finite else Status.NOT_FINITE
        detail = {"loss at the start": first_loss, "loss at the end": last_loss}
        detail |= {f"loss in epoch {epoch}": loss for epoch, loss in enumerate(losses, 1)}
        residual = last_slope / first_slope if first_slope > 0 else last_slope
        certificate = Certificate(status, residual, math.inf, detail)
        if status is not Status.OK:
            raise FitError(status, f"the loss went from {first_loss:.4g} to {last_loss:.4g}; lower learning_rate.")
        e = jnp.asarray(parallel.to_host(_normalised(factors)))
        return Fitted(ItemFactors(e, e), FitInfo(self, certificate, train.items, train.summary(), seconds))

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes; on each device of a mesh, or of such as "8xH100"."""
        found = hardware(devices)
        batch = min(self.batch_size, n_users)
        parts = {
            "factors, gradient and NAdam's two moments": 24 * n_items * self.rank * found.on_host,
            "dense blocks of users": found.share(24 * batch * n_items),
            "sparse data, twice": 16 * nnz,
        }
        flops = 12.0 * n_users * n_items * self.rank * (self.epochs + 2)
        advice = "use a lower rank or a smaller batch_size"
        return plan_on(found, self, (n_users, n_items, nnz), Needs(parts, flops, advice))

    def _measure(self, train: Interactions, factors: Array, mesh: Any) -> tuple[float, float]:
        """(mean loss, norm of its gradient with respect to factors of length 1) over all users."""
        loss, slope = 0.0, jnp.zeros_like(factors)
        unit = _normalised(factors)
        for batch in row_batches(train, min(self.batch_size, train.n_users), by_length=True):
            part, part_slope = _loss_and_slope(unit, _on(mesh, batch), mesh)
            loss, slope = loss + float(part), slope + part_slope
        return loss / train.n_users, float(jnp.linalg.norm(slope)) / train.n_users
