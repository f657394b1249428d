"""Weights: every scheme equals its formula cell by cell, keeps its rule for unseen users, and refuses nonsense."""

import math

import jax
import numpy as np
import pytest

from jaxrec import InputError, Interactions, Weights
from jaxrec.data import row_batches

USERS, ITEMS = 17, 11


@pytest.fixture
def data(rng) -> Interactions:
    """Counts of plays; user 3 and item 5 are empty."""
    x = rng.integers(1, 9, (USERS, ITEMS)) * (rng.random((USERS, ITEMS)) < 0.35)
    x[3], x[:, 5] = 0, 0
    return Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=USERS, n_items=ITEMS)


def counted(data):
    x = data.to_csr(np.float64).toarray()
    return x, (x > 0).sum(axis=1), (x > 0).sum(axis=0)


def uniform(x, n, m, u, i):
    return 1.0


def constant(x, n, m, u, i):
    return 0.2 + 3.0 * x[u, i]


def log(x, n, m, u, i):
    return 1.0 + 2.0 * math.log(1 + x[u, i] / 0.5)


def ips(x, n, m, u, i):
    if x[u, i] == 0:
        return 0.7
    total = sum(m[j] ** -0.5 for v in range(USERS) for j in range(ITEMS) if x[v, j] > 0)
    return 1.5 * m[i] ** -0.5 * n.sum() / total


def popularity_zeros(x, n, m, u, i):
    return 2.0 if x[u, i] > 0 else 0.3 * ITEMS * m[i] ** 0.6 / sum(m[j] ** 0.6 for j in range(ITEMS))


def user_activity(x, n, m, u, i):
    return max(n[u], 1) ** -0.5 / np.mean([max(k, 1) ** -0.5 for k in n])


def both(x, n, m, u, i):
    return user_activity(x, n, m, u, i) + 0.8 * x[u, i]


SCHEMES = {
    uniform: lambda x: Weights.uniform(x),
    constant: lambda x: Weights.constant(x, 3.0, unobserved_weight=0.2),
    log: lambda x: Weights.log(x, 2.0, 0.5),
    ips: lambda x: Weights.ips(x, 0.5, alpha=1.5, unobserved_weight=0.7),
    popularity_zeros: lambda x: Weights.popularity_zeros(x, 0.6, unobserved_weight=0.3, observed_weight=2.0),
    user_activity: lambda x: Weights.user_activity(x, -0.5),
    both: lambda x: Weights.user_activity(x, -0.5, alpha=0.8),
}
schemes = pytest.mark.parametrize("formula", SCHEMES, ids=lambda f: f.__name__)


@schemes
def test_every_cell_is_its_formula(data, formula):
    weights = SCHEMES[formula](data)
    weights.require(data)
    x, n, m = counted(data)
    expected = np.array([[formula(x, n, m, u, i) for i in range(ITEMS)] for u in range(USERS)])
    np.testing.assert_allclose(weights.to_dense(data), expected, rtol=1e-12)
    np.testing.assert_allclose(weights.on_pattern(data), expected[data.user_of_entry, data.indices], rtol=1e-12)
    assert weights.shape == (USERS, ITEMS) and expected.min() >= 0
    low, high = weights.ratio_bounds(data)
    base = np.outer(weights.row, weights.col)
    assert low <= 1 <= high
    positive = base > 0
    assert (low * base <= expected * (1 + 1e-12)).all() and (expected <= high * base * (1 + 1e-12))[positive].all()


@schemes
def test_unseen_users_are_weighted_by_the_same_rule(data, formula):
    """Users of the training data, taken for unseen ones, get the weights they had; padded batches as well."""
    weights = SCHEMES[formula](data)
    users = np.array([4, 3, 11, 0])
    some = data.rows(users)
    unseen = weights.of_unseen(some)
    np.testing.assert_allclose(unseen.to_dense(some), weights.to_dense(data)[users], rtol=1e-12)
    (batch,) = row_batches(some, 6)
    rule = jax.tree.map(lambda leaf: np.float32(leaf), weights.rule)
    dense = np.zeros((6, ITEMS))
    np.add.at(
        dense,
        (np.arange(6)[:, None], np.asarray(batch.items)),
        jax.jit(lambda r, b: r.entries(b.items, b.values))(rule, batch),
    )
    np.testing.assert_allclose(dense[:4], weights.sparse(data).toarray()[users], rtol=1e-5, atol=1e-6)
    assert not dense[4:].any()
    rows = jax.jit(lambda r, n: r.rows(n))(rule, np.asarray(some.user_counts, np.int32))
    np.testing.assert_allclose(rows, np.asarray(weights.row)[users], rtol=1e-6)


