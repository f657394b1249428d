"""Tuning: one Gram matrix, the figures of separate evaluations, and the choice each rule makes."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

import jaxrec
from jaxrec import (
    Ease,
    Edlae,
    InputError,
    Interactions,
    ItemKnn,
    LowRankEdlae,
    Mrf,
    Popularity,
    PureSvd,
    Rlae,
    Slim,
    tuning,
)
from jaxrec.cli import main
from jaxrec.closed_form import method as closed_method
from jaxrec.closed_form.gram import lower_gram
from jaxrec.data import synthetic
from jaxrec.data.splits import Split, strong_generalization

REGS = [1.0, 5.0, 25.0]


@pytest.fixture
def data():
    return dataclasses.replace(synthetic(400, 24, n_clusters=4, mean_history=7), name="toy")


@pytest.fixture
def grams(monkeypatch):
    """Counts the Gram matrices that are computed."""
    computed = []
    monkeypatch.setattr(closed_method, "lower_gram", lambda *args, of=lower_gram: computed.append(1) or of(*args))
    return computed


def test_one_gram_for_all_values_and_methods(data, grams):
    for protocol in ("leave-user-out", "random"):
        grams.clear()
        found = jaxrec.tune([Ease(), Edlae(dropout=0.2), "rlae"], data, {"reg": REGS}, protocol=protocol)
        assert len(found.candidates) == 9 and len(grams) == 1
        assert all(c.report.n_users > 50 for c in found.candidates)


def test_figures_are_those_of_separate_evaluations(data):
    found = jaxrec.tune(Ease(), data, {"reg": REGS}, metric="ndcg@5", test_fraction=0.4, seed=3)
    parts = strong_generalization(data, 50)
    split = jaxrec.tune(Ease(), data, {"reg": REGS}, metric="ndcg@5", protocol=parts)
    test_only = jaxrec.tune(Ease(), data, {"reg": REGS}, metric="ndcg@5", protocol=Split(parts.train, parts.test))
    for at, reg in enumerate(REGS):
        exact = jaxrec.evaluate_leave_user_out(Ease(reg), data, "ndcg@5", test_fraction=0.4, seed=3)
        fitted = Ease(reg).fit(parts.train)
        np.testing.assert_array_equal(found.candidates[at].report.per_user["ndcg@5"], exact.per_user["ndcg@5"])
        for one, part in ((split, parts.validation), (test_only, parts.test)):
            assert one.candidates[at].report.mean == jaxrec.evaluate(fitted, *part, "ndcg@5").mean
        weights = Ease(reg).fit(data).model.weights
        assert found.candidates[at].size == pytest.approx(np.linalg.norm(weights), rel=1e-4)
    assert "validation users" in split.protocol and "test users" in test_only.protocol


def test_a_mesh_changes_no_figure(data):
    parts = strong_generalization(data, 40)
    one, many = (jaxrec.tune("ease", data, {"reg": [3, 30]}, protocol=parts, devices=m) for m in (None, jax.devices()))
    for a, b in zip(one.candidates, many.candidates, strict=True):
        assert a.report.mean == b.report.mean and b.size == pytest.approx(a.size, rel=1e-5)
    with pytest.raises(InputError, match="leave-user-out computes on the host"):
        jaxrec.tune("ease", data, {"reg": [3]}, devices=jax.devices())


def test_several_fields_make_a_grid_and_any_method_may_join(data):
    found = jaxrec.tune(Rlae(), data, {"reg": [1, 10], "xi": [0.0, 0.5]}, protocol="random")
    assert [(c.method.reg, c.method.xi) for c in found.candidates] == [(1, 0), (1, 0.5), (10, 0), (10, 0.5)]
    assert "Rlae reg=10 xi=0.5" in str(found)

    @dataclasses.dataclass(frozen=True)
    class Own:
        strength: float = 1.0

        def fit(self, train):
            return Popularity().fit(train)

    assert jaxrec.tune(Own(), data, {"strength": [1, 2]}, protocol="random").chosen == Own(1.0)
    with pytest.raises(InputError, match="not for Own"):
        jaxrec.tune(Own(), data, {"strength": [1, 2]})
    with pytest.raises(InputError, match=r"compares norms of weights, and .*Own.* has none; use rule='best'"):
        jaxrec.tune(Own(), data, {"strength": [1, 2]}, protocol="random", rule="one-standard-error")


def test_rules(data):
    """By hand: of the candidates whose mean is at most one standard error below the best, the smallest weights."""
    best, other = (
        jaxrec.tune(Ease(), data, {"reg": [1, 3, 10, 30, 100, 300, 1000]}, rule=rule) for rule in tuning.RULES
    )
    means = np.array([c.report.mean["ndcg@100"] for c in best.candidates])
    errors = np.array([c.report.standard_error["ndcg@100"] for c in best.candidates])
    top = means.argmax()
    assert best.chosen == best.candidates[top].method
    within = means >= means[top] - errors[top]
    assert other.chosen.reg == max(c.method.reg for c, near in zip(best.candidates, within, strict=True) if near)
    assert other.chosen.reg > best.chosen.reg
    sizes = [c.size for c in best.candidates]
    assert sizes == sorted(sizes, reverse=True)


def test_a_value_that_cannot_be_fitted_is_reported_and_passed_over(data):
    x = data.to_csr().toarray()
    x[:, 1] = x[:, 0]
    twins = Interactions.from_triples(*np.nonzero(x), n_users=400, n_items=24)
    found = jaxrec.tune(Ease(), twins, {"reg": [1e-7, 10]}, metric="ndcg@5")
    assert found.candidates[0].report is None and "raise reg" in found.candidates[0].failed
    assert found.chosen.reg == 10 and "fit failed" in str(found)
    assert json.loads(found.to_json())["candidates"][0]["metrics"] is None
    with pytest.raises(InputError, match="none of the 1 candidates could be fitted"):
        jaxrec.tune(Ease(), twins, {"reg": [1e-7]})


def test_record_and_plot(data, tmp_path):
    found = jaxrec.tune([Ease(), Edlae()], data, {"reg": REGS}, metric="recall@3", rule="one-standard-error")
    record = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert record["chosen"]["name"] in ("Ease", "Edlae") and record["rule"] == "one-standard-error"
    assert [c["method"]["hyper_parameters"]["reg"] for c in record["candidates"]] == REGS * 2
    assert record["candidates"][0]["metrics"]["recall@3"]["standard_error"] > 0
    found.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    for name in ("curve.nonsense", "curve"):
        with pytest.raises(InputError, match=f"cannot be written to .*{name}; give one of the endings .*png"):
            found.plot(tmp_path / name)


def norm_of_scores(model, n_items):
    """||zd(B)||_F from the scores of single items and pairs of them, which is all that a model has to show."""
    ones = Interactions.from_lists([[i] for i in range(n_items)], n_items)
    weights = model.score_host(ones.to_csr())
    return np.linalg.norm(weights - np.diag(np.diag(weights)))


@pytest.mark.parametrize("method", [LowRankEdlae(4), Mrf(density=0.2), PureSvd(4), ItemKnn(), Slim()], ids=str)
def test_the_one_standard_error_rule_for_every_model_with_weights(method, data):
    field = "shrinkage" if isinstance(method, ItemKnn) else "reg"
    found = jaxrec.tune(method, data, {field: [3, 300]}, protocol="random", rule="one-standard-error")
    for c in found.candidates:
        expected = norm_of_scores(c.method.fit(jaxrec.split(data, "random").train).model, 24)
        assert c.size == pytest.approx(expected, rel=1e-4)
    assert found.candidates[0].size > found.candidates[1].size


def test_whole_numbers_and_optional_ones_may_vary(data):
    found = jaxrec.tune(PureSvd(), data, {"rank": [2, 4.0, np.int64(6)]}, protocol="random")
    assert [c.method.rank for c in found.candidates] == [2, 4, 6] and found.grid == {"rank": (2, 4, 6)}
    assert all(type(c.method.rank) is int for c in found.candidates)
    found = jaxrec.tune(Mrf(), data, {"density": [0.1, 0.5]}, protocol="random")
    assert [c.method.density for c in found.candidates] == [0.1, 0.5]
    json.loads(found.to_json(), parse_constant=pytest.fail)


def test_without_matplotlib_one_sentence(data, monkeypatch):
    found = jaxrec.tune(Ease(), data, {"reg": [1]})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"a plot needs matplotlib; install it with: pip install 'jaxrec\[plots\]'"):
        found.plot("curve.png")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"grid": {}}, "at least one value"),
        ({"grid": {"reg": []}}, "at least one value"),
        ({"grid": {"dropout": [0.1]}}, "Ease has no number 'dropout' to tune; it has reg"),
        ({"grid": {"reg": [1, -1]}}, "reg must be above 0"),
        ({"methods": "eas"}, "method must be one of"),
        ({"methods": Popularity()}, "Popularity has no number 'reg' to tune; it has nothing to tune"),
        ({"rule": "worst"}, "rule must be one of"),
        ({"protocol": "loo"}, "protocol must be one of leave-user-out, fixed"),
        ({"metric": "accuracy@3"}, "metric must be one of"),
        ({"metric": "recall@3,ndcg@3"}, "metric must be one name with its cut-off"),
        ({"metric": "coverage@3", "rule": "one-standard-error"}, "coverage is one figure .* use rule='best'"),
        ({"grid": {"reg": 10}}, "at least one value of one field, as in .*, got {'reg': 10}"),
        ({"grid": {"reg": "10,100"}}, "at least one value of one field"),
        ({"grid": {"reg": [None]}}, "reg must be a number, got None"),
        ({"methods": PureSvd(), "grid": {"rank": [2.5]}}, "rank must be a whole number, got 2.5"),
        ({"methods": []}, "at least one method"),
        ({"methods": Ease}, "a method must be configured, as in Ease"),
    ],
)
def test_refusals(data, changed, match):
    with pytest.raises(InputError, match=match):
        jaxrec.tune(**{"methods": Ease(), "data": data, "grid": {"reg": [1]}} | changed)


class TestCommand:
    @pytest.fixture
    def run(self, capsys, monkeypatch, data, tmp_path):
        monkeypatch.setenv("COLUMNS", "80")
        path = tmp_path / "toy.csv"
        rows = zip(data.user_of_entry.tolist(), data.indices.tolist(), strict=True)
        path.write_text("user_id,item_id\n" + "\n".join(f"{u},{i}" for u, i in rows))

        def command(*words):
            code = main(["tune", *map(str, words), "--data", str(path)])
            return code, *capsys.readouterr()

        return command

    def test_table_record_and_picture(self, run, tmp_path, grams):
        files = "--json", tmp_path / "out.json", "--plot", tmp_path / "out.png"
        code, out, err = run("edlae", "--reg", "1,10,100", "--dropout", "0.1,0.5", "--metric", "ndcg@5", *files)
        assert (code, err) == (0, "") and len(grams) == 1
        assert max(map(len, out.splitlines())) <= 80
        record = json.loads((tmp_path / "out.json").read_text())
        assert len(record["candidates"]) == 6 and record["protocol"].startswith("leave-user-out")
        for c in record["candidates"]:
            assert f"{c['metrics']['ndcg@5']['mean']:.5f}" in out
        chosen = record["chosen"]["hyper_parameters"]
        assert f"Edlae reg={chosen['reg']:g} dropout={chosen['dropout']:g}" in out and "chosen" in out
        assert (tmp_path / "out.png").stat().st_size > 1000

    def test_splits_and_rules(self, run):
        for words in (
            ["--protocol", "strong", "--rule", "one-standard-error"],
            ["--protocol", "random", "--seed", "4"],
            ["--split", "random"],
        ):
            code, out, _ = run("ease", "--reg", "1,10", *words)
            assert code == 0 and "Ease reg=10" in out

    def test_whole_and_optional_numbers(self, run):
        code, out, _ = run("mrf", "--density", "0.1,0.3", "--max-in-column", "5", "--protocol", "random")
        assert code == 0 and "Mrf density=0.3" in out and "threshold=None" in out
        code, out, _ = run("pure-svd", "--rank", "2,4", "--protocol", "random", "--metric", "coverage@3")
        assert code == 0 and "PureSvd rank=4" in out and "nan" not in out
        code, _, err = run("pure-svd", "--rank", "2,4.5", "--protocol", "random")
        assert code == 1 and "--rank takes whole numbers separated by commas" in err

    @pytest.mark.parametrize(
        ("words", "match"),
        [
            (["--reg", "1,x"], "--reg takes numbers separated by commas"),
            (["--reg", "0,1"], "reg must be above 0"),
            (["--reg", "1", "--protocol", "random", "--split", "random"], "--split is for leave-user-out alone"),
            (["--reg", "1", "--plot", "/nowhere/x.png"], "there is no folder"),
            (["--reg", "1", "--plot", "x.nonsense"], "give one of the endings"),
            (["--reg", "1", "--protocol", "fixed"], "no fixed split"),
        ],
    )
    def test_refusals(self, run, words, match):
        code, _, err = run("ease", *words)
        assert code == 1 and match in err and err.count("\n") == 1
