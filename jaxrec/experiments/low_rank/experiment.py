"""Low-rank EDLAE over ranks: how far each form is above full rank, and what that costs in accuracy.

After Steck & Garcia Garcia, "On the Regularization of Autoencoders" (arXiv 2110.11402), its second result. The excess
is (J - J*) / (J(0) - J*) on the training users, J* the loss of full rank: 0 is full rank, 1 no model. Strength and
dropout are those that suit full rank best; all forms start from one Gram matrix and one Cholesky factor, and the
seconds are what the form alone takes, once compiled.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec.data.splits import Split
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import edlae
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.fits import cached, fit_and_measure
from jaxrec.experiments.harness.outcome import Outcome, accuracy, panels, rows
from jaxrec.experiments.harness.trials import Scale, Trials, Tuned
from jaxrec.experiments.low_rank import forms
from jaxrec.experiments.low_rank.forms import ADMM, CLOSED, DROPPED, EIGEN, FIXED, LBFGS, ONE_SHOTS, TIED
from jaxrec.models import ItemFactors
from jaxrec.status import FitError, Status

VERSION = 1
OMEGA, ADMM_STEPS = 500.0, 20  # as published for the largest set
WARM_UP_TO = 256  # ranks at which a form runs twice, the first time to be compiled
NAMES = (*ONE_SHOTS, EIGEN, TIED, CLOSED, FIXED, ADMM, DROPPED, LBFGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormsScale(Scale):
    """The scale: its ranks, whether the rank of all items too, L-BFGS, and the largest rank of `TIED`."""

    whole: bool = True
    lbfgs_up_to: int = 200
    lbfgs_steps: int = 60
    lbfgs_starts: int = 1
    tied_up_to: int = 200


SCALES = {
    "smoke": FormsScale(most=2, ranks=(8,), dropouts=(0.3,), whole=False, lbfgs_up_to=8, lbfgs_steps=10, tied_up_to=0),
    "small": FormsScale(most=7, ranks=(10, 50, 200, 1000), dropouts=(0.1, 0.25, 0.5)),
    "full": FormsScale(
        most=12,
        ranks=(10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000),
        dropouts=(0.1, 0.25, 0.33, 0.5),
        lbfgs_up_to=500,
        lbfgs_steps=200,
        lbfgs_starts=3,
        tied_up_to=500,
    ),
}


class Point(NamedTuple):
    """One form at one rank."""

    rank: int
    form: str
    result: dict[str, Any]

    def value(self, name: str) -> float | None:
        """The excess, the seconds or a metric; None if the form failed."""
        if self.result["failed"]:
            return None
        return self.result["test"][name][0] if "@" in name else self.result[name]


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The tables and the plot on one data set."""
    plan = SCALES[scale]
    trials = Trials(data, cells, plan, say)
    full = trials.tune("EDLAE", edlae(plan.dropouts))
    train, n_items = trials.parts.train, trials.parts.train.n_items
    parts = Split(train, trials.parts.test)
    # Above half of the items every truncated SVD is a whole one.
    largest = {TIED: min(plan.tied_up_to, n_items // 2), LBFGS: plan.lbfgs_up_to}

    @functools.cache  # made when the first cell is missing
    def made() -> tuple[Any, dict[str, forms.Form]]:
        problem = forms.problem_of(train, full.settings["reg"], full.settings["dropout"])
        lbfgs = {"lbfgs_steps": plan.lbfgs_steps, "lbfgs_starts": plan.lbfgs_starts}
        return problem, forms.by_name(problem, omega=OMEGA, admm_steps=ADMM_STEPS, **lbfgs)

    points = []
    for rank in [*(rank for rank in plan.ranks if rank < n_items), *([n_items] if plan.whole else [])]:
        for name in (name for name in NAMES if rank <= largest.get(name, rank)):
            compute = partial(measure, made, name, rank, parts, trials.metrics)
            points.append(Point(rank, name, cached(cells, {"form": name, "rank": rank, **full.settings}, compute)))
            say(described(points[-1], trials.metrics[0]))
    record = {"full rank": {**full.settings, **full.result}, "points": [point._asdict() for point in points]}
    return Outcome(
        table=markdown(points, full, trials.metrics[0]),
        record=record,
        plots={"ranks": partial(write_plot, points, full, trials.metrics[0], data.train.name)},
    )


def measure(made: Callable, name: str, rank: int, parts: Split, metrics: Sequence[str]) -> dict[str, Any]:
    """One form at one rank: its excess, its metrics, its seconds."""
    problem, by_name = made()
    form, key = by_name[name], jax.random.key(0)
    if name != LBFGS and rank <= WARM_UP_TO:
        jax.block_until_ready(form(rank, key))
    found: dict[str, float] = {}

    def fit() -> ItemFactors:
        begun = time.perf_counter()
        factors = jax.block_until_ready(form(rank, key))
        found["seconds"] = time.perf_counter() - begun
        found["excess"] = float(forms.excess(problem, *factors))
        if not found["excess"] < 1:
            raise FitError(Status.NOT_FINITE, f"the excess is {found['excess']:.3g}: it diverges.")
        return ItemFactors(*factors)

    return fit_and_measure(fit, parts, metrics, lambda model: found)


def described(point: Point, metric: str) -> str:
    """A point in words."""
    if point.result["failed"]:
        return f"k = {point.rank}, {point.form}: {point.result['failed']}"
    excess, value, seconds = (point.value(name) for name in ("excess", metric, "seconds"))
    return f"k = {point.rank}, {point.form}: excess {excess:.5f}, {metric} {value:.4f}, {seconds:.2f} s"


def markdown(points: Sequence[Point], full: Tuned, metric: str) -> str:
    """All tables."""
    parts = [
        f"Full rank: {full.described}, chosen on held-out data; {metric} {accuracy(*full.test(metric))}.",
        "Excess (J - J\\*) / (J(0) - J\\*):",
        table(points, "excess", 5),
        f"{metric}:",
        table(points, metric, 4),
        "Seconds, after one Gram matrix and one Cholesky factor:",
        table(points, "seconds", 2),
    ]
    if judged := above_lbfgs(points):
        parts += ["Above L-BFGS, relative to its excess:", "\n".join(rows(["k", "closed form", "fixed point"], judged))]
    return "\n\n".join(parts) + "\n"


def table(points: Sequence[Point], value: str, digits: int) -> str:
    """One row a form, one column a rank."""
    ranks = sorted({point.rank for point in points})
    cells = {(point.form, point.rank): point.value(value) for point in points}
    lines = []
    for form in dict.fromkeys(point.form for point in points):
        values = [cells.get((form, rank)) for rank in ranks]
        lines.append([form, *("-" if each is None else f"{each:.{digits}f}" for each in values)])
    return "\n".join(rows(["", *(f"k = {rank}" for rank in ranks)], lines))


def above_lbfgs(points: Sequence[Point]) -> list[list[str]]:
    """How far the closed form and the fixed point are above L-BFGS, as a share of its excess, by rank."""
    excess = {(point.form, point.rank): point.value("excess") for point in points}
    lines = []
    for (form, rank), judge in excess.items():
        if form == LBFGS and judge:
            others = (excess[name, rank] for name in (CLOSED, FIXED))
            lines.append([str(rank), *("-" if each is None else f"{each / judge - 1:+.2%}" for each in others)])
    return lines


def write_plot(points: Sequence[Point], full: Tuned, metric: str, name: str, path: Any) -> None:
    """Excess and metric over the rank, a line a form."""
    with panels(path, (12, 4.6), 2, title=f"Low-rank EDLAE on {name}") as (left, right):
        for index, form in enumerate((DROPPED, *ONE_SHOTS, CLOSED, ADMM, FIXED, LBFGS)):
            judge = form == LBFGS
            style = {"color": f"C{index}", "marker": "x" if judge else ".", "linestyle": "none" if judge else "-"}
            for axes, value in ((left, "excess"), (right, metric)):
                drawn = [(point.rank, point.value(value)) for point in points if point.form == form]
                drawn = [(rank, each) for rank, each in drawn if each is not None and each > 1e-6]  # 0 at full rank
                axes.plot(*np.array(drawn).reshape(-1, 2).T, label=form, **style)
        mean, error = full.test(metric)
        right.axhline(mean, color="black", linestyle="--", label="full rank")
        if math.isfinite(error):
            right.axhspan(mean - error, mean + error, color="black", alpha=0.08)
        left.set(xscale="log", yscale="log", xlabel="rank k", ylabel="(J - J*) / (J(0) - J*)")
        right.set(xscale="log", xlabel="rank k", ylabel=metric)
        right.legend(fontsize=8)
