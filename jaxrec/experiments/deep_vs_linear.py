"""Deep against linear models: accuracy, seconds, memory and the price of tuning, on every data set at hand.

Every method is tuned on held-out data by the rules of `trials`; the networks and their settings are in
`contenders`. What the literature leads one to expect: on the sets of the Mult-VAE paper the linear models are on a par
with Mult-VAE, and above it where there are many items with few users each (MSD).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxrec.experiments.harness import contenders
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import TRAININGS, VERSION, TableScale, Training
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import SECONDS, Outcome, figures, measured, panels, recorded
from jaxrec.experiments.harness.trials import Contender, Trials, Tuned
from jaxrec.runtime.memory import GB

__all__ = ["VERSION", "run"]

SCALES = {
    # RecVAE takes longer to compile than all else together.
    "smoke": TableScale(most=2, rank=8, training=TRAININGS["smoke"], without=("RecVAE",)),
    "small": TableScale(most=5, rank=128, training=TRAININGS["small"], budget=1200.0),
    "full": TableScale(most=12, rank=1024, training=TRAININGS["full"]),
}


def lineup(data: str, shape: tuple[int, int], rank: int, training: Training) -> dict[str, Contender]:
    """The rows of the table on the data set of this name."""
    linear = {"popularity": contenders.POPULARITY, "EASE": contenders.ease(data), "EDLAE": contenders.EDLAE}
    return {**linear, "iALS": contenders.ials(rank), **contenders.deep(shape, training)}


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table on one data set."""
    plan, train = SCALES[scale], data.plain.train
    trials = Trials(data, cells, plan, say)
    found = lineup(data.source.name, train.shape, min(plan.rank, *(size - 1 for size in train.shape)), plan.training)
    lines = [trials.tune(name, contender) for name, contender in found.items() if name not in plan.without]
    memory = {line.name: line.method.plan(train.n_users, train.n_items, train.nnz).total for line in lines}
    costs = {
        line.name: {"tried": line.tried, "tuning_seconds": line.tuning_seconds, "planned_bytes": memory[line.name]}
        for line in lines
    }
    return Outcome(
        table=table(lines, memory, trials.metrics, trials.described(found), plan.training.described),
        record={"lines": [each | costs[each["line"]] for each in recorded(lines)]},
        plots={"accuracy_and_time": partial(write_plot, lines, trials.metrics[0], train.name)},
        figures=figures(lines),
    )


def table(lines: Sequence[Tuned], memory: dict[str, int], metrics: Sequence[str], chosen: str, trained: str) -> str:
    """Markdown; how settings were chosen, and what else is to be known of the trainings, as sentences."""
    about = [
        f"{chosen}; test users, with standard errors over users. The seconds of a fit contain "
        "its compilation and the validations of early stopping; those of tuning are the sum over all settings tried. "
        f"{trained} "
        "GB is what the plan of the fit (`plan`) says that its large arrays take at the peak: an estimate from the "
        "sizes, not a measurement. Numbers: all that the model has learned, of iALS the factors of users and items.",
        "",
    ]
    costs: dict[str, Callable[[Tuned], str]] = {
        **SECONDS,
        "GB": lambda line: f"{memory[line.name] / GB:.2f}",
        "numbers": lambda line: f"{line.result['numbers']:,}",
        "settings tried": lambda line: str(line.tried),
        "tuning, s": lambda line: f"{line.tuning_seconds:.0f}",
    }
    return "\n".join([*about, *measured(lines, metrics, costs)]) + "\n"


def write_plot(lines: Sequence[Tuned], metric: str, name: str, path: Any) -> None:
    """The metric of every line but popularity against the seconds of its fit: linear models round, deep ones square."""
    with panels(path, (8, 4.5)) as (axes,):
        for line in lines[1:]:  # popularity is far below the others, and takes no time
            if not line.fitted:
                continue
            mean, error = line.test(metric)
            marker = "s" if "users per second" in line.result["detail"] else "o"
            way = {"marker": marker, "linestyle": "none", "capsize": 3, "label": line.name}
            axes.errorbar([line.seconds], [mean], [error], **way)
        axes.set_xscale("log")
        axes.margins(x=0.1)
        axes.set(xlabel="seconds of a fit", ylabel=f"{metric} (± standard error)", title=f"Deep and linear on {name}")
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
