"""Pairs as features: equal to ridge regressions of every item on the items and pairs it may be predicted from."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import Ease, FitError, HigherOrder, InputError, Interactions, load_model, save
from jaxrec.data import row_batches
from jaxrec.linear import higher_order

N_ITEMS = 14


@pytest.fixture
def data(rng) -> Interactions:
    taste = rng.random((3, N_ITEMS)) ** 2
    x = rng.random((150, N_ITEMS)) < taste[rng.integers(0, 3, 150)]
    x[:, 5] = False
    return Interactions.from_triples(*np.nonzero(x), n_users=150, n_items=N_ITEMS)


def reference(x, threshold, reg, pair_reg):
    """(pairs, B, W) column by column: ridge on all items but j and all pairs without j."""
    pairs = [(i, k) for k in range(N_ITEMS) for i in range(k) if sum(x[:, i] * x[:, k]) > threshold]
    z = np.stack([x[:, i] * x[:, k] for i, k in pairs], axis=1)
    b, w = np.zeros((N_ITEMS, N_ITEMS)), np.zeros((len(pairs), N_ITEMS))
    for j in range(N_ITEMS):
        items = [i for i in range(N_ITEMS) if i != j]
        others = [p for p, pair in enumerate(pairs) if j not in pair]
        features = np.concatenate([x[:, items], z[:, others]], axis=1)
        penalty = np.diag([reg] * len(items) + [pair_reg] * len(others))
        found = np.linalg.solve(features.T @ features + penalty, features.T @ x[:, j])
        b[items, j], w[others, j] = found[: len(items)], found[len(items) :]
    return pairs, b, w


def test_is_the_ridge_regression_it_stands_for(data, x64):
    x = data.to_csr(np.float64).toarray()
    pairs, b, w = reference(x, 12, 5.0, 20.0)
    assert 10 < len(pairs) < 80
    z = np.stack([x[:, i] * x[:, k] for i, k in pairs], axis=1)
    found = higher_order.Admm(x.T @ x, z.T @ x, z.T @ z, np.array(pairs), 5.0, 20.0, 50.0).advance(3000)
    np.testing.assert_allclose(found.items, b, atol=1e-9)
    np.testing.assert_allclose(found.pairs, w, atol=1e-9)
    assert np.any(w < -1e-3)  # the negative interactions of the title

    gradient = jax.grad(higher_order.objective, argnums=1)(
        jnp.asarray(x), higher_order.HigherOrderWeights(*map(jnp.asarray, found)), np.array(pairs), 5.0, 20.0
    )
    may_b = ~np.eye(N_ITEMS, dtype=bool)
    may_w = np.array([[j not in pair for j in range(N_ITEMS)] for pair in pairs])
    assert max(np.abs(gradient.items[may_b]).max(), np.abs(gradient.pairs[may_w]).max()) < 1e-6


def test_fit_and_score(data):
    x = data.to_csr(np.float64).toarray()
    pairs, b, w = reference(x, 12, 5.0, 20.0)
    model, info = HigherOrder(5.0, 20.0, threshold=12, rho=50.0).fit(data)
    order = [list(map(tuple, np.asarray(model.pairs))).index(pair) for pair in pairs]
    np.testing.assert_allclose(model.weights, b, atol=2e-3)
    np.testing.assert_allclose(model.pair_weights[np.array(order)], w, atol=2e-3)
    error = np.linalg.norm(model.weights - b) / np.linalg.norm(b)
    assert error < min(0.01, 3 * info.certificate.detail["estimated error of the weights"])
    assert info.certificate.residual < 1e-3 and info.certificate.detail["pairs"] == len(pairs)
    z = np.stack([x[:, i] * x[:, k] for i, k in pairs], axis=1)
    np.testing.assert_allclose(model.score_host(data.to_csr()), x @ b + z @ w, atol=1e-2)
    (batch,) = row_batches(data, data.n_users)
    np.testing.assert_allclose(model.score(batch), x @ b + z @ w, atol=1e-2)


def test_objective_falls_below_that_of_items_alone(data):
    x = data.to_csr(np.float32).toarray()
    model = HigherOrder(5.0, 20.0, threshold=12, rho=50.0).fit(data).model
    with_pairs = higher_order.objective(
        x, higher_order.HigherOrderWeights(model.weights, model.pair_weights), model.pairs, 5.0, 20.0
    )
    ease = Ease(5.0).fit(data).model.weights
    nothing = higher_order.HigherOrderWeights(ease, np.zeros_like(model.pair_weights))
    alone = higher_order.objective(x, nothing, model.pairs, 5.0, 20.0)
    assert with_pairs < alone


def test_dear_pairs_leave_ease(data):
    model = HigherOrder(5.0, 1e9, threshold=12).fit(data).model
    np.testing.assert_allclose(model.weights, Ease(5.0).fit(data).model.weights, atol=1e-5)


@pytest.mark.parametrize("n_pairs", (1, 20, 91))
def test_most_frequent_pairs(data, n_pairs):
    x = data.to_csr(np.float64).toarray()
    counts = x.T @ x
    pairs = higher_order.frequent_pairs(np.tril(counts), None, n_pairs)
    chosen = {tuple(pair) for pair in pairs}
    others = set(itertools.combinations(range(N_ITEMS), 2)) - chosen
    assert len(pairs) == len(chosen) <= n_pairs
    if chosen:
        assert min(counts[p] for p in chosen) > max((counts[p] for p in others), default=0)


def test_unconverged_is_refused(data):
    with pytest.raises(FitError, match="raise max_iterations"):
        HigherOrder(0.1, 0.1, threshold=0, rho=1e6, max_iterations=1).fit(data)


def test_saved_and_loaded(data, tmp_path):
    fitted = HigherOrder(5.0, 20.0, threshold=12).fit(data)
    save(tmp_path / "model", fitted)
    jax.tree.map(np.testing.assert_array_equal, load_model(tmp_path / "model").model, fitted.model)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reg": 0}, "reg must be above 0"),
        ({"pair_reg": -1.0}, "pair_reg must be above 0"),
        ({"n_pairs": 0}, "n_pairs must be at least 1"),
        ({"threshold": -1.0}, "threshold must be a finite number of at least 0"),
        ({"rho": 0.0}, "rho must be above 0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
    ],
)
def test_bad_hyper_parameters(wrong, message):
    with pytest.raises(InputError, match=message):
        HigherOrder(**wrong)


def test_a_threshold_above_everything(data):
    with pytest.raises(InputError, match="no two items share more than 1000 users; lower threshold"):
        HigherOrder(threshold=1000).fit(data)
