"""Low-rank EDLAE: the exact reduction, its explicit decoder and fixed point, against brute force."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxrec import FitError, InputError, Interactions, ItemFactors, LowRankEdlae, Status, load, recommend
from jaxrec.linear import edlae, low_rank_edlae
from jaxrec.linear.low_rank_edlae import certificate as low_rank_certificate
from jaxrec.linear.low_rank_edlae import fixed_point, kernels
from jaxrec.linear.low_rank_edlae import method as low_rank
from jaxrec.solvers import svd
from jaxrec.solvers.columns import largest_share

P, REG = 0.33, 20.0
KEY = jax.random.key(0)
# Compiled whole: far quicker than operation by operation.
prepare = jax.jit(low_rank.prepare)
objective = jax.jit(low_rank_edlae.objective)
excess = jax.jit(kernels.excess)
free_diagonal, eigen_factors = (jax.jit(f, static_argnums=1) for f in (kernels.free_diagonal, kernels.eigen_factors))
slopes_of = jax.jit(jax.grad(low_rank_edlae.objective, argnums=(1, 2)))


@jax.jit
def one_shot_factors(problem, basis, w):
    return problem.inverse.T @ basis, problem.target(w, problem.unexplained).transpose(basis)


def tastes(users: int, items: int, seed: int = 0, groups: int = 12) -> np.ndarray:
    """0/1 histories from soft groups of items, of density about 1/6, with a decaying spectrum."""
    rng = np.random.default_rng(seed)
    logits = 0.6 * rng.normal(size=(users, groups)) @ rng.normal(size=(groups, items)) + rng.normal(size=items)
    logits += rng.logistic(size=logits.shape)
    return (logits > np.quantile(logits, 0.84)).astype(np.float64)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return tastes(400, 40)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    return tastes(1500, 96)


def interactions(x: np.ndarray) -> Interactions:
    return Interactions.from_triples(*np.nonzero(x), n_users=x.shape[0], n_items=x.shape[1])


class Naive:
    """The matrices of the problem in NumPy, by their definitions; square roots and inverses formed as written."""

    def __init__(self, x: np.ndarray):
        self.a = reference.gram(x)
        self.penalty = REG + P / (1 - P) * np.diag(self.a)
        self.g = self.a + np.diag(self.penalty)
        values, vectors = np.linalg.eigh(self.g)
        self.root = vectors * np.sqrt(values) @ vectors.T
        self.c = np.linalg.inv(self.g)
        self.best = np.eye(len(self.g)) - self.c / np.diag(self.c)
        np.fill_diagonal(self.best, 0)

    def closest(self, target: np.ndarray, rank: int) -> np.ndarray:
        """The matrix of a rank that is closest to the target in the norm of G."""
        u, s, vt = np.linalg.svd(self.root @ target)
        return np.linalg.solve(self.root, u[:, :rank] * s[:rank] @ vt[:rank])

    def excess(self, product: np.ndarray) -> float:
        error = self.root @ (product - np.diag(np.diag(product)) - self.best)
        return np.sum(error**2) / np.sum((self.root @ self.best) ** 2)


def problem_of(x: np.ndarray) -> kernels.LowRankProblem:
    return prepare(jnp.asarray(reference.gram(x)), P, REG)


def product(factors) -> np.ndarray:
    return np.asarray(factors[0] @ factors[1].T)


def test_excess_is_the_difference_of_objectives(x, rng, x64):
    gram = reference.gram(x)
    best = jax.jit(edlae.weights)(gram, P, REG)
    lowest, above = jax.jit(edlae.objective)(x, best, P, REG), jax.jit(low_rank_edlae.excess)
    for scale in (1e-3, 0.1, 3.0):
        u, v = scale * rng.normal(size=(2, 40, 6))
        np.testing.assert_allclose(above(gram, u, v, P, REG), objective(x, u, v, P, REG) - lowest, rtol=1e-10)


def test_one_shots_are_the_spectral_forms(x, x64):
    """(a), (b), (c) and the eigen-only form by square roots, inverses and whole decompositions in NumPy."""
    naive, problem, n = Naive(x), problem_of(x), 40
    values, q = np.linalg.eigh(naive.g)
    for rank in (1, 7, 25):
        free = naive.closest(naive.c @ naive.a, rank)
        top, g = q[:, ::-1][:, :rank], values[::-1][:rank]
        inside, t = np.sum(top**2, axis=1), 1 / np.diag(naive.c)
        w = (1 - t * np.sum(top**2 / g, axis=1)) / (1 - inside)
        beta = {"full_rank": np.zeros(n), "free_diagonal": np.diag(free), "eigen": w - 1}
        for kind in kernels.ONE_SHOTS:
            basis, found = low_rank._one_shot(problem, kind, rank, KEY)
            np.testing.assert_allclose(found - 1, beta[kind], atol=1e-9)
            factors = one_shot_factors(problem, basis, found)
            expected = naive.closest(naive.best + np.diag(beta[kind]), rank)
            np.testing.assert_allclose(product(factors), expected, atol=1e-9)
            np.testing.assert_allclose(excess(problem, *factors), naive.excess(expected), atol=1e-12)
        np.testing.assert_allclose(product(free_diagonal(problem, rank, KEY)), free, atol=1e-9)
        eigen_only = top @ (top.T * w - top.T / g[:, None] * t)
        np.testing.assert_allclose(product(eigen_factors(problem, rank, KEY)), eigen_only, atol=1e-9)


def test_best_decoder_solves_every_item(x, rng, x64):
    """Item by item least squares in G with the item's own row of the encoder taken out."""
    naive, problem = Naive(x), problem_of(x)
    encoder = rng.normal(size=(40, 5))
    expected = np.zeros((40, 40))
    for i in range(40):
        inputs = encoder.copy()
        inputs[i] = 0
        v = np.linalg.solve(inputs.T @ naive.g @ inputs, inputs.T @ naive.g @ naive.best[:, i])
        expected[:, i] = inputs @ v
    found = low_rank._best_decoder(problem, svd.orthonormal(problem.lower.T @ jnp.asarray(encoder)))
    weights = product(found)
    np.testing.assert_allclose(1 + np.diag(weights), found.w, atol=1e-10)
    np.testing.assert_allclose(weights - np.diag(np.diag(weights)), expected, atol=1e-10)
    np.testing.assert_allclose(found.excess, naive.excess(expected), rtol=1e-9)


