"""Made-up interactions with the shape of real ones: few popular items, few busy users, tastes in clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxrec import _checks
from jaxrec._checks.doors import door
from jaxrec.data.interactions import Interactions
from jaxrec.runtime.memory import require_memory

POPULARITY_EXPONENT = 1.0
POPULARITY_OFFSET = 0.01  # of the number of items: flattens the head, as in real catalogues
LOG_LENGTH_SPREAD = 1.1  # the median history is exp(-1.1^2 / 2), or 0.55, of the mean
USERS_AT_ONCE = 1024


@door
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
    _checks.count("seed", seed)
    size = 8 * n_items * (n_clusters + 4) + 64 * n_users * (1 + min(mean_history, n_items / 2))
    require_memory(int(size), f"{n_users:,} made-up users of {n_items:,} items")
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


class Clusters(NamedTuple):
    """What `simulate_clusters` made: the data, and [I] the cluster of each item, ascending."""

    data: Interactions
    item_clusters: np.ndarray


def simulate_clusters(
    n_users: int = 20_000,
    n_items: int = 1_000,
    n_clusters: int = 5,
    *,
    item_exponents: tuple[float, float] = (0.25, 1.5),
    user_exponent: float = 0.5,
    longest_history: int | None = None,
    seed: int = 0,
) -> Clusters:
    """Made-up interactions in which the similarity of items is known: they belong to clusters.

    In the manner of the simulation of Steck, Ekanadham & Kallus (2024), with our own reading of its power laws. Each
    item is in one cluster, drawn at random. The popularity of the r-th item of a cluster is r^-b, b drawn for each
    cluster. A user's liking of each cluster and the length of the history are drawn from densities x^-c on (0, 1], the
    latter times the longest history. The history is drawn without replacement, with chances liking x popularity.

    Args:
      n_users: U.
      n_items: I.
      n_clusters: number of clusters; all have items if there are enough.
      item_exponents: between which each cluster's b is drawn.
      user_exponent: c, in [0, 1).
      longest_history: at most I; default I / 4.
      seed: of the NumPy generator.

    Returns:
      Clusters(data, item_clusters). Items are numbered by cluster and, within one, by falling popularity, so that a
      similarity that finds the clusters shows as blocks along the diagonal.

    Cost: U I random numbers, about a thousand users at a time.
    """
    for name, value in {"n_users": n_users, "n_items": n_items, "n_clusters": n_clusters}.items():
        _checks.count(name, value, at_least=1)
    longest = max(1, n_items // 4) if longest_history is None else longest_history
    _checks.count("longest_history", longest, at_least=1)
    if longest > n_items:
        raise _checks.InputError(f"longest_history must be at most n_items, {n_items}, got {longest}.")
    _checks.between("user_exponent", user_exponent, "[)")
    _checks.count("seed", seed)
    rng = np.random.default_rng(seed)
    clusters = np.sort(np.concatenate([np.arange(n_clusters), rng.integers(n_clusters, size=n_items)])[:n_items])
    exponents = rng.uniform(*item_exponents, n_clusters)
    rank = np.arange(n_items) - np.searchsorted(clusters, clusters) + 1
    log_popularity = -exponents[clusters] * np.log(rank)
    power = 1 / (1 - user_exponent)
    lengths = np.ceil(longest * rng.random(n_users) ** power).astype(np.int64).clip(1, longest)
    users, items = [], []
    for start in range(0, n_users, USERS_AT_ONCE):
        length = lengths[start : start + USERS_AT_ONCE]
        liking = power * np.log1p(-rng.random((len(length), n_clusters)))
        # The largest sums of log chance and Gumbel noise are a draw without replacement.
        noisy = liking[:, clusters] + log_popularity - np.log(rng.standard_exponential((len(length), n_items)))
        order = np.argsort(-noisy, axis=1)
        row, column = np.nonzero(np.arange(n_items) < length[:, None])
        users.append(start + row)
        items.append(order[row, column])
    data = Interactions.from_triples(
        np.concatenate(users),
        np.concatenate(items),
        n_users=n_users,
        n_items=n_items,
        name=f"clusters-{n_users}x{n_items}",
    )
    return Clusters(data, clusters)
