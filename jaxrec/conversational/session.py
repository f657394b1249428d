"""A conversation with somebody: what they say goes in, titles with their reasons come out, and none comes twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.protocol import ChatModel, chat_model
from jaxrec.conversational.crag import Crag, Trace, linking, recommending
from jaxrec.conversational.crag.trace import NO_RECOMMENDATION, Name, Suggestion
from jaxrec.conversational.dialogue import Mention, Sample, Turn
from jaxrec.conversational.mentioned import filled
from jaxrec.conversational.titles import split_year
from jaxrec.models import Fitted, ItemWeights

LEAST_SHARE = 0.1  # of a score, which a name must make up to be given as a reason
GREETING = "Hello! Tell me about films you liked, or did not like, and I will recommend some."
UNDERSTOOD_NOTHING = (
    "I found no film of my catalogue in that; these are what people talk about most. Name one you like, in quotes if "
    "its title is an everyday word."
)
ONLY_DISLIKED = "I leave that out. Name a film you like and I can do better than what people talk about most:"
NOTHING_GOES_WITH = "My data know too little of that; these are what people talk about most:"
FOUND = "You may like:"
MORE = "I go by the films you name, not by other words. What about:"
NOTHING_LEFT = "I have nothing left to recommend."


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said to somebody.

    Attributes:
      text: a sentence before the titles.
      titles: what is recommended, best first.
      reasons: for each of them why, in words; empty where there is nothing to say.
      trace: the way there.
    """

    text: str
    titles: tuple[str, ...]
    reasons: tuple[str, ...]
    trace: Trace


