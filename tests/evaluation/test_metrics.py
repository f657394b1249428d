"""The metrics against Python loops written from their formulas."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec import InputError, Interactions
from jaxrec.evaluation import metrics
from jaxrec.evaluation.metrics import METRICS, Metric, parse


def naive(name, ranking, targets, k):
    """One metric of one user, from its formula; `ranking` holds item indices, -1 for no item."""
    gains = [1.0 if item >= 0 and item in targets else 0.0 for item in ranking[:k]]
    n = len(targets)
    if n == 0:
        return math.nan
    if name == "recall":
        return sum(gains) / n
    if name == "calibrated_recall":
        return sum(gains) / min(k, n)
    if name == "precision":
        return sum(gains) / k
    if name == "hit_rate":
        return 1.0 if 1.0 in gains else 0.0
    if name == "mrr":
        return max((gain / rank for rank, gain in enumerate(gains, 1)), default=0.0)
    if name == "map":
        precisions = [sum(gains[:rank]) / rank for rank in range(1, len(gains) + 1)]
        return sum(p * gain for p, gain in zip(precisions, gains, strict=True)) / min(k, n)
    assert name == "ndcg"
    dcg = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
    return dcg / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, n) + 1))


def values(name, rankings, targets, k):
    hits = metrics.hits(rankings, targets)
    return METRICS[name](hits, targets.user_counts, k)


@st.composite
def cases(draw):
    """Rankings of B users over I items, cut at some width and filled with -1, and sets of targets."""
    n_items = draw(st.integers(1, 12))
    n_users = draw(st.integers(1, 6))
    width = draw(st.integers(1, n_items + 3))
    rankings = np.full((n_users, width), -1, np.int32)
    for row in rankings:
        order = draw(st.permutations(range(n_items)))[: draw(st.integers(0, min(n_items, width)))]
        row[: len(order)] = order
    subsets = st.lists(st.integers(0, n_items - 1), unique=True, max_size=n_items)
    targets = draw(st.lists(subsets, min_size=n_users, max_size=n_users))
    return rankings, targets, n_items, draw(st.integers(1, n_items + 5))


@given(cases())
def test_every_metric_equals_its_formula(case):
    rankings, targets, n_items, k = case
    held = Interactions.from_lists(targets, n_items)
    for name in METRICS:
        expected = [naive(name, row.tolist(), set(wanted), k) for row, wanted in zip(rankings, targets, strict=True)]
        np.testing.assert_allclose(values(name, rankings, held, k), expected, rtol=1e-13, err_msg=name)
    recommended = {item for row in rankings[:, :k].tolist() for item in row if item >= 0}
    assert metrics.coverage(rankings, n_items, k) == len(recommended) / n_items


@pytest.mark.parametrize(
    ("name", "k", "expected"),
    [
        # User 0 has 3 targets, found at ranks 1 and 3; user 1 has one, at rank 2; user 2 has one, never ranked.
        ("recall", 2, [1 / 3, 1, 0]),
        ("recall", 3, [2 / 3, 1, 0]),
        ("calibrated_recall", 2, [1 / 2, 1, 0]),
        ("calibrated_recall", 4, [2 / 3, 1, 0]),
        ("precision", 2, [1 / 2, 1 / 2, 0]),
        ("precision", 8, [2 / 8, 1 / 8, 0]),
        ("hit_rate", 1, [1, 0, 0]),
        ("mrr", 4, [1, 1 / 2, 0]),
        ("mrr", 1, [1, 0, 0]),
        ("map", 4, [(1 + 2 / 3) / 3, 1 / 2, 0]),
        ("map", 2, [1 / 2, 1 / 2, 0]),
        ("ndcg", 3, [(1 + 1 / 2) / (1 + 1 / np.log2(3) + 1 / 2), 1 / np.log2(3), 0]),
        ("ndcg", 1, [1, 0, 0]),
    ],
)
def test_by_hand(name, k, expected):
    rankings = np.array([[5, 0, 3, 1], [2, 4, 0, 1], [0, 1, 2, -1]])
    targets = Interactions.from_lists([[3, 5, 2], [4], [5]], 6)
    np.testing.assert_allclose(values(name, rankings, targets, k), expected, rtol=1e-15)


def test_the_two_recalls_part_only_where_there_are_more_targets_than_ranks():
    targets = Interactions.from_lists([[0, 1, 2, 3]], 6)
    ranking = np.array([[0, 1, 2, 3, 4]])
    assert values("recall", ranking, targets, 2) == 0.5
    assert values("calibrated_recall", ranking, targets, 2) == 1
    assert values("recall", ranking, targets, 5) == values("calibrated_recall", ranking, targets, 5) == 1


def test_no_item_is_no_hit_not_even_of_the_last_item_of_the_user_before():
    targets = Interactions.from_lists([[3], [0], []], 4)
    rankings = np.array([[-1, -1], [-1, 0], [-1, 3]])
    np.testing.assert_array_equal(metrics.hits(rankings, targets), [[False, False], [False, True], [False, False]])


def test_a_target_counts_whatever_its_value():
    targets = Interactions.from_triples([0, 0], [1, 2], [-2.0, 0.25], n_users=1, n_items=3)
    assert metrics.hits(np.array([[0, 1, 2]]), targets).tolist() == [[False, True, True]]


def test_without_any_target_nothing_hits_and_every_metric_is_undefined():
    targets = Interactions.from_lists([[], []], 3)
    rankings = np.array([[0, 1], [2, -1]])
    assert not metrics.hits(rankings, targets).any()
    for name in METRICS:
        assert np.isnan(values(name, rankings, targets, 2)).all(), name


def test_nothing_recommended_scores_zero():
    targets = Interactions.from_lists([[0]], 3)
    for name in METRICS:
        assert values(name, np.zeros((1, 0), int), targets, 5) == 0, name
    assert metrics.coverage(np.full((4, 2), -1), 3, 2) == 0


def test_row_counts_must_agree():
    with pytest.raises(InputError, match=r"one row per ranking \(2\), got 1 rows"):
        metrics.hits(np.zeros((2, 3), int), Interactions.from_lists([[0]], 3))


def test_items_beyond_the_catalogue_are_refused():
    with pytest.raises(InputError, match="below n_items = 3, got 3"):
        metrics.hits(np.array([[0, 3]]), Interactions.from_lists([[0]], 3))


def test_keys_of_many_users_and_items_do_not_overflow():
    # 70,000 x 70,000 is beyond int32, in which both the rankings and the targets come.
    n = 70_000
    targets = Interactions.from_triples(np.arange(n), np.arange(n)[::-1], n_users=n, n_items=n)
    rankings = np.arange(n, dtype=np.int32)[::-1, None]
    assert metrics.hits(rankings, targets).all()
    assert not metrics.hits((rankings + 1) % n, targets).any()


def test_hits_of_thirty_thousand_users_take_no_loop(rng):
    n_users, n_items, k = 30_000, 5_000, 100
    rankings = rng.integers(0, n_items, (n_users, k), dtype=np.int32)
    targets = Interactions.from_triples(
        np.repeat(np.arange(n_users), 10), np.tile(np.arange(10) * 7, n_users), n_items=n_items
    )
    begun = time.process_time()
    hits = metrics.hits(rankings, targets)
    assert time.process_time() - begun < 5  # about 0.3 s; a loop over users in Python takes far longer
    np.testing.assert_array_equal(hits, (rankings % 7 == 0) & (rankings < 70))


def test_parse():
    wanted = (Metric("recall", 20), Metric("ndcg", 100))
    assert parse("recall@20,ndcg@100") == parse(" recall@20 , ndcg@100") == parse(["recall@20", wanted[1]]) == wanted
    assert parse("recall@20,recall@20") == wanted[:1] == parse(wanted[0])
    assert str(wanted[1]) == "ndcg@100"
    assert [str(metric) for metric in parse([f"{name}@5" for name in metrics.NAMES])][-1] == "coverage@5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recal@20", r"one of recall, calibrated_recall, ndcg, .*coverage, got 'recal'"),
        ("recall@0", "at least 1, got 0"),
        ("recall@-3", "at least 1, got -3"),
        ("recall", r"such as recall@20, got 'recall'"),
        ("recall@ten", "whole number"),
        ("recall@2.5", "whole number"),
        ("recall@--3", "whole number"),
        ("", "metric must be one of"),
        ([], "at least one metric"),
        ("recall@20,", "metric must be one of"),
    ],
)
def test_parse_refuses(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


@pytest.mark.parametrize(("name", "k"), [("recall", 0), ("recall", True), ("mean", 3)])
def test_a_metric_that_cannot_be_is_refused(name, k):
    with pytest.raises(InputError):
        Metric(name, k)
