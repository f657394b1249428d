"""The experiment on recorded replies: drawn ones, a miniature folder, and what its table says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import real_data

from jaxrec import InputError, cli
from jaxrec.experiments import reproduce, zero_shot
from jaxrec.experiments.harness.replies import DRAWN, RECORDED, drawn_run

sys.path.append(str(Path(__file__).parents[1] / "conversational"))
import recorded_folder as tiny


def test_smoke_draws_its_replies(tmp_path):
    said = []
    folder = reproduce("zero-shot", tmp_path / "none", tmp_path, scale="smoke", say=said.append)[DRAWN.name]
    record = json.loads((folder / "results.json").read_text())
    assert record["prepared"].startswith("drawn") and set(record["runs"]) == {"model.general", "model.p2"}
    text = (folder / "table.md").read_text()
    assert "| model.p2 | model.general |" in text and (folder / "recall.png").stat().st_size > 5_000
    reproduce("zero-shot", tmp_path / "none", tmp_path, scale="smoke", say=said.append)
    assert "0 cells computed" in said[-1] and (folder / "table.md").read_text() == text


def test_every_run_of_a_folder_is_scored_and_a_new_one_is_added(tmp_path, capsys):
    data = tiny.make(tmp_path / "data")
    assert cli.main(["reproduce", "zero-shot", "--data", str(data), "--out", str(tmp_path / "out")]) == 0
    assert "| model.general | in vocabulary | 0.7500" in capsys.readouterr().out
    records = tiny.replies(["1. Alien", *tiny.REPLIES[1:3], "1. Alien"])
    tiny.write(data / "conversational/replies/another-1.5.general.jsonl.gz", records)
    said = []
    folder = reproduce("zero-shot", data, tmp_path / "out", say=said.append)[RECORDED.name]
    table = (folder / "table.md").read_text()
    assert "13 cells computed, 13 found" in said[-1] and "| another-1.5.general | in vocabulary | 0.7500" in table
    inner = reproduce("zero-shot", data / "conversational", tmp_path / "out", say=said.append)
    assert "0 cells computed" in said[-1] and (inner[RECORDED.name] / "table.md").read_text() == table


def test_summaries_of_another_set_are_not_compared_and_no_summaries_are_refused(tmp_path):
    data, said = tiny.make(tmp_path / "data"), []
    summaries = data / "conversational" / zero_shot.SUMMARIES
    text = "condition,recall@1_mean,recall@1_se\n"
    tiny.write(summaries, [{f"model/general/{each}/filtered_True_exclude_seen_True": text for each in ("tiny", "big")}])
    folder = reproduce("zero-shot", data, tmp_path / "out", say=said.append)[RECORDED.name]
    record = json.loads((folder / "results.json").read_text())
    assert list(record["summaries"]) == ["model.general, in vocabulary, unseen"]
    tiny.write(summaries, [{"model/general/big/filtered_True_exclude_seen_True": text}])
    folder = reproduce("zero-shot", data, tmp_path / "out", say=said.append)[RECORDED.name]
    assert json.loads((folder / "results.json").read_text())["summaries"] == {}
    for wrong in ([1], {"weird": "x"}, {"model/general/tiny/filtered_True_exclude_seen_True": "a,b\n1,2\n"}):
        tiny.write(summaries, [wrong])
        with pytest.raises(InputError, match="is in no known form"):
            reproduce("zero-shot", data, tmp_path / "out", say=said.append)


def test_a_folder_without_replies_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs data that are not in the folder"):
        reproduce("zero-shot", tmp_path, tmp_path / "out")


def test_probes_belong_to_the_same_model():
    names = ["a.general", "a.p2", "a.p3", "b.p2", "c-1.5.general", "c-1.5.p4"]
    assert zero_shot.probes(names) == [("a.p2", "a.general"), ("a.p3", "a.general"), ("c-1.5.p4", "c-1.5.general")]


def test_drawn_replies_are_the_same_each_time():
    assert drawn_run("model.general").texts == drawn_run("model.general").texts != drawn_run("model.p2").texts


@real_data.needs("conversational/llmcrs_summaries.json.gz", "conversational/replies/gpt-4.general.jsonl.gz")
@pytest.mark.timeout(600)
def test_the_published_figures_are_reproduced(tmp_path):
    folder = reproduce("zero-shot", real_data.FOLDER, tmp_path)[RECORDED.name]
    record = json.loads((folder / "results.json").read_text())
    assert len(record["published"]) == 12 and all(each["within"] for each in record["published"])
    assert len(record["summaries"]) == 12 and {each["recorded"] for each in record["summaries"].values()} == {72}
    from_texts = {name: each["paper"] for name, each in record["summaries"].items()}
    assert all(count == 72 for name, count in from_texts.items() if "in vocabulary" in name)


def test_the_list_of_experiments_does_without_the_packages_of_conversations():
    code = "import sys, jaxrec.experiments; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    assert not {"rapidfuzz", "bm25s", "httpx", "tenacity"} & set(ran.stdout.split())
