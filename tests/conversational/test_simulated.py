"""The planted world and the model that plays a language model in it."""

import dataclasses

import numpy as np
import pytest

from jaxrec import Ease, InputError
from jaxrec.conversational import prompts
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.protocol import ChatModel
from jaxrec.conversational.chat.simulated import SimulatedChat
from jaxrec.conversational.dialogue import samples
from jaxrec.conversational.planted import GENRES, World

WORLD = World.drawn(0)
SAMPLES = list(samples(WORLD.dialogues(60)))
CHAT = SimulatedChat(WORLD)


def asked(prompt, chat=CHAT, some=SAMPLES, **fields):
    told = {"domain": "films", "count": 20, **fields}
    requests = [prompt.request(each.key, conversation=prompts.conversation(each.context), **told) for each in some]
    return chat.complete(requests)


def lists(chat, prompt=prompts.RECOMMEND, **fields):
    return [prompt.parse(each.text).rows for each in asked(prompt, chat, **fields)]


def test_a_world_is_drawn_by_its_seed():
    again, other = World.drawn(0), World.drawn(1)
    assert again.titles == WORLD.titles and other.titles != WORLD.titles
    assert len(set(WORLD.titles)) == len(WORLD.titles) == 300
    assert abs(WORLD.popularity.sum() - 1) < 1e-12
    np.testing.assert_allclose(np.linalg.norm(WORLD.tastes, axis=1), 1)
    assert WORLD.dialogues(5) == again.dialogues(5) and WORLD.dialogues(5, seed=1) != again.dialogues(5)
    assert WORLD.interactions(9).fingerprint == again.interactions(9).fingerprint


def test_dialogues_say_where_their_items_stand_and_recommend_what_was_not_named():
    for dialogue in WORLD.dialogues(40):
        for turn in dialogue.turns:
            assert all(turn.text[each.start : each.stop] == each.item for each in turn.mentions)
    for sample in SAMPLES:
        assert 1 <= len(sample.targets) <= 3 and not set(sample.targets) & set(sample.seen)
        assert any(genre in sample.context[-1].text for genre in GENRES)
    catalogue = Catalogue(WORLD.titles)
    links = catalogue.match([title for sample in SAMPLES for title in sample.targets])
    assert {each.how for each in links} == {"exact"}


def test_tastes_can_be_learned_from_the_interactions():
    data = WORLD.interactions(400)
    weights = np.asarray(Ease(50.0).fit(data).model.weights)
    near = np.argsort(-weights, axis=0)[:10]  # for each item
    likeness = np.einsum("nik,ik->ni", WORLD.tastes[near], WORLD.tastes).mean()
    assert likeness > 0.3  # 0 for items drawn at random


def test_replies_depend_on_seed_stage_and_key_alone():
    assert isinstance(CHAT, ChatModel)
    first = asked(prompts.RECOMMEND)
    assert first == asked(prompts.RECOMMEND) and first[::-1] == asked(prompts.RECOMMEND, some=SAMPLES[::-1])
    assert first != asked(prompts.RECOMMEND, SimulatedChat(WORLD, seed=1))
    assert len({each.text for each in asked(prompts.RECOMMEND, some=SAMPLES[:1] * 3)}) == 1
    assert all(each.prompt_tokens > 20 and each.completion_tokens > 20 for each in first)


def test_it_recommends_the_genre_by_popularity_and_nothing_that_was_named():
    skewed, fair = lists(CHAT), lists(SimulatedChat(WORLD, popularity_skew=0.0))
    for sample, titles in zip(SAMPLES, skewed, strict=True):
        assert len(titles) == len(set(titles)) == 20 and not set(titles) & set(sample.seen)
    items = np.array([[WORLD.number[title] for title in titles] for titles in skewed])
    wanted = np.array([CHAT._genre(sample.context[-1].text) for sample in SAMPLES])
    assert (WORLD.genre[items] == wanted[:, None]).mean() > 0.9
    others = np.array([[WORLD.number[title] for title in titles] for titles in fair])
    assert WORLD.popularity[items].mean() > 1.5 * WORLD.popularity[others].mean()


def test_what_came_after_its_cut_off_it_does_not_name_by_itself():
    chat = SimulatedChat(WORLD, cut_off=2000)
    assert max(WORLD.year[WORLD.number[title]] for titles in lists(chat) for title in titles) == 2000
    late = [title for title, year in zip(WORLD.titles, WORLD.year, strict=True) if year > 2000][:5]
    for titles in lists(chat, prompts.recommend("rec"), retrieved=prompts.lines(late)):
        assert list(titles[:5]) == late


