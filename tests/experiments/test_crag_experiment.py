"""The experiment on CRAG in small: the order of its variants, nothing lost, and a second run that computes nothing."""

import dataclasses
import json

import numpy as np
import pytest

from jaxrec.experiments import reproduce
from jaxrec.experiments.crag import experiment, report


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproductions")
    return reproduce("crag", out=out, scale="smoke")["simulated"], out


def test_every_step_adds_and_newer_films_gain_more(smoke):
    folder, _ = smoke
    summary = json.loads((folder / "results.json").read_text())["summary"]
    means = {name: figure[0] for name, figure in summary["recall"].items()}
    for k in (5, 10, 20):
        assert means[f"nR12 @{k}"] <= means[f"nR2 @{k}"] <= means[f"full @{k}"]
        assert summary["gain"][f"over zero-shot, after - before @{k}"][0] > 0
    assert means["full @5"] > means["nR2 @5"] > means["nR12 @5"]
    assert summary["copies before"] == 1 and summary["copies"] < 0.5


def test_nothing_is_lost_and_all_is_counted(smoke):
    folder, _ = smoke
    errors = json.loads((folder / "results.json").read_text())["summary"]["errors"]
    assert all(each["lost"] == 0 for each in errors.values()) and len(errors) == 7
    assert set(errors["none"]["counts"]) == {"requests", "requests that failed"}
    failed = errors["10 % failed requests"]["counts"]
    named = {what: count for what, count in failed.items() if not what.startswith("requests")}
    assert failed["requests that failed"] == sum(named.values()) > 0  # every failure has its way round
    table = (folder / "table.md").read_text()
    assert "| full - nR2 |" in table and "10 % typos" in table
    assert all((folder / f"{plot}.png").stat().st_size > 10_000 for plot in ("retrieved", "copies"))


def test_a_second_run_finds_every_cell(smoke):
    folder, out = smoke
    before, said = (folder / "table.md").read_text(), []
    reproduce("crag", out=out, scale="smoke", say=said.append)
    assert "0 cells computed, 6 found" in said[-1] and (folder / "table.md").read_text() == before


def test_what_is_lost_would_be_seen():
    planted = experiment.Planted(0, experiment.SCALES["smoke"])
    found = planted.recommended(experiment.Crag.ablation("nR12"))
    assert experiment.lost(found) == 0
    trace = found.traces[0]
    for damaged in (
        dataclasses.replace(trace, order=trace.order[1:]),
        dataclasses.replace(trace, suggestions=trace.suggestions[1:], order=trace.order[:-1]),
    ):
        assert experiment.lost(dataclasses.replace(found, traces=(damaged, *found.traces[1:]))) == 1


def test_an_interval_is_students():
    values = [0.1, 0.4, 0.2, 0.5]
    mean, half = report.interval(values)
    assert mean == pytest.approx(0.3)
    assert half == pytest.approx(3.182446 * np.std(values, ddof=1) / 2, rel=1e-6)  # t of 3 degrees, both tails of 5 %
    assert np.isnan(report.interval([0.1])[1])
