"""Recommending from the items alone that a conversation has named: the data of the core's models, and one rank rule.

The rule, for the baselines here as for what CRAG falls back on: first what was found, a score above 0, the higher
first; then all others by how many training conversations name them, the more first; among equals the lower index. What
the conversation itself has named is left out. So every list is full, and no model is favoured by what it leaves open.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.conversational.dialogue import Dialogue, Sample
from jaxrec.conversational.retrieval import retrieve
from jaxrec.data import columns
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions


def liked(dialogue: Dialogue, least: int = 0) -> list[str]:
    """The titles that a dialogue names, each once, without those of which the seeker thinks less than `least`.

    What the seeker thinks is what the data say of the whole dialogue; else the last attitude in its turns.
    """
    attitudes = {each.item: each.attitude for turn in dialogue.turns for each in turn.mentions}
    return [title for title, attitude in attitudes.items() if dialogue.opinions.get(title, attitude) >= least]


def interactions(
    dialogues: Iterable[Dialogue], titles: Sequence[str], *, least: int = 0, name: str = "dialogues"
) -> Interactions:
    """A row for each dialogue, the paper's pseudo-user, with a 1 for each title that it names and does not dislike.

    Args:
      dialogues: U of them, of training data.
      titles: I, the item database, each once; what is not among them is left out.
      least: what the seeker must think of an item at least, from -2 to 2; 0 leaves out what is disliked.
      name: what reports call the data.

    Returns:
      U x I Interactions, whose ids of items are the titles.
    """
    number = numbers(titles)
    rows, ids = [], []
    for each in dialogues:
        rows.append([number[title] for title in liked(each, least) if title in number])
        ids.append(each.id)
    catalogue = Catalogue(len(number), np.array(list(number)), np.array(list(number)))
    made = Interactions.from_lists(rows, catalogue, name)
    return made if len(set(ids)) < len(ids) else dataclasses.replace(made, user_ids=np.array(ids))


def numbers(titles: Sequence[str]) -> dict[str, int]:
    """The index of each title.

    Raises:
      InputError: a title stands there twice.
    """
    number = {title: index for index, title in enumerate(titles)}
    if len(number) < len(titles):
        twice = next(title for index, title in enumerate(titles) if number[title] != index)
        raise InputError(f"titles must be distinct, got {_checks.shown(twice)} more than once.")
    return number


def histories(samples: Iterable[Sample], titles: Sequence[str]) -> list[list[int]]:
    """The items that the context of each sample names, as far as they are among the titles."""
    number = numbers(titles)
    return [[number[title] for title in sample.seen if title in number] for sample in samples]


def targets(samples: Iterable[Sample], titles: Sequence[str], *, new: bool = True) -> list[list[int]]:
    """The items to find for each sample; titles that are not there are numbered from I on, so that they are missed.

    Args:
      samples: the samples.
      titles: I of them.
      new: leave out targets that the context has named.
    """
    number = numbers(titles)
    return [
        [number.setdefault(title, len(number)) for title in sample.targets if not (new and title in sample.seen)]
        for sample in samples
    ]


def rank(
    model: Any, named: Sequence[Sequence[int]], train: Interactions, k: int, *, among: np.ndarray | None = None
) -> np.ndarray:
    """[B, k] the items that a model finds for what was named, then the popular ones; -1 where all are named.

    Args:
      model: what `retrieve` takes; None finds nothing, so that the popular ones alone are ranked.
      named: B lists of item indices.
      train: U x I, what is popular.
      k: how many.
      among: indices of the items that may be recommended; default all.
    """
    if model is None:
        found = np.full((len(named), 0), -1)
    else:
        found = retrieve(model, named, min(k, train.n_items), among=among).items
    return filled(found, train.item_counts, named, k, among=among)


def filled(
    found: np.ndarray,
    counts: np.ndarray,
    named: Sequence[Sequence[int]],
    k: int,
    *,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """[B, k] int32 rankings: what was found, then all others by their counts; -1 where nothing is left.

    Args:
      found: [B, K] items, best first, -1 where none is; none of them twice, and none that is named.
      counts: [I] of training conversations.
      named: B lists of items that are left out.
      k: how many.
      among: indices of the items that may be recommended; default all.
    """
    popular = np.argsort(-np.asarray(counts, np.int64), kind="stable")
    if among is not None:
        popular = popular[np.isin(popular, columns.places("among: item", among, len(popular)))]
    ranked = np.full((len(named), k), -1, np.int32)
    for row, (own, out) in enumerate(zip(found, named, strict=True)):
        own = own[own >= 0][:k]
        others = popular[: k + len(out) + len(own)]
        others = others[~np.isin(others, np.concatenate([own, np.asarray(out, np.int64)]))]
        both = np.concatenate([own, others])[:k]
        ranked[row, : len(both)] = both
    return ranked
