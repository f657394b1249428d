"""The linear optima: written out from the singular values, reached by factors, and below everything else."""

import numpy as np
import pytest
from scipy.sparse.linalg import ArpackError

from jaxrec import Autoencoder, Ease, InputError, Interactions, MultDae
from jaxrec.closed_form import bounds, spectral
from jaxrec.deep import excess, linear_optimum
from jaxrec.solvers import lanczos

LINEAR = {
    "decoder": (),
    "activation": "linear",
    "loss": "squared",
    "bias": False,
    "normalize": False,
    "dropout": 0.0,
    "batch_size": 150,
    "schedule": "cosine",
    "learning_rate": 0.03,
    "epochs": 400,
}


@pytest.fixture
def x(data):
    return data.to_csr(np.float64).toarray()


def losses(x, kind, reg, u, v):
    """The loss of encoder U and decoder V with each penalty, from its definition."""
    penalty = {
        "bottleneck": np.sum((x @ u) ** 2) + np.sum(v**2),
        "weights": np.sum(u**2) + np.sum(v**2),
        "tied": np.sum(u**2),
        "product": np.sum((u @ v.T) ** 2),
    }[kind]
    return np.sum((x - x @ u @ v.T) ** 2) + reg * penalty


def best_factors(x, kind, reg, k):
    """Encoder and decoder along the first k singular directions, the scale of each found by a search on a grid."""
    _, s, vt = np.linalg.svd(x, full_matrices=False)
    s, v = s[:k], vt[:k].T
    p = np.linspace(0, 1, 20_001)[:, None]
    cost = {
        "bottleneck": 2 * reg * s * p,
        "weights": 2 * reg * p,
        "tied": reg * p,
        "product": reg * p**2,
    }[kind]
    best = p[np.argmin(s**2 * (1 - p) ** 2 + cost, axis=0), 0]
    balance = 1 / np.sqrt(s) if kind == "bottleneck" else np.ones(k)
    return v * np.sqrt(best) * balance, v * np.sqrt(best) / balance


def test_eckart_young_is_what_the_svd_leaves(data, x):
    s = np.linalg.svd(x, compute_uv=False)
    centred = np.linalg.svd(x - x.mean(0), compute_uv=False)
    for k in (1, 5, 24):
        assert bounds.linear_optimum(data, k).value == pytest.approx(np.sum(s[k:] ** 2), rel=1e-9, abs=1e-8)
        with_bias = bounds.linear_optimum(data, k, bias=True)
        assert with_bias.value == pytest.approx(np.sum(centred[k:] ** 2), rel=1e-9, abs=1e-8)
    assert with_bias.nothing == pytest.approx(np.sum((x - x.mean(0)) ** 2))


@pytest.mark.parametrize("kind", bounds.PENALTIES)
@pytest.mark.parametrize("reg", (0.5, 30.0))
def test_penalised_optima_are_reached_and_nothing_is_below(data, x, kind, reg, rng):
    bound = bounds.linear_optimum(data, 6, reg=reg, penalty=kind)
    u, v = best_factors(x, kind, reg, 6)
    assert losses(x, kind, reg, u, v) == pytest.approx(bound.value, rel=1e-6)
    for size in (1e-3, 1e-2, 0.1):
        a, b = (part + size * rng.normal(size=part.shape) for part in (u, v))
        assert losses(x, kind, reg, a, a if kind == "tied" else b) > bound.value


def test_lanczos_gives_the_same_spectrum(data, monkeypatch):
    whole = bounds.spectrum(data, 5, bias=True)
    monkeypatch.setattr(bounds, "DENSE_UP_TO", 0)
    some = bounds.spectrum(data, 5, bias=True)
    np.testing.assert_allclose(some.values, whole.values[:5], rtol=1e-9)
    assert some.total == whole.total and len(some.values) == 5
    with pytest.raises(InputError, match="fewer than width=6"):
        bounds.eckart_young(some, 6)


