"""Where data are from: which splits they are a part of, so that a model can tell what it was trained on.

A division is a plain dict, as it stands in reports and saved models: the name of the split, its settings, "of", the
fingerprint of the data that were divided, and "part", which of the parts these are: "train", "test fold-in", "test
targets", "validation fold-in" or "validation targets". Where the fold-in is the training part, it is called "train".
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jaxrec.data.interactions import Interactions

Parts = TypeVar("Parts", bound=tuple)
KEYS = ("split", "of", "part")  # of a division, besides the settings of its split


def recorded(name: str) -> Callable[[Callable[..., Parts]], Callable[..., Parts]]:
    """A decorator for a split, of whose parts each then says what it is a part of."""

    def decorate(split: Callable[..., Parts]) -> Callable[..., Parts]:
        @functools.wraps(split)
        def divided(data: Interactions, *args: Any, **settings: Any) -> Parts:
            bound = inspect.signature(split).bind(data, *args, **settings)
            bound.apply_defaults()
            chosen = {key: _plain(value) for key, value in list(bound.arguments.items())[1:]}
            parts = split(data, *args, **settings)
            return _marked(parts, data, {"split": name, **chosen, "of": data.fingerprint})

        return divided

    return decorate


def settings_of(division: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the split of a division."""
    return {key: value for key, value in division.items() if key not in KEYS}


def trained_on(trained: Mapping[str, Any], targets: Interactions) -> bool | None:
    """Whether a model was trained on data that hold the targets, or may hold them; None where nothing is known.

    Parts of one division have no entries in common. Two divisions of the same data have nearly always some.

    Args:
      trained: what a fit says of its data.
      targets: what it is evaluated on.
    """
    size = {"n_users": targets.n_users, "n_items": targets.n_items, "nnz": targets.nnz}
    if all(trained.get(key) == value for key, value in size.items()):
        if trained.get("fingerprint") == targets.fingerprint:
            return True
    if "divisions" not in trained:
        return None
    own, theirs = trained["divisions"], targets.divisions
    for mine, its in zip(own, theirs, strict=False):
        if mine["of"] != its["of"]:
            return None
        if any(mine.get(key) != its.get(key) for key in (mine.keys() | its.keys()) - {"part"}):
            return True
        if mine["part"] != its["part"]:
            return False
    if len(own) < len(theirs) and theirs[len(own)]["of"] == trained.get("fingerprint"):
        return True
    return None


def _marked(split: Any, data: Interactions, division: dict[str, Any]) -> Any:
    """The split with the division written on each of its parts."""

    def mark(part: Interactions, called: str) -> Interactions:
        return dataclasses.replace(part, divisions=(*data.divisions, {**division, "part": called}))

    marked = {"train": mark(split.train, "train")}
    for users in ("test", "validation"):
        part = getattr(split, users)
        if part is not None:
            same = part.fold_in is split.train
            fold_in = marked["train"] if same else mark(part.fold_in, f"{users} fold-in")
            marked[users] = part._replace(fold_in=fold_in, targets=mark(part.targets, f"{users} targets"))
    return split._replace(**marked)


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    value = value.item() if hasattr(value, "item") else value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
