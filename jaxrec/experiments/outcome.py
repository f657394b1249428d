"""What an experiment returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an experiment found on one data set.

    Attributes:
      table: in Markdown.
      record: for JSON.
      plots: by name without ending, functions that draw to a path.
    """

    table: str
    record: dict[str, Any]
    plots: dict[str, Callable[[Any], None]]


def rows(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
