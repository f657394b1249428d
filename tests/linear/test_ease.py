"""EASE: equal to its definition, stationary, certified, and refusing what it cannot resolve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxrec import Ease, FitError, InputError, Interactions, ItemWeights, Status
from jaxrec.closed_form import certificate as certificates
from jaxrec.closed_form import kernel
from jaxrec.closed_form import method as closed_form
from jaxrec.closed_form.gram import gram_matrix, lower_gram
from jaxrec.linear import ease
from jaxrec.runtime import memory
from jaxrec.solvers import spd_host

SOLVERS = ("host", "jax")


@pytest.fixture
def data(rng) -> Interactions:
    """Clustered users, a popular item, an item and a user with nothing."""
    n_users, n_items = 300, 53
    taste = rng.random((4, n_items)) ** 4
    x = rng.random((n_users, n_items)) < taste[rng.integers(0, 4, n_users)]
    x[:, 0] |= rng.random(n_users) < 0.7
    x[:, 17] = False
    x[5] = False
    return Interactions.from_triples(*np.nonzero(x), n_users=n_users, n_items=n_items)


def solved(data, reg) -> kernel.Solution:
    return jax.jit(kernel.solve)(gram_matrix(data), np.full(data.n_items, reg, np.float32))


def certify(data, solution, reg, gram_diagonal):
    return certificates.certify(kernel.Problem(data, gram_diagonal, np.full(data.n_items, reg)), solution)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("reg", (0.5, 20.0, 1e4))
def test_weights_equal_columnwise_ridge(data, solver, reg):
    found = np.asarray(Ease(reg, solver=solver).fit(data).model.weights)
    expected = reference.ease_columnwise(data.to_csr().toarray(), reg)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max() + 1e-9)
    np.testing.assert_array_equal(np.diag(found), 0)
    assert found.flags.c_contiguous and found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 17], 0)  # an item without users is predicted by nothing


def test_real_valued_data_and_float64(data, rng):
    weighted = Interactions.from_csr(data.to_csr() * np.float32(1.7))
    expected = reference.ease_columnwise(weighted.to_csr().toarray(), 3.0)
    np.testing.assert_allclose(Ease(3.0, dtype="float64").fit(weighted).model.weights, expected, atol=1e-13)


def test_sweep_above_the_lapack_limit_gives_the_same(data, monkeypatch):
    monkeypatch.setattr(spd_host, "_invert_by_lapack", lambda a: spd_host._invert_by_sweep(a, 16))
    found = Ease(2.0).fit(data).model.weights
    np.testing.assert_allclose(found, reference.ease_columnwise(data.to_csr().toarray(), 2.0), atol=2e-6)


def test_gradient_of_the_public_objective_vanishes_off_the_diagonal(data, x64):
    x = data.to_csr(np.float64).toarray()
    best = reference.ease(x, 5.0)
    objective = jax.jit(ease.objective)
    gradient = jax.jit(jax.grad(objective, argnums=1))(jnp.asarray(x), jnp.asarray(best), 5.0)
    off = ~np.eye(len(best), dtype=bool)
    assert np.abs(gradient[off]).max() < 1e-10
    fitted = jnp.asarray(Ease(5.0, dtype="float64").fit(data).model.weights)
    assert objective(x, fitted, 5.0) == pytest.approx(float(objective(x, best, 5.0)), rel=1e-13)
    worse = best + 1e-3 * off
    assert objective(x, worse, 5.0) > objective(x, best, 5.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_multiplier_is_the_optimal_value_of_its_column(data, solver):
    x = data.to_csr(np.float64).toarray()
    reg, best = 7.0, reference.ease(x, 7.0)
    values = np.sum((x - x @ best) ** 2, axis=0) + reg * np.sum(best**2, axis=0)
    if solver == "host":
        solution, status = kernel.solve_on_host(lower_gram(data), np.full(data.n_items, reg))
        assert status is Status.OK
    else:
        solution = solved(data, reg)
    np.testing.assert_allclose(solution.unexplained - reg, values, rtol=1e-4, atol=1e-4)


def test_kernel_maps_over_reg_compiles_once_and_differentiates(data, x64):
    gram = jnp.asarray(gram_matrix(data, np.float64))
    regs = jnp.asarray([1.0, 10.0, 100.0])
    mapped = jax.jit(jax.vmap(ease.weights, in_axes=(None, 0)))(gram, regs)
    compiled = jax.jit(lambda *given: ease.weights(*given))  # jit shares its cache by function
    for reg, found in zip(regs, mapped, strict=True):
        np.testing.assert_allclose(found, reference.ease(data.to_csr().toarray(), float(reg)), atol=1e-12)
        np.testing.assert_allclose(compiled(gram, reg), found, atol=1e-12)
    assert compiled._cache_size() == 1
    slope = jax.jit(jax.grad(lambda r: jnp.sum(ease.weights(gram, r) ** 2)))(10.0)
    near = [float(np.sum(np.asarray(compiled(gram, r)) ** 2)) for r in (10 - 1e-4, 10 + 1e-4)]
    assert slope == pytest.approx((near[1] - near[0]) / 2e-4, rel=1e-6)


def test_every_product_of_the_kernel_states_its_precision():
    jaxpr = jax.make_jaxpr(ease.weights)(jnp.eye(300), 1.0)
    found = list(_equations(jaxpr.jaxpr, "dot_general"))
    assert found and all(eqn.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2 for eqn in found)


def _equations(jaxpr, name):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == name:
            yield eqn
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner, name)


# -- certificates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_certificate_estimates_the_true_residual(data, solver):
    x = data.to_csr(np.float64).toarray()
    gram, reg = reference.gram(x), 4.0
    rng = np.random.default_rng(1)
    solution = solved(data, reg)
    wrong = np.array(solution.weights) + 1e-3 * rng.normal(size=gram.shape).astype(np.float32)
    np.fill_diagonal(wrong, 0)
    stationarity = (gram + reg * np.eye(len(gram))) @ wrong - gram
    off = ~np.eye(len(gram), dtype=bool)
    expected = np.linalg.norm(stationarity[off]) / np.linalg.norm(gram[off])
    wrong = wrong if solver == "host" else jnp.asarray(wrong)
    certificate = certify(data, kernel.Solution(wrong, solution.unexplained), reg, np.diag(gram))
    assert certificate.residual == pytest.approx(expected, rel=0.25)
    assert certificate.status is Status.RESIDUAL_TOO_LARGE


def test_certificate_rejects_the_transposed_weights(data):
    solution = solved(data, 4.0)
    turned = kernel.Solution(np.asarray(solution.weights).T, solution.unexplained)
    assert certify(data, turned, 4.0, np.diag(gram_matrix(data))).status is Status.RESIDUAL_TOO_LARGE


def test_certificate_rejects_a_multiplier_out_of_range(data):
    solution = solved(data, 4.0)
    diagonal = np.diag(gram_matrix(data))
    for wrong in (-0.1, float(diagonal[0]) + 0.1):
        unexplained = np.array(solution.unexplained)
        unexplained[0] = 4.0 + wrong
        certificate = certify(data, kernel.Solution(solution.weights, unexplained), 4.0, diagonal)
        assert certificate.status is Status.MULTIPLIER_OUT_OF_RANGE


def test_certificate_rejects_weights_that_are_not_finite(data):
    solution = solved(data, 4.0)
    broken = np.array(solution.weights)
    broken[3, 4] = np.nan
    certificate = certify(data, kernel.Solution(broken, solution.unexplained), 4.0, np.diag(gram_matrix(data)))
    assert certificate.status is Status.NOT_FINITE


@pytest.mark.parametrize("solver", SOLVERS)
def test_duplicate_items_are_refused_before_the_numbers_go_wrong(solver, rng):
    """Each item twice: whatever leaves `fit` is right to 1 %, and tiny reg ends in advice, never in wrong numbers."""
    x = np.repeat(rng.random((500, 40)) < 0.2, 2, axis=1)
    data = Interactions.from_triples(*np.nonzero(x))
    refused = []
    for reg in 10.0 ** np.arange(1, -9, -1):
        try:
            found = np.asarray(Ease(float(reg), solver=solver).fit(data).model.weights)
        except FitError as error:
            refused.append(reg)
            assert error.status in (Status.ILL_CONDITIONED, Status.NOT_POSITIVE_DEFINITE)
            assert "raise reg" in str(error) and "float64" in str(error)
        else:
            expected = reference.ease(x, reg)
            assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
    assert refused and max(refused) < 1e-2 and 1e-8 in np.round(refused, 12)
    float64 = Ease(1e-5, dtype="float64").fit(data).model.weights
    np.testing.assert_allclose(float64, reference.ease(x, 1e-5), atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_errors_that_add_up_over_many_copies_are_seen(solver):
    """Everyone has everything: the residual is at rounding level and no single item looks bad, yet weights go wrong."""
    x = np.ones((168, 57))
    data = Interactions.from_triples(*np.nonzero(x))
    refused = []
    for reg in 10.0 ** np.arange(1, -5, -0.5):
        try:
            found = np.asarray(Ease(float(reg), solver=solver).fit(data).model.weights)
        except FitError as error:
            refused.append(reg)
            # On some processors the residual shows it first.
            seen = (Status.ILL_CONDITIONED, Status.NOT_POSITIVE_DEFINITE, Status.RESIDUAL_TOO_LARGE)
            assert error.status in seen
        else:
            expected = reference.ease(x, reg)
            assert np.linalg.norm(found - expected) < 0.015 * np.linalg.norm(expected)
    assert refused and max(refused) < 0.1


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_estimated_error_is_near_the_true_one(solver, rng):
    x = np.repeat(rng.random((2000, 30)) < 0.3, 2, axis=1)
    x[np.arange(30), 2 * np.arange(30)] ^= True  # one user tells the two of a pair apart
    data = Interactions.from_triples(*np.nonzero(x))
    fitted = Ease(0.01, solver=solver).fit(data)
    expected = reference.ease(x, 0.01)
    error = np.linalg.norm(fitted.model.weights - expected) / np.linalg.norm(expected)
    assert 1e-6 < error
    assert 0.4 < fitted.info.certificate.detail["estimated error of the weights"] / error < 2.5
    worst = (np.linalg.norm(fitted.model.weights - expected, axis=0) / np.linalg.norm(expected, axis=0)).max()
    assert 0.4 < fitted.info.certificate.detail["estimated error of the worst column"] / worst < 4


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("scale", "reg"), [(1e20, 1.0), (1e-25, 1.0), (1.0, 1e30), (1.0, 4e38)])
def test_values_beyond_float32_get_advice_that_helps(data, solver, scale, reg):
    scaled = Interactions.from_csr(data.to_csr() * np.float32(scale))
    with pytest.raises(FitError, match=r"leave the range of float32: multiply the values by some s and reg by s\^2"):
        Ease(reg, solver=solver).fit(scaled)


# -- edges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("reg", (1e-3, 1.0, 1e9))
def test_one_item(solver, reg):
    fitted = Ease(reg, solver=solver).fit(Interactions.from_triples([0, 1, 2], [0, 0, 0]))
    assert float(fitted.model.weights[0, 0]) == 0
    assert fitted.info.certificate.status is Status.OK


@pytest.mark.parametrize("solver", SOLVERS)
def test_items_that_share_no_user_have_zero_weights(solver):
    fitted = Ease(1.0, solver=solver).fit(Interactions.from_triples([0, 1, 2], [0, 1, 2]))
    np.testing.assert_array_equal(fitted.model.weights, 0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_huge_reg_gives_scaled_cooccurrence(data, solver):
    gram = reference.gram(data.to_csr().toarray())
    np.fill_diagonal(gram, 0)
    found = np.asarray(Ease(1e9, solver=solver).fit(data).model.weights, np.float64)
    np.testing.assert_allclose(found * 1e9, gram, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("reg", (0, -1.0, float("nan"), float("inf")))
def test_reg_must_be_positive(reg):
    with pytest.raises(InputError, match="reg must be"):
        Ease(reg)


def test_float64_on_the_jax_path_and_empty_data_are_refused():
    with pytest.raises(InputError, match="solver='host'"):
        Ease(solver="jax", dtype="float64")
    with pytest.raises(InputError, match="no interactions"):
        Ease().fit(Interactions.from_triples([], [], n_users=3, n_items=3))


def test_fit_refuses_before_allocating_what_cannot_fit(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**6)
    monkeypatch.setattr(closed_form, "lower_gram", lambda *_: pytest.fail("allocated"))
    data = Interactions.from_triples([0, 1], [0, 5000])
    with pytest.raises(FitError, match=r"needs 0\.\d GB on the host, where 0\.0 GB are free; use"):
        Ease().fit(data)


def test_plan_covers_the_arrays_that_fit_makes():
    plan = Ease().plan(30_000, 5_000, 1_000_000)
    assert plan.total >= 4 * 5_000**2 and plan.parts and plan.fits is (plan.total <= plan.available)
    assert memory.available_bytes() == pytest.approx(plan.available, rel=0.3)


def test_interrupting_a_fit_passes_the_interrupt_on(data, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(spd_host, "_invert_by_lapack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Ease().fit(data)


def test_scores_are_x_b_and_not_x_b_transposed(data):
    model = Ease(5.0).fit(data).model
    x = data.to_csr().toarray()
    scores = ItemWeights(model.weights).score_host(data.to_csr())
    np.testing.assert_allclose(scores, x @ reference.ease(x, 5.0), atol=1e-5)
    assert np.abs(scores - x @ reference.ease(x, 5.0).T).max() > 0.05


def test_a_gram_matrix_of_other_data_is_refused(data):
    for gram in (np.eye(5, dtype=np.float32), jnp.eye(24)):
        with pytest.raises(InputError, match="gram must be what `gram` of this method returns"):
            Ease(1.0).fit_from_gram(data, gram)
