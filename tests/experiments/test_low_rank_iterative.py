"""What the low-rank EDLAE is compared with: the published ADMM, and L-BFGS on its loss."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from linear.test_low_rank_edlae import KEY, REG, Naive, P, problem_of, product, tastes

from jaxrec import InputError
from jaxrec.experiments.low_rank import iterative
from jaxrec.linear.low_rank_edlae import kernels
from jaxrec.linear.low_rank_edlae import method as low_rank
from jaxrec.solvers import svd


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return tastes(400, 40)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    return tastes(1500, 96)


def best_decoder(problem: kernels.LowRankProblem, encoder: jax.Array) -> kernels.LowRankSolution:
    return kernels.best_decoder(problem, svd.orthonormal(problem.lower.T @ encoder))


def ends(problem: kernels.LowRankProblem, rank: int, key: jax.Array = KEY) -> dict[str, kernels.LowRankSolution]:
    """What each iteration ends with, with the best decoder."""
    start = low_rank._best_decoder(problem, low_rank.closed_form_basis(problem, rank, key)[0])
    encoders = {
        "admm": iterative.admm(problem, rank, key, 20, 500.0)[0],
        "lbfgs": iterative.lbfgs(problem, start.encoder, start.decoder, 300)[0],
    }
    return {name: best_decoder(problem, encoder) for name, encoder in encoders.items()}


def single(x: np.ndarray) -> kernels.LowRankProblem:
    """The problem in float32, as experiments have it."""
    return low_rank.prepare(jnp.asarray(reference.gram(x), jnp.float32), P, REG)


def test_all_items_are_full_rank(x):
    for name, end in ends(single(x), 40).items():
        weights = product(end[:2])
        np.testing.assert_allclose(weights - np.diag(np.diag(weights)), Naive(x).best, atol=2e-5, err_msg=name)


def test_their_excess_is_that_of_their_factors(wide):
    for end in ends(single(wide), 12).values():
        assert 0 < float(end.excess) == pytest.approx(Naive(wide).excess(product(end[:2])), rel=1e-3)


def test_same_key_same_factors(wide):
    one, two, other = (iterative.admm(single(wide), 5, jax.random.key(seed), 20, 500.0)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_without_optax_it_is_said(x, monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    zeros = jnp.zeros((40, 7))
    with pytest.raises(InputError, match="needs optax"):
        iterative.lbfgs(single(x), zeros, zeros, 3)


@pytest.mark.slow
def test_closed_form_is_within_3_percent_of_lbfgs_at_small_ranks(wide, x64):
    """And the fixed point is nowhere above it: what makes it the default."""
    problem = problem_of(wide)
    for rank in (4, 12):
        start = low_rank._best_decoder(problem, low_rank.closed_form_basis(problem, rank, KEY)[0])
        u, v, _ = iterative.lbfgs(problem, start.encoder, start.decoder, 100)
        judge = float(kernels.excess(problem, u, v))
        assert judge <= start.excess <= 1.03 * judge
        basis = low_rank._fixed_point(problem, low_rank.closed_form_basis(problem, rank, KEY)[0], 100, 1e-7)[0]
        assert low_rank._best_decoder(problem, basis).excess <= 1.0001 * judge


def test_admm_step_is_the_published_one(x, rng, x64):
    naive, problem, omega = Naive(x), problem_of(x), 100.0
    u = 1e-2 * rng.normal(size=(40, 4))
    beta, dual = rng.random((2, 40))
    both, a = naive.penalty + omega, naive.a
    r = a * (1 + beta) + np.diag(both * (beta - dual))
    v = np.linalg.solve(u.T @ (a + np.diag(naive.penalty + both)) @ u, u.T @ r).T
    u_next = naive.c @ r @ v @ np.linalg.inv(v.T @ v)
    uv = np.diag(u_next @ v.T)
    beta_next = np.diag(a @ u_next @ v.T) - np.diag(a) + both * (uv + dual)
    beta_next = np.maximum(0, beta_next / (np.diag(a) + omega))
    state = iterative.AdmmState(*map(jnp.asarray, (u, np.zeros_like(u), beta, dual)))
    found = iterative.admm_step(problem, state, omega)
    for one, two in zip(found, (u_next, v, beta_next, dual + uv - beta_next), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-9)


def test_admm_keeps_its_best_iterate_and_stops_when_it_diverges(wide):
    problem = low_rank.prepare(jnp.asarray(reference.gram(wide), jnp.float32), P, REG)
    u, v, course = iterative.admm(problem, 24, KEY, 100, 500.0)
    assert len(course) < 100 and not course[-1] < 10 * min(course), "it did not diverge: the guard is untested"
    np.testing.assert_allclose(kernels.excess(problem, u, v), min(course), rtol=1e-5)
    assert best_decoder(problem, u).excess <= min(course) + 1e-5
