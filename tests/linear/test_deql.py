"""DEQL: equal to the linear system of each column, to EDLAE and DLAE at its ends, to sampled dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import dense

from jaxrec import Deql, Edlae, FitError, InputError, Lae, Status
from jaxrec.linear import deql


def columnwise(x: np.ndarray, p: float, a: float, b: float, ridge: float) -> np.ndarray:
    """H_i b_i = v_i solved for each i, in the paper's unit: inputs dropped or kept, but not divided by 1 - p."""
    gram, q, n = x.T @ x, 1 - p, x.shape[1]
    weights = np.zeros((n, n))
    for i in range(n):
        mixed = p * a + q * b
        system = q**2 * mixed * gram
        system[np.diag_indices(n)] = q * mixed * np.diag(gram)
        system[i, :] = system[:, i] = q**2 * b * gram[i]
        system[i, i] = q * b * gram[i, i]
        target = q * mixed * gram[:, i]
        target[i] = q * b * gram[i, i]
        weights[:, i] = np.linalg.solve(system + ridge * np.eye(n), target)
    return weights


@pytest.mark.parametrize("solver", ("host", "jax"))
@pytest.mark.parametrize("dropout", (0.2, 0.7))
@pytest.mark.parametrize(("a", "b"), ((1.0, 0.0), (1.0, 0.05), (2.0, 1.0), (1.0, 1.0), (0.5, 2.0)))
def test_weights_solve_the_system_of_each_column(data, solver, dropout, a, b):
    reg, q = 5.0, 1 - dropout
    ridge = reg * (dropout * a + q * b) * q**2  # `reg` in the paper's unit
    expected = q * columnwise(dense(data), dropout, a, b, ridge)
    found = Deql(reg, dropout, b / a, solver=solver).fit(data).model.weights
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_kernel_to_the_last_digits_compiles_once(data, x64):
    x = dense(data)
    gram = jnp.asarray(x.T @ x)
    compiled = jax.jit(lambda *given: deql.weights(*given))  # jit shares its cache by function
    for p, reg, b in ((0.3, 5.0, 0.1), (0.6, 1.0, 3.0), (0.1, 40.0, 0.0)):
        expected = (1 - p) * columnwise(x, p, 1.0, b, reg * (p + (1 - p) * b) * (1 - p) ** 2)
        np.testing.assert_allclose(compiled(gram, p, reg, b), expected, atol=1e-12)
        np.testing.assert_allclose(Deql(reg, p, b, dtype="float64").fit(data).model.weights, expected, atol=1e-12)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("solver", ("host", "jax"))
def test_ends_are_edlae_and_dlae(data, solver):
    none = Deql(5.0, 0.3, 0.0, solver=solver).fit(data).model.weights
    np.testing.assert_allclose(none, Edlae(5.0, 0.3, solver=solver).fit(data).model.weights, atol=1e-7)
    nearly = Deql(5.0, 0.3, 1e-6, solver=solver).fit(data).model.weights
    np.testing.assert_allclose(nearly, none, atol=1e-4)
    alike = Deql(5.0, 0.3, 1.0, solver=solver).fit(data).model.weights
    np.testing.assert_allclose(alike, Lae(5.0, 0.3, solver=solver).fit(data).model.weights, atol=3e-6)


@pytest.mark.parametrize("kept_weight", (0.0, 0.3, 2.0))
def test_objective_is_the_mean_of_sampled_dropout_and_stationary(data, rng, kept_weight, x64):
    x, p, reg = dense(data), 0.4, 3.0
    best = jnp.asarray(Deql(reg, p, kept_weight, dtype="float64").fit(data).model.weights)
    gradient = jax.jit(jax.grad(deql.objective, argnums=1))(jnp.asarray(x), best, p, reg, kept_weight)
    assert np.abs(gradient).max() < 1e-9
    weights = np.asarray(best) + 0.1 * np.eye(24)
    sampled = []
    for _ in range(3000):
        dropped = rng.random(x.shape) < p
        error = x - np.where(dropped, 0, x / (1 - p)) @ weights
        sampled.append(np.sum(np.where(dropped, 1.0, kept_weight) * error**2) / (p + (1 - p) * kept_weight))
    expected = float(jax.jit(deql.objective)(x, weights, p, 1e-300, kept_weight))
    assert np.mean(sampled) == pytest.approx(expected, abs=4 * np.std(sampled) / 3000**0.5)


def test_certificate_measures_the_system_itself(data):
    columns = np.arange(24)
    best = np.array(Deql(5.0, 0.3, 0.2, dtype="float64").fit(data).model.weights)
    assert deql.residual(data, columns, best, 0.3, 5.0, 0.2) < 1e-12
    for change in (1e-3 * np.eye(24), 1e-3 * (1 - np.eye(24))):
        assert deql.residual(data, columns, best + change, 0.3, 5.0, 0.2) > 1e-4
    assert deql.residual(data, columns, best, 0.3, 5.0, 0.3) > 1e-3


def test_a_wrong_diagonal_is_refused(data, monkeypatch):
    right = deql.own_weights
    monkeypatch.setattr(deql, "own_weights", lambda *a: (right(*a)[0] * 1.01, right(*a)[1]))
    with pytest.raises(FitError, match="residual") as error:
        Deql(5.0, 0.3, 0.5).fit(data)
    assert error.value.status is Status.RESIDUAL_TOO_LARGE


def test_bad_hyper_parameters_are_refused():
    for dropout in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="dropout must"):
            Deql(dropout=dropout)
    for kept_weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="kept_weight must be a finite number of at least 0"):
            Deql(kept_weight=kept_weight)
