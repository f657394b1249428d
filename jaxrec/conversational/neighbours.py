"""Nearest training conversations, whose items are votes: the strong baseline without a language model.

A conversation is near if it names the same items, the rarer the better, or uses the same words:

    similarity(q, d) = (1 - words) c(q, d) / max c(q, .) + words b(q, d) / max b(q, .)

with c the cosine of rows weighted by log(1 + U / n_i), n_i of U training conversations naming item i, and b the BM25
score of the words of d for those of q. The n nearest vote for the items they name, each with its similarity to a power.
After NBCRS (Xie et al., RecSys 2024, "Neighborhood-based collaborative filtering for conversational recommendation"),
which could not be read in full: similarity and votes are choices of ours, to be tuned on validation data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import bm25s
import numpy as np
import scipy.sparse as sp

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.conversational import mentioned
from jaxrec.conversational.dialogue import Dialogue, Sample, Turn, listed
from jaxrec.conversational.retrieval import Retrieved, positive
from jaxrec.data import columns
from jaxrec.data.interactions import Interactions
from jaxrec.evaluation.ranking import top_k_host
from jaxrec.runtime.memory import require_memory

AT_ONCE = 512  # conversations, whose similarities to all training conversations are held at a time


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest training conversations and their votes.

    Attributes:
      n: how many conversations vote at most; those that are not similar at all do not.
      words: the share of words in the similarity: 0 looks at items alone, 1 at words alone.
      power: of the similarity that a vote has; 0 counts heads.
    """

    n: int = 100
    words: float = 0.5
    power: float = 1.0

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.count("n", self.n, at_least=1)
        _checks.share("words", self.words)
        _checks.nonnegative("power", self.power)

    def fit(self, dialogues: Sequence[Dialogue], titles: Sequence[str]) -> FittedNeighbours:
        """The training conversations, ready to be looked up.

        Args:
          dialogues: U of them; they vote for the items that they name and do not dislike.
          titles: I, the items that can be recommended.
        """
        dialogues = listed("dialogues", dialogues, Dialogue)
        votes = mentioned.interactions(dialogues, titles)
        if votes.n_users == 0:
            raise InputError("dialogues must hold a training conversation at least, got none.")
        texts = Texts([_words(each.turns) for each in dialogues]) if self.words else None
        return FittedNeighbours(self, votes, tuple(titles), texts)


