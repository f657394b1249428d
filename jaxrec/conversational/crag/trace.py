"""What became of one sample on its way through CRAG, step by step, so that every recommendation can be explained."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jaxrec.conversational.links import Link

# Where a step could not do what it is for, and what was done instead.
NO_EXTRACTION = "no names could be read in the answer: looked up in the text instead"
NO_NAMES = "the conversation names nothing of the catalogue: the model was asked for a guess"
NO_LINK_ANSWER = "no word on a name that the matchers disagree on: the catalogue's own link stays"
UNKNOWN_LINK = "the title that a name was corrected to is not in the catalogue: the name was dropped"
NOTHING_RETRIEVED = "nothing was retrieved: the plain prompt was asked"
NO_CONTEXT_ANSWER = "what suits the conversation could not be read: all that was retrieved was used"
NOTHING_KEPT = "nothing that was retrieved suits the conversation: the plain prompt was asked"
FORGOTTEN_CONTEXT = "a retrieved title got no verdict: it was not used"
NO_RECOMMENDATION = "no recommendation could be read: the list is empty"
OUTSIDE = "a recommended title is not in the catalogue: it holds its rank and hits nothing"
NAMED_BEFORE = "a recommended title was named in the conversation: it was left out"
REPEATED = "a recommended title was there before: it was left out"
NO_RANKS = "no scores could be read: the order stays"
FORGOTTEN_RANK = "a recommended title got no score: it went behind the others"
LOST = "a recommended title got no score: it was dropped, as the released code does"


@dataclasses.dataclass(frozen=True)
class Name:
    """A name in the conversation, or a guess of the model, and the item that it is taken for.

    Attributes:
      text: the name as it was extracted.
      attitude: what the seeker thinks of it, from -2 to 2.
      link: what both matchers of the catalogue say.
      item: the item; -1 if it was dropped.
      title: the title of the item; empty if it was dropped.
      verdict: the matcher that the model trusts ("fuzzy", "bm25", "both", "none"); None where it was not asked.
    """

    text: str
    attitude: int
    link: Link
    item: int
    title: str
    verdict: str | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """An item that was retrieved.

    Attributes:
      item: its index.
      title: its title.
      score: of the retrieval, above 0.
      verdict: 1 if the model says that it suits the conversation, 0 if not; None where it was not asked or did not say.
      used: whether the model was told of it when it recommended.
    """

    item: int
    title: str
    score: float
    verdict: int | None = None
    used: bool = True


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A title that the model recommended.

    Attributes:
      text: as the model wrote it.
      item: its index; -1 if it is not in the catalogue.
      title: as the catalogue has it; as the model wrote it if it is not there.
      how: how it was linked ("exact", "edit", "words", "none").
      score: what the model gave it when it ranked anew, from -2 to 2; None where it was not asked or did not say.
    """

    text: str
    item: int
    title: str
    how: str
    score: int | None = None


@dataclasses.dataclass(frozen=True)
class Trace:
    """One sample: what was linked how, retrieved with which score, kept, recommended, and in which order.

    Attributes:
      key: of the sample.
      seen: items that the context names, which are not recommended.
      names: what the context names.
      guesses: what the model guesses that the seeker may like; asked for where no name can start a retrieval.
      found: what was retrieved, best first.
      suggestions: what the model recommended, in its order, without what was seen.
      order: the places in `suggestions` of the final list, best first.
      notes: the ways round that were taken, each as often as it was.
      errors: what the chat model said of requests that failed.
      n_requests: how many were made.
    """

    key: str
    seen: frozenset[int] = frozenset()
    names: tuple[Name, ...] = ()
    guesses: tuple[Name, ...] = ()
    found: tuple[Found, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    order: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    n_requests: int = 0

    def query(self, least: int = 0) -> list[int]:
        """The items that retrieval starts from, each once: of the names those with an attitude of at least `least`.

        Of an item that is named twice the last attitude counts. Without any such name it starts from the guesses.
        """
        attitudes = {name.item: name.attitude for name in self.names if name.item >= 0}
        named = [item for item, attitude in attitudes.items() if attitude >= least]
        return named or list(dict.fromkeys(name.item for name in self.guesses if name.item >= 0))

    @property
    def used(self) -> tuple[Found, ...]:
        """What the model was told of when it recommended."""
        return tuple(each for each in self.found if each.used)

    @property
    def ranked(self) -> tuple[Suggestion, ...]:
        """The final list, best first."""
        return tuple(self.suggestions[place] for place in self.order)

    def noted(self, *notes: str) -> Trace:
        """The trace with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))

    def explained(self) -> list[str]:
        """The way to the recommendation in words, a line for each thing that happened."""
        told: list[str] = []
        told += [f"named {name.text!r}, attitude {name.attitude:+d}, {_meaning(name)}" for name in self.names]
        told += [f"guessed {name.text!r}, {_meaning(name)}" for name in self.guesses]
        for each in self.found:
            kept = "used" if each.used else "not used"
            told.append(f"retrieved {each.title}, score {each.score:.3f}, {kept}")
        for rank, place in enumerate(self.order, start=1):
            each = self.suggestions[place]
            told.append(f"recommended {each.title} as number {rank}{_before(rank, place, each)}")
        told += [f"note: {note}" + f" ({count} times)" * (count > 1) for note, count in _counted(self.notes)]
        told += [f"error: {error}" for error in self.errors]
        return told


def _before(rank: int, place: int, suggestion: Suggestion) -> str:
    """Where the model had put what it recommended, if it ranked anew."""
    if suggestion.score is None and rank == place + 1:
        return ""
    return f", before that number {place + 1}" + ("" if suggestion.score is None else f", scored {suggestion.score:+d}")


def _meaning(name: Name) -> str:
    how = name.link.how if name.link.how != "edit" else f"{name.link.distance} letters off"
    how = how if name.verdict is None else f"{how}; the model trusts {name.verdict}"
    return f"is {name.title} ({how})" if name.item >= 0 else f"is not in the catalogue ({how})"


def _counted(notes: Iterable[str]) -> list[tuple[str, int]]:
    return list(collections.Counter(notes).items())


def rank_confusion(traces: Sequence[Trace], k: int, *, before: bool = False) -> np.ndarray:
    """[k, k] how often the item retrieved at rank i is recommended at rank j.

    A diagonal says that the model copies what it is given.

    Args:
      traces: of samples.
      k: how many ranks of both.
      before: take the model's order, before it ranked anew.
    """
    counts = np.zeros((k, k), np.int64)
    for trace in traces:
        listed = trace.suggestions if before else trace.ranked
        at = {each.item: rank for rank, each in enumerate(listed) if each.item >= 0}
        for rank, each in enumerate(trace.used[:k]):
            if at.get(each.item, k) < k:
                counts[rank, at[each.item]] += 1
    return counts