@pytest.mark.parametrize("width", (1, 4, 9))
@pytest.mark.parametrize("bias", (False, True))
def test_lanczos_finds_every_copy_of_a_repeated_singular_value(width, bias, rng, monkeypatch):
    """Three groups of users who do the same with items of their own, and users who all took the same items."""
    x = np.kron(np.eye(3), rng.random((15, 12)) < 0.3)
    x = np.vstack([x, np.repeat(np.kron(np.eye(3), np.ones(12)), 4, 0)])
    data = Interactions.from_triples(*np.nonzero(x), n_users=len(x), n_items=36)
    monkeypatch.setattr(bounds, "DENSE_UP_TO", 0)
    monkeypatch.setattr(spectral, "DENSE_UP_TO", 0)
    values = np.linalg.svd(x - x.mean(0) if bias else x, compute_uv=False)[:width] ** 2
    np.testing.assert_allclose(bounds.spectrum(data, width, bias=bias).values, values, rtol=1e-9)
    pairs = spectral.eigenpairs(data, width, centred=bias)
    np.testing.assert_allclose(pairs.values, values, rtol=1e-8)
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(width), atol=1e-7)
    monkeypatch.setattr(lanczos, "MOST_ROUNDS", 0)
    with pytest.raises(ArpackError, match="equal singular values"):
        spectral.eigenpairs(data, width)


@pytest.mark.parametrize("bias", (False, True))
@pytest.mark.parametrize("n_inputs", (6, 16))
def test_reduced_rank_regression_is_what_alternating_least_squares_comes_to(data, x, n_inputs, bias, rng):
    """From the definition: B = U V' of rank K, one factor exactly for the other, from several starts."""
    inputs, targets = (data.select_items(np.arange(24)[part]) for part in (slice(n_inputs), slice(n_inputs, None)))
    a, y = x[:, :n_inputs], x[:, n_inputs:]
    if bias:
        a, y = a - a.mean(0), y - y.mean(0)
    for k in (1, 3, 8):
        ends = []
        for _ in range(3):
            v = rng.normal(size=(y.shape[1], k))
            for _ in range(300):
                u = np.linalg.pinv(a) @ y @ np.linalg.pinv(v).T
                v = (np.linalg.pinv(a @ u) @ y).T
            ends.append(np.sum((y - a @ u @ v.T) ** 2))
        found = bounds.reduced_rank(inputs, targets, k, bias=bias)
        assert found.value == pytest.approx(min(ends), rel=1e-6) and found.nothing == pytest.approx(np.sum(y**2))
        floor = bounds.linear_optimum(targets, k, bias=bias).value  # what no output of rank K is below
        assert found.value > floor * 1.01
    whole = np.sum((y - a @ np.linalg.pinv(a) @ y) ** 2)
    assert bounds.reduced_rank(inputs, targets, 24, bias=bias).value == pytest.approx(whole, rel=1e-9)


def test_with_the_targets_among_the_inputs_nothing_is_left_between_the_two_bounds(data):
    same = bounds.reduced_rank(data, data, 5, bias=True)  # one item that nobody has: X'X is singular
    assert same.value == pytest.approx(bounds.linear_optimum(data, 5, bias=True).value, rel=1e-9)


def test_targets_of_other_users_are_refused(data):
    with pytest.raises(InputError, match="a row for each user"):
        bounds.reduced_rank(data, data.rows(np.arange(20)), 3)


@pytest.mark.parametrize(
    "settings",
    (
        {"encoder": (4,)},
        {"encoder": (4,), "reg": 5.0},
        {"encoder": (4,), "reg": 5.0, "tied": True},
        {"encoder": (4,), "reg": 3.0, "penalty": "bottleneck"},
        {"encoder": (), "reg": 5.0},
    ),
    ids=str,
)
def test_linear_autoencoders_come_within_a_thousandth(data, settings):
    found = excess(Autoencoder(**LINEAR | settings).fit(data), data)
    assert found.bound.tight
    assert 1 - 1e-6 < found.ratio < 1.001


