"""Batches of padded rows against the sparse matrix they came from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec import Interactions
from jaxrec.data import RowBatch, batching, row_batches


@pytest.fixture
def data(rng):
    """23 users of very different histories, the empty one included; item 0 is used."""
    dense = rng.integers(1, 5, (23, 40)) * (rng.random((23, 40)) < rng.random((23, 1)) ** 3)
    dense[4] = 0
    dense[:3, 0] = 2
    return Interactions.from_csr(sp.csr_array(dense.astype(np.float32)))


@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
@pytest.mark.parametrize("by_length", [False, True])
def test_batches_hold_every_user_once(data, batch_size, by_length):
    dense = data.to_csr().toarray()
    seen = []
    for batch in row_batches(data, batch_size, by_length=by_length):
        assert batch.rows.shape == (batch_size,)
        rows = np.asarray(batch.rows)
        expected = np.where(rows[:, None] >= 0, dense[rows], 0)
        np.testing.assert_array_equal(batch.dense(data.n_items), expected)
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
    dense = np.concatenate([batch.dense(16)[batch.rows >= 0] for batch in batches])
    np.testing.assert_array_equal(dense, data.to_csr().toarray())
