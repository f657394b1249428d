"""The two ways of measuring ranked replies: a row for each target, or a row for each sample.

Their figures of the same replies differ. By target a sample with four targets counts four times, each found or not; by
sample it counts once, with the share of the four that is found. Either way the metrics are the core's.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.conversational.replies import repeated
from jaxrec.data.interactions import Interactions
from jaxrec.evaluation import metrics as core
from jaxrec.evaluation.metrics import METRICS, Metric
from jaxrec.evaluation.report import Report, mean_and_error

CONDITIONS = ("recommendation", "discussion", "all")
CUT_OFFS = (1, 5, 10, 20)
DEFAULT = tuple(f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in CUT_OFFS)
Failed = Literal["miss", "leave out"]


@dataclasses.dataclass(frozen=True, eq=False)
class Scores(Mapping[tuple[str, str], tuple[float, float]]):
    """What replies are worth: from a condition and a metric to the mean and its standard error.

    `scores["recommendation", "recall@5"]`. The conditions are "recommendation" (targets that the conversation has not
    named yet), "discussion" (those that it has) and "all". A condition without any target has NaN.

    Attributes:
      protocol: "per_target" or "per_sample".
      reports: by condition, the core's report; its users are the rows.
      sample: [R] the sample of each row.
      n_failed: samples whose request failed.
      failed_as: what became of them: a "miss", or left out.
      n_left_out: samples that are in no figure for another reason, which only `rules="paper"` has.
      target: [R] the item that each row is about, by target; None by sample.
    """

    protocol: str
    reports: dict[str, Report]
    sample: np.ndarray
    n_failed: int = 0
    failed_as: Failed = "miss"
    n_left_out: int = 0
    target: np.ndarray | None = None

    def __getitem__(self, key: tuple[str, str]) -> tuple[float, float]:
        condition, metric = key
        return self.reports[condition].mean[metric], self.reports[condition].standard_error[metric]

    def __iter__(self):
        return ((condition, metric) for condition, report in self.reports.items() for metric in report.mean)

    def __len__(self) -> int:
        return sum(len(report.mean) for report in self.reports.values())

    def count(self, condition: str) -> int:
        """How many rows are in the figures of a condition."""
        return self.reports[condition].n_users

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures should know, a sentence each."""
        notes = []
        if self.n_failed:
            what = "count as misses" if self.failed_as == "miss" else "are left out"
            notes.append(f"{self.n_failed:,} requests failed and {what}")
        if self.n_left_out:
            notes.append(f"{self.n_left_out:,} samples without a ranked item are left out, as the paper's code does")
        return notes

    def __str__(self) -> str:
        rows = "targets" if self.protocol == "per_target" else "samples"
        counts = ", ".join(f"{condition} {self.count(condition):,}" for condition in self.reports)
        names = list(next(iter(self.reports.values())).mean)
        width = max(map(len, names))
        lines = [f"{self.protocol}, {rows}: {counts}", *self.notes]
        lines.append(" " * width + "".join(f"  {condition:>20}" for condition in self.reports))
        for name in names:
            cells = ("{:.4f} +- {:.4f}".format(*self[condition, name]) for condition in self.reports)
            lines.append(f"{name:<{width}}" + "".join(f"  {cell:>20}" for cell in cells))
        return "\n".join(lines)


def per_target(
    ranked: Sequence[Any],
    targets: Sequence[Any],
    seen: Sequence[Any],
    metrics: str | Iterable[str | Metric] = DEFAULT,
    *,
    exclude_seen: bool = False,
    failed: Any = None,
    failed_as: Failed = "miss",
    label: str = "replies",
) -> Scores:
    """The figures of a row for each target, as of He et al. (2023, arXiv 2308.10053).

    At the 0-based position p of a target: recall@k is 1 if p < k, ndcg@k is 1 / log2(p + 2), mrr@k is 1 / (p + 1).

    Args:
      ranked: for each of N samples its items, best first. -1 is a rank without an item; an item that stands there again
        leaves its rank empty.
      targets: for each sample its items to find, at least one. One that is none of the catalogue is -1, or another
        number below 0 if it may be seen: it is missed. One that stands there twice counts twice.
      seen: for each sample the items that its context names.
      metrics: names with cut-offs.
      exclude_seen: take the items seen out of the rankings, so that those behind move up.
      failed: [N] bool, whether the request of a sample failed; None if none did.
      failed_as: "miss" counts these as rankings without items; "leave out" keeps them out of the figures.
      label: what the reports call it.

    Raises:
      InputError: lengths differ, a sample has no targets, or something is no item.
    """
    rows = _Rows(ranked, targets, seen, exclude_seen, failed, failed_as)
    n_each = [len(items) for items in rows.targets]
    sample = np.repeat(np.arange(len(n_each)), n_each)
    target = np.concatenate(rows.targets)
    new = ~np.concatenate([_among(items, old) for items, old in zip(rows.targets, rows.seen, strict=True)])
    wanted = _metrics(metrics)
    begun = time.perf_counter()
    values = _values(wanted, [rows.ranked[each] for each in sample], list(target[:, None]))
    values = _without(values, rows.left_out[sample])
    by_condition = {"recommendation": new, "discussion": ~new, "all": np.ones(len(sample), bool)}
    reports = {name: _report(label, values, rows_in, begun) for name, rows_in in by_condition.items()}
    return Scores("per_target", reports, sample, rows.n_failed, failed_as, target=target)


