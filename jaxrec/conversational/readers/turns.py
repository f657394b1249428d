"""What all formats share: turns made of messages, and where a text names an item."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from jaxrec._checks import InputError, briefly
from jaxrec.conversational.dialogue import Mention, Speaker, Turn
from jaxrec.conversational.titles import split_year

KINDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}


def field(record: Any, name: str, kind: type | tuple[type, ...], where: str, missing: Any = ...) -> Any:
    """A field of a record, of one of these kinds; `missing` if it is not there or null.

    Raises:
      InputError: it is not there and nothing stands for it, or it is of another kind.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where} must be an object, got {briefly(record)}.")
    value = record.get(name)
    if value is None and missing is not ...:
        return missing
    if value is None:
        raise InputError(f"{where}: {name!r} is not there.")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = " or ".join(KINDS[each] for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"{where}: {name!r} must be {wanted}, got {briefly(value)}.")
    return value


def texts(record: Any, name: str, where: str) -> list[str]:
    """A field that is a list of texts."""
    listed = field(record, name, list, where)
    for each in listed:
        if not isinstance(each, str):
            raise InputError(f"{where}: {name!r} must hold texts, and holds {briefly(each)}.")
    return listed


def title(text: str) -> str:
    """A title as all data are read: a single space between words."""
    return " ".join(text.split())


def merged(messages: Iterable[tuple[Speaker, str, Sequence[Mention]]]) -> tuple[Turn, ...]:
    """The turns of messages: what one side says in a row is one turn, a space between; empty messages are dropped."""
    turns: list[tuple[Speaker, str, list[Mention]]] = []
    for speaker, text, mentions in messages:
        if not text.strip() and not mentions:
            continue
        if not turns or turns[-1][0] != speaker:
            turns.append((speaker, "", []))
        _, before, found = turns[-1]
        joined = f"{before} {text}" if before else text
        shift = len(joined) - len(text)
        for each in mentions:
            at = shift if each.start >= 0 else 0
            found.append(Mention(each.item, each.start + at, each.stop + at, each.attitude))
        turns[-1] = (speaker, joined, found)
    return tuple(Turn(speaker, text, tuple(found)) for speaker, text, found in turns)


def named_in(text: str, items: Iterable[str], attitudes: dict[str, int] | None = None) -> list[Mention]:
    """Where a text names items: every place of each, the longest name first where two overlap.

    An item is named by its title, or by its name without the year, in any case and between other words. One that is not
    found is mentioned at no place.
    """
    items = list(dict.fromkeys(items))
    attitudes = attitudes or {}
    taken: list[tuple[int, int]] = []
    found: list[Mention] = []
    for item in sorted(items, key=lambda item: len(split_year(item)[0]), reverse=True):
        places = [
            (place.start(), place.end())
            for place in _spelled(item).finditer(text)
            if all(place.end() <= start or stop <= place.start() for start, stop in taken)
        ]
        taken += places
        found += [Mention(item, start, stop, attitudes.get(item, 0)) for start, stop in places or [(-1, -1)]]
    return sorted(found, key=lambda each: each.start if each.start >= 0 else len(text))


@lru_cache(maxsize=2**14)
def _spelled(item: str) -> re.Pattern[str]:
    """A pattern of a title: with its year if it stands there."""
    name, year = split_year(item)
    spaced = r"\s+".join(map(re.escape, name.split()))
    behind = rf"(?:\s*\({year}\))?" if year else ""
    return re.compile(rf"(?<!\w){spaced}(?!\w){behind}", re.IGNORECASE)


def alternating(context: Sequence[str]) -> list[tuple[Speaker, str]]:
    """The speakers of turns that are said in alternation, of which the last is the seeker's; empty ones are dropped."""
    speakers: tuple[Speaker, Speaker] = ("recommender", "seeker")
    return [(speakers[(len(context) - place) % 2], text) for place, text in enumerate(context) if text.strip()]
