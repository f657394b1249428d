"""Every command, its exit code, what it prints and what it writes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import jaxrec
from jaxrec import methods
from jaxrec.cli import main
from jaxrec.cli.commands import Fit, Plan, Run
from jaxrec.cli.options import Protocol, Source
from jaxrec.cli.tuning import Tune
from jaxrec.linear.ease import Ease
from jaxrec.methods import METHODS
from jaxrec.status import FitError, Status


@pytest.fixture
def cli(capsys, monkeypatch):
    """Runs a command in this process: its exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("JAXREC_DEBUG", raising=False)

    def run(*words):
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def ratings(tmp_path, rng):
    """A CSV of 60 users, 12 items and ratings of 1 to 5, with some pairs repeated."""
    rows = [f"u{u},i{i},{rng.integers(1, 6)},{rng.integers(1000)}" for u, i in rng.integers([60, 12], size=(600, 2))]
    path = tmp_path / "toy.csv"
    path.write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of msweb fitted on the training part of its own split."""
    folder = tmp_path_factory.mktemp("models") / "ease"
    assert main(["fit", "ease", "--reg", "80", "--out", str(folder), "--split", "auto"]) == 0
    return folder


def strict_json(path):
    return json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)


def failed(result, *words):
    """Exit code 1 and exactly one sentence, on standard error."""
    code, _, err = result
    assert code == 1
    assert err.startswith("jaxrec: ") and err.endswith(".\n") and err.count("\n") == 1, err
    assert all(word in err for word in words), err


# -- run --------------------------------------------------------------------------------------------------------------


def test_run_prints_and_writes_the_main_job(cli, tmp_path):
    words = "run ease --reg 80 --data msweb --metrics recall@20,ndcg@100,coverage@10 --split fixed".split()
    code, out, err = cli(*words, "--json", tmp_path / "out.json", "--save", tmp_path / "model")
    assert (code, err) == (0, "")
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= 80
    assert all(line == line.rstrip() for line in out.splitlines())
    for expected in ("37,711 users x 294 items", "Ease(reg=80.0", "relative KKT residual", "peak ", "because of"):
        assert expected in out
    assert out.count("\ntest user ") == 3

    data = jaxrec.load("msweb")
    train, test, _ = jaxrec.split(data, "fixed")
    fitted = Ease(reg=80.0).fit(train)
    record = strict_json(tmp_path / "out.json")
    for label, one in {"ease": fitted, "popularity": METHODS["popularity"]().fit(train)}.items():
        report = jaxrec.evaluate(one, *test, ("recall@20", "ndcg@100", "coverage@10"))
        written = record["reports"][label]
        for name, mean in report.mean.items():
            assert written["metrics"][name]["mean"] == pytest.approx(mean, rel=1e-5)
            assert f"{mean:.5f}" in out
        assert written["n_users"] == report.n_users and written["n_without_targets"] == report.n_without_targets
    assert record["reports"]["ease"]["metrics"]["coverage@10"]["standard_error"] is None
    assert record["method"] == {"name": "ease", "hyper_parameters": {"reg": 80.0, "solver": "auto", "dtype": "float32"}}
    assert record["data"] == data.summary() and record["split"]["train"] == train.summary()
    assert record["split"]["name"] == "fixed"
    assert record["certificate"]["status"] == "ok" and record["certificate"]["residual"] < 1e-4
    assert {"load", "split", "fit", "evaluate"} <= set(record["seconds"]) and "gram" in record["fit_seconds"]
    assert record["memory"]["peak_bytes"] >= record["memory"]["before_loading_bytes"] > 1e7
    assert record["versions"]["jaxrec"] == jaxrec.__version__
    loaded = jaxrec.load_model(tmp_path / "model")
    np.testing.assert_allclose(loaded.model.weights, fitted.model.weights, atol=1e-6)


def test_sample_recommendations_mark_what_was_held_out(cli):
    """Every starred title is a target of that user, and every title that is a target is starred."""
    code, out, _ = cli("run", "ease", "--samples", "40", "--seed", "3")
    assert code == 0
    test = jaxrec.split(jaxrec.load("msweb"), "auto").test
    items, blocks = test.targets.items, out.split("\ntest user ")[1:]
    assert len(blocks) == 40
    stars = 0
    for block in blocks:
        user = int(block.split()[0])
        targets = test.targets.indices[test.targets.indptr[user] : test.targets.indptr[user + 1]]
        wanted = {items.label(item) for item in targets.tolist()}
        ranked = [line for line in block.splitlines()[1:] if line[:4].strip().isdigit()]
        assert len(ranked) == 5
        for line in ranked:
            title = line[7:].rsplit(maxsplit=1)[0].rstrip()
            assert (line[5] == "*") == (title in wanted), line
            stars += line[5] == "*"
    assert stars > 10


def test_popularity_is_not_compared_with_itself(cli, tmp_path):
    code, out, _ = cli("run", "popularity", "--json", tmp_path / "out.json", "--samples", "0")
    assert code == 0 and "Sample" not in out
    assert list(strict_json(tmp_path / "out.json")["reports"]) == ["popularity"]


@pytest.mark.parametrize("split", ["auto", "random", "per-user", "leave-one-out", "time"])
def test_run_on_a_table_of_ratings(cli, ratings, tmp_path, split):
    options = ("--min-rating", "3", "--repeats", "last", "--split", split)
    code, out, err = cli("run", "ease", "--data", ratings, *options, "--json", tmp_path / "out.json")
    assert (code, err) == (0, ""), err
    expected = jaxrec.load(ratings, min_rating=3, repeats="last")
    assert strict_json(tmp_path / "out.json")["data"] == expected.summary()
    assert "because of i" in out  # an item without a title is called by its id


def test_values_are_used(cli, ratings, tmp_path):
    prints = set()
    for number, options in enumerate([(), ("--values", "rating")]):
        path = tmp_path / f"{number}.json"
        assert cli("run", "ease", "--data", ratings, "--repeats", "max", *options, "--json", path)[0] == 0
        prints.add(strict_json(path)["data"]["fingerprint"])
    assert len(prints) == 2


def test_a_seed_changes_the_split_and_nothing_else_does(cli, ratings, tmp_path):
    def trained_on(*options):
        words = ("run", "popularity", "--data", ratings, "--repeats", "last", "--split", "random")
        assert cli(*words, *options, "--json", tmp_path / "out.json")[0] == 0
        return strict_json(tmp_path / "out.json")["split"]["train"]["fingerprint"]

    assert trained_on() == trained_on("--seed", 0) == trained_on("--samples", 0) != trained_on("--seed", 1)


# -- the other commands -----------------------------------------------------------------------------------------------


def test_evaluate_repeats_the_figures_of_run(cli, model, tmp_path):
    assert cli("run", "ease", "--reg", "80", "--json", tmp_path / "run.json")[0] == 0
    code, out, err = cli("evaluate", "--model", model, "--json", tmp_path / "evaluate.json")
    assert (code, err) == (0, "") and "note" not in out
    ran, evaluated = (strict_json(tmp_path / f"{name}.json")["reports"] for name in ("run", "evaluate"))
    for label in ("ease", "popularity"):
        for name, figures in ran[label]["metrics"].items():
            assert evaluated[label]["metrics"][name]["mean"] == pytest.approx(figures["mean"], rel=1e-6)


def test_evaluate_refuses_what_the_model_was_trained_on_unless_told(cli, tmp_path):
    assert cli("fit", "popularity", "--out", tmp_path / "all")[0] == 0
    failed(cli("evaluate", "--model", tmp_path / "all"), "was trained on these targets", "--allow-training-data")
    words = ("--allow-training-data", "--json", tmp_path / "out.json")
    code, out, _ = cli("evaluate", "--model", tmp_path / "all", *words)
    assert code == 0 and "this is no test: the model was trained on" in " ".join(out.split())
    assert strict_json(tmp_path / "out.json")["reports"]["popularity"]["trained_on_these"] is True


def test_evaluate_reads_and_splits_as_the_fit_did(cli, ratings, tmp_path):
    how = ("--data", ratings, "--repeats", "last", "--min-rating", 2, "--split", "per-user", "--seed", 3)
    run = ("run", "ease", *how, "--samples", 0, "--json", tmp_path / "run.json", "--save", tmp_path / "model")
    assert cli(*run)[0] == 0
    words = ("evaluate", "--model", tmp_path / "model", "--data", ratings, "--json", tmp_path / "evaluate.json")
    code, out, err = cli(*words)
    assert (code, err) == (0, "") and "note" not in out
    said = " ".join(out.split())
    assert "as fitted split=per-user, test_fraction=0.2, seed=3, user=user_id, item=item_id, rating=rating," in said
    assert "timestamp=timestamp, min_rating=2.0, repeats=last" in said
    ran, evaluated = (strict_json(tmp_path / f"{name}.json") for name in ("run", "evaluate"))
    assert evaluated["reports"]["ease"]["metrics"] == ran["reports"]["ease"]["metrics"]
    assert evaluated["reports"]["ease"]["trained_on_these"] is False
    assert evaluated["split"] == ran["split"]
    for other in (("--seed", 4), ("--split", "random"), ("--min-rating", 1)):
        failed(cli(*words, *other), "was trained on these targets, or may have been")
    out = cli(*words, "--seed", 4, "--allow-training-data")[1]
    assert "but fitted split=per-user, test_fraction=0.2, seed=3" in " ".join(out.split())


def test_a_model_from_before_splits_were_recorded(cli, ratings, tmp_path):
    load = {"repeats": "last"}
    parts = jaxrec.split(jaxrec.load(ratings, **load), "random")
    old = ("name", "n_users", "n_items", "nnz", "fingerprint")
    for name, train in {"part": parts.train, "all": jaxrec.load(ratings, **load)}.items():
        jaxrec.save(tmp_path / name, Ease(reg=5.0).fit(train))
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["data"] = {key: config["data"][key] for key in old}
        del config["n_items_of_origin"]
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    words = ("--data", ratings, "--repeats", "last")
    assert cli("evaluate", "--model", tmp_path / "part", *words)[0] == 0
    failed(cli("evaluate", "--model", tmp_path / "all", *words), "was trained on these targets, or may have been")
    failed(cli("evaluate", "--model", tmp_path / "part"), "fitted on toy", "give --data")


def test_evaluate_matches_items_by_id(cli, ratings, tmp_path):
    """A model that knows fewer items than the data, in another order, is evaluated on those it knows."""
    data = jaxrec.load(ratings, repeats="last")
    part = data.select_items(np.array([7, 2, 9, 0, 4]))
    jaxrec.save(tmp_path / "model", Ease(reg=5.0).fit(part))
    words = ("--data", ratings, "--repeats", "last", "--allow-training-data", "--json", tmp_path / "out.json")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli("evaluate", "--model", tmp_path / "model", *words)
    assert code == 0 and err.count("note: toy: ") == 1 and "items that the model does not know" in err
    assert strict_json(tmp_path / "out.json")["reports"]["ease"]["n_unknown_targets"] > 0
    failed(cli("evaluate", "--model", tmp_path / "model", "--data", "msweb"), "knows none of its items")


def test_recommend_by_titles(cli, model, tmp_path):
    code, out, err = cli(
        *("recommend", "--model", model, "--items", "windows 95", "isapi", "-k", 5, "--json", tmp_path / "out.json")
    )
    assert (code, err) == (0, "")
    fitted = jaxrec.load_model(model)
    items = fitted.info.items
    history = [items.find("windows 95"), items.find("isapi")]
    expected = jaxrec.recommend(fitted.model, jaxrec.Interactions.from_lists([history], items), 5)
    record = strict_json(tmp_path / "out.json")
    assert [entry["item"] for entry in record["history"]] == history
    assert [entry["item"] for entry in record["recommendations"]] == expected.items[0].tolist()
    assert [entry["title"] for entry in record["recommendations"]] == expected.titles(items)[0]
    assert all(title in out for title in expected.titles(items)[0])


def test_recommend_to_a_user_of_the_data(cli, model, tmp_path):
    data = jaxrec.load("msweb")
    code, _, err = cli("recommend", "--model", model, "--user", 20_000, "--json", tmp_path / "out.json")
    assert (code, err) == (0, "")
    row = data.rows(np.array([20_000]))
    record = strict_json(tmp_path / "out.json")
    assert [entry["item"] for entry in record["history"]] == row.indices.tolist()
    expected = jaxrec.recommend(jaxrec.load_model(model).model, row, 10)
    assert [entry["item"] for entry in record["recommendations"]] == expected.items[0].tolist()


def test_recommend_more_than_there_is(cli, tmp_path):
    data = jaxrec.Interactions.from_lists([[0, 1], [1, 2]], 3)
    jaxrec.save(tmp_path / "model", Ease(reg=1.0).fit(data))
    code, _, _ = cli("recommend", "--model", tmp_path / "model", "--items", "1", "-k", 9, "--json", tmp_path / "o.json")
    assert code == 0 and len(strict_json(tmp_path / "o.json")["recommendations"]) == 2


def test_plan(cli, tmp_path):
    words = ("plan", "ease", "--users", 29_858, "--items", 40_981, "--nnz", 810_128)
    code, out, _ = cli(*words, "--json", tmp_path / "out.json")
    assert code == 0 and "GB" in out
    assert strict_json(tmp_path / "out.json")["total"] == jaxrec.plan(29_858, 40_981, 810_128, "ease").total


def test_devices_split_a_fit_and_change_no_figure(cli, tmp_path):
    reports = []
    for devices in ([], ["--devices", "3"], ["--devices", "all"]):
        code, _, _ = cli("run", "ease", "--samples", 0, "--json", tmp_path / "run.json", *devices)
        assert code == 0
        reports.append(strict_json(tmp_path / "run.json")["reports"]["ease"]["metrics"])
    assert reports[0] == reports[1] == reports[2]


def test_a_checkpoint_is_kept_and_gone_on_from(cli, tmp_path):
    (tmp_path / "toy.csv").write_text(
        "user_id,item_id\n" + "".join(f"u{n},i{n % k}\n" for n in range(40) for k in (5, 7))
    )
    words = ["fit", "mult-dae", "--latent", "2", "--epochs", "30", "--data", tmp_path / "toy.csv"]
    words += ["--repeats", "last", "--checkpoint", tmp_path / "run.npz"]
    assert [cli(*words, "--out", tmp_path / name)[0] for name in "ab"] == [0, 0]
    first, second = (jaxrec.load_model(tmp_path / name) for name in "ab")
    assert (tmp_path / "run.npz").exists()
    for name, leaf in first.model.parameters.items():
        np.testing.assert_array_equal(second.model.parameters[name], leaf)
    failed(cli("run", "ease", "--checkpoint", tmp_path / "no.npz"), "--checkpoint", "Ease")


def test_a_model_that_was_fitted_on_devices_is_saved_and_used(cli, tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="split models are saved by orbax-checkpoint")
    assert cli("fit", "ease", "--devices", "8", "--out", tmp_path / "split", "--split", "auto")[0] == 0
    assert cli("fit", "ease", "--out", tmp_path / "whole", "--split", "auto")[0] == 0
    titles = "--items", "SQL Server", "MS Word [/msword]"
    said = [cli("recommend", "--model", tmp_path / name, *titles, "-k", 4) for name in ("split", "whole")]
    assert said[0][0] == 0 and said[0] == said[1]


def test_plan_for_devices_at_hand_and_elsewhere(cli, tmp_path):
    size = ["--users", 1000, "--items", 5000, "--nnz", 50_000]
    totals = []
    for devices in ([], ["--devices", "8"], ["--devices", "8xH100"]):
        code, out, _ = cli("plan", "slim", *size, *devices, "--json", tmp_path / "plan.json")
        assert code == 0 and "at the peak" in out
        totals.append(strict_json(tmp_path / "plan.json")["parts"]["five I x I matrices of an iteration"])
    assert totals == [20 * 5000**2, 20 * 5000**2, 20 * 5000**2 // 8]  # simulated devices share one memory


@pytest.mark.parametrize(
    ("devices", "complaint"), [("9", "asks for 9 and JAX sees 8"), ("0", "at least 1"), ("many", "got 'many'")]
)
def test_devices_that_are_not_there(cli, devices, complaint):
    failed(cli("run", "ease", "--devices", devices), complaint)
    failed(cli("plan", "ease", "--users", 9, "--items", 9, "--nnz", 9, "--devices", "3xabacus"), "got '3xabacus'")


def test_info(cli, tmp_path):
    code, out, _ = cli("info", "--json", tmp_path / "out.json")
    assert code == 0 and f"jaxrec {jaxrec.__version__}" in out
    record = strict_json(tmp_path / "out.json")
    assert record["devices"][0]["platform"] == "cpu" and record["threads"]["threads"] >= 1


def test_other_data_than_those_of_the_fit_are_named(cli, ratings, tmp_path):
    """Numbers as ids match whatever they number, so the default data must not go unnoticed."""
    table = tmp_path / "films.csv"
    table.write_text("user,item\n" + "".join(f"{u},{1000 + i}\n" for u in range(9) for i in range(u % 4 + 2)))
    assert cli("fit", "ease", "--data", table, "--out", tmp_path / "model")[0] == 0
    for words in (("evaluate",), ("recommend", "--user", 0)):
        failed(
            cli(*words, "--model", tmp_path / "model"), "fitted on films, which do not ship with jaxrec; give --data"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            code, out, err = cli(*words, "--model", tmp_path / "model", "--data", "msweb")
        assert code == 0 and "fitted on films and this is msweb" in " ".join(out.split()), err
    out = cli("recommend", "--user", 3, "--model", tmp_path / "model", "--data", table)[1]
    assert "note" not in out


def test_recommend_to_a_user_of_other_data_matches_items_by_id(cli, tmp_path):
    (tmp_path / "jan.csv").write_text("user,item\n1,a\n1,b\n2,a\n2,b\n3,b\n3,c\n4,a\n4,b\n")
    (tmp_path / "feb.csv").write_text("user,item\n9,b\n8,c\n8,d\n")
    assert cli("fit", "ease", "--reg", 1, "--data", tmp_path / "jan.csv", "--out", tmp_path / "m")[0] == 0
    words = ("recommend", "--model", tmp_path / "m", "--data", tmp_path / "feb.csv", "--json", tmp_path / "out.json")
    assert cli(*words, "--user", 9)[0] == 0
    found = strict_json(tmp_path / "out.json")["recommendations"]
    assert [(each["id"], round(each["score"], 3)) for each in found] == [("a", 0.667), ("c", 0.364)]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli(*words, "--user", 8)
    assert code == 0 and err == "note: feb: 1 entries of 1 items that the model does not know (d) are left out.\n"


def test_recommend_where_there_is_nothing_to_say(cli, tmp_path):
    full, strange = tmp_path / "full.csv", tmp_path / "strange.csv"
    full.write_text("user,item\na,x\na,y\nb,x\n")
    strange.write_text("user,item\na,x\nc,z\n")
    assert cli("fit", "ease", "--data", full, "--out", tmp_path / "model")[0] == 0
    code, out, _ = cli("recommend", "--model", tmp_path / "model", "--items", "x", "y")
    assert code == 0 and "No item is left to recommend." in out
    words = ("recommend", "--model", tmp_path / "model", "--data", strange, "--user", "c")
    failed(cli(*words), "user 'c' has no items that the model knows")


def test_refusals_name_flags_and_every_column_has_one(cli, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("who,what,liking,when\n" + "".join(f"{u},{i},{i},{i}\n" for u in range(9) for i in range(u, 9)))
    words = ["run", "popularity", "--data", table, "--split", "time", "--min-rating", 1]
    for flag, column in {"user": "who", "item": "what", "rating": "liking"}.items():
        failed(cli(*words), f"--{flag}-column")
        words += [f"--{flag}-column", column]
    assert cli(*words, "--timestamp-column", "when")[0] == 0
    failed(cli(*words, "--values", "stars"), "(--values)")


def test_titles_cannot_command_the_terminal_and_wide_letters_wrap(cli, tmp_path, monkeypatch):
    wide = "\u9580" * 40
    table = tmp_path / "t.csv"
    table.write_text(f"user,item\na,\x1b[31mred\na,{wide}\nb,{wide}\nb,q\n", encoding="utf-8")
    assert cli("fit", "ease", "--data", table, "--out", tmp_path / "model")[0] == 0
    words = ("recommend", "--model", tmp_path / "model", "--items", wide)
    out = cli(*words)[1]
    assert "\x1b" not in out and all(len(line) + line.count("\u9580") <= 80 for line in out.splitlines())
    assert [line[:13] for line in out.splitlines()[:2]] == ["because of   ", " " * 13]
    assert "-0.000" not in out
    monkeypatch.setenv("COLUMNS", "0")
    assert cli("info")[0] == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_json_does_not_replace_what_is_no_file(cli, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    failed(cli("info", "--json", tmp_path / "pipe"), "device or a pipe")
    (tmp_path / "link").symlink_to("out.json")
    (tmp_path / "nowhere").symlink_to("missing")
    assert cli("info", "--json", tmp_path / "link")[0] == 0
    assert (tmp_path / "link").is_symlink() and strict_json(tmp_path / "out.json")
    failed(cli("fit", "popularity", "--out", tmp_path / "nowhere"), "link to a folder that does not exist")


# -- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "",
        "run",
        "run ease --rge 3",
        "run ease --reg many",
        "run ease --split sideways",
        "run unheard-of",
        "fit ease",
        "evaluate",
        "plan ease --users 3",
        "recommend --model m",
        "recommend --model m --items a --user b",
    ],
)
def test_commands_that_cannot_be_understood(cli, words):
    code, _, err = cli(*words.split())
    assert code == 2 and err and "Traceback" not in err


def test_bad_input_is_one_sentence(cli, tmp_path, ratings, model):
    failed(cli("run", "ease", "--reg", "-1"), "reg must be above 0")
    failed(cli("plan", "ease", "--reg", "nan", "--users", 3, "--items", 3, "--nnz", 3), "reg must be finite")
    failed(cli("plan", "ease", "--users", 0, "--items", 3, "--nnz", 3), "n_users")
    failed(cli("run", "ease", "--data", tmp_path / "nowhere.npz"), "nowhere.npz")
    failed(cli("run", "ease", "--metrics", "recal@20"), "recal")
    failed(cli("run", "ease", "--seed", "-1"), "seed must be at least 0")
    failed(cli("run", "ease", "--data", ratings, "--repeats", "error"), "repeat")
    failed(cli("run", "ease", "--data", ratings, "--user-column", "who"), "who")
    failed(cli("run", "ease", "--data", ratings, "--repeats", "last", "--split", "fixed"), "no fixed split")
    failed(cli("evaluate", "--model", tmp_path / "nowhere"), "not a saved jaxrec model")
    failed(cli("recommend", "--model", model, "--items", "windows"), "give more of the title")
    failed(cli("recommend", "--model", model, "--user", "nobody"), "nobody")
    failed(cli("recommend", "--model", model, "--items", "isapi", "-k", 0), "k must be")


@pytest.mark.parametrize("command", ["run ease --json {}", "run ease --save {}", "fit ease --out {}"])
@pytest.mark.parametrize("target", ["missing/out", "taken/out"])
def test_targets_that_cannot_be_written_are_refused_before_the_fit(cli, tmp_path, monkeypatch, command, target):
    monkeypatch.setattr(Ease, "fit", lambda *args, **_: pytest.fail("fitted for nothing"))
    (tmp_path / "taken" / "out").mkdir(parents=True)
    (tmp_path / "taken" / "out" / "thesis.tex").write_text("years of work")
    failed(cli(*command.format(tmp_path / target).split()), str(tmp_path / target))
    assert (tmp_path / "taken" / "out" / "thesis.tex").exists()


@pytest.mark.parametrize(
    "error",
    [
        FitError(Status.NOT_POSITIVE_DEFINITE, "raise reg."),
        MemoryError("Unable to allocate 6.26 GiB"),
        MemoryError(),
        OSError(28, "No space left on device", "arrays.npz"),
    ],
    ids=repr,
)
def test_failures_are_one_sentence(cli, tmp_path, monkeypatch, error):
    def fit(*args, **_):
        raise error

    monkeypatch.setattr(Ease, "fit", fit)
    failed(cli("run", "ease", "--json", tmp_path / "out.json", "--save", tmp_path / "model"))
    assert not os.listdir(tmp_path)
    monkeypatch.setenv("JAXREC_DEBUG", "1")
    code, _, err = cli("run", "ease")
    assert code == 1 and "Traceback" in err and type(error).__name__ in err


def test_an_interruption_is_one_line(cli, tmp_path, monkeypatch):
    def fit(*args, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ease, "fit", fit)
    code, _, err = cli("run", "ease", "--json", tmp_path / "out.json", "--save", tmp_path / "model")
    assert (code, err) == (130, "interrupted\n") and not os.listdir(tmp_path)


def test_defects_are_not_hidden(cli, monkeypatch):
    monkeypatch.setattr(Ease, "fit", lambda *args, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli("run", "ease")


def test_warnings_are_notes(cli, ratings):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli("run", "popularity", "--data", ratings)
    assert code == 0 and err.startswith("note: ") and "rows repeat" in err and err.count("\n") == 1


# -- help -------------------------------------------------------------------------------------------------------------


WITH_METHOD = [f"{command} {method}" for command in ("run", "fit", "plan") for method in METHODS]


@pytest.mark.parametrize("words", ["", "run", "evaluate", "recommend", "info", *WITH_METHOD])
def test_help_describes_every_flag(cli, words):
    code, out, _ = cli(*words.split(), "--help")
    assert code == 0 and "tyro" not in out and "dummy" not in out
    lines = [line.strip("│ ") for line in out.splitlines()]
    flags = {line.split()[0].strip(","): number for number, line in enumerate(lines) if line.startswith("-")}
    flags = {flag: number for flag, number in flags.items() if set(flag) != {"-"}}
    for flag, number in flags.items():
        # "--flag VALUE   what it means", or what it means on the next line where the first is too long.
        _, gap, meaning = lines[number].partition("  ")
        meaning = meaning.strip() if gap else lines[number + 1]
        assert len(meaning) > 10 and not meaning.startswith("-"), flag
    if words.startswith("run "):
        assert {"--data", "--json", "--metrics", "--split", "--seed", "--save", "--min-rating", "--repeats"} <= set(
            flags
        )


# -- as a process -----------------------------------------------------------------------------------------------------


def environment():
    return {**os.environ, "COLUMNS": "80", "XLA_FLAGS": ""}


def test_the_main_job_as_a_process(tmp_path):
    command = [sys.executable, "-m", "jaxrec", "run", "ease", "--json", "out.json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1000, env=environment())
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "recall@20" in ran.stdout and "\x1b" not in ran.stdout
    assert strict_json(tmp_path / "out.json")["reports"]["ease"]["metrics"]["recall@20"]["mean"] > 0.8


def test_ctrl_c_in_a_process(tmp_path):
    """Interrupted in the fit: exit code 130, one line, no file."""
    code = """
