"""Replies as titles, by either rules, and as items."""

import json
import time

import numpy as np
import pytest

from jaxrec import InputError
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.links import Limits
from jaxrec.conversational.replies import entity_name, paper, rank, repeated, strict


@pytest.mark.parametrize(
    ("text", "preamble", "titles"),
    [
        ("Sure! 1. Heat (1995)\n2. Up", "Sure! ", ("Heat", "Up")),
        ("1. Heat\n\n3.  Up ", "", ("Heat", "", "Up")),
        ("Heat, Up\nAlien", "", ("Heat", "Up", "Alien")),
        ("Three Billboards Outside Ebbing, Missouri", "", ("Three Billboards Outside Ebbing", "Missouri")),
        ("11. Heat\n2) Up\n3\u3001Alien\n4 - Cars", "1", ("Heat", "Up", "Alien", "Cars")),
        ("12 Angry Men", "", ("Angry Men",)),
        ("1. Heat (a (very) good one)", "", ("Heat (a good one)",)),
        ("1. \"Heat\" - a crime film\n* Up\n2. Heat", "", ('"Heat" - a crime film', "* Up", "Heat")),
        ("", "", ("",)),
    ],
)  # fmt: skip
def test_the_rules_of_the_paper_and_their_quirks(text, preamble, titles):
    assert paper(text) == (preamble, titles)


@pytest.mark.parametrize(
    ("entity", "name"),
    [
        ("<http://dbpedia.org/resource/Hoffa_(film)>", "Hoffa"),
        ("<http://dbpedia.org/resource/An_Actor_(actor)__PersonFunction__1>", "An Actor PersonFunction 1"),
        ("Spider-Man", "Spider Man"),
        ("AC/DC", "DC"),
    ],
)  # fmt: skip
def test_names_of_entities(entity, name):
    assert entity_name(entity) == name


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("Sure, 1 of these:\n1. Heat (1995)\n2. Up\n\nEnjoy!", ("Heat (1995)", "Up")),
        ("1) Heat\n2) Up", ("Heat", "Up")),
        ("(1) Heat\n[2] Up\n#3 Cars\n4 - Alien\n5: It\n6\u3001Us", ("Heat", "Up", "Cars", "Alien", "It", "Us")),
        ("**1. Heat**\n**2.** *Up* (2009)\n3. **Cars** \u2013 a film about cars", ("Heat", "Up (2009)", "Cars")),
        ("- Heat\n* Up\n\u2022 Alien", ("Heat", "Up", "Alien")),
        ("1. Heat\n   - with Al Pacino\n2. Up", ("Heat", "Up")),
        ("1. Heat\n1. Up", ("Heat", "Up")),
        ("1. Heat 2. Up 3. Alien", ("Heat", "Up", "Alien")),
        ("Heat\nUp\n\n300: Rise of an Empire\n12 Angry Men", ("Heat", "Up", "300: Rise of an Empire", "12 Angry Men")),
        ("Here are some films:\nHeat\nUp", ("Heat", "Up")),
        ("I recommend: Heat, Up, and Alien.", ("Heat", "Up", "Alien")),
        ("Three Billboards Outside Ebbing, Missouri", ("Three Billboards Outside Ebbing, Missouri",)),
        ("1. Heat (1995)\n2. heat (1995)\n3. Heat (1986)\n4. \n5. ?", ("Heat (1995)", "Heat (1986)")),
        ("1. [Heat](https://example.org/heat) (1995)\n2. \u201cUp\u201d, a film", ("Heat (1995)", "Up")),
        ("1. Heat, 1995\n2. Star Wars: Episode IV - A New Hope", ("Heat (1995)", "Star Wars: Episode IV - A New Hope")),
        ("1. Heat: a film of the city\n2. Alien: Covenant", ("Heat", "Alien: Covenant")),
        ("| # | Title | Year |\n|---|---|---|\n| 1 | Heat | 1995 |\n| 2 | Up | 2009 |", ("Heat (1995)", "Up (2009)")),
        ('["Heat (1995)", "Up"]', ("Heat (1995)", "Up")),
        ('```json\n[{"title": "Heat", "year": 1995}, {"Title": "Up", "year": "?"}, {}, 3]\n```', ("Heat (1995)", "Up")),
        ('Sure: {"movies": ["1. Heat", "2. Up"]} Enjoy!', ("Heat", "Up")),
        ("<think>1. Cars\n2. It</think>1. Heat\n2. Up", ("Heat", "Up")),
        ("<think>1. Cars\n2. It", ()),
        ("I am sorry, but as a model of language I cannot say what films you would like to see.", ()),
        ("[" * 10_000, ()),
        ("x" * 100_000, ()),
        ("1." * 50_000, ()),
        ("", ()),
        (" \n\t", ()),
    ],
)  # fmt: skip
def test_strict_rules(text, titles):
    assert strict(text).titles == titles


