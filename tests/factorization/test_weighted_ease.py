"""Weighted full rank: its normal equations for all weights, EASE without, and as few iterations as promised."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from meshes import most_sent, shape_of

from jaxrec import Ease, FitError, Ials, InputError, Interactions, Lae, Status, WeightedEase, Weights
from jaxrec.data import synthetic
from jaxrec.factorization.weighted_ease import iterate
from jaxrec.factorization.weighted_ease import method as weighted_ease
from jaxrec.factorization.weighted_ease import solve as full_rank_solvers
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import row_chunk

USERS, ITEMS, REG = 20, 8, 0.7
WEIGHTS = {
    "uniform": Weights.uniform,
    "constant": lambda x: Weights.constant(x, 3.0, unobserved_weight=0.6),
    "log": lambda x: Weights.log(x, 2.0, 0.5),
    "ips": lambda x: Weights.ips(x, 0.5, alpha=2.0),
    "popular zeros": lambda x: Weights.popularity_zeros(x, 1.5, unobserved_weight=0.4),
    "activity": lambda x: Weights.user_activity(x, -0.6),
    "activity and more": lambda x: Weights.user_activity(x, 0.5, alpha=1.5),
    "rank one": lambda x: Weights.rank_one(np.linspace(0, 2, x.n_users), np.geomspace(0.01, 30, x.n_items)),
    "rank one with zeros": lambda x: Weights.rank_one(*(np.arange(n) / n for n in x.shape)),
    "entries": lambda x: Weights.on_entries(x, np.linspace(0, 5, x.nnz), unobserved_weight=1.3),
}
weighted = pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)
diagonals = pytest.mark.parametrize("diagonal", ("zero", "free"))
EXACT = {"dtype": "float64", "tolerance": 1e-13}


def odd_data(rng, n_users=USERS, n_items=ITEMS, counts=True) -> Interactions:
    """Maybe counts; user 5 and item 3 are empty, item 7 is everyone's, item 6 a copy of item 1."""
    x = (rng.random((n_users, n_items)) < 0.4) * (rng.integers(1, 4, (n_users, n_items)) if counts else 1)
    x[:, 6], x[:, 7] = x[:, 1], 1
    x[5], x[:, 3] = 0, 0
    return Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=n_users, n_items=n_items)


@pytest.fixture
def data(rng) -> Interactions:
    return odd_data(rng)


def brute_force(x: np.ndarray, w: np.ndarray, reg: float, diagonal: str) -> np.ndarray:
    """B from the I^2 x I^2 normal equations of vec(X B) = (I kron X) vec(B), without the rows that must be 0."""
    n = x.shape[1]
    features, by_column = np.kron(np.eye(n), x), w.T.ravel()
    left = features.T @ (by_column[:, None] * features) + reg * np.eye(n * n)
    right = features.T @ (by_column * x.T.ravel())
    free = np.ones(n * n, bool) if diagonal == "free" else ~np.eye(n, dtype=bool).ravel()
    b = np.zeros(n * n)
    b[free] = np.linalg.solve(left[np.ix_(free, free)], right[free])
    return b.reshape(n, n).T


def dense(data: Interactions) -> np.ndarray:
    return data.to_csr(np.float64).toarray()


def fitted(method: WeightedEase, data: Interactions, **more) -> np.ndarray:
    return np.asarray(method.fit(data, **more).model.to_host().weights)


# -- the optimum --------------------------------------------------------------------------------------------------


@diagonals
@weighted
def test_equals_the_normal_equations(make, diagonal, data):
    weights = make(data)
    expected = brute_force(dense(data), weights.to_dense(data), REG, diagonal)
    method = WeightedEase(REG, diagonal=diagonal, **EXACT)
    np.testing.assert_allclose(fitted(method, data, cell_weights=weights), expected, rtol=0, atol=1e-10)
    by_item = reference.weighted_full_rank(dense(data), weights.to_dense(data), REG, diagonal == "free")
    np.testing.assert_allclose(by_item, expected, rtol=0, atol=1e-10)
    single = fitted(WeightedEase(REG, diagonal=diagonal), data, cell_weights=weights)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-5)


