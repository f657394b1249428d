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
from typing import Any

import jax
import numpy as np

from jaxrec._checks import InputError
from jaxrec.closed_form import spectral
from jaxrec.data.splits import Split
from jaxrec.deep import linear_optimum
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import edlae
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.fits import cached, fit_and_measure
from jaxrec.experiments.harness.outcome import Outcome
from jaxrec.experiments.harness.trials import Scale, Trials, Tuned
from jaxrec.experiments.regularization.networks import (
    LEARNING_RATES,
    Setting,
    beside_bound,
    divided,
    linear_network,
    predict,
)
from jaxrec.experiments.regularization.report import (
    FULL,
    TrainingResult,
    broken,
    markdown,
    record,
    trained,
    write_accuracy,
    write_depth,
)
from jaxrec.linear import LowRankEdlae
from jaxrec.status import FitError, Status

VERSION = 1
ACTIVATIONS = ("linear", "relu", "tanh", "gelu")
INPUT_SHARE = 8  # users for every item that is an input of the supervised networks


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthScale(Scale):
    """The scale: the grid, and how many of its settings are drawn besides those around the first of everything.

    Attributes:
      depths: hidden layers.
      activations: after each.
      widths: K.
      hidden: widths of the other hidden layers.
      optimizers: keys of `LEARNING_RATES`.
      seeds: how many.
      draws: settings drawn at random; None takes the whole grid.
      noise: dropout of the settings that have it; 0 for none.
      supervised: activations of the supervised networks.
      steps: of a training, at least; whole epochs are made of them.
      batch_size: users in a step.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    activations: tuple[str, ...] = ACTIVATIONS
    widths: tuple[int, ...] = (64, 16, 256)
    hidden: tuple[int, ...] = (256, 128, 512)
    optimizers: tuple[str, ...] = tuple(LEARNING_RATES)
    seeds: int = 3
    draws: int | None = 4
    noise: float = 0.5
    supervised: tuple[str, ...] = ACTIVATIONS
    steps: int = 3200
    batch_size: int = 50


SCALES = {
    "smoke": DepthScale(
        most=1,
        dropouts=(0.3,),
        depths=(2,),
        activations=("relu",),
        widths=(4,),
        hidden=(8,),
        optimizers=("adam",),
        seeds=1,
        draws=0,
        noise=0.0,
        supervised=("relu",),
        steps=10,
        batch_size=100,
    ),
    "small": DepthScale(most=5, dropouts=(0.25, 0.5)),
    "full": DepthScale(
        most=12,
        dropouts=(0.1, 0.25, 0.5),
        activations=(*ACTIVATIONS, "sigmoid", "swish"),
        widths=(64, 16, 256, 1024),
        hidden=(256, 128, 512, 1024),
        seeds=5,
        draws=None,
        supervised=(*ACTIVATIONS, "sigmoid", "swish"),
        steps=30_000,
        batch_size=100,
    ),
}


def settings(plan: DepthScale, widths: Sequence[int]) -> list[Setting]:
    """What is trained: every depth with every activation; then other widths, optimizers, seeds and noise; then draws.

    Args:
      plan: the scale.
      widths: the widths of it that the data have.
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
    trials = Trials(data, cells, plan, say)
    train = data.plain.train
    train = train.rows(np.flatnonzero(train.user_counts))
    parts, metric, name = Split(train, data.plain.test), trials.metrics[0], data.train.name
    epochs = -(-plan.steps // -(-train.n_users // plan.batch_size))
    widths = [width for width in plan.widths if 2 * width <= min(train.shape)]
    if not widths:
        raise InputError(f"{train.name} is too small for a bottleneck of {min(plan.widths)}: {train.shape}.")
    bound = functools.cache(lambda width: linear_optimum(Setting(1, "linear", width, 0).method(1, 1), train))

    def measured(key: dict[str, Any], fit: Callable[[], Any], width: int | None = None) -> dict[str, Any]:
        """The cell of a fit; of a width, its loss beside the bound too."""
        beside = None if width is None else lambda fitted: beside_bound(fitted, train, bound(width))
        return cached(cells, key, partial(fit_and_measure, fit, parts, [metric], beside))

    references = linear_references(trials, parts, widths, measured)
    found = []
    for setting in settings(plan, widths):
        fit = partial(setting.method(epochs, plan.batch_size).fit, train, key=jax.random.key(setting.seed))
        key = {"epochs": epochs, **dataclasses.asdict(setting)}
        found.append(TrainingResult(setting, measured(key, fit, setting.width)))
        say(str(found[-1]))
    if not trained(found):
        raise FitError(Status.NOT_FINITE, "none of the trainings converged: their cells say how they failed.")
    supervised = contrast(parts, plan, widths[0], epochs, trials)
    if wrong := broken(found):
        say(f"BELOW THE BOUND: {'; '.join(map(str, wrong))}")
    return Outcome(
        table=markdown(found, supervised, references, metric, epochs, plan.batch_size),
        record=record(found, supervised, references),
        plots={
            "depth": partial(write_depth, found, supervised, name),
            "accuracy": partial(write_accuracy, found, references, metric, name),
        },
    )


def linear_references(
    trials: Trials, parts: Split, widths: Sequence[int], measured: Callable[..., dict[str, Any]]
) -> list[Tuned]:
    """What linear models do: the optimum of each width; EDLAE of full rank, tuned, and of each width, as strong."""
    pairs = functools.cache(lambda: spectral.eigenpairs(parts.train, max(widths), centred=True))
    full = trials.tune("EDLAE", edlae(trials.scale.dropouts))
    references = [dataclasses.replace(full, settings={"rank": FULL, **full.settings})]
    for width in widths:
        optimum = measured(
            {"line": "linear optimum", "rank": width}, lambda k=width: linear_network(parts.train, pairs(), k), width
        )
        method = LowRankEdlae(width, **full.settings)
        result = measured({"line": "low-rank EDLAE", "rank": width, **full.settings}, partial(method.fit, parts.train))
        references += [
            Tuned("linear optimum", {"rank": str(width)}, None, (optimum,)),
            Tuned("EDLAE", {"rank": str(width), **full.settings}, method, (result,)),
        ]
    for reference in references[1:]:
        trials.say(str(reference))
    return references


def contrast(parts: Split, plan: DepthScale, width: int, epochs: int, trials: Trials) -> list[TrainingResult]:
    """The networks with another target than their input, every depth with every activation."""
    train = parts.train
    n_inputs = max(2, min(train.n_items // 2, train.n_users // INPUT_SHARE))
    halves = functools.cache(lambda: divided(train, n_inputs, width))
    found = []
    for depth, activation in itertools.product(plan.depths, plan.supervised):
        setting = Setting(depth, activation, width, plan.hidden[0] if depth > 1 else 0)

        def compute(setting: Setting = setting) -> dict[str, Any]:
            try:
                return {"failed": None, **predict(setting, halves(), epochs, plan.batch_size)}
            except FitError as error:
                return {"failed": str(error)}

        key = {"inputs": n_inputs, "epochs": epochs, **dataclasses.asdict(setting)}
        found.append(TrainingResult(setting, cached(trials.cells, key, compute)))
        trials.say(f"from {n_inputs} items to the others: {found[-1]}")
    return found
