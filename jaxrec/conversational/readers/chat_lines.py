"""Chats as JSON lines: a conversation a line, or a message a line.

A message has `role` ("user" is the seeker, "assistant" the recommender; those of `PASSED_OVER` say nothing) and
`content`, and may have `items`: titles, or objects with `title` and, where known, `attitude`, `start` and `stop`. A
conversation is a list of messages, or an object with `messages` and, where there is one, `id`. Of messages a line those
in a row with the same `dialogue` belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from jaxrec._checks import InputError, briefly, shown
from jaxrec.conversational.dialogue import Dialogue, Mention, Speaker
from jaxrec.conversational.readers.turns import field, merged, named_in, title

ROLES: dict[str, Speaker] = {"user": "seeker", "assistant": "recommender"}
PASSED_OVER = ("system", "developer", "tool", "function")
Message = tuple[Speaker, str, list[Mention]]


def conversation(record: Any, number: int, where: str) -> Dialogue:
    """A conversation of a line; without an id it is called by the number of its line."""
    messages = record if isinstance(record, list) else field(record, "messages", list, where)
    name = str(number) if isinstance(record, list) else str(field(record, "id", (str, int), where, number))
    return Dialogue(name, merged(said for each in messages for said in _message(each, where)))


def by_message(records: Iterable[tuple[int, Any]], path: Any) -> Iterator[Dialogue]:
    """The conversations of a file of messages."""
    current: str | None = None
    said: list[Message] = []
    for number, record in records:
        where = f"{path}: line {number}"
        name = str(field(record, "dialogue", (str, int), where, "0"))
        if name != current and current is not None:
            yield Dialogue(current, merged(said))
            said = []
        current = name
        said += _message(record, where)
    if current is not None:
        yield Dialogue(current, merged(said))


def _message(record: Any, where: str) -> list[Message]:
    """A message, or none if its role takes no part in the conversation."""
    role, text = field(record, "role", str, where), field(record, "content", str, where, "")
    items = field(record, "items", list, where, [])
    if role in PASSED_OVER:
        return []
    if role not in ROLES:
        raise InputError(f"{where}: the role {shown(role)} is none of {', '.join((*ROLES, *PASSED_OVER))}.")
    mentions: list[Mention] = []
    for each in items:
        if isinstance(each, str):
            mentions += named_in(text, [title(each)])
            continue
        if not isinstance(each, dict):
            raise InputError(f"{where}: an item is a title, or an object with one, got {briefly(each)}.")
        name = title(field(each, "title", str, where))
        attitude, start, stop = (field(each, key, int, where, none) for key, none in _NUMBERS.items())
        if not -2 <= attitude <= 2 or not (start == stop == -1 or 0 <= start <= stop <= len(text)):
            raise InputError(f"{where}: the mention {shown(each)} has an attitude or a place that cannot be.")
        mentions.append(Mention(name, start, stop, attitude))
    return [(ROLES[role], text, mentions)]


_NUMBERS = {"attitude": 0, "start": -1, "stop": -1}
