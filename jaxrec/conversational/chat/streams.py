"""Replies as they come: what lets a recorder write each at once, while a model answers many."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from jaxrec._checks import InputError, briefly
from jaxrec.conversational.chat.protocol import ChatModel, ChatReply, ChatRequest

Placed = tuple[int, ChatReply]  # a reply with the place of its request among those that were asked together


@runtime_checkable
class Streaming(Protocol):
    """A chat model that gives each reply as soon as it has it."""

    def stream(self, requests: Sequence[ChatRequest]) -> Iterator[Placed]:
        """The replies in the order in which they come, each once, with the place of its request."""
        ...


def stream(chat: ChatModel, requests: Sequence[ChatRequest]) -> Generator[Placed, None, None]:
    """The replies of any chat model as they come; one that only answers in batches is asked one by one.

    Without requests it is not asked. The generator is to be closed by who leaves it early (`contextlib.closing`).
    """
    if not requests:
        return
    if isinstance(chat, Streaming):
        yield from chat.stream(requests)
    else:
        yield from ((place, chat.complete([request])[0]) for place, request in enumerate(requests))


def listed(requests: Sequence[ChatRequest]) -> list[ChatRequest]:
    """The requests as a list, each of which is one."""
    if isinstance(requests, ChatRequest | str) or not isinstance(requests, Iterable):
        raise InputError(f"a chat model takes a list of requests, got {briefly(requests)}.")
    found = list(requests)
    wrong = [each for each in found if not isinstance(each, ChatRequest)]
    if wrong:
        raise InputError(f"a chat model takes a list of requests, got {briefly(wrong[0])} in it.")
    return found


def in_order(replies: Iterable[Placed]) -> list[ChatReply]:
    """The replies in the order of their requests."""
    return [reply for _, reply in sorted(replies, key=lambda placed: placed[0])]
