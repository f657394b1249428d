"""What conversations name as data of the core, and the one rank rule of the baselines."""

import numpy as np
import pytest
from talk import dialogue, drawn, turn

import jaxrec
from jaxrec import InputError
from jaxrec.conversational import mentioned
from jaxrec.conversational.dialogue import samples
from jaxrec.conversational.neighbours import Neighbours

TITLES = ("Alien", "Brazil", "Cube", "Dune", "Eraserhead")


def test_rows_hold_what_is_named_and_not_disliked():
    talks = [
        dialogue("a", turn("seeker", "", "Alien", "Dune"), turn("recommender", "", "Alien", "Heat"), Dune=-1),
        dialogue("b", turn("seeker", "", "Cube", attitude=-2), turn("recommender", "", "Brazil", attitude=1)),
        dialogue("c", turn("seeker", "", "Cube"), turn("seeker", "", "Cube", attitude=-1), Cube=0),
        dialogue("d", turn("seeker", "hello")),
    ]
    data = mentioned.interactions(talks, TITLES)
    expected = np.zeros((4, 5))
    expected[0, 0] = expected[1, 1] = expected[2, 2] = 1  # an opinion of the dialogue counts more than that of a turn
    assert np.array_equal(data.to_csr().toarray(), expected)
    assert data.items.label(1) == "Brazil" and list(data.user_ids) == ["a", "b", "c", "d"]
    assert np.flatnonzero(mentioned.interactions(talks, TITLES, least=1).user_counts).tolist() == [1]
    with pytest.raises(InputError, match="'Dune' more than once"):
        mentioned.interactions(talks, ("Dune", "Dune"))


def test_histories_and_targets_are_numbered_alike():
    answer = turn("recommender", "", "Dune", "Heat", "Cube", "Solaris")
    talk = dialogue("a", turn("seeker", "", "Dune", "Heat"), answer, turn("seeker", ""))
    (sample,) = samples([talk])
    assert mentioned.histories([sample], TITLES) == [[3]]
    assert mentioned.targets([sample], TITLES) == [[2, 5]]
    assert mentioned.targets([sample, sample], TITLES, new=False) == [[3, 5, 2, 6]] * 2


def by_the_rule(scores, counts, named, k):
    """The ranking of one conversation, from the words of the rule."""
    items = [item for item in range(len(counts)) if item not in named]
    found = sorted((item for item in items if scores[item] > 0), key=lambda item: (-scores[item], item))
    others = sorted((item for item in items if not scores[item] > 0), key=lambda item: (-counts[item], item))
    ranked = (found + others)[:k]
    return ranked + [-1] * (k - len(ranked))


@pytest.mark.parametrize("k", [1, 3, 12, 20])
def test_the_rank_rule_is_found_then_popular_without_what_is_named(rng, k):
    titles = [f"t{number}" for number in range(12)]
    train = mentioned.interactions(drawn(rng, 30, titles), titles)
    named = [sorted({int(i) for i in rng.integers(0, 12, rng.integers(0, 5))}) for _ in range(25)] + [list(range(12))]
    weights = np.round(rng.normal(size=(12, 12)))
    ranked = mentioned.rank(weights, named, train, k)
    popular = mentioned.rank(None, named, train, k)
    for own, row, without in zip(named, ranked, popular, strict=True):
        scores = weights[own].sum(axis=0) if own else np.zeros(12)
        assert row.tolist() == by_the_rule(scores, train.item_counts, own, k)
        assert without.tolist() == by_the_rule(np.zeros(12), train.item_counts, own, k)


def test_only_some_may_be_recommended(rng):
    titles = [f"t{number}" for number in range(12)]
    talks = drawn(rng, 30, titles)
    train, some = mentioned.interactions(talks, titles), np.array([7, 2, 9])
    asked = list(samples(drawn(rng, 10, titles)))
    for ranked in (
        mentioned.rank(rng.normal(size=(12, 12)), mentioned.histories(asked, titles), train, 5, among=some),
        mentioned.rank(None, mentioned.histories(asked, titles), train, 5, among=np.isin(np.arange(12), some)),
        Neighbours().fit(talks, titles).rank(asked, 5, among=some),
    ):
        for sample, row in zip(asked, ranked, strict=True):
            left = set(some.tolist()) - {titles.index(title) for title in sample.seen}
            assert sorted(row[row >= 0].tolist()) == sorted(left)


def test_ease_on_mentions_finds_what_goes_together():
    pairs = [("Alien", "Dune"), ("Brazil", "Cube")] * 5
    talks = [dialogue(str(n), turn("seeker", "", *pair)) for n, pair in enumerate(pairs)]
    train = mentioned.interactions(talks, TITLES)
    ranked = mentioned.rank(jaxrec.Ease(1.0).fit(train), [[0], [2], []], train, 2)
    assert ranked.tolist() == [[3, 1], [1, 0], [0, 1]]
