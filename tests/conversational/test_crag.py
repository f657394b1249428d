"""CRAG step by step with a chat model that says what a test has written down: every step, and every way round it."""

import dataclasses

import numpy as np
import pytest
from talk import turn

import jaxrec
from jaxrec import InputError
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.protocol import ChatReply
from jaxrec.conversational.chat.recording import RecordingChat
from jaxrec.conversational.chat.replay import ReplayChat
from jaxrec.conversational.chat.simulated import SimulatedChat
from jaxrec.conversational.crag import Crag, Wording, rank_confusion, recommending
from jaxrec.conversational.crag import trace as told
from jaxrec.conversational.dialogue import Dialogue, Sample, samples
from jaxrec.conversational.planted import World

TITLES = (
    *("Alien (1979)", "Brazil (1985)", "Cube (1997)", "Dune (1984)", "Eraserhead (1977)", "Fargo (1996)"),
    *("Gattaca (1997)", "Heat (1995)", "Ikiru (1952)", "Jaws (1975)"),
    *("The Godfather (1972)", "The Godfather Part II (1974)"),
)
CATALOGUE = Catalogue(TITLES)
# What is liked together: each item with the next three, the nearer the more.
WEIGHTS = sum(np.eye(12, k=step) * (1.0 - 0.2 * step) for step in (1, 2, 3))
SAMPLE = Sample("s", (turn("seeker", "I love Alien and I hated Dune", "Alien (1979)", "Dune (1984)"),), (), ())


class Scripted:
    """A chat model whose answers are written down by stage; a missing one is an error."""

    name = "scripted"

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def complete(self, requests):
        self.asked += requests
        return [
            ChatReply(self.answers[each.stage]) if each.stage in self.answers else ChatReply("", error="no answer.")
            for each in requests
        ]

    def prompt(self, stage):
        """The text that was asked in a stage."""
        (one,) = (each for each in self.asked if each.stage == stage)
        return one.messages[-1].content


GOOD = {
    "extract": "Alien (1979)####2\nDune (1984)####-2",
    "reflect": "Brazil (1985)####1\nCube (1997)####0",
    "recommend": "1. Cube\n2. Fargo (1996)\n3. Brazil (1985)\n4. Heat (1995)",
    "rerank": "Brazil (1985)####2\nFargo (1996)####-1\nHeat (1995)####1\nCube (1997)####1",
}


def run(chat, sample=SAMPLE, weights=WEIGHTS, **settings):
    (trace,) = Crag(**{"k": 2, **settings}).run([sample], chat, CATALOGUE, weights).traces
    return trace


def ranked(trace):
    return [each.title.split(" (")[0] for each in trace.ranked]


def test_the_whole_way_and_its_trace():
    chat = Scripted(**GOOD)
    trace = run(chat)
    assert [each.stage for each in chat.asked] == ["extract", "reflect", "recommend", "rerank"]
    assert [(name.text, name.attitude, name.title, name.link.how) for name in trace.names] == [
        ("Alien (1979)", 2, "Alien (1979)", "exact"),
        ("Dune (1984)", -2, "Dune (1984)", "exact"),
    ]
    assert trace.query() == [0]  # Dune is disliked
    assert [(each.title, round(each.score, 9), each.verdict, each.used) for each in trace.found] == [
        ("Brazil (1985)", 0.8, 1, True),
        ("Cube (1997)", 0.6, 0, False),
    ]
    assert "Brazil (1985)" in chat.prompt("recommend") and "Cube" not in chat.prompt("recommend")
    assert [each.title for each in trace.suggestions] == ["Cube (1997)", "Fargo (1996)", "Brazil (1985)", "Heat (1995)"]
    assert [each.score for each in trace.suggestions] == [1, -1, 2, 1]
    assert ranked(trace) == ["Brazil", "Cube", "Heat", "Fargo"]
    assert trace.notes == trace.errors == () and trace.n_requests == 4
    said = "\n".join(trace.explained())
    assert "named 'Dune (1984)', attitude -2" in said and "retrieved Cube (1997), score 0.600, not used" in said
    assert "Brazil (1985) as number 1, before that number 3, scored +2" in said


