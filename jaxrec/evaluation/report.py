"""Metrics of a model on held-out users: rankings are streamed in batches, so memory stays bounded."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data import alignment
from jaxrec.data.interactions import Interactions
from jaxrec.data.provenance import trained_on
from jaxrec.data.splits import HeldOut
from jaxrec.evaluation import metrics as _metrics
from jaxrec.evaluation.held_out import Paired, paired
from jaxrec.evaluation.metrics import METRICS, Metric
from jaxrec.evaluation.ranking import recommend_batches
from jaxrec.models import Fitted, Scorer
from jaxrec.runtime.progress import progress_bar


@dataclasses.dataclass(frozen=True)
class Report:
    """What an evaluation found; `str` of it is a table, `to_json` a record.

    Users without targets are in no figure: they were not ranked, and only counted.

    Attributes:
      model: what the model is called.
      mean: the mean over the users with targets, by metric in the order asked for; coverage is no mean, but one figure
        of all rankings.
      standard_error: of each mean: the standard deviation over users (n - 1 in the denominator) over sqrt(n). NaN
        for a single user, and for coverage.
      per_user: [B] values of each metric but coverage, row by row as in the fold-in; NaN for users without targets.
      n_users: n, how many users have targets.
      n_without_targets: how many have none.
      n_unreachable: how many targets also stand in the fold-in, and so are kept out of the ranking as seen; they
        count as missed.
      seconds: wall-clock time of scoring, ranking and metrics.
      n_without_fold_in: how many of the n users have an empty fold-in, so that the model knows nothing of them.
      n_unknown_fold_in: how many entries of the fold-in are of items that the model does not know; they are left out.
      n_unknown_targets: how many targets are; they count as missed.
      n_unknown_users: how many users have targets and no row in the fold-in; they are left out.
      trained_on_these: whether the model was trained on data that hold these targets, or may hold them, as far as the
        splits of both tell; None where they do not.
    """

    model: str
    mean: dict[str, float]
    standard_error: dict[str, float]
    per_user: dict[str, np.ndarray]
    n_users: int
    n_without_targets: int
    n_unreachable: int
    seconds: float
    n_without_fold_in: int = 0
    n_unknown_fold_in: int = 0
    n_unknown_targets: int = 0
    n_unknown_users: int = 0
    trained_on_these: bool | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics, in the order asked for."""
        return tuple(self.mean)

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures should know of the users and targets, a sentence each."""
        counted = {
            "users without targets are left out": self.n_without_targets,
            "users have an empty fold-in, so that what is ranked says nothing of them": self.n_without_fold_in,
            "targets count as missed: they stand in the fold-in, which is excluded": self.n_unreachable,
            "targets count as missed: the model does not know their items": self.n_unknown_targets,
            "entries of the fold-in are left out: the model does not know their items": self.n_unknown_fold_in,
            "users with targets are left out: the fold-in has no row of them": self.n_unknown_users,
        }
        notes = [f"{count:,} {what}" for what, count in counted.items() if count]
        if self.trained_on_these:
            notes.append("this is no test: the model was trained on data that hold these targets, or may hold them")
        return notes

    def __str__(self) -> str:
        width = max(map(len, ("metric", *self.mean)))
        lines = [f"{self.model}: {self.n_users:,} users in {self.seconds:.1f} s", *self.notes]
        lines.append(f"{'metric':<{width}}  {'mean':>8}  std. error")
        for name, mean in self.mean.items():
            error = self.standard_error[name]
            lines.append(f"{name:<{width}}  {mean:8.5f}  {'-' if math.isnan(error) else f'{error:.5f}':>10}")
        return "\n".join(lines)

    @door
    def to_json(self, *, per_user: bool = False) -> str:
        """The report as strictly valid JSON; what is undefined is null.

        Args:
          per_user: include the values of every user.
        """
        record: dict[str, Any] = {
            "model": self.model,
            "metrics": {
                name: {"mean": _defined(mean), "standard_error": _defined(self.standard_error[name])}
                for name, mean in self.mean.items()
            },
            "n_users": self.n_users,
            "n_without_targets": self.n_without_targets,
            "n_unreachable": self.n_unreachable,
            "n_without_fold_in": self.n_without_fold_in,
            "n_unknown_fold_in": self.n_unknown_fold_in,
            "n_unknown_targets": self.n_unknown_targets,
            "n_unknown_users": self.n_unknown_users,
            "trained_on_these": self.trained_on_these,
            "seconds": self.seconds,
        }
        if per_user:
            record["per_user"] = {
                name: [_defined(v) for v in values.tolist()] for name, values in self.per_user.items()
            }
        return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)


@door
def evaluate(
    model: Scorer | Fitted,
    fold_in: Interactions | HeldOut,
    targets: Interactions | None = None,
    metrics: str | Iterable[str | Metric] = ("recall@20", "recall@50", "ndcg@100"),
    *,
    exclude_seen: bool = True,
    batch_size: int | None = None,
    label: str | None = None,
) -> Report:
    """The metrics of a model over the users of `fold_in`, against what `targets` holds of them.

    All items are ranked by score descending, then item index ascending. Users without targets are not ranked.

    Model, fold-in and targets are matched by the ids of items and users, wherever both sides have ids; a warning counts
    what is left out, and so does the report. Where a side has none, its shape must agree. A target whose item the model
    does not know counts as missed.

    Args:
      model: a `Scorer`, or what `fit` returned. One with a catalogue as `items` has ids of items.
      fold_in: B x I histories shown to the model; or a `HeldOut`, which holds the targets too.
      targets: B x I entries to find, of the same users, where not given already. An entry is a target whatever its
        value.
      metrics: names with cut-offs, as in "recall@20,ndcg@100" or a sequence of such.
      exclude_seen: keep the items of the fold-in out of the ranking.
      batch_size: users scored at once; default by memory.
      label: what the report calls the model; default the fitted method, or the class of the model.

    Raises:
      InputError: nothing in common, or shapes differ; no user has targets, none is of an item that the model knows, or
        every target stands in the excluded fold-in.
    """
    wanted = _metrics.parse(metrics)
    if isinstance(fold_in, HeldOut) and targets is None:
        fold_in, targets = fold_in
    elif isinstance(fold_in, HeldOut) or targets is None:
        raise InputError("evaluate takes fold_in and targets, or both in one as a HeldOut, such as split.test.")
    scorer = model.model if isinstance(model, Fitted) else model
    both = paired(alignment.catalogue_of(model), scorer.n_items, fold_in, targets)
    report = evaluate_paired(model, both, wanted, exclude_seen=exclude_seen, batch_size=batch_size, label=label)
    trained = getattr(model.info, "data", None) if isinstance(model, Fitted) else None
    return dataclasses.replace(report, trained_on_these=None if trained is None else trained_on(trained, targets))


def evaluate_paired(
    model: Any,
    both: Paired,
    wanted: tuple[Metric, ...],
    *,
    exclude_seen: bool = True,
    batch_size: int | None = None,
    label: str | None = None,
) -> Report:
    """As `evaluate`, on users who are in the model's numbering already."""
    if isinstance(model, Fitted):
        model, label = model.model, label or str(model.info.method)

    def rankings(users: np.ndarray, shown: Interactions, k: int) -> Iterable[tuple]:
        return recommend_batches(model, shown, k, exclude_seen=exclude_seen, batch_size=batch_size, rows=users)

    return report_on(rankings, label or type(model).__name__, wanted, both, exclude_seen)