def per_sample(
    ranked: Sequence[Any],
    targets: Sequence[Any],
    seen: Sequence[Any],
    metrics: str | Iterable[str | Metric] = DEFAULT,
    *,
    exclude_seen: bool = True,
    rules: Literal["strict", "paper"] = "strict",
    failed: Any = None,
    failed_as: Failed = "miss",
    label: str = "replies",
) -> Scores:
    """The figures of a row for each sample, as of CRAG (arXiv 2502.14137) and Rank-GRPO (arXiv 2510.20150).

    The targets of a sample are those of the condition; a sample without any is in no figure of it. recall@k is the
    share of them in the top k, ndcg@k the discounted gain over its ideal.

    Args:
      ranked: as for `per_target`.
      targets: as for `per_target`, but each counts once.
      seen: as for `per_target`.
      metrics: names with cut-offs.
      exclude_seen: take the items seen out of the rankings. Where they stay, "recommendation" still counts new ones.
      rules: "strict" counts an empty ranking as a miss, and the ideal has all targets that k ranks allow. "paper" is
        what CRAG's code does: a sample without a ranked item is left out, failed or not, which lifts the mean, and the
        ideal has no more targets than the ranking has items.
      failed: as for `per_target`.
      failed_as: as for `per_target`.
      label: what the reports call it.

    Raises:
      InputError: as for `per_target`.
    """
    _checks.one_of("rules", rules, ("strict", "paper"))
    rows = _Rows(ranked, targets, seen, exclude_seen, failed, failed_as)
    rows.targets = [items[~repeated(items)] for items in rows.targets]
    empty = np.array([rules == "paper" and not len(items) for items in rows.ranked], bool)
    wanted, begun = _metrics(metrics), time.perf_counter()
    reports = {}
    for condition in CONDITIONS:
        wants = [
            items if condition == "all" else items[_among(items, old) == (condition == "discussion")]
            for items, old in zip(rows.targets, rows.seen, strict=True)
        ]
        values = _without(_values(wanted, rows.ranked, wants, short=rules == "paper"), rows.left_out | empty)
        reports[condition] = _report(label, values, np.array([len(items) > 0 for items in wants], bool), begun)
    n_left_out = int(np.count_nonzero(empty & ~rows.left_out))
    return Scores("per_sample", reports, np.arange(len(empty)), rows.n_failed, failed_as, n_left_out)


PROTOCOLS = {"per_target": per_target, "per_sample": per_sample}


class _Rows:
    """N samples in numbers, checked, with the items seen taken out of the rankings if they are to be."""

    def __init__(self, ranked: Any, targets: Any, seen: Any, exclude_seen: bool, failed: Any, failed_as: str):
        _checks.one_of("failed_as", failed_as, ("miss", "leave out"))
        self.ranked, self.targets, self.seen = (
            item_lists(name, given) for name, given in {"ranked": ranked, "targets": targets, "seen": seen}.items()
        )
        n = len(self.targets)
        if not n or not len(self.ranked) == len(self.seen) == n:
            raise InputError(
                f"ranked, targets and seen must have an entry for each sample, got {len(self.ranked)}, {n} and "
                f"{len(self.seen)}."
            )
        bare = [place for place, items in enumerate(self.targets) if not len(items)]
        if bare:
            raise InputError(f"{len(bare)} samples have no targets, the first is number {bare[0]}; leave them out.")
        self.failed = np.zeros(n, bool) if failed is None else _checks.array("failed", failed)
        if self.failed.shape != (n,) or self.failed.dtype != bool:
            raise InputError(f"failed must be {n} truth values, got {self.failed.dtype} of {self.failed.shape}.")
        self.n_failed = int(self.failed.sum())
        self.left_out = self.failed & (failed_as == "leave out")
        self.ranked = [
            _ranking(items, old if exclude_seen else old[:0], no)
            for items, old, no in zip(self.ranked, self.seen, self.failed, strict=True)
        ]


