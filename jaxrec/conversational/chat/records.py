"""Recorded replies: one line of JSON each, with the request that it answers."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from jaxrec._checks import InputError, shown
from jaxrec.conversational.chat.protocol import ChatReply, ChatRequest, Message
from jaxrec.conversational.readers.json_files import unpacked
from jaxrec.runtime.archive import DAMAGE

Name = tuple[str, str]  # stage and key


@dataclasses.dataclass(frozen=True)
class Record:
    """A request with its reply.

    Attributes:
      asked: the name of the model that was asked.
      stage: of the request.
      key: of the request.
      digest: of the request's content; empty where only the prompt was recorded.
      messages: of the request.
      reply: what came back.
    """

    asked: str
    stage: str
    key: str
    digest: str
    messages: tuple[Message, ...]
    reply: ChatReply

    @classmethod
    def of(cls, asked: str, request: ChatRequest, reply: ChatReply) -> Record:
        """The record of an exchange with the model called `asked`."""
        return cls(asked, request.stage, request.key, request.digest(asked), request.messages, reply)

    @property
    def name(self) -> Name:
        """Stage and key."""
        return self.stage, self.key

    def line(self) -> str:
        """The record as one line of JSON with a line break behind it."""
        record = {
            "asked": self.asked,
            "stage": self.stage,
            "key": self.key,
            "digest": self.digest,
            "messages": [[each.role, each.content] for each in self.messages],
            **dataclasses.asdict(dataclasses.replace(self.reply, cached=False)),
        }
        del record["cached"]
        return json.dumps(record) + "\n"  # ASCII: half a surrogate pair is a text too


def read(path: str | os.PathLike) -> list[Record]:
    """The records of a file of JSON lines, packed by gzip or not; half a line at its end is left out.

    Two forms are known: our own, and the one of arXiv 2308.10053 (`index`, `prompt`, `resp`), whose stage is
    "recommend" and whose key is the index.

    Raises:
      InputError: one sentence on what is wrong with the file.
    """
    try:
        with unpacked(path) as file:
            content = file.read()
    except InputError:
        raise
    except DAMAGE:
        raise InputError(f"{path} is truncated or damaged: it cannot be unpacked.") from None
    return parsed(content, path)[0]


def parsed(content: bytes, path: str | os.PathLike) -> tuple[list[Record], int]:
    """The records in the content of a file, and how many of its bytes they take; the rest is half a line at its end.

    A process that was killed while it wrote leaves half a line.

    Raises:
      InputError: a line that is not the last holds no record.
    """
    found: list[Record] = []
    end = 0
    for number, line in enumerate(content.split(b"\n"), 1):
        after = end + len(line) + 1  # with its line break
        if line.strip():
            record = _record(line)
            if record is None and after > len(content):
                break
            if record is None:
                raise InputError(f"{path}, line {number}: this is no recorded reply; the file is damaged, or another.")
            found.append(record)
        end = min(after, len(content))
    return found, end


def by_name(records: list[Record]) -> dict[Name, Record]:
    """The last record of each stage and key: a request that failed may have been asked again."""
    return {record.name: record for record in records}


def wrong_prompt(path: Any, request: ChatRequest) -> InputError:
    """What is said where a record answers another prompt of the same stage and key."""
    return InputError(
        f"{Path(os.fspath(path))} holds a reply to another prompt for the sample {shown(request.key)} of stage "
        f"{shown(request.stage)}: it is of other samples, prompts or settings; give another file."
    )


def _record(line: bytes) -> Record | None:
    try:
        values = json.loads(line)
        return _authors(values) if "resp" in values else _own(values)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _own(values: dict[str, Any]) -> Record:
    messages = tuple(Message(role, _text(content)) for role, content in values["messages"])
    reply = ChatReply(
        text=_text(values["text"]),
        finish_reason=_text(values["finish_reason"]),
        prompt_tokens=int(values["prompt_tokens"]),
        completion_tokens=int(values["completion_tokens"]),
        model=_text(values["model"]),
        error=None if values["error"] is None else _text(values["error"]),
    )
    asked, stage, key, digest = (_text(values[name]) for name in ("asked", "stage", "key", "digest"))
    if not messages or not digest:
        raise ValueError
    return Record(asked, stage, key, digest, messages, reply)


def _authors(values: dict[str, Any]) -> Record:
    """A record of the authors of 2308.10053; a reply of theirs may also be its text alone, or none."""
    answer = values["resp"]
    if isinstance(answer, str):
        answer = {"choices": [{"message": {"content": answer}}]}
    if answer is None or "error" in answer or not answer["choices"]:
        reply = ChatReply("", error="the recorded request failed.")
    else:
        choice, usage = answer["choices"][0], answer.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        reply = ChatReply(
            text=_text(choice["message"]["content"]),
            finish_reason=str(choice.get("finish_reason") or ""),
            prompt_tokens=int(counts.get("prompt_tokens", 0)),
            completion_tokens=int(counts.get("completion_tokens", 0)),
            model=_text(answer.get("model", "")),
        )
    prompt = (Message("user", _text(values["prompt"])),)
    return Record(reply.model, "recommend", str(int(values["index"])), "", prompt, reply)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
