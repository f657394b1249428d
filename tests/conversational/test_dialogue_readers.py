"""Dialogues from files, in every format that is read; fixtures are written here."""

import gzip
import json

import pytest
import real_data
import recorded_folder as tiny

from jaxrec import InputError
from jaxrec.conversational import dialogue
from jaxrec.conversational.dialogue import Mention, Turn
from jaxrec.conversational.readers import json_files, load_dialogues, load_samples
from jaxrec.conversational.readers.turns import named_in

REDIAL = {
    "conversationId": 7,
    "initiatorWorkerId": 1,
    "respondentWorkerId": 2,
    "movieMentions": {"10": "Heat  (1995)", "11": "Up (2009)", "12": None},
    "initiatorQuestions": {"10": {"suggested": 0, "seen": 1, "liked": 1}, "11": {"seen": 2, "liked": 2}},
    "respondentQuestions": {"10": {"suggested": 0, "seen": 1, "liked": 0}, "11": {"seen": 1, "liked": 0}},
    "messages": [
        {"text": "Hi", "senderWorkerId": 1, "timeOffset": 0, "messageId": 1},
        {"text": "I like @10 and @99", "senderWorkerId": 1, "timeOffset": 5, "messageId": 2},
        {"text": "See @11! And @11", "senderWorkerId": 2, "timeOffset": 9, "messageId": 3},
        {"text": "", "senderWorkerId": 1, "timeOffset": 9, "messageId": 4},
    ],
}  # fmt: skip
COMPACT = {
    "conversationId": 7,
    "messages": [["S", "Hi"], ["S", "I like @10 and @99"], ["R", "See @11! And @11"], ["S", ""]],
    "movies": {"10": "Heat  (1995)", "11": "Up (2009)"},
    "seeker_form": {"10": [0, 1, 1], "11": [1, 2, 2]},
    "recommender_form": {"10": [0, 1, 0], "11": [1, 1, 0]},
}
TABLE = """dialog_id\tutt_id\tspeaker\ttext\tmovies
a\t1\tRECOMMENDER\tHi!\t
a\t2\tRECOMMENDER\tSeen QUOTATION_MARKheatQUOTATION_MARK?\tHeat (1995);  Up (2009)
a\t3\tSEEKER\tNo\t
b\t1\tSEEKER\tHello\t
"""
CHAT = [
    {"role": "system", "content": "You recommend films."},
    {"role": "user", "content": "I liked Heat (1995) and heat."},
    {"role": "assistant", "content": "Try Up!", "items": ["Up"]},
    {"role": "user", "content": "No.", "items": [{"title": "Up", "attitude": -2}]},
]


def write(path, records):
    return tiny.write(path, records) if path.suffix == ".gz" else _plain(path, records)


def _plain(path, records):
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


@pytest.mark.parametrize(("record", "name"), [(REDIAL, "redial.jsonl"), (COMPACT, "redial.jsonl.gz")])
def test_redial_in_either_form(tmp_path, record, name):
    (read,) = load_dialogues(write(tmp_path / name, [record]))
    assert read.id == "7" and read.opinions == {"Heat (1995)": 1, "Up (2009)": -1}
    seeker, recommender = read.turns
    assert seeker == Turn("seeker", "Hi I like Heat (1995) and @99", (Mention("Heat (1995)", 10, 21, 1),))
    assert recommender.text == "See Up (2009)! And Up (2009)" and recommender.items == ("Up (2009)",)
    for turn in read.turns:
        for each in turn.mentions:
            assert turn.text[each.start : each.stop] == each.item
    (sample,) = load_samples(tmp_path / name)
    assert sample == next(iter(dialogue.samples([read])))
    assert (sample.key, sample.targets, sample.seen) == ("7:1", ("Up (2009)",), ("Heat (1995)",))


def test_redial_without_films_and_forms(tmp_path):
    empty = {**REDIAL, "movieMentions": [], "initiatorQuestions": [], "respondentQuestions": []}
    (read,) = load_dialogues(write(tmp_path / "x.jsonl", [empty]))
    assert read.turns[0].text == "Hi I like @10 and @99" and read.opinions == {}
    with pytest.raises(InputError, match="no turn in which an item is recommended"):
        load_samples(tmp_path / "x.jsonl")


