"""Weighted ridge regressions: the three kernels and the host solver against one dense solve a row."""

import functools
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxrec import Interactions, Weights
from jaxrec.data import row_batches
from jaxrec.factorization import ridge
from jaxrec.factorization.ridge import host_cg, host_short_rows
from jaxrec.factorization.ridge.batches import positions
from jaxrec.runtime import blas, parallel

USERS, ITEMS, RANK = 37, 29, 6


@pytest.fixture
def data(rng) -> Interactions:
    """Counts; user 3 and item 5 are empty, user 7 has everything but that, lengths from 1 to 28."""
    x = rng.integers(1, 5, (USERS, ITEMS)) * (rng.random((USERS, ITEMS)) < rng.random((USERS, 1)))
    x[7] = 2
    x[3], x[:, 5] = 0, 0
    return Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=USERS, n_items=ITEMS)


WEIGHTS = {
    "constant": lambda x: Weights.constant(x, 2.0, unobserved_weight=0.3),
    "popular zeros": lambda x: Weights.popularity_zeros(x, 1.0, unobserved_weight=1.5),  # some S below 0
    "activity": lambda x: Weights.user_activity(x, -0.5, alpha=1.0),
}
weighted = pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)
FOLD = ridge.FoldIn(0.2, 0.7, 1.0, None)


def by_dense_solves(data, weights, factors, share, reg=0.2, exponent=0.7):
    """Each user's regression on all items, from the definition of the loss: W on every cell, target 1 or 0."""
    x, w = data.to_csr(np.float64).toarray() > 0, weights.to_dense(data)
    base = np.outer(weights.row, weights.col)
    factors = np.asarray(factors, np.float64)
    found = np.zeros((data.n_users, factors.shape[1]))
    for u in range(data.n_users):
        strength = reg * (x[u].sum() + base[u].sum()) ** exponent
        left = factors.T @ (w[u][:, None] * factors) + strength * np.eye(factors.shape[1])
        target = w[u] - (1 - share) * base[u]
        found[u] = np.linalg.solve(left, factors.T @ (target * x[u]))
    return found


def loss_by_dense(rows, factors, y):
    """The sums of `Solved` from its formulas, row by row."""
    gram = factors.T @ (rows.col[:, None] * factors)
    entries = everywhere = penalty = 0.0
    for u in range(len(y)):
        at = slice(rows.indptr[u], rows.indptr[u + 1])
        predicted = factors[rows.indices[at]] @ y[u]
        entries += np.sum(rows.weights[at] * predicted**2 - 2 * rows.targets[at] * predicted)
        everywhere += rows.scale[u] * y[u] @ gram @ y[u]
        penalty += rows.ridge[u] * y[u] @ y[u]
    return entries, everywhere, penalty


compiled = functools.cache(jax.jit)


def run(kernel, rows, factors, start, *steps):
    """A kernel over all batches of one side."""
    shapes = ridge.shapes([rows], RANK, square=True)
    own, size = positions(rows.counts, 1)
    gram = ridge.gram(factors, rows.col)
    y, sums = np.zeros(start.shape), np.zeros(6)
    for batch in ridge.batches(rows, own, np.arange(len(factors)), size, shapes, parallel.default_mesh()):
        begun = jnp.asarray(start).at[batch.at].get(mode="fill", fill_value=0)
        solved = compiled(kernel)(batch.systems, jnp.asarray(factors)[batch.systems.items], gram, begun, *steps)
        real = np.asarray(batch.at) < size
        y[np.asarray(batch.at)[real]] = np.asarray(solved.factors)[real]
        sums += np.array([float(part) for part in solved[1:]])
    return ridge.Solved(y, *sums)


KERNELS = {
    "cholesky": ridge.cholesky,
    "conjugate gradients": partial(ridge.conjugate_gradient, steps=3 * RANK),
    "one block": partial(ridge.block_sweep, size=RANK),
    "blocks of 4": partial(ridge.block_sweep, size=4, sweeps=400),
    "coordinates": partial(ridge.block_sweep, size=1, sweeps=600),
}


