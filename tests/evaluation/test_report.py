"""Evaluation against a Python loop over the users, and what the report says of it."""

import dataclasses
import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxrec import Fitted, InputError, Interactions, ItemScores, ItemWeights
from jaxrec.evaluation.metrics import NAMES, Metric
from jaxrec.evaluation.report import evaluate

N_USERS, N_ITEMS = 60, 25


@pytest.fixture
def case(rng):
    """A linear model with small whole weights, so that ties abound; fold-ins and targets, some of them empty."""
    weights = rng.integers(-2, 3, (N_ITEMS, N_ITEMS)).astype(np.float32)
    histories = [rng.permutation(N_ITEMS) for _ in range(N_USERS)]
    fold_in = [history[: rng.integers(0, 12)].tolist() for history in histories]
    targets = [history[12 : 12 + rng.integers(0, 8)].tolist() for history in histories]
    return weights, fold_in, targets


def naive_ranking(weights, seen, exclude_seen=True):
    """All items by score descending, then index ascending, without the seen ones."""
    scores = {item: sum(float(weights[i, item]) for i in seen) for item in range(N_ITEMS)}
    left = [item for item in scores if not (exclude_seen and item in seen)]
    return sorted(left, key=lambda item: (-scores[item], item))


def naive_recall_and_ndcg(ranking, targets, k):
    gains = [1.0 if item in targets else 0.0 for item in ranking[:k]]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(targets)) + 1))
    return sum(gains) / len(targets), sum(g / math.log2(rank + 1) for rank, g in enumerate(gains, 1)) / ideal


def held(lists, n_items=N_ITEMS):
    return Interactions.from_lists(lists, n_items)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(("k", "batch_size"), [(5, None), (20, 7), (100, 1)])
def test_equals_a_loop_over_the_users(case, exclude_seen, k, batch_size):
    weights, fold_in, targets = case
    names = f"recall@{k},ndcg@{k},coverage@{k}"
    report = evaluate(
        ItemWeights(weights), held(fold_in), held(targets), names, exclude_seen=exclude_seen, batch_size=batch_size
    )
    expected, recommended = np.full((N_USERS, 2), np.nan), set()
    for u in range(N_USERS):
        if targets[u]:
            ranking = naive_ranking(weights, fold_in[u], exclude_seen)
            expected[u] = naive_recall_and_ndcg(ranking, targets[u], k)
            recommended |= set(ranking[:k])
    some = expected[~np.isnan(expected[:, 0])]
    assert report.metrics == tuple(names.split(","))
    assert (report.n_users, report.n_without_targets) == (len(some), N_USERS - len(some)) and len(some) < N_USERS
    for column, name in enumerate(report.metrics[:2]):
        np.testing.assert_allclose(report.per_user[name], expected[:, column], rtol=1e-12)
        assert report.mean[name] == pytest.approx(some[:, column].mean(), rel=1e-12)
        error = math.sqrt(sum((v - some[:, column].mean()) ** 2 for v in some[:, column]) / (len(some) - 1) / len(some))
        assert report.standard_error[name] == pytest.approx(error, rel=1e-12)
    assert report.mean[f"coverage@{k}"] == len(recommended) / N_ITEMS
    assert math.isnan(report.standard_error[f"coverage@{k}"]) and f"coverage@{k}" not in report.per_user


def test_several_cut_offs_equal_one_at_a_time(case):
    weights, fold_in, targets = case
    names = [f"{name}@{k}" for name in NAMES for k in (1, 4, 30)]
    together = evaluate(ItemWeights(weights), held(fold_in), held(targets), names)
    for name in names:
        alone = evaluate(ItemWeights(weights), held(fold_in), held(targets), name)
        assert alone.mean[name] == together.mean[name], name


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OnlyKnownUsers(ItemScores):
    """Refuses histories other than the marked ones: shows who is scored at all."""

    def score_host(self, history):
        assert (history.toarray()[:, 0] == 1).all()
        return super().score_host(history)


def test_users_without_targets_are_not_scored():
    model = OnlyKnownUsers(np.arange(4.0, dtype=np.float32))
    report = evaluate(model, held([[0], [1], [0]], 4), held([[3], [], [2]], 4), "mrr@3", batch_size=1)
    np.testing.assert_array_equal(report.per_user["mrr@3"], [1, np.nan, 1 / 2])
    assert report.n_without_targets == 1
    assert "1 users without targets are left out" in str(report)


