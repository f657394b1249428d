"""Deep contenders in experiments: scaled to the data, stopped early on a fixed split, in the table of costs."""

import dataclasses
import json

import numpy as np
import pytest

from jaxrec.evaluation.report import evaluate
from jaxrec.experiments import deep_vs_linear, reproduce
from jaxrec.experiments.harness import contenders
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import TRAININGS, Training
from jaxrec.experiments.harness.datasets import DataSet
from jaxrec.experiments.harness.fits import stops_early
from jaxrec.experiments.harness.trials import STEP, Contender, Scale, Trials
from jaxrec.linear import Ease, ItemKnn, Popularity, PureSvd

PLAN = Training(steps=4000, patience=7, variants=8)


@pytest.mark.parametrize("n_users", [40, 1292, 4032, 29_858, 116_677])
def test_networks_make_as_many_steps_on_any_data(n_users):
    for name, contender in contenders.deep((n_users, 200), PLAN).items():
        for variant in contender.settings:
            method = contender.make_method(**variant)
            passes = 4 if name == "RecVAE" else 1
            an_epoch = -(-n_users // method.batch_size) * passes
            assert abs(method.epochs * an_epoch - PLAN.steps) <= an_epoch / 2
            assert method.patience == 7 and 1 <= method.batch_size <= 500
            if name == "Mult-VAE":  # the weight of the divergence has grown after a tenth of the steps
                assert method.kl_weight * method.kl_steps == pytest.approx(0.1 * PLAN.steps, abs=1)


def test_published_settings_where_users_are_many():
    found = contenders.deep((116_677, 20_108), PLAN)
    vae = found["Mult-VAE"].make_method(width=600, kl_weight=0.2, learning_rate=1e-3)
    assert (vae.hidden, vae.latent, vae.batch_size, vae.dropout) == ((600,), 200, 500, 0.5)
    narrow = contenders.deep((500, 200), Training(10, 2, 1, widest=16))
    assert all(len(contender.settings) == 1 for contender in narrow.values())
    vae = narrow["Mult-VAE"].make_method(**narrow["Mult-VAE"].settings[0])
    assert vae.hidden == () and vae.latent == 16


def test_a_limit_of_operations_ends_a_training_earlier_and_leaves_one_setting():
    shape, limited = (20_000, 30_000), PLAN._replace(operations=5e13)
    free = contenders.deep(shape, PLAN)
    for name, contender in contenders.deep(shape, limited).items():
        assert contender.settings == free[name].settings[:1] != free[name].settings
        method, longer = (each.make_method(**contender.settings[0]) for each in (contender, free[name]))
        an_epoch = method.plan(*shape, 10**6).flops / method.epochs
        assert abs(method.epochs * an_epoch - 5e13) <= an_epoch / 2 and method.epochs < longer.epochs
        if name == "Mult-VAE":
            steps = 5e13 / an_epoch * 20_000 / method.batch_size
            assert method.kl_weight * method.kl_steps == pytest.approx(0.1 * steps, abs=1)
    # Where only the wider of two settings would take too long, the narrower is not compared with a shortened training.
    between = contenders.deep((20_000, 8_000), TRAININGS["small"])["Mult-VAE"]
    assert between.settings == contenders.VAES[:1]
    few = contenders.deep((500, 200), limited)
    assert all(few[name].settings == contenders.deep((500, 200), PLAN)[name].settings for name in few)
    assert "operations" in limited.described and "operations" not in PLAN.described


@dataclasses.dataclass(frozen=True)
class Course:
    """Stops early, at the epoch that `best` says; what it was given is kept in `seen`."""

    seen: list
    best: int
    epochs: int = 50
    patience: int = 3

    def fit(self, train, *, validation=None):
        self.seen.append((train, validation, self.epochs, self.patience))
        fitted = Popularity().fit(train)
        detail = {} if validation is None else {"best epoch": float(self.best), "epochs": float(self.epochs)}
        certificate = dataclasses.replace(fitted.info.certificate, detail=detail)
        return fitted._replace(info=dataclasses.replace(fitted.info, certificate=certificate))


def fixed_split(folder, rng, n_items=20):
    pairs = np.unique(rng.integers(0, (60, n_items), size=(900, 2)), axis=0)
    arrays = {"user": pairs[:, 0].astype(np.int32), "item": pairs[:, 1].astype(np.int32)}
    mark = (rng.random(len(pairs)) < 0.2).astype(np.uint8)
    np.savez(folder / "toy.npz", n_users=np.int32(60), n_items=np.int32(n_items), split=mark, **arrays)
    return DataSet("toy", ("toy.npz",), n_heldout=0).prepare(folder)


def test_without_validation_users_a_training_is_stopped_by_a_tenth_of_some_users(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("jaxrec.experiments.harness.trials.STOPPING_USERS", 25)
    data, seen = fixed_split(tmp_path, rng), []
    trials = Trials(data, Cells(tmp_path / "cells", {}), Scale(most=3))
    line = trials.tune("net", Contender(lambda best: Course(seen, best), settings=({"best": 9}, {"best": 4})))
    (first, stopping, epochs, patience), (second, same, _, _) = seen  # not once more at the end
    assert (epochs, patience) == (50, 3) and first is second and stopping is same
    assert stopping.targets.n_users == stopping.fold_in.n_users == 25 and stopping.targets.user_counts.all()
    learned, whole = (each.to_csr().toarray() > 0 for each in (first, data.train))
    assert whole.sum() == learned.sum() + stopping.targets.nnz and not (learned & ~whole).any()
    touched = np.flatnonzero((learned != whole).any(1))
    assert len(touched) == 25
    np.testing.assert_array_equal(stopping.fold_in.to_csr().toarray() > 0, learned[touched])
    np.testing.assert_array_equal(stopping.targets.to_csr().toarray() > 0, (whole & ~learned)[touched])
    assert line.result["test"]["recall@20"] and line.result["best_epoch"] == line.settings["best"]
    assert line.result["validation"] == max(
        trials.held_out({"line": "net", "best": best}, Course(seen, best)) for best in (4, 9)
    )
    assert line.described == f"best {line.settings['best']}, epoch {line.result['best_epoch']} of 50"
    assert line.tried == 2 and line.tuning_seconds > 0
    again = trials.tune("net", Contender(lambda best: Course(seen, best), settings=({"best": 9}, {"best": 4})))
    assert len(seen) == 2 and again.result == line.result and again.tuning_seconds == line.tuning_seconds


def test_a_published_strength_is_taken_as_it_is(tmp_path, rng):
    """Tuning dense EASE on gowalla takes an hour; on other data it is tuned."""
    trials = Trials(fixed_split(tmp_path, rng), Cells(tmp_path / "cells", {}), Scale(most=3))
    line = trials.tune("EASE", contenders.ease("gowalla"))
    assert line.settings == {"reg": 80.0} and line.method == Ease(80.0) and line.tuning_seconds == 0
    assert len(list((tmp_path / "cells").iterdir())) == 1
    assert trials.tune("EASE", contenders.ease("toy")).tried == 3


def test_cubic_models_are_chosen_on_popular_items(tmp_path, rng, monkeypatch):
    """The choice is that of the 50 most popular items, the result that of all."""
    monkeypatch.setattr("jaxrec.experiments.harness.trials.POPULAR_ITEMS", 50)
    data = fixed_split(tmp_path, rng, 80)
    trials = Trials(data, Cells(tmp_path / "cells", {}), Scale(most=3))
    contender = Contender(Ease, 2, on_popular=True)
    line = trials.tune("EASE", contender)
    assert trials.popular is not None
    train, (fold_in, targets), _ = trials.popular
    counts = data.tuning.train.item_counts
    kept = np.sort(np.argsort(-counts, kind="stable")[:50])
    assert counts[kept].min() >= np.delete(counts, kept).max()
    for found, whole in zip((train, fold_in, targets), (data.tuning.train, *data.tuning.test), strict=True):
        np.testing.assert_array_equal(found.to_csr().toarray(), whole.to_csr().toarray()[:, kept])

    metric, tried = data.source.metrics[0], [STEP**number for number in (1, 2, 3)]
    values = [evaluate(Ease(reg).fit(train), fold_in, targets, metric).mean[metric] for reg in tried]
    assert len(set(values)) > 1 and line.settings == {"reg": tried[int(np.argmax(values))]}
    whole = evaluate(Ease(**line.settings).fit(data.train), *data.plain.test, metric)
    assert line.result["test"][metric][0] == pytest.approx(whole.mean[metric], abs=1e-12)
    cells = [json.loads(path.read_text())["settings"] for path in (tmp_path / "cells").iterdir()]
    assert sorted(cell.get("items", 80) for cell in cells) == [50, 50, 50, 80]
    assert all(("learned" in cell) == ("items" in cell) for cell in cells)
    assert trials.described({"EASE": contender, "x": Contender(Popularity)}).count("EASE by the 50 most popular") == 1
    few = Trials(data, Cells(tmp_path / "cells", {}), Scale(most=3))
    monkeypatch.setattr("jaxrec.experiments.harness.trials.POPULAR_ITEMS", 80)
    assert few.popular is None and few.described({"EASE": contender}) == "Settings chosen on held-out data"


def test_nothing_is_tuned_on_popular_items_that_all_items_cannot_afford(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("jaxrec.experiments.harness.trials.POPULAR_ITEMS", 50)
    data = fixed_split(tmp_path, rng, 80)
    few, many = (Ease().plan(60, n_items, data.train.nnz).seconds for n_items in (50, 80))
    assert few is not None and many is not None
    trials = Trials(data, Cells(tmp_path / "cells", {}), Scale(most=3, budget=(few + many) / 2))
    line = trials.tune("EASE", Contender(Ease, 2, on_popular=True))
    assert "minutes" in line.result["failed"] and not list(tmp_path.glob("cells/*"))


def test_what_a_model_learned_is_counted(tmp_path, rng):
    trials = Trials(fixed_split(tmp_path, rng), Cells(tmp_path / "cells", {}), Scale(most=3))
    neighbours = ItemKnn(3).fit(trials.parts.train).model.indices.size
    for method, numbers in ((PureSvd(4), 2 * 20 * 4), (ItemKnn(3), neighbours), (Ease(), 20 * 20), (Popularity(), 20)):
        assert trials.final({"line": str(method)}, method)["numbers"] == numbers


@pytest.mark.parametrize("best", [0, 2, 4])
def test_variants_in_an_order_are_walked_over(best, tmp_path, rng):
    """As far as the best, also at an end of the list; and each variant is a walk over strengths."""
    trials = Trials(fixed_split(tmp_path, rng), Cells(tmp_path / "cells", {}), Scale(most=7))
    tried = []

    def score(settings, method, on_popular):
        tried.append((settings["reg"], settings["place"]))
        return -abs(settings["place"] - best) - abs(settings["reg"] - 5)

    trials.held_out = score
    places = tuple({"place": place} for place in range(5))
    contender = Contender(lambda reg, place: Ease(reg), 3, strength=float, settings=places, first_variant=1)
    assert trials.tune("walk", contender).settings == {"reg": 5.0, "place": best}
    asked = {place for _, place in tried}
    assert asked == {0: {0, 1, 2}, 2: {1, 2, 3}, 4: {1, 2, 3, 4}}[best]
    assert all({4.0, 5.0, 6.0} <= {reg for reg, its in tried if its == place} for place in asked)
    everything = Trials(trials.data, trials.cells, Scale(most=7))
    tried.clear()
    everything.held_out = score
    assert everything.tune("all", dataclasses.replace(contender, first_variant=None)).settings == {
        "reg": 5.0,
        "place": best,
    }
    assert {place for _, place in tried} == set(range(5))


def test_tuning_is_counted(tmp_path, rng):
    trials = Trials(fixed_split(tmp_path, rng), Cells(tmp_path / "cells", {}), Scale(most=3))
    line = trials.tune("EASE", Contender(Ease, 2))
    assert line.tried == 3 and line.tuning_seconds > line.result["seconds"] * 0
    line = trials.tune("popularity", Contender(Popularity))
    assert line.tried == 1 and line.tuning_seconds == 0
    assert not stops_early(Ease()) and stops_early(Course([], 1))


def test_deep_vs_linear_says_what_everything_cost(tmp_path):
    folder = reproduce("deep-vs-linear", out=tmp_path, scale="smoke")["msweb"]
    results = json.loads((folder / "results.json").read_text())
    lines = {line["line"]: line for line in results["lines"]}
    rows = set(deep_vs_linear.lineup("msweb", (100, 50), 8, PLAN))
    assert set(lines) == rows - {"RecVAE"} >= {"EASE", "EDLAE", "iALS", "Mult-VAE", "deep autoencoder"}
    n_users, n_items = results["data"]["n_users"], results["data"]["n_items"]
    assert lines["EASE"]["numbers"] == n_items**2 and lines["iALS"]["numbers"] == 8 * (n_users + n_items)
    assert lines["Mult-DAE"]["numbers"] == 12 * (2 * n_items + 1) + n_items
    for line in lines.values():
        assert not line["failed"] and line["planned_bytes"] > 0 and line["tried"] >= 1
    assert lines["EASE"]["tried"] == 2 and lines["EASE"]["tuning_seconds"] >= lines["EASE"]["seconds"]
    assert (folder / "accuracy_and_time.png").stat().st_size > 10_000
    before, said = (folder / "table.md").read_text(), []
    reproduce("deep-vs-linear", out=tmp_path, scale="smoke", say=said.append)
    assert "0 cells computed" in said[-1] and (folder / "table.md").read_text() == before


def test_rows_that_two_experiments_have_in_common_are_computed_once(tmp_path):
    folder = reproduce("deep-vs-linear", out=tmp_path, scale="smoke")["msweb"]
    stored = {path: path.read_bytes() for path in (tmp_path / "ease" / "smoke" / "msweb" / "cells").iterdir()}
    assert stored and not (folder / "cells").exists()
    said = []
    other = reproduce("ease", out=tmp_path, scale="smoke", say=said.append)["msweb"]
    assert all(path.read_bytes() == before for path, before in stored.items())
    lines, others = (
        {line["line"]: line for line in json.loads((each / "results.json").read_text())["lines"]}
        for each in (folder, other)
    )
    for name in ("popularity", "EASE", "Mult-DAE", "Mult-VAE"):
        assert lines[name]["test"] == others[name]["test"] and lines[name]["seconds"] == others[name]["seconds"]
    added = len(list((other / "cells").iterdir())) - len(stored)
    assert said[-1].startswith(f"{added} cells computed")


def test_a_record_names_every_machine_that_its_cells_came_from(tmp_path, monkeypatch):
    first, second = ({"device": "cpu", "devices": 1, "threads": threads} for threads in (2, 7))
    monkeypatch.setattr("jaxrec.experiments.harness.cells.machine", lambda: first)
    Cells(tmp_path, {}).get({"k": 1}, dict)
    monkeypatch.setattr("jaxrec.experiments.harness.cells.machine", lambda: second)
    cells = Cells(tmp_path, {})
    for k in (1, 2, 2):
        cells.get({"k": k}, dict)
    assert cells.machines == [first, second]
