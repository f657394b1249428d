"""Choosing and measuring: contenders, each tuned by a walk over its strength, whose every fit is kept in a cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from jaxrec.data.splits import HeldOut, Split
from jaxrec.experiments.harness.cells import Cells, climb
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.fits import cached, fit_and_measure, fit_within, stops_early

STEP = math.sqrt(10)  # between the strengths that a walk tries
POPULAR_ITEMS = 10_000  # that strengths of models with a cubic cost are chosen on, if there are more
STOPPING_USERS = 5000  # at most, that a training is stopped by if a data set has no validation users


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """What an experiment tries at one of its scales; an experiment adds what else it varies.

    Attributes:
      most: strengths tried in a walk, and settings of a contender, at most.
      budget: rough seconds that a single fit may take by its plan; what takes more is left out.
      ranks: of the models that have one.
      dropouts: of the models that have one.
    """

    most: int
    budget: float = math.inf
    ranks: tuple[int, ...] = ()
    dropouts: tuple[float, ...] = ()


def power_of(strength: float) -> int:
    """The number of a walk over powers of sqrt(10) at which it came to this strength."""
    return round(math.log(strength, STEP))


def options(field: str, *values: Any) -> tuple[dict[str, Any], ...]:
    """The settings of a contender that differ in one field."""
    return tuple({field: value} for value in values)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A method and the settings to choose from.

    Attributes:
      make_method: the method, from its settings by name.
      start: the number that the walk over strengths begins with; None if there is no strength.
      field: the setting that is walked over.
      strength: the value for a number of the walk; a power of sqrt(10) if nothing else is said.
      settings: other settings, each with a walk of its own, which begins where the walk before it ended.
      first_variant: if the settings are in an order, the place from which they are walked over, uphill; None tries all.
      on_popular: whether the most popular items alone tell what is best, if a data set has many and no validation
        users: for models whose cost is cubic in the items, of which a walk would take hours.
      seeds: how often the choice is fitted, with another `seed` in its settings each time.
      key: the name of a cell, from settings; None takes the name of the contender and the settings.
    """

    make_method: Callable[..., Any]
    start: int | None = None
    field: str = "reg"
    strength: Callable[[int], Any] = lambda number: STEP**number
    settings: tuple[dict[str, Any], ...] = ({},)
    first_variant: int | None = None
    on_popular: bool = False
    seeds: int = 1
    key: Callable[[dict[str, Any]], dict[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A contender at the settings that were best on held-out data, and what it does on test users.

    Attributes:
      name: what a table calls it.
      settings: the settings that were chosen.
      method: what was made of them.
      runs: a cell for each seed.
      tried: how many settings it was chosen from.
      tuning_seconds: of all fits that it was chosen by.
    """

    name: str
    settings: dict[str, Any]
    method: Any
    runs: tuple[dict[str, Any], ...]
    tried: int = 1
    tuning_seconds: float = 0.0

    @property
    def result(self) -> dict[str, Any]:
        """The cell of the first seed, by which everything is chosen."""
        return self.runs[0]

    @property
    def fitted(self) -> list[dict[str, Any]]:
        """The cells that did not fail."""
        return [run for run in self.runs if not run["failed"]]

    @property
    def validation(self) -> float:
        """The metric on validation users; -inf if the fit failed."""
        return -math.inf if self.result["failed"] else self.result["validation"]

    @property
    def seconds(self) -> float:
        """Seconds of a fit: the median over seeds."""
        return float(np.median([run["seconds"] for run in self.fitted]))

    def test(self, metric: str) -> tuple[float, float]:
        """The mean over seeds on test users, and its standard error over users, of a single seed; NaN if all failed."""
        return over_seeds(self.fitted, metric)

    @property
    def described(self) -> str:
        """The settings in words, and where a training was stopped: that too was chosen."""
        texts = [f"{key} {_number(value)}" for key, value in self.settings.items()]
        if "best_epoch" in self.result:
            texts.append(f"epoch {self.result['best_epoch']} of {self.result['detail']['epochs']:.0f}")
        return ", ".join(texts) or "-"

    def __str__(self) -> str:
        if not self.fitted:
            return f"{self.name} ({self.described}): failed ({self.result['failed']})"
        metric = next(iter(self.fitted[0]["test"]))
        return f"{self.name} ({self.described}): {metric} {self.test(metric)[0]:.4f}, a fit {self.seconds:.1f} s"


def over_seeds(runs: Sequence[dict[str, Any]], metric: str) -> tuple[float, float]:
    """The mean of a test metric over cells that did not fail, and the standard error of the first; NaN without any."""
    values = [run["test"][metric] for run in runs]
    return (float(np.mean([mean for mean, _ in values])), values[0][1]) if values else (math.nan, math.nan)


def _number(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:{',' if isinstance(value, int) else '.3g'}}"


class Trials:
    """Contenders tuned on what a data set holds out for that, and measured on its test users.

    If the data have validation users one fit serves both. If they have none (a fixed split), settings are chosen
    by the first metric on a tenth of the training interactions, and the choice is fitted once more on all of them. A
    training that stops early lacks the tenth of some users only, by which it is stopped and chosen; it is not repeated.
    Contenders that are `on_popular` are chosen on the `POPULAR_ITEMS` items with the most interactions. For EASE these
    pick the same strengths as all items do, on Amazon-Book and on Amazon Home and Kitchen, in a tenth of the time (both
    ways are in benchmarks/results/cells); for others that was not tried.

    Attributes:
      data: the data set.
      cells: where results are kept.
      scale: how many settings are tried, and what a fit may cost.
      say: told every contender that was tuned.
      also: what else to record, from a fit.
      keep_users: whether the first metric is recorded for every test user.
      parts: what is learned from and measured on; None is the data with all values 1.
    """

    def __init__(
        self,
        data: Prepared,
        cells: Cells,
        scale: Scale,
        say: Callable[[str], None] = lambda line: None,
        *,
        also: Callable[[Any], dict[str, Any]] | None = None,
        keep_users: bool = False,
        parts: Split | None = None,
    ):
        self.data, self.cells, self.scale, self.say, self.also, self.keep_users = (
            data,
            cells,
            scale,
            say,
            also,
            keep_users,
        )
        self.parts, self.tuning, self.metrics = parts or data.plain, data.tuning, data.source.metrics
        self.spent: dict[str, float] = {}  # seconds of every fit that the choice at hand is made by

    def final(self, settings: dict[str, Any], method: Any) -> dict[str, Any]:
        """The cell of a method learned from all training data, but for what a training is stopped by."""
        parts = self.parts if self.stopping is None or not stops_early(method) else self.stopping
        return self._measured(settings, method, parts, self.metrics)

    def held_out(self, settings: dict[str, Any], method: Any, on_popular: bool = False) -> float:
        """The first metric on what is held out for choosing, of popular items or all; -inf if the fit failed."""
        result = self._for_choosing(settings, method, on_popular)
        if result["failed"]:
            return -math.inf
        return result["validation"] if "validation" in result else result["test"][self.metrics[0]][0]

    def tune(self, name: str, contender: Contender) -> Tuned:
        """The best of a contender."""
        variants, found, number = contender.settings, [], contender.start
        key = contender.key or (lambda settings: {"line": name, **settings})
        self.spent = {}

        def value(settings: dict[str, Any]) -> float:
            """The first metric on held-out data; -inf for a rank that the data do not have."""
            method = contender.make_method(**settings)
            if getattr(method, "rank", 1) > min(self.parts.train.shape):
                return -math.inf
            return self.held_out(key(settings), method, contender.on_popular)

        def best_of(which: int) -> float:
            """The first metric of a variant at its best strength."""
            nonlocal number
            if not 0 <= which < len(variants):
                return -math.inf

            def at(number: int | None) -> dict[str, Any]:
                walked = {} if number is None else {contender.field: contender.strength(number)}
                return walked | variants[which]

            if number is not None:
                number = climb(lambda number: value(at(number)), number, self.scale.most)
            settings = at(number)
            found.append((value(settings) if len(variants) > 1 else 0.0, settings))
            return found[-1][0]

        if contender.first_variant is not None:
            climb(best_of, contender.first_variant, self.scale.most)
        else:
            for which in range(min(len(variants), self.scale.most)):
                best_of(which)
        settings = max(found, key=lambda each: each[0])[1]
        tried, seconds = max(1, len(self.spent)), sum(self.spent.values())
        again = [settings, *(settings | {"seed": seed} for seed in range(1, contender.seeds))]
        runs = tuple(self.final(key(each), contender.make_method(**each)) for each in again)
        tuned = Tuned(name, settings, contender.make_method(**settings), runs, tried, seconds)
        self.say(str(tuned))
        return tuned

    def _for_choosing(self, settings: dict[str, Any], method: Any, on_popular: bool) -> dict[str, Any]:
        """The cell of a method by which settings are chosen."""
        if self.tuning is None or stops_early(method):
            result = self.final(settings, method)
        else:
            parts, learned = self.tuning, {"learned": "nine tenths"}
            if on_popular and self.popular is not None:
                parts, learned = self.popular, learned | {"items": POPULAR_ITEMS}
            result = self._measured(settings | learned, method, parts, self.metrics[:1])
        if math.isfinite(result["seconds"]):  # else it was left out
            self.spent[str(settings)] = result["seconds"]
        return result

    def described(self, contenders: dict[str, Contender]) -> str:
        """How the settings of these are chosen, in words."""
        popular = [] if self.popular is None else [name for name, each in contenders.items() if each.on_popular]
        if not popular:
            return "Settings chosen on held-out data"
        names = " and ".join(popular)
        return f"Settings chosen on held-out data, those of {names} by the {POPULAR_ITEMS:,} most popular items alone"

    @cached_property
    def popular(self) -> Split | None:
        """What is held out for choosing, of the most popular items alone; None if there are no others."""
        if self.tuning is None or self.parts.train.n_items <= POPULAR_ITEMS:
            return None
        train, test, _ = self.tuning
        items = np.sort(np.argsort(-train.item_counts, kind="stable")[:POPULAR_ITEMS])
        return Split(train.select_items(items), HeldOut(*(part.select_items(items) for part in test)), None)

    @cached_property
    def stopping(self) -> Split | None:
        """What trainings are given that stop early: some users, without whose tenth they train, are their validation.

        None if the data have validation users.
        """
        if self.tuning is None:
            return None
        train, (fold_in, targets) = self.parts.train, self.tuning.test
        users = np.flatnonzero(targets.user_counts)
        if len(users) > STOPPING_USERS:
            users = np.sort(np.random.default_rng(0).choice(users, STOPPING_USERS, replace=False))
        chosen = np.isin(targets.user_of_entry, users)
        cells, held_out = (
            each.user_of_entry.astype(np.int64) * each.n_items + each.indices for each in (train, targets)
        )
        learned = train.keep(~np.isin(cells, held_out[chosen]))
        return Split(learned, self.parts.test, HeldOut(fold_in.rows(users), targets.rows(users)))

    def _measured(self, settings: Any, method: Any, parts: Split, metrics: Sequence[str]) -> dict[str, Any]:
        # Where a part is learned from, the whole must be affordable too: else there is nothing to choose for.
        fit = partial(fit_within, method, parts, self.scale.budget, self.parts.train)
        compute = partial(fit_and_measure, fit, parts, metrics, self.also, keep_users=self.keep_users)
        return cached(self.cells, settings, compute)
