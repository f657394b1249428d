"""Ranking metrics: pure functions of which ranks hit a target and how many targets there were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data.interactions import Interactions

Hits = Bool[np.ndarray, "B K"]
Counts = Integer[np.ndarray, " B"]
PerUser = Float[np.ndarray, " B"]


def hits(top_items: Integer[np.ndarray, "B K"], targets: Interactions) -> Hits:
    """[B, K] bool: whether the item at each rank is among the targets of the user.

    Every entry of `targets` is a target, whatever its value.

    Args:
      top_items: [B, K] item indices, best first, no item twice; -1 stands for no item and hits nothing.
      targets: B x I, row b for row b.
    """
    if len(top_items) != targets.n_users:
        raise InputError(f"targets must have one row per ranking ({len(top_items)}), got {targets.n_users} rows.")
    if top_items.max(initial=-1) >= targets.n_items:
        raise InputError(f"top_items must be below n_items = {targets.n_items}, got {top_items.max()}.")
    if targets.nnz == 0:
        return np.zeros(top_items.shape, bool)
    # One sorted array of keys row * I + item: a search in it serves all users at once.
    keys = np.sort(targets.user_of_entry.astype(np.int64) * targets.n_items + targets.indices)
    wanted = np.arange(len(top_items))[:, None] * targets.n_items + top_items
    found = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)]
    return (found == wanted) & (top_items >= 0)


def recall(hits: Hits, n_targets: Counts, k: int) -> PerUser:
    """[B] share of the targets that stand in the top k: hits / n. NaN where a user has no targets."""
    return _ratio(hits[:, :k].sum(1), n_targets)


def calibrated_recall(hits: Hits, n_targets: Counts, k: int) -> PerUser:
    """[B] share of the hits that k ranks allow: hits / min(k, n), the "Recall@k" of Mult-VAE and EASE; NaN if n = 0."""
    return _ratio(hits[:, :k].sum(1), np.minimum(n_targets, k))


def ndcg(hits: Hits, n_targets: Counts, k: int) -> PerUser:
    """[B] sum of 1 / log2(rank + 1) over the hits, divided by its ideal: hits at the first min(k, n) ranks.

    NaN if n = 0.
    """
    discounts = 1 / np.log2(np.arange(2, max(k, hits.shape[1]) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts[:k])])
    return _ratio(hits[:, :k] @ discounts[: hits[:, :k].shape[1]], ideal[np.minimum(n_targets, k)])


def precision(hits: Hits, n_targets: Counts, k: int) -> PerUser:
    """[B] share of the k ranks that hit: hits / k, also where fewer items were ranked; NaN if n = 0."""
    return _where_targets(hits[:, :k].sum(1) / k, n_targets)


def hit_rate(hits: Hits, n_targets: Counts, k: int) -> PerUser:
    """[B] 1 if any of the k ranks hits, else 0; NaN if n = 0."""
    return _where_targets(np.max(hits[:, :k], axis=1, initial=False), n_targets)


def mrr(hits: Hits, n_targets: Counts, k: int) -> PerUser:
    """[B] 1 / rank of the first hit among the k ranks, 0 without one; NaN if n = 0."""
    top = hits[:, :k]
    return _where_targets(np.max(top / np.arange(1, top.shape[1] + 1), axis=1, initial=0), n_targets)


def average_precision(hits: Hits, n_targets: Counts, k: int) -> PerUser:
    """[B] sum over the hits of the precision at their rank, divided by min(k, n); NaN if n = 0."""
    top = hits[:, :k]
    precisions = np.cumsum(top, 1) / np.arange(1, top.shape[1] + 1)
    return _ratio((precisions * top).sum(1), np.minimum(n_targets, k))


def coverage(top_items: Integer[np.ndarray, "B K"], n_items: int, k: int) -> float:
    """The share of the catalogue that stands in the top k of at least one user; -1 stands for no item."""
    top = top_items[:, :k]
    return len(np.unique(top[top >= 0])) / n_items


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "recall": recall,
    "calibrated_recall": calibrated_recall,
    "ndcg": ndcg,
    "precision": precision,
    "hit_rate": hit_rate,
    "mrr": mrr,
    "map": average_precision,
}
NAMES = (*METRICS, "coverage")  # coverage is of all rankings together, not the mean of a figure per user


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric at a cut-off, written `name@k`.

    Attributes:
      name: one of `NAMES`.
      k: how many ranks count, at least 1.
    """

    name: str
    k: int

    def __post_init__(self):
        _checks.one_of("metric", self.name, NAMES)
        _checks.count(f"the cut-off of {self.name}", self.k, at_least=1)

    def __str__(self) -> str:
        return f"{self.name}@{self.k}"


def parse(metrics: str | Metric | Iterable[str | Metric]) -> tuple[Metric, ...]:
    """The metrics named in a text such as "recall@20,ndcg@100", or in a sequence; each once, in the order given.

    Raises:
      InputError: for an unknown name (with the known ones), a missing or bad cut-off, or no metric at all.
    """
    if isinstance(metrics, Metric):
        return (metrics,)
    if not isinstance(metrics, str | Iterable):
        raise InputError(
            f"metrics must be names with cut-offs, such as 'recall@20,ndcg@100', got {_checks.shown(metrics)}."
        )
    words = metrics.split(",") if isinstance(metrics, str) else list(metrics)
    parsed = tuple(dict.fromkeys(word if isinstance(word, Metric) else _parse_one(word) for word in words))
    if not parsed:
        raise InputError("metrics must name at least one metric, such as recall@20, got none.")
    return parsed


def _parse_one(text: Any) -> Metric:
    if not isinstance(text, str):
        raise InputError(f"a metric must be a name with its cut-off, such as recall@20, got {_checks.shown(text)}.")
    name, _, k = text.strip().partition("@")
    _checks.one_of("metric", name, NAMES)
    if not k.removeprefix("-").isdecimal():
        raise InputError(f"a metric needs a whole number as cut-off, such as {name}@20, got {_checks.shown(text)}.")
    return Metric(name, int(k))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """[B] the quotient; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _where_targets(values: np.ndarray, n_targets: np.ndarray) -> np.ndarray:
    return np.where(n_targets > 0, values, np.nan)