class Session:
    """A conversation that goes on, with a language model (CRAG) or without one.

    Without one the names in what somebody says are looked up in the catalogue, each with an attitude by plain rules;
    the items that go with those not disliked are recommended, then those that are talked of most.

    Attributes:
      catalogue: I titles.
      turns: what was said so far.
      seen: the items that are not to be recommended any more.
      last: the last answer, or None.
      saved: the files that it was written to.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        item_weights: Any,
        counts: np.ndarray,
        *,
        chat: ChatModel | None = None,
        crag: Crag | None = None,
        k: int = 5,
    ):
        """Begins a conversation.

        Args:
          catalogue: I titles.
          item_weights: of the same items; see `retrieve`.
          counts: [I] how many people talk of each.
          chat: a language model, or None.
          crag: how it is used.
          k: how many titles an answer has.

        Raises:
          InputError: one of them is something else, or the counts are of other titles.
        """
        _checks.count("k", k, at_least=1)
        self.catalogue, self.item_weights, self.k = Catalogue.of(catalogue), item_weights, k
        self.counts = _checks.array("counts", counts)
        if self.counts.shape != (len(self.catalogue),) or self.counts.dtype.kind not in "iu":
            raise InputError(
                f"counts must be a whole number for each of {len(self.catalogue)} titles, got {self.counts.dtype} of "
                f"shape {self.counts.shape}."
            )
        self.chat = chat if chat is None else chat_model("chat", chat)
        self.crag = Crag() if crag is None else crag
        if not isinstance(self.crag, Crag):
            raise InputError(f"crag must be a Crag, got {_checks.briefly(crag)}.")
        self.turns: list[Turn] = []
        self.seen: set[int] = set()
        self.last: Answer | None = None
        self.saved: set[str] = set()

    @door
    def say(self, text: str) -> Answer:
        """The answer to what somebody says; the conversation is longer by both, or as it was if there is no answer."""
        self.turns.append(Turn("seeker", text))
        try:
            trace = self._looked_up() if self.chat is None else self._asked()
        except BaseException:
            self.turns.pop()
            raise
        chosen = [each for each in trace.ranked if each.item not in self.seen][: self.k]
        new = [name for name in trace.names if name.text in text and name.item >= 0]
        self.seen.update(name.item for name in trace.names if name.item >= 0)
        self.seen.update(each.item for each in chosen if each.item >= 0)
        reasons = tuple(self._reason(each, trace) for each in chosen)
        self.last = Answer(self._opening(trace, new, chosen), tuple(each.title for each in chosen), reasons, trace)
        self._remember(new)
        return self.last

    def has_seen(self, text: str) -> list[str]:
        """The titles in a text, which are not recommended any more."""
        items = [link.item for link in self.catalogue.link(text) if link.item >= 0]
        self.seen.update(items)
        return [self.catalogue.titles[item] for item in items]

    def why(self) -> list[str]:
        """The way to the last answer, line by line."""
        return self.last.trace.explained() if self.last else []

    def to_jsonl(self) -> str:
        """The conversation as messages, one JSON object a line: role, content, and the items named."""
        roles = {"seeker": "user", "recommender": "assistant"}
        lines = [
            {"role": roles[turn.speaker], "content": turn.text, **({"items": list(turn.items)} if turn.items else {})}
            for turn in self.turns
        ]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def _sample(self) -> Sample:
        seen = tuple(self.catalogue.titles[item] for item in sorted(self.seen))
        return Sample(f"turn-{len(self.turns)}", tuple(self.turns), (), seen)

    def _looked_up(self) -> Trace:
        """The trace without a language model: names by the catalogue, retrieval, then what is popular."""
        sample = self._sample()
        told = tuple(turn for turn in self.turns if turn.speaker == "seeker")
        (trace,) = linking.begun([sample], self.catalogue)
        names = [
            self._likeliest(name) for name in linking.of_text(dataclasses.replace(sample, context=told), self.catalogue)
        ]
        named = frozenset(name.item for name in names if name.item >= 0)
        trace = dataclasses.replace(trace, names=tuple(names), seen=trace.seen | named)
        found = recommending.retrieved([trace], self.item_weights, self.catalogue, self.k, 0, None)[0].found
        items = np.array([[each.item for each in found]], np.int32).reshape(1, -1)
        ranked = filled(items, self.counts, [sorted(trace.seen)], self.k)[0]
        titles = self.catalogue.titles
        suggestions = tuple(Suggestion(titles[item], int(item), titles[item], "exact") for item in ranked if item >= 0)
        return dataclasses.replace(trace, found=found, suggestions=suggestions, order=tuple(range(len(suggestions))))

    def _likeliest(self, name: Name) -> Name:
        """The name, taken for the film of this name that is talked of most; one with a year is what it is."""
        if split_year(name.text)[1] is not None:
            return name
        item = max((name.item, *name.link.alternatives), key=lambda each: self.counts[each])
        return dataclasses.replace(name, item=item, title=self.catalogue.titles[item])

    def _asked(self) -> Trace:
        """The trace of the language model; where it recommends nothing, what was retrieved stands in."""
        assert self.chat is not None
        (trace,) = self.crag.run([self._sample()], self.chat, self.catalogue, self.item_weights).traces
        if NO_RECOMMENDATION not in trace.notes:
            return trace
        without = self._looked_up()
        return dataclasses.replace(without, notes=trace.notes, errors=trace.errors, n_requests=trace.n_requests)

    def _opening(self, trace: Trace, new: Sequence[Name], chosen: Sequence[Suggestion]) -> str:
        if not chosen:
            return NOTHING_LEFT
        if self.chat is not None and trace.suggestions and NO_RECOMMENDATION not in trace.notes:
            return FOUND
        if not trace.query():
            return ONLY_DISLIKED if trace.names else UNDERSTOOD_NOTHING
        if not trace.found:
            return NOTHING_GOES_WITH
        return FOUND if new else MORE

    def _reason(self, suggestion: Suggestion, trace: Trace) -> str:
        """The names that make up most of a score, or how many talk of the item."""
        found = next((each for each in trace.found if each.item == suggestion.item), None)
        if found is None:
            if suggestion.item < 0:
                return "not in the catalogue"
            return "" if self.chat is not None else f"{self.counts[suggestion.item]:,} people talk of it"
        names = because(self.item_weights, trace.query(self.crag.least), suggestion.item)
        if not names:
            return f"goes with what you named (score {found.score:.2f})"
        return "because of " + ", ".join(self.catalogue.titles[item] for item in names)

    def _remember(self, new: Sequence[Name]) -> None:
        """Puts what was named into the turn of the seeker, and the answer behind it."""
        assert self.last is not None
        mentions = tuple(Mention(name.title, attitude=name.attitude) for name in new)
        self.turns[-1] = dataclasses.replace(self.turns[-1], mentions=mentions)
        listed = "; ".join(self.last.titles)
        said = tuple(Mention(title) for title in self.last.titles)
        self.turns.append(Turn("recommender", f"{self.last.text} {listed}".strip(), said))


def because(item_weights: Any, query: Sequence[int], item: int, most: int = 2) -> list[int]:
    """The items of a query that add most to the score of an item, the largest part first; none if the model is no sum.

    Args:
      item_weights: what `retrieve` takes.
      query: items.
      item: the one that is scored.
      most: how many at most.
    """
    model = item_weights.model if isinstance(item_weights, Fitted) else item_weights
    weights = model.weights if isinstance(model, ItemWeights) else model
    if not hasattr(weights, "shape") or not query:
        return []
    parts = np.asarray(weights[np.asarray(query), item], np.float64)
    order = [place for place in np.argsort(-parts, kind="stable")[:most] if parts[place] > LEAST_SHARE * parts.max()]
    return [query[place] for place in order if parts[place] > 0]
