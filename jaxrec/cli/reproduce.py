"""The command `reproduce`: a paper's experiment, on the data at hand."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from jaxrec._checks import InputError
from jaxrec.cli import show
from jaxrec.experiments import EXPERIMENTS, reproduce
from jaxrec.runtime.plots import check_plot_target

Name = Literal[tuple(EXPERIMENTS)]  # pyright: ignore[reportInvalidTypeForm]


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Run a paper's experiment: tables, a record and plots, taken up again where it was killed.

    Attributes:
      name: which experiment.
      list: show the experiments, what they need and what they cost, and run none.
      data: the folder with the data sets.
      only: run it on these data sets alone; not with --scale smoke.
      out: the folder for the results.
      scale: smoke shows in a minute that all works, on bundled data; small is for two cores; full has the grids of
        a paper.
    """

    name: Positional[Annotated[Name | None, arg(metavar="NAME", help_behavior_hint="")]] = None  # pyright: ignore[reportInvalidTypeForm]
    list: bool = False
    data: Annotated[str, arg(metavar="DIR")] = "data"
    only: Annotated[tuple[str, ...], arg(metavar="SET [SET ...]", help_behavior_hint="(default: all at hand)")] = ()
    out: Annotated[str, arg(metavar="DIR")] = "reproductions"
    scale: Literal["smoke", "small", "full"] = "small"

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        if self.list:
            for name, experiment in EXPERIMENTS.items():
                show.lines(
                    out,
                    {
                        name: experiment.shows,
                        "  paper": experiment.paper,
                        "  it says": experiment.expected,
                        "  figures": f"{len(experiment.published)} published ones of the same data to compare with",
                        "  data": experiment.runs_on,
                        "  cost": experiment.cost,
                    },
                )
            return
        if self.name is None:
            raise InputError(f"reproduce needs the name of an experiment ({', '.join(EXPERIMENTS)}), or --list.")
        check_plot_target("plot.png")
        folders = reproduce(
            self.name,
            self.data,
            self.out,
            scale=self.scale,
            only=self.only,
            say=lambda line: out.print(show.printable(line), soft_wrap=True),
        )
        for folder in folders.values():
            out.print()
            out.print((folder / "table.md").read_text("utf-8"), soft_wrap=True)
