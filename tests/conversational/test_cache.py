"""Replies kept by content."""

import dataclasses
import json
import sqlite3

import pytest
from conversational.endpoints import MODEL, questions, right, serving
from conversational.test_recording import SECRET, Parrot

from jaxrec import InputError
from jaxrec.conversational.chat.cache import CachedChat
from jaxrec.conversational.chat.http import HttpChat
from jaxrec.conversational.chat.protocol import ChatModel


def test_the_same_content_is_asked_once_whatever_the_key(tmp_path):
    parrot = Parrot(fails={"2"})
    chat = CachedChat(parrot, tmp_path / "cache")
    assert isinstance(chat, ChatModel) and chat.name == "parrot"
    renamed = [dataclasses.replace(each, key=f"{each.key}'", stage="other") for each in questions(2)]
    replies = chat.complete([*questions(3), *renamed])
    assert parrot.asked == ["0", "1", "2"]
    assert [each.text for each in replies[3:]] == [each.text for each in replies[:2]]
    again = CachedChat(parrot, tmp_path / "cache").complete([*renamed, *questions(3)])
    assert parrot.asked == ["0", "1", "2", "2"]  # what failed is not kept
    assert [each.cached for each in again] == [True, True, True, True, False]
    assert again[0] == dataclasses.replace(replies[0], cached=True)


def test_another_model_and_other_settings_are_other_content(tmp_path):
    parrot, other = Parrot(), Parrot()
    other.name = "cockatoo"
    for model in (parrot, other):
        CachedChat(model, tmp_path / "cache").complete(questions(1))
    CachedChat(parrot, tmp_path / "cache").complete([dataclasses.replace(questions(1)[0], max_tokens=3)])
    assert (parrot.asked, other.asked) == (["0", "0"], ["0"])


def test_replies_drawn_at_random_are_drawn_each_time_unless_seeded(tmp_path):
    parrot = Parrot()
    chat = CachedChat(parrot, tmp_path / "cache")
    drawn = [dataclasses.replace(questions(1)[0], temperature=1.0)] * 2
    chat.complete(drawn)
    chat.complete(drawn)
    assert len(parrot.asked) == 4
    chat.complete([dataclasses.replace(drawn[0], seed=3)] * 2)
    assert len(parrot.asked) == 5


def test_a_file_that_is_no_cache_or_damaged_is_one_sentence(tmp_path):
    path = tmp_path / "cache"
    path.write_bytes(b"title,year\nHeat,1995\n" * 99)
    with pytest.raises(
        InputError, match=r"cannot be used: it is damaged, or no such file; remove it or name another\.$"
    ):
        CachedChat(Parrot(), path)
    path.unlink()
    chat = CachedChat(Parrot(), path)
    chat.complete(questions(200))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(InputError, match="remove it or name another"):
        chat.complete(questions(200))
    path.unlink()
    CachedChat(Parrot(), path).complete(questions(1))
    for wrong in ({"what": 3}, {"text": 3}, {"text": "a", "prompt_tokens": "b"}, {"text": "", "error": "no."}, []):
        with sqlite3.connect(path) as file:
            file.execute("UPDATE replies SET reply = ?", (json.dumps(wrong),))
        file.close()
        with pytest.raises(InputError, match="it is damaged"):
            CachedChat(Parrot(), path).complete(questions(1))
    for wrong in (tmp_path, tmp_path / "none" / "cache"):
        with pytest.raises(InputError):
            CachedChat(Parrot(), wrong)


def test_the_key_is_not_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    with serving(lambda *_: right(f"you said {SECRET}")) as server:
        CachedChat(HttpChat(MODEL, server.url, key_from="MY_KEY"), tmp_path / "cache").complete(questions(3))
    assert b"you said (key)" in (tmp_path / "cache").read_bytes()
    assert SECRET.encode() not in (tmp_path / "cache").read_bytes()
