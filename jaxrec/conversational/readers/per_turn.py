"""Files of single turns to be predicted, each with its context: a sample a line.

Three forms: that of He et al. (2023, arXiv 2308.10053), whose items are numbers of a file of entities; that of iEvaLM
(Wang et al. 2023) for ReDial and OpenDialKG, with names; and contexts as one text of "User:" and "System:" lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jaxrec._checks import InputError, shown
from jaxrec.conversational.dialogue import Sample, Speaker, Turn
from jaxrec.conversational.readers.turns import alternating, field, merged, named_in, texts, title
from jaxrec.conversational.replies import entity_name

_LINE = re.compile(r"^(User|System): ?", re.MULTILINE)
_SPEAKERS: dict[str, Speaker] = {"User": "seeker", "System": "recommender"}


def entity_names(record: Any, where: str) -> dict[int, str]:
    """The names of entities by number, of a file {name or address: number}, as `entity_name` reads them."""
    if not isinstance(record, dict) or not all(type(number) is int for number in record.values()):
        raise InputError(f"{where} is no file of entities, which has names and their numbers.")
    return {number: entity_name(entity) for entity, number in record.items()}


def numbered(record: Any, where: str, names: Mapping[int, str], items: Iterable[str] | None) -> Sample:
    """A turn in the form of He et al.: `context`, `resp`, `rec` and `prev_entity` (numbers), `dialog_id`, `turn_id`.

    Whether a target has been named before is decided by its name: some have several numbers.
    """

    def named(field_name: str) -> list[str]:
        numbers = field(record, field_name, list, where)
        for number in numbers:
            if type(number) is not int or number not in names:
                raise InputError(f"{where}: {field_name!r} has {shown(number)}, which is no number of an entity.")
        return [names[number] for number in numbers]

    return _sample(record, where, named("rec"), named("prev_entity"), items)


def written(record: Any, where: str, items: Iterable[str] | None) -> Sample:
    """A turn in the form of iEvaLM: `context`, `resp`, `rec` and `entity` (names), `dialog_id`, `turn_id`."""
    return _sample(record, where, texts(record, "rec", where), texts(record, "entity", where), items)


def _sample(record: Any, where: str, targets: list[str], seen: list[str], items: Iterable[str] | None) -> Sample:
    """The sample of a context in which both sides alternate; what of `seen` is an item is marked where it stands."""
    named = list(dict.fromkeys(map(title, seen)))
    marked = named if items is None else [name for name in named if name in items]
    context = merged(
        (speaker, text, _found(text, marked)) for speaker, text in alternating(texts(record, "context", where))
    )
    dialogue, turn = (str(field(record, name, (str, int), where)) for name in ("dialog_id", "turn_id"))
    return Sample(
        key=f"{dialogue}:{turn}",
        context=context,
        targets=tuple(dict.fromkeys(map(title, targets))),
        seen=tuple(named),
        reply=field(record, "resp", str, where, ""),
        dialogue=dialogue,
    )


def _found(text: str, items: list[str]) -> list[Any]:
    return [each for each in named_in(text, items) if each.start >= 0]


def one_text(record: Any, number: int, where: str) -> Sample:
    """A turn whose `context` is one text of "User:" and "System:" lines, with `movies`; what was named is not told."""
    targets = dict.fromkeys(map(title, texts(record, "movies", where)))
    return Sample(str(number), turns_of(field(record, "context", str, where)), tuple(targets), ())


def turns_of(text: str) -> tuple[Turn, ...]:
    """The turns of a text of "User:" and "System:" lines; a line without either goes on with the one before it."""
    pieces = _LINE.split(text)
    return merged((_SPEAKERS[who], said.strip(), []) for who, said in zip(pieces[1::2], pieces[2::2], strict=True))
