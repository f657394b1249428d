"""Recorded replies in a folder: read, checked against their samples, and scored."""

import gzip
import json
import shutil

import numpy as np
import pytest
import recorded_folder as tiny

from jaxrec import InputError
from jaxrec.conversational.recorded import layout, load_run, score_replies


@pytest.fixture
def folder(tmp_path):
    return tiny.make(tmp_path)


def test_a_small_run_by_hand(folder):
    table = score_replies(folder, "model.general")
    # New: Heat at rank 1; Up at 1; The Godfather at 1; Alien in an empty reply. Named before: Heat at 2, with 2 edits.
    assert table["recommendation", "recall@1"] == (0.75, np.std([1, 1, 1, 0], ddof=1) / 2)
    assert table["discussion", "recall@1"][0] == 0.0 and table["discussion", "mrr@5"][0] == 0.5
    assert table["all", "ndcg@20"][0] == pytest.approx((3 + 1 / np.log2(3)) / 5)
    assert [table.count(condition) for condition in ("recommendation", "discussion", "all")] == [4, 1, 5]
    without = score_replies(folder, "model.general", exclude_seen=True)
    assert without["discussion", "recall@20"][0] == 0.0
    assert set(table) == {
        (condition, f"{metric}@{k}")
        for condition in ("recommendation", "discussion", "all")
        for metric in ("recall", "ndcg", "mrr")
        for k in (1, 5, 10, 20)
    }


def test_the_inner_folder_does_as_well(folder):
    assert dict(score_replies(folder / "conversational", "model.general")) == dict(
        score_replies(folder, "model.general")
    )
    assert layout(folder).runs == ["model.general"] and layout(folder).sets == ["tiny"]


def test_without_the_vocabulary_a_title_of_no_film_takes_a_rank(tmp_path):
    texts = ["1. Interstellar Voyages\n2. Heat", *tiny.REPLIES[1:]]
    folder = tiny.make(tmp_path, texts)
    assert score_replies(folder, "model.general")["recommendation", "recall@1"][0] == 0.75
    assert score_replies(folder, "model.general", in_vocabulary=False)["recommendation", "recall@1"][0] == 0.5
    strict = score_replies(folder, "model.general", in_vocabulary=False, rules="strict")
    assert strict["recommendation", "recall@1"][0] == 0.5 and strict["recommendation", "mrr@5"][0] == 0.625


def test_recorded_matches_are_taken_as_they_are(folder):
    records = tiny.replies()
    for record in records:
        record["rec_list"] = [{"movie_name": "x", "min_edit_distance": 2, "nearest_movie": "Alien"}]
        record["rec_list"].append({"movie_name": "y", "min_edit_distance": 3, "nearest_movie": "Up"})
    tiny.write(folder / "conversational/replies/other.general.jsonl.gz", records)
    assert score_replies(folder, "other.general", rules="recorded")["all", "recall@20"][0] == 1 / 5
    assert score_replies(folder, "other.general", False, rules="recorded")["all", "recall@20"][0] == 2 / 5
    with pytest.raises(InputError, match="no recorded matches"):
        score_replies(folder, "model.general", rules="recorded")
    records[0]["rec_list"][0]["nearest_movie"] = "Alienn"
    tiny.write(folder / "conversational/replies/other.general.jsonl.gz", records)
    with pytest.raises(InputError, match="'Alienn' is the name of no entity"):
        score_replies(folder, "other.general", rules="recorded")


def test_failed_requests_and_samples_without_a_reply_are_counted(folder):
    records = tiny.replies()[:3]
    records[0]["resp"] = {"error": {"message": "overloaded"}}
    records[1]["resp"] = "1. Heat\n2. Up"  # a text alone
    path = tiny.write(folder / "conversational/replies/part.general.jsonl.gz", records)
    table = score_replies(folder, "part.general")
    assert table.n_failed == 2 and table.count("all") == 5 and table["recommendation", "recall@5"][0] == 0.5
    fewer = score_replies(folder, "part.general", failed_as="leave out")
    assert fewer.count("all") == 3 and fewer["recommendation", "recall@5"][0] == 1.0
    records[2]["resp"] = None
    tiny.write(path, records)
    assert load_run(folder, "part.general").failed.tolist() == [True, False, True, True]


def test_a_probe_may_have_its_own_test_set(folder):
    tiny.write(folder / "conversational/llmcrs_tiny_test_p2.jsonl.gz", tiny.turns(context=["", "Heat"]))
    shutil.copy(
        folder / "conversational/replies/model.general.jsonl.gz", folder / "conversational/replies/model.p2.jsonl.gz"
    )
    assert load_run(folder, "model.p2").samples[0].context[0].text == "Heat"
    assert load_run(folder, "model.general").samples[0].context[0].text == "Hello!"


