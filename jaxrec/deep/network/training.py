"""One training: its task, its epochs with validation and checkpoints, and what is known at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrec.data.batching import PackedBatch, packed_length, packed_rows
from jaxrec.data.interactions import Interactions
from jaxrec.deep.network.model import Network
from jaxrec.deep.network.step import GROUPS, Losses, StepConfig, StepNumbers, TrainingState, init, remember, step
from jaxrec.evaluation.held_out import Paired
from jaxrec.evaluation.metrics import parse
from jaxrec.evaluation.report import evaluate_paired
from jaxrec.runtime import checkpoint as kept
from jaxrec.runtime import parallel
from jaxrec.runtime.files import storable
from jaxrec.solvers.epochs import EpochSteps, Shuffled, out_of_patience, run_epochs, training_certificate
from jaxrec.status import Certificate

METRIC = "ndcg@100"
WRITE_SHARE = 0.1  # of the time that may go into checkpoints
Callback = Callable[[int, "Epoch"], Any]


class Pass(NamedTuple):
    """One pass over the users.

    Attributes:
      groups: which of `step.GROUPS` are trained in it.
      noisy: whether items of the histories are dropped.
      remember: whether the composite prior is renewed after it.
    """

    groups: tuple[str, ...] = GROUPS
    noisy: bool = True
    remember: bool = False


class Task(NamedTuple):
    """A training to be run.

    Attributes:
      config: what a step does.
      numbers: the real numbers of a step.
      passes: the passes over the users of which an epoch consists.
      epochs: how many there are at most.
      batch_size: users in a step.
      patience: epochs without a better validation metric after which to stop; 0 never does.
    """

    config: StepConfig
    numbers: StepNumbers
    passes: tuple[Pass, ...]
    epochs: int
    batch_size: int
    patience: int


class Epoch(NamedTuple):
    """What an epoch reports.

    Attributes:
      loss: mean over users and steps of what is minimised.
      reconstruction: the part of the loss that compares outputs and histories.
      kl: the divergence from the prior, before its weight.
      gradient: mean norm of the gradient of a step.
      validation: ndcg@100 on the validation users; NaN without them.
      users_per_second: of the training alone.
      first: reconstruction loss of the first step.
      first_gradient: norm of the gradient in the first step.
    """

    loss: float
    reconstruction: float
    kl: float
    gradient: float
    validation: float
    users_per_second: float
    first: float
    first_gradient: float

    def __str__(self) -> str:
        held_out = "" if math.isnan(self.validation) else f", {METRIC} {self.validation:.4f}"
        return f"loss {self.loss:.4g}{held_out}, {self.users_per_second:,.0f} users/s"


class Run:
    """One training of a task on a data set: towards the items of its users, or towards other targets of them.

    Args:
      task: what is trained, and how.
      train: U x I interactions X; users without any are left out, if there is no `target`.
      mesh: what `parallel.make_mesh` returned; None is the host.
      validation: users whose ndcg@100 is measured after every epoch; or None.
      key: random key of the start, the order of users and the noise.
      checkpoint: a file, or None.
      belongs_to: what must be the same when the training is taken up again, from `checkpoint.identity`.
      target: U x J interactions with which the outputs are compared; None is X.
    """

    def __init__(
        self,
        task: Task,
        train: Interactions,
        mesh: Any,
        validation: Paired | None,
        key: PRNGKeyArray,
        checkpoint: Any,
        belongs_to: dict[str, Any],
        target: Interactions | None = None,
    ):
        self.task, self.mesh, self.validation, self.target = task, mesh, validation, target
        self.data = train.rows(np.flatnonzero(train.user_counts)) if target is None else train
        batch_size = min(task.batch_size, self.data.n_users)
        self.parts = 1 if mesh is None else mesh.size
        self.own = -(-batch_size // self.parts)  # users of a part
        self.length = packed_length(self.data.user_counts, self.own)
        self.target_length = 0 if target is None else packed_length(target.user_counts, self.own)
        self.start_key, order_key, self.noise_key = jax.random.split(key, 3)
        self.users = Shuffled(self.data.n_users, batch_size, order_key)
        self.checkpoint, self.belongs_to, self.next_write = checkpoint, belongs_to, -math.inf
        self.best: dict[str, Any] = {}
        steps = task.epochs * len(task.passes) * -(-self.data.n_users // batch_size)
        self.numbers = _as_arrays(task.numbers._replace(total_steps=steps))
        self.numbers_without_dropout = _as_arrays(task.numbers._replace(total_steps=steps, dropout=0.0))

    def __call__(self, label: str, callback: Callback | None) -> tuple[dict[str, Any], list[Epoch], float]:
        """The parameters on the default device, of the best epoch if there is a validation, and all epochs.

        The last number is the reconstruction loss that the first step would have at the end.
        """

        def after_epoch(state: TrainingState, course: list[Epoch]) -> Any:
            self._write_if_due(state, course)
            return not math.isfinite(course[-1].loss) or (callback is not None and callback(len(course), course[-1]))

        task = self.task
        start, self.best, course = self._start()
        state, course = run_epochs(
            label,
            self._step,
            start,
            self.users,
            self._report,
            epochs=task.epochs,
            passes=len(task.passes),
            course=course,
            after_pass=lambda state, number: remember(state) if task.passes[number].remember else state,
            is_done=self._is_done,
            after_epoch=after_epoch,
        )
        return self.best or _fetched(state.parameters), course, self._first_step_again(state)

    def batch_of(self, users: np.ndarray) -> PackedBatch:
        """At most `batch_size` users, placed for a step."""
        return self._packed(self.data, users, self.length)

    def _packed(self, data: Interactions, users: np.ndarray, length: int) -> PackedBatch:
        batch = packed_rows(data, users, self.own * self.parts, length, self.parts)
        arrays = jax.tree.leaves(batch)
        return PackedBatch(*(map(jnp.asarray, arrays) if self.mesh is None else parallel.place_rows(arrays, self.mesh)))

    def _step(self, state: TrainingState, users: np.ndarray, number: int) -> tuple[TrainingState, Losses]:
        """The state after a step on these users in a pass of this number, and the losses before the step."""
        batch, target = self.batch_of(users), None
        if self.target is not None:
            target = self._packed(self.target, users, self.target_length)
        part = self.task.passes[number]
        numbers = self.numbers if part.noisy else self.numbers_without_dropout
        return step(self.task.config, state, batch, numbers, self.noise_key, part.groups, self.mesh, target)

    def _first_step_again(self, state: TrainingState) -> float:
        """The reconstruction loss of the first step's users under its noise, now: one more step, which is thrown away.

        Histories differ in length, so that losses of different users say little about each other.
        """
        start = state._replace(step=jnp.zeros_like(state.step))
        _, found = self._step(start, next(self.users.batches(0)), 0)
        return float(found.reconstruction)

    def _report(self, state: TrainingState, steps: EpochSteps, course: list[Epoch]) -> Epoch:
        """What an epoch reports; its parameters are the best so far if no earlier one was as good."""
        sizes, figures = steps.sizes.astype(float), steps.figures.astype(float)
        first, first_gradient = (course[0].first, course[0].first_gradient) if course else figures[0, [1, 3]].tolist()
        loss, reconstruction, kl, gradient = (sizes @ figures / sizes.sum()).tolist()
        rate = float(sizes.sum() / steps.seconds)
        epoch = Epoch(loss, reconstruction, kl, gradient, math.nan, rate, first, first_gradient)
        if self.validation is None:
            return epoch
        now = _fetched(state.parameters)
        network = Network(now, self.task.config.architecture)
        found = evaluate_paired(network, self.validation, parse(METRIC)).mean[METRIC]
        if not any(found <= earlier.validation for earlier in course):
            self.best = now
        return epoch._replace(validation=found)

    def _is_done(self, course: list[Epoch]) -> bool:
        found = [epoch.validation for epoch in course]
        return self.validation is not None and out_of_patience(found, self.task.patience)

    def _start(self) -> tuple[TrainingState, dict[str, Any], list[Epoch]]:
        """The state to begin with, the best parameters so far and the epochs made: of the checkpoint, or none."""
        state = init(self.task.config, self.start_key)
        best: dict[str, Any] = {}
        course: list[Epoch] = []
        found = None if self.checkpoint is None else kept.read(self.checkpoint, self.belongs_to)
        if self.checkpoint is not None and found is not None:
            leaves, tree = jax.tree.flatten(state)
            like = {f"state.{i}": x for i, x in enumerate(leaves)}
            like |= {f"best.{name}": x for name, x in state.parameters.items() if f"best.{name}" in found}
            kept.require(self.checkpoint, found, like, len(Epoch._fields), bits=True)
            state = tree.unflatten([jnp.asarray(found[f"state.{i}"].view(x.dtype)) for i, x in enumerate(leaves)])
            names = [name for name in found if name.startswith("best.")]
            kinds = {name: x.dtype for name, x in state.parameters.items()}
            best = {name[5:]: jnp.asarray(found[name].view(kinds[name[5:]])) for name in names}
            course = [Epoch(*row) for row in found["course"].tolist()]
        if self.mesh is not None:
            mesh = self.mesh
            state = jax.tree.map(lambda x: parallel.place(np.asarray(x), mesh, parallel.REPLICATED), state)
        return state, best, course

    def _write_if_due(self, state: TrainingState, course: list[Epoch]) -> None:
        """Replaces the checkpoint, if less than `WRITE_SHARE` of the time went into checkpoints so far."""
        begun = time.perf_counter()
        if self.checkpoint is None or begun < self.next_write:
            return
        arrays = {f"state.{i}": storable(parallel.to_host(leaf))[0] for i, leaf in enumerate(jax.tree.leaves(state))}
        arrays |= {f"best.{name}": storable(parallel.to_host(leaf))[0] for name, leaf in self.best.items()}
        if jax.process_index() == 0:
            kept.write(self.checkpoint, self.belongs_to, {**arrays, "course": np.array(course)})
        now = time.perf_counter()
        self.next_write = now + (now - begun) / WRITE_SHARE


def certify(parameters: dict[str, Any], course: list[Epoch], again: float) -> Certificate:
    """What can be said of a training, as told in `NeuralMethod.fit`: nothing about an optimum.

    Args:
      parameters: as returned.
      course: all epochs.
      again: the reconstruction loss that the first step, with its users and noise, would have at the end.
    """
    first, last = course[0], course[-1]
    figures = (last.loss, first.first_gradient, last.gradient)
    finite = all(bool(jnp.isfinite(leaf).all()) for leaf in parameters.values()) and all(map(math.isfinite, figures))
    fell = again < first.first or first.first_gradient == 0 or first.first == again == 0  # nothing to learn
    detail = {"reconstruction at the start": first.first, "of the same users at the end": again}
    detail |= {"reconstruction at the end": last.reconstruction}
    detail |= {"loss at the end": last.loss, "epochs": float(len(course))}
    if not math.isnan(last.validation):
        best = int(np.argmax([epoch.validation for epoch in course]))
        detail |= {"best epoch": best + 1.0, f"{METRIC} on the validation users": course[best].validation}
    detail["users per second"] = float(np.median([epoch.users_per_second for epoch in course]))
    return training_certificate(fell, finite, first.first_gradient, last.gradient, detail)


def _as_arrays(numbers: StepNumbers) -> StepNumbers:
    return StepNumbers(*(jnp.float32(value) for value in numbers))


def _fetched(parameters: dict[str, Any]) -> dict[str, Any]:
    """Copies on the default device: the next step overwrites the originals."""
    return {name: jnp.array(parallel.to_host(leaf)) for name, leaf in parameters.items()}
