"""Awmf: equal to brute force over the vectorised equations, to three closed forms without weights, on any mesh."""

import dataclasses
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxrec import Awmf, FitError, InputError, Interactions, Status, Weights
from jaxrec.factorization import alternation, ridge
from jaxrec.factorization.awmf import method as awmf
from jaxrec.factorization.awmf import on_devices, sweeps
from jaxrec.factorization.awmf.on_devices import OnDevices
from jaxrec.factorization.awmf.on_host import OnHost
from jaxrec.factorization.awmf.start import spectrum
from jaxrec.runtime import parallel
from jaxrec.similarity import closed_form_l2, eigenpairs, shrinkage

USERS, ITEMS, RANK = 20, 8, 3
KINDS = ("l2", "product", "factor")
kinds = pytest.mark.parametrize("kind", KINDS)
WEIGHTS = {
    "uniform": Weights.uniform,
    "constant": lambda x: Weights.constant(x, 3.0, unobserved_weight=0.5),
    "log": lambda x: Weights.log(x, 2.0, 0.5),
    "ips": lambda x: Weights.ips(x, 0.5, alpha=2.0),
    "popular zeros": lambda x: Weights.popularity_zeros(x, 0.7, unobserved_weight=0.4),
    "activity": lambda x: Weights.user_activity(x, -0.4),
    "activity and more": lambda x: Weights.user_activity(x, -0.4, alpha=1.0),
    "rank one": lambda x: Weights.rank_one(0.5 + np.arange(x.n_users) / 9, 0.5 + np.arange(x.n_items) / 9),
    "on entries": lambda x: Weights.on_entries(x, 0.2 + np.arange(x.nnz) % 5, unobserved_weight=0.7),
}
weighted = pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)


@pytest.fixture
def data(rng) -> Interactions:
    """Counts; user 3 and item 5 are empty, item 1 is everyone else's, items 6 and 7 are the same."""
    x = rng.integers(1, 4, (USERS, ITEMS)) * (rng.random((USERS, ITEMS)) < 0.4)
    x[:, 1], x[:, 7] = 1, x[:, 6]
    x[3], x[:, 5] = 0, 0
    return Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=USERS, n_items=ITEMS)


def dense(data):
    return data.to_csr(np.float64).toarray()


def parts(data, weights, kind, reg, mesh=None, host=True, exact=True, rank=RANK):
    """The problem, and its products on the host or on devices."""
    problem = sweeps.problem(data, weights, reg)
    found, _ = spectrum(data, problem.users, kind, reg, exact, True)
    given = problem.x, problem.users, problem.items, found
    return problem, OnHost(*given, np.float64) if host else OnDevices(*given, rank, mesh or parallel.default_mesh())


def kronecker(x, w, v, kind, reg):
    """The matrix of the equations for vec A, in column order, and their right-hand side, from the definitions."""
    both = np.kron(v, x)  # vec(X A V') = (V kron X) vec A
    eye, k = np.eye(x.shape[1]), v.shape[1]
    penalty = {"l2": np.kron(np.eye(k), eye), "product": np.kron(v.T @ v, eye), "factor": np.kron(np.eye(k), x.T @ x)}
    left = both.T @ (w.T.ravel()[:, None] * both) + reg * penalty[kind]
    return left, both.T @ (w * x).T.ravel()


def best_a(x, w, v, kind, reg):
    """A by brute force; the least one where X A is all that counts."""
    left, right = kronecker(x, w, v, kind, reg)
    return np.linalg.lstsq(left, right, rcond=1e-11)[0].reshape(v.shape[1], -1).T


def best_v(x, w, a, kind, reg):
    """V item by item."""
    z, penalty = x @ a, a.T @ a if kind == "product" else np.eye(a.shape[1])
    rows = [np.linalg.solve(z.T @ (c[:, None] * z) + reg * penalty, z.T @ (c * y)) for c, y in zip(w.T, x.T)]  # noqa: B905
    return np.array(rows)


