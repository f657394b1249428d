"""Replies as they come: what lets a recorder write each at once, while a model answers many."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from jaxrec._checks import InputError, briefly, shown
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
        for place, request in enumerate(requests):
            yield place, asked(chat, [request])[0]


def asked(chat: ChatModel, requests: Sequence[ChatRequest]) -> list[ChatReply]:
    """The replies of a chat model to requests that it is asked together, one for each.

    Raises:
      InputError: it gives something else.
    """
    found = chat.complete(requests)
    if not isinstance(found, list) or [type(each) for each in found] != [ChatReply] * len(requests):
        raise InputError(
            f"the chat model {shown(chat.name)} must give a list with a ChatReply for each of {len(requests)} "
            f"requests, got {briefly(found)}."
        )
    return found


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
