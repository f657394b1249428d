"""Recommendations by id, title and table, of whatever data the histories are from."""

import dataclasses
import sys
from itertools import chain

import jax
import numpy as np
import pytest

import jaxrec
from jaxrec import Catalogue, Ease, InputError, Interactions, ItemScores, ItemWeights, Popularity, recommend
from jaxrec.data.splits import strong_generalization
from jaxrec.factorization import fold_in

CSV = {
    "jan": "user,item\n1,a\n1,b\n2,a\n2,b\n3,b\n3,c\n4,a\n4,b\n",
    "feb": "user,item\n9,b\n8,c\n8,d\n",
    "x": "user,item\n1,x\n1,y\n2,z\n",
}


@pytest.fixture
def months(tmp_path):
    for name, text in CSV.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return {name: jaxrec.load(tmp_path / f"{name}.csv") for name in CSV}


@pytest.fixture
def films(rng):
    """70 users and 14 films with ids and titles; the strong split has all films, in another order."""
    taste = rng.random((3, 14)) ** 2
    x = rng.random((70, 14)) < 0.2 + 0.8 * taste[rng.integers(0, 3, 70)]
    return Interactions.from_triples(
        *np.nonzero(x),
        n_users=70,
        n_items=14,
        item_ids=100 + np.arange(14)[::-1],
        titles=[f"film {i}" for i in range(14)],
        user_ids=[f"u{u}" for u in range(70)],
        name="films",
    )


def naive(fitted, ids, k):
    """The ids of the best items for a history of ids, by a loop over the model's own numbering."""
    known = {str(name): i for i, name in enumerate(fitted.info.items.ids)}
    seen = [known[str(name)] for name in ids if str(name) in known]
    scores = np.asarray(fitted.model.weights, np.float64)[seen].sum(0)
    left = [i for i in np.argsort(-scores, kind="stable") if i not in seen]
    return [fitted.info.items.ids[i].item() for i in left[:k]]


def test_a_history_of_other_data_is_matched_by_id(months, tmp_path):
    jan, feb = months["jan"], months["feb"]
    jaxrec.save(tmp_path / "m", Ease(reg=1.0).fit(jan))
    fitted = jaxrec.load_model(tmp_path / "m")
    history = feb.rows([feb.user_index(9)])
    for model in (fitted, fitted.model):
        top = recommend(model, history, 2)
        assert top.titles() == top.titles(feb.items) == top.titles(fitted.info.items) == top.ids() == [["a", "c"]]
    with pytest.warns(UserWarning, match=r"feb: 1 entries of 1 items that the model does not know \(d\) are left out"):
        assert recommend(fitted, feb, 1).ids() == [["b"], ["a"]]
    with pytest.raises(InputError, match=r"x: the model knows none of its items \(x, y, z; there they are a, b, c\)"):
        recommend(fitted, months["x"])


@pytest.mark.parametrize("devices", [None, 2])
def test_the_lines_of_the_readme_with_a_split_that_renumbers(films, devices):
    train, _, _ = strong_generalization(films, 10)
    assert train.n_items == films.n_items and (train.items.ids != films.items.ids).any()
    fitted = Ease(reg=20.0).fit(train, devices=devices and jax.devices()[:devices])
    for title in ("film 3", "film 11"):
        liked = Interactions.from_lists([[films.items.find(title)]], films.items)
        expected = naive(Ease(reg=20.0).fit(train), [films.items.ids[films.items.find(title)]], 5)
        titles = [films.items.label(films.items.find(name)) for name in expected]
        for model in (fitted, fitted.model):
            top = recommend(model, liked, k=5)
            assert top.ids() == [expected]
            assert top.titles() == top.titles(films.items) == top.titles(train.items) == [titles]
    user = films.rows([films.user_index("u7")])
    ids = films.items.ids[user.indices]
    assert recommend(fitted, user, 4).ids() == [naive(Ease(reg=20.0).fit(train), ids, 4)]


def test_the_lines_of_the_readme_without_any_ids(films):
    bare = Interactions.from_csr(films.to_csr())
    fitted = Ease(reg=20.0).fit(strong_generalization(bare, 10).train)
    liked = Interactions.from_lists([[bare.items.find(3)]], bare.items)
    assert recommend(fitted, liked, 5).ids() == [naive(fitted, [3], 5)]


def test_permuted_items_give_the_same_lists(films, rng):
    fitted = Ease(reg=20.0).fit(films)
    expected = recommend(fitted, films, 6)
    shuffled = films.select_items(rng.permutation(14))
    found = recommend(fitted, shuffled, 6)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.titles(shuffled.items) == expected.titles()


