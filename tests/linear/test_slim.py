"""EASE >= 0 and SLIM: equal to general-purpose solvers column by column, convergent, honest about their residual."""

import dataclasses
import itertools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy.sparse as sp
from reference import dense
from scipy.optimize import minimize, nnls

from jaxrec import FitError, InputError, Interactions, NonnegativeEase, Slim, Status
from jaxrec.linear.slim import method as slim
from jaxrec.linear.slim.certificate import Columns


def nnls_columnwise(x: np.ndarray, reg: float) -> np.ndarray:
    """Nonnegative ridge regressions of each item on all others, as least squares with extra rows."""
    n = x.shape[1]
    weights = np.zeros((n, n))
    for j in range(n):
        others = np.arange(n) != j
        rows = np.vstack([x[:, others], np.sqrt(reg) * np.eye(n - 1)])
        weights[others, j] = nnls(rows, np.append(x[:, j], np.zeros(n - 1)))[0]
    return weights


def elastic_net_columnwise(x: np.ndarray, reg: float, l1: float, nonnegative: bool) -> np.ndarray:
    """L-BFGS-B on the positive and negative parts, both bounded below by 0, which makes |.| smooth."""
    n = x.shape[1]
    weights = np.zeros((n, n))
    for j in range(n):
        others = np.arange(n) != j
        features, target = x[:, others], x[:, j]

        def loss(parts, features=features, target=target):
            b = parts[: n - 1] - parts[n - 1 :]
            error = target - features @ b
            slope = -features.T @ error + reg * b
            value = (error @ error + reg * b @ b) / 2 + l1 * parts.sum()
            return value, np.append(slope, -slope) + l1

        bounds = [(0, None)] * (n - 1) + [(0, 0 if nonnegative else None)] * (n - 1)
        options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 5000, "maxfun": 50000}
        parts = minimize(loss, np.zeros(2 * n - 2), jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
        weights[others, j] = parts[: n - 1] - parts[n - 1 :]
    return weights


def iterate(x: np.ndarray, reg: float, l1: float, nonnegative: bool, iterations: int):
    """The states of ADMM, one after the other, in JAX's default precision."""
    gram = jnp.asarray(x.T @ x)
    rho = slim.couplings(jnp.diagonal(gram), reg)
    inverse = jnp.linalg.inv(gram + jnp.diag(reg + rho))
    states, step = [jnp.zeros_like(gram)], jax.jit(slim.step, static_argnums=5)
    for _ in range(iterations):
        states.append(step(states[-1], inverse, rho, reg, l1, nonnegative))
    return states, rho


@pytest.mark.parametrize("reg", (0.5, 20.0))
def test_kernel_equals_nnls(data, reg, x64):
    x = dense(data)
    states, rho = iterate(x, reg, 0.0, True, 3000)
    found = slim.feasible(states[-1], rho, 0.0, True)
    np.testing.assert_allclose(found, nnls_columnwise(x, reg), atol=1e-9)


@pytest.mark.parametrize("reg", (0.5, 20.0, 1e3))
def test_fit_equals_nnls(data, reg):
    fitted = NonnegativeEase(reg, tolerance=3e-6).fit(data)
    found, expected = np.asarray(fitted.model.weights), nnls_columnwise(dense(data), reg)
    np.testing.assert_allclose(found, expected, atol=3e-4 * expected.max())
    assert found.min() == 0 and not np.diag(found).any() and not found[:, 7].any() and not found[7].any()
    share = fitted.info.certificate.detail["share of weights that are zero"]
    assert share == pytest.approx(np.mean(found == 0), rel=1e-6) and share > 0.2


@pytest.mark.parametrize("nonnegative", (True, False))
@pytest.mark.parametrize("l1", (0.3, 4.0))
def test_slim_equals_a_general_purpose_optimiser(data, l1, nonnegative):
    found = np.asarray(Slim(5.0, l1, nonnegative, tolerance=1e-6).fit(data).model.weights)
    expected = elastic_net_columnwise(dense(data), 5.0, l1, nonnegative)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert (found.min() < 0) is not nonnegative and np.mean(found == 0) > 0.1
    value, best = (float(slim.objective(dense(data), w, 5.0, l1)) for w in (found, expected))
    assert value == pytest.approx(best, rel=1e-5)


def test_neither_signs_nor_l1_is_ease(data):
    found = Slim(8.0, 0.0, nonnegative=False, tolerance=2e-6).fit(data).model.weights
    np.testing.assert_allclose(found, reference.ease(dense(data), 8.0), atol=5e-5)


@pytest.mark.parametrize("nonnegative", (True, False))
def test_huge_l1_gives_exactly_zero(data, nonnegative):
    fitted = Slim(5.0, 1e4, nonnegative).fit(data)
    np.testing.assert_array_equal(fitted.model.weights, 0)
    assert fitted.info.certificate.residual == 0


@pytest.mark.parametrize("nonnegative", (True, False))
def test_steps_never_grow(data, nonnegative, x64):
    """The distance between successive states never rises, and the objective goes to that of the optimum."""
    x = dense(data)
    states, rho = iterate(x, 5.0, 1.0, nonnegative, 200)
    moves = [float(jnp.linalg.norm(jnp.sqrt(rho)[:, None] * (b - a))) for a, b in itertools.pairwise(states)]
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(moves))
    assert moves[-1] < 1e-4 * moves[0]
    expected = slim.objective(x, elastic_net_columnwise(x, 5.0, 1.0, nonnegative), 5.0, 1.0)
    values = [float(slim.objective(x, slim.feasible(v, rho, 1.0, nonnegative), 5.0, 1.0)) for v in states]
    assert min(values) >= expected * (1 - 1e-9) and values[-1] == pytest.approx(float(expected), rel=1e-7)


