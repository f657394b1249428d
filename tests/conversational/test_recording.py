"""Recorded runs: taken up again without asking twice, replayed without a model, refused where they are of others."""

import dataclasses
import gzip
import json
import os
import signal
from pathlib import Path

import pytest
from conversational.endpoints import MODEL, Answer, questions, right, serving, started, until
from hypothesis import given
from hypothesis import strategies as st

from jaxrec import InputError
from jaxrec.conversational import prompts, zero_shot
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat import records
from jaxrec.conversational.chat.budget import BudgetedChat
from jaxrec.conversational.chat.cache import CachedChat
from jaxrec.conversational.chat.http import HttpChat
from jaxrec.conversational.chat.protocol import ChatModel, ChatReply, ChatRequest, Message
from jaxrec.conversational.chat.recording import RecordingChat
from jaxrec.conversational.chat.records import Record
from jaxrec.conversational.chat.replay import ReplayChat
from jaxrec.conversational.recorded import load_run

SECRET = "sk-do-not-tell-0123456789"
DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


class Parrot:
    """Says what it is asked, counts it, and fails where it is told to."""

    name = "parrot"

    def __init__(self, fails=()):
        self.asked, self.fails = [], set(fails)

    def complete(self, requests):
        self.asked += [each.key for each in requests]
        return [self._reply(each) for each in requests]

    def _reply(self, request):
        if request.key in self.fails:
            return ChatReply("", error="no.")
        return ChatReply(f"{request.messages[-1].content}\ud83d\n", "stop", 3, 4, "p")


def cached(replies):
    return [dataclasses.replace(each, cached=True) for each in replies]


def test_what_was_recorded_is_not_asked_again(tmp_path):
    path, first, second = tmp_path / "run.jsonl", Parrot(fails={"3"}), Parrot()
    with RecordingChat(first, path) as chat:
        assert isinstance(chat, ChatModel) and chat.name == "parrot"
        replies = chat.complete(questions(6))
        assert chat.complete(questions(2)) == cached(replies[:2])
        assert first.asked == ["0", "1", "2", "3", "4", "5"] and chat.n_recorded == 5
    with RecordingChat(second, path) as chat:
        again = chat.complete(questions(8))
        assert second.asked == ["3", "6", "7"]  # what failed is asked again
        assert [each.cached for each in again] == [True, True, True, False, True, True, False, False]
    assert [each.text for each in ReplayChat(path).complete(questions(8))] == [each.text for each in again]
    with pytest.raises(InputError, match="was closed"):
        chat.complete(questions(1))


def test_a_replay_is_the_run_with_its_errors(tmp_path):
    path = tmp_path / "run.jsonl"
    with RecordingChat(Parrot(fails={"1"}), path) as chat:
        replies = chat.complete(questions(3))
    replay = ReplayChat(path)
    assert isinstance(replay, ChatModel) and replay.name == "parrot"
    assert replay.complete(questions(3)[::-1]) == [
        ChatReply(**{**vars(each), "cached": True}) for each in replies[::-1]
    ]


ANY = st.text(st.characters(), max_size=20)  # half surrogate pairs too
RECORDS = st.builds(
    Record,
    asked=ANY,
    stage=ANY,
    key=ANY,
    digest=st.just("d"),
    messages=st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), ANY), min_size=1).map(tuple),
    reply=st.builds(ChatReply, ANY, ANY, st.integers(0, 9), st.integers(0, 9), ANY, error=st.none() | ANY),
)


@given(st.lists(RECORDS, max_size=4), st.floats(0, 1))
def test_a_file_cut_anywhere_holds_the_records_before(written, at):
    content = "".join(record.line() for record in written).encode()
    assert records.parsed(content, "f") == (written, len(content))
    cut = content[: round(at * len(content))]
    found, end = records.parsed(cut, "f")
    assert found == written[: len(found)] and cut.count(b"\n") <= len(found) <= cut.count(b"\n") + 1
    assert end == len("".join(record.line() for record in found)) or end == len(cut)