def test_a_scipy_matrix_is_in_the_models_order(films):
    fitted = Ease(reg=20.0).fit(films)
    np.testing.assert_array_equal(recommend(fitted, films.to_csr(), 3).items, recommend(fitted, films, 3).items)
    assert recommend(fitted, films.to_csr()[:1], 2).to_polars()["user"].to_list() == [0, 0]
    bare = Interactions.from_csr(films.to_csr())
    assert recommend(fitted, bare.rows([8, 3]), 1).to_polars()["user"].to_list() == [8, 3]


def test_a_scorer_of_ones_own_may_carry_a_catalogue(films, rng):
    class Mine:
        n_items, items = 14, films.items

        def score(self, history):
            return history.dense(14)

    order = rng.permutation(14)
    found = recommend(Mine(), films.select_items(order), 1, exclude_seen=False)
    np.testing.assert_array_equal(found.items, recommend(Mine(), films, 1, exclude_seen=False).items)


def test_models_carry_their_catalogue_outside_of_the_pytree(films):
    model = Ease(reg=20.0).fit(films).model
    assert model.items is films.items and len(jax.tree.leaves(model)) == 2
    assert jax.tree.structure(model) == jax.tree.structure(ItemWeights(model.weights, model.unexplained))
    through = jax.jit(lambda m: m)(model)
    assert through.items is None and dataclasses.replace(model, weights=model.weights).items is None
    assert ItemWeights(model.weights).items is None


def test_factors_of_histories_are_matched_by_id(films, rng):
    model = jaxrec.Ials(rank=3).fit(films).model
    np.testing.assert_allclose(
        fold_in(model, films.select_items(rng.permutation(14))), fold_in(model, films), atol=1e-5
    )


def test_tables_have_a_row_a_recommendation(films):
    data = films.rows([films.user_index("u5"), films.user_index("u2")])
    top = recommend(Ease(reg=20.0).fit(films), data, 14)
    left = [14 - n for n in data.user_counts.tolist()]
    for frame in (top.to_polars(), top.to_pandas()):
        assert list(frame.columns) == ["user", "item", "rank", "score", "title"] and len(frame) == sum(left)
        columns = {name: list(frame[name]) for name in frame.columns}
        assert columns["user"] == ["u5"] * left[0] + ["u2"] * left[1]
        assert columns["item"] == [*chain(*top.ids())] and columns["title"] == [*chain(*top.titles())]
        assert columns["rank"] == [*range(1, left[0] + 1), *range(1, left[1] + 1)]
        np.testing.assert_allclose(columns["score"], top.scores[np.isfinite(top.scores)])
    bare = recommend(Popularity().fit(Interactions.from_lists([[0], [1]], 3)), Interactions.from_lists([[0]], 3), 1)
    assert bare.to_polars().rows() == [(0, 1, 1, 0.5, None)]


def test_no_index_of_an_item_stands_for_none(films):
    top = recommend(Ease(reg=20.0).fit(films), films, 14)
    missing = top.items == 14
    assert missing.any() and (top.items >= 0).all() and (top.scores[missing] == -np.inf).all()
    with pytest.raises(IndexError):
        films.items.ids[top.items]
    assert sum(map(len, top.ids())) == sum(map(len, top.titles())) == 70 * 14 - films.nnz
    items, scores = top
    assert items is top.items and scores is top.scores and len(top) == 70


def test_titles_of_another_catalogue(films):
    fitted = Ease(reg=20.0).fit(dataclasses.replace(films, items=Catalogue(14, films.items.ids)))
    top = recommend(fitted, films, 2)
    assert top.titles() == [[str(name) for name in row] for row in top.ids()]
    titles = [[films.items.label(films.items.find(name)) for name in row] for row in top.ids()]
    assert top.titles(films.items.take(np.arange(14)[::-1])) == titles
    with pytest.raises(InputError, match="the catalogue given knows none of its items"):
        top.titles(Catalogue(1, np.array([7])))
    with pytest.raises(InputError, match="the catalogue given has 3 items and the recommendations are of 14"):
        top.titles(Catalogue(3))


def test_without_pandas_one_sentence(films, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="to_pandas needs pandas: pip install pandas"):
        recommend(Popularity().fit(films), films, 1).to_pandas()


def test_empty_histories_are_noted(films):
    histories = dataclasses.replace(Interactions.from_lists([[0], [], [1], []], films.items), name="mine")
    with pytest.warns(
        UserWarning, match=r"mine: 2 of 4 histories \(the first in row 1\) hold no item that the model knows"
    ):
        top = recommend(Ease(reg=20.0).fit(films), histories, 3)
    assert top.items[1].tolist() == [0, 1, 2] and not top.scores[1].any()
    assert recommend(Popularity().fit(films), histories, 1).items.shape == (4, 1)  # is of no history


def test_a_fit_of_other_items_than_the_model_is_refused():
    data = Interactions.from_lists([[0]], 3)
    with pytest.raises(InputError, match="the histories have 3 items and the model 4; they must agree"):
        recommend(ItemScores(np.zeros(4, np.float32)), data)
