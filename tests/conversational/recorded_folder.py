"""A folder of recorded replies in miniature, written by hand: four turns, six names of which four are films."""

import gzip
import json

ENTITIES = {
    "<http://dbpedia.org/resource/Heat_(film)>": 0,
    "<http://dbpedia.org/resource/Up>": 1,
    "The_Godfather": 2,
    "<http://dbpedia.org/resource/Alien>": 3,
    "<http://dbpedia.org/resource/Al_Pacino>": 4,
    "drama": 5,
    "<http://dbpedia.org/resource/Heat_(1995_film)>": 6,  # another number of the same name
}
FILMS = [0, 1, 2, 3, 6]
TURNS = [
    {"context": ["", "Hello!", "I like Al Pacino"], "resp": "Heat!", "rec": [0], "prev_entity": [4]},
    {"context": ["Hello", "Heat?", "Seen it"], "resp": "Heat again, or Up.", "rec": [6, 1], "prev_entity": [0]},
    {"context": ["A drama"], "resp": "The Godfather", "rec": [2], "prev_entity": [5]},
    {"context": ["Up was nice"], "resp": "Alien", "rec": [3], "prev_entity": [1]},
]
REPLIES = ["1. heat (1995)\n2. Up", "1. Up\n2. Haet\n3. The Godfather", "The Godfather", ""]
NAMES = {0: "Heat", 1: "Up", 2: "The Godfather", 3: "Alien", 4: "Al Pacino", 5: "drama", 6: "Heat"}


def turns(**changes):
    return [{"dialog_id": "d", "turn_id": place, "is_user": 0, **turn, **changes} for place, turn in enumerate(TURNS)]


def replies(texts=REPLIES):
    return [
        {
            "index": place,
            "prompt": "Pretend",
            "resp": {"choices": [{"message": {"role": "assistant", "content": text}}]},
            "gt_list": [NAMES[number] for number in turn["rec"]],
            "prev_list": [NAMES[number] for number in turn["prev_entity"]],
        }
        for place, (turn, text) in enumerate(zip(TURNS, texts, strict=True))
    ]


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(each) + "\n" for each in records).encode()))
    return path


def make(folder, texts=REPLIES):
    inner = folder / "conversational"
    write(folder / "llmcrs_tiny_test.jsonl.gz", turns())
    write(inner / "llmcrs_tiny_entities.json.gz", [ENTITIES])
    write(inner / "llmcrs_tiny_item_ids.json.gz", [FILMS])
    write(inner / "replies" / "model.general.jsonl.gz", replies(texts))
    return folder
