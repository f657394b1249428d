"""The closed forms by way of the users: equal to their definition and to the way by the items, and taken as planned."""

import numpy as np
import pytest
import reference
from reference import dense

from jaxrec import Dan, Deql, Ease, Edlae, FitError, Interactions, Lae, Rlae, Status
from jaxrec.closed_form import by_users, ties
from jaxrec.closed_form.method import ClosedForm
from jaxrec.runtime import memory

METHODS = (
    *(Ease(3.0), Edlae(3.0, 0.4), Lae(30.0), Lae(30.0, 0.3), Rlae(20.0, xi=0.2), Rlae(20.0, 0.3, 0.4)),
    *(Dan(2.0, 0.2), Dan(2.0, zero_diagonal=False), Deql(5.0)),
)


@pytest.fixture
def wide(rng) -> Interactions:
    """40 users, five of them twice and two without items, and 300 items: popular, rare, empty and copies of others."""
    x = rng.random((40, 300)) < 0.01 + 0.5 * rng.random(300) ** 6
    x[:, 0] |= rng.random(40) < 0.8
    x[30:35] = x[:5]
    x[:, 100:110] = x[:, :10]
    x[:, 200:204] = False
    x[[7, 39]] = False
    return Interactions.from_triples(*np.nonzero(x), n_users=40, n_items=300)


@pytest.fixture
def taken(monkeypatch) -> list[int]:
    """The number of users of each call of the inverse by way of the users."""
    calls, inverse = [], by_users.inverse

    def counted(x, *rest):
        calls.append(np.count_nonzero(x.user_counts))
        return inverse(x, *rest)

    monkeypatch.setattr(by_users, "inverse", counted)
    return calls


def by_items(method, data):
    """The same fit from the Gram matrix."""
    return method.fit_from_gram(data, method.gram(data))


def expected(x: np.ndarray, penalty: np.ndarray, limit: float) -> np.ndarray:
    """B = I - C D(s) by explicit inverses in float64."""
    inverse = np.linalg.inv(reference.gram(x) + np.diag(penalty))
    return np.eye(len(inverse)) - inverse * np.maximum((1 - limit) / np.diag(inverse), penalty)


@pytest.mark.parametrize("values", ("binary", "real"))
@pytest.mark.parametrize("method", METHODS[:6], ids=str)
def test_weights_equal_the_definition(method, values, wide, rng, taken):
    if values == "real":
        matrix = wide.to_csr()
        matrix.data = rng.uniform(-1, 3, matrix.nnz).astype(np.float32)
        wide = Interactions.from_csr(matrix)
    x = dense(wide)
    best = expected(x, method.penalty((x**2).sum(0)), method.diagonal_limit)
    for dtype, atol in (("float32", 1e-6), ("float64", 1e-14)):
        found = type(method)(**{**vars(method), "dtype": dtype}).fit(wide).model.weights
        assert found.dtype == dtype and found.flags.c_contiguous
        np.testing.assert_allclose(found, best, rtol=0, atol=atol)
        if method.diagonal_limit == 0:
            np.testing.assert_array_equal(np.diag(found), 0)
    assert taken == [38, 38]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_both_ways_give_the_same(method, wide, taken):
    found, other = method.fit(wide), by_items(method, wide)
    assert taken == [38]
    if not isinstance(method, Deql):  # which computes its certificate in `fit`
        assert found.info.certificate.residual < 2 * other.info.certificate.residual + 1e-7
    np.testing.assert_allclose(found.model.weights, other.model.weights, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.model.unexplained, other.model.unexplained, rtol=1e-5)


def test_blocks_that_do_not_divide_the_items(wide, monkeypatch):
    monkeypatch.setattr(by_users, "BLOCK", 7)
    np.testing.assert_allclose(Ease(3.0).fit(wide).model.weights, reference.ease(dense(wide), 3.0), atol=1e-6)


@pytest.mark.parametrize("reg", (1e-4, 1.0, 1e9))
def test_the_inverse_keeps_its_digits_whatever_the_penalty(reg, wide):
    """With 1e-4 1 - H_jj is at rounding level in float32; the sum of squares is not."""
    inverse, status = by_users.inverse(wide, np.full(300, reg))
    best = np.linalg.inv(reference.gram(dense(wide)) + reg * np.eye(300))
    assert status is Status.OK
    np.testing.assert_allclose(np.diag(inverse), np.diag(best), rtol=1e-6)
    np.testing.assert_allclose(inverse, best, rtol=0, atol=1e-6 * np.diag(best).max())


