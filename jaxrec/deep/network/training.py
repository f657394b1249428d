"""The run of a training: epochs over shuffled users, validation, checkpoints, and what is known at the end."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data import Interactions
from jaxrec.data.batching import PackedBatch, packed_length, packed_rows
from jaxrec.data.splits import HeldOut
from jaxrec.deep.network import losses
from jaxrec.deep.network import step as training
from jaxrec.deep.network.architecture import DTYPES, FIRST_LAYERS, Architecture
from jaxrec.deep.network.model import Network
from jaxrec.deep.network.step import Knobs, Recipe, State
from jaxrec.evaluation.report import evaluate
from jaxrec.models import FitInfo, Fitted
from jaxrec.runtime import checkpoint as kept
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Needs, Plan, hardware, plan_on
from jaxrec.runtime.progress import progress_bar
from jaxrec.status import Certificate, FitError, Status

METRIC = "ndcg@100"
COPIES = 6  # of the parameters, at the peak
WRITE_SHARE = 0.1  # of the time that may go into checkpoints
Callback = Callable[[int, "Epoch"], Any]


class Pass(NamedTuple):
    """One pass over the users.

    Attributes:
      groups: what is trained in it.
      noisy: whether items of the histories are dropped.
      remember: whether the composite prior is renewed after it.
    """

    groups: tuple[str, ...] = training.GROUPS
    noisy: bool = True
    remember: bool = False


class Task(NamedTuple):
    """A training to be run.

    Attributes:
      recipe: what a step does.
      knobs: its numbers.
      passes: over the users, of which an epoch consists.
      epochs: how many.
      batch_size: users in a step.
      patience: epochs without a better validation metric after which to stop; 0 never does.
    """

    recipe: Recipe
    knobs: Knobs
    passes: tuple[Pass, ...]
    epochs: int
    batch_size: int
    patience: int


class Epoch(NamedTuple):
    """What an epoch reports.

    Attributes:
      loss: mean over users and steps of what is minimised.
      reconstruction: the part of it that compares outputs and histories.
      kl: the divergence from the prior, before its weight.
      gradient: mean norm of the gradient of a step.
      validation: ndcg@100 on the validation users; NaN without them.
      users_per_second: of the training alone.
      first: reconstruction loss of the first step.
      first_gradient: norm of the gradient in it.
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


class Trained:
    """What the methods of `jaxrec.deep` share: they say what is trained, and this trains it."""

    def architecture(self, n_items: int) -> Architecture:
        """The network of a fit to so many items."""
        raise NotImplementedError

    def task(self, train: Interactions) -> Task:
        """The training of a fit to these interactions."""
        raise NotImplementedError

    def fit(
        self,
        train: Interactions,
        devices: Any = None,
        *,
        validation: HeldOut | None = None,
        key: PRNGKeyArray | None = None,
        checkpoint: str | os.PathLike | None = None,
        callback: Callback | None = None,
    ) -> Fitted:
        """The trained network with what is known about it.

        The loss is not convex, and the certificate is no proof of an optimum: it says that all numbers are finite, that
        the reconstruction loss of the users of the first step fell, and how large the gradient of a step was at the
        end, as a share of the first (its residual, for which there is no limit). Among its details are the best
        epoch and its validation metric, and the users trained on per second. The course is what `callback` sees.

        Args:
          train: U x I interactions X; users without any are left out.
          devices: what to split the users of a batch over, each of which holds the whole network; None is the default
            device.
          validation: users whose ndcg@100 is measured after every epoch: the weights of the best epoch are returned,
            and `patience` epochs without a better one end the training. None returns the last weights.
          key: random key of the start, the order of users and the noise; default `jax.random.key(0)`. The same key
            gives the same weights on the same hardware.
          checkpoint: a file that is replaced after an epoch (at most a tenth of the time goes into that), from which a
            fit that was killed goes on, with the very weights it would have had. Delete it afterwards.
          callback: called after each epoch with its number (from 1) and its `Epoch`; ends the training where it returns
            something true.

        Returns:
          Fitted(model: Network, info: FitInfo).

        Raises:
          InputError: there is nothing to learn from, an argument does not suit the data, or flax is not installed.
          FitError: it does not fit in memory, or the loss is not finite or did not fall.

        Cost: see `plan`; about 6 operations per user and parameter in each epoch.
        """
        require_packages(type(self).__name__)
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")
        if validation is not None and validation.fold_in.n_items != train.n_items:
            raise InputError(
                f"validation must have the items of the training data, got {validation.fold_in.n_items} and "
                f"{train.n_items} of them; take both from one split."
            )
        mesh = None if devices is None else parallel.make_mesh(devices)
        self.plan(train.n_users, train.n_items, train.nnz, mesh).require()  # pyright: ignore
        key = jax.random.key(0) if key is None else key
        belongs_to: dict[str, Any] = {"method": str(self), "data": train.fingerprint}
        belongs_to["key"] = np.asarray(jax.random.key_data(key)).tolist()
        belongs_to["validation"] = None if validation is None else [part.fingerprint for part in validation]
        begun = time.perf_counter()
        task = self.task(train)
        losses.check_values(task.recipe.reconstruction, train)
        run = Run(task, train, mesh, validation, key, checkpoint, belongs_to)
        parameters, course, again = run(type(self).__name__, callback)
        seconds = {"train": time.perf_counter() - begun}
        certificate = certify(parameters, course, again)
        if certificate.status is not Status.OK:
            raise FitError(certificate.status, f"{certificate}; lower learning_rate.")
        model = Network(parameters, self.architecture(train.n_items))
        return Fitted(model, FitInfo(self, certificate, train.items, train.summary(), seconds))

    def _plan(self, shape: tuple[int, int, int], devices: Any, epochs: int, batch_size: int) -> Plan:
        """What a training takes."""
        n_users, n_items, nnz = shape
        network, found = self.architecture(n_items), hardware(devices)
        batch = min(batch_size, n_users)
        widest = n_items * 6 + sum(b for _, b in network.widths) * 3
        if network.gathers(entries := nnz / max(1, n_users)):
            widest += round(2 * entries * network.widths[0][1])
        parts = {
            "parameters, gradient, two moments, two copies": 4 * COPIES * network.n_parameters * found.on_host,
            "a batch of users": found.share(4 * batch * widest),
            "sparse data, twice": 16 * nnz,
        }
        flops = 6.0 * n_users * network.n_parameters * epochs
        return plan_on(
            found, self, shape, Needs(parts, flops, "use narrower layers, a smaller batch_size, or fewer items")
        )


