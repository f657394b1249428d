"""Made-up interactions with the shape of real ones: few popular items, few busy users, tastes in clusters."""

from __future__ import annotations

import numpy as np

from jaxrec import _checks
from jaxrec.data.interactions import Interactions

POPULARITY_EXPONENT = 1.0
POPULARITY_OFFSET = 0.01  # of the number of items: flattens the head, as in real catalogues
LOG_LENGTH_SPREAD = 1.1  # the median history is exp(-1.1^2 / 2), or 0.55, of the mean


def synthetic(
    n_users: int, n_items: int, *, n_clusters: int = 40, mean_history: float = 55.0, seed: int = 0
) -> Interactions:
    """Made-up interactions of `n_users` and `n_items`, all with value 1; the same for the same arguments.

    Every user and every item belongs to one of `n_clusters`. A user's history has a log-normal length and is drawn
    without replacement; an item's chance is its popularity, which falls with its rank as a power law, and
    1 + n_clusters times as great within the user's own cluster. So about half of a history is taste, half fashion.

    Args:
      n_users: U.
      n_items: I.
      n_clusters: number of tastes.
      mean_history: mean items a user; each history has at least 1 and at most I / 2 items.
      seed: of the NumPy generator.
    """
    for name, value in {"n_users": n_users, "n_items": n_items, "n_clusters": n_clusters}.items():
        _checks.count(name, value, at_least=1)
    _checks.positive("mean_history", mean_history)
    rng = np.random.default_rng(seed)
    popularity = (np.arange(n_items) + 1 + POPULARITY_OFFSET * n_items) ** -POPULARITY_EXPONENT
    rng.shuffle(popularity)
    item_cluster, user_cluster = rng.integers(n_clusters, size=n_items), rng.integers(n_clusters, size=n_users)
    log_mean = np.log(mean_history) - LOG_LENGTH_SPREAD**2 / 2
    lengths = np.rint(rng.lognormal(log_mean, LOG_LENGTH_SPREAD, n_users)).astype(np.int64)
    lengths = np.clip(lengths, 1, max(1, n_items // 2))

    # Drawing with replacement and passing over what a user already has is drawing without replacement.
    chances = [np.cumsum(popularity * (1 + n_clusters * (item_cluster == c))) for c in range(n_clusters)]
    pairs = np.zeros(0, np.int64)
    short = lengths
    while short.any():
        users = np.repeat(np.arange(n_users), short + short // 4 + 2 * (short > 0))
        pairs = np.concatenate([pairs, users * n_items + _draw(rng, chances, user_cluster[users])])
        pairs = pairs[np.sort(np.unique(pairs, return_index=True)[1])]
        pairs = _first_of_each(pairs, pairs // n_items, lengths)
        short = lengths - np.bincount(pairs // n_items, minlength=n_users)
    return Interactions.from_triples(
        pairs // n_items, pairs % n_items, n_users=n_users, n_items=n_items, name=f"synthetic-{n_users}x{n_items}"
    )


def _draw(rng: np.random.Generator, chances: list[np.ndarray], cluster: np.ndarray) -> np.ndarray:
    """[N] an item for every entry of `cluster`, by the cumulated chances of that cluster."""
    uniform = rng.random(len(cluster))
    items = np.empty(len(cluster), np.int64)
    by_cluster = np.argsort(cluster, kind="stable")
    bounds = np.searchsorted(cluster[by_cluster], np.arange(len(chances) + 1))
    for cumulated, start, stop in zip(chances, bounds, bounds[1:], strict=False):
        chosen = by_cluster[start:stop]
        found = np.searchsorted(cumulated, uniform[chosen] * cumulated[-1], side="right")
        items[chosen] = np.minimum(found, len(cumulated) - 1)
    return items


def _first_of_each(pairs: np.ndarray, users: np.ndarray, at_most: np.ndarray) -> np.ndarray:
    """The first `at_most[u]` pairs of every user u, by user."""
    by_user = np.argsort(users, kind="stable")
    starts = np.searchsorted(users[by_user], np.arange(len(at_most)))
    rank = np.arange(len(pairs)) - np.repeat(starts, np.bincount(users, minlength=len(at_most)))
    return pairs[by_user[rank < at_most[users[by_user]]]]
