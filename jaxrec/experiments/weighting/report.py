"""What the weighting experiment found: its tables, its record, its plot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec.experiments.harness.outcome import accuracy, panels, rows
from jaxrec.experiments.harness.trials import Tuned

NONE = "none"
FULL = "full rank"


def scheme(line: Tuned) -> str:
    """The weights of a line; "" for a reference, which has none to choose."""
    return line.settings.get("weights", "")


def users(line: Tuned) -> np.ndarray:
    """[B] the metric of each test user, mean over seeds; NaN for a user without targets."""
    return np.mean([np.array(run["users"], float) for run in line.fitted], axis=0)


@dataclasses.dataclass(frozen=True)
class Gain:
    """What weights add to a metric, on the same test users."""

    weighted: Tuned
    mean: float
    error: float


def gain(plain: Tuned, weighted: Tuned) -> Gain | None:
    """The mean of the paired differences and its standard error; None if a fit failed."""
    if not plain.fitted or not weighted.fitted:
        return None
    difference = users(weighted) - users(plain)
    difference = difference[np.isfinite(difference)]
    return Gain(weighted, float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(difference))))


def gains(lines: Sequence[Tuned]) -> list[tuple[Tuned, list[Gain]]]:
    """Each unweighted combination, with what every scheme of weights gains over it."""
    found = []
    for plain in (line for line in lines if scheme(line) == NONE):
        same = [line for line in lines if line.name == plain.name and line.settings["rank"] == plain.settings["rank"]]
        found.append((plain, [each for line in same if line is not plain and (each := gain(plain, line)) is not None]))
    return found


def best(gains: Sequence[Gain]) -> Gain | None:
    """The scheme that validation users would choose."""
    return max(gains, key=lambda each: each.weighted.validation, default=None)


def table(lines: Sequence[Tuned], metrics: Sequence[str]) -> str:
    """Both tables in Markdown: the best of each family, and the gain of every scheme in the first metric."""
    schemes = list(dict.fromkeys(scheme(line) for line in lines if scheme(line) not in ("", NONE)))
    text = ["Best of each family, chosen on validation users; test users, with standard errors over users.", ""]
    text += rows(["", "weights", "rank", "reg", *metrics, "a fit, s"], _leaders(lines, metrics))
    text += [
        "",
        f"Gain of weights in {metrics[0]} (standard error of paired differences), each re-tuned; * is beyond two.",
        "",
    ]
    figures = []
    for plain, found in gains(lines):
        by_scheme = {scheme(each.weighted): each for each in found}
        value = f"{plain.test(metrics[0])[0]:.4f}" if plain.fitted else "failed"
        cells = [_gain(by_scheme.get(name)) for name in schemes]
        figures.append([plain.name, str(plain.settings["rank"]), value, *cells])
    text += rows(["", "rank", "no weights", *schemes], figures)
    return "\n".join(text) + "\n"


def _leaders(lines: Sequence[Tuned], metrics: Sequence[str]) -> list[list[str]]:
    leaders = []
    for family in dict.fromkeys(line.name for line in lines):
        own = [line for line in lines if line.name == family and line.fitted]
        for weighted in (False, True):
            alike = [line for line in own if (scheme(line) not in ("", NONE)) == weighted]
            if chosen := max(alike, key=lambda line: line.validation, default=None):
                settings = [scheme(chosen) or "-", str(chosen.settings["rank"]), f"{chosen.settings['reg']:.3g}"]
                values = [accuracy(*chosen.test(name)) for name in metrics]
                leaders.append([family, *settings, *values, f"{chosen.seconds:.1f}"])
    return leaders


def _gain(found: Gain | None) -> str:
    if found is None:
        return "failed"
    return f"{found.mean:+.4f} ({found.error:.4f}){'*' if abs(found.mean) > 2 * found.error else ''}"


def record(lines: Sequence[Tuned], metric: str) -> dict[str, Any]:
    """Everything in the tables, for JSON."""
    return {
        "metric": metric,
        "lines": [
            {
                "family": line.name,
                "weights": scheme(line),
                "rank": line.settings["rank"],
                "reg": line.settings["reg"],
                "validation": line.validation,
                "test": {name: _tested(line, name) for name in line.fitted[0]["test"]} if line.fitted else None,
                "seconds": [run["seconds"] for run in line.runs],
                "residual": [run["residual"] for run in line.fitted],
                "failed": [run["failed"] for run in line.runs if run["failed"]],
            }
            for line in lines
        ],
        "gains": [
            {
                "family": plain.name,
                "rank": plain.settings["rank"],
                "weights": scheme(each.weighted),
                "mean": each.mean,
                "standard_error": each.error,
            }
            for plain, found in gains(lines)
            for each in found
        ],
    }


def _tested(line: Tuned, metric: str) -> dict[str, float]:
    """The metric for JSON, with its deviation over seeds."""
    mean, error = line.test(metric)
    means = [run["test"][metric][0] for run in line.fitted]
    deviation = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
    return {"mean": mean, "standard_error": error, "deviation_over_seeds": deviation}


def write_plot(lines: Sequence[Tuned], metric: str, ranks: Sequence[int], name: str, path: Any) -> None:
    """Gain of weighting against rank, one line a regularizer; full rank at the right end."""
    by_family: dict[str, list[tuple[int, Gain]]] = {}
    for plain, found in gains(lines):
        if (chosen := best(found)) is not None:
            by_family.setdefault(plain.name, []).append((plain.settings["rank"], chosen))
    with panels(path, (8, 4.5)) as (axes,):
        for number, (family, points) in enumerate(by_family.items()):
            shift = 1.02 ** (number - len(by_family) / 2)  # error bars beside each other
            marker, line = "D" if family.startswith(FULL) else "o", "--" if family.startswith("symmetric") else "-"
            means, errors = zip(*((each.mean, each.error) for _, each in points), strict=True)
            style = {"marker": marker, "linestyle": line, "capsize": 3, "label": family}
            axes.errorbar([rank * shift for rank, _ in points], means, errors, **style)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set_xscale("log", base=2)
        ticks = [*ranks, *{rank for points in by_family.values() for rank, _ in points if rank not in ranks}]
        axes.set_xticks(ticks, [str(rank) if rank in ranks else f"{rank}\n(full)" for rank in ticks])
        axes.minorticks_off()
        axes.set(
            xlabel="rank", ylabel=f"gain in {metric} (± standard error)", title=f"What the best weights gain on {name}"
        )
        axes.figure.legend(loc="outside right upper", fontsize="small")
