"""`HttpChat` against an endpoint that is slow, busy, broken, gone, or none."""

import contextlib
import itertools
import json
import logging
import re
import signal
import socket
import threading
import time

import pytest
from conversational.endpoints import MODEL, Answer, questions, right, serving, started, until, waiting_for

from jaxrec import InputError
from jaxrec.conversational.chat.budget import BudgetedChat
from jaxrec.conversational.chat.cache import CachedChat
from jaxrec.conversational.chat.http import HttpChat
from jaxrec.conversational.chat.protocol import ChatModel, ChatRequest, Message
from jaxrec.conversational.chat.streams import Streaming

SECRET = "sk-do-not-tell-0123456789"


def chat(server, **options):
    return HttpChat(options.pop("model", MODEL), server.url, **{"first_wait": 0.01, "timeout": 20.0, **options})


def test_replies_are_in_the_order_of_the_requests_and_eight_are_under_way_together():
    with serving(waiting_for(8)) as server:
        model = chat(server, timeout=60.0)
        replies = model.complete(questions(33))
        assert [each.text for each in replies] == [f"re: question {i}" for i in range(33)]
        assert {each.error for each in replies} == {None} and server.most == 8
        assert (replies[3].prompt_tokens, replies[3].completion_tokens) == (7, 3)
        assert (replies[3].model, replies[3].finish_reason, replies[3].cached) == (MODEL, "stop", False)
        assert isinstance(model, ChatModel) and isinstance(model, Streaming) and model.complete([]) == []


def test_replies_stream_as_they_come_and_leaving_cancels_the_rest():
    with serving(lambda prompt, _: right("x", after=60 if prompt == "question 1" else 0)) as server:
        replies = chat(server, at_once=2).stream(questions(50))
        assert [next(replies)[0] for _ in range(3)] == [0, 2, 3]
        replies.close()
        assert not [each for each in threading.enumerate() if each.name == "jaxrec-chat"]
        assert len(server.asked) < 50


def test_what_is_sent():
    request = ChatRequest((Message("system", "Be brief."), Message("user", "hi")), "1", "s", 5, 0.5, ("\n",), 3)
    with serving() as server:
        chat(server, extra={"top_p": 0.9, "max_tokens": None, "max_completion_tokens": 5}).complete([request])
        assert server.bodies == [
            {
                "model": MODEL,
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
                "max_completion_tokens": 5,
                "temperature": 0.5,
                "stop": ["\n"],
                "seed": 3,
                "top_p": 0.9,
            }
        ]


