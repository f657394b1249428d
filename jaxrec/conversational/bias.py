"""What is recommended to all conversations together: how popular, how many, how alike; and how well for which items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.conversational.protocols import CONDITIONS, Scores, item_lists
from jaxrec.evaluation.metrics import coverage
from jaxrec.evaluation.report import mean_and_error

TOP = 10  # of the most frequent items, whose share is told


@dataclasses.dataclass(frozen=True)
class Exposure:
    """How often each of I items is among the first k of N rankings, and what that comes to.

    Attributes:
      counts: [I] how many rankings have the item.
      k: ranks that count.
      coverage: share of the items that any ranking has.
      gini: 0 if all items are recommended equally often, near 1 if a few are always.
      entropy: of the shares, in nats; log I if all are recommended equally often.
      top_share: of the `TOP` most recommended items in all that is recommended.
      mean_popularity_rank: of all that is recommended, its rank by popularity in the data, 1 for the most popular one;
        items that are equally popular share the mean of their ranks. NaN if no popularity was given.
    """

    counts: np.ndarray
    k: int
    coverage: float
    gini: float
    entropy: float
    top_share: float
    mean_popularity_rank: float

    @property
    def n_distinct(self) -> int:
        """How many items are recommended at all."""
        return int(np.count_nonzero(self.counts))

    def __str__(self) -> str:
        rank = "" if np.isnan(self.mean_popularity_rank) else f", mean popularity rank {self.mean_popularity_rank:,.0f}"
        return (
            f"{self.n_distinct:,} of {len(self.counts):,} items in the top {self.k} ({100 * self.coverage:.1f} %), "
            f"Gini {self.gini:.3f}, entropy {self.entropy:.2f} of {np.log(len(self.counts)):.2f} nats, the first {TOP} "
            f"have {100 * self.top_share:.1f} %{rank}"
        )


def exposure(ranked: Sequence[Any], n_items: int, k: int = 20, popularity: Any = None) -> Exposure:
    """What N rankings recommend together.

    Args:
      ranked: for each sample its items, best first; -1 is no item, and an item counts once in a ranking.
      n_items: I.
      k: ranks that count.
      popularity: [I] how often the data have each item, for the mean rank.

    Raises:
      InputError: something is no item, or one that there is not; a popularity of another number of items.
    """
    _checks.count("n_items", n_items, at_least=1)
    _checks.count("k", k, at_least=1)
    lists = item_lists("ranked", ranked)
    top = np.full((len(lists), min(k, max(map(len, lists), default=0))), -1, np.int64)
    for row, items in enumerate(lists):
        distinct = list(dict.fromkeys(items[:k].tolist()))
        top[row, : len(distinct)] = distinct
    if top.max(initial=-1) >= n_items:
        raise InputError(f"ranked must hold items below n_items = {n_items}, got {top.max()}.")
    counts = np.bincount(top[top >= 0], minlength=n_items)
    largest = np.sort(counts)[::-1]
    total = max(1, int(counts.sum()))
    rank = np.nan
    if popularity is not None:
        known = _checks.array("popularity", popularity)
        if known.shape != (n_items,):
            raise InputError(f"popularity must have one number per item ({n_items}), got shape {known.shape}.")
        rank = float(_popularity_ranks(known) @ counts) / total if counts.any() else np.nan
    return Exposure(
        counts=counts,
        k=k,
        coverage=coverage(top, n_items, k),
        gini=gini(counts),
        entropy=entropy(counts),
        top_share=float(largest[:TOP].sum()) / total,
        mean_popularity_rank=rank,
    )


def gini(counts: Any) -> float:
    """The Gini coefficient of I counts x, rising: sum over i from 1 of (2 i - I - 1) x_i / (I sum of x); 0 if all 0."""
    rising = np.sort(np.asarray(counts, np.float64))
    n, total = len(rising), rising.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ rising / (n * total)) if total else 0.0


def entropy(counts: Any) -> float:
    """The entropy of the shares p of I counts, in nats: minus the sum of p log p; 0 if all are 0."""
    counts = np.asarray(counts, np.float64)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares @ np.log(shares))) + 0.0


def _popularity_ranks(popularity: np.ndarray) -> np.ndarray:
    """[I] from 1 for the most popular item; equal ones share the mean of their ranks."""
    values, place, n_each = np.unique(-popularity, return_inverse=True, return_counts=True)
    del values
    last = np.cumsum(n_each)
    return (last - (n_each - 1) / 2)[place]


def group_recall(
    scores: Scores, groups: Sequence[Any], metric: str = "recall@5", condition: str = "recommendation"
) -> dict[Any, tuple[float, float, int]]:
    """By group of its targets the mean of a metric, its standard error, and how many targets these are.

    Its values' own mean is the macro recall of He et al. (2023): each region counts alike.

    Args:
      scores: by target.
      groups: [I] of each item, such as its country, or what `by_year` makes of years; None is left out.
      metric: with its cut-off.
      condition: as in `scores`.

    Raises:
      InputError: the scores are by sample, or the metric was not measured.
    """
    _checks.one_of("condition", condition, CONDITIONS)
    report = scores.reports[condition]
    _checks.one_of("metric", metric, tuple(report.per_user))
    if scores.target is None:
        raise InputError("group_recall takes scores by target, as per_target makes them, got scores by sample.")
    if scores.target.max(initial=-1) >= len(groups):
        raise InputError(f"groups must have one entry per item, got {len(groups)} for item {scores.target.max()}.")
    values: dict[Any, list[float]] = {}
    for target, value in zip(scores.target, report.per_user[metric], strict=True):
        if target >= 0 and not np.isnan(value) and groups[target] is not None:
            values.setdefault(groups[target], []).append(float(value))
    return {group: (*mean_and_error(np.array(values[group])), len(values[group])) for group in sorted(values)}


def by_year(years: Iterable[int], cut_off: int) -> list[str | None]:
    """[I] "before" for items up to the year of the cut-off, "after" for later ones; None where no year is known (0)."""
    return [None if not year else "before" if year <= cut_off else "after" for year in years]
