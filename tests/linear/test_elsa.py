"""ELSA: the loss by loops over users, its gradient by differences, training that lowers it, and the model's scores."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import Elsa, FitError, InputError, Interactions, recommend
from jaxrec.linear import elsa


@pytest.fixture
def data(rng) -> Interactions:
    taste = rng.random((3, 24)) ** 3
    x = rng.random((90, 24)) < taste[rng.integers(0, 3, 90)]
    x[4] = False
    return Interactions.from_triples(*np.nonzero(x), n_users=90, n_items=24)


def literal(x: np.ndarray, factors: np.ndarray) -> float:
    """Twice one minus the cosine of each history and its reconstruction, user by user."""
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    weights = unit @ unit.T - np.eye(len(unit))
    total = 0.0
    for row in x:
        if row.any():
            predicted = row @ weights
            total += 2 - 2 * (row @ predicted) / np.linalg.norm(row) / np.linalg.norm(predicted)
    return total


def test_objective_is_a_sum_of_cosines(data, rng, x64):
    x = data.to_csr(np.float64).toarray()
    factors = rng.normal(size=(24, 5))
    assert float(elsa.objective(x, factors)) == pytest.approx(literal(x, factors), rel=1e-12)
    slope = jax.grad(elsa.objective, argnums=1)(x, jnp.asarray(factors))
    direction = rng.normal(size=(24, 5))
    numeric = (literal(x, factors + 1e-6 * direction) - literal(x, factors - 1e-6 * direction)) / 2e-6
    assert float(jnp.sum(slope * direction)) == pytest.approx(numeric, rel=1e-6)


def test_certificate_reports_the_loss_and_the_gradient_of_the_model(data, x64):
    model, info = Elsa(rank=8, epochs=15, batch_size=32).fit(data)
    x = data.to_csr(np.float64).toarray()
    x = x[x.any(1)]
    e = np.asarray(model.encoder, np.float64)
    np.testing.assert_allclose(np.linalg.norm(e, axis=1), 1, atol=1e-6)
    detail = info.certificate.detail
    assert detail["loss at the end"] == pytest.approx(literal(x, e) / len(x), rel=1e-5)
    assert detail["loss at the end"] < 0.8 * detail["loss at the start"]
    assert detail["loss in epoch 15"] < detail["loss in epoch 1"] and "loss in epoch 16" not in detail
    assert 0 < info.certificate.residual < 1


@pytest.mark.parametrize("epochs", (1, 3))
def test_the_change_by_the_last_epoch_is_of_the_weights(data, epochs, x64):
    """Against the model one epoch earlier; with one epoch, against the random start."""
    if epochs > 1:
        earlier = np.asarray(Elsa(rank=8, epochs=epochs - 1).fit(data).model.encoder, np.float64)
    else:
        bound = (6 / (24 + 8)) ** 0.5
        key = jax.random.split(jax.random.key(0))[0]
        start = np.asarray(jax.random.uniform(key, (24, 8), jnp.float32, -bound, bound), np.float64)
        earlier = start / np.linalg.norm(start, axis=1, keepdims=True)
    model, info = Elsa(rank=8, epochs=epochs).fit(data)
    e = np.asarray(model.encoder, np.float64)
    expected = np.linalg.norm(e @ e.T - earlier @ earlier.T) / np.linalg.norm(e @ e.T - np.eye(24))
    assert info.certificate.detail[elsa.CHANGE] == pytest.approx(expected, rel=1e-4)


def test_more_epochs_go_on_lowering_the_loss(data):
    ends = [Elsa(rank=8, epochs=n).fit(data).info.certificate.detail["loss at the end"] for n in (2, 8, 40)]
    assert ends == sorted(ends)[::-1] and ends[-1] < ends[0]


def test_lists_are_those_of_the_paper_s_weights(data):
    """x E E' in place of x (E E' - I): the same lists, since items of the history are left out."""
    model = Elsa(rank=8, epochs=3).fit(data).model
    x = data.to_csr().toarray()
    e = np.asarray(model.encoder)
    scores = np.where(x > 0, -np.inf, x @ (e @ e.T - np.eye(24)))
    users = np.flatnonzero(x.any(1))
    found = recommend(model, data, 5).items[users]
    reached = np.take_along_axis(scores[users], found, axis=1)
    np.testing.assert_allclose(reached, -np.sort(-scores[users], axis=1)[:, :5], atol=1e-5)


def test_seeds(data):
    one, two, other = (Elsa(rank=4, epochs=2, init_seed=seed).fit(data).model.encoder for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 0.1


def test_a_loss_that_did_not_fall_is_refused(data, monkeypatch):
    values = iter([(0.5, 1.0), (0.6, 1.0), (0.5, 1.0), (float("nan"), 1.0)])
    monkeypatch.setattr(Elsa, "_measure", lambda *_: next(values))
    for status in ("residual too large", "not finite"):
        with pytest.raises(FitError, match=rf"{status}.*lower learning_rate"):
            Elsa(rank=4, epochs=1).fit(data)


def test_optax_is_asked_for_by_name(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(InputError, match="pip install optax"):
        Elsa().fit(data)


@pytest.mark.parametrize("wrong", ({"rank": 0}, {"epochs": 0}, {"learning_rate": 0.0}, {"init_seed": -1}))
def test_bad_hyper_parameters_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Elsa(**wrong)
