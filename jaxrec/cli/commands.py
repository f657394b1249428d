"""The commands: each a dataclass of its flags, which is called to carry it out."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

import numpy as np
from rich.console import Console
from tyro.conf import arg, subcommand

from jaxrec import saving
from jaxrec._checks import InputError
from jaxrec.cli import machine, results, show
from jaxrec.cli.chat import Chat
from jaxrec.cli.options import (
    SPLIT,
    Checkpoint,
    Devices,
    ModelSource,
    Protocol,
    Source,
    devices_from,
    divide,
    fit,
    flags_of,
    method_from,
)
from jaxrec.cli.reproduce import Reproduce
from jaxrec.cli.tuning import METHODS_TO_TUNE, Tune, grid_flags_of
from jaxrec.data import Interactions, alignment, provenance
from jaxrec.data.splits import HeldOut, Split
from jaxrec.evaluation.ranking import recommend
from jaxrec.fitting import Stopwatch
from jaxrec.methods import METHODS, plan
from jaxrec.runtime.memory import available_bytes

Method = TypeVar("Method")
JsonFile = Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: none)")]
ModelFolder = Annotated[str, arg(metavar="DIR")]


class UsageError(Exception):
    """Flags that contradict each other or are too few."""


@dataclasses.dataclass(frozen=True)
class Run(Generic[Method]):
    """Fit a method, evaluate it beside popularity, show a few recommendations.

    Attributes:
      method: what is fitted.
      source: where the interactions come from.
      protocol: what is learned from, what is tested on, and what is measured.
      json: write the results (all but the samples) and the versions behind them to this file.
      save: save the model, fitted on the training part, to this folder.
      samples: how many test users to show recommendations for.
      devices: split the fit over so many of the devices that JAX sees.
      checkpoint: a file from which a long training that was killed goes on, with the result of an unbroken one; run the
        same command again, and delete it afterwards.
    """

    method: Method
    source: Source
    protocol: Protocol
    json: JsonFile = None
    save: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: not saved)")] = None
    samples: int = 3
    devices: Devices = None
    checkpoint: Checkpoint = None

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        imports = machine.peak_memory()
        method = method_from(self.method)
        self.protocol.check()
        mesh = devices_from(self.devices)
        results.check_targets(json=self.json, model=self.save, checkpoint=self.checkpoint)
        watch = Stopwatch()
        with watch.stage("load"):
            data = self.source.load()
        with watch.stage("split"):
            name, parts = self.protocol.divide(data)
        show.lines(out, {"data": f"{data.name}: {show.size(data)}", "split": show.division(name, parts)})
        with watch.stage("fit"):
            fitted = fit(method, parts, mesh, self.checkpoint)
        reports = results.beside_popularity(fitted, parts, self.protocol.metrics, watch)
        if self.save is not None:
            with watch.stage("save"):
                saving.save(self.save, fitted)

        show.lines(out, {"method": str(method), "certificate": str(fitted.info.certificate)})
        out.print()
        show.metrics_table(out, reports)
        show.samples(out, fitted, parts.test, self.samples, self.protocol.seed)
        out.print()
        memory = {"peak_bytes": machine.peak_memory(), "before_loading_bytes": imports}
        show.lines(out, {"time": show.timings(watch.seconds, fitted.info.seconds), "memory": show.memory(memory)})
        results.write(
            self.json,
            {
                "method": saving.describe_method(method),
                "data": data.summary(),
                "split": {"name": name, "seed": self.protocol.seed, **results.split_summary(parts)},
                "reports": results.records(reports),
                "certificate": fitted.info.certificate,
                "seconds": watch.seconds,
                "fit_seconds": fitted.info.seconds,
                "memory": memory,
            },
        )
        show.written(out, model=self.save, json=self.json)


@dataclasses.dataclass(frozen=True)
class Fit(Generic[Method]):
    """Fit a method and save the model.

    Attributes:
      method: what is fitted.
      source: where the interactions come from.
      out: the folder the model is saved to.
      split: "all" fits on all interactions; otherwise only on the training part of this split, so that the model can
        be evaluated on the rest.
      seed: of the split's random draws.
      devices: split the fit over so many of the devices that JAX sees.
      checkpoint: a file from which a long training that was killed goes on, with the result of an unbroken one; run the
        same command again, and delete it afterwards.
    """

    method: Method
    source: Source
    out: ModelFolder
    split: Annotated[Literal["all"] | SPLIT, arg(metavar="SPLIT")] = "all"  # pyright: ignore[reportInvalidTypeForm]
    seed: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the split's own)")] = None
    devices: Devices = None
    checkpoint: Checkpoint = None

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        method = method_from(self.method)
        mesh = devices_from(self.devices)
        results.check_targets(model=self.out, checkpoint=self.checkpoint)
        watch = Stopwatch()
        with watch.stage("load"):
            data = self.source.load()
            parts = Split(data, HeldOut(data, data)) if self.split == "all" else divide(data, self.split, self.seed)[1]
            train = parts.train
        show.lines(out, {"data": f"{data.name}: {show.size(train)}"})
        with watch.stage("fit"):
            fitted = fit(method, parts, mesh, self.checkpoint)
        with watch.stage("save"):
            saving.save(self.out, fitted)
        show.lines(
            out,
            {
                "method": str(method),
                "certificate": str(fitted.info.certificate),
                "time": show.timings(watch.seconds, fitted.info.seconds),
                "saved": self.out,
            },
        )


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a saved model beside popularity.

    Attributes:
      model: the folder of a saved model.
      source: where the interactions come from.
      protocol: what is learned from, what is tested on, and what is measured; split and seed are the model's own where
        nothing else is asked for.
      allow_training_data: evaluate also on what the model was trained on, or may have been.
      json: write the metrics to this file.
    """

    model: ModelFolder
    source: ModelSource
    protocol: Protocol
    allow_training_data: bool = False
    json: JsonFile = None

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        self.protocol.check()
        results.check_targets(json=self.json)
        watch = Stopwatch()
        with watch.stage("load"):
            fitted = saving.load_model(self.model)
            data = self.source.load_for(fitted.info.data)
        divisions = fitted.info.data.get("divisions") or [None]
        own = divisions[0] if results.of_the_model(fitted, data) else None
        name, parts = self.protocol.divide(data, own)
        division = parts.test.targets.divisions[-1]
        show.lines(
            out,
            {
                "model": f"{fitted.info.method}, fitted on {fitted.info.data.get('name', 'unknown data')}",
                "data": f"{data.name}: {show.size(data)}",
                "split": show.division(name, parts),
            },
        )
        if own is not None:
            same = provenance.settings_of(own) == provenance.settings_of(division) and own["split"] == name
            label = "as fitted" if same else "but fitted"
            show.lines(out, {label: show.settings({**own, **(fitted.info.data.get("source") or {})})})
        if other := results.other_data(fitted, data):
            show.lines(out, {"note": other})
        seen = results.seen_in_training(fitted, data, parts)
        if seen and not self.allow_training_data:
            raise InputError(
                f"{self.model} was trained on these targets, or may have been, so that this is no test; fit it on the "
                "training part of a split (fit --split), or ask for it by --allow-training-data."
            )
        reports = results.beside_popularity(fitted, parts, self.protocol.metrics, watch, seen)
        out.print()
        show.metrics_table(out, reports)
        results.write(
            self.json,
            {
                "model": self.model,
                "method": saving.describe_method(fitted.info.method),
                "data": data.summary(),
                "split": {"name": name, "seed": division.get("seed"), **results.split_summary(parts)},
                "reports": results.records(reports),
                "seconds": watch.seconds,
            },
        )
        show.written(out, json=self.json)