def item_lists(name: str, given: Any) -> list[np.ndarray]:
    """What is given as the items of each sample, int64.

    Raises:
      InputError: it is no list of lists of whole numbers.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{name} must be a list of items for each sample, got {_checks.briefly(given)}.")
    lists = []
    for place, each in enumerate(given):
        items = _checks.array(f"{name} of sample {place}", each)
        if items.ndim != 1 or (items.size and items.dtype.kind not in "iu"):
            raise InputError(f"{name} of sample {place} must be indices of items, got {_checks.briefly(each)}.")
        lists.append(items.astype(np.int64))
    return lists


def _ranking(items: np.ndarray, out: np.ndarray, failed: bool) -> np.ndarray:
    """A ranking without the items that are to be out; ranks of items that stood further to the front are empty."""
    kept = items[:0] if failed else items[~_among(items, out)]
    return np.where(repeated(kept), -1, kept)


def _among(items: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[K] bool: whether an item is among others; -1, which may be any, never is."""
    return np.isin(items, others) & (items != -1)


def _metrics(metrics: str | Iterable[str | Metric]) -> tuple[Metric, ...]:
    wanted = core.parse(metrics)
    for metric in wanted:
        if metric.name not in METRICS:
            raise InputError(f"{metric} is no figure of one row; ask jaxrec.conversational.bias for it.")
    return wanted


def _values(
    wanted: Sequence[Metric], ranked: Sequence[np.ndarray], targets: Sequence[np.ndarray], short: bool = False
) -> dict[str, np.ndarray]:
    """By metric its [R] values; NaN for a row without targets.

    Args:
      wanted: the metrics.
      ranked: R rankings.
      targets: R sets of items; one below 0 is missed.
      short: whether the ideal of ndcg has no more targets than the ranking has items.
    """
    most = max(metric.k for metric in wanted)
    lengths = np.array([len(items) for items in ranked], np.int64)
    top = np.full((len(ranked), min(most, int(lengths.max(initial=0)))), -1, np.int64)
    for row, items in enumerate(ranked):
        top[row, : len(items)] = items[: top.shape[1]]
    n_targets = np.array([len(items) for items in targets], np.int64)
    known = [items[items >= 0] for items in targets]
    rows = np.repeat(np.arange(len(known)), [len(items) for items in known])
    entries = np.concatenate([*known, np.empty(0, np.int64)])
    n_items = 1 + int(max(top.max(initial=0), entries.max(initial=0)))
    wants = Interactions.from_triples(rows, entries, n_users=len(targets), n_items=n_items)
    hits = core.hits(top, wants)
    ideal = {"ndcg": np.minimum(n_targets, lengths)} if short else {}
    values = {}
    for metric in wanted:
        found = METRICS[metric.name](hits, ideal.get(metric.name, n_targets), metric.k)
        values[str(metric)] = np.where(n_targets > 0, np.nan_to_num(found), np.nan)
    return values


def _without(values: dict[str, np.ndarray], left_out: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.where(left_out, np.nan, each) for name, each in values.items()}


def _report(label: str, values: dict[str, np.ndarray], chosen: np.ndarray, begun: float) -> Report:
    """The core's report on some of the rows."""
    of_rows = {name: np.where(chosen, each, np.nan) for name, each in values.items()}
    there = ~np.isnan(next(iter(of_rows.values())))
    figures = {name: mean_and_error(each[there]) for name, each in of_rows.items()}
    return Report(
        model=label,
        mean={name: mean for name, (mean, _) in figures.items()},
        standard_error={name: error for name, (_, error) in figures.items()},
        per_user=of_rows,
        n_users=int(there.sum()),
        n_without_targets=int((~chosen).sum()),
        n_unreachable=0,
        seconds=time.perf_counter() - begun,
    )
