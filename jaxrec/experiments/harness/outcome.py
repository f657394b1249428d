"""What an experiment returns: tables, records and plots of what was tuned, and published figures beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jaxrec.experiments.harness.trials import Tuned
from jaxrec.runtime.plots import new_figure, write

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
      line: the name of what it is of, in the table of the experiment.
      metric: in our names.
      value: as printed.
      source: where it was read.
      tolerance: how far ours may be; None if it is of another implementation, tuned otherwise, and only shown.
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
            ours = accuracy(each["ours"], each["standard_error"])
            apart = f"{each['standard_errors_apart']:+.1f}"
        if "within" in each:
            judged = f"{'yes' if each['within'] else 'no'} ({each['tolerance']:g})"
        lines.append([each["line"], each["metric"], f"{each['paper']:g}", ours, apart, judged, each["source"]])
    header = ["", "metric", "paper", "ours", "difference in standard errors", "within tolerance", "source"]
    return rows(header, lines)


FIT = "fit, s"  # the end of the header of the column that says why a line was left out
SECONDS = {f"a {FIT}": lambda line: f"{line.result['seconds']:.1f}"}


def measured(
    lines: Sequence[Tuned], metrics: Sequence[str], costs: Mapping[str, Callable[[Tuned], str]] = SECONDS
) -> list[str]:
    """A table of lines in Markdown: settings, test metrics with standard errors over users, and more columns.

    Args:
      lines: what was tuned; of a line that failed it is told why.
      metrics: of the test users.
      costs: by its header the text of a column, from a line that did not fail. One of them ends in `FIT`.
    """
    text = []
    for line in lines:
        if failed := line.result["failed"]:
            words = (f"left out: {failed}" if column.endswith(FIT) else "-" for column in costs)
            text.append([line.name, *["-"] * (1 + len(metrics)), *words])
        else:
            values = (accuracy(*line.test(name)) for name in metrics)
            text.append([line.name, line.described, *values, *(column(line) for column in costs.values())])
    return rows(["", "settings", *metrics, *costs], text)


def recorded(lines: Sequence[Tuned]) -> list[dict[str, Any]]:
    """The lines for JSON."""
    return [{"line": line.name, "settings": line.settings, **line.result} for line in lines]


def figures(lines: Sequence[Tuned]) -> Figures:
    """By line and metric the mean and its standard error, of the lines that did not fail."""
    return {line.name: {name: line.test(name) for name in line.result["test"]} for line in lines if line.fitted}


def accuracy(mean: float, error: float) -> str:
    """A metric with its standard error, in words."""
    return f"{mean:.4f} ± {error:.4f}"


@contextmanager
def panels(path: Any, size: tuple[float, float], n: int = 1, *, title: str = "", sharey: bool = False) -> Iterator[Any]:
    """The axes of n panels beside each other, to draw on; at the end their figure is written to the path."""
    figure = new_figure(*size)
    yield figure.subplots(1, n, sharey=sharey, squeeze=False)[0]
    if title:
        figure.suptitle(title)
    write(figure, path)


def rows(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