@weighted
@kinds
@pytest.mark.parametrize("where", ("host", "device"))
def test_products_are_those_of_the_kronecker_matrix(data, make, kind, where, rng, x64):
    weights, x = make(data), dense(data)
    _, products = parts(data, weights, kind, 0.7, host=where == "host")
    a, v = rng.normal(size=(2, ITEMS, RANK))
    v = np.linalg.qr(v)[0] if kind == "product" else v
    placed = products.place(v)
    apply, right = sweeps.equations(products, placed, products.item_gram(placed), kind, 0.7)
    left, wanted = kronecker(x, weights.to_dense(data), v, kind, 0.7)
    np.testing.assert_allclose(products.fetch(apply(products.place(a))).T.ravel(), left @ a.T.ravel(), atol=1e-10)
    np.testing.assert_allclose(products.fetch(right).T.ravel(), wanted, atol=1e-10)


@weighted
@kinds
def test_a_sweep_is_brute_force_for_a_then_for_v(data, make, kind, rng, x64):
    weights, x = make(data), dense(data)
    w = weights.to_dense(data)
    problem, products = parts(data, weights, kind, 0.7)
    state = sweeps.AwmfState(*rng.normal(size=(2, ITEMS, RANK)))
    _, v = sweeps.balanced(state, products, kind)
    found, info = sweeps.step(state, products, problem, kind, 0.7, (1e-11, 300))
    a = best_a(x, w, v, kind, 0.7)
    np.testing.assert_allclose(x @ found.encoder @ found.decoder.T, x @ a @ best_v(x, w, a, kind, 0.7).T, atol=1e-8)
    expected = awmf.objective(x, w, *found, 0.7, kind)
    assert info.objective == pytest.approx(float(expected), rel=1e-12)


@kinds
def test_balancing_keeps_the_product_and_lowers_the_penalty(data, kind, rng, x64):
    x, w = dense(data), np.ones((USERS, ITEMS))
    _, products = parts(data, Weights.uniform(data), kind, 0.7)
    state = sweeps.AwmfState(*rng.normal(size=(2, ITEMS, RANK)))
    a, v = sweeps.balanced(state, products, kind)
    np.testing.assert_allclose(a @ v.T, state.encoder @ state.decoder.T, atol=1e-10)
    before, after = (float(awmf.objective(x, w, *one, 5.0, kind)) for one in (state, (a, v)))
    if kind == "product":
        assert after == pytest.approx(before, rel=1e-12)
        np.testing.assert_allclose(v.T @ v, np.eye(RANK), atol=1e-12)
    else:
        nuclear = np.linalg.norm((x if kind == "factor" else np.eye(ITEMS)) @ a @ v.T, "nuc")
        fit = float(awmf.objective(x, w, a, v, 0.0, kind))
        assert after < before and after == pytest.approx(fit + 2 * 5.0 * nuclear, rel=1e-10)


@kinds
@pytest.mark.parametrize("start", ("closed form", "random"))
def test_without_weights_it_is_one_of_three_shrinkage_curves(data, kind, start, x64):
    method = Awmf(RANK, 2.0, kind, sweeps=300, tolerance=0.0, cg_tolerance=1e-3)
    key = None if start == "closed form" else jax.random.key(1)
    if key is None:
        method = dataclasses.replace(method, sweeps=1)  # it starts at the solution
    fitted = method.fit(data, cell_weights=Weights.uniform(data), key=key)
    _, sigma, turn = np.linalg.svd(dense(data))
    kept = shrinkage(sigma[:RANK], 2.0, kind)
    expected = turn[:RANK].T * kept @ turn[:RANK]
    found = fitted.model.encoder @ fitted.model.decoder.T
    np.testing.assert_allclose(dense(data) @ found, dense(data) @ expected, atol=1e-8)
    if kind != "factor":  # which does not determine what X A does not show
        np.testing.assert_allclose(found, expected, atol=1e-8)
    assert np.isfinite(found).all()