class Run:
    """One training of one task on one data set: of its users' items, or of other targets for them, `target` [U, J]."""

    def __init__(
        self,
        task: Task,
        train: Interactions,
        mesh: Any,
        validation: HeldOut | None,
        key: PRNGKeyArray,
        checkpoint: Any,
        belongs_to: dict[str, Any],
        target: Interactions | None = None,
    ):
        self.task, self.mesh, self.validation = task, mesh, validation
        self.data = train.rows(np.flatnonzero(train.user_counts)) if target is None else train
        self.target = target
        self.batch_size = min(task.batch_size, self.data.n_users)
        self.parts = 1 if mesh is None else mesh.size
        self.own = -(-self.batch_size // self.parts)  # users of a part
        self.length = packed_length(self.data.user_counts, self.own)
        self.target_length = 0 if target is None else packed_length(target.user_counts, self.own)
        self.start_key, self.order_key, self.noise_key = jax.random.split(key, 3)
        self.checkpoint, self.belongs_to = checkpoint, belongs_to
        steps = task.epochs * len(task.passes) * -(-self.data.n_users // self.batch_size)
        self.knobs = _as_arrays(task.knobs._replace(total_steps=steps))
        self.quiet = _as_arrays(task.knobs._replace(total_steps=steps, dropout=0.0))

    def __call__(self, label: str, callback: Callback | None) -> tuple[dict[str, Any], list[Epoch], float]:
        """The parameters on the default device, of the best epoch where there is a validation, and all epochs.

        The last number is the reconstruction loss that the first step would have at the end.
        """
        task = self.task
        state, best, course = self._start()
        wrote, cost = -math.inf, 0.0
        with progress_bar(label, task.epochs * len(task.passes) * self.data.n_users) as advance:
            advance(len(course) * len(task.passes) * self.data.n_users)
            while len(course) < task.epochs and not self._is_done(course):
                state, epoch = self._epoch(state, course, advance)
                if self.validation is not None:
                    now = _fetched(state.parameters)
                    found = evaluate(Network(now, task.recipe.shape), *self.validation, METRIC)
                    epoch = epoch._replace(validation=found.mean[METRIC])
                    if not any(epoch.validation <= earlier.validation for earlier in course):
                        best = now
                course.append(epoch)
                advance(0, str(epoch))
                if self.checkpoint is not None and time.perf_counter() - wrote >= cost / WRITE_SHARE:
                    begun = time.perf_counter()
                    self._write(state, best, course)
                    wrote = time.perf_counter()
                    cost = wrote - begun
                if not math.isfinite(epoch.loss) or (callback is not None and callback(len(course), epoch)):
                    break
        parameters = best if best else _fetched(state.parameters)
        return parameters, course, self._first_step_again(state)

    def _first_step_again(self, state: State) -> float:
        """The reconstruction loss of the first step's users under its noise, now: one more step, which is thrown away.

        Histories differ in length, so that losses of different users say little about each other.
        """
        start = state._replace(step=jnp.zeros_like(state.step))
        _, found = self._step(start, self._order(0)[: self.batch_size], self.task.passes[0])
        return float(found.reconstruction)

    def _order(self, number: int) -> np.ndarray:
        """The users in the order of a pass, counted from the start of the training."""
        return np.asarray(jax.random.permutation(jax.random.fold_in(self.order_key, number), self.data.n_users))

    def _step(self, state: State, users: np.ndarray, part: Pass) -> tuple[State, training.Losses]:
        """The state after a step on these users, and the losses before it."""
        batch, target = self.batch_of(users), None
        if self.target is not None:
            target = self._packed(self.target, users, self.target_length)
        knobs = self.knobs if part.noisy else self.quiet
        return training.step(self.task.recipe, state, batch, knobs, self.noise_key, part.groups, self.mesh, target)

    def _epoch(self, state: State, course: list[Epoch], advance: Any) -> tuple[State, Epoch]:
        task, begun, parts = self.task, time.perf_counter(), []
        for number, part in enumerate(task.passes):
            order = self._order(len(course) * len(task.passes) + number)
            for start in range(0, len(order), self.batch_size):
                users = order[start : start + self.batch_size]
                state, found = self._step(state, users, part)
                parts.append((len(users), found))
                advance(len(users))
            if part.remember:
                state = training.remember(state)
        sizes = np.array([size for size, _ in parts], float)
        figures = np.array(jax.device_get([tuple(found) for _, found in parts]), float)  # waits for the last step
        seconds = time.perf_counter() - begun
        first, first_gradient = (course[0].first, course[0].first_gradient) if course else figures[0, [1, 3]].tolist()
        loss, reconstruction, kl, gradient = (sizes @ figures / sizes.sum()).tolist()
        rate = float(sizes.sum() / seconds)
        return state, Epoch(loss, reconstruction, kl, gradient, math.nan, rate, first, first_gradient)

    def _is_done(self, course: list[Epoch]) -> bool:
        found = [epoch.validation for epoch in course]
        if self.task.patience == 0 or self.validation is None or not found:
            return False
        return len(found) - 1 - int(np.argmax(found)) >= self.task.patience

    def batch_of(self, users: np.ndarray) -> PackedBatch:
        """At most `batch_size` users, where a step wants them."""
        return self._packed(self.data, users, self.length)

    def _packed(self, data: Interactions, users: np.ndarray, length: int) -> PackedBatch:
        batch = packed_rows(data, users, self.own * self.parts, length, self.parts)
        arrays = jax.tree.leaves(batch)
        return PackedBatch(*(map(jnp.asarray, arrays) if self.mesh is None else parallel.place_rows(arrays, self.mesh)))

    def _start(self) -> tuple[State, dict[str, Any], list[Epoch]]:
        """The state to begin with, the best parameters so far and the epochs made: of the checkpoint, or none."""
        state = training.init(self.task.recipe, self.start_key)
        best: dict[str, Any] = {}
        course: list[Epoch] = []
        found = None if self.checkpoint is None else kept.read(self.checkpoint, self.belongs_to)
        if found is not None:
            leaves, tree = jax.tree.flatten(state)
            state = tree.unflatten([jnp.asarray(found[f"state.{i}"].view(x.dtype)) for i, x in enumerate(leaves)])
            names = [name for name in found if name.startswith("best.")]
            kinds = {name: x.dtype for name, x in state.parameters.items()}
            best = {name[5:]: jnp.asarray(found[name].view(kinds[name[5:]])) for name in names}
            course = [Epoch(*row) for row in found["course"].tolist()]
        if self.mesh is not None:
            mesh = self.mesh
            state = jax.tree.map(lambda x: parallel.place(np.asarray(x), mesh, parallel.REPLICATED), state)
        return state, best, course

    def _write(self, state: State, best: dict[str, Any], course: list[Epoch]) -> None:
        arrays = {f"state.{i}": _storable(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        arrays |= {f"best.{name}": _storable(leaf) for name, leaf in best.items()}
        if jax.process_index() == 0:
            kept.write(self.checkpoint, self.belongs_to, {**arrays, "course": np.array(course)})


def certify(parameters: dict[str, Any], course: list[Epoch], again: float) -> Certificate:
    """What can be said of a training, as told in `Trained.fit`: nothing about an optimum.

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
    status = Status.OK if fell and finite else Status.RESIDUAL_TOO_LARGE if finite else Status.NOT_FINITE
    residual = last.gradient / first.first_gradient if first.first_gradient > 0 else last.gradient
    return Certificate(status, residual, math.inf, detail)


def check_training(config: Any) -> None:
    """Makes the fields of a method plain, and refuses what no training can go by."""
    _checks.plain_numbers(config)
    for name in ("epochs", "batch_size"):
        _checks.count(name, getattr(config, name), at_least=1)
    _checks.count("patience", config.patience)
    _checks.positive("learning_rate", config.learning_rate)
    for name in ("compute", "parameters"):
        _checks.one_of(name, getattr(config, name), DTYPES)
    _checks.one_of("first_layer", config.first_layer, FIRST_LAYERS)


def require_packages(name: str) -> None:
    """Refuses to go on without flax and optax."""
    try:
        import flax
        import optax
    except ImportError:
        raise InputError(f"{name} needs the packages flax and optax: pip install 'jaxrec[deep]'.") from None
    del flax, optax


def _as_arrays(knobs: Knobs) -> Knobs:
    return Knobs(*(jnp.float32(value) for value in knobs))


def _fetched(parameters: dict[str, Any]) -> dict[str, Any]:
    """Copies on the default device: the next step overwrites the originals."""
    return {name: jnp.array(parallel.to_host(leaf)) for name, leaf in parameters.items()}


def _storable(leaf: Any) -> np.ndarray:
    array = parallel.to_host(leaf)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.isbuiltin == 2 else array
