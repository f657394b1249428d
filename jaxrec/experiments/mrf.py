"""The sparse Markov random field: density and r against accuracy and time, beside dense EASE.

After Steck, "Markov Random Fields for Collaborative Filtering" (NeurIPS 2019, arXiv 1910.09645): the table that its
poster shows. The density is the share of the I x I weights that may differ from 0; r is the share of a block's columns
that are kept, 0 being the exact optimum on the pattern. The strength is chosen for each density at the largest r, which
is the cheapest, and dense EASE has its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import ease
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome, figures, measured, panels, recorded
from jaxrec.experiments.harness.trials import Contender, Scale, Trials, Tuned
from jaxrec.linear import Mrf
from jaxrec.models import Fitted

VERSION = 1
DENSE = "EASE, dense"
START = 2  # reg 10, in the unit of the scaled covariance
GAP = "objective gap over the pattern's optimum"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MrfScale(Scale):
    """The scale with its grid of densities and of shares r of kept columns, the largest r first."""

    densities: tuple[float, ...]
    rs: tuple[float, ...]


SCALES = {
    "smoke": MrfScale(most=2, densities=(0.05, 0.2), rs=(0.5, 0.0)),
    "small": MrfScale(most=3, densities=(0.0005, 0.001, 0.002, 0.005), rs=(0.5, 0.1, 0.0), budget=1800.0),
    "full": MrfScale(most=5, densities=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02), rs=(0.5, 0.1, 0.0)),
}


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table on one data set."""
    plan = SCALES[scale]
    trials = Trials(data, cells, plan, say, also=seen)
    dense = ease(data.source.name)
    lines = [trials.tune(DENSE, dense)]  # if this machine and this scale can afford it
    for density in plan.densities:
        first, *others = plan.rs
        chosen = trials.tune(named(density, first), Contender(partial(Mrf, density=density, r=first), START))
        as_strong = (
            trials.tune(named(density, r), Contender(partial(Mrf, density=density, r=r), settings=(chosen.settings,)))
            for r in others
        )
        lines += [chosen, *as_strong]
    return Outcome(
        table=table(lines, trials.metrics, trials.described({DENSE: dense})),
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


def seconds(line: Tuned) -> float:
    """The seconds of a fit without its certificate."""
    return sum(value for stage, value in line.result["stages"].items() if stage != "certificate")


def table(lines: Sequence[Tuned], metrics: Sequence[str], chosen: str) -> str:
    """Markdown; shares and speeds are against dense EASE, if it was fitted. `chosen`: how settings were."""
    reference = lines[0] if lines[0].fitted else None
    costs: dict[str, Callable[[Tuned], str]] = {
        f"share of dense {metrics[0]}": lambda line: (
            f"{line.test(metrics[0])[0] / reference.test(metrics[0])[0]:.3f}" if reference else "-"
        ),
        "gap": lambda line: f"{line.result['detail'][GAP]:.3f}" if GAP in line.result["detail"] else "-",
        "blocks": lambda line: f"{line.result['detail'].get('blocks', 1):,.0f}",
        "CPU s": lambda line: f"{line.result['cpu_seconds']:.1f}",
        "fit, s": lambda line: f"{seconds(line):.1f}",
        "times faster": lambda line: f"{seconds(reference) / seconds(line):.1f}" if reference else "-",
    }
    about = [
        f"{chosen}; test users, with standard errors over users. The gap is what the loss "
        "exceeds the optimum on the pattern by, as a share of what that gains over no model; the seconds are those of "
        "the fit without its certificate, the CPU seconds with it.",
        "",
    ]
    return "\n".join([*about, *measured(lines, metrics, costs)]) + "\n"


def write_plot(lines: Sequence[Tuned], metric: str, name: str, path: Any) -> None:
    """The metric against the seconds of a fit, one line a density, a mark for every r."""
    shown = [line for line in lines if line.fitted]
    with panels(path, (7, 4.5)) as (axes,):
        for density in dict.fromkeys(getattr(line.method, "density", None) for line in shown):
            same = [line for line in shown if getattr(line.method, "density", None) == density]
            means, errors = zip(*(line.test(metric) for line in same), strict=True)
            label = DENSE if density is None else f"density {100 * density:g} %"
            axes.errorbar([seconds(line) for line in same], means, errors, marker="o", capsize=3, label=label)
            for line, mean in zip(same, means, strict=True):
                if density is not None:
                    axes.annotate(f" r = {line.method.r:g}", (seconds(line), mean), fontsize="x-small")
        axes.set_xscale("log")
        axes.set(xlabel="seconds of a fit", ylabel=f"{metric} (± standard error)", title=f"Sparse MRF on {name}")
        axes.legend(fontsize="small")
