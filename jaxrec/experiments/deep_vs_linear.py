"""Deep against linear models: accuracy, seconds, memory and the price of tuning, on every data set at hand.

Every method is tuned on held-out data by the rules of `trials`; the networks and their settings are those of
`contenders`. What the literature leads one to expect: on the sets of the Mult-VAE paper the linear models are on a par
with Mult-VAE, and above it where there are many items with few users each (MSD).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from jaxrec.experiments.harness import contenders
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import TRAININGS, VERSION, Training
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome, figures, recorded, rows
from jaxrec.experiments.harness.trials import Contender, Line, Trials
from jaxrec.runtime.memory import GB
from jaxrec.runtime.plots import new_figure, write

__all__ = ["VERSION", "run"]


class Scale(NamedTuple):
    """Strengths tried in a walk, rank of iALS, rough seconds of a fit, training of the networks, rows left out."""

    most: int
    rank: int
    budget: float
    training: Training
    without: tuple[str, ...] = ()


SCALES = {
    # RecVAE takes longer to compile than all else together.
    "smoke": Scale(2, 8, math.inf, TRAININGS["smoke"], without=("RecVAE",)),
    "small": Scale(5, 128, 1200.0, TRAININGS["small"]),
    "full": Scale(12, 1024, math.inf, TRAININGS["full"]),
}


def lineup(data: str, shape: tuple[int, int], rank: int, training: Training) -> dict[str, Contender]:
    """The rows of the table on the data set of this name."""
    linear = {"popularity": contenders.POPULARITY, "EASE": contenders.ease(data), "EDLAE": contenders.EDLAE}
    return {**linear, "iALS": contenders.ials(rank), **contenders.deep(shape, training)}


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table on one data set."""
    most, rank, budget, training, without = SCALES[scale]
    trials, train = Trials(data, cells, most, budget), data.plain.train
    lines = []
    rank = min(rank, *(size - 1 for size in train.shape))
    found = lineup(data.source.name, train.shape, rank, training)
    for name, contender in found.items():
        if name in without:
            continue
        lines.append(trials.tune(name, contender))
        say(str(lines[-1]))
    memory = {line.name: line.method.plan(train.n_users, train.n_items, train.nnz).total for line in lines}
    costs = {
        line.name: {"tried": line.tried, "tuning_seconds": line.tuning_seconds, "planned_bytes": memory[line.name]}
        for line in lines
    }
    return Outcome(
        table=table(lines, memory, trials.metrics, trials.said(found), training.said),
        record={"lines": [each | costs[each["line"]] for each in recorded(lines)]},
        plots={"accuracy_and_time": partial(write_plot, lines, trials.metrics[0], train.name)},
        figures=figures(lines),
    )


def table(lines: Sequence[Line], memory: dict[str, int], metrics: Sequence[str], chosen: str, trained: str) -> str:
    """Markdown; how settings were chosen, and what else is to be known of the trainings, as sentences."""
    about = [
        f"{chosen}; test users, with standard errors over users. The seconds of a fit contain "
        "its compilation and the validations of early stopping; those of tuning are the sum over all settings tried. "
        f"{trained} "
        "GB is what the plan of the fit (`plan`) says that its large arrays take at the peak: an estimate from the "
        "sizes, not a measurement. Numbers: all that the model has learned, of iALS the factors of users and items.",
        "",
    ]
    text = []
    for line in lines:
        if line.result["failed"]:
            text.append([line.name, *["-"] * (1 + len(metrics)), f"left out: {line.result['failed']}", *["-"] * 4])
            continue
        values = ["{:.4f} ± {:.4f}".format(*line.result["test"][name]) for name in metrics]
        costs = [f"{line.result['seconds']:.1f}", f"{memory[line.name] / GB:.2f}", f"{line.result['numbers']:,}"]
        text.append([line.name, line.said, *values, *costs, str(line.tried), f"{line.tuning_seconds:.0f}"])
    header = ["", "settings", *metrics, "a fit, s", "GB", "numbers", "settings tried", "tuning, s"]
    return "\n".join([*about, *rows(header, text)]) + "\n"


def write_plot(lines: Sequence[Line], metric: str, name: str, path: Any) -> None:
    """The metric of every line but popularity against the seconds of its fit: linear models round, deep ones square."""
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    for line in lines[1:]:  # popularity is far below the others, and takes no time
        if line.result["failed"]:
            continue
        mean, error = line.result["test"][metric]
        trained = "users per second" in line.result["detail"]
        way = {"marker": "s" if trained else "o", "linestyle": "none", "capsize": 3, "label": line.name}
        axes.errorbar([line.result["seconds"]], [mean], [error], **way)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.set(xlabel="seconds of a fit", ylabel=f"{metric} (± standard error)", title=f"Deep and linear on {name}")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    write(figure, path)