@weighted
@pytest.mark.parametrize("share", (0.0, 1.0))
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_equal_dense_solves(data, make, share, kernel, rng, x64):
    weights, factors = make(data), rng.normal(size=(ITEMS, RANK))
    fold = ridge.FoldIn(0.2, 0.7, share, None)
    rows = fold.rows(data, weights)
    found = run(KERNELS[kernel], rows, factors, rng.normal(size=(USERS, RANK)))
    expected = by_dense_solves(data, weights, factors, share)
    np.testing.assert_allclose(found.factors, expected, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(found[4:], loss_by_dense(rows, factors, expected), rtol=1e-7)
    assert found.after < 1e-14 * found.right < found.before


@weighted
@pytest.mark.parametrize("share", (0.0, 1.0))
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 1e-4)])
def test_host_equals_dense_solves(data, make, share, dtype, tolerance, rng):
    weights, factors = make(data), rng.normal(size=(ITEMS, RANK)).astype(dtype)
    rows = ridge.FoldIn(0.2, 0.7, share, None).rows(data, weights)
    gram = np.asarray(factors.T @ (rows.col[:, None] * factors), dtype)
    start = rng.normal(size=(USERS, RANK)).astype(dtype)
    found = ridge.solve_on_host(rows, factors, gram, start)
    expected = by_dense_solves(data, weights, factors, share)
    np.testing.assert_allclose(found.factors, expected, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(found[4:], loss_by_dense(rows, factors, expected), rtol=10 * tolerance)
    np.testing.assert_array_equal(found.factors, ridge.solve_on_host(rows, factors, gram).factors)
    with jax.enable_x64(dtype is np.float64):
        other = run(ridge.cholesky, rows, factors, start)
    np.testing.assert_allclose(found[1:2] + found[3:], other[1:2] + other[3:], rtol=10 * tolerance)


@weighted
@pytest.mark.parametrize("share", (0.0, 1.0))
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 1e-4)])
def test_rows_with_few_entries_are_solved_by_their_entries(data, make, share, dtype, tolerance, rng, monkeypatch):
    """By n x n equations, more exactly than by K x K ones, which solve the rows that they cannot."""
    rank = 60
    weights, factors = make(data), rng.normal(size=(ITEMS, rank)).astype(dtype)
    rows = ridge.FoldIn(0.2, 0.7, share, None).rows(data, weights)
    gram = np.asarray(factors.T @ (rows.col[:, None] * factors), dtype)
    start = rng.normal(size=(USERS, rank)).astype(dtype)
    few = host_short_rows.has_few(rows, rank)
    below = np.array([(rows.weights[a:b] < 0).any() for a, b in itertools.pairwise(rows.indptr)])
    np.testing.assert_array_equal(few, (rows.counts <= 20) & ~below)
    assert few.any() and not few.all()
    expected = by_dense_solves(data, weights, factors, share)
    found = ridge.solve_on_host(rows, factors, gram, start)
    np.testing.assert_allclose(found.factors, expected, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(found[4:], loss_by_dense(rows, factors, expected), rtol=10 * tolerance)
    monkeypatch.setattr(host_short_rows, "SHORT_ROW_SHARE", -1)
    other = ridge.solve_on_host(rows, factors, gram, start)
    np.testing.assert_allclose(found[1:2] + found[3:], other[1:2] + other[3:], rtol=10 * tolerance)
    errors = [np.abs(each.factors - expected)[few].max(initial=0) for each in (found, other)]
    assert errors[0] <= errors[1] + 10 * np.finfo(dtype).eps * np.abs(expected).max()


def test_rows_without_a_ridge_are_left_to_cholesky(data):
    rows = ridge.FoldIn(0.0, 0.0, 1.0, None).rows(data, Weights.constant(data, 2.0))
    assert not host_short_rows.has_few(rows, 1000).any()
    rows = ridge.FoldIn(0.1, 0.0, 1.0, None).rows(data, Weights.constant(data, 2.0))
    assert host_short_rows.has_few(rows, 1000).all()
    some = np.arange(USERS) % 3 == 1
    part = rows.take(some)
    assert part.counts.tolist() == rows.counts[some].tolist() and len(part.col) == ITEMS
    whole = np.split(rows.indices, rows.indptr[1:-1])
    np.testing.assert_array_equal(part.indices, np.concatenate([whole[u] for u in np.flatnonzero(some)]))


@weighted
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-3)])
def test_steps_on_the_host_equal_those_of_the_kernel(data, make, dtype, tolerance, rng):
    """Three of them, the sums too; and as many as it takes give the exact solution."""
    rows = FOLD.rows(data, make(data))
    factors, start = (rng.normal(size=(n, RANK)).astype(dtype) for n in (ITEMS, USERS))
    gram = np.asarray(factors.T @ (rows.col[:, None] * factors), dtype)
    with jax.enable_x64(dtype is np.float64):
        cut = ridge.chunks(rows, RANK)
        expected = run(ridge.conjugate_gradient, rows, factors, start, 3)
    found = ridge.steps_on_host(cut, factors, gram, start, 3)
    assert found.factors.dtype == dtype
    size = np.abs(expected.factors).max()
    np.testing.assert_allclose(found.factors, expected.factors, atol=tolerance * size)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=tolerance)
    exact = by_dense_solves(data, make(data), factors, 1.0)
    solved = ridge.steps_on_host(cut, factors, gram, start, 40)
    np.testing.assert_allclose(solved.factors, exact, atol=tolerance * np.abs(exact).max())


