"""The loop of a training: epochs over shuffled users, with progress, early stop and a hook after each epoch.

It knows neither a loss nor data: a step is told which users it is of, and what an epoch reports is the caller's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrec.runtime.progress import progress_bar
from jaxrec.status import Certificate, Status

IN_FLIGHT = 1  # steps that JAX may have been given besides the one that it is at


class Shuffled(NamedTuple):
    """The users in a random order, another in each pass: a function of the key and of the number of the pass.

    Attributes:
      n_users: U.
      batch_size: users of a step; the last of a pass may have fewer.
      key: random key of the orders.
    """

    n_users: int
    batch_size: int
    key: PRNGKeyArray

    def batches(self, number: int) -> Iterator[np.ndarray]:
        """The users of each step of a pass, which is counted from the start of the training."""
        order = np.asarray(jax.random.permutation(jax.random.fold_in(self.key, number), self.n_users))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]


class EpochSteps(NamedTuple):
    """What the steps of an epoch reported.

    Attributes:
      sizes: [N] users of each step.
      figures: [N, ...] what each step reported.
      seconds: of all of them.
    """

    sizes: np.ndarray
    figures: np.ndarray
    seconds: float


def run_epochs(
    label: str,
    step: Callable[[Any, np.ndarray, int], tuple[Any, Any]],
    state: Any,
    users: Shuffled,
    report: Callable[[Any, EpochSteps, list[Any]], Any],
    *,
    epochs: int,
    passes: int = 1,
    course: Sequence[Any] = (),
    after_pass: Callable[[Any, int], Any] = lambda state, number: state,
    is_done: Callable[[list[Any]], bool] = lambda course: False,
    after_epoch: Callable[[Any, list[Any]], Any] = lambda state, course: False,
) -> tuple[Any, list[Any]]:
    """The state after the last epoch, and the reports of all epochs.

    Args:
      label: of the progress bar.
      step: from a state, the users of a step and the number of the pass within the epoch to the next state and the
        numbers to report, which stay on the device until the epoch is over.
      state: the one to begin with.
      users: in what order they come.
      report: from the state after an epoch, what its steps reported and the reports before to its own.
      epochs: how many there are at most, with the epochs of `course`.
      passes: over the users, in an epoch.
      course: reports of the epochs that were made before, if a training is taken up again.
      after_pass: from the state after a pass and its number within the epoch to the one that goes on.
      is_done: whether the training is over after these epochs.
      after_epoch: called with the state and all reports; ends the training if it returns something true.
    """
    course = list(course)
    with progress_bar(label, epochs * passes * users.n_users) as advance:
        advance(len(course) * passes * users.n_users)
        while len(course) < epochs and not is_done(course):
            begun, sizes, figures = time.perf_counter(), [], []
            for number in range(passes):
                for chosen in users.batches(len(course) * passes + number):
                    state, found = step(state, chosen, number)
                    sizes.append(len(chosen))
                    figures.append(found)
                    advance(len(chosen))
                    if len(figures) > IN_FLIGHT:  # or else the batches of an epoch are all in memory at once
                        jax.block_until_ready(figures[-1 - IN_FLIGHT])
                state = after_pass(state, number)
            fetched = np.array(jax.device_get(figures))  # waits for the last step
            steps = EpochSteps(np.array(sizes), fetched, time.perf_counter() - begun)
            course.append(report(state, steps, course))
            advance(0, str(course[-1]))
            if after_epoch(state, course):
                break
    return state, course


def out_of_patience(values: Sequence[float], patience: int) -> bool:
    """Whether the best of the values, one an epoch, has had `patience` others after it; with 0 it never has."""
    return patience > 0 and len(values) > 0 and len(values) - 1 - int(np.argmax(values)) >= patience


def training_certificate(
    fell: bool, finite: bool, first_gradient: float, last_gradient: float, detail: dict[str, float]
) -> Certificate:
    """What can be said of a training, which is no proof of an optimum.

    Its residual, for which there is no limit, is the gradient at the end as a share of the one at the start.

    Args:
      fell: whether the loss fell.
      finite: whether all numbers are finite.
      first_gradient: norm of the gradient at the start.
      last_gradient: at the end.
      detail: what else is known, by name.
    """
    status = Status.OK if fell and finite else Status.RESIDUAL_TOO_LARGE if finite else Status.NOT_FINITE
    residual = last_gradient / first_gradient if first_gradient > 0 else last_gradient
    return Certificate(status, residual, math.inf, detail)