def test_retrieved_titles_are_repeated_in_their_order():
    some = WORLD.titles[:15]
    for titles in lists(CHAT, prompts.recommend("rag"), retrieved=prompts.lines(some)):
        assert titles[:10] == some[:10] and len(set(titles)) == 20
    for titles in lists(CHAT, prompts.recommend("rec"), retrieved=prompts.lines(some)):
        assert titles[:15] == some


def test_it_extracts_what_was_said_with_what_was_thought_of_it():
    for sample, reply in zip(SAMPLES, asked(prompts.EXTRACT), strict=True):
        thought = {each.item: each.attitude for turn in sample.context for each in turn.mentions}
        assert dict(prompts.EXTRACT.parse(reply.text).rows) == thought
    nothing = dataclasses.replace(SAMPLES[0], context=SAMPLES[0].context[:1])
    assert asked(prompts.EXTRACT, some=[nothing])[0].text == prompts.NONE


@pytest.mark.parametrize("prompt", [prompts.CONTEXT, prompts.RERANK], ids=lambda each: each.stage)
def test_its_judgements_follow_what_is_true_the_less_the_more_noise(prompt):
    shown = WORLD.titles[:60]
    agreement = []
    for noise in (0.0, 0.5, 5.0):
        chat, found = SimulatedChat(WORLD, noise=noise), []
        for sample, reply in zip(SAMPLES, asked(prompt, chat, titles=prompts.lines(shown)), strict=True):
            scores = prompts.scores_of(shown, prompt.parse(reply.text))
            assert None not in scores
            liking = chat._liking(prompts.conversation(sample.context))[:60]
            found.append(np.corrcoef(np.array(scores, float) + 1e-9 * liking, liking)[0, 1])
        agreement.append(np.mean(found))
    assert agreement[0] > 0.6 and agreement[0] > agreement[1] > agreement[2] > 0


def test_it_says_which_of_two_titles_is_meant():
    meant, other = WORLD.titles[3], WORLD.titles[8]
    wrong = meant[:2] + "x" + meant[3:]
    rows = [(wrong, meant, other), (wrong, other, meant), (wrong, meant, meant), ("Qqqqqq", other, None)]
    chat = SimulatedChat(WORLD, noise=0.0)
    (reply,) = asked(prompts.LINK, chat, SAMPLES[:1], candidates=prompts.candidates(rows))
    assert prompts.LINK.parse(reply.text).rows == (
        (wrong, meant, "fuzzy"),
        (wrong, meant, "bm25"),
        (wrong, meant, "both"),
        ("Qqqqqq", None, "none"),
    )


def test_it_errs_as_often_as_it_is_told_to():
    def share(predicate, chat):
        replies = asked(prompts.RECOMMEND, chat)
        return np.mean([predicate(each) for each in replies])

    catalogue = Catalogue(WORLD.titles)

    def how(chat):
        links = catalogue.match([title for titles in lists(chat) for title in titles])
        return {kind: np.mean([each.how == kind for each in links]) for kind in ("exact", "edit", "words", "none")}

    assert abs(share(lambda each: not each.text and not each.error, SimulatedChat(WORLD, empty=0.3)) - 0.3) < 0.2
    assert abs(share(lambda each: each.error is not None, SimulatedChat(WORLD, failing=0.3)) - 0.3) < 0.2
    assert abs(share(lambda each: not each.text.startswith("1."), SimulatedChat(WORLD, unnumbered=0.3)) - 0.3) < 0.2
    typed = how(SimulatedChat(WORLD, typos=0.2))
    assert 0.12 < typed["edit"] < 0.25 and typed["none"] < 0.05
    assert 0.12 < how(SimulatedChat(WORLD, unknown=0.2))["none"] < 0.28
    assert how(CHAT)["exact"] == 1


def test_what_it_is_not_told_of_is_refused():
    with pytest.raises(InputError, match="knows no prompt of stage 'recommend'"):
        CHAT.complete([prompts.RECOMMEND.worded("Say: {conversation}", "x").request("1", conversation="")])
    other = prompts.RECOMMEND.worded("Say: {conversation}", "x")
    chat = SimulatedChat(WORLD, wording=(*prompts.PROMPTS, other))
    assert chat.complete([other.request("1", conversation="User: a western")])[0].text.startswith("1. ")
    with pytest.raises(InputError, match="typos must"):
        SimulatedChat(WORLD, typos=1.5)
