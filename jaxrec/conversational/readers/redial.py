"""ReDial's conversations: the lines of its authors (Li et al. 2018), and a compact form of the same.

The authors' line has `conversationId`, `messages` (`text`, `senderWorkerId`), `initiatorWorkerId` (the seeker),
`respondentWorkerId`, `movieMentions` {id: title}, and both sides' forms `initiatorQuestions` and `respondentQuestions`
{id: {suggested, seen, liked}}, of which 0 is no, 1 is yes, 2 is not said. The compact one has `messages` as [S or R,
text], `movies` {id: title}, `seeker_form` and `recommender_form` {id: [suggested, seen, liked]}. In either `@id` in a
text is a film. An empty object may be written as an empty list.
"""

from __future__ import annotations

import re
from typing import Any

from jaxrec._checks import InputError, shown
from jaxrec.conversational.dialogue import Dialogue, Mention, Speaker
from jaxrec.conversational.readers.turns import field, merged, title

_ID = re.compile(r"@(\d+)")
_OPINION = {0: -1, 1: 1}  # liked: no, yes


def original(record: Any, where: str) -> Dialogue:
    """A conversation in the authors' form."""
    seeker = field(record, "initiatorWorkerId", int, where)
    messages: list[tuple[Speaker, str]] = []
    for each in field(record, "messages", list, where):
        said = field(each, "text", str, where)
        messages.append(("seeker" if field(each, "senderWorkerId", int, where) == seeker else "recommender", said))
    forms = [record.get("initiatorQuestions"), record.get("respondentQuestions")]
    liked = [
        {film: answers.get("liked") for film, answers in form.items() if isinstance(answers, dict)}
        for form in forms
        if isinstance(form, dict)
    ]
    return _dialogue(record, messages, record.get("movieMentions"), liked, where)


def compact(record: Any, where: str) -> Dialogue:
    """A conversation in the compact form."""
    messages: list[tuple[Speaker, str]] = []
    for each in field(record, "messages", list, where):
        if not (isinstance(each, list) and len(each) == 2 and each[0] in ("S", "R") and isinstance(each[1], str)):
            raise InputError(f"{where}: a message must be a side, S or R, and a text, got {shown(each)}.")
        messages.append(("seeker" if each[0] == "S" else "recommender", each[1]))
    forms = [record.get("seeker_form"), record.get("recommender_form")]
    liked = [
        {film: answers[2] for film, answers in form.items() if isinstance(answers, list) and len(answers) == 3}
        for form in forms
        if isinstance(form, dict)
    ]
    return _dialogue(record, messages, record.get("movies"), liked, where)


def _dialogue(
    record: Any, messages: list[tuple[Speaker, str]], films: Any, liked: list[dict[str, Any]], where: str
) -> Dialogue:
    titles = {}
    for film, name in (films if isinstance(films, dict) else {}).items():
        if isinstance(name, str) and name.strip():  # some have none
            titles[film] = title(name)
    opinions: dict[str, int] = {}
    for answers in liked[::-1]:  # the seeker's own answer counts
        opinions.update({titles[film]: _OPINION[each] for film, each in answers.items() if _known(film, each, titles)})
    said = []
    for speaker, text in messages:
        written, mentions = _with_titles(text, titles, opinions)
        said.append((speaker, written, mentions))
    number = record.get("conversationId")
    if not isinstance(number, int | str):
        raise InputError(f"{where}: 'conversationId' is {shown(number)}.")
    return Dialogue(str(number), merged(said), opinions)


def _known(film: str, liked: Any, titles: dict[str, str]) -> bool:
    return film in titles and isinstance(liked, int) and liked in _OPINION


def _with_titles(text: str, titles: dict[str, str], opinions: dict[str, int]) -> tuple[str, list[Mention]]:
    """The text with titles in place of ids, and where they stand. An id without a title stays as it is."""
    written, mentions, done = "", [], 0
    for found in _ID.finditer(text):
        if (name := titles.get(found[1])) is None:
            continue
        written += text[done : found.start()]
        mentions.append(Mention(name, len(written), len(written) + len(name), opinions.get(name, 0)))
        written += name
        done = found.end()
    return written + text[done:], mentions
