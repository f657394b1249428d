"""Zero-shot runs: from samples and a chat model to figures that need no model."""

import dataclasses

import numpy as np
import pytest

from jaxrec import InputError
from jaxrec.conversational import prompts, zero_shot
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.budget import plan
from jaxrec.conversational.chat.protocol import ChatReply
from jaxrec.conversational.chat.recording import RecordingChat
from jaxrec.conversational.chat.replay import ReplayChat
from jaxrec.conversational.chat.simulated import SimulatedChat
from jaxrec.conversational.dialogue import Sample, Turn, samples
from jaxrec.conversational.planted import World

WORLD = World.drawn(0)
SAMPLES = list(samples(WORLD.dialogues(50)))
CATALOGUE = Catalogue(WORLD.titles)


class Says:
    """Replies with given texts, by key; None fails."""

    name = "says"

    def __init__(self, **texts):
        self.texts, self.asked = texts, []

    def complete(self, requests):
        self.asked += requests
        texts = [self.texts[each.key] for each in requests]
        return [ChatReply("", error="gone.") if text is None else ChatReply(text, "stop") for text in texts]


FILMS = Catalogue(["Heat (1995)", "Alien (1979)", "Ronin (1998)", "Brazil (1985)"])


HELLO = (Turn("seeker", "Hello"),)


def sample(key, targets, seen=(), context=HELLO):
    return Sample(key, context, tuple(targets), tuple(seen))


THREE = [
    sample("a", ["Heat (1995)", "Tron (1982)"], ["Alien (1979)"]),
    sample("b", ["Alien (1979)", "Tron (1982)"], ["Alien (1979)", "Tron (1982)"]),
    sample("c", ["Ronin (1998)"]),
]


def test_a_run_is_shown_in_a_line():
    assert repr(zero_shot.run(THREE, Says(a="", b="", c=None), FILMS)) == "Replies of says to 3 samples, 1 failed"


@pytest.mark.parametrize(
    "given, what",
    [
        (WORLD.dialogues(2), r"0 is a Dialogue; list\(samples"),
        (["Heat"], "0 is 'Heat'"),
        ([THREE[0], HELLO[0]], "1 is a Turn"),
    ],
)
def test_what_is_no_sample_is_refused(given, what):
    for asks in (lambda: zero_shot.run(given, Says(), FILMS), lambda: zero_shot.requests(given)):
        with pytest.raises(InputError, match=f"must be a list of Sample, and number {what}"):
            asks()


def test_what_is_no_dialogue_has_no_samples():
    with pytest.raises(InputError, match="must be Dialogues, as load or load_dialogues has them, got 'Heat'"):
        list(samples(["Heat"]))


def test_a_run_holds_all_that_its_figures_need():
    chat = Says(a="1. Alien (1979)\n2. Heat (1995)\n3. Heat\n4. Nowhere", b="1. Brazil\n2. Alien", c=None)
    run = zero_shot.run(THREE, chat, FILMS)
    assert [each.tolist() for each in run.ranked.items] == [[1, 0], [3, 1], []]
    assert [each.tolist() for each in run.ranks] == [[2, 0], [2, 0], [0]]
    assert [each.tolist() for each in run.is_new] == [[True, True], [False, False], [True]]
    assert run.failed.tolist() == [False, False, True] and run.errors == {"gone.": 1}
    assert run.notes == [
        "1 requests failed",
        "1 of 6 titles are none of the catalogue",
        "1 titles name an item that their reply has named before",
        "2 targets are none of the catalogue, and so missed",
    ]
    with_seen = run.scores(exclude_seen=False)
    assert with_seen["all", "recall@1"][0] == 0 and with_seen["all", "recall@5"][0] == pytest.approx(2 / 5)
    assert with_seen["recommendation", "mrr@5"][0] == pytest.approx(0.5 / 3) and with_seen.n_failed == 1
    assert run.scores()["recommendation", "recall@1"][0] == pytest.approx(1 / 3)  # Alien was seen, Heat moves up
    assert run.scores("per_sample")["recommendation", "recall@5"][0] == pytest.approx((0.5 + 0) / 2)
    assert run.scores(failed_as="leave out")["recommendation", "recall@1"][0] == pytest.approx(1 / 2)
    assert len(chat.asked) == 3
    paper = run.read_by("paper", in_vocabulary=False)
    assert [len(each) for each in paper.ranked.items] == [4, 2, 1] and len(chat.asked) == 3