@pytest.mark.parametrize("rank", (1, 5, 20, 39))
def test_best_decoder_never_raises_the_loss(x, rank, x64):
    problem = problem_of(x)
    for kind in kernels.ONE_SHOTS:
        basis, w = low_rank._one_shot(problem, kind, rank, KEY)
        svd = excess(problem, *one_shot_factors(problem, basis, w))
        polished = low_rank._best_decoder(problem, basis)
        assert polished.excess <= svd + 1e-12
        np.testing.assert_allclose(polished.excess, excess(problem, *polished[:2]), atol=1e-10)


@pytest.mark.parametrize("method", low_rank.METHODS)
def test_all_items_are_full_rank(x, method):
    fitted = LowRankEdlae(40, REG, P, method).fit(interactions(x))
    weights = product((fitted.model.encoder, fitted.model.decoder))
    naive = Naive(x)
    np.testing.assert_allclose(weights - np.diag(np.diag(weights)), naive.best, atol=2e-5)


@pytest.mark.slow
def test_excess_falls_with_the_rank(x, x64):
    problem = problem_of(x)
    courses = {"closed_form": [], "fixed_point": []}
    for rank in (1, 5, 20, 38, 40):
        start, _ = low_rank.closed_form_basis(problem, rank, KEY)
        solved = low_rank._fixed_point(problem, start, 30, 1e-6)[0]
        for course, basis in zip(courses.values(), (start, solved), strict=True):
            course.append(float(low_rank._best_decoder(problem, basis).excess))
    for name, course in courses.items():
        assert course[0] < 1 and abs(course[-1]) < 1e-12
        assert np.all(np.diff(course) < 1e-12), name


def test_fixed_point_descends_to_a_stationary_point(x, x64):
    problem, gram = problem_of(x), jnp.asarray(reference.gram(x))
    start, _ = low_rank.closed_form_basis(problem, 6, KEY)
    course = [float(low_rank._fixed_point(problem, start, steps, 0.0)[1]) for steps in (0, 1, 2, 4, 8, 400)]
    assert np.all(np.diff(course) <= 1e-14) and course[-1] < course[0]
    basis, _, done = low_rank._fixed_point(problem, start, 2000, 1e-15)
    assert done < 2000
    found = low_rank._best_decoder(problem, basis)
    slopes = slopes_of(jnp.asarray(x), *found[:2], P, REG)
    sizes = [np.linalg.norm(g) * np.linalg.norm(f) for g, f in zip(slopes, found[:2], strict=True)]
    assert max(sizes) < 1e-5 * float(problem.scale)
    assert max(jax.jit(kernels.gradients)(problem, gram, *found[:2])) < 1e-6


