"""The two protocols against plain loops written from their definitions, and the comparison of two systems."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxrec import InputError
from jaxrec.conversational.comparison import compare
from jaxrec.conversational.protocols import CONDITIONS, DEFAULT, per_sample, per_target

RANKED = [[3, 1, 4, 1, 5], [9, -1, 2], [], [6, 5, 3, 5]]
TARGETS = [[1, 5], [2], [7, 8, -1], [5, 6, 3]]
SEEN = [[3, 5], [], [7], [6, 0]]


@pytest.fixture
def drawn(rng):
    def lists(most, low=0):
        return [rng.integers(low, 12, rng.integers(1, most)).tolist() for _ in range(40)]

    return lists(15, -1), [list(dict.fromkeys(items)) for items in lists(5)], lists(6)


def naive_per_target(ranked, targets, seen, exclude_seen, condition):
    rows = []
    for items, wanted, old in zip(ranked, targets, seen, strict=True):
        items = [item for item in items if not (exclude_seen and item in old)]
        for target in wanted:
            if condition == "all" or (target in old) == (condition == "discussion"):
                place = items.index(target) if target in items else math.inf
                found = {}
                for k in (1, 5, 10, 20):
                    hit = place < k
                    found[f"recall@{k}"] = float(hit)
                    found[f"ndcg@{k}"] = 1 / math.log2(place + 2) if hit else 0.0
                    found[f"mrr@{k}"] = 1 / (place + 1) if hit else 0.0
                rows.append(found)
    return rows


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_per_target_is_its_definition(drawn, condition, exclude_seen):
    scores = per_target(*drawn, exclude_seen=exclude_seen)
    rows = naive_per_target(*drawn, exclude_seen, condition)
    assert scores.count(condition) == len(rows) > 10
    for name in DEFAULT:
        values = np.array([row[name] for row in rows])
        np.testing.assert_allclose(
            scores[condition, name], (values.mean(), values.std(ddof=1) / math.sqrt(len(rows))), rtol=0, atol=1e-14
        )


def naive_per_sample(ranked, targets, seen, condition, k, paper):
    rows = []
    for items, wanted, old in zip(ranked, targets, seen, strict=True):
        items = [item for item in items if item not in old]
        gold = {target for target in wanted if condition == "all" or (target in old) == (condition == "discussion")}
        if not gold or (paper and not items):
            continue
        found, gain = set(), 0.0
        for place, item in enumerate(items[:k]):
            if item in gold and item not in found:
                found.add(item)
                gain += 1 / math.log2(place + 2)
        most = min(len(gold), len(items)) if paper else len(gold)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(most, k)))
        rows.append((len(found) / len(gold), gain / ideal if ideal else 0.0))
    return np.array(rows).T


@pytest.mark.parametrize("condition", ["recommendation", "all"])
@pytest.mark.parametrize("rules", ["strict", "paper"])
def test_per_sample_is_its_definition(drawn, condition, rules):
    drawn[0][3] = drawn[0][5] = []
    drawn[0][7] = drawn[0][7][:1]
    scores = per_sample(*drawn, rules=rules)
    for k in (1, 5, 10):
        for name, values in zip(
            ("recall", "ndcg"), naive_per_sample(*drawn, condition, k, rules == "paper"), strict=True
        ):
            expected = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
            np.testing.assert_allclose(scores[condition, f"{name}@{k}"], expected, rtol=0, atol=1e-14)
    assert scores.count(condition) == len(values)
    assert (scores.n_left_out > 0) == (rules == "paper")


def test_a_small_case_by_hand():
    scores = per_target(RANKED, TARGETS, SEEN)
    assert [scores.count(condition) for condition in CONDITIONS] == [6, 3, 9]
    # New: 1 (second), 2 (third, behind a rank without an item), 8 and -1 (none), 5 (second), 3 (third).
    assert scores["recommendation", "mrr@5"][0] == pytest.approx((1 / 2 + 1 / 3 + 0 + 0 + 1 / 2 + 1 / 3) / 6)
    # Named before: 5 (fifth: the second 1 keeps its rank), 7 (none), 6 (first).
    assert scores["discussion", "mrr@5"][0] == pytest.approx((1 / 5 + 0 + 1) / 3)
    without = per_target(RANKED, TARGETS, SEEN, exclude_seen=True)
    assert without["recommendation", "mrr@5"][0] == pytest.approx((1 + 1 / 3 + 0 + 0 + 1 + 1 / 2) / 6)
    assert without["discussion", "recall@20"] == (0.0, 0.0)
    by_sample = per_sample(RANKED, TARGETS, SEEN)
    assert by_sample["recommendation", "recall@1"][0] == pytest.approx((1 + 0 + 0 + 1 / 2) / 4)
    assert list(by_sample) == [(condition, name) for condition in CONDITIONS for name in DEFAULT]
    assert len(by_sample) == 36 and "recall@20" in str(by_sample)


def test_a_condition_without_targets_has_no_figure():
    scores = per_target([[1]], [[1]], [[]])
    assert np.isnan(scores["discussion", "recall@1"]).all() and scores["all", "recall@1"][0] == 1.0
    assert math.isnan(scores["all", "recall@1"][1]) and scores.count("discussion") == 0


@pytest.mark.parametrize("protocol", [per_target, per_sample])
def test_failed_requests_are_counted_and_miss_unless_asked_otherwise(protocol):
    failed = np.array([True, False, False, False])
    missed = protocol(RANKED, TARGETS, SEEN, failed=failed)
    same = protocol([[], *RANKED[1:]], TARGETS, SEEN)
    assert (
        missed.n_failed == 1
        and dict(missed) == dict(same)
        and missed.notes == ["1 requests failed and count as misses"]
    )
    out = protocol(RANKED, TARGETS, SEEN, failed=failed, failed_as="leave out")
    fewer = protocol(RANKED[1:], TARGETS[1:], SEEN[1:])
    np.testing.assert_equal(list(out.values()), list(fewer.values()))
    assert "left out" in str(out)


@pytest.mark.parametrize("protocol", [per_target, per_sample])
@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        (([[1]], [[]], [[]]), {}, "1 samples have no targets, the first is number 0"),
        (([[1]], [[1], [2]], [[], []]), {}, "an entry for each sample, got 1, 2 and 2"),
        (([], [], []), {}, "an entry for each sample"),
        (([[1.5]], [[1]], [[]]), {}, "ranked of sample 0 must be indices"),
        (([["Heat"]], [[1]], [[]]), {}, "ranked of sample 0 must be indices"),
        (("Heat", [[1]], [[]]), {}, "ranked must be a list"),
        (([[1]], [[1]], [[]]), {"metrics": "coverage@5"}, "no figure of one row"),
        (([[1]], [[1]], [[]]), {"metrics": "recal@5"}, "the closest is recall"),
        (([[1]], [[1]], [[]]), {"failed": [1]}, "must be 1 truth values"),
        (([[1]], [[1]], [[]]), {"failed_as": "mis"}, "the closest is miss"),
    ],
)
def test_what_cannot_be_scored_is_refused(protocol, given, named, said):
    with pytest.raises(InputError, match=said):
        protocol(*given, **named)


def test_the_difference_of_two_systems_by_sample(drawn, rng):
    ranked, targets, seen = drawn
    others = [rng.permutation(12)[:6].tolist() for _ in ranked]
    first, second = per_sample(ranked, targets, seen), per_sample(others, targets, seen)
    found = compare(first, second, "recall@5", "all")
    difference = first.reports["all"].per_user["recall@5"] - second.reports["all"].per_user["recall@5"]
    test = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    assert (found.n_rows, found.n_samples) == (40, 40)
    np.testing.assert_allclose((found.mean, found.low, found.high), (difference.mean(), *test), atol=1e-14)
    assert "95 % interval" in str(found)


def test_the_difference_by_target_takes_samples_as_units(drawn, rng):
    ranked, targets, seen = drawn
    others = [rng.permutation(12)[:6].tolist() for _ in ranked]
    first, second = per_target(ranked, targets, seen), per_target(others, targets, seen)
    found = compare(first, second, "ndcg@5", level=0.9)
    d = first.reports["recommendation"].per_user["ndcg@5"] - second.reports["recommendation"].per_user["ndcg@5"]
    there = [row for row in range(len(d)) if not math.isnan(d[row])]
    mean = sum(d[row] for row in there) / len(there)
    units = {first.sample[row] for row in there}
    squares = sum(sum(d[row] - mean for row in there if first.sample[row] == unit) ** 2 for unit in units)
    error = math.sqrt(len(units) / (len(units) - 1) * squares) / len(there)
    assert found.mean == pytest.approx(mean, abs=1e-14) and found.standard_error == pytest.approx(error, abs=1e-14)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.95, len(units) - 1) * error)
    twice = [[*each, *each] for each in ([first], [second])]  # equal systems differ by nothing
    assert compare(twice[0][0], twice[0][1], "ndcg@5").mean == 0.0


def test_what_cannot_be_compared_is_refused():
    scores = per_target(RANKED, TARGETS, SEEN)
    with pytest.raises(InputError, match="one protocol and the same samples"):
        compare(scores, per_sample(RANKED, TARGETS, SEEN), "recall@5")
    with pytest.raises(InputError, match="second must be Scores, what a protocol returns, got None"):
        compare(scores, None, "recall@5")
    with pytest.raises(InputError, match="metric must be one of"):
        compare(scores, scores, "recall@3")
    with pytest.raises(InputError, match="no row of discussion"):
        alone = per_target([[1]], [[1]], [[]])
        compare(alone, alone, "recall@5", "discussion")
    alone = per_target([[1]], [[1]], [[]])
    assert math.isnan(compare(alone, alone, "recall@5").low)


def test_by_sample_a_target_of_no_catalogue_counts_once_too():
    assert per_sample([[1]], [[1, -5, -5]], [[]])["all", "recall@1"][0] == 0.5
    assert per_sample([[1]], [[1, -1, -1]], [[]])["all", "recall@1"][0] == pytest.approx(1 / 3)  # may be two
