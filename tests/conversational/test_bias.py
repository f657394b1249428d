"""Exposure, groups and the shortcut of repeating."""

import itertools
import math

import numpy as np
import pytest
import real_data

from jaxrec import InputError
from jaxrec.conversational import bias, repetition
from jaxrec.conversational.dialogue import Mention, Sample, Turn
from jaxrec.conversational.protocols import per_sample, per_target
from jaxrec.conversational.recorded import load_run


def test_exposure_is_its_definition(rng):
    ranked = [rng.permutation(30)[: rng.integers(0, 8)].tolist() for _ in range(50)] + [[3, 3, -1, 4]]
    popularity = rng.integers(0, 5, 30)
    found = bias.exposure(ranked, 30, 5, popularity)
    counts = [sum(item in items[:5] for items in ranked) for item in range(30)]
    assert found.counts.tolist() == counts and found.n_distinct == sum(count > 0 for count in counts)
    assert found.coverage == found.n_distinct / 30
    shares = [count / sum(counts) for count in counts if count]
    assert found.entropy == pytest.approx(-sum(share * math.log(share) for share in shares))
    # The Gini coefficient as the mean difference of all pairs over twice the mean.
    pairs = sum(abs(a - b) for a, b in itertools.product(counts, counts)) / 30**2
    assert found.gini == pytest.approx(pairs / (2 * sum(counts) / 30))
    assert found.top_share == pytest.approx(sum(sorted(counts)[-10:]) / sum(counts))
    ranks = [(sum(popularity > one) + 1 + sum(popularity >= one)) / 2 for one in popularity]
    assert found.mean_popularity_rank == pytest.approx(np.average(ranks, weights=counts))
    assert f"{found.n_distinct} of 30 items in the top 5" in str(found)


def test_exposure_at_its_ends():
    equal = bias.exposure([[0, 1], [2, 3]], 4, 2)
    assert equal.gini == 0.0 and equal.entropy == pytest.approx(math.log(4)) and equal.coverage == 1.0
    one = bias.exposure([[2]] * 9, 4, 1)
    assert one.gini == 0.75 and one.entropy == 0.0 and math.isnan(one.mean_popularity_rank)
    none = bias.exposure([[], [-1]], 4, 1, np.ones(4))
    assert (none.gini, none.entropy, none.top_share) == (0.0, 0.0, 0.0) and math.isnan(none.mean_popularity_rank)
    for given, said in ((([[4]], 4), "below n_items = 4"), (([[1]], 4, 1, [1, 2]), "one number per item")):
        with pytest.raises(InputError, match=said):
            bias.exposure(*given)


def test_recall_by_group():
    scores = per_target([[0], [1], [2], [9]], [[0, 1], [1], [2, 3], [-1]], [[], [], [], []])
    years = [1990, 2021, 0, 2022]
    groups = bias.by_year(years, 2020)
    assert groups == ["before", "after", None, "after"]
    found = bias.group_recall(scores, groups, "recall@1")
    # Item 0 is found; item 1 is missed once and found once, item 3 is missed; item 2 has no year.
    assert found["before"][0] == 1.0 and found["before"][2] == 1 and math.isnan(found["before"][1])
    assert found["after"] == (1 / 3, np.std([0, 1, 0], ddof=1) / math.sqrt(3), 3)
    with pytest.raises(InputError, match="by target"):
        bias.group_recall(per_sample([[0]], [[0]], [[]]), groups)
    with pytest.raises(InputError, match="one entry per item"):
        bias.group_recall(scores, groups[:2])
    with pytest.raises(InputError, match="metric must be one of"):
        bias.group_recall(scores, groups, "recall@3")


def test_the_last_named_is_repeated_first():
    context = (
        Turn("seeker", "Heat, Up", (Mention("Heat", 0, 4), Mention("Up", 6, 8))),
        Turn("recommender", "Heat", (Mention("Heat", 0, 4),)),
    )
    sample = Sample("a:1", context, ("Heat",), ("Heat", "Up", "Alien"))
    assert repetition.newest_first(sample) == ["Heat", "Up", "Alien"]


def test_repeating_in_random_order_is_the_mean_over_all_orders():
    targets, seen = [[1, 5], [2], [7]], [[1, 2, 3], [2], []]
    for k in (1, 2, 5):
        values = []
        for wanted, named in zip(targets, seen, strict=True):
            orders = list(itertools.permutations(named))
            values += [np.mean([target in order[:k] for order in orders]) for target in wanted]
        assert repetition.expected_recall(targets, seen, k) == pytest.approx(np.mean(values))
    assert repetition.expected_recall(targets, seen, 5, "recommendation") == 0.0
    assert repetition.expected_recall(targets, seen, 1, "discussion") == pytest.approx((1 / 3 + 1) / 2)
    assert math.isnan(repetition.expected_recall([[1]], [[]], 1, "discussion"))


@real_data.needs("llmcrs_inspired_test.jsonl.gz", "conversational/replies/gpt-4.general.jsonl.gz")
def test_repeating_scores_on_all_targets_of_inspired():
    run = load_run(real_data.FOLDER, "gpt-4.general")
    place = {name: number for number, name in enumerate(run.names)}
    films = {place[name] for name in run.films}
    targets = [[place[name] for name in row] for row in run.targets]
    seen = [[place[name] for name in row if place[name] in films] for row in run.seen]
    found = [repetition.expected_recall(targets, seen, k) for k in (1, 5)]
    assert np.round(found, 3).tolist() == [0.082, 0.163]  # as published figures of the same data give


def test_what_are_no_items_is_refused():
    for wrong in (None, "ab", [None], [["a"]], [[1.5]], [[float("nan")]]):
        with pytest.raises(InputError, match="ranked"):
            bias.exposure(wrong, 5)
        with pytest.raises(InputError, match="targets"):
            repetition.expected_recall(wrong, [[1]], 1)
    with pytest.raises(InputError, match="of the same samples, got 1 and 2"):
        repetition.expected_recall([[1]], [[1], [2]], 1)
    assert bias.exposure([[0, 1], [1]], 3, 10**12).counts.tolist() == [1, 2, 0]
