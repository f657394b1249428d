"""The experiment on depth: what its smoke run holds, which trainings it makes, and that a broken bound is shouted."""

import dataclasses
import json
import math

import numpy as np
import pytest

from jaxrec import FitError, Interactions
from jaxrec.closed_form import bounds
from jaxrec.closed_form.spectral import eigenpairs
from jaxrec.deep import excess
from jaxrec.experiments import reproduce
from jaxrec.experiments.regularization import networks as regularization_networks
from jaxrec.experiments.regularization.experiment import SCALES, settings
from jaxrec.experiments.regularization.networks import Setting, Supervised, divided, linear_network, predict
from jaxrec.experiments.regularization.report import TrainingResult, broken, contrasted, of_settings, verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of one smoke run."""
    return reproduce("regularization", out=tmp_path_factory.mktemp("depth"), scale="smoke")["msweb"]


@pytest.mark.slow
def test_smoke_leaves_two_plots_a_table_and_a_bound_that_holds(folder):
    results = json.loads((folder / "results.json").read_text())
    assert all((folder / f"{plot}.png").stat().st_size > 10_000 for plot in ("depth", "accuracy"))
    assert len(results["trainings"]) == 1 and not any(each["failed"] for each in results["trainings"])
    assert results["smallest_ratio"] > 1 - 1e-5 and results["below_the_bound"] == 0
    optimum = next(each for each in results["references"] if each["line"] == "linear optimum")
    assert optimum["ratio"] == pytest.approx(1, abs=1e-6)
    for each in results["supervised"]:
        assert each["floor"] < each["linear"] and each["ratio"] == pytest.approx(each["loss"] / each["linear"])
    text = (folder / "table.md").read_text()
    assert "None of" in text and "is below the linear bound" in text


@pytest.mark.slow
def test_a_second_run_computes_nothing(folder):
    before, said = (folder / "table.md").read_text(), []
    reproduce("regularization", out=folder.parents[2], scale="smoke", say=said.append)
    assert "0 cells computed" in said[-1] and (folder / "table.md").read_text() == before


@pytest.mark.parametrize("scale", SCALES)
def test_settings_vary_everything_and_repeat_nothing(scale):
    plan = SCALES[scale]
    found = settings(plan, plan.widths)
    assert len(set(found)) == len(found) and found == settings(plan, plan.widths)
    for name, values in {
        "depth": plan.depths,
        "activation": plan.activations,
        "width": plan.widths,
        "optimizer": plan.optimizers,
        "seed": range(plan.seeds),
    }.items():
        assert {getattr(each, name) for each in found} == set(values)
    assert all((each.hidden == 0) == (each.depth == 1) for each in found)
    if scale == "small":
        assert 30 <= len(found) <= 50


@pytest.mark.parametrize("depth", (1, 3))
def test_the_last_hidden_layer_has_the_width_and_the_activation_follows_it(depth):
    shape = Setting(depth, "relu", 4, 9 if depth > 1 else 0).method(1, 1).architecture(20)
    assert shape.encoder[-1] == 4 and len(shape.encoder) == depth and not shape.decoder
    assert shape.code == "activated" and shape.widths[-1] == (4, 20)


@pytest.mark.parametrize("width", (1, 5))
def test_the_optimum_as_a_network_is_at_the_bound(data, width):
    found = excess(linear_network(data, eigenpairs(data, 8, centred=True), width), data)
    assert found.ratio == pytest.approx(1, abs=1e-6)


@pytest.fixture
def exclusive_or():
    """Users with one of two items have a third, those with both or none have not: no linear map explains any of it."""
    a, b = np.arange(100) // 2 % 2, np.arange(100) % 2
    x = np.stack([a, b, a ^ b], axis=1)
    data = Interactions.from_triples(*np.nonzero(x), n_users=100, n_items=3)
    inputs, targets = data.select_items(np.arange(2)), data.select_items(np.arange(2, 3))
    spectra = bounds.explained(inputs, targets, bias=True), bounds.spectrum(targets, 1, bias=True)
    return Supervised(inputs, targets, *spectra)


def test_linear_networks_end_at_the_reduced_rank_and_others_below_it(exclusive_or, monkeypatch):
    monkeypatch.setitem(regularization_networks.LEARNING_RATES, "adam", 0.03)
    assert exclusive_or.linear(1) == pytest.approx(25) and exclusive_or.floor(1) == pytest.approx(0, abs=1e-9)
    linear, tanh = (predict(Setting(2, name, 1, 16), exclusive_or, 80, 100)["ratio"] for name in ("linear", "tanh"))
    assert 1 - 1e-5 < linear < 1.1 and tanh < 0.9


def test_a_training_that_fails_says_so(exclusive_or):
    targets = dataclasses.replace(exclusive_or.targets, values=exclusive_or.targets.values * 1e30)
    with pytest.raises(FitError, match="not finite"):
        predict(Setting(2, "linear", 1, 16), exclusive_or._replace(targets=targets), 2, 100)


def test_items_are_divided_once_and_for_all(data):
    parts, again = divided(data, 8, 4), divided(data, 8, 4)
    assert (parts.inputs.n_items, parts.targets.n_items) == (8, 16) and parts.inputs.nnz + parts.targets.nnz == data.nnz
    assert parts.inputs.fingerprint == again.inputs.fingerprint
    assert parts.linear(4) == pytest.approx(bounds.reduced_rank(parts.inputs, parts.targets, 4, bias=True).value)
    assert parts.floor(4) < parts.linear(4)


def found(ratio, seed=0, activation="relu", failed=None):
    result = {"failed": failed, "ratio": ratio, "test": {"ndcg@100": [0.4 + ratio / 100, 0.01]}, "seconds": 2.0}
    return TrainingResult(Setting(2, activation, 8, 16, seed=seed), result | {"linear": 10.0, "floor": 4.0})


def test_what_is_below_the_bound_is_shouted():
    fine, rounding, wrong = found(1.2), found(1 - 1e-6), found(0.99, activation="tanh")
    assert broken([fine, rounding]) == [] and broken([fine, wrong, found(math.nan)])[0] == wrong
    assert "None of 2 trainings" in verdict([fine, rounding]) and "0.999999" in verdict([fine, rounding])
    assert "**BELOW THE BOUND**" in verdict([fine, wrong]) and "tanh" in verdict([fine, wrong])
    assert "1 did not converge" in verdict([fine, found(math.nan, failed="not finite")])


def test_seeds_make_one_line_and_the_contrast_is_counted():
    lines = of_settings(
        [found(1.2), found(1.4, seed=1), found(math.nan, activation="tanh", failed="diverged")], "ndcg@100"
    )
    assert "| 2 | relu | 8 | 16 | adam | 0 | 2 | 1.3000 (1.2000 to 1.4000) | 0.4130 ± 0.0100 | 2 |" in lines
    assert "failed: diverged" in lines[-1] and len(lines) == 4
    text = contrasted([found(0.9), found(1.1)])
    assert "1 of 2 networks" in text and "0.4000" in text
    assert "None of 1 trainings came below" in contrasted([found(1.1)])