def residual(data, columns, weights):
    return Columns(data, columns, np.ones(len(columns), bool), 3.0, 0.7, True).residual(weights)


def test_residual_is_the_projected_gradient_of_the_objective(data, rng, x64):
    """At positive weights the gradient by JAX; at zero only its part below zero counts."""
    x = dense(data)
    weights = np.maximum(rng.normal(size=(24, 24)), 0)
    np.fill_diagonal(weights, 0)
    columns = np.arange(24)

    def projected(b):
        slope = np.asarray(jax.grad(slim.objective, argnums=1)(jnp.asarray(x), jnp.asarray(b + 1e-300), 3.0, 0.7))
        slope = np.where(b > 0, slope, np.minimum(slope, 0))
        np.fill_diagonal(slope, 0)
        return np.linalg.norm(slope)

    found = residual(data, columns, weights)
    assert found == pytest.approx(projected(weights) / projected(np.zeros_like(weights)), rel=1e-10)
    optimum = elastic_net_columnwise(x, 3.0, 0.7, True)
    assert residual(data, columns, optimum) < 1e-5
    chosen = np.array([2, 11])
    assert residual(data, chosen, optimum[:, chosen]) < 1e-5
    assert residual(data, chosen, optimum[:, chosen] * 1.01) > 1e-3


@pytest.mark.parametrize("nonnegative", (True, False))
def test_the_estimated_error_is_the_true_one(data, rng, nonnegative):
    x = dense(data)
    best = elastic_net_columnwise(x, 3.0, 0.7, nonnegative)
    off = best * (1 + 0.01 * rng.normal(size=best.shape))
    columns = Columns(data, np.arange(24), np.ones(24, bool), 3.0, 0.7, nonnegative)
    found = columns.errors(off, lambda v: x.T @ (x @ v))
    assert found.weights == pytest.approx(np.linalg.norm(off - best) / np.linalg.norm(best), rel=0.2)
    errors = np.linalg.norm(off - best, axis=0) / np.maximum(np.linalg.norm(best, axis=0), 1e-30)
    assert found.worst == pytest.approx(errors.max(), rel=0.3)


def test_weights_of_large_values_are_right_to_a_hundredth(rng):
    """Hours played, over three decades: at the plain limit of the residual alone, weights were off by some per cent."""
    x = (rng.random((300, 40)) < 0.15) * 10.0 ** rng.uniform(0, 3, (300, 40))
    data = Interactions.from_csr(sp.csr_array(x.astype(np.float32)))
    fitted = NonnegativeEase(1e4).fit(data)
    expected = nnls_columnwise(dense(data), 1e4)
    error = np.linalg.norm(fitted.model.weights - expected) / np.linalg.norm(expected)
    assert error < min(0.01, 3 * fitted.info.certificate.detail["estimated error of the weights"] + 1e-6)


def test_few_items_that_lack_digits_are_solved_in_float64(rng, monkeypatch):
    """Near-copies and a tiny reg: float32 is refused, and is where there are more items."""
    x = (rng.random((60, 12)) < 0.4) * 1.0
    x[:, 1:5] = x[:, [0]]
    x[7, 1], x[8, 2] = 1e-3, 2e-2
    x[3:5] *= 1000
    data, method = Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=60, n_items=12), Slim(1e-2)
    fitted = method.fit(data)
    expected = drawn.elastic_net(reference.dense(data), 1e-2, method.l1, True)
    error = np.linalg.norm(fitted.model.weights - expected) / np.linalg.norm(expected)
    assert error < 1e-6 and fitted.model.weights.dtype == np.float32
    monkeypatch.setattr(slim, "DENSE", 0)
    with pytest.raises(FitError) as refused:
        method.fit(data)
    assert refused.value.status is Status.ILL_CONDITIONED


def test_too_few_iterations_are_refused(data):
    with pytest.raises(FitError, match="max_iterations") as error:
        NonnegativeEase(1.0, tolerance=1e-6, max_iterations=5).fit(data)
    assert error.value.status is Status.RESIDUAL_TOO_LARGE


def test_hyper_parameters_do_not_compile_anew(data):
    before = slim._steps._cache_size()
    for reg, l1 in ((3.0, 0.5), (30.0, 0.1)):
        Slim(reg, l1).fit(data)
    assert slim._steps._cache_size() - before <= 1


@pytest.mark.parametrize("wrong", ({"reg": 0}, {"l1": -1.0}, {"l1": float("nan")}, {"tolerance": 0}))
def test_bad_hyper_parameters_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        dataclasses.replace(Slim(), **wrong)
    with pytest.raises(InputError, match="max_iterations must be at least 1"):
        Slim(max_iterations=0)


def test_one_item_and_items_that_share_no_user():
    for data in (Interactions.from_triples([0, 1], [0, 0]), Interactions.from_triples([0, 1, 2], [0, 1, 2])):
        np.testing.assert_array_equal(NonnegativeEase().fit(data).model.weights, 0)
