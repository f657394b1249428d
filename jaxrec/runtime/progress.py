"""Progress bars: on the terminal, for work that lasts; silent everywhere else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

SHOW_AFTER_SECONDS = 1.0


@contextlib.contextmanager
def progress_bar(label: str, total: float) -> Iterator[Callable[..., None]]:
    """Yields `advance(amount, note=None)`, which moves a bar of length `total` on standard error.

    A note stands behind the label until another replaces it.

    Nothing is drawn if standard error is no terminal, nor for work that is over within a second.
    """
    if not sys.stderr.isatty():
        yield lambda amount, note=None: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=total)
    begun = time.perf_counter()
    try:

        def advance(amount: float, note: str | None = None) -> None:
            if not bar.live.is_started and time.perf_counter() - begun > SHOW_AFTER_SECONDS:
                bar.start()
            if note is not None:
                bar.update(task, description=f"{label}: {note}")
            bar.advance(task, amount)

        yield advance
    finally:
        bar.stop()