@pytest.mark.parametrize("kept", [0, 1, 30, -2, -1])
def test_half_a_line_at_the_end_is_dropped_and_its_request_asked_again(tmp_path, kept):
    path, parrot = tmp_path / "run.jsonl", Parrot()
    with RecordingChat(Parrot(), path) as chat:
        chat.complete(questions(3))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    whole = kept == -1  # but for the line break
    if kept:
        assert ReplayChat(path).complete(questions(2)) and path.read_bytes() != b"".join(lines)
    with RecordingChat(parrot, path) as chat:
        chat.complete(questions(3))
    assert parrot.asked == ([] if whole else ["2"]) and path.read_bytes() == b"".join(lines)


def test_the_same_request_is_asked_once_and_different_ones_of_one_key_are_refused(tmp_path):
    parrot = Parrot()
    with RecordingChat(parrot, tmp_path / "run.jsonl") as chat:
        same = questions(2) * 3
        assert len({each.text for each in chat.complete(same)}) == 2 and parrot.asked == ["0", "1"]
        other = ChatRequest((Message("user", "other"),), "7")
        with pytest.raises(InputError, match="share the key '7', and differ"):
            chat.complete([other, *questions(1, start=7)])
        with pytest.raises(InputError, match="holds a reply to another prompt for the sample '0'"):
            chat.complete([ChatRequest((Message("user", "other"),), "0")])
        assert chat.complete([ChatRequest((Message("user", "other"),), "0", stage="extract")])[0].text
        assert parrot.asked == ["0", "1", "0"]


def test_files_that_are_no_record_of_this_model_are_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    with RecordingChat(Parrot(), path) as chat, pytest.raises(InputError, match="is being written by another run"):
        chat.complete(questions(3))
        RecordingChat(Parrot(), path)
    other = Parrot()
    other.name = "cockatoo"
    with pytest.raises(InputError, match="holds replies of 'parrot', not of 'cockatoo'"):
        RecordingChat(other, path)
    good = path.read_bytes()
    for wrong in (b"{}\n", b"\0" * 40 + b"\n", b'{"resp": 3}\n', b"[" * 99_999 + b"\n", b"title,year\nHeat,1995\n"):
        path.write_bytes(wrong + good)
        for opened in (lambda: RecordingChat(Parrot(), path), lambda: ReplayChat(path)):
            with pytest.raises(InputError, match=r"line 1: this is no recorded reply"):
                opened()
        assert path.read_bytes() == wrong + good
    path.write_bytes(good)
    for wrong in (tmp_path, tmp_path / "none" / "run.jsonl", tmp_path / "run.txt"):
        with pytest.raises(InputError):
            RecordingChat(Parrot(), wrong)
    (tmp_path / "empty.jsonl").write_bytes(b"")
    for wrong, said in {"empty.jsonl": "holds no recorded replies", "missing.jsonl": "cannot be read"}.items():
        with pytest.raises(InputError, match=said):
            ReplayChat(tmp_path / wrong)
    (tmp_path / "run.jsonl.gz").write_bytes(gzip.compress(good)[:-9])
    with pytest.raises(InputError, match="cannot be unpacked"):
        ReplayChat(tmp_path / "run.jsonl.gz")


def test_a_disk_that_is_full_is_one_sentence(tmp_path, monkeypatch):
    chat = RecordingChat(Parrot(), tmp_path / "run.jsonl")
    monkeypatch.setattr(os, "write", lambda *_: 3)
    with pytest.raises(InputError, match="the disk is full"):
        chat.complete(questions(1))
    chat.close()


def theirs(index, prompt, text):
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "index": index,
        "prompt": prompt,
        "resp": {"model": "m", "usage": "dummy", "choices": [choice]},
        "rec_list": [],
    }


