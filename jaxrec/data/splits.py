"""What is learned from and what is ranked: the splits of the literature, each by its exact rule."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data.interactions import Interactions
from jaxrec.data.provenance import recorded

PUBLISHED_SEED = 98765  # the seed of the Mult-VAE code, kept by EASE and those who compare with it
STRONG_FROM_USERS = 1000  # "auto" takes strong generalization from here on: at least 100 users to test on


class HeldOut(NamedTuple):
    """Users to evaluate on: what the model is shown of them, and what it should find.

    Attributes:
      fold_in: B x I histories shown to the model.
      targets: B x I entries to find; the same users in the same rows, the same items. What uses both matches them by
        ids, if they have any.
    """

    fold_in: Interactions
    targets: Interactions


class Split(NamedTuple):
    """A data set divided for one experiment; all parts have the same items.

    Attributes:
      train: what the model learns from.
      test: the users that the reported metrics are of.
      validation: the users that hyper-parameters are chosen on, where the protocol has them.
    """

    train: Interactions
    test: HeldOut
    validation: HeldOut | None = None


@door
@recorded("fixed")
def fixed(data: Interactions) -> Split:
    """The split that the source itself defines.

    With a split of the interactions (`data.split`): weak generalization, as on the LightGCN data sets. Train and
    fold-in are the entries marked 0, targets those marked 1, and every user with one of these has targets.

    With a split of the users (`data.user_split`): users marked 0 are learned from. Of the entries of each user marked
    1, `max(1, int(0.2 n))` are targets and the others are folded in: `RandomState(98765).choice(n, size,
    replace=False)` for one user after the other in row order. A user with a single entry has no targets.

    Raises:
      InputError: if the source defines neither, or marks nothing as train or nothing as test.
    """
    if data.split is not None:
        return _weak(data, data.split == 1)
    if data.user_split is None:
        raise InputError(f"{data.name}: the source has no fixed split; choose one of {', '.join(list(SPLITS)[1:])}.")
    train, test = _unmarked(data.rows(data.user_split == 0)), _unmarked(data.rows(data.user_split == 1))
    is_target = _draw_targets(test, np.arange(test.n_users), 0.2, PUBLISHED_SEED, min_entries=2, at_least=1)
    _not_empty(data.name, train.nnz, is_target.sum())
    return Split(train, _held_out(test, is_target))


@door
@recorded("strong")
def strong_generalization(
    data: Interactions,
    n_heldout: int | None = None,
    *,
    min_user_items: int = 5,
    min_item_users: int = 0,
    test_fraction: float = 0.2,
    seed: int = PUBLISHED_SEED,
) -> Split:
    """The protocol of the Mult-VAE and EASE papers, draw for draw (Liang et al. 2018, and its published code).

    1. Items of fewer than `min_item_users` users go, then users with fewer than `min_user_items` of the remaining
       items (once, not repeated). ML-20M: 0 and 5; MSD: 200 and 20. Users without entries always go.
    2. The n users left, sorted by id, are permuted by `RandomState(seed).permutation(n)`: the first
       `n - 2 n_heldout` train, the next `n_heldout` validate, the last `n_heldout` test.
    3. The items are what the training users have, in order of first appearance in the data; others are dropped.
    4. For validation, and again from the same seed for test: one user after the other in sorted order, a user with
       n >= 5 remaining entries has `int(test_fraction * n)` of them, by `choice(n, size, replace=False)`, as
       targets; of a user with fewer everything is folded in, and there are no targets.

    Rows stand in permuted order, as in the published matrices. Draws and columns depend on the order of the entries:
    they equal the published ones if `data` keeps the order of a source file grouped by user.

    Args:
      data: U x I; ratings already turned into positives (the papers keep ML-20M ratings of at least 4).
      n_heldout: number of test users, and again of validation users. The papers take 10,000 (ML-20M),
        40,000 (Netflix) and 50,000 (MSD); default one tenth of the users left in step 2.
      min_user_items: see step 1.
      min_item_users: see step 1.
      test_fraction: share of a held-out user's entries that are targets.
      seed: of NumPy's legacy generator.

    Raises:
      InputError: if no training users would remain.
    """
    _checks.count("min_user_items", min_user_items)
    _checks.count("min_item_users", min_item_users)
    _checks.between("test_fraction", test_fraction, "()")
    data = _unmarked(data)
    if min_item_users:
        data = data.keep(data.item_counts[data.indices] >= min_item_users)
    users = np.flatnonzero(data.user_counts >= max(1, min_user_items))
    if data.user_ids is not None:
        users = users[np.argsort(data.user_ids[users], kind="stable")]
    n = len(users)
    if n_heldout is None and n < 10:
        raise InputError(
            f"{data.name}: {n} users with at least {min_user_items} entries are too few for a strong split."
        )
    n_heldout = n // 10 if n_heldout is None else n_heldout
    _checks.count(f"{data.name}: n_heldout (of {n} users that pass the filter)", n_heldout, at_least=1)
    if 2 * n_heldout >= n:
        raise InputError(
            f"{data.name}: n_heldout must be below half of the {n} users that pass the filter, got {n_heldout}."
        )
    permuted = _legacy_generator(seed).permutation(n)
    learn, validate, test = np.split(permuted, [n - 2 * n_heldout, n - n_heldout])
    seen, first_entry = np.unique(data.rows(np.sort(users[learn])).indices, return_index=True)
    data = data.select_items(seen[np.argsort(first_entry)])

    def held_out(ranks: np.ndarray) -> HeldOut:
        rows = data.rows(users[ranks])
        return _held_out(rows, _draw_targets(rows, np.argsort(ranks), test_fraction, seed, min_entries=5))

    return Split(data.rows(users[learn]), held_out(test), held_out(validate))


@door
@recorded("per-user")
def per_user_random(data: Interactions, test_fraction: float = 0.2, seed: int = 0) -> Split:
    """A random share of every user's entries as targets; the rest trains and is folded in (weak generalization).

    A user with n >= 2 entries has `max(1, int(test_fraction * n))` targets: the entries with the smallest of nnz
    uniform draws. A user with a single entry keeps it for training and has no targets.
    """
    _checks.between("test_fraction", test_fraction, "()")
    counts = data.user_counts
    n_targets = np.minimum(np.maximum(1, (test_fraction * counts).astype(np.int64)), counts - 1)
    return _weak(data, _smallest_of_each_user(data, n_targets, _uniform(data, seed)))


@door
@recorded("random")
def random(data: Interactions, test_fraction: float = 0.2, seed: int = 0) -> Split:
    """A random share of all entries as targets; the rest trains and is folded in (weak generalization).

    The targets are the `int(test_fraction * nnz)` entries with the smallest of nnz uniform draws. A user has targets
    if one of the entries was drawn, and an empty fold-in if all of them were.
    """
    _checks.between("test_fraction", test_fraction, "()")
    is_target = np.zeros(data.nnz, bool)
    is_target[np.argsort(_uniform(data, seed), kind="stable")[: int(test_fraction * data.nnz)]] = True
    return _weak(data, is_target)


@door
@recorded("leave-one-out")
def leave_one_out(data: Interactions, order: str | None = None, seed: int = 0) -> Split:
    """One entry of every user as target; the rest trains and is folded in (weak generalization).

    A user with at least 2 entries has one target; the only entry of a user trains.

    Args:
      data: U x I.
      order: "time": the latest entry, of several the last in the source; "position": the last entry in the source;
        "random": any. None is "time" where there are timestamps; else "position", but "random" where every user's
        entries stand in the order of the items, which is no order in time.
      seed: for "random".
    """
    if order is None and data.timestamps is None:
        ascending = (np.diff(data.indices) > 0) | (np.diff(data.user_of_entry) > 0)
        order = "random" if ascending.all() else "position"
    order = order or "time"
    _checks.one_of("order", order, ("time", "position", "random"))
    from_the_end = -np.arange(data.nnz)
    if order == "time":
        keys = (from_the_end, ~_timestamps(data))  # ~t = -t - 1 reverses the order and cannot overflow
    else:
        keys = (from_the_end,) if order == "position" else (_uniform(data, seed),)
    return _weak(data, _smallest_of_each_user(data, data.user_counts >= 2, *keys))


@door
@recorded("time")
def by_time(data: Interactions, test_fraction: float = 0.2, at: int | None = None) -> Split:
    """The entries from one moment on as targets; all earlier ones train and are folded in.

    Every user with an entry at or after the moment has targets; who has none before it has an empty fold-in.

    Args:
      data: U x I, with timestamps.
      test_fraction: without `at`, the moment is the timestamp of the `int(test_fraction * nnz)`-th entry from the
        end; entries of the same time stay together, so that the share may come out larger.
      at: the moment, in the unit of the timestamps.
    """
    times = _timestamps(data)
    if at is None:
        _checks.between("test_fraction", test_fraction, "()")
        n_targets = max(1, int(test_fraction * data.nnz))
        at = np.partition(times, data.nnz - n_targets)[data.nnz - n_targets] if data.nnz else 0
    return _weak(data, times >= at)


SPLITS: dict[str, Callable[..., Split]] = {
    "fixed": fixed,
    "strong": strong_generalization,
    "random": random,
    "per-user": per_user_random,
    "leave-one-out": leave_one_out,
    "time": by_time,
}


@door
def split(data: Interactions, how: str = "auto", **settings: Any) -> Split:
    """The split called `how`; "auto" is what `automatic` names.

    Args:
      data: U x I.
      how: "auto" or a name in `SPLITS`.
      **settings: of that split, such as seed=1 or test_fraction=0.1; default its own.

    Raises:
      InputError: it has no such setting, or none that suits the data.
    """
    _checks.one_of("split", how, ("auto", *SPLITS))
    name = automatic(data) if how == "auto" else how
    known = list(inspect.signature(SPLITS[name]).parameters)[1:]
    if unknown := settings.keys() - known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise InputError(f"the split {name!r} has no setting {min(unknown)!r}; {has}.")
    return SPLITS[name](data, **settings)


@door
def automatic(data: Interactions) -> str:
    """The name of the split that "auto" stands for.

    "fixed" where the source has one; else "strong" if at least 1,000 users have 5 entries or more; else "random".
    """
    if data.split is not None or data.user_split is not None:
        return "fixed"
    return "strong" if np.count_nonzero(data.user_counts >= 5) >= STRONG_FROM_USERS else "random"


def _weak(data: Interactions, is_target: np.ndarray) -> Split:
    """The split that trains on, and folds in, everything that is no target."""
    test = _held_out(_unmarked(data), is_target)
    _not_empty(data.name, test.fold_in.nnz, test.targets.nnz)
    return Split(test.fold_in, test)


def _held_out(data: Interactions, is_target: np.ndarray) -> HeldOut:
    return HeldOut(data.keep(~is_target), data.keep(is_target))


def _unmarked(data: Interactions) -> Interactions:
    """The data without the source's split, so that a part can be split again."""
    return dataclasses.replace(data, split=None, user_split=None)