def report_on(
    rankings: Callable[[np.ndarray, Interactions, int], Iterable[tuple]],
    label: str,
    wanted: tuple[Metric, ...],
    both: Paired,
    exclude_seen: bool,
) -> Report:
    """The report on the users with targets, whoever ranks the items.

    Args:
      rankings: from the N users with targets, their N x I fold-in and a number of ranks k to batches of (start, items
        [B, k], ...) for consecutive ones of these users.
      label: what the report calls the model.
      wanted: the metrics.
      both: histories shown to the model, and entries to find.
      exclude_seen: whether the items of the fold-in are kept out of the rankings.

    Raises:
      InputError: no user has targets, or every target stands in the excluded fold-in.
    """
    fold_in, targets, n_items = both.fold_in, both.targets, both.fold_in.n_items
    users = np.flatnonzero(targets.user_counts)
    if len(users) == 0:
        raise InputError(f"{targets.name}: no user has targets, so there is nothing to evaluate; check the split.")
    n_rows = fold_in.n_users
    fold_in, targets = fold_in.rows(users), targets.rows(users)
    n_unreachable = _n_shared(fold_in, targets) if exclude_seen else 0
    if n_unreachable == targets.nnz:
        raise InputError("all targets stand in fold_in too; take them out of it, or pass exclude_seen=False.")
    k = min(max(metric.k for metric in wanted), n_items)
    found = report(label, wanted, rankings(users, fold_in, k), targets, users, n_rows, n_items, n_unreachable)
    return dataclasses.replace(
        found,
        n_without_fold_in=int(np.count_nonzero(fold_in.user_counts == 0)),
        n_unknown_fold_in=both.n_unknown_fold_in,
        n_unknown_targets=both.n_unknown_targets,
        n_unknown_users=both.n_unknown_users,
    )