def test_inspired_as_a_table_and_compact(tmp_path):
    (tmp_path / "dev.tsv").write_text(TABLE)
    first, second = load_dialogues(tmp_path / "dev.tsv")
    assert first.turns[0].text == 'Hi! Seen "heat"?' and first.turns[0].items == ("Heat (1995)", "Up (2009)")
    assert first.turns[0].mentions == (Mention("Heat (1995)", 10, 14), Mention("Up (2009)"))
    assert second.id == "b" and second.turns == (Turn("seeker", "Hello"),)
    messages = [["R", "Hi!", []], ["R", "Seen QUOTATION_MARKheatQUOTATION_MARK?", ["Heat (1995)", "Up (2009)"]]]
    compact = {"dialog_id": "a", "messages": [*messages, ["S", "No", []]]}
    assert load_dialogues(write(tmp_path / "dev.jsonl", [compact])) == [first]


def test_chats_by_conversation_and_by_message(tmp_path):
    (read,) = load_dialogues(write(tmp_path / "a.jsonl", [{"id": "x", "messages": CHAT}]))
    assert [turn.speaker for turn in read.turns] == ["seeker", "recommender", "seeker"]
    assert read.turns[1].mentions == (Mention("Up", 4, 6),) and read.turns[2].mentions == (Mention("Up", -1, -1, -2),)
    (listed,) = load_dialogues(write(tmp_path / "b.jsonl", [CHAT]))
    assert listed.id == "1" and listed.turns == read.turns
    (flat,) = load_dialogues(write(tmp_path / "c.jsonl", CHAT))
    assert flat.turns == read.turns
    two = [{**each, "dialogue": place} for place in ("x", "y") for each in CHAT]
    assert [each.id for each in load_dialogues(write(tmp_path / "d.jsonl", two))] == ["x", "y"]


def test_turns_of_he_et_al(tmp_path):
    folder = tiny.make(tmp_path)
    samples = load_samples(folder / "llmcrs_tiny_test.jsonl.gz")
    assert [sample.key for sample in samples] == ["d:0", "d:1", "d:2", "d:3"]
    assert samples[0].context == (
        Turn("recommender", "Hello!"),
        Turn("seeker", "I like Al Pacino", (Mention("Al Pacino", 7, 16),)),
    )
    assert samples[1].targets == ("Heat", "Up") and samples[1].seen == ("Heat",)
    films = load_samples(folder / "llmcrs_tiny_test.jsonl.gz", items=["Heat", "Up"])
    assert films[0].context[1].mentions == () and films[0].seen == ("Al Pacino",)
    moved = tiny.write(tmp_path / "elsewhere" / "my_turns.jsonl.gz", tiny.turns())
    with pytest.raises(InputError, match="beside it; name the file"):
        load_samples(moved)
    assert load_samples(moved, entities=folder / "conversational/llmcrs_tiny_entities.json.gz") == samples


def test_turns_of_ievalm_and_of_one_text(tmp_path):
    turn = {"dialog_id": 3, "turn_id": 1, "context": ["", "Hello", "I like Heat (1995)."], "resp": "Up?"}
    turn |= {"entity": ["Heat (1995)", "action"], "rec": ["Up (2009)", "Up (2009)"]}
    first, second = load_samples(write(tmp_path / "turns.jsonl", [turn, turn]))
    assert (first.key, second.key, first.targets, first.seen) == (
        "3:1",
        "3:1:1",
        ("Up (2009)",),
        ("Heat (1995)", "action"),
    )
    assert first.context[1].mentions == (Mention("Heat (1995)", 7, 18),)
    text = {"context": "\nSystem: Hi!\nUser: Some drama\nor comedy?\nSystem: ", "movies": ["Up"]}
    (one,) = load_samples(write(tmp_path / "one.jsonl", [text]))
    assert one.context == (Turn("recommender", "Hi!"), Turn("seeker", "Some drama\nor comedy?"))
    with pytest.raises(InputError, match="1 turns have no targets, the first is 1"):
        load_samples(write(tmp_path / "one.jsonl", [{**text, "movies": []}]))
    with pytest.raises(InputError, match="no known format"):
        load_dialogues(tmp_path / "one.jsonl")


