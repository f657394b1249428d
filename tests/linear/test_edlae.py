"""EDLAE, LAE and RLAE: equal to the exact expectation over dropout, to each other at the ends, and to brute force."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from reference import dense
from scipy.optimize import minimize

from jaxrec import Ease, Edlae, InputError, Lae, Rlae
from jaxrec.linear import edlae


def expected_denoising(x: np.ndarray, dropout: float, reg: float) -> np.ndarray:
    """The optimum of E ||zd-part of (X - Z B)||^2 + reg ||B||^2 column by column, from the moments of dropout.

    Z keeps each entry with probability q = 1 - p and divides it by q. Column j is asked only where x_j was dropped, so
    z_j = 0 there: a ridge regression on the other items with E[z z'] = x x' off the diagonal, diag(x^2) / q on it.
    """
    q = 1 - dropout
    n = x.shape[1]
    moment = reference.gram(x)
    moment[np.diag_indices(n)] /= q
    weights = np.zeros((n, n))
    for j in range(n):
        others = np.arange(n) != j
        system = moment[np.ix_(others, others)] + reg * np.eye(n - 1)
        weights[others, j] = np.linalg.solve(system, (x.T @ x)[others, j])
    return weights


@pytest.mark.parametrize("solver", ("host", "jax"))
@pytest.mark.parametrize("dropout", (0.0, 0.3, 0.8))
def test_edlae_is_the_exact_expectation_of_dropout(data, solver, dropout):
    found = Edlae(5.0, dropout, solver=solver).fit(data).model.weights
    np.testing.assert_allclose(found, expected_denoising(dense(data), dropout, 5.0), atol=3e-6)
    np.testing.assert_array_equal(np.diag(found), 0)


def test_expected_loss_is_the_mean_of_sampled_dropout(data, rng, x64):
    """Monte Carlo: the analytic loss of weights without diagonal equals the mean over dropped inputs."""
    x, p = dense(data), 0.4
    weights = reference.ease(x, 10.0)
    sampled = []
    for _ in range(3000):
        z = x * (rng.random(x.shape) > p) / (1 - p)
        sampled.append(np.sum((x - z @ weights) ** 2))
    analytic = edlae.objective(x, weights, p, 1e-12)
    assert np.mean(sampled) == pytest.approx(float(analytic), rel=4 * np.std(sampled) / np.mean(sampled) / 3000**0.5)


def test_no_dropout_is_ease(data):
    for solver in ("host", "jax"):
        ease = Ease(5.0, solver=solver).fit(data).model.weights
        for same in (Edlae(5.0, 0.0, solver=solver), Rlae(5.0, 0.0, 0.0, solver=solver)):
            np.testing.assert_allclose(same.fit(data).model.weights, ease, atol=1e-7)


def test_ends_of_the_diagonal_limit(data):
    for dropout in (0.0, 0.3):
        free = Lae(50.0, dropout).fit(data).model.weights
        np.testing.assert_allclose(Rlae(50.0, dropout, 1.0).fit(data).model.weights, free, atol=1e-7)
        x = dense(data)
        gram = x.T @ x
        penalty = np.diag(50.0 + dropout / (1 - dropout) * np.diag(gram))
        np.testing.assert_allclose(free, np.linalg.solve(gram + penalty, gram), atol=1e-6)


def test_rlae_is_the_constrained_optimum(data):
    """Column by column against a general-purpose optimiser with the bound on the diagonal."""
    x, xi, reg = dense(data), 0.2, 10.0
    gram = x.T @ x
    found = Rlae(reg, 0.0, xi, dtype="float64").fit(data).model.weights
    assert np.diag(found).max() == pytest.approx(xi)
    active = np.diag(found) > xi - 1e-12
    assert active.any() and not active.all()
    for j in (0, 3, 11, 20):

        def loss(b, j=j):
            return b @ (gram + reg * np.eye(24)) @ b - 2 * gram[j] @ b

        def slope(b, j=j):
            return 2 * ((gram + reg * np.eye(24)) @ b - gram[j])

        bounds = [(None, xi if i == j else None) for i in range(24)]
        best = minimize(loss, np.zeros(24), jac=slope, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-15})
        np.testing.assert_allclose(found[:, j], best.x, atol=1e-4)
        assert loss(found[:, j]) <= best.fun + 1e-9


def test_kernel_maps_over_its_floats_and_differentiates(data, x64):
    gram = jnp.asarray(reference.gram(dense(data)))
    compiled = jax.jit(lambda *given: edlae.weights(*given))  # jit shares its cache by function
    for dropout, reg, xi in ((0.1, 3.0, 0.0), (0.5, 9.0, 0.0), (0.2, 5.0, 0.5)):
        method = Rlae(reg, dropout, xi, dtype="float64")
        np.testing.assert_allclose(compiled(gram, dropout, reg, xi), method.fit(data).model.weights, atol=1e-12)
    assert compiled._cache_size() == 1

    def value(dropout):
        return jnp.sum(edlae.weights(gram, dropout, 5.0) ** 2)

    numeric = (value(0.3 + 1e-5) - value(0.3 - 1e-5)) / 2e-5
    assert jax.grad(value)(0.3) == pytest.approx(float(numeric), rel=1e-6)


def test_gradient_of_the_objective_vanishes_where_it_may_move(data, x64):
    x = jnp.asarray(dense(data))
    gradient = jax.grad(edlae.objective, argnums=1)
    off = ~np.eye(24, dtype=bool)
    edlae_weights = jnp.asarray(Edlae(5.0, 0.3, dtype="float64").fit(data).model.weights)
    assert np.abs(gradient(x, edlae_weights, 0.3, 5.0)[off]).max() < 1e-10
    free = jnp.asarray(Lae(5.0, 0.3, dtype="float64").fit(data).model.weights)
    assert np.abs(gradient(x, free, 0.3, 5.0)).max() < 1e-10


@pytest.mark.parametrize("dropout", (-0.1, 1.0, 1.5, float("nan")))
def test_dropout_must_lie_in_0_1(dropout):
    for method in (Edlae, Lae, Rlae):
        with pytest.raises(InputError, match="dropout must be at least 0 and below 1"):
            method(dropout=dropout)


@pytest.mark.parametrize("xi", (-0.1, 1.1, float("nan")))
def test_xi_must_lie_in_0_1(xi):
    with pytest.raises(InputError, match="xi must lie between 0 and 1"):
        Rlae(xi=xi)


def test_configs_compare_and_print_by_value():
    assert Edlae(5.0, 0.2) == Edlae(reg=5.0, dropout=0.2) != Edlae(5.0, 0.3)
    assert dataclasses.replace(Rlae(), xi=0.1).xi == 0.1