BROKEN = {
    "429": Answer(b'{"error": {"message": "slow down"}}', 429),
    "429 with the time": Answer(b"", 429, {"Retry-After": "0.01"}),
    "429 with the date": Answer(b"", 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "429 with no date": Answer(b"", 429, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999"}),
    "500": Answer(b"oops", 500),
    "503": Answer(b"<html>busy</html>", 503),
    "truncated JSON": Answer(right("x").body[:-5]),
    "a truncated body": Answer(right("x").body, cut=9),
    "JSON of endless depth": Answer(b"[" * 100_000),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_may_pass_is_tried_again(broken):
    with serving(lambda prompt, times: BROKEN[broken] if times < 2 else right("at last")) as server:
        replies = chat(server).complete(questions(2))
        assert [(each.text, each.error) for each in replies] == [("at last", None)] * 2
        assert server.times("question 1") == 3


@pytest.mark.parametrize(("after", "first_wait"), [("1", 0.01), ("0.01", 60.0)], ids=["longer", "shorter"])
def test_the_wait_before_another_attempt_is_what_the_endpoint_asks_for(after, first_wait):
    busy = Answer(b"", 429, {"Retry-After": after})
    with serving(lambda prompt, times: busy if times == 0 else right("at last")) as server:
        (reply,) = chat(server, first_wait=first_wait).complete(questions(1))
        assert reply.text == "at last" and float(after) <= server.when[1] - server.when[0] < 30


def test_the_waits_grow_and_the_attempts_end():
    with serving(lambda *_: Answer(b"", 500)) as server:
        (reply,) = chat(server, first_wait=0.1, attempts=4).complete(questions(1))
        assert reply.error == f"{server.url} answered with status 500." and len(server.asked) == 4
        waits = [later - sooner for sooner, later in itertools.pairwise(server.when)]
        assert all(wait >= 0.1 * 2**place for place, wait in enumerate(waits))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(b'{"error": {"message": "too long"}}', 400), "status 400: 'too long'"),
        (Answer(b'{"error": "no"}', 422), "status 422: 'no'"),
        (Answer(b"<html>", 404), "no such model"),
        (Answer(b"", 429, {"Retry-After": "86400"}), "wait 86400 seconds"),
        (Answer(b'{"error": {"message": "pay", "code": "insufficient_quota"}}', 429), "pay; insufficient_quota"),
        (Answer(b'{"error": {"message": "overloaded"}}'), "error: 'overloaded'"),
        (Answer(b'{"choices": []}'), "no known form"),
        (Answer(b'{"choices": [{"message": {"content": 5}}]}'), "no known form"),
        (Answer(b"[1, 2]"), "no known form"),
        (Answer(b"<!doctype html>"), "web page"),
        (Answer(b" " * 5000), "more than 4,000 bytes"),
        (Answer(b"", 301, {"Location": "http://127.0.0.1:1/v1"}), "another address"),
    ],
)
def test_what_cannot_pass_is_an_error_at_once_and_the_others_are_answered(answer, said):
    with serving(lambda prompt, _: answer if prompt == "question 2" else right("well")) as server:
        replies = chat(server, largest_reply=4000).complete(questions(5))
        assert [each.text for each in replies] == ["well", "well", "", "well", "well"]
        assert said in replies[2].error and re.fullmatch(r"[^\n]+\.", replies[2].error)
        assert server.times("question 2") == 1


def test_an_address_that_lacks_its_ending_is_told_of():
    with serving(lambda *_: Answer(b"", 404)) as server:
        for url, hinted in ((server.url, False), (server.url.removesuffix("/v1"), True)):
            with pytest.raises(InputError, match="no /chat/completions") as caught:
                HttpChat("m", url, check_model=False).complete(questions(1))
            assert str(caught.value).endswith("most addresses end in /v1.") == hinted


def test_a_null_text_is_an_empty_reply():
    null = Answer(b'{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}')
    with serving(lambda *_: null) as server:
        (reply,) = chat(server).complete(questions(1))
        assert (reply.text, reply.finish_reason, reply.error, reply.prompt_tokens) == ("", "length", None, 0)


@pytest.mark.parametrize("slow", [Answer(b"x", after=60), right("x", drip=0.2)], ids=["never", "byte by byte"])
def test_an_answer_that_does_not_end_is_given_up(slow):
    with serving(lambda prompt, _: slow if prompt == "question 1" else right("x")) as server:
        model = chat(server, timeout=2.5, attempts=2)
        replies = model.complete(questions(3))
        assert "did not answer within 2.5 seconds" in replies[1].error and server.times("question 1") == 2
        assert replies[2].text == "x"


def test_an_endpoint_that_stops_in_the_middle_costs_errors_and_nothing_else():
    with serving(lambda *_: right("well", after=0.05)) as server:
        model, replies = chat(server, at_once=2, attempts=2), []
        for _, reply in model.stream(questions(40)):
            replies.append(reply)
            if len(replies) == 5:
                server.stop()
        errors = [each.error for each in replies if each.error]
        assert len(replies) == 40 and len(errors) >= 20
        assert re.match("(there is no endpoint at|the connection to) http://127.0.0.1", errors[0])
        assert errors.count("not asked: 3 requests in a row failed before.") >= 15


