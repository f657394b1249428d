"""ELSA: the scalable linear shallow autoencoder, trained by gradient steps (Vancura et al., RecSys 2022)."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec.data.batching import RowBatch, padded_rows, row_batches, width_for
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import Method, Stopwatch
from jaxrec.models import ItemFactors
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.solvers.columns import HIGHEST
from jaxrec.solvers.descent import require_optax
from jaxrec.solvers.epochs import IN_FLIGHT, EpochSteps, Shuffled, run_epochs, training_certificate
from jaxrec.status import Certificate

# In the details of a certificate.
LOSS_BEFORE, LOSS_AFTER = "loss at the start", "loss at the end"
CHANGE = "change of the weights by the last epoch"


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


def weight_change(before: Float[ArrayLike, "I K"], after: Float[ArrayLike, "I K"]) -> float:
    """||B - B0||_F / ||B||_F with B = E E' - I and B0 = E0 E0' - I, in float64 on the host.

    Args:
      before: [I, K] E0, with rows of length 1.
      after: [I, K] E, likewise.

    Cost: 6 I K^2 flops.
    """
    old, new = (np.asarray(part, np.float64) for part in (before, after))
    now, then, both = (float(np.sum((a.T @ b) ** 2)) for a, b in ((new, new), (old, old), (old, new)))
    # E E' has ones on its diagonal, but for rounding and for rows that are 0.
    size = now - float(np.sum(np.sum(new**2, axis=1) ** 2))
    return float(np.sqrt(max(now + then - 2 * both, 0.0) / max(size, np.finfo(float).tiny)))


def _unit_rows(rows: Any) -> Any:
    # The square is bounded below before the root, whose derivative at 0 is infinite.
    return rows * jax.lax.rsqrt(jnp.maximum(jnp.sum(rows**2, axis=1, keepdims=True), 1e-12))


def _batch_loss(factors: Any, batch: RowBatch) -> Any:
    return objective(batch.dense(factors.shape[0]), factors)


_normalised = jax.jit(_unit_rows)


@partial(jax.jit, static_argnames="mesh")
def _loss_and_slope(factors, batch, mesh):
    return parallel.replicate(jax.value_and_grad(_batch_loss)(factors, batch), mesh)


@partial(jax.jit, static_argnames=("optimizer", "mesh"), donate_argnums=(0, 1))
def _step(factors, state, batch, optimizer, mesh):
    loss, slope = jax.value_and_grad(_batch_loss)(factors, batch)
    updates, state = optimizer.update(slope / jnp.sum(batch.rows >= 0), state, factors)
    return parallel.replicate((factors + updates, state, loss), mesh)


def _on(mesh: Any, batch: RowBatch) -> RowBatch:
    """The batch, its users split over the mesh."""
    if mesh is None:
        return batch
    arrays = [np.asarray(part) for part in (batch.rows, batch.items, batch.values)]
    return RowBatch(*parallel.place_rows(arrays, mesh, fill=(-1, 0, 0)))


@dataclasses.dataclass(frozen=True)
class Elsa(Method):
    """ELSA: B = E E' - I with unit rows E, by NAdam on the cosine between a history and its reconstruction.

    The loss is not convex: the result is what so many epochs lead to, no certified optimum; it depends on `init_seed`.
    The certificate reports the gradient's norm on all users at the end over its norm at the random start, the mean
    loss of each epoch, and how far the last epoch changed the weights B; it asks only that all of them are finite and
    the loss fell. Fitting needs optax. Devices share the users of a batch; each holds all factors.

    The model is ItemFactors with E as encoder and decoder. It scores x E E'; the paper's x (E E' - I) differs only in
    the scores of the items of the history, which a recommendation leaves out.

    Cost: 12 U I K flops an epoch, in dense blocks of `batch_size` users.

    Attributes:
      rank: K, the length of an item's factors; the paper takes 256 to 2048.
      epochs: passes over the users.
      learning_rate: NAdam's; the paper's 0.1.
      batch_size: users in a step.
      init_seed: of the random start and the order of users.
    """

    name: ClassVar[str] = "elsa"

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

    def _refuse(self, train: Interactions) -> None:
        require_optax("Elsa")
        super()._refuse(train)

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[ItemFactors, Certificate]:
        data = train.rows(np.flatnonzero(train.user_counts))
        counts, size = data.user_counts, min(self.batch_size, data.n_users)
        start_key, order_key = jax.random.split(jax.random.key(self.init_seed))
        bound = math.sqrt(6 / (data.n_items + self.rank))
        factors = jax.random.uniform(start_key, (data.n_items, self.rank), jnp.float32, -bound, bound)
        optimizer = require_optax("Elsa").nadam(self.learning_rate)

        def step(state: Any, users: np.ndarray, _: int) -> tuple[Any, Any]:
            batch = _on(mesh, padded_rows(data, users, size, width_for(counts[users])))
            *state, loss = _step(*state, batch, optimizer, mesh)
            return state, loss

        def mean_loss(_: Any, steps: EpochSteps, __: list[float]) -> float:
            return float(np.sum(steps.figures)) / data.n_users

        before = [parallel.to_host(factors)]  # the last epoch, in the end

        def keep(state: Any, course: list[float]) -> None:
            if len(course) == self.epochs - 1:
                before[0] = parallel.to_host(state[0])

        with clock.stage("train"):
            first_loss, first_slope = self._measure(data, factors, mesh)
            users, start = Shuffled(data.n_users, size, order_key), (factors, optimizer.init(factors))
            (factors, _), losses = run_epochs(
                "ELSA", step, start, users, mean_loss, epochs=self.epochs, after_epoch=keep
            )
            last_loss, last_slope = self._measure(data, factors, mesh)
        finite = all(map(math.isfinite, (*losses, last_loss, last_slope)))
        fell = last_loss < first_loss or first_slope == 0
        e = jnp.asarray(parallel.to_host(_normalised(factors)))
        change = weight_change(_normalised(before[0]), e)
        detail = {LOSS_BEFORE: first_loss, LOSS_AFTER: last_loss, CHANGE: change}
        detail |= {f"loss in epoch {epoch}": loss for epoch, loss in enumerate(losses, 1)}
        return ItemFactors(e, e), training_certificate(fell, finite, first_slope, last_slope, detail)

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        batch = min(self.batch_size, n_users)
        begun = 1 + IN_FLIGHT
        parts = {
            "factors and NAdam's two moments": 12 * n_items * self.rank * on.on_host,
            "gradient and update, of steps in flight": 8 * begun * n_items * self.rank * on.on_host,
            "dense blocks of users, of steps in flight": on.share(14 * begun * batch * n_items),
            "sparse data, and batches of it in flight": 100 * nnz,
        } | on.working(2)
        flops = 12.0 * n_users * n_items * self.rank * (self.epochs + 2)
        return Needs(parts, flops, "use a lower rank or a smaller batch_size")

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        before, after = (certificate.detail[name] for name in (LOSS_BEFORE, LOSS_AFTER))
        return f"the loss went from {before:.4g} to {after:.4g}; lower learning_rate."

    def _measure(self, train: Interactions, factors: Array, mesh: Any) -> tuple[float, float]:
        """(mean loss, norm of its gradient with respect to factors of length 1) over all users."""
        loss, slope = 0.0, jnp.zeros_like(factors)
        unit = _normalised(factors)
        for batch in row_batches(train, min(self.batch_size, train.n_users), by_length=True):
            part, part_slope = _loss_and_slope(unit, _on(mesh, batch), mesh)
            loss, slope = loss + float(part), slope + part_slope
        return loss / train.n_users, float(jnp.linalg.norm(slope)) / train.n_users