def _not_empty(name: str, n_train: int, n_targets: int) -> None:
    for what, entries in {"to train on": n_train, "to test on": n_targets}.items():
        if not entries:
            raise InputError(f"{name}: this split leaves nothing {what}; choose another split or other settings.")


def _draw_targets(
    data: Interactions, order: np.ndarray, fraction: float, seed: int, *, min_entries: int, at_least: int = 0
) -> np.ndarray:
    """[nnz] bool targets, drawn user by user in the given order: the published numbers allow no other way."""
    generator = _legacy_generator(seed)
    is_target = np.zeros(data.nnz, bool)
    for start, n in zip(data.indptr[order].tolist(), data.user_counts[order].tolist(), strict=True):
        if n >= min_entries:
            is_target[start + generator.choice(n, size=max(at_least, int(fraction * n)), replace=False)] = True
    return is_target


def _smallest_of_each_user(data: Interactions, n_targets: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """[nnz] bool, true for the `n_targets` [U] entries of each user that come first in the order of `keys`.

    The keys [nnz] are as for `np.lexsort`: the last one weighs most.
    """
    by_key = np.lexsort((*keys, data.user_of_entry))
    rank = np.arange(data.nnz) - np.repeat(data.indptr[:-1], data.user_counts)
    chosen = np.zeros(data.nnz, bool)
    chosen[by_key] = rank < np.repeat(n_targets, data.user_counts)
    return chosen


def _timestamps(data: Interactions) -> np.ndarray:
    if data.timestamps is None:
        raise InputError(f"{data.name}: a split by time needs timestamps, and this data set has none.")
    return data.timestamps


def _uniform(data: Interactions, seed: int) -> np.ndarray:
    _checks.count("seed", seed)
    return np.random.default_rng(seed).random(data.nnz)


def _legacy_generator(seed: int) -> np.random.RandomState:
    """What `np.random.seed(seed)` and the global functions draw, without touching the global state."""
    _checks.count("seed", seed)
    if seed >= 2**32:
        raise InputError(f"seed must be below 2^32 for this split, got {seed}.")
    return np.random.RandomState(seed)