@dataclasses.dataclass(frozen=True)
class Recommend:
    """Recommend items, to a user of the data or for a few titles.

    Attributes:
      model: the folder of a saved model.
      source: where the interactions come from; only needed with --user.
      items: titles or ids that stand for a user's history; a part of a title will do where it fits only one.
      user: id of a user of the data.
      k: how many items to recommend.
      json: write the recommendations to this file.
    """

    model: ModelFolder
    source: ModelSource
    items: Annotated[tuple[str, ...], arg(metavar="TITLE [TITLE ...]", help_behavior_hint="")] = ()
    user: Annotated[str | None, arg(metavar="ID", help_behavior_hint="")] = None
    k: Annotated[int, arg(aliases=("-k",))] = 10
    json: JsonFile = None

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        if bool(self.items) == (self.user is not None):
            raise UsageError("recommend needs either --items with titles or --user with an id.")
        results.check_targets(json=self.json)
        fitted = saving.load_model(self.model)
        items = fitted.info.items
        if self.user is None:
            history = Interactions.from_lists([list(dict.fromkeys(items.find(name) for name in self.items))], items)
        else:
            data = self.source.load_for(fitted.info.data)
            user = data.rows(np.array([data.user_index(self.user)]))
            history, unknown, n_entries = alignment.align_items(user, items, "the model")
            if history.nnz == 0:
                raise InputError(
                    f"{data.name}: user {self.user!r} has no items that the model knows; give some titles."
                )
            alignment.warn_of_left_out(user, unknown, n_entries, "the model", stacklevel=2)
            if other := results.other_data(fitted, data):
                show.lines(out, {"note": other})
        top = recommend(fitted, history, self.k)
        show.lines(out, {"because of": show.because(items, history.indices)})
        show.ranking(out, items, top, 0)
        results.write(
            self.json,
            {
                "history": [results.named(items, item) for item in history.indices.tolist()],
                "recommendations": [
                    {**results.named(items, item), "score": score}
                    for item, score in zip(top.items[0].tolist(), top.scores[0].tolist(), strict=True)
                    if item < items.n_items
                ],
            },
        )


