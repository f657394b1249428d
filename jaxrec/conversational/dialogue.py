"""Dialogues: who said what, which items were named where, and what is to be recommended at a turn.

An item is called by its title, with its year where the data tell it ("Heat (1995)"), until a `Catalogue` numbers it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

from jaxrec._checks import InputError, briefly
from jaxrec._checks.doors import kind

Part = TypeVar("Part")
Speaker = Literal["seeker", "recommender"]


@dataclasses.dataclass(frozen=True)
class Mention:
    """An item that a turn names.

    Attributes:
      item: its title.
      start: the letter of the turn's text with which the name begins; -1 if it is not known where it stands.
      stop: one past the letter with which it ends; -1 likewise.
      attitude: what the seeker thinks of it, from -2 (dislikes it much) over 0 (nothing is known) to 2.
    """

    item: str
    start: int = -1
    stop: int = -1
    attitude: int = 0


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one side said before the other did.

    Attributes:
      speaker: "seeker" or "recommender".
      text: the words.
      mentions: the items named in it, in the order of the text.
    """

    speaker: Speaker
    text: str
    mentions: tuple[Mention, ...] = ()

    def __post_init__(self):
        for each in self.mentions:
            known = each.start >= 0 or each.stop >= 0
            if known and not 0 <= each.start <= each.stop <= len(self.text):
                raise InputError(
                    f"a mention must lie in its turn of {len(self.text)} letters, got {each.start} to {each.stop}."
                )

    @property
    def items(self) -> tuple[str, ...]:
        """The titles named, in order, each once."""
        return tuple(dict.fromkeys(each.item for each in self.mentions))


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """A whole conversation.

    Attributes:
      id: what the data call it.
      turns: in order of time.
      opinions: what the seeker thinks of items, by title, as far as the data say it: -2 to 2.
    """

    id: str
    turns: tuple[Turn, ...]
    opinions: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One question to a recommender: what should be named next?

    Attributes:
      key: tells it from the others of its data.
      context: the turns before.
      targets: the titles that the recommender's next turn names, each once.
      seen: the titles named in the context, in the order of their first mention.
      reply: the words of the turn that is to be predicted, if they are known.
      dialogue: the dialogue that it is taken from.
    """

    key: str
    context: tuple[Turn, ...]
    targets: tuple[str, ...]
    seen: tuple[str, ...]
    reply: str = ""
    dialogue: str = ""


def listed(name: str, given: Any, of: type[Part]) -> list[Part]:
    """What is given as a list, each of which is of a kind: dialogues, samples.

    Raises:
      InputError: it is no list, or holds something else.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"{name} must be a list of {of.__name__}, got {briefly(given)}.")
    found = list(given)
    for place, each in enumerate(found):
        if not isinstance(each, of):
            hint = "; list(samples(dialogues)) makes samples of dialogues" if isinstance(each, Dialogue) else ""
            raise InputError(f"{name} must be a list of {of.__name__}, and number {place} is {briefly(each)}{hint}.")
    return found


@kind("Iterable[Sample]")
def given_samples(name: str, value: object) -> list[Sample]:
    """A list of samples."""
    return listed(name, value, Sample)


def samples(dialogues: Iterable[Dialogue]) -> Iterator[Sample]:
    """A sample for every turn of a recommender that names an item; it is keyed "dialogue:turn", turns from 0."""
    for dialogue in dialogues:
        if not isinstance(dialogue, Dialogue):
            raise InputError(
                f"dialogues must be Dialogues, as load or load_dialogues has them, got {briefly(dialogue)}."
            )
        seen: dict[str, None] = {}
        for place, turn in enumerate(dialogue.turns):
            if turn.speaker == "recommender" and turn.items:
                yield Sample(
                    key=f"{dialogue.id}:{place}",
                    context=dialogue.turns[:place],
                    targets=turn.items,
                    seen=tuple(seen),
                    reply=turn.text,
                    dialogue=dialogue.id,
                )
            seen.update(dict.fromkeys(turn.items))
