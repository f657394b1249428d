"""Batches of padded rows against the sparse matrix they came from."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec import Interactions
from jaxrec.data import RowBatch, batching, row_batches
from jaxrec.data.batching import PackedBatch, packed_length, packed_rows, padded_rows


@pytest.fixture
def data(rng):
    """23 users of very different histories, the empty one included; item 0 is used."""
    dense = rng.integers(1, 5, (23, 40)) * (rng.random((23, 40)) < rng.random((23, 1)) ** 3)
    dense[4] = 0
    dense[:3, 0] = 2
    return Interactions.from_csr(sp.csr_array(dense.astype(np.float32)))


@partial(jax.jit, static_argnums=1)
def dense_of(batch, n_items):
    return batch.dense(n_items)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
@pytest.mark.parametrize("by_length", [False, True])
def test_batches_hold_every_user_once(data, batch_size, by_length):
    dense = data.to_csr().toarray()
    seen = []
    for batch in row_batches(data, batch_size, by_length=by_length):
        assert batch.rows.shape == (batch_size,)
        rows = np.asarray(batch.rows)
        expected = np.where(rows[:, None] >= 0, dense[rows], 0)
        np.testing.assert_array_equal(dense_of(batch, data.n_items), expected)
        seen += rows[rows >= 0].tolist()
    assert sorted(seen) == list(range(23))
    assert seen == list(range(23)) or by_length
    assert (np.diff(data.user_counts[seen]) >= 0).all() or not by_length


@pytest.mark.parametrize("by_length", [False, True])
def test_padding_contract(data, by_length):
    for batch in row_batches(data, 4, by_length=by_length):
        rows, items, values = map(np.asarray, (batch.rows, batch.items, batch.values))
        assert (rows.dtype, items.dtype, values.dtype) == (np.int32, np.int32, np.float32)
        counts = np.where(rows >= 0, data.user_counts[rows], 0)
        padded = np.arange(items.shape[1]) >= counts[:, None]
        assert (items[padded] == 0).all() and (values[padded] == 0).all() and (values[~padded] != 0).all()
        width = items.shape[1]
        assert width & (width - 1) == 0 and max(1, counts.max()) <= width < 2 * max(1, counts.max())


def test_order_within_the_user_is_kept():
    data = Interactions.from_lists([[3, 0, 2]], 4)
    (batch,) = row_batches(data, 2)
    assert batch.items.tolist() == [[3, 0, 2, 0], [0, 0, 0, 0]] and batch.rows.tolist() == [0, -1]


def test_sorting_by_length_pads_less(data):
    padded = [sum(batch.items.size for batch in row_batches(data, 4, by_length=sort)) for sort in (False, True)]
    assert padded[1] < padded[0]


def test_no_users():
    assert list(row_batches(Interactions.from_lists([], 3), 4)) == []


def test_a_batch_is_a_pytree_that_can_be_traced(data):
    batch = next(row_batches(data, 8))
    leaves, tree = jax.tree.flatten(batch)
    assert len(leaves) == 3 and isinstance(tree.unflatten(leaves), RowBatch)
    traced = jax.jit(lambda b: b.dense(data.n_items, jnp.bfloat16))(batch)
    assert traced.dtype == jnp.bfloat16
    np.testing.assert_array_equal(traced.astype(jnp.float32), batch.dense(data.n_items))


def test_wide_batches_have_fewer_rows(monkeypatch):
    lists = [[0]] * 9 + [list(range(16))] + [[1, 2]] * 6
    data = Interactions.from_lists(lists, items=16)
    monkeypatch.setattr(batching, "MOST_CELLS", 64)
    batches = list(row_batches(data, 8))
    assert all(batch.items.size <= 64 for batch in batches)
    assert np.concatenate([batch.rows[batch.rows >= 0] for batch in batches]).tolist() == list(range(16))
    dense = np.concatenate([np.asarray(dense_of(batch, 16))[batch.rows >= 0] for batch in batches])
    np.testing.assert_array_equal(dense, data.to_csr().toarray())


@pytest.mark.parametrize(("size", "parts", "length"), [(8, 1, 64), (9, 3, 7), (24, 8, 1), (23, 23, 3)])
def test_packed_rows_are_the_rows(data, rng, size, parts, length):
    users = rng.permutation(23)[: min(size, 23)]
    batch = packed_rows(data, users, size, length, parts)
    expected = np.zeros((size, 40))
    expected[: len(users)] = data.to_csr().toarray()[users]
    assert batch.rows.shape == (parts, size // parts) and batch.items.shape[1] % length == 0
    assert batch.rows.ravel().tolist() == [*users.tolist(), *[-1] * (size - len(users))]
    scores = rng.normal(size=(size, 40)).astype(np.float32)

    @jax.jit
    def found(batch, scores):
        totals = [batch.totals(values) for values in (batch.values**2, batch.values * batch.at(scores))]
        return batch.dense(40), *totals, batch.spread(jnp.arange(size))

    dense, squares, products, of_rows = found(batch, scores)
    np.testing.assert_array_equal(dense, expected)
    np.testing.assert_allclose(squares, (expected**2).sum(1))
    np.testing.assert_allclose(products, (expected * scores).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(of_rows, batch.owners + np.arange(parts)[:, None] * (size // parts))
    assert (np.diff(batch.owners) >= 0).all() and (batch.items[batch.values == 0] == 0).all()
    pieces = batch.pieces(5)
    assert pieces.items.shape[1:] == (parts, 5)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(pieces)]
    total = sum(dense_of(PackedBatch(*(leaf[k] for leaf in leaves)), 40) for k in range(len(pieces.items)))
    np.testing.assert_array_equal(total, expected)


def test_a_padded_batch_can_be_packed(data):
    batch = padded_rows(data, np.arange(6), 8, 64)
    packed = batch.packed()
    np.testing.assert_array_equal(packed.dense(40), batch.dense(40))
    np.testing.assert_array_equal(packed.totals(packed.values), batch.values.sum(1))
    assert packed.entries_per_row == 64 and packed.rows.ravel().tolist() == batch.rows.tolist()


def test_rows_without_entries_can_be_packed():
    data = Interactions.from_lists([[], [], [1]], 3)
    assert not packed_rows(data, np.arange(2), 2, 1).dense(3).any()
    assert packed_length(np.zeros(3, int), 2) == 32


def test_a_packed_length_is_seldom_exceeded(rng):
    counts = rng.geometric(0.03, 3000)
    length = packed_length(counts, 200)
    sums = [rng.choice(counts, 200, replace=False).sum() for _ in range(500)]
    assert max(sums) <= length < 1.5 * np.mean(sums)
    assert packed_length(counts, 3000) - 32 < counts.sum() <= packed_length(counts, 3000)
    one_long = np.r_[np.ones(999, int), 10_000]
    assert packed_length(one_long, 10) <= 10_032  # no more than there can be
