"""Collaborative retrieval against the restricted regression of CRAG, column by column, and a plain loop over items."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import jaxrec
from jaxrec import InputError, Interactions, ItemWeights
from jaxrec.conversational.crag import retrieve


def restricted_regression(r, catalogue, reg):
    """[I, Q] W of min ||R_Q - R W||^2 + reg ||W||^2 without self-prediction: one ridge regression a catalogue item."""
    n_items = r.shape[1]
    weights = np.zeros((n_items, len(catalogue)))
    for column, item in enumerate(catalogue):
        others = np.delete(np.arange(n_items), item)
        features = r[:, others]
        ridge = np.vstack([features, np.sqrt(reg) * np.eye(n_items - 1)])
        target = np.concatenate([r[:, item], np.zeros(n_items - 1)])
        weights[others, column] = np.linalg.lstsq(ridge, target, rcond=None)[0]
    return weights


def plain(scores, history, k):
    """The items of one history, by a loop over a sorted list: -1 where none is left."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    kept = [item for item in order if scores[item] > 0 and item not in history][:k]
    return kept + [-1] * (k - len(kept))


@pytest.fixture
def planted(rng):
    r = (rng.random((90, 30)) < 0.15).astype(float)
    return r, [[int(i) for i in rng.choice(30, rng.integers(1, 6), replace=False)] for _ in range(40)]


def test_it_is_the_restricted_regression_of_the_paper_to_1e_12(planted):
    r, histories = planted
    catalogue, reg = np.array([28, 3, 7, 11, 2, 19, 0, 25]), 3.0
    fitted = jaxrec.Ease(reg, dtype="float64").fit(Interactions.from_csr(sp.csr_array(r)))
    restricted = restricted_regression(r, catalogue, reg)
    assert np.abs(fitted.model.weights[:, catalogue] - restricted).max() < 1e-12
    items, scores = retrieve(fitted.model.weights, histories, 6, among=catalogue)
    assert scores.dtype == np.float64
    for history, found, values in zip(histories, items, scores, strict=True):
        expected = np.full(30, -np.inf)
        expected[catalogue] = restricted[history].sum(axis=0)
        assert found.tolist() == plain(expected, history, 6)
        there = found >= 0
        assert np.abs(values[there] - expected[found[there]]).max(initial=0) < 1e-12
        assert (values[~there] == -np.inf).all()
    assert (items[:, 0] >= 0).any() and (items == -1).any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64])
@pytest.mark.parametrize("k", [1, 4, 30, 70])
def test_it_is_a_plain_loop_with_ties_and_without_what_was_named(planted, rng, dtype, k):
    _, histories = planted
    weights = rng.integers(-2, 3, (30, 30)).astype(dtype)  # full of ties, zeros and negative sums
    items, scores = retrieve(weights, histories, k)
    for history, found in zip(histories, items, strict=True):
        assert found.tolist() == plain(weights[history].sum(axis=0), history, k)
    assert items.shape == (40, k) and (scores[items >= 0] > 0).all()


def test_every_form_of_weights_and_of_histories_comes_to_the_same(planted):
    r, histories = planted
    fitted = jaxrec.Ease(2.0).fit(Interactions.from_csr(sp.csr_array(r)))
    expected = retrieve(fitted, histories, 5)
    weights = fitted.model.weights
    for model in (weights, jnp.asarray(weights), fitted.model, ItemWeights(weights), ItemWeights(jnp.asarray(weights))):
        assert np.array_equal(retrieve(model, histories, 5).items, expected.items)
    rows = Interactions.from_lists(histories, 30)
    loud = dataclasses.replace(rows, values=7 * rows.values)
    dense = rows.to_csr().toarray()
    for same in (rows, loud, rows.to_csr(), dense, dense > 0, map(tuple, histories), [[*i, *i] for i in histories]):
        assert np.array_equal(retrieve(weights, same, 5).items, expected.items)


class Compiled:
    """The linear model with nothing but `score`, so that it goes the way of an accelerator."""

    def __init__(self, weights):
        self.weights, self.n_items = weights, weights.shape[1]

    def score(self, history):
        return history.dense(self.n_items) @ self.weights


class AsPytree(Compiled):
    pass


jax.tree_util.register_pytree_node(AsPytree, lambda one: ((one.weights,), None), lambda _, parts: AsPytree(*parts))


