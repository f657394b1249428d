"""EASE beside what it was compared with: popularity, EASE >= 0, SLIM, WMF, Mult-DAE, Mult-VAE, and more, each tuned.

After Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (WWW 2019, arXiv 1905.03375), Table 2. Every method
walks uphill over powers of sqrt(10) of its strength on held-out data; the networks have settings to choose from, and
lengths and batches that go by the number of users (`contenders`). A fit that a machine or a scale cannot afford is left
out by its plan, and said so in the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jaxrec.experiments.harness import contenders as shared
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import TRAININGS, VERSION, Training
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome, figures, measured, recorded
from jaxrec.experiments.harness.trials import Contender, Line, Trials
from jaxrec.factorization import Ials
from jaxrec.linear import ItemKnn, NonnegativeEase, PureSvd, Slim
from jaxrec.runtime.plots import new_figure, write

__all__ = ["VERSION", "run"]


class Scale(NamedTuple):
    """Strengths tried in a walk, rank of WMF, rough seconds of a fit, and the training of the networks."""

    most: int
    rank: int
    budget: float
    training: Training


SCALES = {
    "smoke": Scale(2, 8, math.inf, TRAININGS["smoke"]),
    "small": Scale(7, 128, 1200.0, TRAININGS["small"]),
    "full": Scale(12, 512, math.inf, TRAININGS["full"]),
}
NETWORKS = ("Mult-DAE", "Mult-VAE")  # of the paper's Table 2


def in_order(field: str, *values: Any) -> tuple[dict[str, Any], ...]:
    """The variants of one setting, from one end to the other, to be walked over."""
    return tuple({field: value} for value in values)


def contenders(data: str, shape: tuple[int, int], rank: int, training: Training) -> dict[str, Contender]:
    """The rows of the table on the data set of this name; another row is another entry.

    WMF is that of Hu, Koren & Volinsky (2008): a missing cell weighs 1, all rows have one strength.
    """
    networks = shared.deep(shape, training)
    wmf = partial(Ials, rank, unobserved_weight=1.0, reg_exponent=0.0, target="one", mode="cholesky")
    return {
        "popularity": shared.POPULARITY,
        "item kNN": Contender(ItemKnn, 2, "shrinkage", variants=in_order("neighbours", 20, 100, 500, 2500), first=1),
        "PureSVD": Contender(PureSvd, 6, "rank", strength=lambda number: 2 ** max(0, number)),
        "WMF": Contender(wmf, 2, variants=in_order("alpha", 1.0, 4.0, 16.0, 64.0, 256.0), first=1),
        "SLIM": Contender(Slim, 4, variants=({"l1": 1.0}, {"l1": 5.0})),
        "EASE >= 0": Contender(NonnegativeEase, 4),
        "EASE": shared.ease(data),
        **{name: networks[name] for name in NETWORKS},
    }


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table on one data set."""
    most, rank, budget, training = SCALES[scale]
    trials, shape = Trials(data, cells, most, budget), data.train.shape
    lines = []
    rank = min(rank, *(size - 1 for size in shape))
    found = contenders(data.source.name, shape, rank, training)
    for name, contender in found.items():
        lines.append(trials.tune(name, contender))
        say(str(lines[-1]))
    text = [f"{trials.said(found)}; test users, with standard errors over users. {training.said}", ""]
    return Outcome(
        table="\n".join([*text, *measured(lines, trials.metrics)]) + "\n",
        record={"lines": recorded(lines)},
        plots={"accuracy": partial(write_plot, lines, trials.metrics[0], data.train.name)},
        figures=figures(lines),
    )


def write_plot(lines: list[Line], metric: str, name: str, path: Any) -> None:
    """The metric of every line, with its standard error."""
    shown = [line for line in lines if not line.result["failed"]]
    figure = new_figure(7, 0.5 + 0.45 * len(shown))
    axes = figure.add_subplot()
    means, errors = zip(*(line.result["test"][metric] for line in shown), strict=True)
    axes.barh([line.name for line in shown], means, xerr=errors, capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel=f"{metric} (± standard error)", title=name)
    write(figure, path)
