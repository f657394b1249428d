"""INSPIRED's conversations (Hayati et al. 2020): the authors' table, a message a row, and a compact form of the same.

The table is separated by tabs, of which these columns are read: `dialog_id`, `speaker` (SEEKER or RECOMMENDER), `text`
and `movies` (titles with years, ";" between). The compact form is a line a conversation: `dialog_id`, and `messages` as
[S or R, text, titles].
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from jaxrec._checks import InputError, shown
from jaxrec.conversational.dialogue import Dialogue, Mention, Speaker
from jaxrec.conversational.readers.json_files import text_lines
from jaxrec.conversational.readers.turns import field, merged, named_in, title

COLUMNS = ("dialog_id", "speaker", "text", "movies")
SPEAKERS: dict[str, Speaker] = {"S": "seeker", "R": "recommender", "SEEKER": "seeker", "RECOMMENDER": "recommender"}
Message = tuple[Speaker, str, list[Mention]]


def compact(record: Any, where: str) -> Dialogue:
    """A conversation in the compact form."""
    said = []
    for each in field(record, "messages", list, where):
        right = isinstance(each, list) and len(each) == 3 and each[0] in ("S", "R") and isinstance(each[1], str)
        if not right or not isinstance(each[2], list) or not all(isinstance(name, str) for name in each[2]):
            raise InputError(f"{where}: a message must be a side, S or R, a text and titles, got {shown(each)}.")
        said.append(_message(*each))
    return Dialogue(field(record, "dialog_id", str, where), merged(said))


def table(path: str | os.PathLike) -> Iterator[Dialogue]:
    """The conversations of the authors' table."""
    rows = text_lines(path)
    _, head = next(rows, (0, ""))
    columns = head.split("\t")
    if missing := [name for name in COLUMNS if name not in columns]:
        raise InputError(f"{path}: the table has no column {missing[0]!r}.")
    places = [columns.index(name) for name in COLUMNS]
    current, said = None, []
    for number, line in rows:
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise InputError(f"{path}: line {number} has {len(cells)} columns where {len(columns)} are wanted.")
        dialogue, speaker, text, movies = (cells[place] for place in places)
        if speaker not in SPEAKERS:
            raise InputError(f"{path}: line {number}: the speaker is {shown(speaker)}, not SEEKER or RECOMMENDER.")
        if dialogue != current and current is not None:
            yield Dialogue(current, merged(said))
            said = []
        current = dialogue
        said.append(_message(speaker, text, movies.split(";")))
    if current is not None:
        yield Dialogue(current, merged(said))


def _message(speaker: str, text: str, movies: Iterable[str]) -> Message:
    text = text.replace("QUOTATION_MARK", '"')
    return SPEAKERS[speaker], text, named_in(text, [title(each) for each in movies if each.strip()])