@pytest.mark.parametrize("kind", [Compiled, AsPytree])
def test_the_kernel_of_an_accelerator_agrees_with_the_host(planted, rng, kind):
    _, histories = planted
    weights = rng.integers(-2, 3, (30, 30)).astype(np.float32)
    among = np.arange(0, 30, 2)
    for given in ({}, {"among": among}):
        host, device = (retrieve(each, histories, 8, **given) for each in (weights, kind(jnp.asarray(weights))))
        assert np.array_equal(host.items, device.items) and np.array_equal(host.scores, device.scores)
    assert set(np.unique(host.items)) <= {-1, *among.tolist()}


def test_other_models_do_in_its_place_and_the_popular_do_not_answer_silence(planted):
    r, histories = planted
    train = Interactions.from_csr(sp.csr_array(r))
    for method in (jaxrec.Popularity(), jaxrec.ItemKnn(5), jaxrec.PureSvd(4)):
        items, scores = retrieve(method.fit(train), [*histories, []], 5)
        assert (items[:-1, 0] >= 0).mean() > 0.9 and (items[-1] == -1).all() and (scores[-1] == -np.inf).all()
        assert not any(set(row) & set(history) for row, history in zip(items, histories, strict=False))


def test_nothing_is_made_of_nothing(rng):
    weights = rng.random((6, 6))
    assert [part.shape for part in retrieve(weights, [], 3)] == [(0, 3)] * 2
    assert retrieve(weights, [[1]], 0).items.shape == (1, 0)
    assert (retrieve(weights, [[], range(6)], 3).items == -1).all()
    assert (retrieve(-weights, [[1], [2, 3]], 3).items == -1).all()
    holed = np.where(np.eye(6, k=1) > 0, np.nan, weights)
    assert retrieve(holed, [[1]], 6).items.tolist() == [plain(np.nan_to_num(holed[1]), [1], 6)]
    assert retrieve(np.full((6, 6), np.nan), [[1]], 2).items.tolist() == [[-1, -1]]
    assert retrieve(np.zeros((0, 0)), [[]], 2).items.tolist() == [[-1, -1]]


def test_a_history_is_matched_by_id():
    train = Interactions.from_triples([0, 0, 1, 1], [0, 1, 1, 2], item_ids=["a", "b", "c"])
    fitted = jaxrec.Ease(1.0).fit(train)
    other = Interactions.from_triples([0], [1], n_users=1, n_items=2, item_ids=["z", "c"])
    assert np.array_equal(retrieve(fitted, other, 2).items, retrieve(fitted, [[2]], 2).items)


@pytest.mark.parametrize(
    ("weights", "histories", "k", "says"),
    [
        (np.eye(4), [[4]], 1, "index 4 is beyond"),
        (np.eye(4), [[-1]], 1, "must not be negative, got -1"),
        (np.eye(4), [[0.5]], 1, "must be whole numbers"),
        (np.eye(4), [0, 1], 1, "a list in a list"),
        (np.eye(4), ["ab"], 1, "a list in a list"),
        (np.eye(4), "ab", 1, "lists of item indices or Interactions"),
        (np.eye(4), 3, 1, "lists of item indices or Interactions"),
        (np.eye(4), [[0]], -1, "k must be at least 0"),
        (np.eye(4), [[0]], 1.5, "k must be a whole number"),
        (np.eye(4), [[0]], 10**13, "GB of memory"),
        (np.eye(4) + 0j, [[0]], 1, "must be a square matrix of numbers"),
        (np.ones((4, 3)), [[0]], 1, "must be a square matrix"),
        (np.array([["a"]]), [[0]], 1, "must be a square matrix of numbers"),
        (jaxrec.Ease(), [[0]], 1, "call its fit first"),
        (np.eye(4), Interactions.from_lists([[0]], 5), 1, "have 5 items and the model 4"),
    ],
)
def test_what_cannot_be_retrieved_from_is_refused_in_a_sentence(weights, histories, k, says):
    with pytest.raises(InputError, match=says) as caught:
        retrieve(weights, histories, k)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="beyond"):
        retrieve(np.eye(4), [[0]], 1, among=[4])


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "int32"])
def test_weights_of_jax_may_be_of_any_real_kind(rng, kind):
    weights = jnp.asarray(rng.integers(-4, 5, (6, 6)), kind)
    for history in ([0, 3], [5]):
        scores = np.asarray(weights, np.float64)[history].sum(0)
        expected = [item for item in np.argsort(-scores, kind="stable") if scores[item] > 0 and item not in history]
        found = retrieve(weights, [history], 6).items[0]
        assert found[found >= 0].tolist() == expected
