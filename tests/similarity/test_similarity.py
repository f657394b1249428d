"""Cosine similarity: closed forms equal alternating least squares, gauges keep scores, ranges are exact."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import cosine, cosines, factorization_loss, unweighted_als

from jaxrec import InputError, Interactions, ItemFactors, PureSvd
from jaxrec import similarity as sim
from jaxrec.similarity.gauges import KINDS, Pair
from jaxrec.similarity.lists import CHOICES

REG = {"product": 20.0, "factor": 1.5}
CLOSED_FORMS = {"product": sim.closed_form_product, "factor": sim.closed_form_factor}
OBJECTIVES = {"product": sim.product_objective, "factor": sim.factor_objective}


@pytest.fixture
def x(rng) -> np.ndarray:
    taste = rng.random((4, 12)) ** 2
    return (rng.random((80, 12)) < taste[rng.integers(0, 4, 80)]).astype(np.float64)


@pytest.fixture
def data(x) -> Interactions:
    return Interactions.from_triples(*np.nonzero(x), n_users=80, n_items=12)


def alternating(kind, x, rank, reg, seed, sweeps=3000):
    """Each side in turn set to where the derivative of the loss in it vanishes."""
    g = x.T @ x
    b = np.random.default_rng(seed).normal(size=(x.shape[1], rank))
    for _ in range(sweeps):
        if kind == "product":
            a = np.linalg.solve(g + reg * np.eye(len(g)), g @ b) @ np.linalg.inv(b.T @ b)
            b = g @ a @ np.linalg.inv(a.T @ (g + reg * np.eye(len(g))) @ a)
            b /= np.linalg.norm(b)  # the gauge is free, and would drift
        else:
            a = b @ np.linalg.inv(b.T @ b + reg * np.eye(rank))
            b = g @ a @ np.linalg.inv(a.T @ g @ a + reg * np.eye(rank))
    if kind == "product":
        b = g @ a @ np.linalg.inv(a.T @ (g + reg * np.eye(len(g))) @ a)
    return a, b


def root_of(x):
    """R with R'R = X'X."""
    return np.linalg.cholesky(x.T @ x).T


class TestSolutions:
    @pytest.mark.parametrize("rank", (3, 12))
    @pytest.mark.parametrize("kind", REG)
    def test_equal_alternating_least_squares_from_several_starts(self, x, data, kind, rank):
        reg = REG[kind]
        model = CLOSED_FORMS[kind](sim.eigenpairs(data, rank), reg)
        value = factorization_loss(kind, x, model.encoder, model.decoder, reg)
        for seed in range(2):
            a, b = alternating(kind, x, rank, reg, seed)
            assert factorization_loss(kind, x, a, b, reg) == pytest.approx(value, rel=1e-9)
            np.testing.assert_allclose(a @ b.T, model.encoder @ model.decoder.T, atol=1e-6)
            if kind == "factor":  # unique up to rotation: so are the cosines
                np.testing.assert_allclose(cosines(b), sim.cosines(model.decoder), atol=1e-5)

    @pytest.mark.parametrize("kind", REG)
    def test_public_objectives_are_the_equations_and_stationary(self, x, data, kind, x64):
        reg = REG[kind]
        model = CLOSED_FORMS[kind](sim.eigenpairs(data, 4), reg)
        sides = jnp.asarray(model.encoder), jnp.asarray(model.decoder)
        value, slopes = jax.value_and_grad(OBJECTIVES[kind], argnums=(1, 2))(x, *sides, reg)
        assert float(value) == pytest.approx(factorization_loss(kind, x, *sides, reg), rel=1e-12)
        assert float(OBJECTIVES[kind](root_of(x), *sides, reg)) == pytest.approx(float(value), rel=1e-12)
        assert max(float(jnp.abs(slope).max()) for slope in slopes) < 1e-9 * float(value)

    def test_unweighted_als_of_user_and_item_factors_ends_at_the_factor_solution(self, x, data):
        p, q = unweighted_als(x, 4, REG["factor"], seed=3, sweeps=3000)
        model = sim.closed_form_factor(sim.eigenpairs(data, 4), REG["factor"])
        np.testing.assert_allclose(p @ q.T, x @ model.encoder @ model.decoder.T, atol=1e-6)
        np.testing.assert_allclose(cosines(q), sim.cosines(model.decoder), atol=1e-5)

    def test_shrinkage_is_what_the_solutions_do_to_singular_values(self, x, data):
        sigma = np.linalg.svd(x, compute_uv=False)
        for kind, reg in (("product", 20.0), ("factor", 3.0)):
            model = CLOSED_FORMS[kind](sim.eigenpairs(data, 12), reg)
            shrunk = np.linalg.svd(x @ model.encoder @ model.decoder.T, compute_uv=False)
            np.testing.assert_allclose(shrunk, np.sort(sigma * sim.shrinkage(sigma, reg, kind))[::-1], atol=1e-9)
        np.testing.assert_allclose(sim.shrinkage(sigma, 20.0, "product"), 1 / (1 + 20 / sigma**2))
        np.testing.assert_allclose(sim.shrinkage(sigma, 3.0, "factor"), np.maximum(1 - 3 / sigma, 0))
        assert sim.shrinkage(np.zeros(1), 3.0, "product") == sim.shrinkage(np.zeros(1), 3.0, "factor") == 0

    def test_bad_input(self, data):
        with pytest.raises(InputError, match="reg must be above 0"):
            sim.closed_form_factor(sim.eigenpairs(data, 3), 0.0)
        with pytest.raises(InputError, match="kind must be one of product, factor"):
            sim.shrinkage(np.ones(2), 1.0, "both")


@pytest.fixture
def product_model(data) -> ItemFactors:
    return sim.closed_form_product(sim.eigenpairs(data, 4), REG["product"])


@pytest.fixture
def mixing(rng) -> np.ndarray:
    return rng.normal(size=(4, 4)) * [0.1, 1, 3, 10]


class TestGauges:
    def test_rescaling_keeps_scores_and_objective_and_changes_cosines(self, x, product_model, mixing):
        before = factorization_loss("product", x, product_model.encoder, product_model.decoder, REG["product"])
        for changed in (sim.rescale(product_model, [0.1, -1, 5, 30]), sim.transform(product_model, mixing)):
            assert isinstance(changed, ItemFactors)
            assert factorization_loss("product", x, changed.encoder, changed.decoder, REG["product"]) == pytest.approx(
                before, rel=1e-12
            )
            scores = product_model.encoder @ product_model.decoder.T
            np.testing.assert_allclose(changed.encoder @ changed.decoder.T, scores, atol=1e-12)
            assert np.abs(sim.cosines(changed.decoder) - sim.cosines(product_model.decoder)).max() > 0.5

    def test_rescaling_is_a_diagonal_transformation(self, product_model):
        one, other = sim.rescale(product_model, [1, 2, 3, 4]), sim.transform(product_model, np.diag([1.0, 2, 3, 4]))
        np.testing.assert_allclose(one.encoder, other.encoder)
        np.testing.assert_allclose(one.decoder, product_model.decoder / [1, 2, 3, 4])
        np.testing.assert_allclose(one.decoder, other.decoder)

    def test_rotations_change_no_cosine(self, product_model, mixing):
        turned = sim.transform(product_model, np.linalg.qr(mixing)[0])
        np.testing.assert_allclose(sim.cosines(turned.decoder), sim.cosines(product_model.decoder), atol=1e-12)

    @pytest.mark.parametrize("kind", KINDS)
    def test_canonical_gauge_forgets_the_gauge_it_came_from(self, product_model, mixing, kind):
        canonical = sim.canonical_gauge(product_model, kind)
        again = sim.canonical_gauge(sim.transform(product_model, mixing), kind)
        np.testing.assert_allclose(sim.cosines(again.decoder), sim.cosines(canonical.decoder), atol=1e-9)
        np.testing.assert_allclose(again.encoder @ again.decoder.T, product_model.encoder @ product_model.decoder.T)
        moments = again.encoder.T @ again.encoder, again.decoder.T @ again.decoder
        s = np.linalg.svd(product_model.encoder @ product_model.decoder.T, compute_uv=False)[:4]
        power = {"balanced": (1, 1), "item_orthonormal": (2, 0), "user_orthonormal": (0, 2)}[kind]
        for moment, exponent in zip(moments, power, strict=True):
            np.testing.assert_allclose(moment, np.diag(s**exponent), atol=1e-9)

    def test_closed_form_is_its_own_balanced_gauge(self, product_model):
        balanced = sim.canonical_gauge(product_model, "balanced")
        np.testing.assert_allclose(np.abs(balanced.decoder), np.abs(product_model.decoder), atol=1e-9)

    @pytest.mark.parametrize("dtype", (np.float32, np.float64))
    def test_at_full_rank_no_item_is_similar_to_any_other(self, x, data, rng, dtype):
        """The example of the paper: an optimum of the objective in which item-item cosines are the identity."""
        model = sim.closed_form_product(sim.eigenpairs(data, 12), REG["product"])
        model = sim.transform(model, rng.normal(size=(12, 12)))
        model = ItemFactors(model.encoder.astype(dtype), model.decoder.astype(dtype))
        assert np.abs(sim.cosines(model.decoder) - np.eye(12)).max() > 0.5
        orthonormal = sim.canonical_gauge(model, "item_orthonormal")
        assert orthonormal.decoder.dtype == dtype
        np.testing.assert_allclose(sim.cosines(orthonormal.decoder), np.eye(12), atol=1e-5)
        # Cosines of users with items then rank as scores do, since all items have length 1.
        users = x @ orthonormal.encoder
        scores = users @ orthonormal.decoder.T
        between = [[cosine(p, q) for q in orthonormal.decoder] for p in users[x.any(axis=1)]]
        assert (np.argsort(between) == np.argsort(scores[x.any(axis=1)])).mean() > 0.99

    def test_at_full_rank_user_orthonormal_compares_raw_rows(self, x, data, rng):
        model = sim.transform(sim.closed_form_product(sim.eigenpairs(data, 12), 20.0), rng.normal(size=(12, 12)))
        rows = x[x.any(axis=1)][:20]
        users = rows @ sim.canonical_gauge(model, "user_orthonormal").encoder
        np.testing.assert_allclose(sim.cosines(users), cosines(rows), atol=1e-9)

    def test_more_dimensions_than_items_and_dimensions_without_use(self, rng):
        pair = rng.normal(size=(9, 6)), rng.normal(size=(3, 6))
        for kind in KINDS:
            users, items = sim.canonical_gauge(pair, kind)
            assert users.shape == (9, 6) and items.shape == (3, 6)
            np.testing.assert_allclose(users @ items.T, pair[0] @ pair[1].T, atol=1e-12)
        pair[0][:, 2] = 0
        users, items = sim.canonical_gauge(pair, "user_orthonormal")
        np.testing.assert_allclose(users @ items.T, pair[0] @ pair[1].T, atol=1e-12)

    def test_takes_fits_models_and_pairs(self, data, rng):
        fitted = PureSvd(3).fit(data)
        changed = sim.rescale(fitted, [1, 2, 3])
        assert isinstance(changed, ItemFactors) and changed.decoder.dtype == np.float32
        np.testing.assert_array_equal(changed.decoder, sim.rescale(fitted.model, [1, 2, 3]).decoder)
        pair = sim.rescale((rng.normal(size=(7, 2)), jnp.ones((5, 2))), [1, 2])
        assert isinstance(pair, Pair) and pair.user_factors.shape == (7, 2)
        assert pair.item_factors.dtype == np.float32

    def test_bad_input(self, product_model, data):
        users, items = product_model.encoder, product_model.decoder
        for factors, message in (
            (users, "factors must be ItemFactors or a pair"),
            ((users, items[:, :2]), "equally many columns, got 4 and 2"),
            ((users, items[:, 0]), "item factors must be a matrix of numbers"),
            ((users, np.where(items == items[3, 1], np.nan, items)), "item factors must be finite; row 3 is not"),
        ):
            with pytest.raises(InputError, match=message):
                sim.canonical_gauge(factors)
        with pytest.raises(InputError, match="scale must hold 4 finite numbers other than 0"):
            sim.rescale(product_model, [1, 0, 1, 1])
        with pytest.raises(InputError, match="the transformation must be invertible"):
            sim.transform(product_model, np.ones((4, 4)))
        with pytest.raises(InputError, match="the transformation must be 4 x 4, got 3 x 4"):
            sim.transform(product_model, np.ones((3, 4)))
        with pytest.raises(InputError, match="kind must be one of balanced"):
            sim.canonical_gauge(product_model, "best")


def reachable(b, c, n=400):
    """Smallest and largest cosine over weights on every two dimensions, all others nearly nothing."""
    if len(b) == 1:
        return cosine(b, c), cosine(b, c)
    ends = []
    for first in range(len(b)):
        for second in range(first):
            for log_ratio in np.linspace(-60, 60, n):
                weights = np.full(len(b), 1e-40)
                weights[first], weights[second] = np.exp(log_ratio / 2), np.exp(-log_ratio / 2)
                ends.append(cosine(np.sqrt(weights) * b, np.sqrt(weights) * c))
    return min(ends), max(ends)


ROWS = {
    "both signs": ([1.0, 2, 3], [2.0, -1, 1]),
    "all positive": ([1.0, 2, 3], [2.0, 1, 0.5]),
    "all negative": ([1.0, -2, 3], [-2.0, 1, -0.5]),
    "parallel": ([1.0, -2, 3], [2.0, -4, 6]),
    "one vanishes": ([1.0, 2, 0], [2.0, 1, 3]),
    "one vanishes, negative": ([1.0, 2, 4], [-2.0, -1, 0]),
    "both vanish": ([1.0, 0, 2], [3.0, 0, 2]),
    "nothing in common": ([1.0, 2, 0], [0.0, 0, 3]),
    "far apart": ([1e-9, 1.0], [1.0, 1e-9]),
    "one dimension": ([2.0], [-3.0]),
}


class TestCosineRange:
    @pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
    def test_equals_a_search_over_weights(self, rows):
        b, c = map(np.array, rows)
        low, high = sim.cosine_range(np.stack([b, c]), 0, 1)
        np.testing.assert_allclose((low, high), reachable(b, c), atol=2e-3)

    def test_formula_of_cassels(self):
        low, high = sim.cosine_range([[1.0, 1.0], [1.0, 8.0]], 0, 1)
        assert low == pytest.approx(2 * np.sqrt(8) / 9, rel=1e-12) and high == 1

    def test_no_random_gauge_leaves_it_and_some_come_near_its_ends(self, rng):
        items = rng.normal(size=(12, 3)) * [1, 2, 0.5]
        items[:6] = np.abs(items[:6])
        i, j = np.triu_indices(12, 1)
        low, high = sim.cosine_range(items, i, j)
        assert ((low == -1) & (high == 1)).any() and (low > 0).any()
        smallest, largest = np.full(len(i), 2.0), np.full(len(i), -2.0)
        for scale in np.exp(rng.normal(size=(10_000, 3)) * rng.choice([0.5, 2, 6], (10_000, 1))):
            unit = items / scale
            unit /= np.linalg.norm(unit, axis=1, keepdims=True)
            found = np.sum(unit[i] * unit[j], axis=1)
            smallest, largest = np.minimum(smallest, found), np.maximum(largest, found)
        assert (smallest >= low - 1e-12).all() and (largest <= high + 1e-12).all()
        assert (smallest - low).max() < 0.02 and (high - largest).max() < 0.02

    def test_shapes_symmetry_and_zero_rows(self, rng):
        items = rng.normal(size=(5, 4))
        items[3] = 0
        low, high = sim.cosine_range(items, np.arange(5)[:, None], np.arange(5)[None, :])
        assert low.shape == high.shape == (5, 5)
        np.testing.assert_array_equal(low, low.T)
        assert np.isnan(low[3]).all() and np.isnan(high[:, 3]).all() and not np.isnan(high[0, :3]).any()
        assert low[0, 0] == high[0, 0] == 1
        assert all(isinstance(end, float) for end in sim.cosine_range(items, 0, 1))

    @settings(max_examples=60)
    @given(st.data())
    def test_cosines_lie_within(self, draw):
        numbers = st.sampled_from([0.0, 1e-6, 0.5, 1.0, 3.0, -1e-6, -0.5, -1.0, -3.0, 1e6])
        rows = np.array(draw.draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=2)))
        scale = np.array(draw.draw(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3)))
        low, high = sim.cosine_range(rows, 0, 1)
        assert np.isnan(low) == (not rows.any(axis=1).all())
        if not np.isnan(low):
            assert low - 1e-9 <= cosine(rows[0] / scale, rows[1] / scale) <= high + 1e-9

    def test_bad_input(self):
        for wrong in (5, -1, 0.5):
            with pytest.raises(InputError, match="items must be whole numbers from 0 to 2"):
                sim.cosine_range(np.ones((3, 2)), wrong, 0)


class TestLists:
    def test_reconstruction_is_the_cosine_of_columns_of_scores_in_every_gauge(self, x, data, product_model, mixing):
        expected = cosines((x @ product_model.encoder @ product_model.decoder.T).T)
        moved = sim.transform(product_model, mixing)
        users = x @ moved.encoder
        for found in (
            sim.reconstruction_cosine(product_model, data),
            sim.reconstruction_cosine(moved, x.T @ x),
            sim.reconstruction_cosine((users, moved.decoder)),
            sim.reconstruction_cosine((moved.encoder, moved.decoder), data),
        ):
            np.testing.assert_allclose(found, expected, atol=1e-9)

    @pytest.mark.parametrize("choice", CHOICES)
    def test_lists_are_sorted_cosines(self, data, product_model, choice):
        vectors = sim.item_vectors(product_model, choice, data)
        expected = cosines(vectors)
        np.fill_diagonal(expected, -np.inf)
        found = sim.similar_items(product_model, [7, 2], 5, choice=choice, data=data)
        for item, items, scores in zip((7, 2), *found, strict=True):
            np.testing.assert_array_equal(items, np.argsort(-expected[item])[:5])
            np.testing.assert_allclose(scores, expected[item][items], rtol=1e-6)

    def test_zero_items_ties_and_long_lists(self, monkeypatch):
        items = np.array([[1.0, 0], [0, 0], [2.0, 0], [3.0, 0], [0, 1.0]])
        expected = [
            [2, 3, 4, 5, 5, 5],
            [5] * 6,
            [0, 3, 4, 5, 5, 5],
            [0, 2, 4, 5, 5, 5],
            [0, 2, 3, 5, 5, 5],
        ]
        found = sim.similar_items((items, items), k=6, choice="as_given")
        assert found.items.tolist() == expected and found.scores[0, 0] == 1 and found.scores[1, 0] == -np.inf
        monkeypatch.setattr("jaxrec.similarity.lists.BLOCK_BYTES", 80)
        np.testing.assert_array_equal(sim.similar_items((items, items), k=6, choice="as_given").items, expected)
        assert np.isnan(sim.cosines(items)[1]).all() and sim.cosines(items, [4]).shape == (1, 5)

    def test_bad_input(self, product_model, data):
        with pytest.raises(InputError, match="choice must be one of as_given"):
            sim.similar_items(product_model, choice="cosine")
        with pytest.raises(InputError, match="a reconstruction needs data"):
            sim.reconstruction_cosine(product_model)
        with pytest.raises(InputError, match="the encoder has 80 rows and the data 12 items"):
            sim.reconstruction_cosine((np.ones((80, 2)), np.ones((12, 2))), data)
        with pytest.raises(InputError, match="items must be whole numbers from 0 to 11"):
            sim.similar_items(product_model, [12], choice="as_given")


class TestSimulation:
    def test_is_what_it_says(self):
        data, clusters = sim.simulate_clusters(3000, 60, 3, seed=1)
        assert data.shape == (3000, 60) and (np.diff(clusters) >= 0).all() and len(np.unique(clusters)) == 3
        assert data.is_binary and data.user_counts.min() >= 1 and data.user_counts.max() <= 15
        assert data.user_counts.mean() == pytest.approx(15 / 3 + 0.5, rel=0.1)  # x^-1/2 on (0, 1] has mean 1/3
        again = sim.simulate_clusters(3000, 60, 3, seed=1)
        assert again.data.fingerprint == data.fingerprint != sim.simulate_clusters(3000, 60, 3, seed=2).data.fingerprint
        x = data.to_csr(np.float64).toarray()
        together = cosines(x.T)
        same = clusters[:, None] == clusters[None, :]
        other = ~np.eye(60, dtype=bool)
        assert together[same & other].mean() > 1.5 * together[~same].mean()
        for cluster in range(3):
            counts = data.item_counts[clusters == cluster]
            assert counts[0] > counts[len(counts) // 2] > counts[-1]

    def test_histories_follow_the_chances(self):
        """One item at a time: how often each is drawn is its popularity within its cluster."""
        data, _ = sim.simulate_clusters(20_000, 4, 1, item_exponents=(1.0, 1.0), longest_history=1)
        expected = np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (1 + 1 / 2 + 1 / 3 + 1 / 4)
        np.testing.assert_allclose(data.item_counts / 20_000, expected, atol=0.015)

    def test_bad_input(self):
        with pytest.raises(InputError, match="n_clusters must be at least 1"):
            sim.simulate_clusters(10, 10, 0)
        with pytest.raises(InputError, match="longest_history must be at most n_items, 10, got 11"):
            sim.simulate_clusters(10, 10, 2, longest_history=11)
        with pytest.raises(InputError, match="user_exponent must be at least 0 and below 1"):
            sim.simulate_clusters(10, 10, 2, user_exponent=1.0)


class TestPlots:
    def test_writes_an_image(self, product_model, tmp_path):
        panels = {name: sim.cosines(sim.item_vectors(product_model, name)) for name in KINDS}
        path = tmp_path / "cosines.png"
        sim.heat_maps(panels, path, clusters=[0] * 5 + [1] * 7, title="cosines", per_row=2)
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000

    def test_refusals(self, tmp_path, monkeypatch):
        with pytest.raises(InputError, match="at least one panel"):
            sim.heat_maps({}, tmp_path / "a.png")
        with pytest.raises(InputError, match="the plot cannot be written"):
            sim.heat_maps({"a": np.eye(3)}, tmp_path / "a.nonsense")
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(InputError, match=r"pip install 'jaxrec\[plots\]'"):
            sim.heat_maps({"a": np.eye(3)}, tmp_path / "a.png")
