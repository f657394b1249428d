"""Does weighting improve matrix factorization? Family x weights x regularizer x rank, re-tuned for each.

After Ayoub et al., "Does Weighting Improve Matrix Factorization for Recommender Systems?" (WWW 2025, arXiv
2510.10440): full rank, asymmetric and symmetric factorization, each exactly solved with and without weights of the
errors. The strength of the regularizer is chosen for every combination on validation users, by walking uphill over
powers of sqrt(10); test users are reported. The gain of weights is a mean over the same users with and without, so
that its standard error is that of paired differences.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxrec.data import Interactions
from jaxrec.data.splits import Split
from jaxrec.experiments.harness.cells import Cells, climb
from jaxrec.experiments.harness.datasets import STRONG, Prepared
from jaxrec.experiments.harness.outcome import Outcome
from jaxrec.experiments.harness.trials import STEP, attempt, examine, scores
from jaxrec.experiments.weighting.report import NONE, Line, record, table, write_plot
from jaxrec.factorization import Awmf, Ials, WeightedEase
from jaxrec.factorization.weights import Weights
from jaxrec.linear import Ease, Edlae, Lae, Popularity
from jaxrec.models import Fitted

VERSION = 1
METRICS = STRONG
METRIC = METRICS[0]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """One way to weight errors.

    Attributes:
      make: from the interactions.
      on_counts: whether it reads the strengths of the interactions; else they all count 1.
    """

    make: Callable[[Interactions], Weights]
    on_counts: bool = False


SCHEMES = {
    NONE: Scheme(Weights.uniform),
    "alpha = 1": Scheme(partial(Weights.constant, alpha=1.0)),
    "alpha = 4": Scheme(partial(Weights.constant, alpha=4.0)),
    "alpha = 16": Scheme(partial(Weights.constant, alpha=16.0)),
    "alpha = 64": Scheme(partial(Weights.constant, alpha=64.0)),
    "log, alpha = 1": Scheme(partial(Weights.log, alpha=1.0, eps=1.0), on_counts=True),
    "ips, beta = 0.25": Scheme(partial(Weights.ips, beta=0.25, alpha=5.0)),
    "ips, beta = 0.5": Scheme(partial(Weights.ips, beta=0.5, alpha=5.0)),
    "popular zeros, 0.5": Scheme(partial(Weights.popularity_zeros, omega=0.5, observed_weight=5.0)),
    "activity, -0.5": Scheme(partial(Weights.user_activity, beta=-0.5)),
}


class Task(NamedTuple):
    """One fit: training data, weights (None for none), rank, strength and seed."""

    train: Interactions
    weights: Weights | None
    rank: int
    reg: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of models with one regularizer.

    Attributes:
      fit: what a task comes to.
      start: the power of sqrt(10) of the regularization that the walk begins with. Rather too weak than too strong:
        where all factors shrink to 0, the little that is left of the accuracy leads a walk astray.
      low_rank: whether it has a rank; full rank has not.
      random: whether it starts at random, so that seeds matter.
      folds_in: whether unseen users are solved for with the same weights, for which histories must carry strengths.
    """

    fit: Callable[[Task], Fitted]
    start: int
    low_rank: bool = True
    random: bool = False
    folds_in: bool = False


def full(task: Task, diagonal: Any) -> Fitted:
    """EASE or LAE, or the same with weights."""
    if task.weights is None:
        return (Ease if diagonal == "zero" else Lae)(task.reg).fit(task.train)
    return WeightedEase(task.reg, diagonal=diagonal).fit(task.train, cell_weights=task.weights)


def asymmetric(task: Task, regularizer: Any) -> Fitted:
    """X A V'."""
    weights = task.weights or Weights.uniform(task.train)
    return Awmf(task.rank, task.reg, regularizer).fit(task.train, cell_weights=weights)


def symmetric(task: Task, exponent: float) -> Fitted:
    """P Q', with one strength for all rows, or one in proportion to their weight."""
    weights = task.weights or Weights.uniform(task.train)
    method = Ials(task.rank, task.reg, reg_exponent=exponent, target="one", sweeps=30, tolerance=1e-4)
    return method.fit(task.train, cell_weights=weights, key=jax.random.key(task.seed))