def test_the_weights_alone_bound_the_steps(data, rng, x64):
    """However badly scaled the factors are: the error in the norm of the system falls by CG's bound at 1 + alpha."""
    alpha, steps = 4.0, 6
    rows = FOLD.rows(data, Weights.constant(data.binarised(), alpha))
    factors = rng.normal(size=(ITEMS, RANK)) * np.logspace(-3, 3, RANK)
    exact = by_dense_solves(data.binarised(), Weights.constant(data.binarised(), alpha), factors, 1.0)
    gram = factors.T @ (rows.col[:, None] * factors)
    found = ridge.steps_on_host(ridge.chunks(rows, RANK), factors, gram, np.zeros((USERS, RANK)), steps).factors
    root = np.sqrt(1 + alpha)
    bound = 2 * ((root - 1) / (root + 1)) ** steps
    for user in np.flatnonzero(data.user_counts):
        own = slice(rows.indptr[user], rows.indptr[user + 1])
        near = factors[rows.indices[own]]
        system = rows.scale[user] * gram + rows.ridge[user] * np.eye(RANK) + near.T @ (rows.weights[own, None] * near)
        error = found[user] - exact[user]
        assert error @ system @ error <= (1.001 * bound) ** 2 * (exact[user] @ system @ exact[user])


def test_chunks_hold_every_entry_and_little_else(rng, monkeypatch):
    x = rng.random((200, 90)) < rng.random((200, 1)) ** 3
    data = Interactions.from_triples(*np.nonzero(x), n_users=200, n_items=90)
    rows = FOLD.rows(data, Weights.constant(data, 2.0))
    monkeypatch.setattr(host_cg, "CHUNK_NUMBERS", 400 * RANK)
    cut = ridge.chunks(rows, RANK)
    assert sorted(np.concatenate([chunk.at for chunk in cut])) == np.flatnonzero(rows.counts).tolist()
    assert sum(float(chunk.targets.sum()) for chunk in cut) == pytest.approx(rows.targets.sum())
    assert max(chunk.items.size for chunk in cut) <= 400 and sum(chunk.items.size for chunk in cut) < 1.1 * data.nnz


def test_blas_threads_are_given_back():
    """In all OpenBLAS there are; two threads may ask at once."""
    counts = lambda: [get() for get, _ in blas.thread_counts()]  # noqa: E731
    before = counts()
    for _, put in blas.thread_counts():
        put(2)
    with blas.one_thread():
        with blas.one_thread():
            assert set(counts()) <= {1}
        assert set(counts()) <= {1}
    assert set(counts()) <= {2}
    for (_, put), count in zip(blas.thread_counts(), before, strict=True):
        put(count)