def report(
    label: str,
    wanted: tuple[Metric, ...],
    rankings: Iterable[tuple],
    targets: Interactions,
    users: np.ndarray,
    n_rows: int,
    n_items: int,
    n_unreachable: int = 0,
) -> Report:
    """The report on rankings, which are taken one batch at a time.

    Args:
      label: what the report calls the model.
      wanted: the metrics.
      rankings: yields (start, items [B, k], ...) for consecutive rows of `targets`.
      targets: N x I entries to find, each row with some.
      users: [N] the row in the report of each row of `targets`.
      n_rows: number of rows in the report, users without targets included.
      n_items: I, the number of items that are ranked; targets may be of more.
      n_unreachable: how many targets are kept out of the rankings as seen.
    """
    of_users = {metric: np.full(n_rows, np.nan) for metric in wanted if metric.name in METRICS}
    recommended = {metric: np.zeros(n_items, bool) for metric in wanted if metric.name == "coverage"}
    begun = time.perf_counter()
    with progress_bar("Evaluating", len(users)) as advance:
        for start, items, *_ in rankings:
            rows = np.arange(start, start + len(items))
            found = targets.rows(rows)
            hits = _metrics.hits(items, found)
            for metric, values in of_users.items():
                values[users[rows]] = METRICS[metric.name](hits, found.user_counts, metric.k)
            for metric, seen in recommended.items():
                top = items[:, : metric.k]
                seen[top[top >= 0]] = True
            advance(len(items))

    figures = {
        str(metric): (float(recommended[metric].mean()), math.nan)
        if metric in recommended
        else mean_and_error(of_users[metric][users])
        for metric in wanted
    }
    return Report(
        model=label,
        mean={name: mean for name, (mean, _) in figures.items()},
        standard_error={name: error for name, (_, error) in figures.items()},
        per_user={str(metric): values for metric, values in of_users.items()},
        n_users=len(users),
        n_without_targets=n_rows - len(users),
        n_unreachable=n_unreachable,
        seconds=time.perf_counter() - begun,
    )


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of n values, and its standard error: their standard deviation (n - 1 below) over sqrt(n), NaN if n = 1.

    Both are NaN if there are no values.
    """
    if not len(values):
        return math.nan, math.nan
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def _n_shared(a: Interactions, b: Interactions) -> int:
    """How many (user, item) pairs both hold."""
    n_items = max(a.n_items, b.n_items)
    keys = [data.user_of_entry.astype(np.int64) * n_items + data.indices for data in (a, b)]
    return len(np.intersect1d(*keys, assume_unique=True))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