def test_the_prompt_says_what_was_retrieved_and_how_to_use_it():
    for usage in ("rag", "rec"):
        chat = Scripted(**GOOD)
        run(chat, usage=usage)
        wording = getattr(Wording(), usage)
        (asked,) = (each for each in chat.asked if each.stage == "recommend")
        assert wording.fields_of(asked)["retrieved"] == TITLES[1]


@pytest.mark.parametrize(
    ("name", "stages", "told_of"),
    [
        ("zero-shot", ["extract", "recommend"], []),
        ("nR12", ["extract", "recommend"], ["Brazil", "Cube"]),
        ("nR2", ["extract", "reflect", "recommend"], ["Brazil"]),
        ("full", ["extract", "reflect", "recommend", "rerank"], ["Brazil"]),
    ],
)
def test_ablations(name, stages, told_of):
    chat = Scripted(**GOOD)
    (trace,) = Crag.ablation(name, k=2).run([SAMPLE], chat, CATALOGUE, WEIGHTS).traces
    assert [each.stage for each in chat.asked] == stages
    assert [each.title.split(" (")[0] for each in trace.used] == told_of
    if name != "full":
        assert ranked(trace) == ["Cube", "Fargo", "Brazil", "Heat"]


def test_no_retrieval_is_the_plain_prompt_word_for_word():
    asked = {}
    for name, weights in (("zero-shot", WEIGHTS), ("nR12", -WEIGHTS)):
        chat = Scripted(**GOOD)
        (trace,) = Crag.ablation(name).run([SAMPLE], chat, CATALOGUE, weights).traces
        asked[name] = chat.prompt("recommend")
    assert asked["zero-shot"] == asked["nR12"]
    assert trace.notes == (told.NOTHING_RETRIEVED,)


def test_names_on_which_the_matchers_disagree_are_judged():
    chat = Scripted(**GOOD | {"extract": "Part II of The Godfathr####1\nAlien####1"})
    link = CATALOGUE.match(["Part II of The Godfathr"])[0]
    assert not link.agreed
    for answer, item, notes in (
        ("Part II of The Godfathr####The Godfather Part II (1974)####bm25", 11, ()),
        ("Part II of The Godfathr####Jaws (1975)####none", 9, ()),  # corrected to another title of the catalogue
        ("Part II of The Godfathr####NONE####none", -1, ()),
        ("Part II of The Godfathr####Solaris (1972)####none", -1, (told.UNKNOWN_LINK,)),
        ("what?", link.item, (told.NO_LINK_ANSWER,)),
        ("", link.item, (told.NO_LINK_ANSWER,)),
    ):
        chat.answers["link"] = answer
        chat.asked.clear()
        trace = run(chat, reflect=False)
        assert trace.names[0].item == item and trace.names[1].item == 0 and trace.notes == notes
        assert "Alien" not in chat.prompt("link").partition("Names:")[2]  # which both find
        assert trace.query() == [each for each in (item, 0) if each >= 0]
    chat.asked.clear()
    assert run(chat, judge=False).names[0].item == link.item
    assert "link" not in [each.stage for each in chat.asked]


@pytest.mark.parametrize("answer", [None, "", "I see no films here, sorry."])
def test_without_an_extraction_the_text_itself_is_searched(answer):
    chat = Scripted(**GOOD)
    del chat.answers["extract"]
    if answer is not None:
        chat.answers["extract"] = answer
    trace = run(chat)
    assert [(name.title, name.attitude) for name in trace.names] == [("Alien (1979)", 2), ("Dune (1984)", -2)]
    assert trace.notes == (told.NO_EXTRACTION,) and len(trace.errors) == (answer is None)


