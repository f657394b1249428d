"""What the weighting experiment found: its tables, its record, its plot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec.experiments.harness.outcome import rows
from jaxrec.runtime.plots import new_figure, write

NONE = "none"
FULL = "full rank"


@dataclasses.dataclass(frozen=True)
class Line:
    """One combination at the regularization that was best on validation users.

    Attributes:
      family: of models, with its regularizer; or the name of a reference.
      scheme: of weights; "" for a reference.
      rank: K, or the number of items.
      reg: the strength chosen.
      runs: the cell of each seed.
    """

    family: str
    scheme: str
    rank: int
    reg: float
    runs: tuple[dict[str, Any], ...]

    @property
    def fitted(self) -> list[dict[str, Any]]:
        """The runs that did not fail."""
        return [run for run in self.runs if not run["failed"]]

    @property
    def validation(self) -> float:
        """The validation metric of the first seed, by which everything is chosen."""
        return -math.inf if self.runs[0]["failed"] else self.runs[0]["validation"]

    @property
    def users(self) -> np.ndarray:
        """[B] the metric of each test user, mean over seeds; NaN where a user has no targets."""
        return np.mean([np.array(run["users"], float) for run in self.fitted], axis=0)

    def test(self, metric: str) -> tuple[float, float, float]:
        """The mean over seeds, its standard error over users (of a single seed), and the deviation over seeds."""
        means, errors = np.array([run["test"][metric] for run in self.fitted]).T
        return float(means.mean()), float(errors[0]), float(means.std(ddof=1)) if len(means) > 1 else math.nan

    def __str__(self) -> str:
        name = " ".join(filter(None, (f"{self.family},", self.scheme, f"rank {self.rank}")))
        if not self.fitted:
            return f"{name}: failed ({self.runs[0]['failed']})"
        seconds = np.median([run["seconds"] for run in self.fitted])
        return f"{name}: validation {self.validation:.4f} at reg {self.reg:.3g}, a fit {seconds:.1f} s"


@dataclasses.dataclass(frozen=True)
class Gain:
    """What weights add to a metric, on the same test users."""

    weighted: Line
    mean: float
    error: float


def gain(plain: Line, weighted: Line) -> Gain | None:
    """The mean of the paired differences and its standard error; None where a fit failed."""
    if not plain.fitted or not weighted.fitted:
        return None
    difference = weighted.users - plain.users
    difference = difference[np.isfinite(difference)]
    return Gain(weighted, float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(difference))))


def gains(lines: Sequence[Line]) -> list[tuple[Line, list[Gain]]]:
    """Each unweighted combination, with what every scheme of weights gains over it."""
    found = []
    for plain in (line for line in lines if line.scheme == NONE):
        same = [line for line in lines if (line.family, line.rank) == (plain.family, plain.rank) and line != plain]
        found.append((plain, [each for line in same if (each := gain(plain, line)) is not None]))
    return found


def best(gains: Sequence[Gain]) -> Gain | None:
    """The scheme that validation users would choose."""
    return max(gains, key=lambda each: each.weighted.validation, default=None)


def table(lines: Sequence[Line], metric: str, metrics: Sequence[str]) -> str:
    """Both tables in Markdown: the best of each family, and the gain of every scheme."""
    schemes = list(dict.fromkeys(line.scheme for line in lines if line.scheme not in ("", NONE)))
    text = ["Best of each family, chosen on validation users; test users, with standard errors over users.", ""]
    text += rows(["", "weights", "rank", "reg", *metrics, "a fit, s"], _leaders(lines, metrics))
    text += [
        "",
        f"Gain of weights in {metric} (standard error of paired differences), each re-tuned; * is beyond two.",
        "",
    ]
    figures = []
    for plain, found in gains(lines):
        by_scheme = {each.weighted.scheme: each for each in found}
        cells = [_gain(by_scheme.get(scheme)) for scheme in schemes]
        value = f"{plain.test(metric)[0]:.4f}" if plain.fitted else "failed"
        figures.append([plain.family, str(plain.rank), value, *cells])
    text += rows(["", "rank", "no weights", *schemes], figures)
    return "\n".join(text) + "\n"


def _leaders(lines: Sequence[Line], metrics: Sequence[str]) -> list[list[str]]:
    leaders = []
    for family in dict.fromkeys(line.family for line in lines):
        own = [line for line in lines if line.family == family and line.fitted]
        for kind in (lambda line: line.scheme in ("", NONE), lambda line: line.scheme not in ("", NONE)):
            if chosen := max(filter(kind, own), key=lambda line: line.validation, default=None):
                cells = ["{:.4f} ± {:.4f}".format(*chosen.test(name)[:2]) for name in metrics]
                seconds = float(np.median([run["seconds"] for run in chosen.fitted]))
                row = [family, chosen.scheme or "-", str(chosen.rank), f"{chosen.reg:.3g}", *cells, f"{seconds:.1f}"]
                leaders.append(row)
    return leaders


def _gain(found: Gain | None) -> str:
    if found is None:
        return "failed"
    return f"{found.mean:+.4f} ({found.error:.4f}){'*' if abs(found.mean) > 2 * found.error else ''}"


def record(lines: Sequence[Line], metric: str) -> dict[str, Any]:
    """Everything in the tables, for JSON."""
    names = [name for line in lines for run in line.fitted for name in run["test"]]
    return {
        "metric": metric,
        "lines": [
            {
                "family": line.family,
                "weights": line.scheme,
                "rank": line.rank,
                "reg": line.reg,
                "validation": line.validation,
                "test": {
                    name: dict(zip(("mean", "standard_error", "deviation_over_seeds"), line.test(name), strict=True))
                    for name in dict.fromkeys(names)
                }
                if line.fitted
                else None,
                "seconds": [run["seconds"] for run in line.runs],
                "residual": [run["residual"] for run in line.fitted],
                "failed": [run["failed"] for run in line.runs if run["failed"]],
            }
            for line in lines
        ],
        "gains": [
            {
                "family": plain.family,
                "rank": plain.rank,
                "weights": each.weighted.scheme,
                "mean": each.mean,
                "standard_error": each.error,
            }
            for plain, found in gains(lines)
            for each in found
        ],
    }


def write_plot(lines: Sequence[Line], metric: str, ranks: Sequence[int], name: str, path: Any) -> None:
    """Gain of weighting against rank, one line a regularizer; full rank at the right end."""
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    by_family: dict[str, list[tuple[int, Gain]]] = {}
    for plain, found in gains(lines):
        if (chosen := best(found)) is not None:
            by_family.setdefault(plain.family, []).append((plain.rank, chosen))
    for number, (family, points) in enumerate(by_family.items()):
        full = family.startswith(FULL)
        shift = 1.02 ** (number - len(by_family) / 2)  # error bars beside each other
        x = [rank * shift for rank, _ in points]
        style = {"marker": "D" if full else "o", "linestyle": "--" if family.startswith("symmetric") else "-"}
        axes.errorbar(
            x, [each.mean for _, each in points], [each.error for _, each in points], capsize=3, label=family, **style
        )
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_xscale("log", base=2)
    ticks = [*ranks, *{rank for points in by_family.values() for rank, _ in points if rank not in ranks}]
    axes.set_xticks(ticks, [str(rank) if rank in ranks else f"{rank}\n(full)" for rank in ticks])
    axes.minorticks_off()
    axes.set(
        xlabel="rank", ylabel=f"gain in {metric} (± standard error)", title=f"What the best weights gain on {name}"
    )
    figure.legend(loc="outside right upper", fontsize="small")
    write(figure, path)