def test_penalties_of_all_sizes(wide):
    penalty = 10.0 ** np.random.default_rng(2).uniform(-3, 3, 300)
    inverse, status = by_users.inverse(wide, penalty, np.float64)
    best = np.linalg.inv(reference.gram(dense(wide)) + np.diag(penalty))
    assert status is Status.OK
    np.testing.assert_allclose(inverse, best, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("items", ([3], [0, 5, 6], range(20)))
def test_one_user(items, taken):
    data = Interactions.from_triples([1] * len(items), items, n_users=3, n_items=40)
    found = Ease(0.5).fit(data).model.weights
    assert taken == [1]
    np.testing.assert_allclose(found, reference.ease(dense(data), 0.5), atol=1e-7)


def test_twins_tie(wide):
    weights = Ease(3.0).fit(wide).model.weights
    found = ties.identical_items(wide)
    assert len(found.items) >= 20
    for item, first in zip(found.items, found.kind[found.items], strict=True):
        others = found.kind != found.kind[item]
        np.testing.assert_array_equal(weights[others, item], weights[others, first])


def test_tiny_reg_is_right_or_refused(wide):
    x, fits = dense(wide), 0
    for reg in 10.0 ** np.arange(0, -12, -1):
        try:
            found = Ease(float(reg)).fit(wide).model.weights
        except FitError as error:
            assert error.status in (Status.ILL_CONDITIONED, Status.NOT_POSITIVE_DEFINITE)
        else:
            best = reference.ease(x, reg)
            assert np.linalg.norm(found - best) < 0.01 * np.linalg.norm(best)
            fits += 1
    assert 3 < fits < 12


# -- falling back, planning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ("status", "numbers"))
def test_what_is_not_certified_is_solved_by_way_of_the_items(broken, wide, monkeypatch):
    def wrong(x, penalty, dtype):
        inverse, _ = true(x, penalty, dtype)
        return inverse * 1.01 ** np.arange(300, dtype=dtype)[:, None], (
            Status.NOT_POSITIVE_DEFINITE if broken == "status" else Status.OK
        )

    true, method = by_users.inverse, Ease(3.0)
    monkeypatch.setattr(by_users, "inverse", wrong)
    fitted = method.fit(wide)
    assert fitted.info.certificate.status is Status.OK and "gram" in fitted.info.seconds
    np.testing.assert_array_equal(fitted.model.weights, by_items(method, wide).model.weights)


@pytest.mark.parametrize("method", (Ease(1.0), Edlae(1.0, 0.5)), ids=str)
@pytest.mark.parametrize(("scale", "reg"), [(1e20, 1.0), (1e-25, 1.0), (1.0, 1e30)])
def test_values_beyond_float32_get_the_same_advice(method, scale, reg, wide):
    scaled = Interactions.from_csr(wide.to_csr() * np.float32(scale))
    with pytest.raises(FitError, match="leave the range of float32"):
        type(method)(**{**vars(method), "reg": reg}).fit(scaled)


def way(plan) -> str:
    """How a plan says the fit goes."""
    return "users" if "inverse of the users" in plan.parts else "items"


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("share", (0.02, 0.3, 0.6, 0.7, 0.85, 1.0, 3.0))
@pytest.mark.parametrize("empty", (0, 500))
def test_fit_goes_the_way_that_is_planned(share, empty, dtype, taken):
    rng, n = np.random.default_rng(0), 120
    active = int(share * n)
    x = np.zeros((active + empty, n))
    x[np.arange(active), rng.integers(0, n, active)] = 1
    data = Interactions.from_triples(*np.nonzero(x), n_users=len(x), n_items=n)
    method = Ease(3.0, dtype=dtype)
    made = method.plan(active, n, data.nnz)
    method.fit(data)
    assert way(made) == ("users" if taken else "items") == ("users" if share < 0.5 else way(made))
    assert share < 0.9 or not taken


def test_the_rule():
    assert by_users.pays(1_892, 17_632, 92_834, 4) and by_users.pays(5_551, 16_980, 204_986, 4)
    assert not by_users.pays(29_858, 40_981, 1_027_370, 4) and not by_users.pays(40_981, 40_981, 10**6, 8)
    assert not by_users.pays(500, 1_000, 250_000, 4)  # dense data: the sparse products cost more than the inverse
    assert way(Ease().plan(1_892, 17_632, 92_834)) == "users"
    assert way(Ease().plan(10**6, 2_000, 10**7)) == "items"


def test_where_memory_is_short_the_items_are_taken_or_the_fit_is_refused(wide, monkeypatch, taken):
    method, shape = Ease(3.0), (38, 300, wide.nnz)
    both = [method.plan(*shape).total, super(ClosedForm, method)._plan(shape, None).total]
    monkeypatch.setattr(memory, "available_bytes", lambda device: max(both))
    assert way(method.plan(*shape)) == "users"
    monkeypatch.setattr(memory, "available_bytes", lambda device: max(both) - 1)
    assert way(method.plan(*shape)) == "items"
    monkeypatch.setattr(memory, "available_bytes", lambda device: both[1] - 1)
    with pytest.raises(FitError, match="GB are free"):
        method.fit(wide)
    assert not taken


def test_only_the_host_goes_by_way_of_the_users(wide, taken):
    best = reference.ease(dense(wide), 3.0)
    found = Ease(3.0, solver="jax").fit(wide).model.weights[:300, :300]
    np.testing.assert_allclose(found, best, atol=2e-6)
    assert not taken and way(Ease(3.0, solver="jax").plan(38, 300, wide.nnz)) == "items"
    assert way(Ease(3.0).plan(38, 300, wide.nnz, "h100")) == "items"
