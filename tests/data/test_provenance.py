"""What data say of where they are from, and what follows from it."""

import dataclasses
import json

import numpy as np
import pytest

import jaxrec
from jaxrec import Interactions, Popularity
from jaxrec.data.provenance import settings_of, trained_on
from jaxrec.data.splits import SPLITS, strong_generalization


@pytest.fixture
def data(rng):
    x = rng.random((80, 15)) < 0.5
    return Interactions.from_triples(
        *np.nonzero(x), timestamps=rng.integers(0, 99, x.sum()), user_split=np.arange(80) % 2
    )


def of(train):
    return train.summary()


@pytest.mark.parametrize("name", SPLITS)
def test_parts_of_one_split_have_nothing_in_common(name, data):
    parts = SPLITS[name](data)
    for part in filter(None, (parts.test, parts.validation)):
        assert trained_on(of(parts.train), part.targets) is False
        assert trained_on(of(data), part.targets) is True  # fitted on everything
        assert trained_on(of(part.targets), part.targets) is True
        if part.fold_in is not parts.train:
            assert trained_on(of(part.fold_in), part.targets) is False
        assert part.targets.divisions[0]["of"] == data.fingerprint
        again = SPLITS[name](data, **settings_of(part.targets.divisions[0]))
        assert again.test.targets.fingerprint == parts.test.targets.fingerprint
    json.dumps(of(parts.train))


def test_two_splits_of_the_same_data_have(data):
    one, other = (strong_generalization(data, 20, seed=seed) for seed in (1, 2))
    assert trained_on(of(one.train), other.test.targets) is True
    assert trained_on(of(jaxrec.split(data, "random").train), one.test.targets) is True


def test_splits_of_a_part(data):
    outer = jaxrec.split(data, "strong")
    inner = jaxrec.split(outer.train, "per-user")
    assert len(inner.train.divisions) == 2
    assert trained_on(of(inner.train), outer.test.targets) is False
    assert trained_on(of(inner.train), inner.test.targets) is False
    assert trained_on(of(outer.train), inner.test.targets) is True


def test_where_nothing_is_known(data, rng):
    half = data.rows(np.arange(40))
    other = Interactions.from_triples(*np.nonzero(rng.random((80, 15)) < 0.5))
    targets = jaxrec.split(data, "random").test.targets
    for trained in (of(half), of(other), {"name": "saved long ago"}, of(jaxrec.split(other, "random").train)):
        assert trained_on(trained, targets) is None
    assert trained_on(of(half), data.rows(np.arange(40, 80))) is None


def test_what_was_asked_of_the_reader_is_kept(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("who,item,stars\n" + "".join(f"{u},{i},{(u + i) % 5 + 1}\n" for u in range(9) for i in range(9)))
    data = jaxrec.load(table, user="who", rating="stars", min_rating=3, repeats="last")
    asked = {"user": "who", "rating": "stars", "min_rating": 3.0, "repeats": "last"}
    assert data.source == {"bundled": None, "item": "item", **asked}
    fitted = Popularity().fit(jaxrec.split(data, "random").train)
    jaxrec.save(tmp_path / "model", fitted)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["data"]["source"] == data.source
    assert config["data"]["divisions"][0] | {"of": ""} == {
        **{"split": "random", "test_fraction": 0.2, "seed": 0},
        **{"of": "", "part": "train"},
    }
    loaded = jaxrec.load_model(tmp_path / "model")
    assert loaded.info.data == fitted.info.data
    assert jaxrec.load("msweb", name="web").source == {"bundled": "msweb"}


def test_added_users_make_it_unknown(data):
    train = jaxrec.split(data, "random").train
    added = dataclasses.replace(data.rows([0]), divisions=())
    fitted, new, _ = jaxrec.update(jaxrec.Ease(5.0).fit(train), train, added=added)
    assert new.divisions == () and trained_on(fitted.info.data, jaxrec.split(data, "random").test.targets) is None