def test_of_several_sets_the_one_is_found_that_the_replies_are_to(folder):
    others = [{**turn, "rec": [3], "prev_entity": []} for turn in tiny.turns()]
    tiny.write(folder / "llmcrs_another_test.jsonl.gz", others)
    tiny.write(folder / "conversational/llmcrs_another_entities.json.gz", [tiny.ENTITIES])
    assert score_replies(folder, "model.general").count("all") == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.rename(f / "conversational/replies/model.general.jsonl.gz", "other"), "no run 'model.general'"),
        (lambda f: f.remove(f / "conversational/replies"), "no folder conversational/replies"),
        (lambda f: f.remove(f / "llmcrs_tiny_test.jsonl.gz"), "the samples that the replies are to"),
        (lambda f: f.remove(f / "conversational/llmcrs_tiny_entities.json.gz"), "there is no file"),
        (
            lambda f: f.turns([{**turn, "rec": []} for turn in tiny.turns()]),
            "4 turns have no targets, the first is d:0",
        ),
        (
            lambda f: f.turns([{**turn, "rec": [1]} for turn in tiny.turns()]),
            "other samples than those of tiny (sample 0",
        ),
        (lambda f: f.turns(tiny.turns()[:2]), "it has 2 samples, and there is a reply to number 3"),
        (lambda f: f.turns([{**turn, "rec": [99]} for turn in tiny.turns()]), "99, which is no number of an entity"),
        (lambda f: f.turns([{**turn, "rec": [[0]]} for turn in tiny.turns()]), "[0], which is no number of an entity"),
        (lambda f: f.turns([{"messages": [{"role": "assistant", "content": "Up", "items": ["Up"]}]}]), "'rec' is not"),
        (lambda f: f.films(5), "must be a list of the numbers"),
        (lambda f: f.films([[0]]), "must be a list of the numbers"),
        (lambda f: f.films([99]), "has no number of an entity"),
        (lambda f: f.replies([{**tiny.replies()[0], "index": -1}]), "below 0"),
        (lambda f: f.replies([tiny.replies()[0]] * 2), "is there twice"),
        (lambda f: f.replies([{"index": 0}]), "'gt_list' is not there"),
        (lambda f: f.replies([{**tiny.replies()[0], "resp": 3}]), "must be an object"),
        (lambda f: f.replies([{**tiny.replies()[0], "resp": {"choices": [{}]}}]), "'message' is not there"),
        (lambda f: f.replies([{**tiny.replies()[0], "rec_list": [{}]}]), "'movie_name' is not there"),
        (lambda f: f.replies([]), "holds no replies"),
        (lambda f: f.cut(f / "conversational/replies/model.general.jsonl.gz"), "truncated or damaged"),
        (lambda f: f.cut(f / "conversational/llmcrs_tiny_entities.json.gz"), "truncated or damaged"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_sentence(tmp_path, change, said):
    change(Changer(tiny.make(tmp_path)))
    with pytest.raises(InputError) as caught:
        score_replies(tmp_path, "model.general")
    text = str(caught.value)
    assert said in text and text.endswith(".") and "\n" not in text


class Changer:
    """A folder that something is done to."""

    def __init__(self, folder):
        self.folder = folder

    def __truediv__(self, name):
        return self.folder / name

    def rename(self, path, name):
        path.rename(path.with_name(name))

    def remove(self, path):
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def turns(self, records):
        tiny.write(self.folder / "llmcrs_tiny_test.jsonl.gz", records)

    def films(self, numbers):
        tiny.write(self.folder / "conversational/llmcrs_tiny_item_ids.json.gz", [numbers])

    def replies(self, records):
        tiny.write(self.folder / "conversational/replies/model.general.jsonl.gz", records)

    def cut(self, path):
        path.write_bytes(path.read_bytes()[:-12])


def test_other_arguments_are_refused(folder):
    for wrong, said in (({"rules": "papr"}, "the closest is paper"), ({"in_vocabulary": "yes"}, "True or False")):
        with pytest.raises(InputError, match=said):
            score_replies(folder, "model.general", **wrong)
    with pytest.raises(InputError, match="folder must be a path"):
        score_replies(None, "model.general")
    (folder / "conversational/llmcrs_tiny_item_ids.json.gz").write_bytes(gzip.compress(json.dumps([0]).encode()))
    # Only "Heat" is a film now, which "Haet" is too far from by strict rules.
    assert score_replies(folder, "model.general", rules="strict")["all", "recall@20"][0] == 1 / 5


def test_an_entity_of_whose_name_nothing_is_left_changes_nothing(tmp_path, folder):
    tiny.make(tmp_path / "other")
    entities = {**tiny.ENTITIES, "<http://dbpedia.org/resource/(film)": 7}
    tiny.write(tmp_path / "other/conversational/llmcrs_tiny_entities.json.gz", [entities])
    for rules in ("paper", "strict"):
        theirs = score_replies(tmp_path / "other", "model.general", rules=rules)
        assert dict(theirs) == dict(score_replies(folder, "model.general", rules=rules))
