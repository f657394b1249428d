"""Contexts with less in them, to see what a model recommends by (He et al. 2023, arXiv 2308.10053, their S1 to S3).

What is lost by `item_only` is what the model knew from words, what is lost by `item_removed` and `item_random` what it
knew from items. All are functions of turns whose mentions have a place; nothing is looked for in the text, so that no
other word is hit. Targets, and what counts as named before, stay those of the whole conversation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import kind_of
from jaxrec.conversational.dialogue import Mention, Sample, Turn, given_samples

Probe = Literal["original", "item only", "item removed", "item random"]
BETWEEN = ", "  # the names of a turn, where they are all of it


def item_only(context: Sequence[Turn]) -> tuple[Turn, ...]:
    """Turns of the names of their items and nothing else, each as often and in the order in which it is mentioned."""
    return tuple(map(_names_alone, context))


def item_removed(context: Sequence[Turn]) -> tuple[Turn, ...]:
    """Turns without the names of their items; all other letters stay. A mention without a place is in no text."""
    return tuple(dataclasses.replace(_rewritten(turn, ["" for _ in turn.mentions]), mentions=()) for turn in context)


def item_random(
    context: Sequence[Turn], titles: Sequence[str], key: Any, *, each_time: bool = False
) -> tuple[Turn, ...]:
    """Turns that name random items in place of theirs.

    Args:
      context: the turns.
      titles: that are drawn from, each as likely.
      key: of JAX; the same draws the same.
      each_time: draw another title for every mention, as the authors do, who have no key; else an item is the same one
        wherever it is mentioned, so that the conversation stays one about it.
    """
    mentions = [each.item for turn in context for each in turn.mentions]
    names = mentions if each_time else list(dict.fromkeys(mentions))
    drawn = np.asarray(jax.random.randint(key, (len(names),), 0, len(titles))) if names else np.empty(0, int)
    others = [titles[int(place)] for place in drawn]
    if not each_time:
        by_item = dict(zip(names, others, strict=True))
        others = [by_item[item] for item in mentions]
    in_order = iter(others)
    return tuple(_rewritten(turn, [next(in_order) for _ in turn.mentions]) for turn in context)


def probed(
    samples: Iterable[Sample], probe: Probe, titles: Sequence[str] | None = None, key: Any = None
) -> list[Sample]:
    """N samples with their contexts as a probe has them; keys, targets and what was named before stay.

    Args:
      samples: N of them, in an order that with the key tells what is drawn.
      probe: "original", "item only", "item removed" or "item random".
      titles: that "item random" draws from.
      key: of JAX, for "item random".

    Raises:
      InputError: a probe that there is not, or no titles or key for the one that needs them.
    """
    _checks.one_of("probe", probe, tuple(PROBES))
    samples = given_samples("samples", samples)
    if probe != "item random":
        return [dataclasses.replace(sample, context=PROBES[probe](sample.context)) for sample in samples]
    if not titles:
        raise InputError("titles must be at least one for the probe 'item random', such as catalogue.titles, got none.")
    check = kind_of("PRNGKeyArray")
    key = check("key", key) if check else key
    return [
        dataclasses.replace(sample, context=item_random(sample.context, titles, jax.random.fold_in(key, number)))
        for number, sample in enumerate(samples)
    ]


PROBES: dict[str, Callable[..., tuple[Turn, ...]]] = {
    "original": tuple,
    "item only": item_only,
    "item removed": item_removed,
    "item random": item_random,
}


def _rewritten(turn: Turn, names: Sequence[str]) -> Turn:
    """A turn with other names in place of its mentions', whose order stays.

    Of a mention without a place the text says nothing, before or after; of two that overlap the later one has none.

    Args:
      turn: what is said.
      names: one for each mention.
    """
    text, done = "", 0
    mentions = [Mention(name, attitude=old.attitude) for name, old in zip(names, turn.mentions, strict=True)]
    for number in sorted(range(len(names)), key=lambda number: turn.mentions[number].start):
        old, name = turn.mentions[number], names[number]
        if old.start >= done:
            text += turn.text[done : old.start]
            mentions[number] = Mention(name, len(text), len(text) + len(name), old.attitude)
            text, done = text + name, old.stop
    return Turn(turn.speaker, text + turn.text[done:], tuple(mentions))


def _names_alone(turn: Turn) -> Turn:
    text, mentions = "", []
    for each in turn.mentions:
        text += BETWEEN if text else ""
        mentions.append(Mention(each.item, len(text), len(text) + len(each.item), each.attitude))
        text += each.item
    return Turn(turn.speaker, text, tuple(mentions))
