"""What an experiment returns, and how it compares with what was published."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxrec.experiments.harness.trials import Line

Figures = dict[str, dict[str, tuple[float, float]]]  # mean and standard error, by line and metric


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an experiment found on one data set.

    Attributes:
      table: in Markdown.
      record: for JSON.
      plots: by name without ending, functions that draw to a path.
      figures: by line and metric the mean and its standard error, to compare with published figures.
    """

    table: str
    record: dict[str, Any]
    plots: dict[str, Callable[[Any], None]]
    figures: Figures = dataclasses.field(default_factory=dict)


class Published(NamedTuple):
    """A figure that was published for a data set and a protocol that are ours too.

    Attributes:
      data: name of the data set.
      line: what it is of, as in the table of the experiment.
      metric: in our names.
      value: as printed.
      source: where it was read.
      tolerance: how far ours may be; None where it is of another implementation, tuned otherwise, and only shown.
    """

    data: str
    line: str
    metric: str
    value: float
    source: str
    tolerance: float | None = None


def compared(published: Sequence[Published], figures: Figures) -> list[dict[str, Any]]:
    """Every published figure beside ours, as far as we have it; the difference also in standard errors of ours."""
    found = []
    for each in published:
        ours, error = figures.get(each.line, {}).get(each.metric, (None, None))
        beside: dict[str, Any] = {"line": each.line, "metric": each.metric, "paper": each.value, "source": each.source}
        if ours is not None and error is not None:
            difference = ours - each.value
            beside |= {"ours": ours, "standard_error": error, "standard_errors_apart": difference / error}
            if each.tolerance is not None:
                beside |= {"tolerance": each.tolerance, "within": abs(difference) <= each.tolerance}
        found.append(beside)
    return found


def comparison(beside: Sequence[dict[str, Any]]) -> list[str]:
    """What `compared` returned, in Markdown."""
    lines = []
    for each in beside:
        ours, apart, judged = "-", "-", "-"
        if "ours" in each:
            ours = f"{each['ours']:.4f} ± {each['standard_error']:.4f}"
            apart = f"{each['standard_errors_apart']:+.1f}"
        if "within" in each:
            judged = f"{'yes' if each['within'] else 'no'} ({each['tolerance']:g})"
        lines.append([each["line"], each["metric"], f"{each['paper']:g}", ours, apart, judged, each["source"]])
    header = ["", "metric", "paper", "ours", "difference in standard errors", "within tolerance", "source"]
    return rows(header, lines)


def measured(lines: Sequence[Line], metrics: Sequence[str]) -> list[str]:
    """A table of lines in Markdown: settings, test metrics with standard errors over users, seconds of a fit."""
    text = []
    for line in lines:
        if line.result["failed"]:
            text.append([line.name, *(["-"] * (1 + len(metrics))), f"left out: {line.result['failed']}"])
        else:
            values = ["{:.4f} ± {:.4f}".format(*line.result["test"][name]) for name in metrics]
            text.append([line.name, line.said, *values, f"{line.result['seconds']:.1f}"])
    return rows(["", "settings", *metrics, "a fit, s"], text)


def recorded(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines for JSON."""
    return [{"line": line.name, "settings": line.settings, **line.result} for line in lines]


def figures(lines: Sequence[Line]) -> Figures:
    """By line and metric the mean and its standard error, of the lines that did not fail."""
    return {
        line.name: {name: (mean, error) for name, (mean, error) in line.result["test"].items()}
        for line in lines
        if not line.result["failed"]
    }


def rows(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
