"""Titles as text: the year behind one, and the spelling in which two writings of it are the same.

A title is written "Name (year)", or without a year where none is known.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple

from jaxrec import _checks
from jaxrec._checks import InputError

YEARS = range(1870, 2100)
LONGEST = 300  # letters; what is longer is a paragraph, and no title
_YEAR = re.compile(r"[(\[]\s*(\d{4})\s*[)\]]$")
_INVERTED = re.compile(r"^(.*\S)\s*,\s*(the|a|an)$")
_ARTICLE = re.compile(r"^(?:the|a|an) (?=\S)")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "xi": "11", "xii": "12"}
_APOSTROPHES = str.maketrans("", "", "'\u2018\u2019\u02bc`\u00b4")
_WORD = re.compile(r"\w+(?:['\u2019\u02bc]\w+)*|&")


class Word(NamedTuple):
    """A word of a text.

    Attributes:
      spelled: as titles are compared: without case, accents and apostrophes; "and" for "&".
      start: the letter of the text with which it begins.
      stop: one past the letter with which it ends.
    """

    spelled: str
    start: int
    stop: int


def words(text: str) -> list[Word]:
    """The words of a text in order; punctuation lies between them."""
    return [Word(_spelled(found[0]), found.start(), found.end()) for found in _WORD.finditer(text)]


def normalised(name: str) -> str:
    """A name as its words in one spelling, a space between two: "Matrix, The" and "The  MATRIX!" are "the matrix".

    Case, accents, punctuation and apostrophes go, "&" is "and", and an article behind a comma comes to the front. A
    name that has no letters and digits, such as "!!!", stays as it is, without spaces at its ends.
    """
    turned = _INVERTED.sub(r"\2 \1", name.strip().casefold())
    return " ".join(word.spelled for word in words(turned)) or turned


def without_article(name: str) -> str:
    """A normalised name without "the", "a" or "an" in front; a name that is nothing else stays."""
    return _ARTICLE.sub("", name)


def numbers(name: str) -> list[str]:
    """The numbers in a normalised name, in figures or Roman, sorted: a part two is never a part three."""
    return sorted(_ROMAN.get(word, word) for word in name.split() if word in _ROMAN or word.isdecimal())


def split_year(title: str) -> tuple[str, int | None]:
    """The name and the year of a title: ("Heat", 1995) of "Heat (1995)"; None where no year stands behind it."""
    title = title.strip()
    found = _YEAR.search(title)
    if not found or int(found[1]) not in YEARS or not title[: found.start()].strip():
        return title, None
    return title[: found.start()].strip(), int(found[1])


def with_year(name: str, year: Any) -> str:
    """The title made of a name and a year; the name alone where the year is None, empty, NaN or stands there already.

    Raises:
      InputError: the year is none.
    """
    if _unknown(year) or split_year(name)[1] is not None:
        return name.strip()
    if isinstance(year, float) and year.is_integer():  # a column of years that has gaps
        year = int(year)
    try:
        written = str(year).strip()
        whole = int(written) if written.isdecimal() else 0
    except ValueError:  # more digits than Python makes a number of
        whole = 0
    if whole not in YEARS:
        raise InputError(
            f"the year of {_checks.shown(name)} must lie between {YEARS[0]} and {YEARS[-1]}, got {_checks.shown(year)}."
        )
    return f"{name.strip()} ({whole})"


def _unknown(year: Any) -> bool:
    """Whether a year is not there; the mark that pandas has for that says not even what it equals."""
    try:
        return year is None or year == "" or bool(year != year)
    except (TypeError, ValueError):
        return type(year).__name__ == "NAType"


def _spelled(word: str) -> str:
    if word == "&":
        return "and"
    if not word.isascii():
        letters = unicodedata.normalize("NFKD", word)
        word = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return word.casefold().translate(_APOSTROPHES)
