"""`CachedChat`: asks for the same content once, whoever asks and for whichever sample."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.conversational.chat import streams
from jaxrec.conversational.chat.protocol import ChatModel, ChatReply, ChatRequest
from jaxrec.conversational.chat.streams import Placed
from jaxrec.runtime.files import check_file_target

BUSY = 30.0  # seconds to wait for another process that writes


class CachedChat:
    """A chat model with an SQLite file of its replies by content: the model's name, messages and parameters.

    Several processes may share the file. Errors are not kept, nor are replies that were drawn at random without a seed,
    of which each is another. The file holds digests and replies, no prompts and no keys, and is read without pickle.
    """

    @door
    def __init__(self, chat: ChatModel, path: str | os.PathLike):
        """Opens the file, which is made if there is none.

        Args:
          chat: the model to ask.
          path: of the file.

        Raises:
          InputError: it is no such file, is damaged, or cannot be written.
        """
        self.chat, self.path = chat, Path(path)
        check_file_target(self.path)
        with self._file() as file:
            file.execute("CREATE TABLE IF NOT EXISTS replies (digest TEXT PRIMARY KEY, reply TEXT NOT NULL)")

    @property
    def name(self) -> str:
        """The model's."""
        return self.chat.name

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies, one for each request, in their order; those out of the file are `cached`.

        Raises:
          InputError: the file is damaged or cannot be written; or the model's.
        """
        return streams.in_order(self.stream(requests))

    def stream(self, requests: Sequence[ChatRequest]) -> Iterator[Placed]:
        """The replies as they come, those out of the file first; the same content is asked for once."""
        requests, same = streams.listed(requests), dict[str, list[int]]()
        for place, request in enumerate(requests):
            kept = request.temperature == 0 or request.seed is not None
            same.setdefault(request.digest(self.name) if kept else f"only {place}", []).append(place)
        known = self._known(list(same))
        for digest, reply in known.items():
            yield from ((place, reply) for place in same[digest])
        new = [digest for digest in same if digest not in known]
        asked = [requests[same[digest][0]] for digest in new]
        with contextlib.closing(streams.stream(self.chat, asked)) as replies:
            for place, reply in replies:
                if reply.error is None and not new[place].startswith("only"):
                    self._keep(new[place], reply)
                yield from ((each, reply) for each in same[new[place]])

    def _known(self, digests: list[str]) -> dict[str, ChatReply]:
        found: dict[str, ChatReply] = {}
        with self._file() as file:
            for digest in digests:
                row = file.execute("SELECT reply FROM replies WHERE digest = ?", (digest,)).fetchone()
                if row is not None:
                    found[digest] = dataclasses.replace(_reply(row[0]), cached=True)
        return found

    def _keep(self, digest: str, reply: ChatReply) -> None:
        with self._file() as file:
            line = json.dumps(dataclasses.asdict(reply))
            file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (digest, line))

    @contextlib.contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """The file for one piece of work, which is written whole or not at all."""
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY)) as file, file:
                yield file
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            why = str(error) if isinstance(error, sqlite3.OperationalError) else "it is damaged, or no such file"
            raise InputError(f"the cache {self.path} cannot be used: {why}; remove it or name another.") from None


def _reply(line: str) -> ChatReply:
    """The reply of a line of the file; it is one without an error.

    Raises:
      ValueError, TypeError: the line is none.
    """
    reply = ChatReply(**json.loads(line))
    texts, counts = (reply.text, reply.finish_reason, reply.model), (reply.prompt_tokens, reply.completion_tokens)
    if {*map(type, texts)} != {str} or {*map(type, counts)} != {int} or reply.error is not None:
        raise ValueError("this is no reply")
    return reply