FAMILIES = {
    "full rank, diagonal 0": Family(partial(full, diagonal="zero"), 5, low_rank=False),
    "full rank, diagonal free": Family(partial(full, diagonal="free"), 5, low_rank=False),
    "asymmetric, product": Family(partial(asymmetric, regularizer="product"), 5),
    "asymmetric, factor": Family(partial(asymmetric, regularizer="factor"), 2),
    "asymmetric, L2": Family(partial(asymmetric, regularizer="l2"), 5),
    "symmetric, L2": Family(partial(symmetric, exponent=0.0), 2, random=True, folds_in=True),
    "symmetric, frequency": Family(partial(symmetric, exponent=1.0), -6, random=True, folds_in=True),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The grid at one scale; `most` bounds the strengths tried for a combination."""

    schemes: tuple[str, ...]
    ranks: tuple[int, ...]
    seeds: int
    most: int
    ials_rank: int


PLANS = {
    "smoke": Plan((NONE, "alpha = 4"), (4, 8), 2, 2, 8),
    "small": Plan((NONE, "alpha = 4", "alpha = 16", "log, alpha = 1", "ips, beta = 0.5"), (16, 64, 192), 2, 7, 256),
    "full": Plan(tuple(SCHEMES), (16, 32, 64, 128, 256, 512, 1024, 2048), 3, 12, 1024),
}


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The experiment on one data set."""
    plan = PLANS[scale]
    schemes = [name for name in plan.schemes if data.has_counts or not SCHEMES[name].on_counts]
    ranks = [rank for rank in plan.ranks if rank < min(data.train.shape)]
    lines = []
    for (name, family), scheme in itertools.product(FAMILIES.items(), schemes):
        power = family.start
        for rank in ranks if family.low_rank else [data.train.n_items]:
            measure = measurement(data, cells, name, scheme, rank)
            power = climb(scores(measure), power, plan.most)  # the next rank begins where this one ended
            runs = (measure(power, seed) for seed in range(plan.seeds if family.random else 1))
            lines.append(Line(name, scheme, rank, STEP**power, tuple(runs)))
            say(str(lines[-1]))
    lines += references(data.plain, cells, plan, say)
    return Outcome(
        table=table(lines, METRIC, METRICS),
        record=record(lines, METRIC),
        plots={"gain": partial(write_plot, lines, METRIC, ranks, data.train.name)},
    )


def measurement(data: Prepared, cells: Cells, name: str, scheme: str, rank: int) -> Callable[..., dict[str, Any]]:
    """The cells of one combination, by the power of sqrt(10) of the regularization and the seed."""
    family, way = FAMILIES[name], SCHEMES[scheme]
    parts = data.parts if way.on_counts and family.folds_in else data.plain

    def fit(power: int, seed: int) -> Fitted:
        source = data.parts if way.on_counts else data.plain
        weights = None if scheme == NONE else way.make(source.train)
        return family.fit(Task(parts.train, weights, rank, STEP**power, seed))

    def measure(power: int, seed: int = 0) -> dict[str, Any]:
        settings = {"family": name, "weights": scheme, "rank": rank, "power": power, "seed": seed}
        return attempt(cells, settings, partial(examine, partial(fit, power, seed), parts, METRICS, keep_users=True))

    return measure


def references(plain: Split, cells: Cells, plan: Plan, say: Callable[[str], None]) -> list[Line]:
    """What everyone knows: popularity; EDLAE; and iALS as published, with its shrunk targets and a large rank."""
    rank = min(plan.ials_rank, *(size - 1 for size in plain.train.shape))
    known: dict[str, tuple[Callable[[float, float], Any], str, Sequence[float], int]] = {
        "popularity": (lambda none, reg: Popularity(), "none", (0.0,), 0),
        "EDLAE": (lambda dropout, reg: Edlae(reg, dropout), "dropout", (0.1, 0.25, 0.5), 5),
        "iALS": (
            lambda weight, reg: Ials(rank, reg, unobserved_weight=weight),
            "unobserved_weight",
            (0.03, 0.1, 0.3),
            -5,
        ),
    }
    lines = []
    for name, (method, field, values, start) in known.items():
        shown = rank if name == "iALS" else plain.train.n_items
        found = []
        for value in values[: plan.most]:

            def measure(power: int, name=name, method=method, field=field, value=value, shown=shown) -> dict[str, Any]:
                settings = {"reference": name, "rank": shown, field: value, "power": power}
                fit = partial(method(value, STEP**power).fit, plain.train)
                return attempt(cells, settings, partial(examine, fit, plain, METRICS, keep_users=True))

            power = climb(scores(measure), start, 1 if name == "popularity" else plan.most)
            found.append(Line(name, "", shown, STEP**power, (measure(power),)))
        lines.append(max(found, key=lambda line: line.validation))
        say(str(lines[-1]))
    return lines
