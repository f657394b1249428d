"""Splits against their rules, written out with lists and dicts over the rows of a file."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec import InputError, Interactions
from jaxrec.data import splits
from jaxrec.data.splits import split


def strong_reference(rows, n_heldout, min_user_items, min_item_users, test_fraction=0.2, seed=98765):
    """The published protocol on rows (user id, item id) in file order: items, train, validation, test.

    Train is one (user id, item list) a user; the others are (user id, fold-in list, target list).
    """
    if min_item_users > 0:
        n_users_of = Counter(item for _, item in rows)
        rows = [row for row in rows if n_users_of[row[1]] >= min_item_users]
    if min_user_items > 0:
        n_items_of = Counter(user for user, _ in rows)
        rows = [row for row in rows if n_items_of[row[0]] >= min_user_items]
    users = sorted({user for user, _ in rows})
    n = len(users)
    np.random.seed(seed)  # noqa: NPY002
    users = [users[i] for i in np.random.permutation(n)]  # noqa: NPY002
    train_users, validation_users, test_users = (
        users[: n - 2 * n_heldout],
        users[n - 2 * n_heldout : n - n_heldout],
        users[n - n_heldout :],
    )
    items = []
    for user, item in rows:
        if user in train_users and item not in items:
            items.append(item)

    def halves(held_users):
        held = [(user, item) for user, item in rows if user in held_users and item in items]
        np.random.seed(seed)  # noqa: NPY002
        drawn = {}
        for user in sorted({user for user, _ in held}):
            history = [item for owner, item in held if owner == user]
            chosen = []
            if len(history) >= 5:
                size = int(test_fraction * len(history))
                chosen = np.random.choice(len(history), size=size, replace=False).tolist()  # noqa: NPY002
            fold_in = [item for i, item in enumerate(history) if i not in chosen]
            drawn[user] = user, fold_in, [item for i, item in enumerate(history) if i in chosen]
        return [drawn.get(user, (user, [], [])) for user in held_users]

    train = [(user, [item for owner, item in rows if owner == user]) for user in train_users]
    return items, train, halves(validation_users), halves(test_users)


def lists(data):
    """The rows of `data` as lists of item ids."""
    ids = np.arange(data.n_items) if data.items.ids is None else data.items.ids
    return [ids[row].tolist() for row in np.split(data.indices, data.indptr[1:-1])]


def held_lists(held):
    np.testing.assert_array_equal(held.fold_in.user_ids, held.targets.user_ids)
    return list(zip(held.fold_in.user_ids.tolist(), lists(held.fold_in), lists(held.targets), strict=True))


def assert_equals_strong_reference(data, rows, n_heldout, **options):
    items, train, validation, test = strong_reference(rows, n_heldout, **options)
    got = splits.strong_generalization(data, n_heldout, **options)
    assert got.validation is not None
    assert got.train.items.ids.tolist() == items
    assert list(zip(got.train.user_ids.tolist(), lists(got.train), strict=True)) == train
    assert held_lists(got.validation) == validation
    assert held_lists(got.test) == test


def file_rows(histories, user_ids):
    return [(user, item) for user, history in zip(user_ids, histories, strict=True) for item in history]


def with_ids(histories, n_items, user_ids):
    data = Interactions.from_lists(histories, n_items)
    return dataclasses.replace(data, user_ids=np.asarray(user_ids))


@st.composite
def small_data(draw, max_users=14, max_items=14):
    n_items = draw(st.integers(1, max_items))
    history = st.lists(st.integers(0, n_items - 1), unique=True, max_size=n_items)
    return draw(st.lists(history, min_size=1, max_size=max_users)), n_items


@given(small_data(), st.data())
def test_strong_generalization_equals_the_protocol(case, data):
    histories, n_items = case
    user_ids = data.draw(st.permutations(range(100, 100 + len(histories))))
    options = {
        "min_user_items": data.draw(st.integers(0, 5)),
        "min_item_users": data.draw(st.integers(0, 3)),
        "test_fraction": data.draw(st.sampled_from([0.2, 0.1, 0.5, 0.9])),
        "seed": data.draw(st.sampled_from([98765, 0, 7])),
    }
    rows = file_rows(histories, user_ids)
    of_item = Counter(item for _, item in rows)
    left = Counter(user for user, item in rows if of_item[item] >= options["min_item_users"])
    n_passing = sum(n >= options["min_user_items"] for n in left.values())
    interactions = with_ids(histories, n_items, user_ids)
    if n_passing < 3:
        with pytest.raises(InputError, match=f"{n_passing} users that pass the filter"):
            splits.strong_generalization(interactions, 1, **options)
    else:
        n_heldout = data.draw(st.integers(1, (n_passing - 1) // 2))
        assert_equals_strong_reference(interactions, rows, n_heldout, **options)


def test_strong_generalization_equals_the_protocol_at_some_size(rng):
    popularity = 1 / np.arange(1, 121)
    histories = [
        rng.choice(120, size=n, replace=False, p=popularity / popularity.sum()).tolist()
        for n in rng.integers(1, 60, 300)
    ]
    user_ids = rng.permutation(300) * 3
    data, rows = with_ids(histories, 120, user_ids), file_rows(histories, user_ids.tolist())
    assert_equals_strong_reference(data, rows, 40, min_user_items=5, min_item_users=0)
    assert_equals_strong_reference(data, rows, 40, min_user_items=8, min_item_users=60)


def test_strong_generalization_defaults(rng):
    data = random_data(rng, n_users=200, n_items=50)
    n = int((data.user_counts >= 5).sum())
    got = splits.strong_generalization(data)
    assert got.validation is not None
    assert got.test.targets.n_users == got.validation.targets.n_users == n // 10
    assert got.train.n_users == n - 2 * (n // 10)
    for held in (got.test, got.validation):
        whole = held.fold_in.user_counts + held.targets.user_counts
        np.testing.assert_array_equal(held.targets.user_counts, np.where(whole >= 5, (0.2 * whole).astype(int), 0))


def test_strong_generalization_leaves_the_global_generator_alone(rng):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    splits.strong_generalization(random_data(rng, n_users=40), 5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("n_heldout", "message"),
    [(20, "below half of the 40 users that pass the filter, got 20"), (0, "at least 1"), (2.5, "whole number")],
)
def test_strong_generalization_refuses(n_heldout, message):
    data = Interactions.from_lists([range(6)] * 40 + [[0]] * 60, 6)
    with pytest.raises(InputError, match=message):
        splits.strong_generalization(data, n_heldout)


def test_strong_generalization_of_too_few_users_for_the_default_says_so():
    with pytest.raises(InputError, match="3 users with at least 5 entries are too few"):
        splits.strong_generalization(Interactions.from_lists([range(6)] * 3, 6))


def test_seeds_of_the_legacy_generator_end_at_32_bits():
    with pytest.raises(InputError, match=r"seed must be below 2\^32"):
        splits.strong_generalization(Interactions.from_lists([range(6)] * 20, 6), seed=2**32)


def random_data(rng, n_users=60, n_items=40, **fields):
    """Users with 0 to n_items - 1 entries in random order; `fields` are functions of nnz."""
    histories = [rng.permutation(n_items)[: rng.integers(0, n_items)] for _ in range(n_users)]
    histories[0], histories[1] = np.zeros(0, int), np.array([3])
    data = Interactions.from_lists(histories, n_items)
    return dataclasses.replace(data, **{name: make(data.nnz) for name, make in fields.items()})


def pairs(data):
    return set(zip(data.user_of_entry.tolist(), data.indices.tolist(), strict=True))


def assert_divides(data, got):
    """Weak generalization: fold-in is train, and with the targets every entry is there once, in its old order."""
    assert got.validation is None
    assert pairs(got.train) == pairs(got.test.fold_in)
    assert not pairs(got.train) & pairs(got.test.targets)
    assert pairs(got.train) | pairs(got.test.targets) == pairs(data)
    assert got.train.shape == got.test.fold_in.shape == got.test.targets.shape == data.shape
    assert got.train.split is None and got.train.user_split is None
    for whole, kept, held in zip(lists(data), lists(got.train), lists(got.test.targets), strict=True):
        assert kept == [item for item in whole if item not in held]
        assert held == [item for item in whole if item in held]


def assert_refuses(how, *arguments):
    with pytest.raises(InputError, match="this split leaves nothing to"):
        how(*arguments)


def test_fixed_split_of_interactions(rng):
    data = random_data(rng, split=lambda nnz: rng.integers(0, 2, nnz).astype(np.uint8))
    got = splits.fixed(data)
    assert_divides(data, got)
    assert pairs(got.test.targets) == pairs(data.keep(data.split == 1))


def test_fixed_split_of_users_draws_as_stated(rng):
    data = Interactions.from_lists([rng.permutation(40)[: u % 13] for u in range(60)], 40)
    data = dataclasses.replace(data, user_split=(np.arange(data.n_users) < 30).astype(np.uint8))
    got = splits.fixed(data)
    assert lists(got.train) == lists(data)[30:]
    assert got.train.n_items == got.test.targets.n_items == data.n_items
    generator = np.random.RandomState(98765)
    for history, fold_in, targets in zip(
        lists(data)[:30], lists(got.test.fold_in), lists(got.test.targets), strict=True
    ):
        n = len(history)
        chosen = generator.choice(n, size=max(1, int(0.2 * n)), replace=False) if n >= 2 else []
        assert targets == [history[i] for i in sorted(chosen)]
        assert fold_in == [item for item in history if item not in targets]


def test_a_source_without_split_has_no_fixed_one():
    with pytest.raises(InputError, match="no fixed split; choose one of strong, random"):
        splits.fixed(Interactions.from_lists([[0, 1]], 2))


@pytest.mark.parametrize("marks", [[0, 0], [1, 1]])
def test_a_fixed_split_with_one_side_empty_is_refused(marks):
    data = Interactions.from_triples([0, 0, 1, 1], [0, 1, 0, 1], split=marks * 2)
    with pytest.raises(InputError, match="leaves nothing to"):
        splits.fixed(data)
    with pytest.raises(InputError, match="leaves nothing to"):
        splits.fixed(dataclasses.replace(data, split=None, user_split=np.array(marks, np.uint8)))


@given(small_data(), st.floats(0.01, 0.99), st.integers(0, 3))
def test_per_user_random_takes_its_share_of_every_user(case, fraction, seed):
    data = Interactions.from_lists(*case)
    if data.user_counts.max() < 2:
        return assert_refuses(splits.per_user_random, data, fraction, seed)
    got = splits.per_user_random(data, fraction, seed)
    assert_divides(data, got)
    expected = [max(1, int(fraction * n)) if n >= 2 else 0 for n in data.user_counts.tolist()]
    assert got.test.targets.user_counts.tolist() == expected


@given(small_data(), st.floats(0.01, 0.99), st.integers(0, 3))
def test_random_takes_its_share_of_the_whole(case, fraction, seed):
    data = Interactions.from_lists(*case)
    if int(fraction * data.nnz) < 1:
        return assert_refuses(splits.random, data, fraction, seed)
    got = splits.random(data, fraction, seed)
    assert_divides(data, got)
    assert got.test.targets.nnz == int(fraction * data.nnz)


@pytest.mark.parametrize(
    "how", [splits.random, splits.per_user_random, lambda data, seed: splits.leave_one_out(data, "random", seed)]
)
def test_seeds_decide(rng, how):
    data = random_data(rng)
    once, again, other = (pairs(how(data, seed=seed).test.targets) for seed in (1, 1, 2))
    assert once == again != other


def test_every_entry_is_as_likely_a_target(rng):
    data = Interactions.from_lists([range(10)], 10)
    drawn = [splits.per_user_random(data, 0.3, seed).test.targets.indices for seed in range(2000)]
    shares = np.bincount(np.concatenate(drawn), minlength=10) / 2000
    assert np.abs(shares - 0.3).max() < 0.05  # five standard errors


@given(small_data(), st.data())
def test_leave_one_out_by_time_takes_the_latest_and_of_equal_times_the_last(case, data):
    histories, n_items = case
    extremes = st.sampled_from([np.iinfo(np.int64).min, 0, 1, 2, np.iinfo(np.int64).max])
    times = [data.draw(st.lists(extremes, min_size=len(h), max_size=len(h))) for h in histories]
    whole = Interactions.from_lists(histories, n_items)
    whole = dataclasses.replace(whole, timestamps=np.array([t for row in times for t in row], np.int64))
    if max(map(len, histories)) < 2:
        return assert_refuses(splits.leave_one_out, whole)
    got = splits.leave_one_out(whole)
    assert_divides(whole, got)
    for history, moments, held in zip(histories, times, lists(got.test.targets), strict=True):
        latest = max(range(len(history)), key=lambda i: (moments[i], i), default=None)
        assert held == ([] if len(history) < 2 else [history[latest]])


def test_leave_one_out_by_position_takes_the_last(rng):
    data = random_data(rng)
    expected = [history[-1:] if len(history) >= 2 else [] for history in lists(data)]
    for order in (None, "position"):
        got = splits.leave_one_out(data, order)
        assert_divides(data, got)
        assert lists(got.test.targets) == expected


def test_leave_one_out_at_random_takes_one_of_each_user(rng):
    data = random_data(rng)
    got = splits.leave_one_out(data, "random")
    assert_divides(data, got)
    np.testing.assert_array_equal(got.test.targets.user_counts, data.user_counts >= 2)


def test_leave_one_out_does_not_take_the_order_of_the_items_for_time(rng):
    """In a file sorted by item the last entry is the highest index, and one item would be half of all targets."""
    ordered = Interactions.from_csr(random_data(rng).to_csr())
    ordered = Interactions.from_lists([sorted(row) for row in lists(ordered)], ordered.n_items)
    targets, random = (splits.leave_one_out(ordered, order).test.targets for order in (None, "random"))
    assert lists(targets) == lists(random) != lists(splits.leave_one_out(ordered, "position").test.targets)


def test_by_time_cuts_at_one_moment_for_all(rng):
    data = random_data(rng, timestamps=lambda nnz: rng.integers(0, 10_000_000, nnz))
    got = splits.by_time(data)
    assert_divides(data, got)
    assert got.test.targets.nnz == int(0.2 * data.nnz)
    assert got.train.timestamps.max() < got.test.targets.timestamps.min()
    moment = int(np.median(data.timestamps))
    assert pairs(splits.by_time(data, at=moment).test.targets) == pairs(data.keep(data.timestamps >= moment))


def test_by_time_keeps_equal_times_together():
    data = Interactions.from_triples([0] * 6, range(6), timestamps=[1, 2, 7, 7, 7, 7])
    assert splits.by_time(data, 0.2).test.targets.indices.tolist() == [2, 3, 4, 5]
    with pytest.raises(InputError, match="nothing to train on"):
        splits.by_time(data, at=1)
    with pytest.raises(InputError, match="nothing to test on"):
        splits.by_time(data, at=8)


def test_by_time_needs_times():
    for how in (splits.by_time, lambda data: splits.leave_one_out(data, "time")):
        with pytest.raises(InputError, match="needs timestamps"):
            how(Interactions.from_lists([[0, 1]], 2))


@pytest.mark.parametrize("how", [splits.random, splits.per_user_random, splits.by_time])
@pytest.mark.parametrize("fraction", [0, 1, -0.2, float("nan")])
def test_a_fraction_lies_between_0_and_1(rng, how, fraction):
    with pytest.raises(InputError, match="test_fraction"):
        how(random_data(rng, timestamps=np.arange), fraction)


def test_split_by_name(rng):
    data = random_data(rng, timestamps=np.arange, split=lambda nnz: (np.arange(nnz) % 5 == 0).astype(np.uint8))
    for name, how in splits.SPLITS.items():
        assert pairs(split(data, name).test.targets) == pairs(how(data).test.targets), name
    with pytest.raises(InputError, match=r"split must be one of auto, fixed, .* got 'half'"):
        split(data, "half")
    assert pairs(split(data, "random", seed=3).test.targets) == pairs(splits.random(data, seed=3).test.targets)
    for name, has in {"random": "it has test_fraction, seed", "fixed": "it has none"}.items():
        with pytest.raises(InputError, match=f"^the split '{name}' has no setting 'sed'; {has}"):
            split(data, name, sed=3)


def test_auto_prefers_the_source_then_strong_then_random(rng):
    data = random_data(rng)
    assert splits.automatic(data) == "random"
    marked = dataclasses.replace(data, user_split=np.repeat(np.array([0, 1], np.uint8), 30))
    assert splits.automatic(marked) == "fixed"
    assert pairs(split(marked).test.targets) == pairs(splits.fixed(marked).test.targets)
    assert splits.automatic(split(marked).train) == "random"  # the marks are used up
    many = Interactions.from_lists([range(5)] * 1000, 5)
    assert splits.automatic(many) == "strong"
    assert splits.automatic(many.rows(np.arange(999))) == "random"