@schemes
def test_scaled(data, formula):
    weights = SCHEMES[formula](data)
    twice = weights.scaled(2.0)
    np.testing.assert_allclose(twice.to_dense(data), 2 * weights.to_dense(data), rtol=1e-12)
    np.testing.assert_allclose(twice.of_unseen(data).to_dense(data), 2 * weights.to_dense(data), rtol=1e-12)


def test_rank_one_and_entries(data, rng):
    p, q = rng.random(USERS), rng.random(ITEMS)
    rank_one = Weights.rank_one(p, q)
    np.testing.assert_array_equal(rank_one.to_dense(data), np.outer(p, q))
    np.testing.assert_allclose(rank_one.of_unseen(data).row, p.mean())
    given = Weights.on_entries(data, np.arange(data.nnz), unobserved_weight=0.5)
    expected = np.full((USERS, ITEMS), 0.5)
    expected[data.user_of_entry, data.indices] = np.arange(data.nnz)
    np.testing.assert_allclose(given.to_dense(data), expected)
    with pytest.raises(InputError, match="no rule for unseen users"):
        given.of_unseen(data)


def test_weights_are_a_pytree(data):
    weights = Weights.log(data, 2.0)
    leaves, structure = jax.tree.flatten(weights)
    again = jax.tree.unflatten(structure, leaves)
    np.testing.assert_array_equal(again.to_dense(data), weights.to_dense(data))
    total = jax.jit(lambda w: w.row.sum() * w.col.sum() + w.entries.sum())(weights)
    assert float(total) == pytest.approx(weights.to_dense(data).sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda x: Weights.constant(x, 0), "alpha must be above 0 .*Weights.uniform"),
        (lambda x: Weights.constant(x, math.inf), "alpha must be finite, got inf"),
        (lambda x: Weights.constant(x, 1.0, unobserved_weight=0), "unobserved_weight must be above 0"),
        (lambda x: Weights.constant(x, -1.0), "alpha must be above 0"),
        (lambda x: Weights.log(x, 1.0, 0.0), "eps must be above 0"),
        (lambda x: Weights.ips(x, -1.0), "beta must be a finite number of at least 0"),
        (lambda x: Weights.popularity_zeros(x, math.nan), "omega must be a finite number of at least 0"),
        (lambda x: Weights.user_activity(x, math.inf), "beta must be finite"),
        (lambda x: Weights.rank_one([1.0, -2.0], [1.0]), "row: weights must be finite and not negative, got -2"),
        (lambda x: Weights.rank_one([[1.0]], [1.0]), "row must have 1 dimension, got shape"),
        (lambda x: Weights.rank_one([1.0, math.nan], [1.0]), "row: weights must be finite and not negative, got nan"),
        (lambda x: Weights.on_entries(x, -np.ones(x.nnz)), "values: weights must be finite and not negative, got -1"),
        (lambda x: Weights.on_entries(x, [1.0]), "one weight for each of the"),
        (lambda x: Weights.constant(x, 1.0).of_unseen(x.select_items(np.arange(3))), "have 3 items and the weights 11"),
        (lambda x: Weights.uniform(x).scaled(0.0), "factor must be above 0"),
    ],
)
def test_bad_weights_are_refused_in_one_sentence(data, make, complaint):
    with pytest.raises(InputError, match=complaint):
        make(data)


def test_negative_strengths_are_refused(data):
    disliked = Interactions.from_csr(-data.to_csr())
    with pytest.raises(InputError, match="must not be negative"):
        Weights.constant(disliked, 1.0)


def test_weights_of_other_interactions_are_refused(data):
    weights = Weights.constant(data, 1.0)
    with pytest.raises(InputError, match="another pattern"):
        weights.require(Interactions.from_csr(data.to_csr()[::-1]))
    with pytest.raises(InputError, match="make the weights from these interactions"):
        weights.require(data.rows(np.arange(4)))
    Weights.uniform(data).require(Interactions.from_csr(data.to_csr()[::-1]))
