"""Titles that a sentence names: written out, in quotes, or nearly."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rapidfuzz.distance import OSA

from jaxrec.conversational.everyday import EVERYDAY
from jaxrec.conversational.links import Limits, Link
from jaxrec.conversational.titles import LONGEST, YEARS, Word, normalised, split_year, without_article, words

if TYPE_CHECKING:
    from jaxrec.conversational.catalogue import Catalogue

# Pairs of marks that something stands between; a single quote only where no letter is at its outer side.
MARKS = ('""', "\u201c\u201d", "\u00ab\u00bb", "\u2018\u2019", "**")
# None is opened again before it is closed, so that a text of opening marks is gone through once.
BETWEEN = [rf"(?<!{re.escape(a)}){re.escape(a)}++([^{a}{b}\n]+){re.escape(b)}+" for a, b in MARKS]
QUOTED = re.compile("|".join([*BETWEEN, r"(?<!\w)'([^'\n]+)'(?!\w)"]))
YEAR_BEHIND = re.compile(r"\s*(?:[(\[,]\s*)?(\d{4})\b\s*[)\]]?")
SENTENCE_END = re.compile(r"[.!?:;\n]\s*$|^\W*$")
WITHIN = re.compile(r"[.!?;]")  # ends a sentence, and with it a piece
SEQUEL = frozenset("2 3 4 5 6 7 8 9 ii iii iv v vi vii viii part chapter volume vol episode".split())
SHORT = 10  # words of a text that may be a title as a whole
MOST_IN_A_TITLE = 50  # words
WINDOW = 8  # words of a piece that may be a title with mistakes
FEW_LETTERS = 7  # fewer are not looked for with mistakes, as half of all words would be found
MOST_WORDS = 1000  # of a text that are looked through for titles with mistakes


def mentioned(catalogue: Catalogue, text: str, limits: Limits) -> list[Link]:
    """See `Catalogue.link`."""
    if not words(text):
        return []
    whole = _whole(catalogue, text, limits)
    if whole and (whole.how == "exact" or (whole.item >= 0 and not _everyday(words(text)) and _begins_alike(whole))):
        return [whole]
    found = _quoted(catalogue, text, limits)
    exact = _written_out(catalogue, text, found, limits)
    lone = [link for link in exact if len(words(link.text)) == 1]
    found += [link for link in exact if len(words(link.text)) > 1]
    # "forest gump" is a film with a slip, not one that is called Forest.
    near = _nearly(catalogue, text, found, limits)
    found += [link for link in near if len(words(link.text)) > 1]
    found += _apart([*lone, *near], found, len(text))
    if not found and whole:
        return [dataclasses.replace(whole, item=-1, title="", how="none", alternatives=())]
    return sorted(found, key=lambda link: link.start)


def _whole(catalogue: Catalogue, text: str, limits: Limits) -> Link | None:
    """The link of all of a text, if it is short enough to be a title."""
    stripped = text.strip()
    if "\n" in stripped or len(stripped) > LONGEST or len(words(stripped)) > SHORT:
        return None
    start = text.index(stripped[0])
    return _at(catalogue.match([stripped], limits)[0], start, start + len(stripped))


def _at(link: Link, start: int, stop: int) -> Link:
    return dataclasses.replace(link, start=start, stop=stop)


def _letters_of(links: Iterable[Link], length: int) -> bytearray:
    """[length] 1 for each letter of a text that belongs to one of the links, else 0."""
    letters = bytearray(length)
    for link in links:
        letters[link.start : link.stop] = b"\1" * (link.stop - link.start)
    return letters


def _apart(links: Iterable[Link], found: Iterable[Link], length: int) -> list[Link]:
    """The links that have no letter in common with those found, nor with one before them."""
    taken, chosen = _letters_of(found, length), []
    for link in links:
        if 1 not in taken[link.start : link.stop]:
            taken[link.start : link.stop] = b"\1" * (link.stop - link.start)
            chosen.append(link)
    return chosen


def _free(text: str, found: list[Link]) -> list[list[Word]]:
    """The words that belong to no link yet, in runs that no link and no line end interrupts."""
    runs: list[list[Word]] = [[]]
    before, taken = 0, _letters_of(found, len(text))
    for word in words(text):
        if "\n" in text[before : word.start]:
            runs.append([])
        if 1 in taken[word.start : word.stop]:
            runs.append([])
        else:
            runs[-1].append(word)
        before = word.stop
    return [run for run in runs if run]


def _quoted(catalogue: Catalogue, text: str, limits: Limits) -> list[Link]:
    """What stands in quotes and begins with a capital or a figure, or is a title."""
    names, spans = [], []
    for piece in QUOTED.finditer(text):
        name = piece[piece.lastindex or 1].strip()
        if words(name) and len(name) <= LONGEST:
            start = text.index(name, piece.start())
            stop, year = _with_year_behind(text, piece.end(), start + len(name))
            names.append(f"{name} ({year})" if year else name)
            spans.append((start, stop))
    links = [_at(link, *span) for link, span in zip(catalogue.match(names, limits), spans, strict=True)]
    return [link for link in links if link.item >= 0 or link.text[:1].isupper() or link.text[:1].isdigit()]


def _with_year_behind(text: str, after: int, stop: int) -> tuple[int, int | None]:
    """Where a name ends with the year behind it, and the year; its own end and None without one."""
    year = YEAR_BEHIND.match(text, after)
    if year and int(year[1]) in YEARS:
        return year.end(), int(year[1])
    return stop, None


def _written_out(catalogue: Catalogue, text: str, found: list[Link], limits: Limits) -> list[Link]:
    """Titles in normalised spelling, the longest at each place first."""
    links = []
    for run in _free(text, found):
        place = 0
        while place < len(run):
            link, length = _longest_at(catalogue, text, run, place, limits)
            if link:
                links.append(link)
            place += length
    return links


def _longest_at(
    catalogue: Catalogue, text: str, run: list[Word], place: int, limits: Limits
) -> tuple[Link | None, int]:
    """The link of the longest title that begins at a word, and how many words it takes; None and 1 without one."""
    for length in catalogue.lengths_at([word.spelled for word in run[place : place + MOST_IN_A_TITLE]]):
        name, behind = run[place : place + length], run[place + length : place + length + 1]
        start, stop = name[0].start, name[-1].stop
        written = text[start:stop]
        stop, year = _with_year_behind(text, stop, stop)
        if year:
            written = f"{written} ({year})"
        elif (behind and _goes_on(text, name[-1], behind[0])) or (_everyday(name) and not _capitalised(text, name)):
            continue
        if catalogue.exactly(written, limits.years):
            link = _at(catalogue.match([written], limits)[0], start, stop)
            return link, sum(word.start < stop for word in run[place : place + length + 1])
    return None, 1


def _goes_on(text: str, last: Word, behind: Word) -> bool:
    """Whether what follows a title belongs to a longer one: the number of a part, or a second half behind a colon."""
    between = text[last.stop : behind.start]
    if between.strip() in ("", ",", ":", "-") and behind.spelled in SEQUEL:
        return True
    return between.startswith(":") and "\n" not in between and text[behind.start].isupper()


def _everyday(name: list[Word]) -> bool:
    return all(word.spelled in EVERYDAY or len(word.spelled) < 3 or word.spelled.isdecimal() for word in name)


def _capitalised(text: str, name: list[Word]) -> bool:
    """Whether words are written as those of a title are: each longer one with a capital, and not for other reasons."""
    if text.isupper():
        return False
    long = [word for word in name if len(word.spelled) > 3] or name[:1]
    if not all(text[word.start].isupper() for word in long):
        return False
    return len(long) > 1 or not SENTENCE_END.search(text[max(0, name[0].start - LONGEST) : name[0].start])


def _nearly(catalogue: Catalogue, text: str, found: list[Link], limits: Limits) -> list[Link]:
    """Pieces of a few words, not all of them everyday ones, that are few edits from a title; the closest first."""
    pieces, left = [], MOST_WORDS
    for run in _free(text, found):
        starts = range(min(len(run), left))
        left -= len(starts)
        for start in starts:
            for stop in range(start + 1, min(start + WINDOW, len(run)) + 1):
                piece = run[start:stop]
                if stop > start + 1 and WITHIN.search(text[piece[-2].stop : piece[-1].start]):
                    break
                if _may_be_misspelt(piece):
                    pieces.append(piece)
    names = [text[piece[0].start : piece[-1].stop] for piece in pieces]
    links = [
        _at(link, piece[0].start, piece[-1].stop)
        for piece, link in zip(pieces, catalogue.match(names, limits), strict=True)
        if link.how == "edit" and _begins_alike(link) and (len(_core(piece)) > 1 or _a_slip(link))
    ]
    closest = sorted(links, key=lambda link: (link.distance / (link.stop - link.start), link.start))
    return _apart(closest, (), len(text))


def _may_be_misspelt(piece: list[Word]) -> bool:
    core = _core(piece)
    letters = sum(len(word.spelled) for word in core)
    return letters >= FEW_LETTERS and not any(_everyday([word]) for word in (core[0], core[-1]))


def _core(piece: list[Word]) -> list[Word]:
    """A piece without the article in front."""
    return piece[1:] if len(piece) > 1 and piece[0].spelled in ("the", "a", "an") else piece


def _a_slip(link: Link) -> bool:
    """Whether a single word is one slip from a title, as are two letters turned round: two make another word of it."""
    text, title = (without_article(normalised(split_year(name)[0])) for name in (link.text, link.title))
    return OSA.distance(text, title, score_cutoff=1) <= 1


def _begins_alike(link: Link) -> bool:
    """Whether the first letter is right, as it is in nearly all slips; of a title found by its words any may be."""
    first, second = (without_article(normalised(name))[:1] for name in (link.text, link.title))
    return link.how == "words" or first == second