def test_gradients_are_those_of_the_objective(x, rng, x64):
    naive, problem = Naive(x), problem_of(x)
    u, v = rng.normal(size=(2, 40, 5))
    in_u, in_v = slopes_of(jnp.asarray(x), u, v, P, REG)
    found = jax.jit(kernels.gradients)(problem, jnp.asarray(naive.a), u, v)
    data = naive.a - np.diag(np.diag(naive.a))

    def norm(slope):
        """sqrt(tr(slope' G^-1 slope (V'V)^-1))"""
        return np.sqrt(np.trace(slope.T @ naive.c @ slope @ np.linalg.inv(v.T @ v)))

    np.testing.assert_allclose(found[0], norm(np.asarray(in_u) / 2) / norm(data @ v), rtol=1e-8)
    np.testing.assert_allclose(found[1], np.linalg.norm(in_v) / 2 / np.linalg.norm(data @ u), rtol=1e-8)
    turn = rng.normal(size=(5, 5))  # the same product
    turned = jax.jit(kernels.gradients)(problem, jnp.asarray(naive.a), u @ turn, v @ np.linalg.inv(turn).T)
    np.testing.assert_allclose(turned[0], found[0], rtol=1e-8)


@pytest.mark.parametrize(("dropout", "lowest"), ((0.0, 0.0210), (P, 0.0166)))
def test_the_fixed_point_is_one_where_items_are_few(dropout, lowest):
    """The most used items of msweb: power iterations alone end at .0211 and .0170 here, with steps left to gain."""
    data = load("msweb")
    data = data.select_items(np.sort(np.argsort(-data.item_counts, kind="stable")[:25]))
    method = LowRankEdlae(8, 1.0, dropout)
    found = method.fit(data).info.certificate.detail
    assert found["excess"] < lowest and found["encoder gradient"] < 5e-3
    longer = dataclasses.replace(method, steps=3000).fit(data).info.certificate.detail
    assert longer["excess"] > (1 - 1e-4) * found["excess"]
    with pytest.raises(FitError, match="raise steps"):
        dataclasses.replace(method, steps=1).fit(data)


@pytest.mark.parametrize("dropout", (0.9, 0.99, 0.997))
def test_dropout_near_one_is_as_exact(x, dropout):
    fitted = LowRankEdlae(8, REG, dropout).fit(interactions(x))
    weights = product((fitted.model.encoder, fitted.model.decoder)).astype(np.float64)
    np.fill_diagonal(weights, 0)
    gram = reference.gram(x)
    penalty = REG + dropout / (1 - dropout) * np.diag(gram)
    inverse = np.linalg.inv(gram + np.diag(penalty))
    best = np.eye(40) - inverse / np.diag(inverse)
    np.fill_diagonal(best, 0)

    def square(b):
        return np.sum(b * ((gram + np.diag(penalty)) @ b))

    found = fitted.info.certificate.detail
    assert found["excess"] == pytest.approx(square(weights - best) / square(best), rel=0.03)


def test_what_leaves_nothing_to_learn_is_named(x):
    for dropout in (0.9999, 0.999999, 1 - 1e-12):
        with pytest.raises(FitError, match="lower dropout: next to nothing"):
            LowRankEdlae(8, REG, dropout).fit(interactions(x))
    with pytest.raises(FitError, match="lower reg: next to nothing"):
        LowRankEdlae(8, 1e7, 0.5).fit(interactions(x))


@pytest.mark.slow
def test_comparison_of_the_forms_over_ranks(wide, x64):
    """The shape published for these models: the constraint may be dropped at small ranks only."""
    problem = problem_of(wide)
    dropped, solved, tied, best = [], [], [], []
    for rank in (6, 12, 24, 48, 84):
        dropped.append(float(excess(problem, *free_diagonal(problem, rank, KEY))))
        basis, _ = low_rank.closed_form_basis(problem, rank, KEY)
        solved.append(float(low_rank._best_decoder(problem, basis).excess))
        w = low_rank._one_shot(problem, "free_diagonal", rank, KEY)[1]
        basis_tied, w = jax.jit(kernels.tied_diagonal, static_argnums=2)(problem, w, rank, KEY, 20)
        tied.append(float(excess(problem, *one_shot_factors(problem, basis_tied, w))))
        best.append(float(low_rank._fixed_point(problem, basis, 200, 1e-7)[1]))
    assert dropped[0] < 1.2 * best[0] and dropped[-1] > 100 * best[-1]
    assert min(dropped) < dropped[-1]  # it gets worse with the rank
    assert np.all(np.diff(solved) < 0) and np.all(np.diff(best) < 0)
    assert np.all(np.array(best) <= np.minimum(solved, tied))


@pytest.mark.parametrize("method", low_rank.METHODS)
def test_fit_recommends_and_says_how_good_it_is(wide, method):
    data = interactions(wide)
    fitted = LowRankEdlae(12, REG, P, method).fit(data)
    naive = Naive(wide)
    detail = fitted.info.certificate.detail
    weights = product((fitted.model.encoder, fitted.model.decoder))
    assert detail["excess"] == pytest.approx(naive.excess(weights), rel=1e-3)
    loss = objective(wide, fitted.model.encoder, fitted.model.decoder, P, REG)
    assert detail["loss"] == pytest.approx(float(loss), rel=1e-4)
    at_full_rank = jax.jit(edlae.objective)(wide, naive.best, P, REG)
    assert detail["loss at full rank"] == pytest.approx(float(at_full_rank), rel=1e-4)
    if method == "fixed_point":
        assert detail["encoder gradient"] < 0.02
    assert isinstance(fitted.model, ItemFactors) and fitted.model.encoder.shape == (96, 12)
    assert recommend(fitted, data, 5).items.shape == (1500, 5)


