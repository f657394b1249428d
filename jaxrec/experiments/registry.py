"""The registry of experiments: what each shows, what it needs, what it costs, and how it is run."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from jaxrec import _checks, saving
from jaxrec._checks import InputError
from jaxrec.experiments.harness import published
from jaxrec.experiments.harness.cells import Cells, machine
from jaxrec.experiments.harness.datasets import (
    AMAZON_BOOK,
    AMAZON_HOME,
    CITEULIKE_A,
    GOWALLA,
    LASTFM,
    ML1M,
    ML20M,
    MSD,
    MSWEB,
    NETFLIX,
    DataSet,
    Prepared,
)
from jaxrec.experiments.harness.outcome import Outcome, Published, compared, comparison
from jaxrec.experiments.harness.replies import DRAWN, RECORDED, PreparedReplies, Replies
from jaxrec.runtime.files import write_json, write_text

ScaleName = Literal["smoke", "small", "full"]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment of a paper: `run(data, scale, cells, say) -> Outcome` in a file or folder of its own.

    Beside `run` is `VERSION`, which changes with the results.

    Attributes:
      name: what it is called on the command line.
      paper: title, place and number.
      shows: the question that it answers.
      data: the data sets it is run on, if they are at hand; none for a simulation.
      smoke: what the smallest scale is run on; None for a simulation.
      cost: of the small scale, on which machine.
      expected: what the paper says, with the source of that.
      published: figures of the same data and protocols, which ours are set beside.
      shares_cells_with: the experiment in whose folder its cells are, if the two have rows in common.
      module: its file or folder in `jaxrec.experiments`, if it is not called as the experiment.
    """

    name: str
    paper: str
    shows: str
    data: tuple[DataSet | Replies, ...]
    smoke: DataSet | Replies | None
    cost: str
    expected: str
    published: tuple[Published, ...] = ()
    shares_cells_with: str | None = None
    module: str = ""

    @property
    def runs_on(self) -> str:
        """The names of its data sets, as text."""
        return ", ".join(each.name for each in self.data) or "simulated"

    def implementation(self) -> Any:
        """The module, imported when it is needed."""
        return importlib.import_module(f"jaxrec.experiments.{self.module or self.name.replace('-', '_')}")