import sys, time
from jaxrec.linear.ease import Ease
def fit(*args, **_):
    print("fitting", flush=True)
    time.sleep(60)
Ease.fit = fit
from jaxrec.cli import main
sys.exit(main(["run", "ease", "--json", "out.json", "--save", "model"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if not any("fitting" in line for line in process.stdout):  # stops reading there
        pytest.fail(process.communicate(timeout=600)[1])
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (130, "interrupted\n") and not os.listdir(tmp_path)


def test_names_are_told_apart():
    """No method hides another in the registry, and none has a field that an option of the commands is called."""
    assert len(METHODS) == len(methods._OWN)
    commands = (Run, Fit, Plan, Tune, Source, Protocol)
    options = {field.name for command in commands for field in dataclasses.fields(command)} - {"method", "methods"}
    for name, method in METHODS.items():
        assert not options & {field.name for field in dataclasses.fields(method)}, name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "ease", "--devices", "²", "--out", "m"], "--devices must be all or a number of at least 1, got '²'"),
        (["fit", "ease", "--devices", "9" * 5000, "--out", "m"], "--devices must be all or a number"),
        (["plan", "ease", "--users", "9" * 401, "--items", 3, "--nnz", 4], "n_users must be below 2^63"),
        (["plan", "ease", "--users", 3, "--items", 3, "--nnz", 4, "--devices", "²xh100"], "devices must be"),
        (["fit", "popularity", "--data", "", "--out", "m"], "got an empty text"),
        (["fit", "ials", "--checkpoint", "empty", "--out", "m"], "empty is no checkpoint of this version"),
        (["fit", "ials", "--checkpoint", "pipe", "--out", "m"], "pipe is a folder, a device or a pipe"),
        (["run", "mult-vae", "--checkpoint", "array.npy"], "array.npy is no checkpoint of this version"),
    ],
)
def test_odd_words_are_one_sentence(words, said, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    np.save(tmp_path / "array.npy", np.arange(3))
    failed(cli(*words), said)


@pytest.mark.parametrize("k", [10**21, 10**15])
def test_more_recommendations_than_memory_holds(k, cli, model):
    failed(cli("recommend", "--model", model, "--items", "1000", "-k", k), "k must be" if k == 10**21 else "need")