@diagonals
@weighted
def test_the_gradient_of_the_objective_is_zero(make, diagonal, data, x64):
    weights = make(data)
    b = jnp.asarray(fitted(WeightedEase(REG, diagonal=diagonal, **EXACT), data, cell_weights=weights))
    x, w = dense(data), weights.to_dense(data)
    slope = np.array(jax.grad(weighted_ease.objective, argnums=2)(x, w, b, REG))
    if diagonal == "zero":
        np.testing.assert_array_equal(np.diag(b), 0)
        np.fill_diagonal(slope, 0)
    assert np.abs(slope).max() < 1e-10 * np.abs(x.T @ (w * x)).max()


@pytest.mark.parametrize(("diagonal", "plain"), [("zero", Ease), ("free", Lae)])
def test_without_weights_it_is_ease(diagonal, plain, data):
    expected = plain(REG, dtype="float64").fit(data).model.weights
    method = WeightedEase(REG, diagonal=diagonal, **EXACT)
    ones = Weights.on_entries(data, np.ones(data.nnz))  # S = 0, entry by entry
    for weights in (Weights.uniform(data), ones, Weights.rank_one(np.ones(USERS), np.ones(ITEMS))):
        np.testing.assert_allclose(fitted(method, data, cell_weights=weights), expected, rtol=0, atol=1e-10)
    solved = iterate.solve_on_host(data, ones, method.settings, np.float64)
    np.testing.assert_allclose(solved.weights, expected, rtol=0, atol=1e-10)
    assert solved.iterations.max() == 0


def test_by_default_observed_cells_weigh_more_and_values_are_those_of_ease(data):
    method = WeightedEase(REG, alpha=2.5, unobserved_weight=0.5)
    np.testing.assert_array_equal(method.cell_weights(data).to_dense(data), 0.5 + 2.5 * (dense(data) > 0))
    binary = data.binarised()
    of_ials = Ials(alpha=2.5, unobserved_weight=0.5).cell_weights(binary)
    np.testing.assert_array_equal(fitted(method, binary), fitted(method, binary, cell_weights=of_ials))


@weighted
def test_duplicated_users_are_doubled_weights(make, data):
    weights = make(data)
    twice = data.rows(np.tile(np.arange(USERS), 2))
    method = WeightedEase(REG, **EXACT)
    entries = None if weights.entries is None else np.tile(weights.entries, 2)
    both = dataclasses.replace(weights, row=np.tile(weights.row, 2), entries=entries, pattern="", rule=None)
    expected = fitted(method, data, cell_weights=weights.scaled(2.0))
    np.testing.assert_allclose(fitted(method, twice, cell_weights=both), expected, rtol=0, atol=1e-10)


@weighted
def test_only_the_ratio_of_weights_and_reg_counts(make, data):
    weights = make(data)
    one = fitted(WeightedEase(REG, **EXACT), data, cell_weights=weights)
    other = fitted(WeightedEase(7 * REG, **EXACT), data, cell_weights=weights.scaled(7.0))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-10)


def test_edges(data):
    b = fitted(WeightedEase(REG), data)
    assert not b[3].any() and not b[:, 3].any()  # an item without users
    np.testing.assert_array_equal(b[:, 1][[0, 2, 4, 5, 7]], b[:, 6][[0, 2, 4, 5, 7]])  # copies are tied
    apart = Weights.on_entries(data, np.where(data.indices == 1, 3.0, 1.0))
    b = fitted(WeightedEase(REG), data, cell_weights=apart)  # ... but not where their weights differ
    assert np.abs(b[:, 1] - b[:, 6])[[0, 2, 4, 5, 7]].max() > 1e-3
    single = Interactions.from_triples([0, 1], [0, 0])
    np.testing.assert_array_equal(fitted(WeightedEase(), single), [[0]])
    huge = fitted(WeightedEase(1e12), data)
    assert np.abs(huge).max() < 1e-9


