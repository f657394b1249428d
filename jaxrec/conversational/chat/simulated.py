"""`SimulatedChat`: plays a language model that knows a planted world in part, and errs as often as it is told to."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence

import numpy as np
from rapidfuzz import process

from jaxrec import _checks
from jaxrec._checks import InputError, shown
from jaxrec.conversational import prompts
from jaxrec.conversational.chat.protocol import ChatReply, ChatRequest
from jaxrec.conversational.chat.streams import listed
from jaxrec.conversational.planted import GENRES, OPINIONS, World
from jaxrec.conversational.prompts import NONE, SEPARATOR, Prompt

_FEELING = {sentence.split()[1]: opinion for opinion, sentence in OPINIONS.items()}
_GENRE = re.compile(rf"\b({'|'.join(GENRES)})\b")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True)
class SimulatedChat:
    """A stand-in for a language model, to see how a pipeline behaves; its figures say nothing of real models.

    It reads the prompts of `jaxrec.conversational.prompts` (or of the same stages in other words) and answers in their
    forms. Of the items up to its cut-off it knows genre and popularity, and recommends by these; the tastes that the
    world's people share it does not recommend by. Asked whether given titles suit, it judges by taste and genre both.
    Retrieved titles it repeats first, in the order in which they stand, as models do. A reply depends on the seed, the
    stage, the key and the prompt alone.

    Attributes:
      world: what is true.
      seed: of all that is drawn.
      cut_off: the last year of which it knows items by itself; None: it knows all.
      popularity_skew: how much it prefers popular items: the weight of log popularity beside genre.
      copying: the share of a list that it fills with retrieved titles, if there are enough and it may choose (rag).
      noise: standard deviation of what is added to its judgements, beside which the judgements' own is 1.
      typos: the share of the titles it writes that have one letter wrong.
      unknown: the share of them that no catalogue has.
      unnumbered: the share of its lists without numbers.
      empty: the share of its replies without a word.
      failing: the share of requests that end in an error.
      wording: the prompts that it reads.
    """

    world: World
    seed: int = 0
    cut_off: int | None = None
    popularity_skew: float = 1.0
    copying: float = 0.5
    noise: float = 0.5
    typos: float = 0.0
    unknown: float = 0.0
    unnumbered: float = 0.0
    empty: float = 0.0
    failing: float = 0.0
    wording: tuple[Prompt, ...] = prompts.PROMPTS

    def __post_init__(self):
        _checks.plain_numbers(self)
        for name in ("copying", "typos", "unknown", "unnumbered", "empty", "failing"):
            _checks.share(name, getattr(self, name))
        for name in ("noise", "popularity_skew"):
            _checks.nonnegative(name, getattr(self, name))

    @property
    def name(self) -> str:
        """What records and caches call it."""
        return f"simulated-{self.seed}"

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies, one for each request, in their order.

        Raises:
          InputError: a request is of no prompt that it reads.
        """
        return [self._reply(request) for request in listed(requests)]

    def _reply(self, request: ChatRequest) -> ChatReply:
        prompt, fields = self._read(request)
        digest = hashlib.sha256(f"{self.seed}\0{request.stage}\0{request.key}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        fate = rng.random()
        if fate < self.failing:
            return ChatReply("", model=self.name, error="the simulated endpoint failed.")
        text = "" if fate < self.failing + self.empty else self._answer(prompt, fields, rng)
        words = sum(len(message.content.split()) for message in request.messages)
        return ChatReply(text, "stop", words, len(text.split()), self.name)

    def _read(self, request: ChatRequest) -> tuple[Prompt, dict[str, str]]:
        # The longest first: a prompt with retrieved titles can be read as one without, in which more is said.
        for prompt in sorted(self.wording, key=lambda each: -len(each.text)):
            if prompt.stage == request.stage:
                try:
                    return prompt, prompt.fields_of(request)
                except InputError:
                    continue
        raise InputError(f"the simulated model knows no prompt of stage {shown(request.stage)} in these words.")

    def _answer(self, prompt: Prompt, fields: dict[str, str], rng: np.random.Generator) -> str:
        if prompt.stage == "extract":
            return self._extract(fields["conversation"], rng)
        if prompt.stage == "link":
            return self._link(fields["candidates"], rng)
        if prompt.stage in ("reflect", "rerank"):
            return self._judge(prompt.stage, fields, rng)
        return self._recommend(prompt, fields, rng)

    def _extract(self, talk: str, rng: np.random.Generator) -> str:
        named = self._named(talk).items()
        return "\n".join(f"{self._written(item, rng)}{SEPARATOR}{opinion}" for item, opinion in named) or NONE

    def _link(self, candidates: str, rng: np.random.Generator) -> str:
        lines = []
        for line in candidates.splitlines():
            name, *found = line.split(SEPARATOR)
            meant = process.extractOne(name, self.world.titles, score_cutoff=75)
            at = [place for place, title in enumerate(found) if meant and title == meant[0]]
            if at and self.noise * rng.normal() < 1:
                lines.append((name, found[at[0]], "both" if len(at) == 2 else ("fuzzy", "bm25")[at[0]]))
            else:
                lines.append((name, NONE, "none"))
        return "\n".join(map(SEPARATOR.join, lines))

    def _judge(self, stage: str, fields: dict[str, str], rng: np.random.Generator) -> str:
        liking, titles = self._liking(fields["conversation"]), fields["titles"].splitlines()
        known = [self.world.number.get(title) for title in titles]
        values = np.array([-1.0 if item is None else liking[item] for item in known])  # no great opinion of the unknown
        values += self.noise * rng.normal(size=len(titles))
        if stage == "reflect":
            scores = values > 1
        else:  # on a scale of what it is shown
            scores = np.clip(np.rint(1.3 * (values - values.mean()) / (values.std() + 1e-9)), -2, 2)
        rows = zip(titles, scores.astype(int), strict=True)
        return "\n".join(f"{title}{SEPARATOR}{score}" for title, score in rows)

    def _recommend(self, prompt: Prompt, fields: dict[str, str], rng: np.random.Generator) -> str:
        world, talk, count = self.world, fields["conversation"], int(fields.get("count", 20))
        retrieved = [world.number.get(title) for title in fields.get("retrieved", "").splitlines()]
        copied = [item for item in retrieved if item is not None]
        copied = copied[: round(self.copying * count) if prompt.usage == "rag" else count]
        scores = self.popularity_skew * np.log(world.popularity) + self.noise * rng.normal(size=len(world.titles))
        scores += 4.0 * (world.genre == self._genre(talk))
        if self.cut_off is not None:
            scores[world.year > self.cut_off] = -np.inf
        scores[[*self._named(talk), *copied]] = -np.inf
        own = [int(item) for item in np.argsort(-scores, kind="stable") if np.isfinite(scores[item])]
        titles = [self._written(item, rng) for item in (*copied, *own)[:count]]
        numbered = rng.random() >= self.unnumbered
        return "\n".join(f"{place}. {title}" if numbered else title for place, title in enumerate(titles, 1))

    def _written(self, item: int, rng: np.random.Generator) -> str:
        """The title of an item as it comes out, which may be wrong."""
        title, fate = self.world.titles[item], rng.random()
        if fate < self.unknown:
            return f"{''.join(rng.permutation(list(_LETTERS))[:9]).capitalize()} {title[-6:]}"
        if fate < self.unknown + self.typos:
            at = int(rng.integers(1, len(title) - 7))  # in its name
            return title[:at] + _LETTERS[rng.integers(26)] + title[at + 1 :]
        return title

    def _named(self, talk: str) -> dict[int, int]:
        """The items that a conversation names, in its order, with what the words before say of them."""
        places = sorted((at, item) for title, item in self.world.number.items() if (at := talk.find(title)) >= 0)
        sentences = ((re.split(r"[.:\n] ?", talk[:at])[-1].split(), item) for at, item in places)
        return {item: _FEELING.get(words[1], 0) if len(words) > 1 else 0 for words, item in sentences}

    def _genre(self, talk: str) -> int:
        """The last genre that a conversation speaks of; -1 if of none."""
        found = _GENRE.findall(talk)
        return GENRES.index(found[-1]) if found else -1

    def _liking(self, talk: str) -> np.ndarray:
        """[I] how well each item suits a conversation, by the tastes of what it names and its genre; sd 1, mean 0."""
        taste = np.zeros(self.world.tastes.shape[1])
        for item, opinion in self._named(talk).items():
            taste += (opinion or 0.5) * self.world.tastes[item]
        genre = self._genre(talk)
        liking = self.world.liking(taste / (np.linalg.norm(taste) + 1e-9), None if genre < 0 else genre)
        return (liking - liking.mean()) / (liking.std() + 1e-9)