def test_the_records_of_the_zero_shot_paper_are_replayed(tmp_path):
    lines = [theirs(i, f"[human] question {i} [bot]", f"1. Film {i}") for i in range(3)]
    path = tmp_path / "m.general.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    replay = ReplayChat(path)
    assert replay.name == "m"
    assert [each.text for each in replay.complete(questions(3))] == ["1. Film 0", "1. Film 1", "1. Film 2"]
    with pytest.raises(InputError, match="holds no reply for the sample '3' of stage 'recommend'"):
        replay.complete(questions(1, start=3))
    other = [ChatRequest((Message("user", "of another data set"),), "0")]
    with pytest.raises(InputError, match="of other samples, prompts or settings"):
        replay.complete(other)
    assert ReplayChat(path, check_prompt=False).complete(other)[0].text == "1. Film 0"


def test_their_records_may_be_a_text_or_nothing(tmp_path):
    path = tmp_path / "m.jsonl"
    resp = [theirs(0, "p", "one")["resp"], "two", None, {"error": "down"}, {"choices": []}]
    lines = [{"index": place, "prompt": f"question {place}", "resp": each} for place, each in enumerate(resp)]
    path.write_text("\n".join(map(json.dumps, lines)))
    replies = ReplayChat(path).complete(questions(5))
    assert [each.text for each in replies] == ["one", "two", "", "", ""]
    assert [each.error is None for each in replies] == [True, True, False, False, False]


@pytest.mark.skipif(not (DATA / "conversational").is_dir(), reason="the data are not here")
def test_a_recorded_run_of_the_paper_is_run_again_to_the_same_replies():
    recorded = load_run(DATA, "gpt-4.general")
    replay = ReplayChat(DATA / "conversational" / "replies" / "gpt-4.general.jsonl.gz")
    samples = [dataclasses.replace(each, key=str(place)) for place, each in enumerate(recorded.samples)]
    prompt = records.read(replay.path)[0].messages[-1].content  # the authors' words, of which none are ours
    words = prompt.removesuffix(f"{prompts.conversation(samples[0].context)}\nSystem: ")
    assert len(words) < len(prompt)
    theirs = prompts.RECOMMEND.worded(f"{words}{{conversation}}\nSystem: ", "theirs")
    run = zero_shot.run(samples, replay, Catalogue(recorded.names), theirs, rules="paper")
    assert [each.text for each in run.replies] == recorded.texts and not run.failed.any()
    scores, expected = run.scores(exclude_seen=False), zero_shot.score_replies(DATA, "gpt-4.general")
    # One target stands under two numbers, which the paper counts twice; a sample wants a title once.
    assert scores.count("recommendation") == expected.count("recommendation") - 1 == 210
    key = ("recommendation", "recall@1")
    assert scores[key][0] * 210 == pytest.approx(expected[key][0] * 211) == pytest.approx(14)


@pytest.mark.skipif(not (DATA / "conversational").is_dir(), reason="the data are not here")
@pytest.mark.parametrize("name", ["gpt-4.general", "baize.general", "gpt-3.5-turbo.p2"])
def test_recorded_runs_of_the_zero_shot_paper(name):
    replay = ReplayChat(DATA / "conversational" / "replies" / f"{name}.jsonl.gz")
    turns = "llmcrs_inspired_test.jsonl.gz" if "general" in name else "conversational/llmcrs_inspired_test_p2.jsonl.gz"
    with gzip.open(DATA / turns) as file:
        talks = [json.loads(line)["input"] for line in file]
    requests = [ChatRequest((Message("user", talk.strip("\n ")),), str(place)) for place, talk in enumerate(talks)]
    assert len(replay.complete(requests)) == 228  # each prompt holds its conversation
    with pytest.raises(InputError, match="another prompt"):
        replay.complete([ChatRequest(requests[0].messages, "1")])


RUN = """
import sys
from conversational.endpoints import questions
from jaxrec.conversational.chat.http import HttpChat
from jaxrec.conversational.chat.recording import RecordingChat
with RecordingChat(HttpChat("tiny", sys.argv[1], at_once=4, key_from="MY_KEY"), sys.argv[2]) as chat:
    replies = chat.complete(questions(40))
print(sum(each.cached for each in replies), sum(each.error is None for each in replies))
"""