def test_an_endpoint_that_is_none_is_refused_at_the_first_call():
    with serving() as server:
        gone = chat(server)
    with pytest.raises(InputError, match=r"there is no endpoint at http://127.0.0.1:\d+/v1: .*\.$"):
        gone.complete(questions(3))
    with serving(lambda *_: Answer(b"<html>", 200), models=None) as server:
        with pytest.raises(InputError, match="is no OpenAI-compatible endpoint"):
            chat(server).complete(questions(3))
        assert len(server.asked) == 1


def test_what_speaks_another_protocol_is_refused_at_the_first_call():
    def greet(listening):
        with contextlib.suppress(OSError):
            while True:
                other, _ = listening.accept()
                other.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                other.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=greet, args=(listening,), daemon=True)
        thread.start()
        model = HttpChat(MODEL, f"http://127.0.0.1:{listening.getsockname()[1]}/v1", attempts=2, first_wait=0.01)
        with pytest.raises(InputError, match=r"the connection to .* broke \(\w+\)\.$"):
            model.complete(questions(3))
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_model_that_the_endpoint_does_not_have_is_refused_at_the_first_call():
    with serving(models=("large", "org/small", "tall:latest")) as server:
        with pytest.raises(InputError, match=r"has no model 'larg'; it has 'large', .* \(check_model=False"):
            chat(server, model="larg").complete(questions(3))
        assert not server.asked
        for known in ("large", "small", "tall"):
            assert chat(server, model=known).complete(questions(1))[0].text
        assert chat(server, model="larg", check_model=False).complete(questions(1))[0].text
    missing = Answer(b'{"error": {"message": "model larg not found"}}', 404)
    with serving(lambda *_: missing, models=None) as server, pytest.raises(InputError, match="larg not found"):
        chat(server, model="larg").complete(questions(3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": ""}, "model must be a text"),
        ({"base_url": "localhost:8000"}, "must be an address such as"),
        ({"base_url": "ftp://localhost/v1"}, "must be an address such as"),
        ({"base_url": "file:///etc/passwd"}, "must be an address such as"),
        ({"base_url": "http://localhost:99999999/v1"}, "must be an address such as"),
        ({"base_url": "http://local host/v1"}, "must be an address such as"),
        ({"base_url": f"https://me:{SECRET}@host.org/v1"}, "no name and no password"),
        ({"base_url": f"https://host.org/v1?key={SECRET}"}, r"without \? or #"),
        ({"key_from": SECRET}, "not the key itself"),
        ({"at_once": 0}, "at_once must be at least 1"),
        ({"attempts": 1.5}, "attempts must be a whole number"),
        ({"timeout": 0}, r"timeout must be above 0 \(seconds\)"),
        ({"extra": {"x": object()}}, "extra must be a dictionary"),
        ({"extra": 3}, "extra must be a dictionary"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused_at_once(options, said):
    with pytest.raises(InputError, match=said) as refused:
        HttpChat(**{"model": "m", **options})
    assert SECRET not in str(refused.value)


def everything_of(error):
    """All that hangs on an exception: its words, what it holds, and what it was raised in place of."""
    told, todo, seen = [], [error], set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        told += [str(each), repr(each), repr(vars(each))]
        todo += [each.__cause__, each.__context__]
        frame = each.__traceback__
        while frame is not None:
            if "jaxrec" in frame.tb_frame.f_code.co_filename and "test_" not in frame.tb_frame.f_code.co_filename:
                told.append(repr(frame.tb_frame.f_locals))
            frame = frame.tb_next
    return " ".join(told)


def test_the_key_is_sent_and_told_to_nobody(monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", f"{SECRET}\n")
    answers = {
        "question 1": right(f"you said {SECRET}"),
        "question 2": Answer(json.dumps({"error": {"message": f"bad request of {SECRET}"}}).encode(), 400),
        "question 3": Answer(json.dumps({"error": {"message": f"what is {SECRET}"}}).encode(), 500),
        "question 4": Answer(b"", cut=5),
        "question 5": Answer(b"", 403),
    }
    with serving(lambda prompt, _: answers.get(prompt, right("fine"))) as server:
        model = chat(server, key_from="MY_KEY", attempts=2)
        replies = model.complete(questions(7))
        assert {each["Authorization"] for each in server.headers} == {f"Bearer {SECRET}"}
        assert replies[1].text == "you said (key)"
        assert [bool(each.error) for each in replies] == [False, False, True, True, True, True, False]
        assert SECRET not in repr(replies) + repr(model) + str(vars(model)) + caplog.text + "".join(capfd.readouterr())
    for wrong in (Answer(b"", 401), Answer(f'{{"error": "{SECRET}"}}'.encode(), 404), Answer(b"<html>")):
        with serving(lambda *_, wrong=wrong: wrong) as server, pytest.raises(InputError) as refused:
            chat(server, key_from="MY_KEY").complete(questions(1))
        assert SECRET not in everything_of(refused.value) + caplog.text
    with pytest.raises(InputError) as refused:  # nobody answers any more
        chat(server, key_from="MY_KEY").complete(questions(1))
    assert SECRET not in everything_of(refused.value) + caplog.text


def test_keys_go_where_they_may(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"OPENAI_API_KEY, which holds the key for .*, is not set"):
        HttpChat("gpt").complete(questions(1))
    with serving() as server:
        assert chat(server).complete(questions(1))[0].text
        assert "Authorization" not in server.headers[0]
    with serving(lambda *_: Answer(b"", 401), models=None) as server, pytest.raises(InputError, match="wants a key"):
        chat(server).complete(questions(1))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(InputError, match=r"would be sent to .* unencrypted") as refused:
        HttpChat("gpt", "http://example.org/v1").complete(questions(1))
    assert SECRET not in everything_of(refused.value)
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\r\nX-Other: 1")
    with pytest.raises(InputError, match="holds letters that no key has") as refused:
        HttpChat("gpt").complete(questions(1))
    assert SECRET not in everything_of(refused.value)


@pytest.mark.parametrize("wrong", ["hi", 3, None, [None], [*questions(1), "hi"], questions(1)[0]])
def test_what_is_no_request_is_refused(wrong, tmp_path):
    model = HttpChat(MODEL, "http://localhost:1/v1")
    for each in (model, CachedChat(model, tmp_path / "cache"), BudgetedChat(model, calls=1)):
        with pytest.raises(InputError, match="takes a list of requests"):
            each.complete(wrong)


@pytest.mark.parametrize(
    "wrong", [{"messages": ()}, {"messages": "hi"}, {"key": 3}, {"max_tokens": 0}, {"temperature": float("nan")}]
)
def test_a_request_that_is_none_is_refused(wrong):
    with pytest.raises(InputError):
        ChatRequest(**{"messages": (Message("user", "hi"),), "key": "1", **wrong})


def test_what_extra_makes_different_is_in_the_name():
    assert HttpChat("m").name == "m" and HttpChat("m", extra={"top_p": 0.5}).name == 'm {"top_p": 0.5}'


def test_within_a_running_loop():
    import asyncio

    async def notebook(server):
        return chat(server).complete(questions(2))

    with serving() as server:
        assert [each.text for each in asyncio.run(notebook(server))] == ["re: question 0", "re: question 1"]


CTRL_C = """
import sys
import polars
from conversational.endpoints import questions
from jaxrec.conversational.chat.http import HttpChat
polars.LazyFrame({"a": [1]}).collect()  # after which Ctrl-C ends fewer waits
try:
    HttpChat("tiny", sys.argv[1]).complete(questions(20))
except KeyboardInterrupt:
    print("left")
"""


def test_ctrl_c_leaves_at_once():
    with serving(lambda prompt, _: right("x", after=0 if prompt == "question 0" else 60)) as server:
        child = started(CTRL_C, server.url)
        try:
            until(lambda: len(server.asked) >= 9)
            child.send_signal(signal.SIGINT)
            begun = time.monotonic()
            assert child.communicate(timeout=30)[0] == "left\n"
            assert time.monotonic() - begun < 20 and child.returncode == 0
        finally:
            child.kill()
            child.wait()