def test_closed_form_of_l2_is_stationary(data, x64):
    model = closed_form_l2(eigenpairs(data, RANK), 2.0)
    x = jnp.asarray(dense(data))
    loss = lambda a, v: awmf.objective(x, jnp.ones(x.shape), a, v, 2.0, "l2")  # noqa: E731
    for slope in jax.grad(loss, argnums=(0, 1))(jnp.asarray(model.encoder), jnp.asarray(model.decoder)):
        np.testing.assert_allclose(slope, 0, atol=1e-10)
    assert not shrinkage(np.array([1.0, 2.0]), 4.0, "l2").any()


@weighted
@kinds
def test_loss_and_gradients_are_those_of_the_literal_objective(data, make, kind, rng, x64):
    weights, x = make(data), dense(data)
    problem = sweeps.problem(data, weights, 0.7)
    state = [jnp.asarray(part) for part in rng.normal(size=(2, ITEMS, RANK))]
    literal = lambda a, v: awmf.objective(x, weights.to_dense(data), a, v, 0.7, kind)  # noqa: E731
    loss, in_a, in_v = sweeps.loss_and_gradients(problem, sweeps.AwmfState(*state), kind, 0.7)
    assert loss == pytest.approx(float(literal(*state)), rel=1e-12)
    expected = jax.grad(literal, argnums=(0, 1))(*state)
    np.testing.assert_allclose(2 * in_a, expected[0], atol=1e-9)
    np.testing.assert_allclose(2 * in_v, expected[1], atol=1e-9)


@kinds
def test_preconditioned_eigenvalues_lie_between_the_ratios_of_weights(data, kind, rng, x64):
    """Where S = 0 it is exact, for any p and q; else its condition is that of the weights."""
    v = np.linalg.qr(rng.normal(size=(ITEMS, RANK)))[0]
    for name in ("constant", "popular zeros", "activity and more", "rank one"):
        weights = WEIGHTS[name](data)
        problem, products = parts(data, weights, kind, 0.7)
        base = np.outer(problem.users.scale, problem.users.col)
        left, _ = kronecker(dense(data), weights.to_dense(data), v, kind, 0.7)
        plain, _ = kronecker(dense(data), base, v, kind, 0.7)
        t, turn = np.linalg.eigh(v.T @ (problem.users.col[:, None] * v))
        ridge_ = 0.7 if products.ridge is None else products.ridge

        def solve(b, products=products, t=t, turn=turn, ridge_=ridge_):
            a = products.precondition(b.reshape(RANK, -1).T.copy(), t, turn, ridge_)
            return a.T.ravel()

        b = plain @ rng.normal(size=ITEMS * RANK)  # in the range of X', where the penalty sees it
        np.testing.assert_allclose(plain @ solve(b), b, atol=1e-6 * np.abs(b).max())
        values = np.linalg.eigvals(np.array([solve(column) for column in left.T]).T)
        assert np.abs(values.imag).max() < 1e-4
        low, high = weights.ratio_bounds(data)
        if kind == "factor":  # nothing is known of what X A does not show
            values = values[values.real > 1e-3]
        if low > 0 and np.isfinite(high):
            assert low - 1e-3 <= values.real.min() and values.real.max() <= high + 1e-3


@kinds
@pytest.mark.parametrize("alpha", (1.0, 4.0, 16.0))
def test_iterations_are_bounded_by_alpha(kind, alpha, rng, x64):
    x = rng.random((150, 40)) < rng.random(40) ** 2
    data = Interactions.from_triples(*np.nonzero(x), n_users=150, n_items=40)
    weights = Weights.constant(data, alpha)
    low, high = weights.ratio_bounds(data)
    assert (low, high) == (1.0, pytest.approx(1 + alpha))
    problem, products = parts(data, weights, kind, 0.5)
    state = sweeps.AwmfState(*rng.normal(size=(2, 40, 6)))
    _, info = sweeps.step(state, products, problem, kind, 0.5, (1e-6, 500))
    root = np.sqrt(high / low)
    assert 2 < info.steps <= np.ceil(np.log(2 * root / 1e-6) / np.log((root + 1) / (root - 1)))


