"""Whether depth fits the training data better: networks of many kinds beside the linear optimum of their width.

After Steck & Garcia Garcia, "On the Regularization of Autoencoders" (arXiv 2110.11402), its first result. Autoencoders
of one to five hidden layers, of several activations, widths, optimizers and seeds, are trained on squared errors and
set beside the best linear autoencoder whose code is as wide as their last hidden layer (`jaxrec.closed_form.bounds`),
which none can be below: in training loss, and in accuracy on held-out users, where none of this holds. Networks of the
same kinds that predict some items from others are the contrast: they are bound by the rank of their output alone, and
the best linear map is not at that floor.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec._checks import InputError
from jaxrec.closed_form import spectral
from jaxrec.closed_form.bounds import Bound
from jaxrec.data import Interactions
from jaxrec.data.splits import Split
from jaxrec.deep import linear_optimum
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome
from jaxrec.experiments.harness.trials import Contender, Trials, attempt, examine
from jaxrec.experiments.regularization.networks import (
    LEARNING_RATES,
    Setting,
    beside_bound,
    divided,
    linear_network,
    predict,
)
from jaxrec.experiments.regularization.report import (
    Found,
    Reference,
    broken,
    markdown,
    record,
    trained,
    write_accuracy,
    write_depth,
)
from jaxrec.linear import Edlae, LowRankEdlae
from jaxrec.status import FitError, Status

VERSION = 1
INPUT_SHARE = 8  # users for every item that is an input of the supervised networks


class Scale(NamedTuple):
    """The grid, and how many of its settings are drawn besides those around the first of everything.

    Attributes:
      depths: hidden layers.
      activations: after each.
      widths: K.
      hidden: widths of the other hidden layers.
      optimizers: keys of `LEARNING_RATES`.
      seeds: how many.
      draws: settings drawn at random; None takes the whole grid.
      noise: dropout of those that have it; 0 for none.
      supervised: activations of the supervised networks.
      steps: of a training, at least; whole epochs are made of them.
      batch_size: users in a step.
      most: strengths tried for EDLAE.
      dropouts: tried for EDLAE.
    """

    depths: tuple[int, ...]
    activations: tuple[str, ...]
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    optimizers: tuple[str, ...]
    seeds: int
    draws: int | None
    noise: float
    supervised: tuple[str, ...]
    steps: int
    batch_size: int
    most: int
    dropouts: tuple[float, ...]


OPTIMIZERS = tuple(LEARNING_RATES)
SMALL = ("linear", "relu", "tanh", "gelu")
SCALES = {
    "smoke": Scale((2,), ("relu",), (4,), (8,), ("adam",), 1, 0, 0.0, ("relu",), 10, 100, 1, (0.3,)),
    "small": Scale(
        (1, 2, 3, 4, 5), SMALL, (64, 16, 256), (256, 128, 512), OPTIMIZERS, 3, 4, 0.5, SMALL, 3200, 50, 5, (0.25, 0.5)
    ),
    "full": Scale(
        *((1, 2, 3, 4, 5), (*SMALL, "sigmoid", "swish"), (64, 16, 256, 1024), (256, 128, 512, 1024), OPTIMIZERS, 5),
        *(None, 0.5, (*SMALL, "sigmoid", "swish"), 30_000, 100, 12, (0.1, 0.25, 0.5)),
    ),
}


def settings(plan: Scale, widths: Sequence[int]) -> list[Setting]:
    """What is trained: every depth with every activation; then other widths, optimizers, seeds and noise; then draws.

    Args:
      plan: the scale.
      widths: those of its widths that the data have.
    """

    def of(depth: int, activation: str, width: int = widths[0], hidden: int = plan.hidden[0], **more: Any) -> Setting:
        return Setting(depth, activation, width, hidden if depth > 1 else 0, **more)

    whole = [
        of(depth, activation, width, hidden, optimizer=optimizer, seed=seed)
        for depth, activation, width, hidden, optimizer, seed in itertools.product(
            plan.depths, plan.activations, widths, plan.hidden, plan.optimizers, range(plan.seeds)
        )
    ]
    shallow, middle = plan.depths[0], plan.depths[len(plan.depths) // 2]
    first, *others = plan.activations[:3]
    noisy = [(shallow, first), *((depth, name) for depth in (shallow, middle) for name in others[:1])]
    chosen = [
        *(of(depth, activation) for depth in plan.depths for activation in plan.activations),
        *(
            of(*pair, width)
            for width in widths[1:]
            for pair in ((shallow, first), *((middle, name) for name in others))
        ),
        *(of(middle, name, hidden=hidden) for hidden in plan.hidden[1:] for name in others[:1]),
        *(of(middle, name, optimizer=optimizer) for optimizer in plan.optimizers[1:] for name in others[:1]),
        *(of(middle, name, seed=seed) for seed in range(1, plan.seeds) for name in others),
        *(of(depth, name, dropout=plan.noise) for depth, name in noisy),
    ]
    if plan.draws is None:
        return list(dict.fromkeys([*chosen, *whole]))
    rest = [setting for setting in dict.fromkeys(whole) if setting not in chosen]
    drawn = np.random.default_rng(0).permutation(len(rest))[: plan.draws]
    return list(dict.fromkeys([*chosen, *(rest[index] for index in drawn)]))


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table and both plots on one data set."""
    plan = SCALES[scale]
    trials = Trials(data, cells, plan.most)
    train = data.plain.train
    train = train.rows(np.flatnonzero(train.user_counts))
    parts = Split(train, data.plain.test)
    epochs = -(-plan.steps // -(-train.n_users // plan.batch_size))
    widths = [width for width in plan.widths if 2 * width <= min(train.shape)]
    if not widths:
        raise InputError(f"{train.name} is too small for a bottleneck of {min(plan.widths)}: {train.shape}.")
    metric = trials.metrics[0]

    bound = functools.cache(lambda width: linear_optimum(Setting(1, "linear", width, 0).method(1, 1), train))
    references = linear_references(trials, parts, {width: partial(bound, width) for width in widths}, plan, say)
    found = []
    for setting in settings(plan, widths):

        def compute(setting: Setting = setting) -> dict[str, Any]:
            fit = partial(setting.method(epochs, plan.batch_size).fit, train, key=jax.random.key(setting.seed))
            return examine(fit, parts, [metric], lambda fitted: beside_bound(fitted, train, bound(setting.width)))

        result = attempt(cells, {"epochs": epochs, **dataclasses.asdict(setting)}, compute)
        found.append(Found(setting, result))
        say(str(found[-1]))
    if not trained(found):
        raise FitError(Status.NOT_FINITE, "none of the trainings converged: their cells say how they failed.")
    supervised = contrast(train, plan, widths[0], epochs, cells, say)
    if wrong := broken(found):
        say(f"BELOW THE BOUND: {'; '.join(map(str, wrong))}")
    name = data.train.name
    return Outcome(
        table=markdown(found, supervised, references, metric, epochs, plan.batch_size),
        record=record(found, supervised, references),
        plots={
            "depth": partial(write_depth, found, supervised, name),
            "accuracy": partial(write_accuracy, found, references, metric, name),
        },
    )


def linear_references(
    trials: Trials, parts: Split, bounds: dict[int, Callable[[], Bound]], plan: Scale, say: Callable[[str], None]
) -> list[Reference]:
    """What linear models do: the optimum of each width; EDLAE of full rank, tuned, and of each width, as strong."""
    train, metric, cells = parts.train, trials.metrics[0], trials.cells
    pairs = functools.cache(lambda: spectral.eigenpairs(train, max(bounds), centred=True))
    full = trials.tune("EDLAE", Contender(Edlae, 5, variants=tuple({"dropout": p} for p in plan.dropouts)))
    references = [Reference("EDLAE", None, full.settings, full.result)]
    for width, bound in bounds.items():

        def optimum(width: int = width, bound: Callable[[], Bound] = bound) -> dict[str, Any]:
            fit = partial(linear_network, train, pairs(), width)
            return examine(fit, parts, [metric], lambda fitted: beside_bound(fitted, train, bound()))

        def low_rank(width: int = width) -> dict[str, Any]:
            return examine(partial(LowRankEdlae(width, **full.settings).fit, train), parts, [metric])

        references += [
            Reference("linear optimum", width, {}, attempt(cells, {"line": "linear optimum", "rank": width}, optimum)),
            Reference(
                *("EDLAE", width, full.settings),
                attempt(cells, {"line": "low-rank EDLAE", "rank": width, **full.settings}, low_rank),
            ),
        ]
    for reference in references:
        say(str(reference))
    return references


def contrast(
    train: Interactions, plan: Scale, width: int, epochs: int, cells: Cells, say: Callable[[str], None]
) -> list[Found]:
    """The networks with another target than their input, every depth with every activation."""
    n_inputs = max(2, min(train.n_items // 2, train.n_users // INPUT_SHARE))
    parts = functools.cache(lambda: divided(train, n_inputs, width))
    found = []
    for depth, activation in itertools.product(plan.depths, plan.supervised):
        setting = Setting(depth, activation, width, plan.hidden[0] if depth > 1 else 0)

        def compute(setting: Setting = setting) -> dict[str, Any]:
            try:
                return {"failed": None, **predict(setting, parts(), epochs, plan.batch_size)}
            except FitError as error:
                return {"failed": str(error)}

        words = {"inputs": n_inputs, "epochs": epochs, **dataclasses.asdict(setting)}
        found.append(Found(setting, attempt(cells, words, compute)))
        say(f"from {n_inputs} items to the others: {found[-1]}")
    return found
