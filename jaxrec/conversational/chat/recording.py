"""`RecordingChat`: writes each reply down as it comes, so that a run that was killed goes on where it stood."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxrec._checks import InputError, shown
from jaxrec._checks.doors import door
from jaxrec.conversational.chat import records, streams
from jaxrec.conversational.chat.protocol import ChatModel, ChatReply, ChatRequest
from jaxrec.conversational.chat.records import Name, Record
from jaxrec.conversational.chat.streams import Placed
from jaxrec.runtime.files import check_file_target

if sys.platform != "win32":
    import fcntl


class RecordingChat:
    """A chat model with a file of its replies, which is read first: what stands there is not asked again.

    A reply is a line of the file as soon as it is there, written at one stroke. Killed at any moment, a process leaves
    at most half a line, which the next one removes. Errors are written too, so that a replay counts them, and asked
    again the next time. One process at a time has the file.

    The file holds prompts and replies, and no keys; see `records` for its form. `ReplayChat` reads it without a model.
    """

    @door
    def __init__(self, chat: ChatModel, path: str | os.PathLike):
        """Opens the file, which is made if there is none.

        Args:
          chat: the model to ask.
          path: of the file, which ends in .jsonl.

        Raises:
          InputError: the file is damaged, of another model, in use, or cannot be written.
        """
        self.chat, self.path = chat, Path(path)
        if self.path.suffix != ".jsonl":
            raise InputError(f"replies are recorded in a file that ends in .jsonl, got {shown(str(path))}.")
        check_file_target(self.path)
        self._writing = threading.Lock()
        self._file = self._opened()
        try:
            self._known = self._read()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The model's."""
        return self.chat.name

    @property
    def n_recorded(self) -> int:
        """How many requests the file has replies to that are no errors."""
        return sum(record.reply.error is None for record in self._known.values())

    def __enter__(self) -> RecordingChat:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; what is in it stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self):
        if getattr(self, "_file", -1) >= 0:
            self.close()

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies, one for each request, in their order; those that were recorded before are `cached`.

        Raises:
          InputError: two requests of one stage and key differ, or one differs from what was recorded for them; the file
            cannot be written; or the model's.
        """
        return streams.in_order(self.stream(requests))

    def stream(self, requests: Sequence[ChatRequest]) -> Iterator[Placed]:
        """The replies as they come, those that were recorded before first."""
        if self._file < 0:
            raise InputError(f"{self.path} was closed; make a new RecordingChat to go on.")
        requests, places = streams.listed(requests), dict[Name, list[int]]()
        for place, request in enumerate(requests):
            places.setdefault((request.stage, request.key), []).append(place)
        self._check(requests, places)
        new = []
        for name, same in places.items():
            record = self._known.get(name)
            if record is None or record.reply.error is not None:
                new.append(same)
            else:
                yield from ((place, _cached(record.reply)) for place in same)
        asked = [requests[same[0]] for same in new]
        with contextlib.closing(streams.stream(self.chat, asked)) as replies:
            for place, reply in replies:
                self._write(Record.of(self.name, asked[place], reply))
                yield from ((each, reply) for each in new[place])

    def _check(self, requests: Sequence[ChatRequest], places: dict[Name, list[int]]) -> None:
        for name, same in places.items():
            first = requests[same[0]].digest(self.name)
            if any(requests[place].digest(self.name) != first for place in same[1:]):
                raise InputError(f"two requests of stage {shown(name[0])} share the key {shown(name[1])}, and differ.")
            if name in self._known and self._known[name].digest != first:
                raise records.wrong_prompt(self.path, requests[same[0]])

    def _opened(self) -> int:
        """The file, locked, for reading and for writing at its end."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}.") from None
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                said = "is being written by another run; wait for it, or name another file"
                raise InputError(f"{self.path} {said}.") from None
            except OSError:  # a file system without locks
                pass
        return file

    def _read(self) -> dict[Name, Record]:
        """What was recorded; half a line at the end is removed."""
        with open(self.path, "rb") as file:
            content = file.read()
        found, end = records.parsed(content, self.path)
        if end < len(content):
            os.ftruncate(self._file, end)
        elif content and not content.endswith(b"\n"):
            os.write(self._file, b"\n")
        for record in found:
            if record.asked != self.name or not record.digest:
                raise InputError(
                    f"{self.path} holds replies of {shown(record.asked)}, not of {shown(self.name)}; name another file."
                )
        return records.by_name(found)

    def _write(self, record: Record) -> None:
        with self._writing:
            line = record.line().encode()
            try:
                written = os.write(self._file, line)
            except OSError as error:
                raise InputError(f"{self.path} cannot be written: {error.strerror or error}.") from None
            if written < len(line):
                raise InputError(f"{self.path} cannot be written: the disk is full.")
            self._known[record.name] = record


def _cached(reply: ChatReply) -> ChatReply:
    return dataclasses.replace(reply, cached=True)