@pytest.mark.parametrize("make", (WEIGHTS["constant"], WEIGHTS["on entries"]))
def test_at_full_rank_product_is_the_full_rank_optimum(data, make, x64):
    """Brute force over vec B, item by item."""
    weights, x = make(data), dense(data)
    w = weights.to_dense(data)
    columns = [np.linalg.solve(x.T @ (w[:, [j]] * x) + 2 * np.eye(ITEMS), x.T @ (w * x)[:, j]) for j in range(ITEMS)]
    b = np.array(columns).T
    method = Awmf(ITEMS, 2.0, "product", sweeps=120, tolerance=0.0, cg_tolerance=1e-6)
    fitted = method.fit(data, cell_weights=weights)
    np.testing.assert_allclose(fitted.model.encoder @ fitted.model.decoder.T, b, atol=1e-7)
    best = np.sum(w * (x - x @ b) ** 2) + 2 * np.sum(b**2)
    assert fitted.info.certificate.detail["loss"] == pytest.approx(best, rel=1e-10)


def test_where_items_share_no_users_the_product_penalty_is_a_knob_of_alpha(rng, x64):
    """X'X = I, so that ||A V'|| = ||X A V'||: (alpha, reg) ranks as (alpha / (1 + reg / unobserved_weight), 0)."""
    counts = 1 + np.arange(ITEMS)
    items = np.repeat(np.arange(ITEMS), counts)
    x = Interactions.from_triples(np.arange(len(items)), items, 1 / np.sqrt(counts[items]))
    start = sweeps.AwmfState(*rng.normal(size=(2, ITEMS, RANK)))
    found = []
    for alpha, reg in ((3.0, 0.5), (1.5, 1e-9)):
        weights = Weights.constant(x.binarised(), alpha, unobserved_weight=0.5)
        problem, products = parts(x, weights, "product", reg)
        state = start
        for _ in range(3):
            state, _ = sweeps.step(state, products, problem, "product", reg, (1e-11, 300))
        product = state.encoder @ state.decoder.T
        found.append(product / np.linalg.norm(product))
    np.testing.assert_allclose(*found, atol=1e-6)


# -- one body, anywhere -----------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("exact", (True, False))
def test_sharded_equals_single_equals_host(data, kind, exact, rng, x64):
    """Three sweeps, weights of both sides differing."""
    weights = Weights.user_activity(data, -0.4, alpha=1.0)
    start = sweeps.AwmfState(*rng.normal(size=(2, ITEMS, RANK)))

    def run(**where):
        problem, products = parts(data, weights, kind, 0.7, exact=exact, **where)
        state, course = sweeps.AwmfState(*map(products.place, start)), []
        for _ in range(3):
            state, info = sweeps.step(state, products, problem, kind, 0.7, (0.1, 30))
            course.append(info)
        return sweeps.AwmfState(*map(products.fetch, state)), course

    host, expected = run()
    for devices in (None, 8):
        mesh = None if devices is None else parallel.make_mesh(jax.devices()[:devices])
        state, course = run(host=False, mesh=mesh)
        np.testing.assert_allclose(course, expected, rtol=1e-7, atol=1e-10)
        one, other = (dense(data) @ some.encoder @ some.decoder.T for some in (state, host))
        np.testing.assert_allclose(one, other, atol=1e-8)


def test_a_mesh_splits_users_and_items(data):
    mesh = parallel.make_mesh(jax.devices())
    _, products = parts(data, Weights.constant(data, 1.0), "l2", 0.7, host=False, mesh=mesh)
    a = products.place(np.ones((ITEMS, RANK)))
    assert {part.data.shape for part in a.addressable_shards} == {(1, RANK)}
    assert {part.data.shape for part in products.encode(a).addressable_shards} == {(3, RANK)}
    assert {part.data.shape for part in products.spectrum[0].addressable_shards} == {(1, ITEMS)}
    fitted, plain = (Awmf(RANK).fit(data, m).model for m in (mesh, None))
    np.testing.assert_allclose(fitted.encoder @ fitted.decoder.T, plain.encoder @ plain.decoder.T, atol=1e-3)


