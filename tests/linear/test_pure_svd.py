"""PureSVD: equal to the SVD by LAPACK, stationary, best of its rank, and refused where the decomposition is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import dense
from scipy.optimize import minimize

from jaxrec import FitError, InputError, PureSvd
from jaxrec.closed_form import spectral
from jaxrec.linear import pure_svd


def literal(x: np.ndarray, rank: int, reg: float) -> np.ndarray:
    _, sigma, vt = np.linalg.svd(x, full_matrices=False)
    return vt[:rank].T @ np.diag(sigma[:rank] ** 2 / (sigma[:rank] ** 2 + reg)) @ vt[:rank]


@pytest.mark.parametrize("lanczos", (False, True))
@pytest.mark.parametrize(("rank", "reg"), ((1, 0.0), (5, 0.0), (5, 30.0), (12, 200.0)))
def test_weights_equal_the_truncated_svd(data, rank, reg, lanczos, monkeypatch):
    if lanczos:
        monkeypatch.setattr(spectral, "DENSE_UP_TO", 0)
        monkeypatch.setattr(spectral, "gram_matrix", lambda *_: pytest.fail("the Gram matrix was formed"))
    model = PureSvd(rank, reg).fit(data).model
    assert model.encoder.shape == model.decoder.shape == (24, rank)
    np.testing.assert_allclose(model.encoder @ model.decoder.T, literal(dense(data), rank, reg), atol=1e-6)
    scores = model.score_host(data.to_csr())
    np.testing.assert_allclose(scores, dense(data) @ literal(dense(data), rank, reg), atol=1e-5)


@pytest.mark.parametrize("rank", (13, 23, 24))
def test_high_ranks_and_items_without_users(data, rank):
    model = PureSvd(rank, 3.0).fit(data).model
    np.testing.assert_allclose(model.encoder @ model.decoder.T, literal(dense(data), rank, 3.0), atol=1e-6)


@pytest.mark.parametrize("reg", (0.0, 40.0))
def test_gradient_vanishes_and_descent_from_elsewhere_is_no_better(data, rng, reg, x64):
    x = dense(data)
    model = PureSvd(4, reg).fit(data).model
    factors = tuple(jnp.asarray(part, jnp.float64) for part in (model.encoder, model.decoder))
    value, gradient = jax.value_and_grad(pure_svd.objective, argnums=(1, 2))(x, *factors, reg)
    assert max(np.abs(part).max() for part in gradient) < 1e-3 < np.abs(x.T @ x).max()

    def loss(flat):
        parts = flat.reshape(2, 24, 4)
        value, slopes = jax.value_and_grad(pure_svd.objective, argnums=(1, 2))(x, *parts, reg)
        return float(value), np.concatenate([np.ravel(slope) for slope in slopes])

    found = minimize(loss, 0.1 * rng.normal(size=192), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    assert found.fun == pytest.approx(float(value), rel=1e-5)


def test_regularised_full_rank_is_ridge(data):
    x = dense(data)
    model = PureSvd(24, 50.0).fit(data).model
    expected = np.linalg.solve(x.T @ x + 50 * np.eye(24), x.T @ x)
    np.testing.assert_allclose(model.encoder @ model.decoder.T, expected, atol=1e-6)


def test_wrong_pairs_are_refused(data, monkeypatch):
    """Vectors that are no eigenvectors, and eigenvectors that are not the first."""
    right = pure_svd.eigenpairs(data, 4)
    turned = right._replace(vectors=np.roll(right.vectors, 1, axis=0))
    every = pure_svd.eigenpairs(data, 5)
    skipped = pure_svd.Eigenpairs(every.values[1:], every.vectors[:, 1:])
    for wrong in (turned, skipped):
        monkeypatch.setattr(pure_svd, "eigenpairs", lambda *_, wrong=wrong: wrong)
        with pytest.raises(FitError, match="residual too large"):
            PureSvd(4).fit(data)


def test_bad_input_is_refused(data):
    with pytest.raises(InputError, match="rank must be at most the number of items, 24, got 25"):
        PureSvd(25).fit(data)
    with pytest.raises(InputError, match="rank must be at least 1"):
        PureSvd(0)
    with pytest.raises(InputError, match="reg must be a finite number of at least 0"):
        PureSvd(5, -1.0)


def test_plan_of_lanczos_is_slower_than_its_flops_and_no_faster_on_more_threads(monkeypatch):
    many = PureSvd(64).plan(30_000, 20_000, 10**6)
    assert many.seconds == pytest.approx(pure_svd.LANCZOS_SLOWER * many.flops / 1e11)
    monkeypatch.setattr("jaxrec.runtime.memory.n_threads", lambda: 64)
    assert PureSvd(64).plan(30_000, 20_000, 10**6).seconds == many.seconds
    assert PureSvd(300).plan(1000, 400, 10**4).seconds == pytest.approx(9.0 * 400**3 / 1e11 / 64)  # dense
