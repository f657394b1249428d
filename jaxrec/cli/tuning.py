"""The command `tune`, whose flags for numbers take lists of them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Generic, Literal, TypeVar, get_type_hints

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.cli import results, show
from jaxrec.cli.options import SPLIT, Devices, Source, devices_from, divide
from jaxrec.evaluation import metrics
from jaxrec.methods import METHODS
from jaxrec.runtime.plots import check_plot_target
from jaxrec.tuning import PROTOCOLS, RULES, number_fields, tune

Grid = TypeVar("Grid")
File = Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: none)")]
METHODS_TO_TUNE = {name: method for name, method in METHODS.items() if number_fields(method)}


@dataclasses.dataclass(frozen=True)
class Tune(Generic[Grid]):
    """Compare values of hyper-parameters, with one Gram matrix for all of them, and choose.

    Attributes:
      grid: the values, separated by commas; of several such flags all combinations.
      source: where the interactions come from.
      protocol: leave-user-out scores every user by the exact model of all others; the rest are splits, whose
        validation users decide (where there are none, the test users: then report on other data).
      split: with leave-user-out, tune on the training part of this split alone, so that its test part stays unseen.
      metric: name with cut-off, by which candidates are compared.
      rule: best, or the most regularized candidate within one standard error of the best.
      seed: of the random draws.
      devices: split the fits over so many of the devices that JAX sees; not with leave-user-out.
      json: write everything that is printed, and more, to this file.
      plot: write the curve with standard errors to this image file.
    """

    grid: Grid
    source: Source
    protocol: Annotated[Literal[PROTOCOLS], arg(metavar="PROTOCOL")] = "leave-user-out"  # pyright: ignore
    split: Annotated[Literal["all"] | SPLIT, arg(metavar="SPLIT")] = "all"  # pyright: ignore[reportInvalidTypeForm]
    metric: Annotated[str, arg(metavar="NAME@K")] = "ndcg@100"
    rule: Literal[RULES] = "best"  # pyright: ignore[reportInvalidTypeForm]
    seed: int = 0
    devices: Devices = None
    json: File = None
    plot: File = None

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        method, grid = grid_from(self.grid)
        metrics.parse(self.metric)
        _checks.count("seed", self.seed)
        mesh = devices_from(self.devices)
        if self.split != "all" and self.protocol != "leave-user-out":
            raise InputError(f"--split is for leave-user-out alone, got it with --protocol {self.protocol}; drop it.")
        results.check_targets(json=self.json)
        if self.plot is not None:
            results.check_targets(json=self.plot)
            check_plot_target(self.plot)
        data = self.source.load()
        protocol: Any = self.protocol
        if self.protocol != "leave-user-out":
            protocol = divide(data, self.protocol, self.seed or None)[1]
        elif self.split != "all":
            data = divide(data, self.split, self.seed or None)[1].train
        show.lines(out, {"data": f"{data.name}: {show.size(data)}"})
        settings = {"metric": self.metric, "rule": self.rule, "seed": self.seed, "devices": mesh}
        tuning = tune(method, data, grid, protocol=protocol, **settings)
        whom = tuning.protocol if protocol == self.protocol else tuning.protocol.replace("split", self.protocol, 1)
        tuning = dataclasses.replace(tuning, protocol=whom)

        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
        for name, justify in (
            ("", "left"),
            (tuning.metric, "right"),
            ("std. error", "right"),
            ("||B||", "right"),
            ("", "left"),
        ):
            table.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
        for row in tuning.rows():
            table.add_row(*row)
        show.lines(out, {"protocol": tuning.protocol})
        out.print()
        out.print(table)
        out.print()
        spent = f"{tuning.seconds['total']:.1f} s for {len(tuning.candidates)} candidates"
        show.lines(
            out,
            {
                "chosen": f"{tuning.chosen} ({tuning.rule})",
                "time": f"{spent}, {tuning.seconds['gram']:.1f} s of it for the one Gram matrix",
            },
        )
        results.write(self.json, {"data": data.summary(), **tuning.record()})
        if self.plot is not None:
            tuning.plot(self.plot)
        show.written(out, json=self.json, plot=self.plot)


def grid_flags_of(method: type) -> type:
    """A class with the fields of a method, of which the numbers are texts that list values."""
    hints, numbers = get_type_hints(method, include_extras=True), number_fields(method)
    listed = Annotated[str, arg(metavar="X[,X...]")]
    fields: list[Any] = [
        (f.name, listed, dataclasses.field(default="none" if f.default is None else f"{f.default:g}"))
        if f.name in numbers
        else (f.name, hints[f.name], dataclasses.field(default=f.default))
        for f in dataclasses.fields(method)
    ]
    return dataclasses.make_dataclass(
        method.__name__, fields, frozen=True, namespace={"__doc__": method.__doc__, "tuned": method}
    )


def grid_from(flags: Any) -> tuple[Any, dict[str, list[float]]]:
    """The method, and the values of its fields that have several; of its first field if none has.

    Raises:
      InputError: a list is none of numbers, or a value is out of range.
    """
    optional = {field.name for field in dataclasses.fields(flags.tuned) if field.default is None}
    numbers: dict[str, Any] = {}
    for field, kind in number_fields(flags.tuned).items():
        text = getattr(flags, field)
        numbers[field] = [None] if field in optional and text == "none" else _numbers(field, kind, text)
    method = flags.tuned(**{**dataclasses.asdict(flags), **{field: values[0] for field, values in numbers.items()}})
    several = {field: values for field, values in numbers.items() if len(values) > 1}
    return method, several or dict([next(iter(numbers.items()))])


def _numbers(field: str, kind: type, text: str) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        flag, what = field.replace("_", "-"), "whole numbers" if kind is int else "numbers"
        raise InputError(f"--{flag} takes {what} separated by commas, such as 10,100,1000, got {text!r}.") from None
