"""What every chat model takes and gives: requests in, replies out, in the same order."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import kind


@dataclasses.dataclass(frozen=True)
class Message:
    """One message of a chat.

    Attributes:
      role: who speaks.
      content: the text.
    """

    role: Literal["system", "user", "assistant"]
    content: str


@dataclasses.dataclass(frozen=True)
class ChatRequest:
    """One question to a chat model.

    Attributes:
      messages: the chat so far, at least one message.
      key: the sample that it is asked for; with `stage` it names the request in records and counts.
      stage: the step of the system that asks ("recommend", "extract", ...).
      max_tokens: the longest reply.
      temperature: 0 for the likeliest reply.
      stop: texts at which a reply ends.
      seed: for models that sample, or None.
    """

    messages: tuple[Message, ...]
    key: str
    stage: str = "recommend"
    max_tokens: int = 512
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self):
        if not self.messages or not all(isinstance(each, Message) for each in self.messages):
            raise InputError(f"a chat request needs messages, at least one, got {_checks.briefly(self.messages)}.")
        if not isinstance(self.key, str) or not isinstance(self.stage, str):
            raise InputError(f"key and stage must be texts, got {_checks.briefly((self.key, self.stage))}.")
        _checks.count("max_tokens", self.max_tokens, at_least=1)
        _checks.nonnegative("temperature", self.temperature)

    def digest(self, model: str) -> str:
        """SHA-256, in hexadecimal, of the content: the model, the messages and the parameters, not key and stage."""
        content = {
            "model": model,
            "messages": [[each.role, each.content] for each in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stop": list(self.stop),
            "seed": self.seed,
        }
        written = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()  # half a pair is a text, too


@dataclasses.dataclass(frozen=True)
class ChatReply:
    """The answer to one request; a failed one has an error, and is counted, never dropped.

    Attributes:
      text: the reply; empty where it failed.
      finish_reason: why it ended ("stop", "length", ...), as the model says; empty if it does not.
      prompt_tokens: length of the request, 0 if the model does not say.
      completion_tokens: length of the reply, likewise.
      model: the name that the model gives itself.
      cached: whether it was read, not asked for.
      error: one sentence on what went wrong, or None.
    """

    text: str
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = ""
    cached: bool = False
    error: str | None = None


@runtime_checkable
class ChatModel(Protocol):
    """A model that answers chats."""

    @property
    def name(self) -> str:
        """What records and caches call the model."""
        ...

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies, one for each request, in their order."""
        ...


@kind("ChatModel")
def chat_model(name: str, value: object) -> ChatModel:
    """A chat model."""
    if isinstance(value, ChatModel) and not isinstance(value, type):
        return value
    raise InputError(f"{name} must be a chat model, with a name and complete(requests), got {_checks.briefly(value)}.")
