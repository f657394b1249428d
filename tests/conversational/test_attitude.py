"""What the words around a name say of it."""

import pytest

from jaxrec.conversational.attitude import attitude


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I hated Alien but loved Cube", {"Alien": -2, "Cube": 2}),
        ("I loved Cube, but Alien bored me to death. Heat was great", {"Cube": 2, "Heat": 1}),
        ("Alien was boring. Cube is my favorite", {"Alien": -1, "Cube": 2}),
        ("I didn't like Alien", {"Alien": -1}),
        ("I didn\u2019t really enjoy Alien", {"Alien": -1}),
        ("Alien was not bad", {"Alien": 1}),
        ("Alien was not good at all", {"Alien": -1}),
        ("nothing like Alien please, I never liked it", {"Alien": 1}),
        ("something like Alien", {"Alien": 1}),
        ("have you seen Alien or Cube?", {"Alien": 0, "Cube": 0}),
        ("Alien", {"Alien": 0}),
        ("HATE Alien!", {"Alien": -2}),
        ("no, I hated Alien", {"Alien": -2}),
    ],
)
def test_the_nearest_word_of_the_same_part_counts(text, expected):
    for name, opinion in expected.items():
        start = text.index(name)
        assert attitude(text, start, start + len(name)) == opinion, name


def test_words_far_away_say_nothing():
    assert attitude("I hated " + "?" * 500 + " Alien", 509, 514) == 0