def test_where_a_text_names_items():
    text = "heat, HEAT (1995), Heated and The Heat"
    found = named_in(text, ["Heat (1995)", "The Heat", "Up"])
    assert [(each.item, text[each.start : each.stop]) for each in found if each.start >= 0] == [
        ("Heat (1995)", "heat"),
        ("Heat (1995)", "HEAT (1995)"),
        ("The Heat", "The Heat"),
    ]
    assert found[-1] == Mention("Up")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"hello\n", "line 1 is no JSON"),
        (b'{"messages": []}\n{"messages": [', "line 2 is no JSON"),
        (b"[" * 100_000, "line 1 is no JSON; the file is damaged"),
        (json.dumps([CHAT], indent=1).encode(), "line 1 is no JSON by itself; write each conversation on one line"),
        (b'{"a": 1}\n', "no known format; what can be read: ReDial"),
        (b"3\n", "no known format"),
        (b"\xff\xfe\n", "line 1 is no text in UTF-8"),
        (gzip.compress(b'{"messages": []}\n' * 9000)[:-40], "truncated or damaged"),
        (b"\x1f\x8bnonsense", "truncated or damaged"),
        (json.dumps({**REDIAL, "messages": [{"text": 3}]}).encode(), "'text' must be a text, got 3"),
        (json.dumps({**REDIAL, "initiatorWorkerId": None}).encode(), "'initiatorWorkerId' is not there"),
        (json.dumps({**REDIAL, "conversationId": []}).encode(), "'conversationId' is []"),
        (json.dumps({**COMPACT, "messages": [["X", "Hi"]]}).encode(), "a side, S or R, and a text, got ['X', 'Hi']"),
        (json.dumps({"dialog_id": "a", "messages": [["S", "Hi", 3]]}).encode(), "a text and titles"),
        (json.dumps([{**CHAT[1], "items": [{"title": "b", "start": 9}]}]).encode(), "a place that cannot be"),
        (json.dumps([{**CHAT[1], "items": [3]}]).encode(), "a title, or an object with one, got 3"),
        (json.dumps([{**CHAT[1], "items": "Up"}]).encode(), "'items' must be a list, got 'Up'"),
        (json.dumps([{**CHAT[1], "role": "bot"}]).encode(), "the role 'bot' is none of user, assistant, system"),
        (json.dumps([{"messages": CHAT}]).encode(), "a conversation a line"),
        (json.dumps(CHAT[:2]).encode(), "in chats, `items` of the assistant's messages say it"),
        (json.dumps({"messages": ["a"]}).encode(), "must be an object, got 'a'"),
        (b"dialog_id\tspeaker\ttext\n", "no column 'movies'"),
        (b"dialog_id\tspeaker\ttext\tmovies\na\tX\tHi\t\n", "the speaker is 'X'"),
        (b"dialog_id\tspeaker\ttext\tmovies\na\tX\n", "2 columns where 4"),
        (b'{"context": [3], "rec": ["a"], "entity": [], "dialog_id": 1, "turn_id": 1}', "must hold texts"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path, content, said):
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_samples(path)
    text = str(caught.value)
    assert said in text and text.endswith(".") and "\n" not in text and len(text) < 600


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="No such file"):
        load_dialogues(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        load_dialogues(tmp_path)
    with pytest.raises(InputError, match="path must be a path"):
        load_dialogues(None)
    monkeypatch.setattr(json_files, "LONGEST_LINE", 100)
    with pytest.raises(InputError, match="line 1 has more than 100 bytes"):
        load_dialogues(write(tmp_path / "long.jsonl", [REDIAL]))
    monkeypatch.setattr(json_files, "LONGEST_LINE", 10_000)
    monkeypatch.setattr(json_files, "MOST_BYTES", 2_000)
    with pytest.raises(InputError, match="it unpacks to more than 2,000 bytes"):
        load_dialogues(write(tmp_path / "bomb.jsonl.gz", [REDIAL] * 9))


@real_data.needs("redial_test.jsonl.gz", "inspired_test.jsonl.gz", "conversational/opendialkg_valid.jsonl.gz")
def test_real_files_have_as_many_turns_as_published():
    redial = load_dialogues(real_data.FOLDER / "redial_test.jsonl.gz")
    assert len(redial) == 1_342 and all(
        each.start >= 0 for one in redial for turn in one.turns for each in turn.mentions
    )
    assert len(load_dialogues(real_data.FOLDER / "inspired_test.jsonl.gz")) == 99
    dialkg = load_samples(real_data.FOLDER / "conversational" / "opendialkg_valid.jsonl.gz")
    assert len(dialkg) == 1_188 and sum(len(sample.targets) for sample in dialkg) == 1_254


@real_data.needs("llmcrs_inspired_test.jsonl.gz", "conversational/llmcrs_inspired_entities.json.gz")
def test_contexts_of_real_turns_are_as_their_authors_wrote_them():
    path = real_data.FOLDER / "llmcrs_inspired_test.jsonl.gz"
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    samples = load_samples(path)
    names = {"seeker": "User", "recommender": "System"}
    assert len(samples) == 228
    for record, sample in zip(records, samples, strict=True):
        written = "".join(f"\n{names[turn.speaker]}: {turn.text}" for turn in sample.context)
        assert record["input"] == f"{written}\nSystem: "
