"""Over the registry: a certificate is of the model that is returned, nothing changes the weights after it."""

import numpy as np
import pytest

from jaxrec import Interactions
from jaxrec.closed_form.method import ClosedForm
from jaxrec.factorization.weighted_ease import method as weighted_ease
from jaxrec.linear import higher_order
from jaxrec.linear.mrf import method as mrf
from jaxrec.linear.slim import certificate as slim_certificate
from jaxrec.methods import METHODS

LINEAR = [name for name in METHODS if issubclass(METHODS[name], ClosedForm)]


@pytest.fixture(scope="module")
def data() -> Interactions:
    """Groups of three and more identical items, which ties average, and small regularization will feel it."""
    rng = np.random.default_rng(0)
    x = rng.random((150, 40)) < 0.25
    x[:, 1:9], x[:, 20:23] = x[:, [0]], x[:, [30]]
    return Interactions.from_triples(*np.nonzero(x), n_users=150, n_items=40)


def weights_of(fitted) -> np.ndarray:
    return np.asarray(fitted.model.to_host().weights, np.float64)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("solver", ["host", "jax"])
def test_closed_forms_certify_what_they_return(name, solver, data, monkeypatch):
    """The residual of the optimum that the returned weights show equals the certificate's, and is at rounding level."""
    method = METHODS[name](reg=0.01, solver=solver)
    returned = []
    transform = type(method).transform_weights

    def kept(self, problem, solution):
        weights, optimum = transform(self, problem, solution)
        returned.append((problem, weights, optimum))
        return weights, optimum

    monkeypatch.setattr(type(method), "transform_weights", kept)
    fitted = method.fit(data)
    problem, weights, optimum = returned[-1]
    assert fitted.model.weights is weights  # the very array that was certified
    shown = optimum if not hasattr(optimum, "matrix") else _dense(optimum, data.n_items)
    b = np.asarray(shown, np.float64)[: data.n_items, : data.n_items]
    x = problem.x.to_csr(np.float64).toarray()
    gram = x.T @ x
    off = ~np.eye(len(gram), dtype=bool)
    residual = np.linalg.norm(((gram + np.diag(problem.penalty)) @ b - gram)[off]) / np.linalg.norm(gram[off])
    reported = fitted.info.certificate.residual
    assert residual < 1e-5 and reported < 1e-5
    if name != "deql":  # whose larger residual is of another system
        assert residual / 3 - 5e-7 < reported < 3 * residual + 5e-7


def _dense(optimum, n: int) -> np.ndarray:
    matrix = np.asarray(optimum.matrix, np.float64)[:n, :n]
    left, diagonal, right = (np.broadcast_to(part, n) for part in (optimum.left, optimum.diagonal, optimum.right))
    return left[:, None] * (matrix - np.diag(diagonal)) * right


@pytest.mark.parametrize(("name", "module", "function"), [("weighted-ease", weighted_ease, "certify")])
def test_weighted_weights_are_certified_as_returned(name, module, function, data, monkeypatch):
    certified = []
    right = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *a: certified.append(a[2].weights) or right(*a))
    fitted = METHODS[name](reg=0.5).fit(data)
    assert fitted.model.weights is certified[-1]


@pytest.mark.parametrize("name", ["slim", "ease-nonnegative"])
def test_elastic_nets_are_certified_as_returned(name, data, monkeypatch):
    certified = []
    right = slim_certificate.Columns.errors
    monkeypatch.setattr(
        slim_certificate.Columns,
        "errors",
        lambda self, weights, times: certified.append((self.items, weights)) or right(self, weights, times),
    )
    fitted = METHODS[name](reg=0.5).fit(data)
    items, weights = certified[-1]
    np.testing.assert_array_equal(weights_of(fitted)[:, items], weights)


def test_higher_order_weights_are_certified_as_returned(data, monkeypatch):
    certified = []
    right = higher_order.Check.of
    monkeypatch.setattr(higher_order.Check, "of", lambda self, found: certified.append(found) or right(self, found))
    fitted = METHODS["higher-order"](reg=5.0, pair_reg=20.0, n_pairs=20).fit(data)
    np.testing.assert_array_equal(fitted.model.weights, certified[-1].items)
    np.testing.assert_array_equal(fitted.model.pair_weights, certified[-1].pairs)


def test_mrf_weights_are_certified_as_returned(data, monkeypatch):
    certified = []
    right = mrf.stationarity
    monkeypatch.setattr(mrf, "stationarity", lambda *a: certified.append(a[2]) or right(*a))
    fitted = METHODS["mrf"]().fit(data)
    assert fitted.model.values is certified[-1].data


def test_identical_items_do_not_spoil_the_certificate():
    """Nineteen copies of one item at a tiny reg: the residual of the returned weights is the certified one."""
    rng = np.random.default_rng(0)
    x = (rng.random((600, 100)) < 0.2) * 1.0
    x[:, 1:20] = x[:, [0]]
    fitted = METHODS["ease"](reg=0.003).fit(Interactions.from_triples(*np.nonzero(x)))
    gram, off = x.T @ x, ~np.eye(100, dtype=bool)
    residual = np.linalg.norm(((gram + 0.003 * np.eye(100)) @ weights_of(fitted) - gram)[off]) / np.linalg.norm(
        gram[off]
    )
    assert residual < 1e-6 and fitted.info.certificate.residual < 1e-6
