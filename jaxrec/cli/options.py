"""The flags that several commands share."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
from tyro.conf import arg

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data import BUNDLED, Interactions, load, provenance
from jaxrec.data.interactions import REPEAT_RULES
from jaxrec.data.load_options import KNOWN_COLUMNS
from jaxrec.data.readers import name_of
from jaxrec.data.splits import SPLITS, Split, automatic
from jaxrec.evaluation import metrics

REPEATS = Literal[REPEAT_RULES]  # pyright: ignore[reportInvalidTypeForm]
SPLIT = Literal["auto", *SPLITS]  # pyright: ignore[reportInvalidTypeForm]
Devices = Annotated[str | None, arg(metavar="all|N", help_behavior_hint="(default: one, or the host)")]
Checkpoint = Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: none)")]


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the interactions come from.

    Attributes:
      data: a file, a folder, or the name of a bundled data set.
      user_column: column of user ids.
      item_column: column of item ids.
      rating_column: column of ratings, for --min-rating.
      timestamp_column: column of times, of which only the order matters.
      values: column whose numbers are kept, such as rating or count; without it every interaction counts 1.
      min_rating: keep only interactions with at least this rating.
      repeats: what becomes of repeated (user, item) pairs.
    """

    data: Annotated[str | None, arg(metavar="PATH|NAME", help_behavior_hint="(default: msweb)")] = None
    user_column: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: found by name)")] = None
    item_column: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: found by name)")] = None
    rating_column: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: found by name)")] = None
    timestamp_column: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: found by name)")] = None
    values: Annotated[str | None, arg(metavar="COLUMN", help_behavior_hint="(default: all 1)")] = None
    min_rating: Annotated[float | None, arg(metavar="NUMBER", help_behavior_hint="(default: keep all)")] = None
    repeats: Annotated[
        REPEATS | None,  # pyright: ignore[reportInvalidTypeForm]
        arg(metavar="|".join(REPEAT_RULES), help_behavior_hint="(default: last, with a note)"),
    ] = None

    def load(self) -> Interactions:
        """The interactions; a refusal names the flags of the command line, not the arguments of `load`."""
        return self._read("msweb" if self.data is None else self.data, {})

    def _read(self, data: str, defaults: dict[str, Any]) -> Interactions:
        """The data set, read as the flags say, and where they say nothing by these defaults."""
        columns = {role: getattr(self, f"{role}_column") for role in KNOWN_COLUMNS}
        flags = columns | {"values": self.values, "min_rating": self.min_rating, "repeats": self.repeats}
        try:
            return load(data, **{name: defaults.get(name) if flag is None else flag for name, flag in flags.items()})
        except InputError as error:
            flags = {f"{role}=": f"--{role}-column" for role in columns} | {"values=": "--values"}
            text = re.sub(r"\b(" + "|".join(flags) + r")(?=[,)])", lambda found: flags[found[1]], str(error))
            raise InputError(text) from None