@kinds
def test_float32_is_close_to_float64(data, kind):
    single = Awmf(RANK, 0.5, kind, sweeps=10, tolerance=0.0).fit(data).model
    with jax.enable_x64(True):
        double = Awmf(RANK, 0.5, kind, sweeps=10, tolerance=0.0).fit(data).model
    assert single.encoder.dtype == np.float32 and double.encoder.dtype == np.float64
    one, other = (dense(data) @ np.float64(m.encoder) @ np.float64(m.decoder).T for m in (single, double))
    np.testing.assert_allclose(one, other, atol=1e-2)


floats = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
systems = ridge.RegressionBatch(
    jax.ShapeDtypeStruct((4, 8), jnp.int32), floats(4, 8), floats(4, 8), floats(4), floats(4)
)
near, few = (systems, floats(4, 8, RANK), floats(4, RANK)), floats(RANK, RANK)
KERNELS = {
    "sums": (on_devices.summed, near),
    "weighted products": (on_devices.weighed, (*near, few)),
    "decoder": (on_devices.solved, (*near, few)),
    "preconditioner": (
        on_devices.preconditioned,
        (floats(9, RANK), floats(9, 9), floats(9), floats(RANK), few, floats()),
    ),
}


@pytest.mark.parametrize("platform", ("cpu", "cuda", "tpu"))
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_lower_for_every_platform(platform, kernel):
    function, arguments = KERNELS[kernel]
    assert export.export(jax.jit(function), platforms=[platform])(*arguments).platforms == (platform,)


# -- fit --------------------------------------------------------------------------------------------------------------


def losses(fitted):
    return [value for name, value in fitted.info.certificate.detail.items() if name.startswith("loss after sweep")]


@kinds
@pytest.mark.parametrize("make", (WEIGHTS["constant"], WEIGHTS["popular zeros"], WEIGHTS["on entries"]))
@pytest.mark.parametrize("preconditioner", ("exact", "diagonal"))
def test_the_loss_never_rises_and_it_certifies_itself(data, kind, make, preconditioner):
    method = Awmf(RANK, 0.5, kind, sweeps=12, tolerance=0.0, preconditioner=preconditioner)
    fitted = method.fit(data, cell_weights=make(data))
    course, certificate = losses(fitted), fitted.info.certificate
    assert all(after <= before * (1 + 1e-5) for before, after in itertools.pairwise(course)) and len(course) == 12
    assert certificate.status is Status.OK and certificate.residual < 1e-4
    assert certificate.detail["gradient in A"] < 0.02 and certificate.detail["steps"] >= 1
    w = make(data).to_dense(data)
    literal = float(awmf.objective(dense(data), w, *dataclasses.astuple(fitted.model), 0.5, kind))
    assert certificate.detail["loss"] == pytest.approx(literal, rel=1e-5)
    assert course[-1] == pytest.approx(literal, rel=1e-4)


@kinds
def test_estimated_error_of_the_decoder(data, kind):
    """What the exact V, given A, changes in the predictions, by brute force."""
    method = Awmf(RANK, 0.5, kind, alpha=3.0, sweeps=3, tolerance=0.0)
    fitted = method.fit(data)
    detail = fitted.info.certificate.detail
    x, w = dense(data), method.cell_weights(data).to_dense(data)
    a, v = (np.asarray(part, np.float64) for part in dataclasses.astuple(fitted.model))
    exact = best_v(x, w, a, kind, 0.5)
    true = np.linalg.norm(x @ a @ (v - exact).T) / np.linalg.norm(x @ a @ v.T)
    assert detail["estimated error of the decoder"] == pytest.approx(true, rel=0.05, abs=1e-8) and true < 1e-5
    assert 0 < detail[alternation.CHANGE] < 1