@dataclasses.dataclass(frozen=True)
class FittedNeighbours:
    """Training conversations with what finds the nearest of them.

    Attributes:
      method: how it was made.
      votes: U x I the items that each names.
      titles: of the items.
      texts: the words of the conversations, or None where words do not count.
    """

    method: Neighbours
    votes: Interactions
    titles: tuple[str, ...]
    texts: Texts | None

    def retrieve(self, samples: Sequence[Sample], k: int, *, among: np.ndarray | None = None) -> Retrieved:
        """The k items with the most votes for each sample, without those that it names.

        Args:
          samples: B samples.
          k: how many at most.
          among: indices, or a mask, of the items that may be retrieved; default all.

        Raises:
          InputError: something is no sample, or no index.

        Ties, among conversations as among items: the lower index first.

        Cost: 2 flops for every pair of a sample and a training conversation with an item or a word in common.
        """
        _checks.count("k", k, at_least=1)
        samples = listed("samples", samples, Sample)
        require_memory(16 * k * len(samples), f"{k:,} items for each of {len(samples):,} samples")
        kept = min(k, len(self.titles))
        allowed = np.zeros(len(self.titles), bool)
        allowed[slice(None) if among is None else columns.places("among: item", among, len(self.titles))] = True
        items, scores = np.full((len(samples), k), -1, np.int32), np.full((len(samples), k), -np.inf)
        for start in range(0, len(samples), AT_ONCE):
            part = samples[start : start + AT_ONCE]
            named = Interactions.from_lists(mentioned.histories(part, self.titles), len(self.titles))
            best, values = top_k_host(positive(self._votes(part, named), allowed), kept)
            rows = slice(start, start + len(part))
            items[rows, :kept], scores[rows, :kept] = np.where(values == -np.inf, -1, best), values
        return Retrieved(items, scores)

    def rank(self, samples: Sequence[Sample], k: int, *, among: np.ndarray | None = None) -> np.ndarray:
        """[B, k] the items with votes, then the popular ones, by the rule of `jaxrec.conversational.mentioned`."""
        samples = listed("samples", samples, Sample)
        named = mentioned.histories(samples, self.titles)
        found = self.retrieve(samples, k, among=among).items
        return mentioned.filled(found, self.votes.item_counts, named, k, among=among)

    def similarity(self, samples: Sequence[Sample]) -> np.ndarray:
        """[B, U] how near each training conversation is to the context of each sample, from 0 to 1."""
        named = Interactions.from_lists(mentioned.histories(samples, self.titles), len(self.titles))
        return self._similarity(samples, named)

    def _similarity(self, samples: Sequence[Sample], named: Interactions) -> np.ndarray:
        share = self.method.words
        similarity = np.zeros((len(samples), self.votes.n_users))
        if share < 1:
            similarity += (1 - share) * _of_largest(self._cosines(named))
        if self.texts is not None:
            similarity += share * _of_largest(self.texts.scores([_words(each.context) for each in samples]))
        return similarity

    def _cosines(self, named: Interactions) -> np.ndarray:
        rarity = np.log1p(self.votes.n_users / np.maximum(self.votes.item_counts, 1))
        ours, theirs = (_unit_rows(each.to_csr(np.float64), rarity) for each in (named, self.votes))
        cosines: Any = ours @ theirs.T
        return cosines.toarray()

    def _votes(self, samples: Sequence[Sample], named: Interactions) -> np.ndarray:
        """[B, I] the votes; 0 for the items that the sample names."""
        similarity = self._similarity(samples, named)
        nearest, near = top_k_host(similarity, min(self.method.n, similarity.shape[1]))
        weights = np.where(near > 0, np.maximum(near, 0) ** self.method.power, 0)
        rows = np.repeat(np.arange(len(samples)), nearest.shape[1])
        voters = sp.csr_array((weights.ravel(), (rows, nearest.ravel())), shape=similarity.shape)
        sums: Any = voters @ self.votes.to_csr(np.float64)
        votes = sums.toarray()
        votes[named.user_of_entry, named.indices] = 0
        return votes


class Texts:
    """Texts that are looked up by the BM25 scores (Lucene's, k1 = 1.5, b = 0.75) of their words."""

    def __init__(self, texts: Sequence[str]):
        self._index = bm25s.BM25()
        words = self._words(texts)
        self.n, self.known = len(texts), {word for each in words for word in each}
        if self.known:
            self._index.index(words, show_progress=False)

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """[B, U] the score of each text for the words of each query; 0 without a word in common."""
        found = np.zeros((len(queries), self.n))
        for row, words in enumerate(self._words(queries)):
            if words := [word for word in words if word in self.known]:
                found[row] = self._index.get_scores(words)
        return found

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        return bm25s.tokenize(list(texts), stopwords="english", return_ids=False, show_progress=False)  # pyright: ignore


def _words(turns: Iterable[Turn]) -> str:
    return "\n".join(turn.text for turn in turns)


def _of_largest(scores: np.ndarray) -> np.ndarray:
    """[B, U] the scores as shares of the largest of their row; 0 where all are."""
    largest = scores.max(axis=1, keepdims=True, initial=0)
    return np.divide(scores, largest, out=np.zeros_like(scores), where=largest > 0)


def _unit_rows(rows: Any, scale: np.ndarray) -> Any:
    """[B, I] the rows with their columns scaled, each then of length 1; empty rows stay."""
    scaled = sp.csr_array(rows * scale[None, :])
    norms = np.sqrt(np.asarray((scaled * scaled).sum(axis=1)))
    return sp.csr_array(scaled * np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)[:, None])