def test_names_may_come_from_the_data_or_the_text_alone():
    for source, attitudes in (("data", [0, 0]), ("text", [2, -2])):
        chat = Scripted(**GOOD)
        trace = run(chat, source=source)
        assert "extract" not in [each.stage for each in chat.asked]
        assert [name.attitude for name in trace.names] == attitudes
    assert run(Scripted(**GOOD), source="text", least=1).query(1) == [0]


def test_a_conversation_without_names_starts_from_a_guess():
    silent = dataclasses.replace(SAMPLE, context=(turn("seeker", "something scary"),))
    chat = Scripted(**GOOD | {"extract": "NONE", "guess": "1. Jaws (1975)\n2. Solaris\n3. Alien"})
    trace = run(chat, silent, guesses=2, reflect=False)
    assert trace.notes == (told.NO_NAMES,) and [name.item for name in trace.guesses] == [9, -1]
    assert trace.query() == [9] and [each.title for each in trace.found] == list(TITLES[10:12])
    assert 9 not in trace.seen
    disliked = Scripted(**GOOD | {"extract": "Dune (1984)####-1", "guess": "Dune\nJaws"})
    trace = run(disliked, reflect=False)
    assert trace.query() == [9] and 3 in trace.seen
    chat = Scripted(**GOOD | {"extract": "NONE"})
    assert run(chat, silent, guesses=0).notes == (told.NOTHING_RETRIEVED,)
    assert run(chat, silent).notes == (told.NO_NAMES, told.NOTHING_RETRIEVED)  # the guess failed, too


def test_nothing_that_was_named_is_retrieved_or_recommended():
    answers = {"extract": "Alien####1\nBrazil####-1", "recommend": "Alien\nBrazil (1985)\nCube\ncube (1997)\nHeat"}
    chat = Scripted(**GOOD | answers)
    trace = run(chat, dataclasses.replace(SAMPLE, seen=("Cube (1997)",)), rerank=False)
    assert [each.item for each in trace.found] == [3]  # of Alien: Brazil is disliked, Cube was seen
    assert ranked(trace) == ["Heat"]
    assert trace.notes.count(told.NAMED_BEFORE) == 4


def test_what_the_model_forgets_or_cannot_say_of_the_retrieved():
    for answer, used, notes in (
        ("Cube (1997)####1", [2], (told.FORGOTTEN_CONTEXT,)),
        ("Brazil (1985)####0\nCube (1997)####0", [], (told.NOTHING_KEPT,)),
        ("all of them", [1, 2], (told.NO_CONTEXT_ANSWER,)),
        ("", [1, 2], (told.NO_CONTEXT_ANSWER,)),
        ("NONE", [], (told.FORGOTTEN_CONTEXT, told.FORGOTTEN_CONTEXT, told.NOTHING_KEPT)),
    ):
        chat = Scripted(**GOOD | {"reflect": answer})
        trace = run(chat)
        assert [each.item for each in trace.used] == used and trace.notes == notes
        plain = Wording().plain.request("s", domain="movies", count=20, conversation="User: " + SAMPLE.context[0].text)
        assert (chat.prompt("recommend") == plain.messages[-1].content) == (not used)


def test_what_the_model_forgets_or_cannot_say_of_the_order():
    for answer, drop, order, note in (
        ("Heat (1995)####0\nFargo (1996)####1", False, ["Fargo", "Heat", "Cube", "Brazil"], told.FORGOTTEN_RANK),
        ("Heat (1995)####0\nFargo (1996)####1", True, ["Fargo", "Heat"], told.LOST),
        ("no idea", False, ["Cube", "Fargo", "Brazil", "Heat"], told.NO_RANKS),
        ("", False, ["Cube", "Fargo", "Brazil", "Heat"], told.NO_RANKS),
        ("Solaris####2", False, ["Cube", "Fargo", "Brazil", "Heat"], told.NO_RANKS),
    ):
        trace = run(Scripted(**GOOD | {"rerank": answer}), drop_forgotten=drop)
        assert ranked(trace) == order and set(trace.notes) == {note}
    silent = Scripted(**{stage: text for stage, text in GOOD.items() if stage != "rerank"})
    trace = run(silent)
    assert ranked(trace) == ["Cube", "Fargo", "Brazil", "Heat"] and trace.errors == ("no answer.",)


