"""Top-k: host and device paths against a full sort, ties, masks, short catalogues, streaming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrec import InputError, Interactions, ItemScores, ItemWeights, Popularity, recommend
from jaxrec.evaluation import ranking


class Affine:
    """A scorer that is no HostScorer, so that it takes the device path."""

    def __init__(self, weights):
        self.model = ItemWeights(jnp.asarray(weights))

    n_items = property(lambda self: self.model.n_items)

    def score(self, history):
        return self.model.score(history)


jax.tree_util.register_pytree_node(Affine, lambda m: ((m.model.weights,), None), lambda _, leaves: Affine(leaves[0]))
PATHS = {"host": lambda w: ItemWeights(w), "host-jax-array": lambda w: ItemWeights(jnp.asarray(w)), "device": Affine}


def histories(rng, n_users=83, n_items=29, empty=(4,)) -> Interactions:
    x = rng.random((n_users, n_items)) < 0.2
    x[list(empty)] = False
    return Interactions.from_triples(*np.nonzero(x), n_users=n_users, n_items=n_items)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("k", (1, 5, 29, 40))
@pytest.mark.parametrize("exclude_seen", (True, False))
@pytest.mark.parametrize("batch_size", (None, 7))
def test_lists_equal_a_full_sort(path, k, exclude_seen, batch_size, rng):
    data = histories(rng)
    # Small integer weights: every score is exact, and ties are everywhere.
    weights = rng.integers(-2, 3, (29, 29)).astype(np.float32)
    x = data.to_csr().toarray()
    seen = [set(np.flatnonzero(row)) if exclude_seen else set() for row in x]
    expected = reference.top_k(x @ weights, k, seen)
    found_items, found_scores = [], []
    stream = ranking.recommend_batches(PATHS[path](weights), data, k, exclude_seen=exclude_seen, batch_size=batch_size)
    for start, items, scores in stream:
        assert start == len(found_items)
        found_items.extend(items)
        found_scores.extend(scores)
    for user, (row, scores) in enumerate(zip(found_items, found_scores, strict=True)):
        kept = len(expected[user])
        assert list(row[:kept]) == expected[user]
        np.testing.assert_array_equal(scores[:kept], (x @ weights)[user][expected[user]])
        assert (row[kept:] == -1).all() and (scores[kept:] == -np.inf).all()
    whole = recommend(PATHS[path](weights), data, k, exclude_seen=exclude_seen)
    np.testing.assert_array_equal(whole.items, np.where(np.array(found_items) < 0, 29, found_items))
    assert whole.items.dtype == np.int32


@pytest.mark.parametrize("k", [1, 7, 100, 1000])
def test_top_k_host_where_most_scores_are_alike_or_missing(rng, k):
    """Wide enough that groups of items are told apart by their maxima first."""
    scores = rng.standard_normal((6, 1000)).astype(np.float32)
    scores[1] = np.round(scores[1])
    scores[2, rng.random(1000) < 0.95] = 0  # as of a sparse model
    scores[3, 5:] = -np.inf
    scores[4] = 0
    scores[5, 300:], scores[5, :20] = np.nan, np.inf
    rank = np.where(np.isnan(scores), 2, scores == np.inf)
    expected = np.array([np.lexsort((-np.nan_to_num(row), -high))[:k] for row, high in zip(scores, rank, strict=True)])
    items, values = ranking.top_k_host(scores, k)
    np.testing.assert_array_equal(items, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float64])
def test_top_k_host_where_the_best_crowd_in_few_groups_and_of_any_type(rng, dtype):
    """All the best items are a multiple of the number of groups apart, so that the bound lets many through."""
    scores = rng.permuted(np.tile(np.arange(2000), (3, 1)), axis=1).astype(dtype)
    scores[1, ::20] += 5000
    items, values = ranking.top_k_host(scores, 10)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(items, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))
    assert all(part.shape == (0, 10) for part in ranking.top_k_host(scores[:0], 10))


COMPILED = ((1, 1, 1), (2, 5, 2), (6, 12, 1), (6, 12, 7), (6, 12, 12))  # rows, columns and k on the device


@given(
    scores=hnp.arrays(np.float32, (6, 12), elements=st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0])),
    data=st.data(),
)
@settings(max_examples=60)
def test_top_k_host_and_device_agree_with_a_sort_on_ties(scores, data):
    rows, columns = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 12)))
    part, k = scores[:rows, :columns], data.draw(st.integers(1, columns))
    np.testing.assert_array_equal(ranking.top_k_host(part, k)[0], reference.top_k(part, k, [set()] * rows))
    rows, columns, k = data.draw(st.sampled_from(COMPILED))
    part = scores[:rows, :columns]
    batch = ranking.RowBatch(jnp.arange(rows), jnp.zeros((rows, 1), int), jnp.zeros((rows, 1)))

    class Given:
        n_items = columns
        score = staticmethod(lambda _: jnp.asarray(part))

    found = ranking.top_k(Given(), batch, k, exclude_seen=False)[1]
    np.testing.assert_array_equal(found, reference.top_k(part, k, [set()] * rows))


def test_a_seen_item_zero_is_banned_and_padding_bans_nothing(rng):
    data = Interactions.from_lists([[0], [1, 2, 3], []], items=5)
    model = Affine(np.ones((5, 5), np.float32))
    np.testing.assert_array_equal(recommend(model, data, 2).items, [[1, 2], [0, 4], [0, 1]])


def test_popularity_scores_rank_alike_for_everyone(rng):
    data = histories(rng)
    scores = np.arange(29, dtype=np.float32)[::-1].copy()
    found = recommend(ItemScores(scores), data, 3, exclude_seen=False)
    np.testing.assert_array_equal(found.items, np.tile([0, 1, 2], (83, 1)))
    device = ranking._on_device(ItemScores(jnp.asarray(scores)), data, 3, False, 10, np.arange(83))
    np.testing.assert_array_equal(np.concatenate([items for _, items, _ in device]), found.items)


def test_a_fitted_method_may_stand_for_its_model(rng):
    data = histories(rng)
    fitted = Popularity().fit(data)
    found, expected = (recommend(model, data, 3).items for model in (fitted, fitted.model))
    np.testing.assert_array_equal(found, expected)


def test_scipy_histories_and_titles():
    matrix = Interactions.from_lists([[0, 1]], items=3).to_csr()
    found = recommend(ItemScores(np.asarray([3.0, 2.0, 1.0], np.float32)), matrix, 2)
    catalogue = Interactions.from_triples([0], [0], n_items=3, titles=["a", "b", "c"]).items
    assert found.titles(catalogue) == [["c"]] and found.items.tolist() == [[2, 3]]


def test_bad_input(rng):
    data, model = histories(rng), ItemScores(np.zeros(29, np.float32))
    with pytest.raises(InputError, match="29 items and the model 30"):
        recommend(ItemScores(np.zeros(30, np.float32)), data)
    for k in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="k must be"):
            recommend(model, data, k)
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        next(ranking.recommend_batches(model, data, 3, batch_size=0))
    with pytest.raises(InputError, match="SciPy sparse matrix"):
        recommend(model, [[1, 2]])
    for poisoned in (ItemScores(np.full(29, np.nan, np.float32)), Affine(np.full((29, 29), np.nan, np.float32))):
        with pytest.raises(InputError, match=r"scores for user row \d+ are NaN"):
            recommend(poisoned, data)


@pytest.mark.parametrize("sign", (1, -1))
def test_nan_of_either_sign_is_refused(sign):
    """0/0 is a NaN with its sign bit set on many CPUs; a top-k by bits would rank it last and unseen."""
    data = Interactions.from_lists([[0]], items=9)
    scores = np.arange(9, dtype=np.float32)
    scores[5] = np.copysign(np.nan, sign)
    weights = np.tile(scores, (9, 1))
    for model in (ItemScores(scores), Affine(weights), ItemWeights(weights)):
        with pytest.raises(InputError, match="row 0 are NaN"):
            recommend(model, data, 2)

    class Given:
        n_items = len(scores)
        score = staticmethod(lambda _: jnp.asarray(scores)[None])

    batch = ranking.RowBatch(jnp.arange(1), jnp.zeros((1, 1), int), jnp.zeros((1, 1)))
    assert np.isnan(ranking.top_k(Given(), batch, 2)[0]).any()


def test_a_scorer_that_is_no_pytree(rng):
    class Plain:
        n_items = 29

        def score(self, history):
            return jnp.tile(jnp.arange(29.0), (history.rows.shape[0], 1))

    assert (recommend(Plain(), histories(rng), 1, exclude_seen=False).items == 28).all()


def test_no_users():
    empty = Interactions.from_lists([], items=4)
    assert recommend(ItemScores(np.zeros(4, np.float32)), empty, 3).items.shape == (0, 3)
    assert recommend(Affine(np.zeros((4, 4), np.float32)), empty, 3).items.shape == (0, 3)


def test_top_k_compiles_once_a_shape(rng):
    data = histories(rng, n_users=64)
    before = ranking._top_k_on_device._cache_size()
    recommend(Affine(np.eye(29, dtype=np.float32)), data, 3)
    recommend(Affine(np.ones((29, 29), np.float32)), data, 3)
    assert ranking._top_k_on_device._cache_size() == before + 1
