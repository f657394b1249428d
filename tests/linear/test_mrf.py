"""The sparse MRF against its definition, step by step and in float64, and against ridge regressions on the pattern."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from jax import export
from reference import abstract_batch

import jaxrec.models
from jaxrec import FitError, InputError, Interactions, Mrf, SparseItemWeights, evaluate, load_model, recommend, save
from jaxrec.data import row_batches
from jaxrec.evaluation.ranking import top_k
from jaxrec.linear.mrf import blocks, covariance
from jaxrec.linear.mrf import method as mrf
from jaxrec.linear.mrf import pattern as pattern_module
from jaxrec.linear.mrf.blocks import block_columns, block_columns_on_host
from jaxrec.linear.mrf.covariance import ScaledGram
from jaxrec.linear.mrf.pattern import cover, find_pattern, threshold_for

N_USERS, N_ITEMS = 200, 40


@pytest.fixture
def data(rng) -> Interactions:
    """Three tastes, popular and rare items, one item of nobody (7) and one of everybody (11)."""
    taste = rng.random((3, N_ITEMS)) ** 3
    x = rng.random((N_USERS, N_ITEMS)) < taste[rng.integers(0, 3, N_USERS)]
    x[:, 7], x[:, 11] = False, True
    return Interactions.from_triples(*np.nonzero(x), n_users=N_USERS, n_items=N_ITEMS)


@pytest.fixture(params=("dense counts", "mixed", "sparse counts"))
def cache(request, monkeypatch):
    """How many items count as popular: all, some, one."""
    entries = {"dense counts": 2**20, "mixed": 15**2, "sparse counts": 1}[request.param]
    monkeypatch.setattr(covariance, "CACHE_ENTRIES", entries)


def scaled(data: Interactions, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """S and the scales s, from centred and divided data; S = 0 and s = 1 for constant items."""
    x = data.to_csr(np.float64).toarray()
    centred = x - x.mean(axis=0)
    variance = np.sum(centred**2, axis=0)
    s = np.where(variance > 1e-9, variance, 1.0) ** (alpha / 2)
    z = np.where(variance > 1e-9, centred / s, 0)
    return z.T @ z, s


def reference(data, alpha, reg, threshold, r, cap=1000):
    """(B, pattern, number of blocks) by the steps of Steck 2019, one number at a time."""
    covariance, s = scaled(data, alpha)
    n = len(covariance)
    varies = np.diag(covariance) > 0
    kept = np.zeros((n, n), bool)
    for j in range(n):
        near = [i for i in range(n) if i != j and varies[i] and varies[j] and abs(covariance[i, j]) >= threshold]
        kept[sorted(near, key=lambda i: -abs(covariance[i, j]))[:cap], j] = True
    total, times = np.zeros((n, n)), np.zeros((n, n))
    done, n_blocks = ~kept.any(axis=0), 0
    variance = np.round(data.to_csr(np.float64).toarray().var(axis=0), 9)
    for i in sorted(range(n), key=lambda i: (-kept[:, i].sum(), -variance[i])):
        if done[i]:
            continue
        n_blocks += 1
        block = [i, *sorted(np.flatnonzero(kept[:, i]), key=lambda k: -abs(covariance[k, i]))]
        wanted = block[: max(1, int(np.ceil(r * len(block) - 1e-9)))]
        inverse = np.linalg.inv(covariance[np.ix_(block, block)] + reg * np.eye(len(block)))
        for b, j in enumerate(wanted_places := [block.index(j) for j in wanted]):
            for a, k in enumerate(block):
                total[k, wanted[b]] += -inverse[a, j] / inverse[j, j]
                times[k, wanted[b]] += 1
        done[wanted] = True
        assert len(wanted_places) == len(wanted)
    mean = np.divide(total, times, out=np.zeros_like(total), where=times > 0)
    return np.where(kept, mean, 0) * s[None, :] / s[:, None], kept, n_blocks


def restricted_ridge(data, alpha, reg, kept):
    """Per-column ridge regression of scaled data on the items of the pattern."""
    covariance, s = scaled(data, alpha)
    weights = np.zeros_like(covariance)
    for j in range(len(covariance)):
        near = np.flatnonzero(kept[:, j])
        if len(near):
            system = covariance[np.ix_(near, near)] + reg * np.eye(len(near))
            weights[near, j] = np.linalg.solve(system, covariance[near, j])
    return weights * s[None, :] / s[:, None]


def dense(model: SparseItemWeights) -> np.ndarray:
    """B as a matrix, entry by entry."""
    out = np.zeros((model.n_items, model.n_items))
    for i in range(model.n_items):
        for at in range(model.indptr[i], model.indptr[i + 1]):
            out[i, model.indices[at]] += model.values[at]
    return out


@pytest.mark.parametrize(
    "alpha", (pytest.param(0.0, marks=pytest.mark.slow), 0.75, pytest.param(1.0, marks=pytest.mark.slow))
)
@pytest.mark.parametrize("r", (0.0, 0.1, 0.5, 1.0))
def test_is_its_definition(data, alpha, r):
    s, _ = scaled(data, alpha)
    threshold = np.quantile(np.abs(s[~np.eye(N_ITEMS, dtype=bool)]), 0.8)
    wanted, kept, n_blocks = reference(data, alpha, 1.5, threshold, r)
    model, info = Mrf(1.5, alpha, threshold=threshold, r=r, dtype="float64").fit(data)
    np.testing.assert_allclose(dense(model), wanted, atol=1e-12)
    assert info.certificate.detail["blocks"] == n_blocks
    assert info.certificate.detail["density"] == kept.sum() / N_ITEMS**2
    on_jax = Mrf(1.5, alpha, threshold=threshold, r=r, solver="jax").fit(data).model
    np.testing.assert_allclose(dense(on_jax), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("r", (0.0, 0.3, 1.0))
def test_capped_columns(data, r):
    wanted, kept, _ = reference(data, 0.75, 1.0, 0.2, r, cap=4)
    assert kept.sum(axis=0).max() == 4 and (kept != kept.T).any()
    model = Mrf(1.0, threshold=0.2, r=r, max_in_column=4, dtype="float64").fit(data).model
    np.testing.assert_allclose(dense(model), wanted, atol=1e-12)


@pytest.mark.parametrize("r", (0.0, 0.5, 1.0))
def test_threshold_zero_is_dense(data, r):
    everything = np.ones((N_ITEMS, N_ITEMS), bool) & ~np.eye(N_ITEMS, dtype=bool)
    wanted = restricted_ridge(data, 0.75, 2.0, everything)
    for pattern in ({"threshold": 0.0}, {"density": 1.0}):
        model = Mrf(2.0, r=r, dtype="float64", **pattern).fit(data).model
        np.testing.assert_allclose(dense(model), wanted, atol=1e-12)


def test_r_zero_is_the_optimum_on_its_pattern(data, x64):
    fitted = Mrf(2.0, density=0.2, r=0.0, dtype="float64").fit(data)
    weights = dense(fitted.model)
    np.testing.assert_allclose(weights, restricted_ridge(data, 0.75, 2.0, weights != 0), atol=1e-12)
    assert fitted.info.certificate.residual < 1e-13

    varies = np.setdiff1d(np.arange(N_ITEMS), (7, 11))
    x, weights = data.to_csr(np.float64).toarray()[:, varies], weights[np.ix_(varies, varies)]
    gradient = jax.grad(mrf.objective, argnums=1)(jnp.asarray(x), jnp.asarray(weights), 0.75, 2.0)
    at_zero = jax.grad(mrf.objective, argnums=1)(jnp.asarray(x), jnp.zeros_like(weights), 0.75, 2.0)
    assert np.abs(gradient[weights != 0]).max() < 1e-12 * np.abs(at_zero).max()


def test_gap_is_the_true_one_and_grows_with_r(data):
    s, scales = scaled(data, 0.75)

    def loss(b):
        w = b * scales[:, None] / scales[None, :]
        return np.trace(s - 2 * w.T @ s + w.T @ (s + np.eye(N_ITEMS)) @ w)

    gaps, n_blocks = [], []
    best = loss(dense(Mrf(1.0, density=0.25, r=0.0, dtype="float64").fit(data).model))
    for r in (0.0, 0.1, 0.5, 1.0):
        model, info = Mrf(1.0, density=0.25, r=r, dtype="float64").fit(data)
        gaps.append(info.certificate.detail["objective gap over the pattern's optimum"])
        n_blocks.append(info.certificate.detail["blocks"])
        assert gaps[-1] == pytest.approx((loss(dense(model)) - best) / (np.trace(s) - best), abs=1e-12)
        assert info.certificate.detail["standard error of the gap"] == 0  # all columns were in the sample
    assert gaps[0] < 1e-20 < gaps[1] < gaps[2] and gaps[3] > 2 * gaps[1]
    assert (
        n_blocks[0] == np.any(dense(model), axis=0).sum()
        and n_blocks == sorted(n_blocks, reverse=True)
        and n_blocks[-1] < n_blocks[0] / 3
    )


def test_gap_of_a_sample_has_the_error_it_states(data):
    model, info = Mrf(1.0, density=0.25, r=0.5, dtype="float64").fit(data)
    true = info.certificate.detail["objective gap over the pattern's optimum"]
    scaled_gram = ScaledGram.of(data, 0.75)
    pattern = find_pattern(scaled_gram, info.certificate.detail["threshold"], 1000)
    weights = sp.csr_array((model.values, model.indices, model.indptr), shape=(N_ITEMS, N_ITEMS))
    seen = [mrf.stationarity(scaled_gram, pattern, weights, 1.0, 16, seed) for seed in range(60)]
    gaps, errors = (np.array([s[name] for s in seen]) for name in ("objective gap", "standard error of the gap"))
    assert np.mean(gaps) == pytest.approx(true, rel=0.1)
    assert np.std(gaps) == pytest.approx(np.mean(errors), rel=0.5)


@pytest.mark.parametrize("alpha", (0.0, 0.75))
def test_blocks_are_parts_of_the_scaled_gram(data, alpha, cache, rng):
    s, _ = scaled(data, alpha)
    found = ScaledGram.of(data, alpha)
    lists = [rng.permutation(N_ITEMS)[:size] for size in (9, 40, 1)]
    got = found.blocks(np.concatenate(lists), np.array([9, 40, 1]), 40, 0.5, np.float64)
    for items, block in zip(lists, got, strict=True):
        wanted = np.eye(40)
        wanted[40 - len(items) :, 40 - len(items) :] = s[np.ix_(items, items)] + 0.5 * np.eye(len(items))
        np.testing.assert_allclose(block, wanted, atol=1e-12 * s.max())
    np.testing.assert_allclose(found.columns(np.array([3, 11])), s[:, [3, 11]], atol=1e-12 * s.max())
    right = rng.normal(size=(N_ITEMS, 2))
    np.testing.assert_allclose(found.times(right), s @ right, atol=1e-10 * s.max())


@pytest.mark.parametrize("block_entries", (1, 100, 2**22))
@pytest.mark.parametrize("threshold", (0.0, 1e-3, 0.05, 0.6))
def test_pattern_is_found_block_by_block(rng, monkeypatch, block_entries, threshold):
    """Sparse enough that many pairs share no user: of these only the popular ones matter."""
    monkeypatch.setattr(pattern_module, "BLOCK_ENTRIES", block_entries)
    x = rng.random((100, 30)) < np.geomspace(0.5, 0.01, 30)
    x[0] = True
    x[0, ::2] = False
    data = Interactions.from_triples(*np.nonzero(x), n_users=100, n_items=30)
    s, _ = scaled(data, 0.75)
    wanted = (np.abs(s) >= threshold) & ~np.eye(30, dtype=bool) & np.outer(np.diag(s) > 0, np.diag(s) > 0)
    assert (wanted & (x.T.astype(int) @ x == 0)).any() == (threshold < 0.6)
    pattern = find_pattern(ScaledGram.of(data, 0.75), threshold, 1000)
    for j in range(30):
        near = pattern.items[pattern.indptr[j] : pattern.indptr[j + 1]]
        np.testing.assert_array_equal(near, np.flatnonzero(wanted[:, j]))
        strength = pattern.strength[pattern.indptr[j] : pattern.indptr[j + 1]]
        np.testing.assert_allclose(strength, np.abs(s[near, j]), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("density", (0.01, 0.1, 0.4))
def test_density_is_met(data, density, monkeypatch):
    def found():
        scaled_gram = ScaledGram.of(data, 0.75)
        return len(find_pattern(scaled_gram, threshold_for(scaled_gram, density), 1000).items) / N_ITEMS**2

    assert found() == pytest.approx(density, abs=3 / N_ITEMS**2)  # S is symmetric: entries come in pairs
    monkeypatch.setattr(pattern_module, "SAMPLE_ENTRIES", 1)
    monkeypatch.setattr(pattern_module, "FEWEST_COLUMNS", 20)
    assert found() == pytest.approx(density, rel=0.5)


def test_cover_reaches_every_item(data):
    pattern = find_pattern(ScaledGram.of(data, 0.75), 0.2, 1000)
    for r in (0.0, 0.2, 1.0):
        made = cover(pattern, r, np.arange(N_ITEMS))
        reached = [
            made.items[stop - wanted : stop] for stop, wanted in zip(made.indptr[1:], made.n_wanted, strict=True)
        ]
        has_neighbours = np.flatnonzero(np.diff(pattern.indptr))
        np.testing.assert_array_equal(np.unique(np.concatenate(reached)), has_neighbours)
        centres = made.items[made.indptr[1:] - 1]
        assert len(set(centres)) == len(centres)


@pytest.mark.parametrize("n_columns", (1, 3, 12))
def test_kernels_solve_padded_blocks(rng, n_columns, x64):
    grams = np.stack([np.eye(12)] * 4)
    for gram_, size in zip(grams, (12, 7, 1, 0), strict=True):
        z = rng.normal(size=(30, size))
        gram_[12 - size :, 12 - size :] = z.T @ z + np.eye(size)
    inverse = np.linalg.inv(grams)
    diagonal = np.einsum("njj->nj", inverse)
    wanted = np.where(np.eye(12) > 0, 0, -inverse / diagonal[:, None, :])[:, :, 12 - n_columns :]
    compiled = jax.jit(block_columns, static_argnames="n_columns")
    for found in (block_columns_on_host(grams, n_columns)[0], compiled(jnp.asarray(grams), n_columns)):
        np.testing.assert_allclose(found.weights, wanted, atol=1e-12)
        np.testing.assert_allclose(found.unexplained, 1 / diagonal[:, 12 - n_columns :], rtol=1e-12)


def test_kernels_say_where_a_block_is_not_positive_definite():
    grams = np.stack([np.eye(4), -np.eye(4)]).astype(np.float32)
    for found in (block_columns_on_host(grams.astype(np.float64), 2, np.float32)[0], block_columns(grams, 2)):
        np.testing.assert_array_equal(np.isfinite(found.unexplained), [[True, True], [False, False]])


def test_few_shapes_are_compiled(data):
    blocks._block_columns.clear_cache()
    for reg in (0.5, 1.0, 2.0):
        Mrf(reg, density=0.2, r=0.0, solver="jax").fit(data)
    assert blocks._block_columns._cache_size() <= 4
    assert [blocks._step(size) for size in (1, 8, 9, 17, 200)] == [8, 8, 16, 24, 224]


@pytest.mark.parametrize("entries", (7, 64, 2**16))
def test_scores_without_a_dense_matrix(data, entries, monkeypatch):
    monkeypatch.setattr(jaxrec.models, "ENTRIES_AT_ONCE", entries)
    for center in (False, True):
        model = Mrf(density=0.2, center=center).fit(data).model
        x = data.to_csr(np.float64).toarray()
        mean = x.mean(axis=0)
        wanted = mean + (x - mean) @ dense(model) if center else x @ dense(model)
        np.testing.assert_allclose(model.score_host(data.to_csr()), wanted, atol=1e-5)
        (batch,) = row_batches(data, N_USERS)
        np.testing.assert_allclose(jax.jit(lambda m, b: m.score(b))(model, batch), wanted, atol=1e-5)


def test_a_model_without_weights_scores_zero(data):
    model = SparseItemWeights(np.zeros(N_ITEMS + 1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    (batch,) = row_batches(data, N_USERS)
    assert not model.score_host(data.to_csr()).any() and not np.asarray(model.score(batch)).any()


def test_centred_model_is_saved_and_evaluated(data, tmp_path):
    fitted = Mrf(density=0.2, center=True).fit(data)
    save(tmp_path / "model", fitted)
    loaded = load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.model.offset, fitted.model.offset)
    for one, two in zip(recommend(loaded, data, 5), recommend(fitted, data, 5), strict=True):
        np.testing.assert_array_equal(one, two)
    assert evaluate(fitted, data, data, "recall@5", exclude_seen=False).mean["recall@5"] > 0


@pytest.mark.parametrize("platform", ("cpu", "cuda", "tpu"))
def test_lowers(platform):
    shape = jax.ShapeDtypeStruct
    grams = shape((4, 24, 24), jnp.float32)
    columns = jax.jit(lambda g: block_columns(g, 3))
    assert export.export(columns, platforms=[platform])(grams).platforms == (platform,)
    model = SparseItemWeights(shape((31,), jnp.int32), shape((200,), jnp.int32), shape((200,), jnp.float32))
    batch = abstract_batch(8, 4)
    best = jax.jit(lambda m, b: top_k(m, b, 10))
    assert export.export(best, platforms=[platform])(model, batch).platforms == (platform,)


def test_items_without_neighbours_are_counted(data):
    s, _ = scaled(data, 0.75)
    off = np.abs(s * (1 - np.eye(N_ITEMS))).max(axis=0)
    threshold = np.quantile(off, 0.3)
    model, info = Mrf(threshold=threshold).fit(data)
    assert info.certificate.detail["items without neighbours"] == (off < threshold).sum() > 2
    assert info.certificate.detail["constant items"] == 2
    assert not dense(model)[:, [7, 11]].any() and not dense(model)[[7, 11]].any()


def test_values_other_than_one(rng):
    x = rng.integers(0, 4, (60, 12)).astype(np.float64)
    data = Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=60, n_items=12)
    wanted, _, _ = reference(data, 0.75, 1.0, 0.1, 0.3)
    np.testing.assert_allclose(
        dense(Mrf(1.0, threshold=0.1, r=0.3, dtype="float64").fit(data).model), wanted, atol=1e-12
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"r": -0.1}, "r must lie between 0 and 1"),
        ({"r": 1.1}, "r must lie between 0 and 1"),
        ({"alpha": 2}, "alpha must lie between 0 and 1"),
        ({"alpha": float("nan")}, "alpha must lie between 0 and 1"),
        ({"density": 0.0}, "density must be above 0 and at most 1"),
        ({"density": 1.5}, "density must be above 0 and at most 1"),
        ({"density": 0.1, "threshold": 0.1}, "give one of them"),
        ({"threshold": -1.0}, "threshold must be a finite number of at least 0"),
        ({"reg": 0.0}, "reg must be above 0"),
        ({"max_in_column": 0}, "max_in_column must be at least 1"),
        ({"solver": "jax", "dtype": "float64"}, "use solver='host'"),
    ],
)
def test_bad_hyper_parameters(wrong, message):
    with pytest.raises(InputError, match=message):
        Mrf(**wrong)


def test_a_threshold_above_everything(data):
    with pytest.raises(InputError, match="no two items have a scaled covariance of 1e\\+03 or more; lower"):
        Mrf(threshold=1000.0).fit(data)


def test_copies_of_items_need_regularization(rng):
    x = np.repeat(rng.random((60, 6)) < 0.5, 2, axis=1)
    data = Interactions.from_triples(*np.nonzero(x), n_users=60, n_items=12)
    for r in (0.0, 0.5):
        with pytest.raises(FitError, match="raise reg"):
            Mrf(1e-15, r=r, threshold=0.0).fit(data)
    with pytest.raises(FitError, match="raise reg"):
        Mrf(1e-7, threshold=0.0, solver="jax").fit(data)
    found, kept = Mrf(1e-7, threshold=0.0).fit(data), ~np.eye(12, dtype=bool)
    expected = restricted_ridge(data, 0.75, 1e-7, kept)
    error = np.linalg.norm(dense(found.model) - expected) / np.linalg.norm(expected)
    assert error < 3 * found.info.certificate.detail["estimated error of the weights"] + 1e-6


def test_a_user_of_a_huge_value_is_no_crash(rng):
    x = (rng.random((40, 10)) < 0.4) * 1.0
    x[0] = 1e9
    data = Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=40, n_items=10)
    with pytest.raises(FitError, match=r"raise reg"):
        Mrf(alpha=0.0, density=1.0).fit(data)


@pytest.mark.parametrize("r", (0.0, 0.5))
def test_certificate_notices_wrong_weights(data, r, monkeypatch):
    solved = mrf.solve

    def spoiled(*arguments):
        return (right := solved(*arguments))._replace(values=right.values * (1.01 if r == 0 else -3))

    monkeypatch.setattr(mrf, "solve", spoiled)
    with pytest.raises(FitError, match="residual too large"):
        Mrf(density=0.2, r=r).fit(data)
