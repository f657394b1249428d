"""Conversations from files: `load_dialogues` reads whole ones, `load_samples` the turns that are to be predicted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.conversational import dialogue as _dialogue
from jaxrec.conversational.dialogue import Dialogue, Sample
from jaxrec.conversational.readers import chat_lines, inspired, per_turn, redial
from jaxrec.conversational.readers.json_files import json_document, json_lines, text_lines

__all__ = ["load_dialogues", "load_samples"]

# The fields by which the first line of a file is known, in the order in which they are looked for.
WHOLE = {
    "ReDial": {"conversationId", "messages", "initiatorWorkerId"},
    "ReDial, compact": {"conversationId", "messages", "movies"},
    "INSPIRED, compact": {"dialog_id", "messages"},
    "chat": {"messages"},
    "chat messages": {"role", "content"},
}
TURNS = {
    "He et al.": {"context", "rec", "prev_entity", "dialog_id", "turn_id"},
    "iEvaLM": {"context", "rec", "entity", "dialog_id", "turn_id"},
    "one text": {"context", "movies"},
}
KNOWN = (
    "ReDial's lines, INSPIRED's table, the turns of He et al. (2023) and of iEvaLM for ReDial and OpenDialKG, and "
    "chats of role and content, a conversation a line"
)


@door
def load_dialogues(path: str | os.PathLike) -> list[Dialogue]:
    """The conversations of a file, packed by gzip or not, whose format is known by its first line.

    ReDial's lines, of its authors or compact; INSPIRED's table (.tsv) or compact lines; chats as JSON lines: messages
    of `role` and `content`, with `items` where known. What one side says in a row is one turn. In each format items
    stand where the text names them, or at no place if it does not write their name.

    Args:
      path: of the file.

    Raises:
      InputError: one sentence on the file, or the first line of it, that cannot be used; nothing is half-loaded.
    """
    found = list(_dialogues(path))
    if not found:
        raise InputError(f"{path} holds no conversation.")
    return found


@door
def load_samples(
    path: str | os.PathLike, *, entities: str | os.PathLike | None = None, items: Any = None
) -> list[Sample]:
    """The turns of a file that are to be predicted: of whole conversations those of `dialogue.samples`, or as it has.

    Beside what `load_dialogues` reads: turns with their contexts, as published with He et al. (2023, arXiv
    2308.10053), for which `entities` tells what their numbers mean; those of iEvaLM for ReDial and OpenDialKG; and
    contexts as one text with `movies`. In these both sides speak in turn, the seeker last. Their `seen` is everything
    that the context names, people and genres too, as the files have it; the words of an item are marked in the context
    where they stand.

    Args:
      path: of the file.
      entities: a file {name or address: number}, or one of that name beside it: `PREFIX_entities.json.gz` for
        `PREFIX_test.jsonl.gz`, `PREFIX_test_p2.jsonl.gz`, ..., there or in its folder `conversational`.
      items: the names that are items, of all that a turn's context names; None marks all of them.

    Raises:
      InputError: as for `load_dialogues`; no entities; or a sample without targets.
    """
    names = None if items is None else frozenset(items)
    found = list(_samples(path, entities, names))
    if not found:
        raise InputError(
            f"{path} holds no turn in which an item is recommended; in chats, `items` of the assistant's messages "
            "say it."
        )
    bare = [sample.key for sample in found if not sample.targets]
    if bare:
        raise InputError(f"{path}: {len(bare)} turns have no targets, the first is {bare[0]}; leave them out.")
    return _with_keys_of_their_own(found)


def _dialogues(path: Any) -> Iterator[Dialogue]:
    if "\t" in _first_line(path) and not _first_line(path).startswith(("{", "[")):
        yield from inspired.table(path)
        return
    kind, records = _known(path, WHOLE)
    if kind == "chat messages":
        yield from chat_lines.by_message(records, path)
        return
    read = {"ReDial": redial.original, "ReDial, compact": redial.compact, "INSPIRED, compact": inspired.compact}
    for number, record in records:
        where = f"{path}: line {number}"
        yield read[kind](record, where) if kind in read else chat_lines.conversation(record, number, where)


def _samples(path: Any, entities: Any, items: frozenset[str] | None) -> Iterator[Sample]:
    first = _first_line(path)
    kind, records = ("", iter(())) if not first.startswith("{") else _known(path, TURNS | WHOLE)
    if kind not in TURNS:
        yield from _dialogue.samples(_dialogues(path))
        return
    names: dict[int, str] = {}
    if kind == "He et al.":
        entities = entities or entities_beside(Path(path))
        names = per_turn.entity_names(json_document(entities), str(entities))
    for number, record in records:
        where = f"{path}: line {number}"
        if kind == "one text":
            yield per_turn.one_text(record, number, where)
        elif kind == "iEvaLM":
            yield per_turn.written(record, where, items)
        else:
            yield per_turn.numbered(record, where, names, items)


def entities_beside(path: Path) -> Path:
    """The file of entities that belongs to a file of turns.

    Raises:
      InputError: it is not there.
    """
    name = f"{path.name.split('_test')[0]}_entities.json.gz"
    for folder in (path.parent, path.parent / "conversational"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{path} has numbers of entities, and there is no {name} beside it; name the file: entities=.")


def _first_line(path: Any) -> str:
    return next(iter(text_lines(path)), (0, ""))[1]


def _known(path: Any, formats: dict[str, set[str]]) -> tuple[str, Iterator[tuple[int, Any]]]:
    """The format of a file, and its records."""
    records = json_lines(path)
    first = next(records, None)
    if first is None:
        raise InputError(f"{path} is empty.")
    record = first[1]
    kind = "chat" if isinstance(record, list) and record and _is_message(record[0]) else None
    if isinstance(record, dict):
        kind = next((name for name, fields in formats.items() if fields <= record.keys()), None)
    if kind is None:
        raise InputError(f"{path} has dialogues in no known format; what can be read: {KNOWN}.")
    return kind, chain([first], records)


def _is_message(record: Any) -> bool:
    return isinstance(record, dict) and "role" in record


def _with_keys_of_their_own(found: Iterable[Sample]) -> list[Sample]:
    """Samples of which each has a key of its own: to one that is there already its number is added."""
    import dataclasses

    keys: set[str] = set()
    made = []
    for number, sample in enumerate(found):
        key = sample.key if sample.key not in keys else f"{sample.key}:{number}"
        keys.add(key)
        made.append(sample if key == sample.key else dataclasses.replace(sample, key=key))
    return made
