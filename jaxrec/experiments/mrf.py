"""The sparse Markov random field: density and r against accuracy and time, beside dense EASE.

After Steck, "Markov Random Fields for Collaborative Filtering" (NeurIPS 2019, arXiv 1910.09645): the table that its
poster shows. The density is the share of the I x I weights that may differ from 0; r is the share of a block's columns
that are kept, 0 being the exact optimum on the pattern. The strength is chosen for each density at the largest r, which
is the cheapest, and dense EASE has its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import ease
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome, figures, recorded, rows
from jaxrec.experiments.harness.trials import Contender, Line, Trials
from jaxrec.linear import Mrf
from jaxrec.models import Fitted
from jaxrec.runtime.plots import new_figure, write

VERSION = 1
DENSE = "EASE, dense"
START = 2  # reg 10, in the unit of the scaled covariance
GAP = "objective gap over the pattern's optimum"


class Scale(NamedTuple):
    """The grid, strengths tried in a walk, and rough seconds of a fit."""

    densities: tuple[float, ...]
    rs: tuple[float, ...]
    most: int
    budget: float


SCALES = {
    "smoke": Scale((0.05, 0.2), (0.5, 0.0), 2, math.inf),
    "small": Scale((0.0005, 0.001, 0.002, 0.005), (0.5, 0.1, 0.0), 3, 1800.0),
    "full": Scale((0.0005, 0.001, 0.002, 0.005, 0.01, 0.02), (0.5, 0.1, 0.0), 5, math.inf),
}


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table on one data set."""
    densities, rs, most, budget = SCALES[scale]
    trials = Trials(data, cells, most, budget, seen)
    dense = ease(data.source.name)
    lines = [trials.tune(DENSE, dense)]  # where this machine and this scale can afford it
    say(str(lines[0]))
    for density in densities:
        first = sorted(rs, reverse=True)[0]
        chosen = trials.tune(named(density, first), Contender(partial(Mrf, density=density, r=first), START))
        for r in sorted(rs, reverse=True):
            name, method = named(density, r), Mrf(density=density, r=r, **chosen.settings)
            result = trials.final({"line": name, **chosen.settings}, method)
            lines.append(Line(name, chosen.settings, method, result))
            say(str(lines[-1]))
    return Outcome(
        table=table(lines, trials.metrics, trials.said({DENSE: dense})),
        record={"lines": recorded(lines)},
        plots={"accuracy_and_time": partial(write_plot, lines, trials.metrics[0], data.train.name)},
        figures=figures(lines),
    )


def seen(fitted: Fitted) -> dict[str, Any]:
    """What is recorded besides the metrics: seconds of every stage, and the certificate's details."""
    return {"stages": fitted.info.seconds, "detail": fitted.info.certificate.detail}


def named(density: float, r: float) -> str:
    """What a line is called."""
    return f"MRF {100 * density:g} %, r = {r:g}"


def seconds(line: Line) -> float:
    """Those of the fit without its certificate."""
    return sum(value for stage, value in line.result["stages"].items() if stage != "certificate")


def table(lines: Sequence[Line], metrics: Sequence[str], chosen: str) -> str:
    """Markdown; shares and speeds are against dense EASE, where it was fitted. `chosen`: how settings were."""
    reference = None if lines[0].result["failed"] else lines[0]
    text = []
    for line in lines:
        if line.result["failed"]:
            text.append(
                [line.name, line.said, *(["-"] * (len(metrics) + 4)), f"left out: {line.result['failed']}", "-"]
            )
            continue
        detail, test = line.result["detail"], line.result["test"]
        share = f"{test[metrics[0]][0] / reference.result['test'][metrics[0]][0]:.3f}" if reference else "-"
        faster = f"{seconds(reference) / seconds(line):.1f}" if reference else "-"
        text.append(
            [
                *(line.name, line.said),
                *("{:.4f} ± {:.4f}".format(*test[name]) for name in metrics),
                *(share, f"{detail[GAP]:.3f}" if GAP in detail else "-"),
                *(f"{detail['blocks']:,.0f}" if "blocks" in detail else "1", f"{line.result['cpu_seconds']:.1f}"),
                *(f"{seconds(line):.1f}", faster),
            ]
        )
    header = [
        "",
        "settings",
        *metrics,
        f"share of dense {metrics[0]}",
        "gap",
        "blocks",
        "CPU s",
        "fit, s",
        "times faster",
    ]
    about = [
        f"{chosen}; test users, with standard errors over users. The gap is what the loss "
        "exceeds the optimum on the pattern by, as a share of what that gains over no model; the seconds are those of "
        "the fit without its certificate, the CPU seconds with it.",
        "",
    ]
    return "\n".join([*about, *rows(header, text)]) + "\n"


def write_plot(lines: Sequence[Line], metric: str, name: str, path: Any) -> None:
    """The metric against the seconds of a fit, one line a density, a mark for every r."""
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    shown = [line for line in lines if not line.result["failed"]]
    for density in dict.fromkeys(getattr(line.method, "density", None) for line in shown):
        same = [line for line in shown if getattr(line.method, "density", None) == density]
        means, errors = zip(*(line.result["test"][metric] for line in same), strict=True)
        label = DENSE if density is None else f"density {100 * density:g} %"
        axes.errorbar([seconds(line) for line in same], means, errors, marker="o", capsize=3, label=label)
        for line, mean in zip(same, means, strict=True):
            if density is not None:
                axes.annotate(f" r = {line.method.r:g}", (seconds(line), mean), fontsize="x-small")
    axes.set_xscale("log")
    axes.set(xlabel="seconds of a fit", ylabel=f"{metric} (± standard error)", title=f"Sparse MRF on {name}")
    axes.legend(fontsize="small")
    write(figure, path)
