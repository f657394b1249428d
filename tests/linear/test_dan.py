"""DAN: equal to the formulas written out, stationary, and plain EASE and LAE where its powers are 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from reference import dense

from jaxrec import Dan, Ease, Edlae, FitError, InputError, Interactions, Lae
from jaxrec.closed_form.gram import gram_matrix, mesh_gram, with_user_weights
from jaxrec.linear import dan
from jaxrec.runtime import parallel

SOLVERS = ("host", "jax")


@pytest.fixture
def data(data) -> Interactions:
    """The common data, and a user without items."""
    return data.keep(data.user_of_entry != 4)


def literal(x, reg, dropout, item_power, user_power, zero_diagonal):
    """The paper's steps with explicit inverses and loops over users."""
    users, items = x.sum(1), x.sum(0)
    gram = np.zeros((x.shape[1],) * 2)
    for row, n in zip(x, users, strict=True):
        if n:
            gram += n**-user_power * np.outer(row, row)
    penalty = reg + dropout / (1 - dropout) * items
    inverse = np.linalg.inv(gram + np.diag(penalty))
    weights = np.eye(len(gram)) - inverse * (1 / np.diag(inverse) if zero_diagonal else penalty)
    powers = np.maximum(items, 1) ** item_power
    return weights * powers[:, None] / powers


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("zero_diagonal", (True, False))
@pytest.mark.parametrize("dropout", (0.0, 0.4))
def test_weights_equal_the_formulas(data, solver, zero_diagonal, dropout):
    found = Dan(4.0, dropout, 0.3, 0.25, zero_diagonal, solver=solver).fit(data).model.weights
    expected = literal(dense(data), 4.0, dropout, 0.3, 0.25, zero_diagonal)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("zero_diagonal", (True, False))
def test_float64_is_exact_throughout(rng, zero_diagonal):
    whole = ((rng.random((60, 20)) < 0.3) * rng.integers(1, 6, (60, 20))).astype(float)
    for x in (whole, whole[:5]):  # of the second the users are inverted
        method = Dan(0.5, 0.0, 0.3, 0.25, zero_diagonal, dtype="float64")
        counts, items = (x != 0).sum(1), (x != 0).sum(0)
        weighted = x * (np.maximum(counts, 1) ** (-0.25 / 2))[:, None]
        inverse = np.linalg.inv(weighted.T @ weighted + 0.5 * np.eye(20))
        expected = np.eye(20) - inverse * (1 / np.diag(inverse) if zero_diagonal else 0.5)
        powers = np.maximum(items, 1) ** 0.3
        found = method.fit(
            Interactions.from_triples(*np.nonzero(x), x[x > 0], n_users=len(x), n_items=20)
        ).model.weights
        np.testing.assert_allclose(found, expected * powers[:, None] / powers, rtol=0, atol=1e-13)


@pytest.mark.parametrize("solver", SOLVERS)
def test_powers_of_zero_are_ease_edlae_and_lae(data, solver):
    def weights(method):
        return method.fit(data).model.weights

    plain = {"item_power": 0.0, "user_power": 0.0, "solver": solver}
    np.testing.assert_allclose(weights(Dan(5.0, **plain)), weights(Ease(5.0, solver=solver)), atol=1e-6)
    np.testing.assert_allclose(weights(Dan(5.0, 0.3, **plain)), weights(Edlae(5.0, 0.3, solver=solver)), atol=1e-6)
    free = weights(Dan(5.0, 0.3, zero_diagonal=False, **plain))
    np.testing.assert_allclose(free, weights(Lae(5.0, 0.3, solver=solver)), atol=1e-6)


@pytest.mark.parametrize("zero_diagonal", (True, False))
def test_gradient_of_the_objective_vanishes_where_it_may_move(data, zero_diagonal, x64):
    method = Dan(4.0, 0.2, 0.3, 0.25, zero_diagonal, dtype="float64")
    found = jnp.asarray(method.fit(data).model.weights)
    penalty = method.penalty(data.item_counts.astype(np.float64))
    gradient = jax.grad(dan.objective, argnums=1)(jnp.asarray(dense(data)), found, penalty, 0.3, 0.25)
    moves = ~np.eye(24, dtype=bool) if zero_diagonal else np.ones((24, 24), bool)
    assert np.abs(gradient[moves]).max() < 1e-5  # the weighted data are rounded to float32
    worse = jax.grad(dan.objective, argnums=1)(jnp.asarray(dense(data)), found * 1.1, penalty, 0.3, 0.25)
    assert np.abs(worse[moves]).max() > 1e-2


def test_user_weighted_gram(data, rng):
    weights = rng.random(150)
    x = dense(data)
    expected = x.T @ np.diag(weights) @ x
    weighted = with_user_weights(data, weights)
    for path in (gram_matrix, lambda data: mesh_gram(data, parallel.default_mesh(), data.n_items)):
        np.testing.assert_allclose(path(weighted), expected, atol=1e-4)
    np.testing.assert_array_equal(with_user_weights(data, np.ones(150)).values, data.values)
    np.testing.assert_allclose(gram_matrix(data), reference.gram(x))


def test_reg_that_is_too_small_is_refused(rng):
    x = np.repeat(rng.random((200, 10)) < 0.3, 2, axis=1)
    with pytest.raises(FitError, match="raise reg"):
        Dan(1e-7).fit(Interactions.from_triples(*np.nonzero(x)))


@pytest.mark.parametrize("name", ("item_power", "user_power"))
@pytest.mark.parametrize("wrong", (-0.1, 1.1, float("nan")))
def test_powers_must_lie_in_0_1(name, wrong):
    with pytest.raises(InputError, match=f"{name} must lie between 0 and 1"):
        Dan(**{name: wrong})
    with pytest.raises(InputError, match="dropout must be at least 0 and below 1"):
        Dan(dropout=1.0)