@pytest.mark.parametrize("share", (0.9, 1.1))
@pytest.mark.parametrize("kind", ("l2", "factor"))
def test_factors_of_zero_are_recognised(data, kind, share):
    """They are the optimum where no direction of the targets is worth its penalty; just below that others are."""
    method = Awmf(RANK, 1.0, kind, alpha=3.0, sweeps=12, tolerance=0.0)
    x, w = dense(data), method.cell_weights(data).to_dense(data)
    onto_users = x @ np.linalg.pinv(x)  # X A sees no more of the targets, which the fit does not ask
    largest = np.linalg.norm(x.T @ (w * x) if kind == "l2" else onto_users @ (w * x), 2)
    asked = largest if kind == "l2" else np.linalg.norm(w * x, 2)
    assert sweeps.singular_value_at_zero(method.problem(data), kind, 2.0) == pytest.approx(asked / 2, rel=1e-5)
    method = dataclasses.replace(method, reg=share * (largest if share < 1 else asked))
    if share < 1:
        assert np.any(method.fit(data).model.encoder)
        return
    with pytest.warns(UserWarning, match="nothing is left to learn"):
        fitted = method.fit(data)
    assert fitted.info.certificate.status is Status.OK and not np.any(fitted.model.encoder)
    assert fitted.info.certificate.detail["loss"] == pytest.approx(np.sum(w * x**2))


