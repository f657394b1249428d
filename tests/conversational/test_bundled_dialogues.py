"""The conversations that ship with the library, beside the interactions of the same."""

import numpy as np
import pytest

import jaxrec
from jaxrec import InputError
from jaxrec.conversational import load, mentioned
from jaxrec.conversational.dialogue import samples


@pytest.fixture(scope="module")
def talks():
    return load("redial")


def test_redial_has_its_test_conversations(talks):
    assert len(talks) == len({talk.id for talk in talks}) == 1_342
    assert sum(len(talk.turns) for talk in talks) > 15_000
    new = [[title for title in each.targets if title not in each.seen] for each in samples(talks)]
    assert sum(map(len, new)) == 4_498


def test_titles_are_those_of_the_interactions(talks):
    data = jaxrec.load("redial")
    titles = data.items.titles.tolist()
    known = set(titles)
    assert all(each.item in known for talk in talks for turn in talk.turns for each in turn.mentions)
    tested = data.rows(np.flatnonzero(data.user_split == 1))
    assert set(map(str, tested.user_ids)) == {talk.id for talk in talks}


def test_likes_in_both_are_the_same(talks):
    data = jaxrec.load("redial", min_rating=1)
    rows = {str(name): row for row, name in enumerate(data.user_ids)}
    made = mentioned.interactions(talks, data.items.titles.tolist())
    same = sum(
        set(made.indices[made.indptr[row] : made.indptr[row + 1]].tolist())
        == set(data.indices[data.indptr[rows[talk.id]] : data.indptr[rows[talk.id] + 1]].tolist())
        for row, talk in enumerate(talks)
    )
    assert same == 1_321  # in the others, both sides' forms say different things of a film


def test_a_file_will_do_and_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "talk.jsonl"
    path.write_text('{"role": "user", "content": "hello"}\n')
    assert load(path)[0].turns[0].text == load(str(path))[0].turns[0].text == "hello"
    with pytest.raises(InputError, match="the closest is redial"):
        load("redail")
    with pytest.raises(InputError, match=r"nothing\.jsonl"):
        load("nothing.jsonl")