@dataclasses.dataclass(frozen=True)
class ModelSource(Source):
    """Where the interactions come from; data of the model's name are read as they were for its fit.

    Attributes:
      data: a file, a folder, or the name of a bundled data set.
      user_column: column of user ids.
      item_column: column of item ids.
      rating_column: column of ratings, for --min-rating.
      timestamp_column: column of times, of which only the order matters.
      values: column whose numbers are kept, such as rating or count; without it every interaction counts 1.
      min_rating: keep only interactions with at least this rating.
      repeats: what becomes of repeated (user, item) pairs.
    """

    data: Annotated[
        str | None, arg(metavar="PATH|NAME", help_behavior_hint="(default: the model's, if it is a bundled one)")
    ] = None

    def load_for(self, trained: dict[str, Any]) -> Interactions:
        """The interactions for a model.

        Args:
          trained: what its fit says of its data.

        Raises:
          InputError: there is no --data, and the model is not of a bundled data set.
        """
        source, name = trained.get("source") or {}, trained.get("name")
        data = self.data or source.get("bundled") or (name if not source and name in BUNDLED else None)
        if data is None:
            raise InputError(
                f"the model was fitted on {name or 'unknown data'}, which do not ship with jaxrec; give --data."
            )
        return self._read(data, source if name_of(data) in (name, source.get("bundled")) else {})


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is learned from, what is tested on, and what is measured.

    Attributes:
      split: fixed is the source's own; strong holds out users, as in the Mult-VAE and EASE papers; the others hold
        out interactions. auto: fixed where there is one, else strong, or random where users are few.
      seed: of the split's random draws and of the sample shown.
      metrics: names with cut-offs, separated by commas.
    """

    split: SPLIT = "auto"  # pyright: ignore[reportInvalidTypeForm]
    seed: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the split's own)")] = None
    metrics: Annotated[str, arg(metavar="LIST")] = "recall@20,recall@50,ndcg@100"

    def check(self) -> None:
        """Refuses unknown metrics and negative seeds, before time is spent on a fit."""
        metrics.parse(self.metrics)
        if self.seed is not None:
            _checks.count("seed", self.seed)

    def divide(self, data: Interactions, as_before: Mapping[str, Any] | None = None) -> tuple[str, Split]:
        """The name of the split, and the split; see `divide`."""
        return divide(data, self.split, self.seed, as_before)


def divide(
    data: Interactions, how: str, seed: int | None = None, as_before: Mapping[str, Any] | None = None
) -> tuple[str, Split]:
    """The name of the split ("auto" resolved), and the split.

    Args:
      data: what is divided.
      how: the name.
      seed: of the draws, if the split makes any; None is the split's own.
      as_before: a division (see `jaxrec.data.provenance`) that "auto" repeats, with its settings.
    """
    settings: dict[str, Any] = {}
    if how == "auto" and as_before is not None:
        name, settings = as_before["split"], provenance.settings_of(as_before)
    else:
        name = automatic(data) if how == "auto" else how
    if seed is not None and "seed" in inspect.signature(SPLITS[name]).parameters:
        settings["seed"] = seed
    return name, SPLITS[name](data, **settings)


def devices_from(text: str | None) -> list[Any] | None:
    """The devices that --devices names: "all", or the first so many."""
    if text is None:
        return None
    found = jax.devices()
    if text == "all":
        return found
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise InputError(f"--devices must be all or a number of at least 1, got {_checks.shown(text)}.")
    if int(text) > len(found):
        hint = f"; JAX_NUM_CPU_DEVICES={text} in the environment simulates them" if found[0].platform == "cpu" else ""
        raise InputError(f"--devices asks for {text} and JAX sees {len(found)} ({found[0].device_kind}){hint}.")
    return found[: int(text)]


def flags_of(method: type) -> type:
    """A class with the fields of a method and none of its checks, for tyro, which buries a refusal in its own words."""
    return type(method.__name__, (method,), {"__doc__": method.__doc__, "__post_init__": lambda self: None})


def method_from(flags: Any) -> Any:
    """The method that flags stand for.

    Raises:
      InputError: a hyper-parameter is out of range.
    """
    (method,) = type(flags).__bases__
    return method(**dataclasses.asdict(flags))


def fit(method: Any, parts: Split, devices: list[Any] | None, checkpoint: str | None) -> Any:
    """What `method.fit` returns; one that stops by validation users is given the split's.

    Raises:
      InputError: a checkpoint is asked for and the method keeps none.
    """
    takes, arguments = inspect.signature(method.fit).parameters, {}
    if checkpoint is not None:
        if "checkpoint" not in takes:
            raise InputError(
                f"--checkpoint is for long trainings, and {type(method).__name__} keeps none: leave it out."
            )
        arguments["checkpoint"] = checkpoint
    if "validation" in takes and parts.validation is not None:
        arguments["validation"] = parts.validation
    return method.fit(parts.train, devices=devices, **arguments)