# -- conjugate gradients ------------------------------------------------------------------------------------------


def bound_on_iterations(data: Interactions, reg: float, low: float, high: float, tolerance: float) -> float:
    """2 ((sqrt k - 1) / (sqrt k + 1))^t on errors in the norm of H, carried over to residuals in that of P^-1.

    The residual at the start, -E P^-1 e, is at most max(high - 1, 1 - low) in the norm where e is 1; what is asked for
    is relative to P^-1 e without its own entry (W = 1).
    """
    system = dense(data).T @ dense(data) + reg * np.eye(data.n_items)
    others = np.diag(system) * np.diag(np.linalg.inv(system)) - 1
    goal = tolerance * min(1.0, float(others[others > 1e-9].min()) ** 0.5)
    condition = np.sqrt(high / low)
    most = 2 * condition * max(high - 1, 1 - low) / goal
    return np.log(most) / np.log((condition + 1) / (condition - 1))


def test_iterations_grow_with_the_root_of_the_weight_and_not_with_the_data():
    taken = {}
    for users, items in ((300, 60), (2000, 150)):
        data = synthetic(users, items, seed=3)
        for alpha in (1.0, 4.0, 16.0, 64.0):
            detail = WeightedEase(5.0, alpha).fit(data).info.certificate.detail
            assert detail["condition bound"] == pytest.approx(1 + alpha)
            assert 0 < detail["iterations"] <= np.ceil(bound_on_iterations(data, 5.0, 1, 1 + alpha, 1e-6))
            taken[users, alpha] = detail["iterations"]
        assert taken[users, 1.0] < taken[users, 64.0] < 3 * taken[users, 16.0]


def test_weights_below_the_base_have_a_bound_as_well(rng):
    data = odd_data(rng, 200, 40, counts=False)
    weights = Weights.ips(data, 0.5)
    low, high = weights.ratio_bounds(data)
    found = iterate.solve_on_host(data, weights, iterate.Settings(REG, False, 1e-6, 500), np.float64)
    assert low < 1 < high and found.residual.max() <= 1e-6
    assert 0 < found.iterations.max() <= np.ceil(bound_on_iterations(data, REG, low, high, 1e-6))
    assert full_rank_solvers.condition_bound(data, weights, REG) == pytest.approx(high / low)


def test_too_few_iterations_are_no_model(data):
    with pytest.raises(FitError, match="raise max_iterations, tolerance or reg") as caught:
        WeightedEase(0.01, 1000.0, max_iterations=1).fit(data)
    assert caught.value.status is Status.RESIDUAL_TOO_LARGE


def test_items_that_float32_cannot_tell_apart_are_solved_in_float64_or_refused(data, monkeypatch):
    expected = reference.weighted_full_rank(dense(data), WeightedEase().cell_weights(data).to_dense(data), 1e-5)
    model = WeightedEase(1e-5).fit(data).model
    assert model.weights.dtype == np.float32
    np.testing.assert_allclose(model.weights, expected, atol=1e-6 * np.abs(expected).max())
    monkeypatch.setattr(weighted_ease, "FLOAT64_ITEMS", 0)
    with pytest.raises(FitError, match="use dtype='float64'"):
        WeightedEase(1e-5).fit(data)
    assert WeightedEase(1e-5, dtype="float64").fit(data).info.certificate.status is Status.OK


def test_blocks_of_many_shapes_give_the_same(rng, monkeypatch):
    data = odd_data(rng, 120, 50)
    weights = WEIGHTS["popular zeros"](data)
    expected = reference.weighted_full_rank(dense(data), weights.to_dense(data), REG)
    for width, entries, columns in ((3, 2**25, 5), (256, 100, 13), (1, 1, 50)):
        for name, value in (("WIDTH", width), ("ENTRIES", entries), ("COLUMNS_AT_ONCE", columns)):
            monkeypatch.setattr(iterate, name, value)
        for mesh in (None, jax.devices()[:2])[: 2 if columns == 13 else 1]:
            found = fitted(WeightedEase(REG), data, cell_weights=weights, devices=mesh)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# -- certificate --------------------------------------------------------------------------------------------------