def test_what_is_asked_is_the_prompt_with_the_conversation():
    context = (Turn("seeker", "Hello"), Turn("recommender", "Hi"))
    theirs = prompts.RECOMMEND.worded("List {count} {domain}.\n{conversation}\nSystem: ", "theirs", system="Be brief.")
    settings = {"domain": "films", "count": 5, "max_tokens": 99, "temperature": 0.5, "seed": 3}
    (asked,) = zero_shot.requests([sample("a", ["Heat (1995)"], context=context)], theirs, **settings)
    assert [each.content for each in asked.messages] == [
        "Be brief.",
        "List 5 films.\nUser: Hello\nSystem: Hi\nSystem: ",
    ]
    assert (asked.key, asked.stage, asked.max_tokens, asked.temperature, asked.seed) == ("a", "recommend", 99, 0.5, 3)
    chat = Says(a="1. Heat")
    zero_shot.run([sample("a", ["Heat (1995)"], context=context)], chat, FILMS, theirs, **settings)
    assert chat.asked == [asked] and plan([asked]).completion_tokens == 99


def test_a_recorded_run_gives_the_same_figures_without_a_model(tmp_path):
    chat = SimulatedChat(WORLD, typos=0.1, unknown=0.1, unnumbered=0.2, empty=0.1, failing=0.1)
    with RecordingChat(chat, tmp_path / "run.jsonl") as recording:
        first = zero_shot.run(SAMPLES, recording, CATALOGUE, domain="films")
    again = zero_shot.run(SAMPLES, ReplayChat(tmp_path / "run.jsonl"), CATALOGUE, domain="films")
    assert 0 < first.failed.sum() < 15 and first.errors == again.errors and first.notes == again.notes
    for protocol in ("per_target", "per_sample"):
        one, other = first.scores(protocol), again.scores(protocol)
        assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)
    with pytest.raises(InputError, match="another prompt"):
        zero_shot.run(SAMPLES, ReplayChat(tmp_path / "run.jsonl"), CATALOGUE, domain="movies")


def test_a_model_that_knows_the_genre_is_better_than_one_that_does_not():
    knows = zero_shot.run(SAMPLES, SimulatedChat(WORLD), CATALOGUE)
    deaf = [dataclasses.replace(each, context=each.context[:1]) for each in SAMPLES]
    does_not = zero_shot.run(deaf, SimulatedChat(WORLD), CATALOGUE)
    key = ("recommendation", "recall@20")
    assert knows.scores()[key][0] > does_not.scores()[key][0] + 0.1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "no samples"),
        (None, "samples must be a list of Sample, got None"),
        (["a"], "number 0 is 'a'"),
        ([sample("a", [])], "1 samples have no targets, such as 'a'"),
        ([*THREE, THREE[0]], "keys that tell them apart, got 'a' 2 times"),
        ([sample("a", ["Tron (1982)"])], "none of the 1 titles that the samples want is in the catalogue of 4"),
    ],
)
def test_samples_that_cannot_be_judged_are_refused_before_anything_is_asked(wrong, said):
    chat = Says()
    with pytest.raises(InputError, match=said):
        zero_shot.run(wrong, chat, FILMS)
    assert not chat.asked


def test_settings_that_are_none_are_refused():
    for wrong, said in {"count": "count must be", "max_tokens": "max_tokens must be"}.items():
        with pytest.raises(InputError, match=said):
            zero_shot.run(THREE, Says(), FILMS, **{wrong: 0})
    with pytest.raises(InputError, match="chat must be a chat model"):
        zero_shot.run(THREE, None, FILMS)
    with pytest.raises(InputError, match="prompt must be a Prompt"):
        zero_shot.run(THREE, Says(), FILMS, "Recommend something!")
    with pytest.raises(InputError, match="rules must be one of paper, strict"):
        zero_shot.run(THREE, Says(), FILMS, rules="lenient")
    with pytest.raises(InputError, match="protocol must be one of"):
        zero_shot.run(THREE, Says(a="", b="", c=""), FILMS).scores("per_user")


@pytest.mark.parametrize("given", [None, [], ["text"], [None], [ChatReply("a"), ChatReply("b")]])
def test_a_model_that_gives_no_replies_is_refused(given):
    class Wrong:
        name = "wrong"

        def complete(self, requests):
            return given

    with pytest.raises(InputError, match="the chat model 'wrong' must give a list with a ChatReply for each of 1 req"):
        zero_shot.run(THREE, Wrong(), FILMS)
