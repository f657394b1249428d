"""Experiments: cells that survive a kill, a walk that finds its optimum, tables that mean what they say."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrec import InputError, cli
from jaxrec.experiments import EXPERIMENTS, reproduce
from jaxrec.experiments.harness.cells import Cells, climb
from jaxrec.experiments.harness.datasets import STRONG
from jaxrec.experiments.harness.trials import Tuned
from jaxrec.experiments.weighting import experiment as weighting
from jaxrec.experiments.weighting.report import best, gain, gains, record, scheme, table, write_plot


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of one run at the smallest scale, and what it said."""
    out, said = tmp_path_factory.mktemp("smoke"), []
    folder = reproduce("weighting", out=out, scale="smoke", say=said.append)["msweb"]
    return folder, said, out


def test_a_cell_is_computed_once(tmp_path):
    cells = Cells(tmp_path / "cells", {"data": "abc"})
    settings = {"family": "full rank, L2", "reg": 0.1, "rank": 3}
    asked = []

    def compute():
        asked.append(1)
        return {"value": 0.1 + 0.2, "none": None}

    first = cells.get(settings, compute)
    assert first == cells.get(settings, compute) == {"value": 0.1 + 0.2, "none": None}
    assert len(asked) == 1 and (cells.computed, cells.reused) == (1, 1)
    (file,) = (tmp_path / "cells").iterdir()
    assert file.name == "family-full-rank-L2-reg-0.1-rank-3.json"


def test_cells_of_other_data_and_broken_ones_are_refused(tmp_path):
    Cells(tmp_path, {"data": "abc"}).get({"k": 1}, lambda: {})
    with pytest.raises(InputError, match="belongs to other data"):
        Cells(tmp_path, {"data": "xyz"}).get({"k": 1}, lambda: {})
    (tmp_path / "k-1.json").write_text('{"settings": ')
    with pytest.raises(InputError, match="no cell of an experiment"):
        Cells(tmp_path, {"data": "abc"}).get({"k": 1}, lambda: {})


def test_a_failed_computation_leaves_no_cell(tmp_path):
    cells = Cells(tmp_path, {})
    with pytest.raises(ZeroDivisionError):
        cells.get({"k": 1}, lambda: {"value": 1 / 0})
    assert cells.get({"k": 1}, lambda: {"value": 1}) == {"value": 1}


@pytest.mark.parametrize(("peak", "start"), [(0, 0), (5, 0), (-4, 1), (3, 8)])
def test_the_walk_ends_on_the_hill(peak, start):
    asked = []

    def score(number):
        asked.append(number)
        return -abs(number - peak)

    assert climb(score, start, 12) == peak
    assert len(asked) == len(set(asked)) <= 12
    assert {peak - 1, peak + 1} <= set(asked)


def test_the_walk_is_bounded_and_passes_over_failures():
    asked = []

    def endless(number):
        asked.append(number)
        return float(number)

    assert climb(endless, 0, 5) == 4 and len(asked) == 5
    assert climb(lambda number: -math.inf if number > 1 else number, 0) == 1
    assert climb(lambda number: -math.inf, 3) == 3
    assert climb(lambda number: min(-number, -2), 7) == 2  # down from where nothing differs


def cell(users, validation=0.1, failed=None):
    if failed:
        return {"failed": failed, "seconds": 1.0}
    mean = np.nanmean(np.array(users, float))
    test = {name: [mean, 0.01] for name in STRONG}
    return {"failed": None, "users": users, "validation": validation, "test": test, "seconds": 1.0, "residual": 1e-7}


def line(name, weights, rank, reg, *runs):
    settings = {"reg": reg, "rank": rank} | ({"weights": weights} if weights else {})
    return Tuned(name, settings, None, runs)


def lines():
    return [
        line("symmetric, L2", "none", 16, 10.0, cell([0.1, 0.3, None, 0.2]), cell([0.3, 0.3, None, 0.2])),
        line("symmetric, L2", "alpha = 4", 16, 3.0, cell([0.3, 0.4, None, 0.3], 0.3)),
        line("symmetric, L2", "alpha = 16", 16, 3.0, cell([0.2, 0.3, None, 0.2], 0.2)),
        line("full rank, diagonal 0", "none", 50, 100.0, cell([0.5, 0.5, None, 0.4], 0.5)),
        line("full rank, diagonal 0", "alpha = 4", 50, 100.0, cell([], failed="not_finite: raise reg")),
        line("EDLAE", "", 50, 100.0, cell([0.5, 0.6, None, 0.4], 0.6)),
    ]


def test_gains_are_paired_and_their_best_is_chosen_on_validation():
    plain, four, _, full, failed, _ = lines()
    found = gain(plain, four)
    differences = np.array([0.3 - 0.2, 0.4 - 0.3, 0.3 - 0.2])  # the first user: mean over both seeds
    assert found.mean == pytest.approx(differences.mean())
    assert found.error == pytest.approx(differences.std(ddof=1) / math.sqrt(3), abs=1e-12)
    assert gain(full, failed) is None
    by_family = {line.name: each for line, each in gains(lines())}
    assert scheme(best(by_family["symmetric, L2"]).weighted) == "alpha = 4"
    assert best(by_family["full rank, diagonal 0"]) is None
    (tested, *_) = record(lines(), "ndcg@100")["lines"]
    assert tested["test"]["ndcg@100"]["deviation_over_seeds"] == pytest.approx(np.std([0.2, 0.8 / 3], ddof=1))


