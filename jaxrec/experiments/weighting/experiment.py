"""Does weighting improve matrix factorization? Family x weights x regularizer x rank, re-tuned for each.

After Ayoub et al., "Does Weighting Improve Matrix Factorization for Recommender Systems?" (WWW 2025, arXiv
2510.10440): full rank, asymmetric and symmetric factorization, each exactly solved with and without weights of the
errors. The strength of the regularizer is chosen for every combination on validation users, by walking uphill over
powers of sqrt(10); test users are reported. The gain of weights is a mean over the same users with and without, so
that its standard error comes from paired differences.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxrec.data import Interactions
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome
from jaxrec.experiments.harness.trials import Contender, Scale, Trials, Tuned, power_of
from jaxrec.experiments.weighting.report import NONE, record, table, write_plot
from jaxrec.factorization import Awmf, Ials, WeightedEase
from jaxrec.factorization.weights import Weights
from jaxrec.linear import Ease, Edlae, Lae, Popularity
from jaxrec.models import Fitted

VERSION = 1


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
      fit: the fitted model of a task.
      start: the power of sqrt(10) of the regularization that the walk begins with. Rather too weak than too strong:
        if all factors shrink to 0, the little that is left of the accuracy leads a walk astray.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridScale(Scale):
    """The scale with its schemes of weights, seeds, and the rank of the iALS of reference."""

    schemes: tuple[str, ...]
    seeds: int = 2
    ials_rank: int


SOME = (NONE, "alpha = 4", "alpha = 16", "log, alpha = 1", "ips, beta = 0.5")
RANKS = (16, 32, 64, 128, 256, 512, 1024, 2048)
SCALES = {
    "smoke": GridScale(most=2, schemes=(NONE, "alpha = 4"), ranks=(4, 8), ials_rank=8),
    "small": GridScale(most=7, schemes=SOME, ranks=(16, 64, 192), ials_rank=256),
    "full": GridScale(most=12, schemes=tuple(SCHEMES), ranks=RANKS, seeds=3, ials_rank=1024),
}


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The experiment on one data set."""
    plan = SCALES[scale]
    trials = Trials(data, cells, plan, say, keep_users=True)
    counted = Trials(data, cells, plan, say, parts=data.parts, keep_users=True)
    schemes = [name for name in plan.schemes if data.has_counts or not SCHEMES[name].on_counts]
    ranks = [rank for rank in plan.ranks if rank < min(data.train.shape)]
    lines = []
    for (name, family), scheme in itertools.product(FAMILIES.items(), schemes):
        power, of_parts = family.start, counted if SCHEMES[scheme].on_counts and family.folds_in else trials
        for rank in ranks if family.low_rank else [data.train.n_items]:
            contender = Contender(
                partial(combination, data, family),
                power,  # the next rank begins where this one ended
                settings=({"weights": scheme, "rank": rank, "seed": 0},),
                seeds=plan.seeds if family.random else 1,
                key=partial(cell_of, "family", name),
            )
            lines.append(of_parts.tune(name, contender))
            power = power_of(lines[-1].settings["reg"])
    lines += references(Trials(data, cells, plan, keep_users=True), plan, say)
    return Outcome(
        table=table(lines, trials.metrics),
        record=record(lines, trials.metrics[0]),
        plots={"gain": partial(write_plot, lines, trials.metrics[0], ranks, data.train.name)},
    )


class Combination(NamedTuple):
    """A method made of a family and a scheme of weights, which have been given all but the data."""

    fit: Callable[[Interactions], Fitted]


def combination(data: Prepared, family: Family, weights: str, rank: int, reg: float, seed: int) -> Combination:
    """The method of these settings; its weights are made when it is fitted."""
    scheme = SCHEMES[weights]

    def fit(train: Interactions) -> Fitted:
        source = data.parts if scheme.on_counts else data.plain
        made = None if weights == NONE else scheme.make(source.train)
        return family.fit(Task(train, made, rank, reg, seed))

    return Combination(fit)


def cell_of(kind: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What names a cell: the family or reference, its settings, the power that is the strength, and the seed last."""
    words = {field: value for field, value in settings.items() if field not in ("reg", "seed")}
    seed = {"seed": settings["seed"]} if "seed" in settings else {}
    return {kind: name, **words, "power": power_of(settings["reg"]), **seed}


def references(trials: Trials, plan: GridScale, say: Callable[[str], None]) -> list[Tuned]:
    """What everyone knows: popularity; EDLAE; and iALS as published, with its shrunk targets and a large rank."""
    n_items, rank = trials.data.train.n_items, min(plan.ials_rank, *(size - 1 for size in trials.data.train.shape))
    known: dict[str, tuple[Callable[..., Any], int | None, list[dict[str, Any]]]] = {
        "popularity": (lambda **_: Popularity(), None, [{"rank": n_items, "none": 0.0, "reg": 1.0}]),
        "EDLAE": (
            lambda reg, dropout, **_: Edlae(reg, dropout),
            5,
            [{"rank": n_items, "dropout": dropout} for dropout in (0.1, 0.25, 0.5)],
        ),
        "iALS": (Ials, -5, [{"rank": rank, "unobserved_weight": weight} for weight in (0.03, 0.1, 0.3)]),
    }
    lines = []
    for name, (method, start, values) in known.items():
        key = partial(cell_of, "reference", name)
        found = [trials.tune(name, Contender(method, start, settings=(each,), key=key)) for each in values[: plan.most]]
        lines.append(max(found, key=lambda line: line.validation))
        say(str(lines[-1]))
    return lines