def test_the_order_is_a_stable_permutation(rng):
    for _ in range(200):
        scores = [None if one == 3 else int(one) for one in rng.integers(-2, 4, rng.integers(0, 12))]
        order = recommending.ordered(scores)
        assert sorted(order) == list(range(len(scores)))
        keys = [(-9 if scores[place] is None else scores[place], -place) for place in order]
        assert keys == sorted(keys, reverse=True)
        kept = tuple(place for place in order if scores[place] is not None)
        assert recommending.ordered(scores, drop_forgotten=True) == kept


def test_titles_outside_of_the_catalogue_hold_their_rank_and_hit_nothing():
    answers = {
        "recommend": "Solaris (1972)\nHeat\nHeat (1995)\nFargo",
        "rerank": "Heat (1995)####1\nSolaris (1972)####1",
    }
    chat = Scripted(**GOOD | answers)
    result = Crag(k=2).run([SAMPLE], chat, CATALOGUE, WEIGHTS)
    assert result.titles() == [["Solaris (1972)", "Heat (1995)", "Fargo (1996)"]]
    assert result.items(5).tolist() == [[-1, 7, 5, -1, -1]]
    counts = result.counts()
    assert counts[told.OUTSIDE] == counts[told.REPEATED] == counts[told.FORGOTTEN_RANK] == 1
    assert counts["requests"] == 4 and counts["requests that failed"] == 0
    assert told.OUTSIDE in str(result)


def test_an_endpoint_that_never_answers_loses_nothing():
    result = Crag(k=2).run([SAMPLE, dataclasses.replace(SAMPLE, key="t")], Scripted(), CATALOGUE, WEIGHTS)
    counts = result.counts()
    assert counts["requests"] == counts["requests that failed"] == 6  # extract, reflect and recommend of each
    assert counts[told.NO_RECOMMENDATION] == counts[told.NO_EXTRACTION] == counts[told.NO_CONTEXT_ANSWER] == 2
    assert result.items(3).tolist() == [[-1] * 3] * 2
    assert all("no answer." in "\n".join(trace.explained()) for trace in result.traces)


def test_words_around_a_list_are_no_titles():
    reply = "Sure! Here are some movies:\n\n1. **Cube (1997)** - a maze\n2. Fargo (1996)\n\nEnjoy your evening!"
    trace = run(Scripted(**GOOD | {"recommend": reply}), rerank=False)
    assert ranked(trace) == ["Cube", "Fargo"] and trace.notes == ()


def test_figures_are_of_samples_or_targets_and_an_empty_list_is_a_miss():
    one = dataclasses.replace(
        SAMPLE, targets=("Brazil (1985)", "Solaris (1972)", "Alien (1979)"), seen=("Alien (1979)",)
    )
    two = dataclasses.replace(SAMPLE, key="t", targets=("Cube (1997)",))
    found = Crag(k=2).run([one, two], Scripted(**GOOD), CATALOGUE, WEIGHTS)  # Brazil, Cube, Heat, Fargo
    scores = found.scores(metrics="recall@1,recall@5")
    assert scores["recommendation", "recall@1"][0] == pytest.approx((1 / 2 + 0) / 2)
    assert scores["recommendation", "recall@5"][0] == pytest.approx((1 / 2 + 1) / 2)
    assert found.scores("per_target", "recall@5")["recommendation", "recall@5"][0] == pytest.approx(2 / 3)
    silent = Crag(k=2).run([one, two], Scripted(), CATALOGUE, WEIGHTS)
    assert silent.scores(metrics="recall@5")["recommendation", "recall@5"] == (0, 0)


