"""The gradient-trained referee: on the public objectives it comes down to the exact optima, and never below them."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import Ials, InputError
from jaxrec.closed_form import kernel
from jaxrec.data import synthetic
from jaxrec.factorization.ials import method as ials
from jaxrec.similarity import factor_objective, shrinkage
from jaxrec.solvers.descent import descend


@pytest.fixture
def x(rng, x64):
    return (rng.random((60, 12)) < 0.3).astype(float)


def test_it_comes_down_to_the_closed_form(x):
    best = jax.jit(kernel.solve)(x.T @ x, np.full(12, 5.0), 1.0).weights  # the diagonal free
    exact = jax.jit(kernel.objective)(x, best, 5.0)
    found = descend(lambda b: kernel.objective(x, b, 5.0), jnp.zeros((12, 12)), 200)
    assert exact * (1 - 1e-12) < found.losses[-1] < exact * (1 + 1e-9)
    np.testing.assert_allclose(found.parameters, best, atol=1e-5)
    assert found.steps[0] == 0 and found.losses[0] == pytest.approx(np.sum(x**2))
    assert np.all(np.diff(found.losses) <= 1e-12)


@pytest.mark.parametrize("optimizer", [None, optax.adam(3e-3)], ids=["lbfgs", "adam"])
def test_factors_come_down_to_soft_thresholding(x, rng, optimizer):
    """The minimum is reg (2 sum over kept sigma - K' reg) + what was cut: the spec's second objective at W = 1."""
    reg, rank = 1.5, 4
    sigma = np.linalg.svd(x, compute_uv=False)
    kept = sigma[:rank] * shrinkage(sigma[:rank], reg, "factor")
    exact = np.sum((sigma[:rank] - kept) ** 2) + np.sum(sigma[rank:] ** 2) + 2 * reg * np.sum(kept)
    start = 0.1 * rng.standard_normal((2, 12, rank))
    steps = 400 if optimizer is None else 6000
    found = descend(lambda ab: factor_objective(x, *ab, reg), tuple(map(jnp.asarray, start)), steps, optimizer)
    assert exact * (1 - 1e-12) < found.losses[-1] < exact * 1.001


def test_exact_sweeps_reach_a_lower_objective_than_adam():
    """On the very loss of iALS, as the method states it: what a researcher would compare."""
    data = synthetic(80, 40, seed=3)
    method = Ials(rank=6, mode="cholesky", sweeps=30, reg=0.01)
    fitted = method.fit(data)
    problem, _ = method.problem(data)
    dense = data.to_csr().toarray()
    shape = np.ones_like(dense)
    base, entries = method.unobserved_weight * shape, method.alpha * dense

    def loss(factors):
        return ials.objective(dense, base, entries, *factors, problem.users.ridge, problem.items.ridge)

    exact = fitted.info.certificate.detail["loss"]
    model = fitted.model
    assert float(loss((model.user_factors, model.item_factors))) == pytest.approx(exact, rel=1e-5)
    start = tuple(0.1 * jax.random.normal(jax.random.key(i), (n, 6)) for i, n in enumerate((80, 40)))
    by_adam = descend(loss, start, 500, optax.adam(1e-2))
    assert exact < by_adam.losses[-1] * (1 + 1e-3)


def test_it_ends_where_nothing_moves():
    found = descend(lambda a: jnp.sum(a**2), jnp.zeros(3), 1000)
    assert found.steps[-1] == 1 and found.losses[-1] == 0


def test_what_diverges_says_so():
    found = descend(lambda a: jnp.sum(a**4), jnp.ones(3), 200, optax.sgd(10.0))
    assert np.isnan(found.losses[-1])


def test_refusals(monkeypatch):
    with pytest.raises(InputError, match="steps must be"):
        descend(jnp.sum, jnp.ones(2), 0)
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(InputError, match="gradient descent needs optax; install it with: pip install optax"):
        descend(jnp.sum, jnp.ones(2), 3)
