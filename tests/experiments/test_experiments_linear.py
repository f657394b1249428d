"""The experiments on linear models: what each smoke run holds, what the protocols do, what is compared with papers."""

import importlib.util
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import Ease, Interactions, Popularity, cli
from jaxrec.experiments import EXPERIMENTS, deep_vs_linear, ease, edlae, reproduce
from jaxrec.experiments.harness import published
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.datasets import FIXED, GOWALLA, MSD, DataSet, Prepared
from jaxrec.experiments.harness.fits import LeftOut, fit_within
from jaxrec.experiments.harness.outcome import Published, compared, comparison
from jaxrec.experiments.harness.trials import Contender, Scale, Trials
from jaxrec.experiments.low_rank import forms as low_rank_forms
from jaxrec.linear.low_rank_edlae import method as low_rank
from jaxrec.runtime.memory import Plan

NEW = ("ease", "mrf", "edlae", "regularization-low-rank")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of one smoke run of each experiment, made when it is asked for."""
    out, made = tmp_path_factory.mktemp("linear"), {}

    def folder(name):
        if name not in made:
            made[name] = reproduce(name, out=out, scale="smoke")["msweb"]
        return made[name]

    return folder


@pytest.mark.parametrize("name", NEW)
def test_smoke_leaves_a_table_a_record_and_a_plot_and_is_taken_up_again(name, folders):
    folder = folders(name)
    results = json.loads((folder / "results.json").read_text())
    assert results["scale"] == "smoke" and results["data"]["name"] == "msweb" and results["machines"][0]["threads"] >= 1
    assert any(path.suffix == ".png" and path.stat().st_size > 10_000 for path in folder.iterdir())
    before, said = (folder / "table.md").read_text(), []
    reproduce(name, out=folder.parents[2], scale="smoke", say=said.append)
    assert "0 cells computed" in said[-1]
    assert (folder / "table.md").read_text() == before


def lines_of(folder):
    return {line["line"]: line for line in json.loads((folder / "results.json").read_text())["lines"]}


def test_ease_has_every_line_and_none_fails(folders):
    lines = lines_of(folders("ease"))
    assert list(lines) == ["popularity", "item kNN", "PureSVD", "WMF", "SLIM", "EASE >= 0", "EASE", *ease.NETWORKS]
    assert not any(line["failed"] for line in lines.values())
    assert "WMF" in (folders("ease") / "table.md").read_text()


def test_mrf_without_loss_at_r_0_and_dense_beside_it(folders):
    lines = lines_of(folders("mrf"))
    gap = "objective gap over the pattern's optimum"
    assert next(iter(lines)) == "EASE, dense"
    assert lines["MRF 5 %, r = 0"]["detail"][gap] < 1e-6 < lines["MRF 5 %, r = 0.5"]["detail"][gap]
    assert lines["MRF 5 %, r = 0"]["detail"]["blocks"] > lines["MRF 5 %, r = 0.5"]["detail"]["blocks"]
    assert "| 1.000 | - | 1 |" in (folders("mrf") / "table.md").read_text()  # dense against itself


def test_low_rank_forms_are_in_order(folders):
    record = json.loads((folders("regularization-low-rank") / "results.json").read_text())
    excess = {point["form"]: point["result"]["excess"] for point in record["points"]}
    assert 0 < excess[low_rank_forms.FIXED] <= excess[low_rank_forms.CLOSED]
    for name in low_rank_forms.ONE_SHOTS:  # (e) is the best decoder, so never worse
        assert excess[low_rank_forms.CLOSED] <= excess[name] + 1e-6
    assert excess[low_rank_forms.CLOSED] < excess[low_rank_forms.DROPPED] < 1
    assert low_rank_forms.LBFGS in excess and low_rank_forms.ADMM in excess


def test_edlae_has_a_figure_of_every_model_and_gauge(folders):
    record = json.loads((folders("edlae") / "results.json").read_text())
    assert set(lines_of(folders("edlae"))) == {"LAE", "DLAE", "EASE", "EDLAE"} | {
        f"{kind}, rank 8" for kind in ("L2 on U and V", "L2 on UV'", "DLAE", "zero diagonal", "EASE", "EDLAE")
    }
    models = record["cosines"]["models"]
    assert set(models) == {f"{kind}, rank 8" for kind in edlae.FIGURE}
    for gauges in models.values():
        assert set(gauges) == set(edlae.GAUGES)
        for side in gauges["balanced"].values():
            assert sum(side["histogram"]) + side["items without"] == record["data"]["n_items"]


def test_the_most_similar_items_and_their_cosines(rng):
    weights, vectors = rng.normal(size=(9, 9)), rng.normal(size=(9, 4))
    vectors[3] = 0
    similar = edlae.most_similar(weights, 4, at_once=5)
    found = edlae.neighbourhood_cosines(vectors, similar, at_once=2)
    for item in range(9):
        others = sorted((other for other in range(9) if other != item), key=lambda other: -weights[other, item])
        group = [item, *others[:3]]
        assert set(similar[item]) == set(group)
        cosines = [
            vectors[i] @ vectors[j] / math.sqrt((vectors[i] @ vectors[i]) * (vectors[j] @ vectors[j]))
            for n, i in enumerate(group)
            for j in group[:n]
            if 3 not in group
        ]
        expected = np.median(cosines) if cosines else math.nan
        assert found[item] == pytest.approx(expected, nan_ok=True)


def test_the_zero_diagonal_alternation_falls_to_a_stationary_point(x64, data):
    x = data.to_csr(np.float64).toarray()
    x = x[:, x.any(axis=0)]
    reg, rank = 5.0, 4
    gram = x.T @ x
    problem = low_rank.prepare(jnp.asarray(gram), 0.0, reg)
    start = low_rank_forms._one_shot(problem, "eigen", rank, jax.random.key(0))[0]

    def loss(u, v):  # from the definition
        product = np.asarray(u) @ np.asarray(v).T
        return np.sum((x - x @ product) ** 2) + reg * np.sum(product**2)

    course = []
    for steps in (0, 1, 2, 5, 20, 3000):
        u, v = low_rank_forms._zero_diagonal(problem, start, steps)
        assert np.abs(np.sum(u * v, axis=1)).max() < 1e-10
        course.append(loss(u, v))
    assert np.all(np.diff(course) < 1e-9 * course[0])
    # The gradient in U V', but for a diagonal (the multipliers), vanishes on the columns of V and of U.
    u, v = np.asarray(u), np.asarray(v)
    gradient = gram @ (u @ v.T) + reg * (u @ v.T) - gram
    projected = v @ np.linalg.solve(v.T @ v, v.T)
    # diag(D(nu) K) = -diag(gradient K) fixes nu where the equations (gradient + D(nu)) V = 0 hold.
    nu = -np.sum(gradient * projected, axis=1) / np.diag(projected)
    rest = (gradient + np.diag(nu)) @ v
    assert np.linalg.norm(rest) < 1e-3 * np.linalg.norm(gradient @ v)


def test_low_rank_dlae_is_the_optimum_of_its_loss(data):
    """Its loss is below that of factors near it; at full rank it is DLAE."""
    model = low_rank_forms.LowRankDlae(5, 20.0, 0.3).fit(data)
    x = data.to_csr(np.float64).toarray()
    penalty = 20.0 + 0.3 / 0.7 * x.sum(axis=0)

    def loss(u, v):
        product = u @ v.T
        return np.sum((x - x @ product) ** 2) + np.sum(penalty[:, None] * product**2)

    u, v = (np.asarray(part, np.float64) for part in (model.encoder, model.decoder))
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert loss(u, v) < loss(u + 1e-2 * rng.normal(size=u.shape), v + 1e-2 * rng.normal(size=v.shape))
    full = low_rank_forms.LowRankDlae(24, 20.0, 0.3).fit(data)
    whole = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ x)
    np.testing.assert_allclose(np.asarray(full.encoder) @ np.asarray(full.decoder).T, whole, atol=1e-4)


def fixed_set(tmp_path, rng):
    """A data set with a split of its own, as gowalla has it, and its file."""
    pairs = np.unique(rng.integers(0, (60, 20), size=(900, 2)), axis=0)
    mark = (rng.random(len(pairs)) < 0.2).astype(np.uint8)
    arrays = {"user": pairs[:, 0].astype(np.int32), "item": pairs[:, 1].astype(np.int32), "split": mark}
    np.savez(tmp_path / "toy.npz", n_users=np.int32(60), n_items=np.int32(20), **arrays)
    return DataSet("toy", ("toy.npz",), n_heldout=0), mark


def test_a_fixed_split_tunes_on_a_tenth_of_its_training_data(tmp_path, rng):
    source, mark = fixed_set(tmp_path, rng)
    prepared = source.prepare(tmp_path)
    assert prepared.train.nnz == np.sum(mark == 0) and prepared.parts.validation is None
    assert source.metrics == GOWALLA.metrics == FIXED and "own split" in source.described()
    kept, (fold_in, targets), _ = prepared.tuning
    assert kept.nnz + targets.nnz == prepared.train.nnz and fold_in.fingerprint == kept.fingerprint
    trained = []

    class Watched(Ease):
        def fit(self, train, devices=None):
            trained.append((train.nnz, self.reg))
            return super().fit(train, devices)

    trials = Trials(prepared, Cells(tmp_path / "cells", {}), Scale(most=3))
    line = trials.tune("EASE", Contender(Watched, 2))
    assert {nnz for nnz, _ in trained[:-1]} == {kept.nnz}  # all but the last, which is the choice on all of it
    assert trained[-1] == (prepared.train.nnz, line.settings["reg"])
    assert len(trained) == 4 and set(line.result["test"]) == set(FIXED)
    trained.clear()
    assert trials.tune("EASE", Contender(Watched, 2)).result == line.result and not trained


def test_what_is_too_large_is_left_out_and_writes_no_cell(tmp_path, rng):
    source, _ = fixed_set(tmp_path, rng)

    class Large(Popularity):
        def plan(self, n_users, n_items, nnz, devices=None):
            return Plan("Large", (1, 1, 1), "host", {"all": 1}, 2, 1.0, 7200.0, "use less")

    cells = Cells(tmp_path / "cells", {})
    line = Trials(source.prepare(tmp_path), cells, Scale(most=3, budget=600.0)).tune("large", Contender(Large))
    assert line.result["failed"] == "a fit takes roughly 120 minutes, this scale has 10"
    assert cells.computed == 0 and not list((tmp_path / "cells").iterdir())
    assert "failed" in str(line)
    with pytest.raises(LeftOut):
        fit_within(Large(), source.prepare(tmp_path).parts, 1.0)


def test_early_stopping_gets_the_validation_users(data):
    from jaxrec.data.splits import HeldOut, Split

    seen = []

    class Stopping:
        def fit(self, train, *, validation=None):
            seen.append(validation)

    parts = Split(data, HeldOut(data, data), HeldOut(data, data))
    fit_within(Stopping(), parts, math.inf)
    assert seen == [parts.validation]


def test_ranks_that_the_data_do_not_have_are_passed_over(tmp_path, rng):
    from jaxrec import PureSvd

    source, _ = fixed_set(tmp_path, rng)
    trials = Trials(source.prepare(tmp_path), Cells(tmp_path / "cells", {}), Scale(most=6))
    line = trials.tune("PureSVD", Contender(PureSvd, 4, "rank", strength=lambda number: 2**number))
    assert line.settings["rank"] <= 16 and not line.result["failed"]


def test_figures_are_compared_where_they_are_of_the_same_line():
    papers = [
        Published("toy", "EASE", "recall@20", 0.30, "a paper", 0.005),
        Published("toy", "SLIM", "recall@20", 0.20, "a page"),
        Published("toy", "Mult-VAE", "recall@20", 0.25, "a page", 0.01),
    ]
    ours = {"EASE": {"recall@20": (0.31, 0.004)}, "SLIM": {"recall@20": (0.21, 0.004)}}
    first, second, third = compared(papers, ours)
    assert first["standard_errors_apart"] == pytest.approx(2.5) and first["within"] is False
    assert "within" not in second and "ours" not in third
    text = "\n".join(comparison([first, second, third]))
    assert "| EASE | recall@20 | 0.3 | 0.3100 ± 0.0040 | +2.5 | no (0.005) | a paper |" in text
    assert "| Mult-VAE | recall@20 | 0.25 | - | - | - | a page |" in text


def test_published_figures_belong_to_data_and_lines_that_exist():
    for name, experiment in EXPERIMENTS.items():
        sets = {each.name: each for each in experiment.data}
        for each in experiment.published:
            assert each.data in sets, (name, each)
            assert each.metric in sets[each.data].metrics, (name, each)
            assert 0 < each.value < 1 and each.source
    training = ease.SCALES["full"].training
    assert {each.line for each in published.EASE} <= set(ease.contenders("gowalla", (1000, 100), 8, training))
    assert {each.line for each in published.DEEP} <= set(deep_vs_linear.lineup("gowalla", (1000, 100), 8, training))
    assert {each.line for each in published.EDLAE} - {"EDLAE"} <= {
        f"{kind}, rank 1000" for kind in edlae.contenders(8, edlae.SharedSpectrum(8), edlae.SCALES["full"])
    }


def test_the_user_filter_of_msd_is_told():
    assert "users of at least 20 items" in MSD.described() and "items of at least 200 users" in MSD.described()


def test_plain_data_of_a_fixed_split_are_ones(tmp_path, rng):
    source, _ = fixed_set(tmp_path, rng)
    parts = source.prepare(tmp_path).parts
    loud = Interactions.from_triples(
        parts.train.user_of_entry, parts.train.indices, np.full(parts.train.nnz, 3.0), n_users=60, n_items=20
    )
    assert Prepared(source, parts._replace(train=loud)).plain.train.is_binary


def page_script():
    script = Path(__file__).parents[2] / "benchmarks" / "reproductions.py"
    if not script.exists():
        pytest.skip("the pages are not part of the wheel")
    spec = importlib.util.spec_from_file_location("reproductions", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_reproductions_is_what_its_script_writes():
    module = page_script()
    assert module.PAGE.read_text("utf-8") == module.page(), "run: python benchmarks/reproductions.py"
    for name in EXPERIMENTS:
        assert f"## {name}\n" in module.page()


def test_the_table_in_the_readme_is_what_the_list_says(capsys):
    module = page_script()
    assert module.README.read_text("utf-8") == module.readme(), "run: python benchmarks/reproductions.py"
    assert cli.main(["reproduce", "--list"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in module.overview().splitlines()[2:]]
    assert [row[0] for row in rows] == [f"[{name}](docs/reproductions.md#{name})" for name in EXPERIMENTS]
    for _, paper, shows, data in rows:
        assert f"{shows} paper {paper} it says" in listed and f"data {data} cost" in listed


def test_results_are_taken_without_cells_and_smoke(tmp_path, monkeypatch):
    module = page_script()
    for scale in ("smoke", "small"):
        folder = tmp_path / "out" / "mrf" / scale / "toy"
        (folder / "cells").mkdir(parents=True)
        for name in ("table.md", "a.png", "cells/x.json"):
            (folder / name).write_text(scale)
        (folder / "results.json").write_text(json.dumps({"scale": scale}))
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module.take(tmp_path / "out")
    found = tmp_path / "results" / "mrf" / "toy"
    assert {path.name for path in found.iterdir()} == {"table.md", "a.png", "results.json"}
    assert (found / "table.md").read_text() == "small"
    assert "python -m jaxrec reproduce mrf --scale small" in module.page()
    monkeypatch.setattr(module, "CELLS", tmp_path / "kept")
    module.take_cells(tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in (tmp_path / "kept").rglob("*.json")] == [
        "kept/mrf/small/toy/cells/x.json"
    ]
