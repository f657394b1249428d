"""EASE beside what it was compared with: popularity, EASE >= 0, SLIM, WMF, Mult-DAE, Mult-VAE, and more, each tuned.

After Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (WWW 2019, arXiv 1905.03375), Table 2. Every method
walks uphill over powers of sqrt(10) of its strength on held-out data; the networks have settings to choose from, and
lengths and batches that go by the number of users (`contenders`). A fit that a machine or a scale cannot afford is left
out by its plan, and said so in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import POPULARITY, TRAININGS, VERSION, TableScale, Training, deep, ease
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome, figures, measured, panels, recorded
from jaxrec.experiments.harness.trials import Contender, Trials, Tuned, options
from jaxrec.factorization import Ials
from jaxrec.linear import ItemKnn, NonnegativeEase, PureSvd, Slim

__all__ = ["VERSION", "run"]

SCALES = {
    "smoke": TableScale(most=2, rank=8, training=TRAININGS["smoke"]),
    "small": TableScale(most=7, rank=128, training=TRAININGS["small"], budget=1200.0),
    "full": TableScale(most=12, rank=512, training=TRAININGS["full"]),
}
NETWORKS = ("Mult-DAE", "Mult-VAE")  # of the paper's Table 2


def contenders(data: str, shape: tuple[int, int], rank: int, training: Training) -> dict[str, Contender]:
    """The rows of the table on the data set of this name; another row is another entry.

    WMF is the model of Hu, Koren & Volinsky (2008): a missing cell weighs 1, all rows have one strength.
    """
    networks = deep(shape, training)
    wmf = partial(Ials, rank, unobserved_weight=1.0, reg_exponent=0.0, target="one", mode="cholesky")
    return {
        "popularity": POPULARITY,
        "item kNN": Contender(
            ItemKnn, 2, "shrinkage", settings=options("neighbours", 20, 100, 500, 2500), first_variant=1
        ),
        "PureSVD": Contender(PureSvd, 6, "rank", strength=lambda number: 2 ** max(0, number)),
        "WMF": Contender(wmf, 2, settings=options("alpha", 1.0, 4.0, 16.0, 64.0, 256.0), first_variant=1),
        "SLIM": Contender(Slim, 4, settings=options("l1", 1.0, 5.0)),
        "EASE >= 0": Contender(NonnegativeEase, 4),
        "EASE": ease(data),
        **{name: networks[name] for name in NETWORKS},
    }


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table on one data set."""
    plan, shape = SCALES[scale], data.train.shape
    trials = Trials(data, cells, plan, say)
    found = contenders(data.source.name, shape, min(plan.rank, *(size - 1 for size in shape)), plan.training)
    lines = [trials.tune(name, contender) for name, contender in found.items()]
    text = [f"{trials.described(found)}; test users, with standard errors over users. {plan.training.described}", ""]
    return Outcome(
        table="\n".join([*text, *measured(lines, trials.metrics)]) + "\n",
        record={"lines": recorded(lines)},
        plots={"accuracy": partial(write_plot, lines, trials.metrics[0], data.train.name)},
        figures=figures(lines),
    )


def write_plot(lines: list[Tuned], metric: str, name: str, path: Any) -> None:
    """The metric of every line, with its standard error."""
    shown = [line for line in lines if line.fitted]
    with panels(path, (7, 0.5 + 0.45 * len(shown))) as (axes,):
        means, errors = zip(*(line.test(metric) for line in shown), strict=True)
        axes.barh([line.name for line in shown], means, xerr=errors, capsize=3)
        axes.invert_yaxis()
        axes.set(xlabel=f"{metric} (± standard error)", title=name)