def test_the_certificate_sees_a_wrong_column(data):
    method = WeightedEase(REG)
    weights = method.cell_weights(data)
    solution = full_rank_solvers.solve(data, weights, method.settings, np.dtype(np.float32), None)
    assert weighted_ease.certify(data, weights, solution, method.settings).status is Status.OK
    for wrong in (solution.weights.T.copy(), 1.01 * solution.weights):
        found = weighted_ease.certify(data, weights, solution._replace(weights=wrong), method.settings)
        assert found.status is Status.RESIDUAL_TOO_LARGE
    none = solution._replace(unexplained=np.full(ITEMS, np.nan))
    assert weighted_ease.certify(data, weights, none, method.settings).status is Status.NOT_POSITIVE_DEFINITE


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@diagonals
@weighted
def test_the_estimated_error_is_the_true_one(make, diagonal, dtype, rng):
    """Of weights with a known error, for all kinds of weights and solvers."""
    data = odd_data(rng)
    method = WeightedEase(REG, diagonal=diagonal, dtype=dtype)
    weights = make(data)
    solution = full_rank_solvers.solve(data, weights, method.settings, np.dtype(dtype), None)
    off = np.asarray(solution.weights) * (1 + 1e-3 * rng.normal(size=(ITEMS, ITEMS))).astype(dtype)
    found = weighted_ease.certify(data, weights, solution._replace(weights=off), method.settings)
    expected = reference.weighted_full_rank(dense(data), weights.to_dense(data), REG, diagonal == "free")
    true = np.linalg.norm(off - expected) / np.linalg.norm(expected)
    assert found.detail["estimated error of the weights"] == pytest.approx(true, rel=0.5)
    assert found.detail["estimated error of the worst column"] >= true


def test_heavy_users_leave_right_weights(rng):
    """Three users have everything with value 10,000, which float32 alone does not stand."""
    x = (rng.random((60, 30)) < 0.3) * 1.0
    x[:3] = 1e4
    data = Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=60, n_items=30)
    for reg, alpha in ((1000.0, 1.0), (4000.0, 1e-3)):
        found = WeightedEase(reg, alpha=alpha).fit(data)
        expected = reference.weighted_full_rank(x, 1 + alpha * (x != 0), reg)
        error = np.linalg.norm(found.model.weights - expected) / np.linalg.norm(expected)
        assert error < 3 * found.info.certificate.detail["estimated error of the weights"] + 1e-6


# -- meshes -------------------------------------------------------------------------------------------------------


ON_A_MESH = ("constant", "popular zeros", "activity", "rank one with zeros")


@pytest.mark.parametrize(("name", "devices"), [("constant", 1), *((name, 8) for name in ON_A_MESH)])
def test_a_mesh_gives_the_same(name, devices, rng):
    data = odd_data(rng, 90, 67)
    weights = WEIGHTS[name](data)
    method = WeightedEase(3.0, diagonal="zero" if devices == 8 else "free")
    expected = fitted(method, data, cell_weights=weights)
    found = fitted(method, data, cell_weights=weights, devices=jax.devices()[:devices])
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5 * np.abs(expected).max())


@pytest.mark.parametrize("devices", (1, 4))
def test_items_without_users_have_exact_zeros_on_a_mesh(devices, rng):
    """On the free diagonal too, where 1 - reg / reg is not 0 in float32."""
    x = (rng.random((60, 23)) < 0.2) * 1.0
    x[:, [3, 9]] = 0
    data = Interactions.from_triples(*np.nonzero(x), n_users=60, n_items=23)
    found = fitted(WeightedEase(37.3, diagonal="free"), data, devices=jax.devices()[:devices])[:23, :23]
    assert not found[[3, 9]].any() and not found[:, [3, 9]].any() and np.diag(found)[x.any(axis=0)].all()


