"""A conversation that goes on, without a language model and with one."""

import numpy as np
import pytest

from jaxrec import InputError, ItemScores
from jaxrec.conversational import session as talk
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.protocol import ChatReply
from jaxrec.conversational.crag import Crag
from jaxrec.conversational.session import Session, because

TITLES = ("Alien (1979)", "Brazil (1985)", "Cube (1997)", "Dune (1984)", "Dune (2021)", "Emma (1996)")
WEIGHTS = np.zeros((6, 6))
WEIGHTS[0, 1], WEIGHTS[0, 2], WEIGHTS[3, 2], WEIGHTS[4, 5] = 0.2, 0.3, 0.4, 0.5
COUNTS = np.array([9, 2, 3, 1, 8, 4])
CATALOGUE = Catalogue(TITLES)


def begun(**settings):
    return Session(CATALOGUE, WEIGHTS, COUNTS, **{"k": 2, **settings})


def test_an_answer_has_what_goes_with_the_names_and_its_reason():
    answer = begun().say("I liked Alien")
    assert answer.text == talk.FOUND and answer.titles == ("Cube (1997)", "Brazil (1985)")
    assert answer.reasons == ("because of Alien (1979)",) * 2


def test_the_popular_stand_in_and_say_so():
    answer = begun().say("hello")
    assert (answer.text, answer.titles) == (talk.UNDERSTOOD_NOTHING, ("Alien (1979)", "Dune (2021)"))
    assert answer.reasons == ("9 people talk of it", "8 people talk of it")
    answer = begun().say("I hate Alien")
    assert (answer.text, answer.titles) == (talk.ONLY_DISLIKED, ("Dune (2021)", "Emma (1996)"))
    assert begun().say("I like Emma").text == talk.NOTHING_GOES_WITH


def test_of_two_films_of_a_name_the_one_that_is_talked_of_more_is_meant():
    answer = begun().say("I like Dune")
    assert answer.trace.names[0].title == "Dune (2021)" and answer.titles[0] == "Emma (1996)"
    assert begun().say("I like Dune (1984)").titles[0] == "Cube (1997)"
    twice = Session(Catalogue(["Dune", "Dune (1984)", "Emma (1996)"]), np.eye(3), np.array([9, 1, 0]))
    for text, title in (("I like Dune", "Dune"), ("I like Dune (1984)", "Dune (1984)")):
        assert twice.say(text).trace.names[-1].title == title


def test_it_goes_on_without_saying_anything_twice():
    one = begun(k=1)
    said = [one.say(text) for text in ("I like Alien", "more", "Emma is great too", "more", "more", "more")]
    titles = [title for answer in said for title in answer.titles]
    assert titles == ["Cube (1997)", "Brazil (1985)", "Dune (2021)", "Dune (1984)"]
    assert [answer.text for answer in said[:2]] == [talk.FOUND, talk.MORE] and said[-1].text == talk.NOTHING_LEFT
    assert [turn.speaker for turn in one.turns] == ["seeker", "recommender"] * 6
    assert one.turns[0].items == ("Alien (1979)",) and one.turns[1].items == ("Cube (1997)",)


def test_a_later_word_of_dislike_counts():
    one = begun()
    one.say("I like Alien")
    assert one.say("no, I hated Alien").trace.query() == []


def test_reasons_are_the_largest_parts_of_a_score():
    assert because(WEIGHTS, [0, 3], 2) == [3, 0] and because(WEIGHTS, [0, 3], 2, most=1) == [3]
    assert because(WEIGHTS, [5], 2) == because(WEIGHTS, [], 2) == []
    assert because(WEIGHTS * [[1], [1], [1], [0.01], [1], [1]], [0, 3], 2) == [0]  # a hundredth is no reason
    assert because(ItemScores(COUNTS), [0], 2) == []


class Model:
    """Recommends what it was told to, by stage; None fails."""

    name = "model"

    def __init__(self, **answers):
        self.answers = answers

    def complete(self, requests):
        answers = [self.answers.get(each.stage) for each in requests]
        return [ChatReply(text) if text is not None else ChatReply("", error="out of order.") for text in answers]


def test_with_a_language_model_its_list_is_the_answer():
    model = Model(extract="Alien (1979)####2", reflect="Cube (1997)####1", recommend="Solaris\nEmma\nCube\nAlien")
    answer = begun(chat=model, crag=Crag(rerank=False), k=3).say("I liked that one with the alien")
    assert answer.titles == ("Solaris", "Emma (1996)", "Cube (1997)")
    assert answer.reasons == ("not in the catalogue", "", "because of Alien (1979)")
    assert [each.used for each in answer.trace.found] == [True, False]


def test_a_language_model_that_fails_is_stood_in_for():
    answer = begun(chat=Model()).say("I liked Alien")
    assert answer.titles == ("Cube (1997)", "Brazil (1985)") and answer.text == talk.FOUND
    assert "out of order." in answer.trace.errors


def test_what_cannot_be_said_leaves_the_conversation_as_it_was():
    one = begun()
    for wrong in (None, 5, b"Alien"):
        with pytest.raises(InputError, match="text must be a text"):
            one.say(wrong)
    failing = begun(chat=Broken())
    with pytest.raises(InputError, match="no such endpoint"):
        failing.say("I liked Alien")
    assert one.turns == failing.turns == []
    assert one.say("I liked Alien").titles == ("Cube (1997)", "Brazil (1985)")


class Broken:
    """A model whose endpoint is none."""

    name = "broken"

    def complete(self, requests):
        raise InputError("there is no such endpoint.")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"catalogue": None}, "titles must be a list"),
        ({"counts": None}, "counts"),
        ({"counts": COUNTS[:3]}, "a whole number for each of 6 titles"),
        ({"counts": np.full(6, np.nan)}, "a whole number for each of 6 titles"),
        ({"chat": 5}, "chat must be a chat model"),
        ({"crag": 5}, "crag must be a Crag"),
        ({"k": 0}, "k must be at least 1"),
    ],
)
def test_what_no_conversation_can_begin_with_is_refused(changed, said):
    with pytest.raises(InputError, match=said):
        Session(**{"catalogue": CATALOGUE, "item_weights": WEIGHTS, "counts": COUNTS, **changed})
