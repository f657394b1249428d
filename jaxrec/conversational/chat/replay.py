"""`ReplayChat`: gives the replies of a recorded run again, without a model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from jaxrec import _checks
from jaxrec._checks import InputError, shown
from jaxrec._checks.doors import door
from jaxrec.conversational.chat import records
from jaxrec.conversational.chat.protocol import ChatReply, ChatRequest
from jaxrec.conversational.chat.records import Record
from jaxrec.conversational.chat.streams import listed


class ReplayChat:
    """A chat model that looks its replies up in a file: one of `RecordingChat`, or one of arXiv 2308.10053.

    A reply is found by stage and key; then the prompt must be the recorded one. Where only the prompt was recorded, as
    in the files of 2308.10053, it must end with the request's last message, but for white space and for what all
    prompts of the file end with: a template of the model stood around it. Keys are there the places of samples in the
    data, from "0". Recorded errors are replied as errors.

    Attributes:
      path: of the file.
      check_prompt: whether the prompt is compared. Without that, prompts in other words find their replies too.
    """

    @door
    def __init__(self, path: str | os.PathLike, *, check_prompt: bool = True):
        """Reads the file.

        Raises:
          InputError: it cannot be read, is damaged, has no replies, or those of several models.
        """
        self.path, self.check_prompt = Path(path), _checks.truth("check_prompt", check_prompt)
        found = records.read(path)
        if not found:
            raise InputError(f"{path} holds no recorded replies.")
        asked = list(dict.fromkeys(record.asked for record in found if record.asked))
        if len(asked) > 1:
            raise InputError(f"{path} holds replies of several models: {', '.join(map(shown, asked))}.")
        self._name = asked[0] if asked else "recorded"
        # What a model's template put behind every message, the same in all prompts.
        self._ending = _common_ending([_spaced(record) for record in found])
        self._known = records.by_name(found)

    @property
    def name(self) -> str:
        """What the recorded model was called."""
        return self._name

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The recorded replies, one for each request, in their order; all are `cached`.

        Raises:
          InputError: there is none for a stage and key, or it answers another prompt.
        """
        return [self._reply(request) for request in listed(requests)]

    def _reply(self, request: ChatRequest) -> ChatReply:
        record = self._known.get((request.stage, request.key))
        if record is None:
            raise InputError(
                f"{self.path} holds no reply for the sample {shown(request.key)} of stage {shown(request.stage)}: "
                "it was recorded with other samples, or the run was not finished."
            )
        if self.check_prompt and not self._answers(record, request):
            raise records.wrong_prompt(self.path, request)
        return dataclasses.replace(record.reply, cached=True)

    def _answers(self, record: Record, request: ChatRequest) -> bool:
        """Whether the content of a request is the one recorded."""
        if record.digest:
            return record.digest == request.digest(self.name)
        message, prompt = " ".join(request.messages[-1].content.split()), _spaced(record)
        at = prompt.rfind(message)
        return at >= 0 and at + len(message) >= len(prompt) - self._ending


def _spaced(record: Record) -> str:
    """A recorded prompt with single spaces for all white space."""
    return " ".join(record.messages[-1].content.split())


def _common_ending(texts: Sequence[str]) -> int:
    """How many letters at the end are the same in all texts."""
    backwards = sorted(text[::-1] for text in texts)
    first, last = backwards[0], backwards[-1]  # of all, these two differ first
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
