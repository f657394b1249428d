"""The registry of experiments: what each shows, what it needs, what it costs, and how it is run."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxrec import _checks, io
from jaxrec._checks import InputError
from jaxrec._files import write_json, write_text
from jaxrec.experiments.cells import Cells
from jaxrec.experiments.datasets import DATA_SETS, MSWEB, Prepared

SCALES = ("smoke", "small", "full")
Scale = Literal["smoke", "small", "full"]


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


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment of a paper.

    Attributes:
      paper: title, place and number.
      shows: the question that it answers.
      data: names of the data sets it is run on, where they are at hand.
      cost: of the small scale, on which machine.
      expected: what the paper says, with the source of that.
      module: where `run(data, scale, cells, say) -> Outcome` is, and `VERSION`, which changes with the results.
    """

    paper: str
    shows: str
    data: tuple[str, ...]
    cost: str
    expected: str
    module: str

    def implementation(self) -> Any:
        """The module, imported when it is needed."""
        return importlib.import_module(self.module)


EXPERIMENTS = {
    "weighting": Experiment(
        paper="Does Weighting Improve Matrix Factorization for Recommender Systems? (WWW 2025, arXiv 2510.10440)",
        shows="what weights of the errors gain, by family of models, regularizer and rank",
        data=("ml1m", "lastfm_hetrec", "citeulike_a", "ml20m", "netflix", "msd"),
        cost="about an hour a data set on two cores",
        expected="unweighted is comparable or better for large models; weights help those of low capacity, and with "
        "some regularizers (the abstract; the paper's tables could not be read, so they are not compared)",
        module="jaxrec.experiments.weighting",
    ),
}


def reproduce(
    name: str,
    data: str | Path = "data",
    out: str | Path = "reproductions",
    *,
    scale: Scale = "small",
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Runs an experiment on every data set at hand; what an earlier run has computed is not computed again.

    Args:
      name: of `EXPERIMENTS`.
      data: the folder with the data sets. `scale="smoke"` takes bundled data instead.
      out: the folder that results go to, below it a folder for the experiment, the scale and the data set.
      scale: "smoke" shows in a minute that all works, its figures mean nothing; "small" is for two cores; "full" has
        the grids of a paper.
      only: names of data sets, where not all of them are wanted.
      say: told what is done, a line at a time.

    Returns:
      By data set, the folder with table.md, results.json and the plots.

    Raises:
      InputError: the experiment or a data set does not exist, or no data set is at hand: says which file is missing
        and where it belongs.
    """
    _checks.one_of("experiment", name, tuple(EXPERIMENTS))
    _checks.one_of("scale", scale, SCALES)
    experiment = EXPERIMENTS[name]
    for wanted in only:
        _checks.one_of(f"data set of {name}", wanted, experiment.data)
    folder = Path(data)
    if scale == "smoke":
        chosen = [MSWEB]
    else:
        asked = [DATA_SETS[each] for each in (only or experiment.data)]
        missing = [f"{each.name} ({' or '.join(each.files)})" for each in asked if each.find(folder) is None]
        chosen = [each for each in asked if each.find(folder) is not None]
        if not chosen or (only and missing):
            raise InputError(
                f"{name} needs data that are not in the folder {folder}: {', '.join(missing)}; put "
                f"{'one of them' if not only else 'them'} there, or name another folder."
            )
        if missing:
            say(f"not at hand, left out: {', '.join(missing)}")
    found = {}
    for source in chosen:
        prepared = source.prepare(folder)
        target = Path(out) / name / scale / source.name
        found[source.name] = _run(experiment, prepared, scale, target, say)
    return found


def _run(experiment: Experiment, prepared: Prepared, scale: Scale, target: Path, say: Callable[[str], None]) -> Path:
    module, train = experiment.implementation(), prepared.train
    say(f"{train.name}: {train.n_users:,} users x {train.n_items:,} items, {train.nnz:,} interactions to learn from")
    cells = Cells(target / "cells", {"data": train.fingerprint, "version": module.VERSION})
    outcome: Outcome = module.run(prepared, scale, cells, say)
    summary = {"data": train.summary(), "prepared": prepared.source.said(), "scale": scale}
    record = {"paper": experiment.paper, **summary, **outcome.record, "versions": io.versions()}
    write_json(target / "results.json", record)
    write_text(target / "table.md", outcome.table)
    for plot, draw in outcome.plots.items():
        draw(target / f"{plot}.png")
    say(f"{train.name}: {cells.computed} cells computed, {cells.reused} found; results in {target}")
    return target