ALL = (
    Experiment(
        name="weighting",
        paper="Does Weighting Improve Matrix Factorization for Recommender Systems? (WWW 2025, arXiv 2510.10440)",
        shows="what weights of the errors gain, by family of models, regularizer and rank",
        data=(ML1M, LASTFM, CITEULIKE_A, ML20M, NETFLIX, MSD),
        smoke=MSWEB,
        cost="about an hour a data set on two cores",
        expected="unweighted is comparable or better for large models; weights help those of low capacity, and with "
        "some regularizers (the abstract; the paper's tables could not be read, so they are not compared)",
    ),
    Experiment(
        name="cosine",
        paper="Is Cosine-Similarity of Embeddings Really About Similarity? (WWW 2024 Companion, arXiv 2403.05440)",
        shows="that one recommender has many cosines: heat maps of similarities on simulated clusters",
        data=(),
        smoke=None,
        cost="half a minute on two cores",
        expected="Figure 1, in kind: under the first objective the similarities depend on an arbitrary choice, under "
        "the second they do not (the paper's generator could not be read: ours is a reading of it)",
    ),
    Experiment(
        name="ease",
        paper="Embarrassingly Shallow Autoencoders for Sparse Data (WWW 2019, arXiv 1905.03375)",
        shows="EASE beside popularity, item kNN, PureSVD, WMF, SLIM, EASE >= 0, Mult-DAE and Mult-VAE, each tuned",
        data=(ML1M, LASTFM, CITEULIKE_A, GOWALLA, AMAZON_BOOK, AMAZON_HOME, ML20M, NETFLIX, MSD),
        smoke=MSWEB,
        cost="three quarters of an hour on two cores for data of a few thousand items; hours for gowalla",
        expected="recall@50 of EASE above that of WMF on all three sets, by most on MSD, and above that of SLIM on the "
        "two where it is given (EASE read on a benchmark page, the others on the poster of the MRF paper; the rest of "
        "Table 2 could not be read); for gowalla the BARS leaderboard",
        published=published.EASE,
    ),
    Experiment(
        name="mrf",
        paper="Markov Random Fields for Collaborative Filtering (NeurIPS 2019, arXiv 1910.09645)",
        shows="what sparse weights lose in accuracy and gain in time, by density and r, beside dense EASE",
        data=(GOWALLA, AMAZON_BOOK, ML20M, NETFLIX, MSD),
        smoke=MSWEB,
        cost="a quarter of an hour a data set on two cores, most of it dense EASE",
        expected="the poster's table on MSD: at a density of 0.5 % up to 1.4 % of recall@50 is lost, at 0.1 % up to "
        "3 %, in 1/8 and 1/24 of the time with r = 0.5 (read on the poster and in the author's notebook)",
        published=published.MRF,
    ),
    Experiment(
        name="edlae",
        paper="Autoencoders that don't overfit towards the Identity (NeurIPS 2020)",
        shows="what it gains to leave the diagonal out of the loss, by rank, and whether similar items look alike then",
        data=(ML1M, LASTFM, CITEULIKE_A, ML20M, NETFLIX, MSD),
        smoke=MSWEB,
        cost="a quarter of an hour for data of a few thousand items on one core",
        expected="Table 1: EDLAE above free diagonals, full rank above low rank; Figure 1: cosines of similar items "
        "near 1 with a free diagonal, near 0 without, above all in the encoder (read in the author's notebook, on MSD)",
        published=published.EDLAE,
    ),
    Experiment(
        name="regularization",
        paper="On the Regularization of Autoencoders (arXiv 2110.11402), first result",
        shows="that no autoencoder, however deep, fits the training data better than the linear one of its last hidden "
        "width, what that means on test users, and that it ends with another target than the input (second result: "
        "regularization-low-rank)",
        data=(ML1M, LASTFM, CITEULIKE_A, ML20M, NETFLIX, MSD),
        smoke=MSWEB,
        cost="half an hour a data set of a few thousand items on one core",
        expected="with the input as the target, deep nonlinear autoencoders fit the training data no better than "
        "linear ones whose only hidden layer is as wide as their last one; supervised networks are free of that (the "
        "abstract; figures and the list of assumptions could not be read, so that the nets are a choice of ours)",
    ),
    Experiment(
        name="regularization-low-rank",
        paper="On the Regularization of Autoencoders (arXiv 2110.11402), second result",
        shows="how close closed forms of the low-rank EDLAE come to its optimum, at every rank, in loss and accuracy",
        data=(ML1M, LASTFM, CITEULIKE_A, ML20M, NETFLIX, MSD),
        smoke=MSWEB,
        cost="an hour a data set of a few thousand items on two cores",
        expected="an accurate approximation in closed form across all model ranks (the abstract; equations and figures "
        "could not be read: the forms here are derived, and none is claimed to be the paper's)",
        module="low_rank",
    ),
    Experiment(
        name="deep-vs-linear",
        paper="Variational Autoencoders for Collaborative Filtering (WWW 2018, arXiv 1802.05814) and Embarrassingly "
        "Shallow Autoencoders for Sparse Data (WWW 2019, arXiv 1905.03375)",
        shows="what accuracy costs: deep autoencoders beside EASE, EDLAE and iALS, with time, memory and tuning",
        data=(ML1M, LASTFM, CITEULIKE_A, GOWALLA, AMAZON_BOOK, AMAZON_HOME, ML20M, NETFLIX, MSD),
        smoke=MSWEB,
        cost="twenty minutes for data of a few thousand users and items on one core; hours for larger ones, where a "
        "training of a network ends after some twenty minutes of a core",
        expected="Mult-VAE above EASE on ML-20M, below it on Netflix and by most on MSD; RecVAE above both on ML-20M "
        "and level with EASE on Netflix (EASE read on a benchmark page, Mult-VAE and RecVAE in the VASP paper, MSD on "
        "the poster of the MRF paper)",
        published=published.DEEP,
        shares_cells_with="ease",
    ),
    Experiment(
        name="zero-shot",
        paper="Large Language Models as Zero-Shot Conversational Recommenders (CIKM 2023, arXiv 2308.10053)",
        shows="what recorded replies are worth, for new targets and repeated ones, by the paper's rules and strict "
        "ones, with probes of the context and what is recommended to all together",
        data=(RECORDED,),
        smoke=DRAWN,
        cost="half a minute for three runs on INSPIRED on two cores",
        expected="GPT-4 above the others; figures of new targets far below those of all, of which repeating what was "
        "named explains a part; of item names alone less than half is left on ReDial and Reddit (the authors' recorded "
        "replies and result tables, in their repository; the paper's printed tables could not be read)",
        published=published.ZERO_SHOT,
    ),
    Experiment(
        name="crag",
        paper="Collaborative Retrieval for Large Language Model-based Conversational Recommender Systems (WWW 2025, "
        "arXiv 2502.14137)",
        shows="what each step of CRAG adds in a planted world with a simulated model, for films that it knows and "
        "newer ones, and that nothing is lost where the model errs",
        data=(),
        smoke=None,
        cost="five minutes on two cores",
        expected="in kind: without reflections (nR12) recall falls with the number of retrieved items, nR2 is above it "
        "and the full method highest; more is gained for films after the model's cut-off; before ranking anew "
        "the model copies the order of what was retrieved (read in the paper, whose results are bar charts without "
        "numbers, on Reddit and ReDial with GPT-4 and GPT-4o: no figure of ours is to be set beside them)",
    ),
)
EXPERIMENTS = {each.name: each for each in ALL}