@weighted
def test_items_are_the_users_of_the_transposed_matrix(data, make):
    weights = make(data)
    rows = FOLD.rows(data, weights)
    items = ridge.transposed(rows, data.item_counts, FOLD)
    turned = Interactions.from_csr(data.to_csr().T.tocsr())
    again = Weights(weights.col, weights.row, np.asarray(weights.sparse(data).T.tocsr().data))
    expected = FOLD.rows(turned, again)
    for found, wanted in zip(items, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_without_targets_are_zero_and_nothing_is_nan(kernel):
    """Entries without weight, no ridge at all and factors of 0 give 0, not 0/0."""
    systems = ridge.RegressionBatch(jnp.zeros((3, 8), int), *jnp.zeros((2, 3, 8)), jnp.array([1.0, 0, 0]), jnp.zeros(3))
    near = jnp.zeros((3, 8, RANK)).at[0].set(1.0)
    found = KERNELS[kernel](systems, near, jnp.eye(RANK), jnp.ones((3, RANK)))
    np.testing.assert_array_equal(found.factors, 0)
    assert all(np.isfinite(float(part)) for part in found[1:])


def test_steps_never_raise_the_loss(data, rng, x64):
    factors = rng.normal(size=(ITEMS, RANK))
    rows = FOLD.rows(data, Weights.constant(data, 5.0))
    start = rng.normal(size=(USERS, RANK))

    for kernel in (ridge.conjugate_gradient, lambda *given: ridge.block_sweep(*given[:4], 2, given[4])):
        found = [run(kernel, rows, factors, start, n) for n in range(8)]
        losses = [one.entries + one.everywhere + one.penalty for one in found]
        assert all(after <= before + 1e-9 * abs(before) for before, after in itertools.pairwise(losses))
        assert losses[7] < losses[0] - 1


def test_histories_of_unseen_users_make_the_same_systems(data, rng):
    weights = Weights.user_activity(data, -0.5, alpha=1.0)
    factors = rng.normal(size=(ITEMS, RANK)).astype(np.float32)
    rule = jax.tree.map(np.float32, weights.rule)
    fold = ridge.FoldIn(0.2, 0.7, 1.0, np.float32(weights.col.sum()), rule)
    (batch,) = row_batches(data, 40)
    systems = jax.jit(lambda f, b: f.systems(b))(fold, batch)
    solved = ridge.cholesky(
        systems, jnp.asarray(factors)[systems.items], ridge.gram(factors, rule.col), jnp.zeros((40, RANK))
    )
    expected = by_dense_solves(data, weights, factors, 1.0)
    np.testing.assert_allclose(solved.factors[:USERS], expected, atol=1e-4)
    np.testing.assert_array_equal(solved.factors[USERS:], 0)


def test_shapes_are_few_and_shared(data):
    users = FOLD.rows(data, Weights.constant(data, 1.0))
    items = ridge.transposed(users, data.item_counts, FOLD)
    cut = ridge.shapes([users, items], RANK)
    assert set(cut.batch) == {8, 16, 32} and all(b & (b - 1) == 0 for b in cut.batch.values())
    for side in (users, items):
        own, size = positions(side.counts, 1)
        made = list(ridge.batches(side, own, np.arange(len(side.col)), size, cut, parallel.default_mesh()))
        assert {batch.systems.items.shape for batch in made} <= {(b, width) for width, b in cut.batch.items()}
        seen = np.concatenate([np.asarray(batch.at) for batch in made])
        assert sorted(seen[seen < size]) == np.flatnonzero(side.counts).tolist()
        assert sum(float(batch.systems.targets.sum()) for batch in made) == pytest.approx(side.targets.sum())


def test_all_devices_get_rows_of_all_lengths(rng):
    counts = rng.integers(0, 100, 43)
    at, size = positions(counts, 8)
    assert size == 48 and len(set(at)) == 43
    totals = np.bincount(at // 6, weights=counts, minlength=8)
    assert totals.max() - totals.min() <= counts.max()


@pytest.mark.parametrize("platform", ("cpu", "cuda", "tpu"))
@pytest.mark.parametrize("kernel", ("cholesky", "conjugate gradients", "blocks of 4"))
def test_kernels_lower_for_every_platform(platform, kernel):
    floats = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    systems = ridge.RegressionBatch(
        jax.ShapeDtypeStruct((4, 8), jnp.int32), floats((4, 8)), floats((4, 8)), floats((4,)), floats((4,))
    )
    arguments = systems, floats((4, 8, RANK)), floats((RANK, RANK)), floats((4, RANK))
    assert export.export(jax.jit(KERNELS[kernel]), platforms=[platform])(*arguments).mlir_module()


# -- errors -----------------------------------------------------------------------------------------------------------


@weighted
@pytest.mark.parametrize("sample", (64, 24))
def test_row_errors_are_what_the_predictions_lack(data, rng, monkeypatch, make, sample):
    """Against dense solutions of all rows; of a part of them nearly so."""
    monkeypatch.setattr(ridge.errors, "SAMPLE", sample)
    weights, factors = make(data), rng.normal(size=(ITEMS, RANK))
    exact = by_dense_solves(data, weights, factors, 1.0)
    solved = exact + 1e-3 * rng.normal(size=exact.shape)
    solved[3] = 0
    rows, w = FOLD.rows(data, weights), weights.to_dense(data)
    strength = 0.2 * (data.user_counts + weights.row * weights.col.sum()) ** 0.7
    gradient = (w * (solved @ factors.T - (data.to_csr().toarray() > 0))) @ factors + strength[:, None] * solved
    found = ridge.row_errors(rows, solved, factors, gradient)
    wrong, size = (np.linalg.norm(part @ factors.T, axis=1) for part in (solved - exact, solved))
    true = np.linalg.norm(wrong) / np.linalg.norm(size)
    assert found.whole == pytest.approx(true, rel=1e-6 if sample == 64 else 0.3)
    least = 0.01 * np.sqrt(np.mean(size**2))
    worst = np.max(wrong / np.maximum(size, least))
    assert found.worst == pytest.approx(worst, rel=1e-6) if sample == 64 else found.worst <= worst * (1 + 1e-6)


def test_a_row_that_is_not_determined_has_an_infinite_error(data, rng):
    factors = np.zeros((ITEMS, RANK))
    rows = FOLD.rows(data, Weights.uniform(data))._replace(ridge=np.zeros(USERS))
    solved = rng.normal(size=(USERS, RANK))
    assert ridge.row_errors(rows, solved, factors, solved) == (float("inf"), float("inf"))
