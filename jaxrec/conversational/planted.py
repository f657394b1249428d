"""A planted world: items whose genres, years, popularity and tastes are known, and people who talk about them.

What is true in it is drawn, so that a pipeline can be seen to find it. It says nothing about real people or models.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.sparse as sp

from jaxrec import _checks
from jaxrec.conversational.dialogue import Dialogue, Mention, Turn
from jaxrec.data.catalogue import Catalogue as Items
from jaxrec.data.interactions import Interactions

GENRES = ("western", "musical", "thriller", "comedy", "romance", "horror", "documentary", "fantasy", "mystery", "drama")
OPINIONS = {2: "I loved {}.", 1: "I liked {}.", 0: "I have seen {}.", -1: "I disliked {}.", -2: "I hated {}."}
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_FORMS = ("{0}", "The {0}", "{0} {1}", "The {0} of {1}", "{0} and {1}")


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """I items, and what is true of them.

    Attributes:
      titles: [I] with years, each once.
      genre: [I] which of `GENRES` an item is of.
      year: [I].
      popularity: [I] shares of all that is talked of; they sum to 1.
      tastes: [I, K] unit vectors; people who like one item like those whose vectors are near.
    """

    titles: tuple[str, ...]
    genre: np.ndarray
    year: np.ndarray
    popularity: np.ndarray
    tastes: np.ndarray

    @classmethod
    def drawn(
        cls,
        seed: int = 0,
        *,
        n_items: int = 300,
        n_genres: int = 6,
        n_tastes: int = 4,
        years: tuple[int, int] = (1980, 2024),
    ) -> World:
        """A world drawn at random: genre, year, popularity and tastes of an item say nothing of each other.

        Args:
          seed: of all that is drawn.
          n_items: I.
          n_genres: how many of `GENRES` there are, at least 2.
          n_tastes: K.
          years: the first and the last.
        """
        _checks.count("n_items", n_items, at_least=1)
        _checks.count("n_tastes", n_tastes, at_least=1)
        _checks.between("n_genres", n_genres, "[]", 2, len(GENRES))
        rng = np.random.default_rng([seed, 1])
        year = rng.integers(years[0], years[1] + 1, n_items)
        words = _words(rng, 2 * n_items)
        names = [
            _FORMS[form].format(words[item], words[n_items + item])
            for item, form in enumerate(rng.integers(len(_FORMS), size=n_items))
        ]
        popularity = 1.0 / (10 + rng.permutation(n_items))
        tastes = rng.normal(size=(n_items, n_tastes))
        return cls(
            titles=tuple(f"{name} ({when})" for name, when in zip(names, year, strict=True)),
            genre=rng.integers(n_genres, size=n_items),
            year=year,
            popularity=popularity / popularity.sum(),
            tastes=tastes / np.linalg.norm(tastes, axis=1, keepdims=True),
        )

    @functools.cached_property
    def number(self) -> dict[str, int]:
        """The item of each title."""
        return {title: item for item, title in enumerate(self.titles)}

    def liking(self, taste: np.ndarray, genre: int | None = None) -> np.ndarray:
        """[I] how much someone likes each item: by taste alone, or for someone in the mood for a genre.

        Args:
          taste: [K], what the vectors of items are compared with.
          genre: of `GENRES`, or None.
        """
        return 4.0 * (self.tastes @ taste) + (0.0 if genre is None else 4.0 * (self.genre == genre))

    def interactions(self, n_users: int = 500, seed: int = 0) -> Interactions:
        """What n users have liked, 8 to 24 items each, by taste and popularity whatever the genre."""
        rng = np.random.default_rng([seed, 2])
        rows = [self._chosen(rng, self._person(rng), int(rng.integers(8, 25))) for _ in range(n_users)]
        indptr = np.cumsum([0, *map(len, rows)])
        matrix = sp.csr_array((np.ones(indptr[-1]), np.concatenate(rows), indptr), (n_users, len(self.titles)))
        return Interactions.from_csr(
            matrix, items=Items(len(self.titles), titles=np.array(self.titles)), name="planted"
        )

    def dialogues(self, n: int = 100, seed: int = 0) -> list[Dialogue]:
        """Conversations, n of them: someone tells of some items and of the genre they want, and is recommended others.

        What is recommended at the end, 1 to 3 items, was drawn by their taste and that genre.
        """
        rng = np.random.default_rng([seed, 3])
        return [self._dialogue(rng, f"planted-{number}") for number in range(n)]

    def _dialogue(self, rng: np.random.Generator, name: str) -> Dialogue:
        taste, genre = self._person(rng), int(rng.integers(self.genre.max() + 1))
        liked = self._chosen(rng, taste, int(rng.integers(2, 5)))
        disliked = self._chosen(rng, -taste, int(rng.integers(2)), without=liked)
        told = [*zip(liked, rng.integers(0, 3, len(liked)), strict=True)]
        told += zip(disliked, rng.integers(-2, 0, len(disliked)), strict=True)
        targets = self._chosen(rng, taste, int(rng.integers(1, 4)), genre, [*liked, *disliked])
        half = max(1, len(told) // 2)
        turns = (
            Turn("recommender", "Hello! Which films do you know?"),
            self._said([(item, int(opinion)) for item, opinion in told[:half]]),
            Turn("recommender", "Tell me more."),
            self._said([(item, int(opinion)) for item, opinion in told[half:]], f"I want a {GENRES[genre]} now."),
            self._said([(item, 0) for item in targets], "Watch these.", "recommender"),
        )
        opinions = {self.titles[item]: int(opinion) for item, opinion in told}
        return Dialogue(name, turns, opinions)

    def _said(self, told: list[tuple[int, int]], close: str = "", speaker: str = "seeker") -> Turn:
        """A turn that names items with opinions, and where they stand in it."""
        text, mentions = "", []
        for item, opinion in told:
            sentence, title = OPINIONS[opinion] if speaker == "seeker" else "{}.", self.titles[item]
            start = len(text) + sentence.index("{")
            mentions.append(Mention(title, start, start + len(title), opinion))
            text += sentence.format(title) + " "
        return Turn("seeker" if speaker == "seeker" else "recommender", (text + close).strip(), tuple(mentions))

    def _person(self, rng: np.random.Generator) -> np.ndarray:
        taste = rng.normal(size=self.tastes.shape[1])
        return taste / np.linalg.norm(taste)

    def _chosen(
        self, rng: np.random.Generator, taste: np.ndarray, n: int, genre: int | None = None, without: object = ()
    ) -> np.ndarray:
        """Items drawn, n of them, by popularity and liking, none of those that are known."""
        weights = np.sqrt(self.popularity) * np.exp(self.liking(taste, genre))
        weights[np.asarray(without, int)] = 0
        return rng.choice(len(self.titles), n, replace=False, p=weights / weights.sum())


def _words(rng: np.random.Generator, n: int) -> list[str]:
    """Words that one can say, n of them, each once."""
    found: dict[str, None] = {}
    while len(found) < n:
        parts = rng.integers(3, 5)
        letters = (
            _CONSONANTS[rng.integers(len(_CONSONANTS))] + _VOWELS[rng.integers(len(_VOWELS))] for _ in range(parts)
        )
        found.setdefault("".join(letters).capitalize())
    return list(found)
