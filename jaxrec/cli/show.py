"""What the commands print: plain text of at most 80 columns, the same on a terminal and in a pipe."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxrec.data import Catalogue, Interactions
from jaxrec.data.splits import HeldOut, Split
from jaxrec.evaluation.ranking import Recommendations, recommend
from jaxrec.evaluation.report import Report
from jaxrec.models import Fitted


def lines(out: Console, entries: dict[str, str], width: int = 11) -> None:
    """Prints "name  text" lines, the names in one column of at least `width`, the text wrapped beside it."""
    width = 2 + max(width, *map(len, entries))
    for name, text in entries.items():
        label = Text(printable(name), "bold")
        # Rich counts the cells of a terminal, of which some letters take two.
        for line in Text(printable(text)).wrap(out, max(20, out.width - width)):
            label.pad_right(width - len(label))
            line.rstrip()
            out.print(label + line, soft_wrap=True)
            label = Text()


def printable(text: str) -> str:
    """The text without control characters, which in a title from a file could command the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def size(data: Interactions) -> str:
    """Users, items and interactions of a data set, in words."""
    density = data.nnz / max(1, data.n_users * data.n_items)
    return f"{data.n_users:,} users x {data.n_items:,} items, {data.nnz:,} interactions ({density:.2%})"


def division(name: str, parts: Split) -> str:
    """What a split trains and tests on, in words."""
    train, test = parts.train, parts.test
    testing = int(np.count_nonzero(test.targets.user_counts))
    return (
        f"{name}: train on {train.n_users:,} users, {train.nnz:,} interactions; "
        f"test on {testing:,} users, {test.targets.nnz:,} targets"
    )


def settings(chosen: dict[str, Any]) -> str:
    """Settings of a split and of a reader, in words."""
    words = {
        name: value for name, value in chosen.items() if name not in ("of", "part", "bundled") and value is not None
    }
    return ", ".join(f"{name}={value}" for name, value in words.items())


def duration(seconds: float) -> str:
    """Seconds, to a tenth if they are many; in one word, so that no line breaks before the unit."""
    return f"{seconds:.1f}s" if seconds >= 10 else f"{seconds:.2f}s"


def timings(seconds: dict[str, float], fit: dict[str, float] | None = None) -> str:
    """The stages of a command, with the stages of its fit in brackets."""
    inner = ", ".join(f"{name} {duration(taken)}" for name, taken in (fit or {}).items())
    return ", ".join(
        f"{name} {duration(taken)}{inner and f' ({inner})' if name == 'fit' else ''}" for name, taken in seconds.items()
    )


def amount(n_bytes: float | None) -> str:
    """Bytes in a fitting unit."""
    if n_bytes is None:
        return "unknown"
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def metrics_table(out: Console, reports: dict[str, Report]) -> None:
    """Prints the metrics of models over the same users, a column a model, with standard errors."""
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    table.add_column("metric")
    for label in reports:
        table.add_column(label, justify="right")
        table.add_column("std. error", justify="right")
    first = next(iter(reports.values()))
    for name in first.mean:
        cells = [name]
        for report in reports.values():
            error = report.standard_error[name]
            cells += [f"{report.mean[name]:.5f}", "-" if np.isnan(error) else f"{error:.5f}"]
        table.add_row(*cells)
    out.print(table)
    left_out = f"; {first.n_without_targets:,} more without targets are left out" if first.n_without_targets else ""
    out.print(f"Means over {first.n_users:,} users{left_out}.")
    for note in first.notes[bool(left_out) :]:
        lines(out, {"note": note}, width=2)


def ranking(out: Console, items: Catalogue, top: Recommendations, row: int, targets: Any = ()) -> None:
    """Prints one user's recommendations, best first; targets are marked with a star."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    for rank, (item, score) in enumerate(zip(top.items[row].tolist(), top.scores[row].tolist(), strict=True), 1):
        if item < items.n_items:
            mark = "*" if item in targets else ""
            table.add_row(f"{rank:4d}", mark, Text(printable(items.label(item))), Text(f"{score:z.3f}", "dim"))
    out.print(table if table.rows else "No item is left to recommend.")


def because(items: Catalogue, history: np.ndarray, at_most: int = 4) -> str:
    """The titles of a history, or the last few of them."""
    shown = "; ".join(items.label(item) for item in history[-at_most:].tolist())
    more = len(history) - at_most
    return shown + (f"; and {more} more" if more > 0 else "")


def samples(out: Console, fitted: Fitted, test: HeldOut, n: int, seed: int | None) -> None:
    """Prints recommendations for a few test users drawn at random from those with a history and targets."""
    candidates = np.flatnonzero((test.fold_in.user_counts > 0) & (test.targets.user_counts > 0))
    chosen = np.random.default_rng(seed or 0).permutation(candidates)[: max(0, n)]
    if len(chosen) == 0:
        return
    history, targets, items = test.fold_in.rows(chosen), test.targets.rows(chosen), fitted.info.items
    top = recommend(fitted, history, 5)
    out.print("\nSample recommendations (* is among the held-out targets)")
    for row, user in enumerate(chosen.tolist()):
        name = user if history.user_ids is None else history.user_ids[row]
        out.print()
        lines(out, {f"test user {name}": f"because of {because(items, _row(history, row))}"}, width=0)
        ranking(out, items, top, row, set(_row(targets, row).tolist()))


def memory(figures: dict[str, int | None]) -> str:
    """The peak, and what of it was there before any data, in words."""
    peak, before = figures.values()
    return f"peak {amount(peak)}, of which {amount(before)} Python and its libraries"


def written(out: Console, **paths: str | None) -> None:
    """Prints where results were written, if anywhere."""
    places = {f"{name} in": path for name, path in paths.items() if path is not None}
    if places:
        lines(out, places)


def _row(data: Interactions, user: int) -> np.ndarray:
    return data.indices[data.indptr[user] : data.indptr[user + 1]]