def test_a_penalty_on_the_product_leaves_something_to_learn(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.any(Awmf(RANK, 1e6, "product").fit(data).model.encoder)


@kinds
def test_random_starts_end_where_the_closed_form_does(data, kind):
    method = Awmf(RANK, 2.0, kind, alpha=2.0, sweeps=300, tolerance=1e-6)
    found = [losses(method.fit(data, key=key))[-1] for key in (None, jax.random.key(0), jax.random.key(1))]
    np.testing.assert_allclose(found, min(found), rtol=1e-2)


@kinds
def test_empty_and_equal_items(data, kind):
    model = Awmf(RANK, 0.5, kind, sweeps=20).fit(data).model
    assert not model.decoder[5].any() and np.isfinite(model.encoder).all()
    np.testing.assert_allclose(model.decoder[6], model.decoder[7], atol=1e-3)
    assert not model.score_host(data.to_csr()[[3]]).any()


def test_early_stop_and_callback(data):
    seen = []
    Awmf(RANK, sweeps=50, tolerance=0.0).fit(data, callback=lambda n, info, state: seen.append(n) or n == 3)
    assert seen == [1, 2, 3]
    course = losses(Awmf(RANK, sweeps=500, tolerance=1e-3).fit(data))
    assert 2 <= len(course) < 500 and course[-2] - course[-1] < 1e-3 * course[-2]


def test_strengths_may_weigh_only(data):
    """Values are used as they are; with a 0/1 matrix the weights can still be made from them."""
    as_they_are = Awmf(RANK).problem(data)
    assert as_they_are.constant == pytest.approx(2.0 * np.sum(data.values**2))
    only_weights = Awmf(RANK).problem(data.binarised(), Weights.constant(data, 4.0))
    assert only_weights.constant == pytest.approx(np.sum(1 + 4.0 * data.values))


@pytest.mark.parametrize("solver", ("host", "jax"))
def test_a_checkpoint_continues_with_the_very_result(data, solver, tmp_path):
    method = Awmf(RANK, sweeps=5, tolerance=0.0, solver=solver)
    whole = method.fit(data)
    file = tmp_path / "run.npz"
    dataclasses.replace(method, sweeps=2).fit(data, checkpoint=file)
    resumed = method.fit(data, checkpoint=file)
    jax.tree.map(np.testing.assert_array_equal, resumed.model, whole.model)
    assert resumed.info.certificate == whole.info.certificate
    with pytest.raises(InputError, match=r"belongs to another run \(weights is"):
        method.fit(data, checkpoint=file, cell_weights=Weights.log(data, 2.0))


def changed(field, value):
    """The constructor's types are checked in tests, and only there."""
    method = Awmf()
    object.__setattr__(method, field, value)
    method.__post_init__()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Awmf(0), "rank must be at least 1, got 0"),
        (lambda: Awmf(reg=-1.0), "reg must be a finite number of at least 0"),
        (lambda: Awmf(reg=float("nan")), "reg must be a finite number"),
        (lambda: Awmf(alpha=0.0), "alpha must be above 0"),
        (lambda: Awmf(alpha=float("inf")), "alpha must be finite"),
        (lambda: Awmf(unobserved_weight=0.0), "unobserved_weight must be above 0"),
        (lambda: changed("regularizer", "l1"), "regularizer must be one of product, factor, l2"),
        (lambda: changed("preconditioner", "lu"), "preconditioner must be one of"),
        (lambda: changed("solver", "gpu"), "solver must be one of"),
        (lambda: Awmf(sweeps=0), "sweeps must be at least 1"),
        (lambda: Awmf(cg_tolerance=0.0), "cg_tolerance must lie strictly between 0 and 1"),
    ],
)
def test_bad_settings_are_refused(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()


def negative(x):
    return dataclasses.replace(Weights.constant(x, 1.0), entries=np.full(x.nnz, -3.0))


@pytest.mark.parametrize(
    ("method", "arguments", "complaint"),
    [
        (Awmf(9), {}, "rank must be at most the number of users and of items, here 8, got 9"),
        (Awmf(RANK, reg=0.0), {}, "reg = 0 leaves items without interactions undetermined, and .* has 1 of them"),
        (Awmf(RANK), {"cell_weights": lambda x: Weights.uniform(x.rows(np.arange(4)))}, "make the weights from these"),
        (
            Awmf(RANK),
            {"cell_weights": lambda x: Weights.constant(x.rows(np.arange(USERS)[::-1]), 1.0)},
            "another pattern",
        ),
        (Awmf(RANK), {"cell_weights": negative}, "weights must be finite and not negative, got -2"),
        (
            Awmf(RANK),
            {"cell_weights": lambda x: Weights.rank_one(np.zeros(USERS), np.ones(ITEMS))},
            "weights of all interactions are 0",
        ),
        (Awmf(RANK, solver="host"), {"devices": lambda x: jax.devices()}, "runs without devices"),
    ],
)
def test_bad_fits_are_refused(data, method, arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        method.fit(data, **{name: make(data) for name, make in arguments.items()})


@kinds
def test_what_overflows_is_no_model(data, kind):
    with pytest.raises(FitError, match=r"not finite|residual too large"):
        Awmf(RANK, 1e-30, kind, alpha=1e38, unobserved_weight=1e38).fit(data)


def test_plan():
    small, large = (Awmf(64).plan(10**5, n, 10**7) for n in (5_000, 50_000))
    assert "preconditioner" in small.parts and "preconditioner" not in large.parts
    one, eight = (Awmf(64, preconditioner="diagonal").plan(10**6, 10**5, 10**8, where) for where in ("h100", "8xh100"))
    assert (
        eight.parts["factors and images, and what is freed late"] * 8
        == one.parts["factors and images, and what is freed late"]
        and eight.seconds < one.seconds
    )


@pytest.mark.parametrize("kind", ["l2", "product", "factor"])
@pytest.mark.parametrize("alpha", [0.0, 4.0])
def test_more_items_than_users(rng, kind, alpha):
    """X'X is singular: what X maps to 0 stays out of A. Without weights the closed form is there, to the end."""
    x = (rng.random((40, 90)) < 0.3).astype(float)
    x[:, 1], x[:, 3] = x[:, 0], 0
    data = Interactions.from_triples(*np.nonzero(x), n_users=40, n_items=90)
    weights = Weights.constant(data, alpha) if alpha else Weights.uniform(data)
    fitted = Awmf(6, 2.0, kind, sweeps=60).fit(data, cell_weights=weights)
    losses = [value for name, value in fitted.info.certificate.detail.items() if name.startswith("loss after")]
    assert np.all(np.diff(losses) <= 1e-5 * losses[0])
    if not alpha:
        u, sigma, v = np.linalg.svd(x, full_matrices=False)
        expected = (u[:, :6] * sigma[:6] * shrinkage(sigma[:6], 2.0, kind)) @ v[:6]
        found = x @ np.asarray(fitted.model.encoder, float) @ np.asarray(fitted.model.decoder, float).T
        np.testing.assert_allclose(found, expected, atol=1e-4)