def test_certificate_fails_on_wrong_factors(x):
    data, gram = interactions(x), jnp.asarray(reference.gram(x), jnp.float32)
    problem = prepare(gram, P, REG)
    start, _ = low_rank.closed_form_basis(problem, 4, KEY)
    good = low_rank._best_decoder(problem, low_rank._fixed_point(problem, start, 300, 1e-4)[0])
    assert low_rank.certify(data, gram, problem, ItemFactors(good.encoder, good.decoder)).status is Status.OK
    off = low_rank.certify(data, gram, problem, ItemFactors(good.encoder, 1.01 * good.decoder))
    assert off.status is Status.RESIDUAL_TOO_LARGE
    assert off.detail["estimated error of the decoder"] == pytest.approx(0.01, rel=1e-2)
    lost = low_rank.certify(data, gram, problem, ItemFactors(good.encoder, good.decoder.at[3, 1].set(jnp.nan)))
    assert lost.status is Status.NOT_FINITE


def best_decoder_by_least_squares(x, penalty, u):
    """[I, K] item by item, on all users and on the penalty of the others."""
    out = np.zeros_like(u)
    for j in range(len(u)):
        others = np.arange(len(u)) != j
        rows = np.vstack([x[:, others] @ u[others], np.sqrt(penalty[others])[:, None] * u[others]])
        scale = 1 / np.linalg.norm(rows, axis=0)
        target = np.append(x[:, j], np.zeros(len(u) - 1))
        out[j] = scale * np.linalg.lstsq(rows * scale, target, rcond=1e-13)[0]
    return out


@pytest.mark.parametrize("owned", (False, True))
@pytest.mark.parametrize("sample", (64, 20))
def test_the_estimated_error_of_the_decoder(x, rng, monkeypatch, owned, sample):
    """Against the best decoder by brute force; also where one item all but owns a factor, whose system cancels."""
    monkeypatch.setattr(low_rank_certificate, "SAMPLE", sample)
    penalty = REG + P / (1 - P) * (x**2).sum(axis=0)
    u = rng.normal(size=(40, 4))
    if owned:
        u[:, 2] *= 1e-9
        u[7, 2] = 1.0
    best = best_decoder_by_least_squares(x, penalty, u)
    wrong = 1e-4 * rng.normal(size=best.shape) * best

    def off_diagonal(rows):
        product = u @ rows.T
        np.fill_diagonal(product, 0)
        return np.linalg.norm(product, axis=0)

    found, worst = low_rank_certificate.decoder_errors(interactions(x), penalty, u, best + wrong)
    errors, sizes = off_diagonal(wrong), off_diagonal(best + wrong)
    true = np.linalg.norm(errors) / np.linalg.norm(sizes)
    assert found == pytest.approx(true, rel=1e-4 if sample == 64 else 0.5)
    assert 0 < worst <= largest_share(errors, sizes) * (1.5 if sample == 20 else 1.0001)


def test_floats_are_traced(x):
    gram = jnp.asarray(reference.gram(x), jnp.float32)
    compiled = jax.jit(lambda gram, dropout, reg: kernels.prepare(gram, reg + dropout * jnp.diagonal(gram)))
    fixed = jax.jit(
        lambda *given: fixed_point.fixed_point(*given)
    )  # a function of its own: jit shares its cache by function
    for reg, tolerance in ((3.0, 1e-5), (30.0, 1e-4), (300.0, 1e-3)):
        problem = compiled(gram, 0.3, reg)
        fixed(problem, low_rank._one_shot(problem, "full_rank", 3, KEY)[0], 10, tolerance)
    assert compiled._cache_size() == fixed._cache_size() == 1


def test_same_key_same_model(wide):
    one, two = (LowRankEdlae(5, REG, P).fit(interactions(wide), key=jax.random.key(1)).model for _ in range(2))
    np.testing.assert_array_equal(one.encoder, two.encoder)


def test_bad_input_is_one_sentence(x):
    with pytest.raises(InputError, match="rank must be at most the number of items, 40, got 41"):
        LowRankEdlae(41).fit(interactions(x))
    for wrong, said in (
        ({"rank": 0}, "rank must be at least 1"),
        ({"reg": 0.0}, "reg must be above 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"method": "admm"}, "method must be one of fixed_point, closed_form"),
    ):
        with pytest.raises(InputError, match=said):
            LowRankEdlae(**wrong)
