"""Probes: contexts with items only, without them, and with random ones."""

import jax
import pytest

from jaxrec import InputError
from jaxrec.conversational.dialogue import Mention, Sample, Turn
from jaxrec.conversational.probes import item_only, item_random, item_removed, probed

CONTEXT = (
    Turn("seeker", "I like Heat (1995) and Up.", (Mention("Heat (1995)", 7, 18, 2), Mention("Up", 23, 25))),
    Turn("recommender", "Heat? Heated!", (Mention("Heat (1995)", 0, 4), Mention("Alien"))),
    Turn("seeker", "Yes."),
)
SAMPLES = [Sample(f"d:{place}", CONTEXT, ("Cars",), ("Heat (1995)", "Up", "Alien")) for place in range(3)]
TITLES = [f"Film {number}" for number in range(50)]


def consistent(turns):
    for turn in turns:
        for each in turn.mentions:
            assert each.start < 0 or turn.text[each.start : each.stop] == each.item


def test_item_only():
    turns = item_only(CONTEXT)
    assert [turn.text for turn in turns] == ["Heat (1995), Up", "Heat (1995), Alien", ""]
    assert [turn.speaker for turn in turns] == ["seeker", "recommender", "seeker"]
    assert turns[0].mentions[0].attitude == 2 and turns[1].items == ("Heat (1995)", "Alien")
    consistent(turns)


def test_item_removed_leaves_every_other_letter():
    turns = item_removed(CONTEXT)
    assert [turn.text for turn in turns] == ["I like  and .", "? Heated!", "Yes."]
    assert all(turn.mentions == () for turn in turns)


def test_item_random_draws_by_its_key():
    turns = item_random(CONTEXT, TITLES, jax.random.key(0))
    first, second = turns[0].items
    assert {first, second} <= set(TITLES) and turns[1].mentions[0].item == first  # Heat is one film throughout
    assert turns[0].text == f"I like {first} and {second}." and turns[1].text == f"{first}? Heated!"
    consistent(turns)
    assert turns == item_random(CONTEXT, TITLES, jax.random.key(0)) != item_random(CONTEXT, TITLES, jax.random.key(1))
    each = [item_random(CONTEXT, TITLES, jax.random.key(seed), each_time=True) for seed in range(3)]
    assert any(turns[0].mentions[0].item != turns[1].mentions[0].item for turns in each)
    assert item_random(CONTEXT[2:], TITLES, jax.random.key(0)) == CONTEXT[2:]


def test_of_mentions_that_overlap_the_later_has_no_place():
    turn = Turn("seeker", "Star Wars 2", (Mention("Star Wars 2", 0, 11), Mention("Wars", 5, 9)))
    (removed,) = item_removed([turn])
    assert removed.text == ""
    (drawn,) = item_random([turn], ["X"], jax.random.key(0))
    assert drawn.text == "X" and drawn.mentions == (Mention("X", 0, 1), Mention("X"))


def test_samples_keep_their_targets_and_what_was_named_before():
    for probe in ("original", "item only", "item removed", "item random"):
        made = probed(SAMPLES, probe, TITLES, jax.random.key(3))
        assert [(each.key, each.targets, each.seen) for each in made] == [(s.key, s.targets, s.seen) for s in SAMPLES]
    assert probed(SAMPLES, "original") == SAMPLES
    assert len({each.context for each in made}) == 3  # another draw for each sample


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("items only",), "the closest is item only"),
        (("item random",), "titles must be at least one"),
        (("item random", TITLES), "key must be a random key"),
        (("item random", TITLES, 0), "key must be a random key"),
    ],
)
def test_what_is_no_probe_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        probed(SAMPLES, *given)


def test_what_are_no_samples_is_refused():
    for wrong, said in ((None, "a list of Sample, got None"), (["x"], "number 0 is 'x'"), ("ab", "got 'ab'")):
        with pytest.raises(InputError, match=said):
            probed(wrong, "item only")