def lowered(n_items=1024, n_users=64):
    mesh = parallel.make_mesh()
    square, width = shape_of((n_items, n_items), mesh), 8 * 32
    columns = jax.ShapeDtypeStruct((width,), jnp.int32, sharding=parallel.sharding(mesh, parallel.ROWS))
    shift = jax.ShapeDtypeStruct((width,), jnp.float32, sharding=parallel.sharding(mesh, parallel.ROWS))
    kinds = (jnp.int32, jnp.float32, jnp.float32)
    split = parallel.sharding(mesh, parallel.COLUMNS)
    batches = [tuple(jax.ShapeDtypeStruct((3, n_users, 16), kind, sharding=split) for kind in kinds)]
    floats = np.float32(1), np.float32(1e-6), np.int32(50)
    return iterate._solve_block, (square, square, columns, (shift, shift), batches, floats, False, mesh)


def test_nothing_is_gathered_whole():
    solve, arguments = lowered()
    assert 0 < most_sent(solve.lower(*arguments).compile()) <= 1024 * row_chunk(1024)


def test_values_of_settings_compile_once(rng):
    data = odd_data(rng, 30, 12)
    before = iterate._solve_block._cache_size()
    for reg, alpha, tolerance in ((1.0, 2.0, 1e-6), (3.0, 5.0, 1e-5)):
        WeightedEase(reg, alpha, tolerance=tolerance).fit(data, devices=jax.devices()[:1])
    assert iterate._solve_block._cache_size() == before + 1


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"reg": 0.0}, "reg must be above 0"),
        ({"alpha": 0.0}, "alpha must be above 0 .*use Ease or Lae"),
        ({"alpha": np.inf}, "alpha must be finite"),
        ({"unobserved_weight": 0.0}, "unobserved_weight must be above 0"),
        ({"diagonal": "none"}, "diagonal must be one of zero, free"),
        ({"tolerance": np.nan}, "tolerance must be finite"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"solver": "jax", "dtype": "float64"}, "use solver='host'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, complaint):
    method = WeightedEase()
    for name, value in settings.items():
        object.__setattr__(method, name, value)  # the constructor's types are checked in tests
    with pytest.raises(InputError, match=complaint + r".*\.$"):
        method.__post_init__()


def test_weights_that_make_no_sense_are_refused(data):
    good = Weights.constant(data, 2.0)
    wrong = {
        "another pattern": Weights.constant(data.rows(np.arange(USERS)[::-1]), 2.0),
        "the interactions 20 x 8": Weights.constant(data.rows(np.arange(5)), 2.0),
        "not negative, got -2": dataclasses.replace(good, entries=good.entries - 5),
        "finite": dataclasses.replace(good, entries=np.nan * good.entries),
        "weights of all interactions are 0": Weights.rank_one(np.zeros(USERS), np.ones(ITEMS)),
    }
    for complaint, weights in wrong.items():
        with pytest.raises(InputError, match=complaint):
            WeightedEase().fit(data, cell_weights=weights)
    with pytest.raises(InputError, match="leave out devices"):
        WeightedEase(solver="host").fit(data, devices=jax.devices()[:2])
    with pytest.raises(InputError, match="no interactions"):
        WeightedEase().fit(Interactions.from_triples([], [], n_users=2, n_items=2))


def test_plan_counts_what_the_weights_cost():
    small, large = (WeightedEase(alpha=alpha).plan(10_000, 5_000, 10**6) for alpha in (1.0, 16.0))
    assert small.total == large.total and small.flops < large.flops
    for devices in ("8xH100", jax.devices()):
        assert WeightedEase().plan(10_000, 5_000, 10**6, devices).total > 0
