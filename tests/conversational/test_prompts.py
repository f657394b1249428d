"""Prompts: what is put into them comes out of them, and answers of any kind are read or counted."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec import InputError
from jaxrec.conversational import prompts
from jaxrec.conversational.dialogue import Turn

TURNS = (Turn("seeker", "Hello,\nsomething like Heat"), Turn("recommender", ""), Turn("seeker", "but newer"))
WORDS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=60)
NOISE = WORDS.filter(lambda words: "##" not in words)
TITLE = st.from_regex(r"[A-Z][a-z]{1,8}( [A-Z][a-z]{1,6}){0,2} \(19[0-9]{2}\)", fullmatch=True)


def test_a_conversation_has_a_line_for_each_turn_with_words():
    assert prompts.conversation(TURNS) == "User: Hello, something like Heat\nUser: but newer"
    assert prompts.conversation(TURNS[:1], seeker="Human").startswith("Human: ")


@pytest.mark.parametrize("prompt", prompts.PROMPTS, ids=lambda each: f"{each.stage}-{each.version}")
def test_the_fields_of_a_request_are_what_was_put_in(prompt):
    told = {
        "domain": "movies",
        "count": "20",
        "conversation": prompts.conversation(TURNS) + "\nUser: {titles} \\1 .*?",
        "retrieved": "Heat (1995)\nRonin (1998)",
        "titles": "Heat (1995)\nRonin (1998)",
        "candidates": prompts.candidates([("Heat", "Heat (1995)", None)]),
    }
    fields = {name: told[name] for name in prompt.fields}
    request = prompt.request("7:1", **fields)
    assert (request.stage, request.key) == (prompt.stage, "7:1")
    assert prompt.fields_of(request) == fields
    with pytest.raises(InputError, match="lacks the field"):
        prompt.request("7:1", domain="movies")


def test_requests_of_another_wording_are_refused():
    other = prompts.RECOMMEND.worded("Pretend.\n{conversation}", "theirs", system="Be brief.")
    request = other.request("1", conversation="User: hi")
    assert [each.role for each in request.messages] == ["system", "user"]
    assert other.fields_of(request) == {"conversation": "User: hi"}
    with pytest.raises(InputError, match="was not made by the prompt recommend 1"):
        prompts.RECOMMEND.fields_of(request)


@pytest.mark.parametrize("text", ["no field", "{conversation} {retrieved}", "{domain} {conversatoin}"])
def test_a_wording_with_other_fields_is_refused(text):
    with pytest.raises(InputError, match="must have the fields domain, count, conversation"):
        prompts.RECOMMEND.worded(text, "wrong")


def test_retrieved_titles_come_in_two_usages():
    assert prompts.recommend() is prompts.RECOMMEND
    assert prompts.recommend("rag").text != prompts.recommend("rec").text
    with pytest.raises(InputError, match="rag, rec or None"):
        prompts.recommend("both")


@pytest.mark.parametrize(
    ("answer", "rows", "n_unreadable"),
    [
        ("Heat (1995)####2\nAlien####-1", (("Heat (1995)", 2), ("Alien", -1)), 0),
        ("1. Heat ### +1\n- Alien #### \N{MINUS SIGN}2 (hates it)", (("Heat", 1), ("Alien", -2)), 0),
        ("12 Monkeys####1\nSe7en####0", (("12 Monkeys", 1), ("Se7en", 0)), 0),
        ("Heat####1\nHeat####-1", (("Heat", -1),), 0),
        ("none", (), 0),
        ("None.\n", (), 0),
        ("", (), 0),
        ("```\nHeat####1\n```", (("Heat", 1),), 0),
        ("Here are the movies:\nHeat####5\nAlien####likes\n####1\nHeat####10", (), 5),
    ],
)
def test_extraction(answer, rows, n_unreadable):
    read = prompts.EXTRACT.parse(answer)
    assert (read.rows, read.n_unreadable) == (rows, n_unreadable)
    assert read.failed == (not rows and n_unreadable > 0)


def test_a_line_without_end_is_unreadable_at_once():
    begun = time.perf_counter()
    read = prompts.EXTRACT.parse(f"Heat####1\nx{' ' * 500_000}x####1")
    assert read.rows == (("Heat", 1),) and read.n_unreadable == 1
    assert time.perf_counter() - begun < 20  # by a pattern it would be minutes


def test_link_reflection():
    answer = (
        "heat####Heat (1995)####both\nicarus####NONE####none\nstar war####Star Wars (1977)####None\nx####y####guess"
    )
    read = prompts.LINK.parse(answer)
    assert read.rows == (
        ("heat", "Heat (1995)", "both"),
        ("icarus", None, "none"),
        ("star war", "Star Wars (1977)", "none"),
    )
    assert read.n_unreadable == 1


def test_judgements_are_of_the_titles_asked_about():
    read = prompts.CONTEXT.parse('1. heat (1995) ####1\n"Alien (1979)"####0\nHeat (1995)####0\nRonin####2')
    assert prompts.scores_of(["Alien (1979)", "Heat (1995)", "Ronin"], read) == [0, 1, None]
    assert read.n_unreadable == 1
    numbered = prompts.RERANK.parse("1. FC Köln####2\nFC Köln####-2")
    assert prompts.scores_of(["1. FC Köln", "FC Köln"], numbered) == [2, 2]


@given(WORDS)
def test_no_answer_makes_a_reader_fail(answer):
    for prompt in prompts.PROMPTS:
        read = prompt.parse(answer)
        assert len(read.rows) + read.n_unreadable <= len(answer.splitlines())


@given(st.dictionaries(TITLE, st.integers(-2, 2), max_size=8), st.lists(NOISE, max_size=3))
def test_what_is_in_the_form_is_read_whatever_stands_around_it(scores, noise):
    answer = "\n".join([f"{title}####{score}" for title, score in scores.items()] + noise)
    assert dict(prompts.EXTRACT.parse(answer).rows) == scores
    titles = list(scores)
    unlike = len({title.casefold() for title in titles}) == len(titles)
    assert not unlike or prompts.scores_of(titles, prompts.RERANK.parse(answer)) == list(scores.values())