def test_a_recorded_run_is_replayed_to_the_last_digit(tmp_path):
    world = World.drawn(0, n_items=60)
    weights, catalogue = jaxrec.Ease(10.0).fit(world.interactions(100)), Catalogue(world.titles)
    asked = list(samples(world.dialogues(8)))
    model = SimulatedChat(world, typos=0.2, unknown=0.1, empty=0.1)
    with RecordingChat(model, tmp_path / "run.jsonl") as chat:
        first = Crag().run(asked, chat, catalogue, weights)
    again = Crag().run(asked, ReplayChat(tmp_path / "run.jsonl"), catalogue, weights)
    assert again.traces == first.traces
    assert str(again.scores()) == str(first.scores())


def test_rank_confusion_shows_copies():
    ranks = "Cube (1997)####2\nBrazil (1985)####1\nHeat (1995)####0"
    chat = Scripted(**GOOD | {"recommend": "Brazil\nCube\nHeat", "rerank": ranks})
    traces = Crag(k=2, reflect=False).run([SAMPLE], chat, CATALOGUE, WEIGHTS).traces
    assert rank_confusion(traces, 3, before=True).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert rank_confusion(traces, 3).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_the_catalogue_of_the_paper_restricts_what_is_retrieved():
    chat = Scripted(**GOOD)
    (trace,) = Crag(k=2, reflect=False).run([SAMPLE], chat, CATALOGUE, WEIGHTS, among=[2, 3, 4]).traces
    assert [each.item for each in trace.found] == [2]


def test_what_it_refuses():
    for settings, says in (
        ({"k": -1}, "k must be at least 0"),
        ({"usage": "rug"}, "the closest is rag"),
        ({"source": "words"}, "source must be one of"),
        ({"least": 3}, "least must lie between -2 and 2"),
        ({"rerank": "no"}, "rerank must be True or False"),
    ):
        with pytest.raises(InputError, match=says):
            Crag(**settings)
    with pytest.raises(InputError, match="ablation must be one of"):
        Crag.ablation("nR1")
    with pytest.raises(InputError, match="'s' more than once"):
        Crag().run([SAMPLE, SAMPLE], Scripted(**GOOD), CATALOGUE, WEIGHTS)
    with pytest.raises(InputError, match="there are no samples"):
        Crag().run([], Scripted(**GOOD), CATALOGUE, WEIGHTS)
    with pytest.raises(InputError, match="chat must be a chat model"):
        Crag().run([SAMPLE], None, CATALOGUE, WEIGHTS)
    with pytest.raises(InputError, match="12 titles and item_weights are of 3 items"):
        Crag().run([SAMPLE], Scripted(**GOOD), CATALOGUE, np.eye(3))
    data = jaxrec.Interactions.from_triples([0, 0, 1], [0, 1, 1], item_ids=["x", "y"])
    fitted, two = jaxrec.Ease(reg=1.0).fit(data), ["Alien (1979)", "Brazil (1985)"]
    assert Crag().run([SAMPLE], Scripted(**GOOD), Catalogue(two, ids=["x", "y"]), fitted).traces
    with pytest.raises(InputError, match="item 0 has the id 'y' in the catalogue, and 'x' in the data"):
        Crag().run([SAMPLE], Scripted(**GOOD), Catalogue(two, ids=["y", "x"]), fitted)
    with pytest.raises(InputError, match="must be a list of Sample, and number 0 is a Dialogue; list"):
        Crag().run([Dialogue("1", ())], Scripted(**GOOD), CATALOGUE, WEIGHTS)


def test_settings_and_results_are_shown_without_their_texts():
    found = Crag().run([SAMPLE], Scripted(**GOOD), CATALOGUE, WEIGHTS)
    assert repr(found).splitlines()[0] == "1 samples" and "hated" not in repr(found) and "####" not in repr(Crag())