@pytest.mark.parametrize(
    "settings",
    (
        {"encoder": (32, 4), "activation": "tanh", "bias": True},
        {"encoder": (16, 4), "activation": "swish", "reg": 2.0, "penalty": "bottleneck", "dropout": 0.2},
    ),
    ids=str,
)
def test_nonlinear_autoencoders_stay_above(data, settings):
    found = excess(Autoencoder(**LINEAR | {"epochs": 100} | settings).fit(data), data)
    assert found.bound.width == 4 and found.bound.tight == ("dropout" not in settings)
    assert 1 - 1e-6 < found.ratio < found.bound.nothing / found.bound.value
    assert "over the linear optimum" in str(found)


def test_a_penalty_on_the_weights_of_a_deep_network_leaves_the_bound_without_it(data):
    settings = LINEAR | {"encoder": (16, 8), "decoder": (4,), "activation": "relu", "reg": 1.0}
    bound = linear_optimum(Autoencoder(**settings), data)
    assert bound == bounds.linear_optimum(data, 4)._replace(tight=False)


def test_a_bound_that_is_known_is_taken_and_must_be_that_of_the_training(data):
    settings = LINEAR | {"encoder": (6, 4), "epochs": 3}
    fitted = Autoencoder(**settings).fit(data)
    found = excess(fitted, data)
    assert excess(fitted, data, found.bound) == found
    for other in ({"encoder": (6, 5)}, {"bias": not fitted.info.method.bias}):
        with pytest.raises(InputError, match="bound must be that of the squared error of a rank of 4"):
            excess(fitted, data, linear_optimum(Autoencoder(**settings | other), data))
    others = data.rows(np.arange(100))
    with pytest.raises(InputError, match="bound is that of other data"):
        excess(fitted, data, linear_optimum(Autoencoder(**settings), others))
    multinomial = Autoencoder(**settings | {"loss": "multinomial"}).fit(data)
    with pytest.raises(InputError, match="bounds squared errors"):
        excess(multinomial, data, found.bound)


@pytest.mark.parametrize(
    ("settings", "width"),
    (
        ({"encoder": (1,), "decoder": (5,)}, 5),
        ({"encoder": (3,), "normalize": True}, 3),
        ({"encoder": (3,), "tied": True, "penalty": "bottleneck", "reg": 1.0}, 3),
    ),
    ids=str,
)
def test_a_bound_is_not_called_tight_where_linear_networks_of_the_shape_cannot_reach_it(data, settings, width):
    bound = linear_optimum(Autoencoder(**LINEAR | settings), data)
    assert bound.width == width and not bound.tight


def test_users_without_items_make_no_difference(data, x):
    method = Autoencoder(**LINEAR | {"encoder": (4,), "bias": True})
    more = Interactions.from_triples(*np.nonzero(x), n_users=400, n_items=24)
    assert linear_optimum(method, more).value == pytest.approx(linear_optimum(method, data).value, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "why"),
    (
        ({"loss": "multinomial"}, "'multinomial' is no squared error"),
        ({"loss": "logistic"}, "'logistic' is no squared error"),
        ({"loss": "gaussian"}, "'gaussian' weights cells"),
        ({"full_emphasis": True, "dropout": 0.5}, "full_emphasis weights them"),
    ),
)
def test_what_the_bound_is_not_about_is_refused(data, settings, why):
    with pytest.raises(InputError, match=rf"{why}.*\.$"):
        linear_optimum(Autoencoder(**LINEAR | {"encoder": (4,)} | settings), data)


def test_other_methods_and_other_data_are_refused(data):
    with pytest.raises(InputError, match=r"bounds an Autoencoder .* got MultDae"):
        linear_optimum(MultDae(), data)
    with pytest.raises(InputError, match="was not fitted on"):
        excess(Ease().fit(data), data.rows(np.arange(20)))
    with pytest.raises(InputError, match="penalty must be one of"):
        bounds.linear_optimum(data, 3, reg=1.0, penalty="l1")
    with pytest.raises(InputError, match="reg must be"):
        bounds.linear_optimum(data, 3, reg=-1.0)
