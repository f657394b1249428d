"""The nearest training conversations against plain loops over conversations, items and words."""

import math

import numpy as np
import pytest
from talk import dialogue, drawn, turn

from jaxrec import InputError
from jaxrec.conversational import mentioned
from jaxrec.conversational.dialogue import Sample, samples
from jaxrec.conversational.neighbours import Neighbours

TITLES = tuple(f"t{number}" for number in range(12))


def bm25(query, texts, k1=1.5, b=0.75):
    """The BM25 scores of Lucene for texts of given words, by the definition."""
    lengths = [len(text) for text in texts]
    mean = sum(lengths) / len(texts)
    found = []
    for text in texts:
        score = 0.0
        for word in query:
            holding = sum(word in other for other in texts)
            if holding == 0:
                continue
            often = text.count(word)
            rarity = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            score += rarity * often / (often + k1 * (1 - b + b * len(text) / mean))
        found.append(score)
    return found


def similarity(sample, talks, words):
    """How near each talk is, by the formula of the module."""
    liked = [set(mentioned.liked(talk)) for talk in talks]
    rarity = {title: math.log1p(len(talks) / max(1, sum(title in one for one in liked))) for title in TITLES}

    def cosine(one, two):
        norms = [math.sqrt(sum(rarity[title] ** 2 for title in which)) for which in (one, two)]
        return sum(rarity[title] ** 2 for title in one & two) / math.prod(norms) if math.prod(norms) else 0.0

    def split(turns):
        return [word for each in turns for word in each.text.split()]

    items = [cosine(set(sample.seen), one) for one in liked]
    texts = bm25(split(sample.context), [split(talk.turns) for talk in talks])
    mixed = np.zeros(len(talks))
    for share, part in ((1 - words, items), (words, texts)):
        if max(part) > 0:
            mixed += share * np.array(part) / max(part)
    return mixed


@pytest.mark.parametrize("words", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_votes_are_those_of_a_plain_loop(rng, words, power):
    talks, asked = drawn(rng, 25, TITLES), list(samples(drawn(rng, 20, TITLES)))
    fitted = Neighbours(n=6, words=words, power=power).fit(talks, TITLES)
    near = fitted.similarity(asked)
    found = fitted.retrieve(asked, 15)
    assert found.items.shape == (len(asked), 15)
    for sample, row, items, scores in zip(asked, near, found.items, found.scores, strict=True):
        np.testing.assert_allclose(row, similarity(sample, talks, words), rtol=1e-5, atol=1e-6)
        votes = np.zeros(12)
        for talk in sorted(range(25), key=lambda one: (-row[one], one))[:6]:
            for title in mentioned.liked(talks[talk]):
                if row[talk] > 0 and title not in sample.seen:
                    votes[TITLES.index(title)] += row[talk] ** power
        ordered = sorted(range(12), key=lambda item: (-round(votes[item], 9), item))
        expected = [item for item in ordered if votes[item] > 0]
        assert items[items >= 0].tolist() == expected
        np.testing.assert_allclose(scores[items >= 0], votes[expected], rtol=1e-9)


def test_its_rankings_are_filled_up_by_the_common_rule(rng):
    talks, asked = drawn(rng, 25, TITLES), list(samples(drawn(rng, 20, TITLES)))
    fitted = Neighbours(n=2).fit(talks, TITLES)
    ranked = fitted.rank(asked, 12)
    for sample, row in zip(asked, ranked, strict=True):
        known = {TITLES.index(title) for title in sample.seen}
        assert set(row.tolist()) - {-1} == set(range(12)) - known


def test_it_finds_by_words_where_no_item_is_named():
    talks = [
        dialogue("a", turn("seeker", "something with a haunted castle"), turn("recommender", "see this", "t3")),
        dialogue("b", turn("seeker", "robots please"), turn("recommender", "see that", "t5")),
    ]
    asked = [*samples([dialogue("q", turn("seeker", "any castle?"), turn("recommender", "", "t1"))])]
    for words, expected in ((1.0, 3), (0.3, 3), (0.0, -1)):
        assert Neighbours(words=words).fit(talks, TITLES).retrieve(asked, 1).items.tolist() == [[expected]]
    silent = [*samples([dialogue("q", turn("recommender", "", "t1"))])]
    assert Neighbours().fit(talks, TITLES).retrieve(silent, 1).items.tolist() == [[-1]]


def test_what_it_refuses():
    with pytest.raises(InputError, match="n must be at least 1"):
        Neighbours(n=0)
    with pytest.raises(InputError, match="words must lie between 0 and 1"):
        Neighbours(words=1.5)
    with pytest.raises(InputError, match="power must be a finite number"):
        Neighbours(power=-1.0)
    with pytest.raises(InputError, match="a training conversation at least"):
        Neighbours().fit([], TITLES)
    with pytest.raises(InputError, match="dialogues must be a list of Dialogue, and number 0 is 'x'"):
        Neighbours().fit(["x"], TITLES)
    fitted = Neighbours().fit([dialogue("1", turn("seeker", "hi", TITLES[0]))], TITLES)
    for samples_given, settings, said in (
        (None, {}, "samples must be a list of Sample, got None"),
        (["x"], {}, "number 0 is 'x'"),
        ([], {"among": [99]}, "item index 99 is beyond"),
        ([Sample("a", (), (), ())], {"k": 10**13}, "GB of memory"),
    ):
        with pytest.raises(InputError, match=said):
            fitted.retrieve(samples_given, **{"k": 3, **settings})