def test_table_record_and_plot(tmp_path):
    text = table(lines(), STRONG)
    assert "| EDLAE | - | 50 | 100 | 0.5000 ± 0.0100 |" in text
    assert "| full rank, diagonal 0 | 50 | 0.4667 | failed |" in text
    assert "+0.1000 (0.0000)*" in text
    kept = record(lines(), "ndcg@100")
    json.dumps(kept["gains"], allow_nan=False)
    assert kept["lines"][4]["failed"] == ["not_finite: raise reg"] and kept["lines"][4]["test"] is None
    write_plot(lines(), "ndcg@100", [16], "toy", tmp_path / "gain.png")
    assert (tmp_path / "gain.png").stat().st_size > 10_000


@pytest.mark.slow
def test_smoke_covers_every_family_and_says_what_it_does(smoke):
    folder, said, _ = smoke
    results = json.loads((folder / "results.json").read_text())
    families = {line["family"] for line in results["lines"]}
    assert families == {*weighting.FAMILIES, "popularity", "EDLAE", "iALS"}
    assert not any(line["failed"] for line in results["lines"])
    assert results["data"]["name"] == "msweb" and results["scale"] == "smoke"
    assert (folder / "gain.png").exists() and "Gain of weights" in (folder / "table.md").read_text()
    assert len(said) == len(results["lines"]) + 2  # its sizes, and where the results are


@pytest.mark.slow
def test_a_second_run_finds_every_cell(smoke):
    folder, _, out = smoke
    before = (folder / "table.md").read_text()
    again = []
    reproduce("weighting", out=out, scale="smoke", say=again.append)
    assert "0 cells computed" in again[-1]
    assert (folder / "table.md").read_text() == before


@pytest.mark.slow
def test_a_killed_sweep_goes_on(smoke, tmp_path):
    """Killed after its third cell; the second run computes the others, and ends with the same table."""
    folder, _, _ = smoke
    code = f"""
import os, signal
from jaxrec.experiments import reproduce
from jaxrec.experiments.harness import cells
write = cells.write_json
def write_and_die(*arguments):
    write(*arguments)
    write_and_die.calls += 1
    if write_and_die.calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
write_and_die.calls = 0
cells.write_json = write_and_die
reproduce("weighting", out={str(tmp_path)!r}, scale="smoke")
"""
    killed = subprocess.run([sys.executable, "-c", code], timeout=1000, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert killed.returncode == -signal.SIGKILL
    stored = tmp_path / "weighting" / "smoke" / "msweb" / "cells"
    assert len(list(stored.glob("*.json"))) == 3
    for cell in (
        folder / "cells"
    ).iterdir():  # all others but one as if computed: what counts is that they are taken up
        if not (stored / cell.name).exists() and "iALS" not in cell.name:
            (stored / cell.name).write_bytes(cell.read_bytes())
    said = []
    reproduce("weighting", out=tmp_path, scale="smoke", say=said.append)
    assert "0 cells computed" not in said[-1]
    results = [json.loads((each / "results.json").read_text()) for each in (folder, stored.parent)]
    first, second = ([(line["family"], line["reg"], line["test"]) for line in each["lines"]] for each in results)
    assert first == second


def test_cosine_in_small(tmp_path):
    folder = reproduce("cosine", out=tmp_path, scale="smoke")["simulated"]
    checks = json.loads((folder / "results.json").read_text())["checks"]
    assert checks["largest deviation from the identity"] < 1e-5
    assert checks["all dimensions: furthest outside the range"] < 1e-12
    assert checks["two dimensions: furthest outside the range"] < 1e-12
    assert "Gauge report: second objective" in (folder / "table.md").read_text()
    assert (folder / "cosines.png").stat().st_size > 10_000


def test_data_that_are_missing_are_named(tmp_path):
    with pytest.raises(InputError, match=r"not in the folder .*ml1m \(ml1m.npz or ml-1m/ratings.dat\)"):
        reproduce("weighting", tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"citeulike_a .*put them there"):
        reproduce("weighting", tmp_path, tmp_path, only=["citeulike_a"])
    with pytest.raises(InputError, match="experiment must be one of weighting, cosine"):
        reproduce("nothing")
    with pytest.raises(InputError, match="data set of weighting must be one of"):
        reproduce("weighting", only=["msweb"])


def test_a_choice_of_data_is_refused_where_there_is_none(tmp_path):
    with pytest.raises(InputError, match="weighting at scale smoke always takes msweb, got only=ml1m; leave out only"):
        reproduce("weighting", out=tmp_path, scale="smoke", only=["ml1m"])
    with pytest.raises(InputError, match="cosine simulates its data"):
        reproduce("cosine", out=tmp_path, scale="smoke", only=["ml1m"])
    assert not list(tmp_path.iterdir())


def test_the_command_lists_and_refuses(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and experiment.paper[:40] in listed for name, experiment in EXPERIMENTS.items())
    assert cli.main(["reproduce"]) == 1
    assert "needs the name of an experiment" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_the_tables(smoke, capsys):
    _, _, out = smoke
    assert cli.main(["reproduce", "weighting", "--scale", "smoke", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "0 cells computed" in printed and "| EDLAE |" in printed
    assert Path(out, "weighting", "smoke", "msweb", "gain.png").exists()