def test_one_user_has_no_standard_error():
    report = evaluate(ItemScores(np.ones(3, np.float32)), held([[0], [1]], 3), held([[1], []], 3), "recall@1")
    assert report.mean["recall@1"] == 1 and math.isnan(report.standard_error["recall@1"])
    assert str(report).endswith("-")
    assert json.loads(report.to_json())["metrics"]["recall@1"] == {"mean": 1, "standard_error": None}


def test_ties_go_to_the_lower_index():
    model = ItemScores(np.zeros(6, np.float32))
    report = evaluate(model, held([[0], []], 6), held([[1], [1]], 6), "mrr@6")
    assert report.per_user["mrr@6"].tolist() == [1, 1 / 2]


def test_targets_that_were_folded_in_are_counted_and_missed():
    model = ItemScores(np.array([3, 2, 1, 0], np.float32))
    fold_in, targets = held([[0, 1], [3]], 4), held([[1, 2], [0]], 4)
    report = evaluate(model, fold_in, targets, "recall@3")
    assert report.n_unreachable == 1 and report.per_user["recall@3"].tolist() == [0.5, 1]
    assert "1 targets count as missed" in str(report)
    seen_too = evaluate(model, fold_in, targets, "recall@3", exclude_seen=False)
    assert seen_too.n_unreachable == 0 and seen_too.mean["recall@3"] == 1
    assert "missed" not in str(seen_too)
    with pytest.raises(InputError, match="all targets stand in fold_in too"):
        evaluate(model, fold_in, fold_in, "recall@3")
    assert evaluate(model, fold_in, fold_in, "recall@4", exclude_seen=False).mean["recall@4"] == 1


@pytest.mark.parametrize(
    ("fold_in", "targets", "n_items", "message"),
    [
        ([[0]], [[1], [1]], 3, "same users in the same rows, got 1 and 2 rows"),
        ([[0]], [[1]], 4, "same items, got 3, 4 and 4 of them"),
        ([[0], [1]], [[], []], 3, "no user has targets"),
        ([], [], 3, "no user has targets"),
    ],
)
def test_what_does_not_fit_is_refused(fold_in, targets, n_items, message):
    with pytest.raises(InputError, match=message):
        evaluate(ItemScores(np.zeros(3, np.float32)), held(fold_in, n_items), held(targets, n_items))


def test_metrics_are_checked_before_anything_is_scored():
    with pytest.raises(InputError, match="got 'recal'"):
        evaluate(ItemScores(np.zeros(3, np.float32)), held([[0]]), held([[1]]), "recal@20")


def test_defaults_and_labels(case):
    weights, fold_in, targets = case
    model = ItemWeights(weights)
    report = evaluate(model, held(fold_in), held(targets))
    assert report.metrics == ("recall@20", "recall@50", "ndcg@100") and report.model == "ItemWeights"
    assert evaluate(model, held(fold_in), held(targets), label="mine").model == "mine"
    fitted = Fitted(model, SimpleNamespace(method="Ease(reg=1.0)"))
    again = evaluate(fitted, held(fold_in), held(targets), [Metric("recall", 20), "recall@50", "ndcg@100"])
    assert again.model == "Ease(reg=1.0)" and again.mean == report.mean and report.seconds > 0


def refuse_constant(text):
    raise AssertionError(f"{text} is not JSON")


@pytest.mark.parametrize("per_user", [False, True])
def test_json_is_strict_and_complete(case, per_user):
    weights, fold_in, targets = case
    report = evaluate(ItemWeights(weights), held(fold_in), held(targets), "ndcg@5,coverage@5", label='a "name"\n')
    record = json.loads(report.to_json(per_user=per_user), parse_constant=refuse_constant)
    assert record["model"] == 'a "name"\n' and record["seconds"] == report.seconds
    assert record["metrics"]["ndcg@5"] == {
        "mean": report.mean["ndcg@5"],
        "standard_error": report.standard_error["ndcg@5"],
    }
    assert record["metrics"]["coverage@5"]["standard_error"] is None
    assert record["n_users"] + record["n_without_targets"] == N_USERS
    assert ("per_user" in record) == per_user
    if per_user:
        values = [math.nan if v is None else v for v in record["per_user"]["ndcg@5"]]
        np.testing.assert_array_equal(values, report.per_user["ndcg@5"])


def test_the_table_is_aligned(case):
    weights, fold_in, targets = case
    report = evaluate(ItemWeights(weights), held(fold_in), held(targets), "calibrated_recall@5,mrr@5,coverage@5")
    table = str(report).splitlines()[-4:]
    assert len({len(line) for line in table}) == 1
    assert [line.split()[0] for line in table] == ["metric", *report.metrics]
    assert table[1].split()[1] == f"{report.mean['calibrated_recall@5']:.5f}"
    assert table[3].endswith("-")