def reproduce(
    name: str,
    data: str | Path = "data",
    out: str | Path = "reproductions",
    *,
    scale: ScaleName = "small",
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
      only: names of data sets, if not all of them are wanted. "smoke" and simulations have no choice of them.
      say: told what is done, a line at a time.

    Returns:
      By data set, the folder with table.md, results.json and the plots.

    Raises:
      InputError: the experiment or a data set does not exist, or no data set is at hand: says which file is missing
        and where it belongs.
    """
    _checks.one_of("experiment", name, tuple(EXPERIMENTS))
    _checks.one_of("scale", scale, get_args(ScaleName))
    experiment = EXPERIMENTS[name]
    if not experiment.data:
        if only:
            raise InputError(f"{name} simulates its data and has no data sets to choose from; leave out only.")
        return {"simulated": _run(experiment, None, scale, Path(out), say)}
    if scale == "smoke":
        assert experiment.smoke is not None
        chosen = [experiment.smoke]
        if set(only) - {experiment.smoke.name}:
            raise InputError(
                f"{name} at scale smoke always takes {experiment.smoke.name}, got only={', '.join(only)}; leave out "
                "only, or choose scale small or full."
            )
    else:
        chosen = _at_hand(experiment, Path(data), only, say)
    return {each.name: _run(experiment, each.prepare(Path(data)), scale, Path(out), say) for each in chosen}


def _at_hand(
    experiment: Experiment, folder: Path, only: Sequence[str], say: Callable[[str], None]
) -> list[DataSet | Replies]:
    """The data sets to run on; all that `only` asks for must be there, else at least one."""
    for wanted in only:
        _checks.one_of(f"data set of {experiment.name}", wanted, tuple(each.name for each in experiment.data))
    asked = [each for each in experiment.data if not only or each.name in only]
    chosen = [each for each in asked if each.find(folder) is not None]
    missing = ", ".join(f"{each.name} ({' or '.join(each.files)})" for each in asked if each not in chosen)
    if not chosen or (only and missing):
        raise InputError(
            f"{experiment.name} needs data that are not in the folder {folder}: {missing}; put "
            f"{'them' if only else 'one of them'} there, or name another folder."
        )
    if missing:
        say(f"not at hand, left out: {missing}")
    return chosen


def _run(
    experiment: Experiment,
    prepared: Prepared | PreparedReplies | None,
    scale: ScaleName,
    out: Path,
    say: Callable[[str], None],
) -> Path:
    """One data set, or one simulation: the folder of its files, below `out`."""
    module = experiment.implementation()
    below = Path(scale) if prepared is None else Path(scale) / prepared.source.name
    target = out / experiment.name / below
    target.mkdir(parents=True, exist_ok=True)
    belongs_to: dict[str, Any] = {"version": module.VERSION}
    summary: dict[str, Any] = {"paper": experiment.paper, "scale": scale}
    if prepared is not None:
        belongs_to["data"] = prepared.fingerprint
        summary |= {"data": prepared.summary(), "prepared": prepared.source.described()}
        say(prepared.said)
    cells = Cells(out / (experiment.shares_cells_with or experiment.name) / below / "cells", belongs_to)
    outcome: Outcome = module.run(prepared, scale, cells, say)
    table = outcome.table
    if prepared is not None:
        same = [each for each in experiment.published if each.data == prepared.source.name]
        if beside := compared(same, outcome.figures):
            summary["published"] = beside
            table += "\n".join(
                ["", "Beside published figures of the same data and protocol.", "", *comparison(beside), ""]
            )
    made_by = {"versions": saving.versions(), "machines": cells.machines or [machine()]}
    write_json(target / "results.json", {**summary, **outcome.record, **made_by})
    write_text(target / "table.md", table)
    for plot, draw in outcome.plots.items():
        draw(target / f"{plot}.png")
    counted = f"{cells.computed} cells computed, {cells.reused} found; " if cells.computed or cells.reused else ""
    say(f"{counted}results in {target}")
    return target
