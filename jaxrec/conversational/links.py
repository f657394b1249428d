"""What it takes for a text to be a title, and what is said of each name that was looked up."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import kind

How = Literal["exact", "edit", "words", "none"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far a text may be from a title and still be it.

    Attributes:
      edits: at most so many letters differ; None is no limit but the next.
      letters_per_edit: one edit is allowed for so many letters of the text, so that "Icarus" is not "Cars"; None allows
        `edits` for a text of any length.
      covered: share of a title's words that a text must have, which has no other words, to be the title by its words.
      years: by which a text and a title may differ.
    """

    edits: int | None = 2
    letters_per_edit: int | None = 4
    covered: float = 0.5
    years: int = 2

    def __post_init__(self):
        _checks.plain_numbers(self)
        if self.edits is None and self.letters_per_edit is None:
            raise InputError("edits and letters_per_edit cannot both be None; give one of them, such as edits=2.")
        if self.edits is not None:
            _checks.count("edits", self.edits)
        if self.letters_per_edit is not None:
            _checks.count("letters_per_edit", self.letters_per_edit, at_least=1)
        _checks.share("covered", self.covered)
        _checks.count("years", self.years)

    def allows(self, text: str, distance: int) -> bool:
        """Whether a text of this length may be a title that is so many edits away."""
        near = self.edits is None or distance <= self.edits
        return near and (self.letters_per_edit is None or distance <= len(text) // self.letters_per_edit)


@dataclasses.dataclass(frozen=True)
class Link:
    """A name in a text, and the title that it is, with what either matcher says, so that a wrong link can be found.

    Attributes:
      text: the name as it was written.
      item: the index of the title; -1 if it is none of the catalogue.
      title: the title; empty if it is none of the catalogue.
      how: "exact" in normalised spelling, with or without the article; "edit" by few edits; "words" by its words; or
        "none".
      distance: edits to the title, or to the nearest one if it is none, both normalised; 0 if exact.
      start: the letter of the text with which the name begins; -1 for a name that was given alone.
      stop: one past the letter with which it ends; -1 likewise.
      by_edit: the title that has the fewest edits; -1 if no title may be it.
      by_words: the title that has most of its words; -1 if none has any.
      share: of its words that `by_words` has.
      alternatives: other titles that are as near, such as films of the same name.
    """

    text: str
    item: int
    title: str
    how: How
    distance: int
    start: int = -1
    stop: int = -1
    by_edit: int = -1
    by_words: int = -1
    share: float = 0.0
    alternatives: tuple[int, ...] = ()

    @property
    def agreed(self) -> bool:
        """Whether both matchers name the same title."""
        return self.by_edit == self.by_words


@kind("Limits")
def limits(name: str, value: object) -> Limits:
    """Limits."""
    if isinstance(value, Limits):
        return value
    raise InputError(f"{name} must be Limits, such as Limits(edits=2), got {_checks.briefly(value)}.")