def test_what_comes_before_the_titles():
    assert strict("Sure!\nGladly.\n1. Heat\n2. Up").preamble == "Sure!\nGladly."
    assert strict("Here you are:\nHeat").preamble == "Here you are:"
    assert strict("I recommend: Heat, Up, Alien").preamble == "I recommend"


NAMES = ["Cars", "DJ", "Heat", "Inception", "Up"]


def test_items_by_the_rules_of_the_paper():
    ranked = rank(["1. Icarus\n2. heet\n3. \n4. Interstellar\n5. Heat"], NAMES, "paper")
    assert ranked.titles == [("Icarus", "heet", "", "Interstellar", "Heat")]
    # "Icarus" is 2 from "Cars", "" is 2 from "DJ" and "Up", of which "DJ" comes first as text.
    assert ranked.items[0].tolist() == [0, 2, 1, 2]
    assert (ranked.n_titles, ranked.n_unknown, ranked.n_repeated, ranked.n_empty) == (5, 1, 1, 0)
    every = rank(["1. Icarus\n2. heet\n3. \n4. Interstellar\n5. Heat"], NAMES, "paper", in_vocabulary=False)
    assert every.items[0].tolist() == [0, 2, 1, *Catalogue(NAMES).nearest(["interstellar"]).item, 2]


def test_items_by_strict_rules():
    texts = ["1. Icarus\n2. heet\n3. \n4. Inceptoin\n5. Heat\n6. Up", "", "Sorry."]
    ranked = rank(texts, NAMES)
    assert [items.tolist() for items in ranked.items] == [[2, 3, 4], [], []]
    assert (ranked.n_titles, ranked.n_unknown, ranked.n_repeated, ranked.n_empty) == (6, 2, 1, 1)
    every = rank(texts, NAMES, in_vocabulary=False)
    assert [items.tolist() for items in every.items] == [[-1, 2, 3, 4], [], [-1]]
    assert rank(texts, NAMES, limits=Limits(edits=0)).items[0].tolist() == [2, 4]
    assert rank([], NAMES).items == []


def test_items_that_stand_there_before():
    assert repeated(np.array([-5, -1, -5, -1])).tolist() == [False, False, True, False]  # a stranger, and none
    assert repeated(np.array([3, -1, 3, 1, -1, 1, 3])).tolist() == [False, False, True, False, False, True, True]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((["a", None], NAMES), "number 1 is None"),
        (("1. Heat", NAMES), "number 0 is"),
        ((["a"], []), "at least one"),
        ((["a"], NAMES, "papre"), "the closest is paper"),
    ],
)
def test_what_cannot_be_ranked_is_refused(given, said):
    if given[0] == "1. Heat":  # a single text is a single reply
        assert rank(*given).items[0].tolist() == [2]
        return
    with pytest.raises(InputError, match=said):
        rank(*given)


def test_blank_lines_take_time_by_their_number():
    begun = time.perf_counter()
    assert strict("\n" * 100_000 + "1. Heat").titles == ("Heat",)
    assert time.perf_counter() - begun < 10


def test_a_year_of_thousands_of_figures_is_none():
    text = json.dumps([{"title": "Heat", "year": "9" * 5000}])
    assert strict(text).titles == ("Heat",)
