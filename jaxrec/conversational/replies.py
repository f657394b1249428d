"""The text of a reply as ranked titles, and these as items: by a paper's rules, quirks and all, or by strict ones."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrec import _checks
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.links import Limits
from jaxrec.conversational.titles import LONGEST, normalised, split_year, with_year, words

Rules = Literal["paper", "strict"]
PAPER_EDITS = 2  # at most, for a title to count as one of the catalogue

_BRACKETS = re.compile(r"\([^()]*\)")
_PAPER_NUMBER = re.compile(r"^\d+\s*[.)\u3001]?\s*-?\s*")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"^[^\S\n]*```\w*[^\S\n]*$", re.MULTILINE)
_NUMBER = re.compile(r"^[^\w#]{0,3}(?:#(\d{1,3})(?:[.):]|\s)|(\d{1,3})\s*(?:[.):\u3001\]]+|-(?=\s)|\|))\s*")
_INLINE = re.compile(r"(?:^|(?<=\s))\(?(\d{1,3})[.)]\s+")
_BULLET = re.compile(r"^\s*(?:[-+\u2022\u2013\u2014\u25aa\u25e6]\s+|\*\s+)")
_LINKED = re.compile(r"\[([^\[\]\n]+)\]\([^()\n]*\)")
_MARKED = re.compile(r"^\s*(?:\*\*+|__|\*|_|\"|\u201c|\u00ab)(.+?)(?:\*\*+|__|\*|_|\"|\u201d|\u00bb)")
_YEAR_INSIDE = re.compile(r"^(.+?)\s*[(\[]\s*(\d{4})\s*[)\]]")
_YEAR_FIRST = re.compile(r"^\W*[(\[]?\s*(\d{4})\b")
_COMMA_YEAR = re.compile(r"^(.+?),\s*(\d{4})\s*$")
_DASH = re.compile(r"(?:\s+[-\u2013\u2014]+|:)\s+")
_AROUND = " \t\"'*_`\u201c\u201d\u00ab\u00bb\u2018\u2019|;"
_SENTENCE = 12  # words; a longer line without a number or a bullet tells something, and is no title


class Parsed(NamedTuple):
    """What a reply says.

    Attributes:
      preamble: what comes before the titles.
      titles: best first.
    """

    preamble: str
    titles: tuple[str, ...]


def paper(text: str) -> Parsed:
    """The titles of a reply by the rules of He et al. (2023, arXiv 2308.10053), read off the authors' records.

    What is odd about them, and kept:

    - what comes before the first "1.", wherever it stands, is the preamble, and the first title has lost its number;
    - a reply without "1." is cut at each comma, those within titles too, and has no preamble;
    - every line is a title, empty ones too;
    - what stands in round brackets is taken out, years too, but brackets within brackets stay;
    - a number in front is taken off, whatever it is: "12 Angry Men" in a reply without numbers is "Angry Men";
    - words behind a title stay, as do bullets and quotes; titles that stand there twice stay.
    """
    if "1." in text:
        preamble, body = text.split("1.", 1)
    else:
        preamble, body = "", text.replace(",", "\n")
    return Parsed(preamble, tuple(_paper_title(line) for line in body.split("\n")))


def _paper_title(line: str) -> str:
    spaced = re.sub(r"\s+", " ", _BRACKETS.sub("", line.strip()))
    return _PAPER_NUMBER.sub("", spaced.lstrip()).strip()


def entity_name(entity: str) -> str:
    """The name that these authors give an entity of a knowledge graph, which titles are compared with.

    What is behind its last "/"; `_`, `-` and `>` are spaces; what stands in round brackets is taken out.
    """
    spaced = re.sub(r"[_\->]", " ", entity.split("/")[-1])
    return re.sub(r"\s+", " ", _BRACKETS.sub("", spaced)).strip()


def strict(text: str) -> Parsed:
    """The titles of a reply as a reader would take them, each once; years are kept.

    Understood are JSON (a list of titles, of objects with a title and a year, or an object that holds one), lines with
    numbers or bullets of any form, several numbers in a line, lines without either, and titles between commas. Where
    lines are numbered, the others tell something, and are left out; likewise where they have bullets. Emphasis, quotes,
    links, and what is said of a title behind its year, its closing mark or a dash are taken off. Lines that end with a
    colon, long sentences and what a model thinks (<think>) are no titles.
    """
    text = _THOUGHT.sub("", text)
    listed = _json_titles(text)
    if listed is not None:
        return Parsed("", _each_once(listed))
    lines = [line for line in _LINKED.sub(r"\1", _FENCE.sub("", text)).splitlines() if line.strip()]
    for marker in (_NUMBER, _BULLET):
        places = [place for place, line in enumerate(lines) if marker.match(line)]
        if len(places) == max(1, len(lines)) or (len(places) > 1 and (marker is _BULLET or _counts_up(lines, places))):
            preamble = "\n".join(lines[: places[0]])
            found = [piece for place in places for piece in _numbered_inline(lines[place], marker)]
            return Parsed(preamble, _each_once(map(_strict_title, found)))
    return _unmarked(lines)


def _numbered_inline(line: str, marker: re.Pattern[str]) -> list[str]:
    """The pieces of a line that begins with a marker: one, or one for each number if they count up."""
    found = list(_INLINE.finditer(line))
    counted = [int(number[1]) for number in found]
    if marker is _NUMBER and len(found) > 1 and counted == list(range(counted[0], counted[0] + len(found))):
        ends = [number.start() for number in found[1:]] + [len(line)]
        return [line[number.end() : end] for number, end in zip(found, ends, strict=True)]
    return [marker.sub("", line, count=1)]


def _counts_up(lines: list[str], places: list[int]) -> bool:
    """Whether numbers in front of lines count them: two follow one another, or all are 1, as Markdown allows."""
    found = [_NUMBER.match(lines[place]) for place in places]
    counted = [int(number[1] or number[2]) for number in found if number]
    return 1 in np.diff(counted) or set(counted) == {1}


def _unmarked(lines: list[str]) -> Parsed:
    """Titles of a reply without numbers and bullets: a line each, or between the commas of a single line."""
    if len(lines) == 1 and lines[0].count(",") + lines[0].count(";") > 1:
        before, colon, behind = lines[0].partition(": ")
        body = behind if colon and "," not in before else lines[0]
        pieces = re.split(r"[;,]", body.rstrip(" ."))
        pieces = [re.sub(r"^\s*and\s+", "", piece) for piece in pieces]
        return Parsed(before if body is behind else "", _each_once(map(_strict_title, pieces)))
    kept = [line for line in lines if not line.rstrip().endswith(":") and len(line.split()) <= _SENTENCE]
    preamble = lines[0] if lines and lines[0] not in kept else ""
    return Parsed(preamble, _each_once(map(_strict_title, kept)))


def _strict_title(line: str) -> str:
    """A title with its year, without its marks and what is said of it; empty where a line is too long for one."""
    if len(line) > 4 * LONGEST:
        return ""
    year = None
    if "|" in line:  # a row of a table
        cells = [cell.strip() for cell in line.strip(" |").split("|")]
        line = f"{cells[0]} ({cells[1]})" if len(cells) > 1 and cells[1].isdecimal() else cells[0]
    if (marked := _MARKED.match(line)) and words(marked[1]):
        name = marked[1]
        if behind := _YEAR_FIRST.match(line[marked.end() :]):
            year = behind[1]
    else:
        name = line
    if found := _YEAR_INSIDE.match(name) or _COMMA_YEAR.match(name):
        name, year = found[1], found[2]
    elif (dash := _DASH.search(name)) and _tells(dash[0], name[dash.end() :]):
        name = name[: dash.start()]
    name = name.strip(_AROUND)
    title = f"{name} ({year})" if year else name
    return title if split_year(title)[1] or not year else name


def _tells(mark: str, behind: str) -> bool:
    """Whether words behind a dash or colon say something of a title, and are no second half of it, as "A New Hope"."""
    return behind[:1].islower() or (mark.strip() != ":" and len(behind.split()) > 6)


def _json_titles(text: str) -> list[str] | None:
    """Titles of a reply in JSON, with or without words around it; None if there is none."""
    for opening, closing in ("[]", "{}"):
        start, stop = text.find(opening), text.rfind(closing)
        if 0 <= start < stop:
            try:
                found = json.loads(text[start : stop + 1])
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                found = next((value for value in found.values() if isinstance(value, list)), None)
            if isinstance(found, list) and found:
                titles = [_json_title(each) for each in found]
                return [title for title in titles if title] or None
    return None


def _json_title(entry: Any) -> str:
    """A title of JSON: a text, or an object with a title; empty if it is neither."""
    if isinstance(entry, str):
        return _strict_title(_NUMBER.sub("", entry, count=1) if _NUMBER.match(entry) else entry)
    if not isinstance(entry, dict):
        return ""
    lower = {str(key).lower(): value for key, value in entry.items()}
    name = next((lower[key] for key in ("title", "name", "movie", "item") if isinstance(lower.get(key), str)), "")
    try:
        return with_year(name, lower.get("year"))
    except _checks.InputError:  # a year that is none says nothing
        return name.strip()


def _each_once(titles: Iterable[str]) -> tuple[str, ...]:
    """Titles that have a letter or a figure and are short enough to be one, each in its first writing."""
    first: dict[Any, str] = {}
    for title in titles:
        if words(title) and len(title) <= LONGEST:
            name, year = split_year(title)
            first.setdefault((normalised(name), year), " ".join(title.split()))
    return tuple(first.values())


RULES: dict[str, Callable[[str], Parsed]] = {"paper": paper, "strict": strict}


@dataclasses.dataclass(frozen=True)
class Ranked:
    """The items of N replies, and what became of their titles.

    Attributes:
      titles: for each reply its titles, best first.
      items: for each reply its items, best first; -1 is a rank that something takes which is no item.
      n_titles: of all replies.
      n_unknown: titles that are none of the catalogue.
      n_repeated: titles of an item that the reply has named before.
      n_empty: replies without titles.
    """

    titles: list[tuple[str, ...]]
    items: list[np.ndarray]
    n_titles: int
    n_unknown: int
    n_repeated: int
    n_empty: int


def rank(
    texts: Iterable[str],
    catalogue: Catalogue,
    rules: Rules = "strict",
    *,
    in_vocabulary: bool = True,
    limits: Limits | None = None,
) -> Ranked:
    """The items of N replies, ranked.

    Args:
      texts: N replies; an empty one has no items.
      catalogue: the items. For `rules="paper"` it is of all entities' names (`entity_name`), films or not.
      rules: "paper" takes for each title the nearest name in lower case, and knows a title that is at most
        `PAPER_EDITS` away; items that are named twice stay. "strict" takes what `Catalogue.match` finds, each item
        once.
      in_vocabulary: leave out titles that are none of the catalogue, so that those behind move up. If not, they keep
        their rank: as no item if strict; as the nearest name if by the paper's rules, however far it is.
      limits: of strict rules, if not the default.

    Raises:
      InputError: something is no text, or no catalogue; the rules have another name.
    """
    _checks.one_of("rules", rules, tuple(RULES))
    catalogue = Catalogue.of(catalogue)
    parsed = [RULES[rules](text).titles for text in _replies(texts)]
    distinct = list(dict.fromkeys(title for titles in parsed for title in titles))
    if rules == "paper":
        near = catalogue.nearest(distinct, "lower")
        item, known = near.item, near.distance <= PAPER_EDITS
    else:
        item = np.array([link.item for link in catalogue.match(distinct, limits)], np.int32)
        known = item >= 0
    place = {title: number for number, title in enumerate(distinct)}
    items, n_unknown, n_repeated = [], 0, 0
    for titles in parsed:
        rows = np.array([place[title] for title in titles], np.intp)
        n_unknown += int(np.count_nonzero(~known[rows]))
        found = item[rows][known[rows]] if in_vocabulary else item[rows]
        again = repeated(found)
        n_repeated += int(again.sum())
        items.append(found if rules == "paper" else found[~again])
    n_titles, n_empty = sum(map(len, parsed)), sum(not titles for titles in parsed)
    return Ranked(parsed, items, n_titles, n_unknown, n_repeated, n_empty)


def repeated(items: np.ndarray) -> np.ndarray:
    """[K] bool: whether an item, which -1 is not, stands further to the front already; below that are strangers."""
    _, first = np.unique(items, return_index=True)
    again = np.ones(len(items), bool)
    again[first] = False
    return again & (items != -1)


def _replies(texts: Iterable[str]) -> list[str]:
    listed = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else [texts]
    for place, text in enumerate(listed):
        if not isinstance(text, str):
            raise _checks.InputError(f"replies must be texts, and number {place} is {_checks.briefly(text)}.")
    return listed  # pyright: ignore[reportReturnType]
