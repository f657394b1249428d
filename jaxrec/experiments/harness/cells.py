"""The cells of an experiment: each is computed once and written in one step, so that a killed sweep goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxrec._checks import InputError
from jaxrec.runtime.files import read_json, write_json
from jaxrec.runtime.threads import n_threads


def machine() -> dict[str, Any]:
    """What is computed on now."""
    return {"device": jax.devices()[0].device_kind, "devices": jax.device_count(), "threads": n_threads()}


class Cells:
    """A folder of results, one JSON file for each combination of settings.

    Attributes:
      folder: where the cells are; it is created.
      belongs_to: what all cells have in common, such as the fingerprint of the data; a folder serves one such thing.
      computed: how many cells this run has added.
      reused: how many cells it found.
      machines: what the cells that were asked for were computed on, each once.
    """

    def __init__(self, folder: Path, belongs_to: dict[str, Any]):
        self.folder, self.belongs_to = Path(folder), belongs_to
        self.computed = self.reused = 0
        self.machines: list[dict[str, Any]] = []
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, settings: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result for `settings`: the stored one, else what `compute` returns, which is stored.

        Args:
          settings: names and plain values; they also make the name of the file.
          compute: returns what JSON can hold.

        Raises:
          InputError: the stored file is damaged, or belongs to other data or another version of the experiment.
        """
        path = self.folder / f"{_name(settings)}.json"
        if path.exists():
            self.reused += 1
            return self._read(path, settings)
        result = compute()
        cell = {"settings": settings, "belongs_to": self.belongs_to, "machine": machine(), "result": result}
        write_json(path, cell)
        self.computed += 1
        return self._read(path, settings)  # what a later run will see, so that both come to the same

    def _read(self, path: Path, settings: dict[str, Any]) -> dict[str, Any]:
        try:
            stored = read_json(path)
            found, belongs_to, computed_on, result = (
                stored[name] for name in ("settings", "belongs_to", "machine", "result")
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no cell of an experiment; delete it, or give another folder.") from error
        if (found, belongs_to) != (settings, self.belongs_to):
            raise InputError(
                f"{path} belongs to other data or to another version of the experiment; give another folder, or delete "
                f"{self.folder}."
            )
        if computed_on not in self.machines:
            self.machines.append(computed_on)
        return result


def _name(settings: dict[str, Any]) -> str:
    words = (f"{name}-{f'{value:.6g}' if isinstance(value, float) else value}" for name, value in settings.items())
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", "_".join(re.sub(r"_", "-", word) for word in words)).strip("-")


def climb(score: Callable[[int], float], start: int, most: int = 12) -> int:
    """The whole number whose neighbours do not score more, walking uphill from `start`; on a plateau, downwards.

    Args:
      score: of a number; -inf if there is none. Each is asked for once.
      start: the first number.
      most: how many numbers are asked for at most.
    """
    known: dict[int, float] = {}

    def at(number: int) -> float:
        if number not in known and len(known) < most:
            known[number] = score(number)
        return known.get(number, float("-inf"))

    best, step = start, 1
    at(start)
    for _ in range(2 * most):
        here = at(best)
        if at(best + step) > here:
            best += step
        elif at(best - step) > here:
            best, step = best - step, -step
        elif at(best + step) == at(best - step) == here > float("-inf"):  # all so strong that nothing is left to tell
            best, step = best - 1, -1
        else:
            break
    return best