@dataclasses.dataclass(frozen=True)
class Plan(Generic[Method]):
    """Estimate memory and time of a fit before anything is allocated.

    Attributes:
      method: what would be fitted.
      users: number of users.
      items: number of items.
      nnz: number of interactions.
      devices: what the fit would be split over: so many of the devices at hand, or such as 8xH100 or v5e, which need
        not be.
      json: write the estimate to this file.
    """

    method: Method
    users: int
    items: int
    nnz: int
    devices: Annotated[str | None, arg(metavar="all|N|NxKIND", help_behavior_hint="(default: one, or the host)")] = None
    json: JsonFile = None

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        results.check_targets(json=self.json)
        at_hand = self.devices is None or self.devices == "all" or self.devices.isdecimal()
        devices = devices_from(self.devices) if at_hand else self.devices
        estimate = plan(self.users, self.items, self.nnz, method_from(self.method), devices)
        out.print(str(estimate), soft_wrap=True)
        results.write(self.json, {**dataclasses.asdict(estimate), "total": estimate.total, "fits": estimate.fits})


@dataclasses.dataclass(frozen=True)
class Info:
    """Show versions, devices, memory and threads.

    Attributes:
      json: write them to this file.
    """

    json: JsonFile = None

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        results.check_targets(json=self.json)
        devices, threads = machine.devices(), machine.threads()
        memory, free = machine.machine_memory(), available_bytes()
        kinds = [f"{d['platform']} ({d['kind']})" for d in devices]
        show.lines(
            out,
            {
                "versions": ", ".join(f"{name} {version}" for name, version in saving.versions().items()),
                "devices": ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)),
                "memory": f"{show.amount(memory)}, {show.amount(free)} free",
                "threads": ", ".join(f"{name} {count}" for name, count in threads.items()),
                "methods": ", ".join(METHODS),
            },
        )
        results.write(self.json, {"devices": devices, "memory_bytes": memory, "free_bytes": free, "threads": threads})


def _for_each_method(command: Any, flags: Any = flags_of, methods: dict[str, Any] = METHODS) -> Any:
    """One subcommand a method, with the flags of the command and of the method."""

    def first_line(cls: type) -> str:
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    choices = tuple(
        Annotated[command[flags(method)], subcommand(name, description=first_line(method))]
        for name, method in methods.items()
    )
    return Annotated[Union[choices], subcommand(command.__name__.lower(), description=first_line(command))]  # noqa: UP007


Command = Union[  # noqa: UP007
    _for_each_method(Run),
    _for_each_method(Fit),
    Annotated[Evaluate, subcommand("evaluate")],
    Annotated[Recommend, subcommand("recommend")],
    _for_each_method(Plan),
    _for_each_method(Tune, grid_flags_of, METHODS_TO_TUNE),
    Annotated[Reproduce, subcommand("reproduce")],
    Annotated[Chat, subcommand("chat")],
    Annotated[Info, subcommand("info")],
]
