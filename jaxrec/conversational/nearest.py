"""The nearest of many names: by the number of edits between letters, and by shared words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import bm25s
import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from jaxrec._checks import InputError

BLOCK_BYTES = 2**25  # of distances at once
COMPARED = 1000  # letters of a text that are compared; each one more counts as an edit
FAR = np.iinfo(np.uint16).max  # between a text and a name that may not be the same
BEST_BY_WORDS = 100  # names that BM25 proposes, of which those with most of the words are taken


class Nearest(NamedTuple):
    """For each of N texts, the names with the fewest edits.

    Attributes:
      distance: [N] how many letters are to be put in, taken out or changed (Levenshtein); `FAR` if no name may be it.
      item: [N] the place of the name that was picked; -1 if no name may be it.
      tied: for each text, the places of all names at this distance, rising.
    """

    distance: np.ndarray
    item: np.ndarray
    tied: list[np.ndarray]


def by_edits(
    texts: Sequence[str],
    names: Sequence[str],
    order: np.ndarray,
    text_years: np.ndarray | None = None,
    years: np.ndarray | None = None,
    slack: int = 0,
) -> Nearest:
    """The nearest names of N texts, letters compared as they are.

    Of several at the same distance the first by `order` is picked, so that the answer is of the names, not of chance.

    Args:
      texts: N of them. Letters beyond the first `COMPARED` are counted as edits, not compared.
      names: I of them, at least one.
      order: [I] the rank of each name.
      text_years: [N] the year said with each text, 0 if none is.
      years: [I] the year of each name, 0 if none is known. A text is never a name whose year is another.
      slack: years by which two may differ and still be the same.

    Cost: N I products of the lengths over 64, for distinct texts; some 32 MiB.
    """
    if not len(names):
        raise InputError("names must hold at least one name, got none.")
    distance = np.full(len(texts), FAR, np.int32)
    item = np.full(len(texts), -1, np.int32)
    tied: list[np.ndarray] = [np.empty(0, np.intp)] * len(texts)
    for rows, block in _blocks(texts, names):
        if text_years is not None and years is not None:
            asked = text_years[rows][:, None]
            block[(asked > 0) & (years > 0) & (abs(asked - years) > slack)] = FAR
        least = block.min(1)
        for row, found, most in zip(rows, block, least, strict=True):
            if most == FAR:
                continue
            tied[row] = np.flatnonzero(found == most)
            item[row] = tied[row][order[tied[row]].argmin()]
            distance[row] = int(most) + max(0, len(texts[row]) - COMPARED)
    return Nearest(distance, item, tied)


def _blocks(texts: Sequence[str], names: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows [B] and their distances [B, I] uint16; texts of like length go together, which is several times faster."""
    rows = np.argsort([len(text) for text in texts], kind="stable")
    size = max(1, BLOCK_BYTES // (2 * len(names)))
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        shown = [texts[row][:COMPARED] for row in chosen]
        yield chosen, process.cdist(shown, names, scorer=Levenshtein.distance, dtype=np.uint16)


class WordIndex:
    """Names found by their words: BM25 proposes, and of what it proposes the names with most of the words are taken.

    Attributes:
      names: the words of each name.
    """

    def __init__(self, names: Sequence[Sequence[str]]):
        self.names = [frozenset(name) for name in names]
        self._index = None
        if any(self.names):
            self._index = bm25s.BM25()
            self._index.index([list(name) for name in names], show_progress=False)

    def best(self, texts: Sequence[Sequence[str]]) -> list[tuple[int, float]]:
        """For each text, given by its words, the place of a name and the share of the words that it holds.

        Ties go to the higher score, then to the earlier name; (-1, 0.0) where no word is of any name.

        Cost: a sparse product for each text, and a sort of its I scores.
        """
        asked = [list(dict.fromkeys(text)) for text in texts]
        some = [row for row, text in enumerate(asked) if text]
        found = [(-1, 0.0)] * len(asked)
        if self._index is None or not some:
            return found
        k = min(BEST_BY_WORDS, len(self.names))
        items, scores = self._index.retrieve([asked[row] for row in some], k=k, show_progress=False)
        for row, places, values in zip(some, items, scores, strict=True):
            words = set(asked[row])
            held = [len(self.names[place] & words) for place in places]
            best = max(range(k), key=lambda rank: (held[rank], values[rank], -int(places[rank])))
            if held[best] and values[best] > 0:
                found[row] = (int(places[best]), held[best] / len(asked[row]))
        return found