def n_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_run_killed_in_the_middle_goes_on_without_asking_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    path = tmp_path / "run.jsonl"
    with serving(lambda prompt, _: right(f"re: {prompt}", after=0.05)) as server:
        child = started(RUN, server.url, path)
        try:
            until(lambda: n_lines(path) >= 12)
            child.send_signal(signal.SIGKILL)
        finally:
            child.kill()
            child.communicate()
        lines = [line for line in path.read_bytes().splitlines(True) if line.endswith(b"\n")]
        recorded = {json.loads(line)["messages"][0][1] for line in lines}
        assert 12 <= len(recorded) < 40
        child = started(RUN, server.url, path)
        assert child.communicate(timeout=120)[0] == f"{len(recorded)} 40\n"
        assert all(server.times(prompt) == 1 for prompt in recorded)
        under_way = len(server.asked) - 40  # when it was killed: answered to nobody
        assert 0 <= under_way <= 8 and set(server.asked) == {each.messages[0].content for each in questions(40)}
    assert [each.text for each in ReplayChat(path).complete(questions(40))] == [f"re: question {i}" for i in range(40)]
    assert SECRET not in path.read_text()


def test_a_run_whose_endpoint_stopped_goes_on_where_it_stood(tmp_path):
    path = tmp_path / "run.jsonl"
    with serving(lambda *_: right("well", after=0.02)) as server:
        with RecordingChat(HttpChat(MODEL, server.url, at_once=2, attempts=2, first_wait=0.01), path) as chat:
            replies = []
            for _, reply in chat.stream(questions(30)):
                replies.append(reply)
                if len(replies) == 8:
                    server.stop()
    failed = sum(each.error is not None for each in replies)
    assert len(replies) == 30 and failed >= 10
    with serving(lambda *_: right("well")) as server, RecordingChat(HttpChat(MODEL, server.url), path) as chat:
        assert all(each.error is None for each in chat.complete(questions(30)))
        assert len(server.asked) == failed


def test_what_an_endpoint_repeats_of_the_key_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    path = tmp_path / "run.jsonl"
    said = {"question 1": right(SECRET), "question 2": Answer(f'{{"error": "{SECRET}"}}'.encode(), 400)}
    with serving(lambda prompt, _: said.get(prompt, right("well"))) as server:
        with RecordingChat(HttpChat(MODEL, server.url, key_from="MY_KEY"), path) as chat:
            chat.complete(questions(3))
    assert SECRET not in path.read_text() and path.read_text().count("(key)") == 2


@pytest.mark.parametrize("path", [None, 5, b"run.jsonl", "a\0b.jsonl"])
def test_what_is_no_path_or_no_model_is_refused(tmp_path, path):
    for made in (RecordingChat, CachedChat, lambda _, path: ReplayChat(path)):
        with pytest.raises(InputError, match="path must be a path"):
            made(Parrot(), path)
    for made in (RecordingChat, CachedChat, lambda model, _: BudgetedChat(model, calls=1)):
        with pytest.raises(InputError, match="chat must be a chat model"):
            made(None, tmp_path / "run.jsonl")


def test_a_number_without_end_is_no_record(tmp_path):
    path = tmp_path / "run.jsonl"
    with RecordingChat(Parrot(), path) as chat:
        chat.complete(questions(2))
    path.write_text(path.read_text().replace('"prompt_tokens": 3', '"prompt_tokens": Infinity', 1))
    with pytest.raises(InputError, match="line 1: this is no recorded reply"):
        ReplayChat(path)


def test_half_a_letter_can_be_asked_recorded_and_cached(tmp_path):
    asked = [ChatRequest((Message("user", "hi \ud83d"),), "a")]
    for made in (lambda: RecordingChat(Parrot(), tmp_path / "run.jsonl"), lambda: CachedChat(Parrot(), tmp_path / "c")):
        first, second = made(), made
        said = first.complete(asked)
        if isinstance(first, RecordingChat):
            first.close()
        assert second().complete(asked) == cached(said)
