"""Items with the same users tie exactly, wherever the weights lie."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxrec import Ease, Interactions, Lae, Slim, recommend, update
from jaxrec.closed_form import ties
from jaxrec.runtime import parallel

WHERE = {"host": {}, "jax": {"solver": "jax"}, "8 devices": {}}


@pytest.fixture
def data(rng) -> Interactions:
    """67 items of which 40 are copies of others, three to eleven of a kind, and two have no users."""
    x = rng.random((80, 67)) < 0.05 + 0.4 * rng.random(67) ** 2
    kinds = [range(0, 3), range(3, 14), range(14, 30), range(30, 40)]
    for kind in kinds:
        x[:, kind] = x[:, [kind[0]]]
    x[:, 50:52] = False
    x = x[:, np.random.default_rng(1).permutation(67)]
    return Interactions.from_triples(*np.nonzero(x), n_users=80, n_items=67)


def classes(data: Interactions) -> list[list[int]]:
    """Slow and literal: the items with equal nonzero columns, of at least two."""
    x, found = data.to_csr().toarray(), []
    for j in range(x.shape[1]):
        same = [k for k in range(x.shape[1]) if (x[:, k] == x[:, j]).all() and x[:, j].any()]
        if len(same) > 1 and same[0] == j:
            found.append(same)
    return found


def test_twins_are_the_items_with_equal_columns(data):
    found = ties.identical_items(data)
    expected = classes(data)
    assert sorted(found.items.tolist()) == sorted(j for same in expected for j in same)
    assert [sorted(part.tolist()) for part in np.split(found.items, found.starts[1:])] == expected
    assert all(len(set(found.kind[same])) == 1 for same in expected)
    assert len(np.unique(found.kind)) == data.n_items - sum(len(same) - 1 for same in expected)


def mean_over_permutations(weights: np.ndarray, data: Interactions) -> np.ndarray:
    """Slow and literal: the mean over all permutations of twins, block by block."""
    kinds = classes(data)
    kinds += [[j] for j in range(data.n_items) if not any(j in kind for kind in kinds)]
    out = np.zeros(weights.shape)
    for rows in kinds:
        for columns in kinds:
            block = weights[np.ix_(rows, columns)].astype(np.float64)
            if rows == columns and len(rows) > 1:
                own = np.trace(block) / len(rows)
                between = (block.sum() - np.trace(block)) / (len(rows) * (len(rows) - 1))
                out[np.ix_(rows, rows)] = between + (own - between) * np.eye(len(rows))
            else:
                out[np.ix_(rows, columns)] = block.mean()
    return out


@pytest.mark.parametrize("devices", (None, 1, 8))
@pytest.mark.parametrize("chunk", (4, 256))
def test_tying_is_the_mean_over_permutations(devices, chunk, data, rng, monkeypatch):
    monkeypatch.setattr(ties, "CHUNK", chunk)
    weights = rng.normal(size=(67, 67)).astype(np.float32) + 1e3 * np.eye(67, dtype=np.float32)
    expected = mean_over_permutations(weights, data)
    padded: Any = weights.copy()
    if devices:
        padded = np.pad(weights, (0, -67 % devices))
        padded = jax.device_put(
            padded, parallel.sharding(parallel.make_mesh(jax.devices()[:devices]), parallel.COLUMNS)
        )
    found = np.asarray(ties.tie(padded, ties.identical_items(data)))[:67, :67]
    off = ~np.eye(67, dtype=bool)
    np.testing.assert_allclose(found[off], expected[off], atol=1e-6)
    np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=1e-6)
    same = classes(data)[0]
    values = rng.random(67)
    assert np.ptp(ties.tie_entries(values, ties.identical_items(data))[same]) == 0


def test_other_values_are_no_twins():
    data = Interactions.from_triples([0, 0, 0, 1], [0, 1, 2, 3], [1, 2, 1, 1], n_users=2, n_items=4)
    assert ties.identical_items(data).items.tolist() == [0, 2]


@pytest.mark.parametrize("method", (Ease(3.0), Lae(3.0), Slim(3.0, 0.1)), ids=str)
@pytest.mark.parametrize("devices", (None, 1, 8))
def test_twins_have_one_column_and_one_weight_for_each_other(method, devices, data):
    mesh = devices and parallel.make_mesh(jax.devices()[:devices])
    weights = np.asarray(method.fit(data, devices=mesh).model.to_host().weights)
    plain = np.linalg.norm(weights)
    for same in classes(data):
        inside = weights[np.ix_(same, same)]
        diagonal = np.eye(len(same), dtype=bool)
        assert len(np.unique(inside[~diagonal])) == 1 and len(np.unique(inside[diagonal])) == 1
        outside = np.delete(weights, same, axis=0)[:, same]
        np.testing.assert_array_equal(outside, np.repeat(outside[:, :1], len(same), axis=1))
    assert plain > 0


def test_the_weights_move_by_rounding_only(data, monkeypatch):
    tied = Ease(3.0).fit(data).model.weights
    monkeypatch.setattr(ties, "tie", lambda weights, _: weights)
    free = Ease(3.0).fit(data).model.weights
    assert 0 < np.abs(tied - free).max() < 1e-6


def test_rankings_are_the_same_on_every_device(data):
    expected = None
    for devices in (None, 1, 2, 8):
        mesh = devices and parallel.make_mesh(jax.devices()[:devices])
        items = recommend(Ease(3.0).fit(data, devices=mesh).model, data, 20).items
        expected = items if expected is None else expected
        np.testing.assert_array_equal(items, expected)


def test_an_update_ties_the_twins_of_the_new_data():
    rng = np.random.default_rng(3)
    x = rng.random((60, 12)) < 0.4
    x[1:, 5] = x[1:, 4]
    x[0, [4, 5]] = [True, False]  # only the first user tells them apart
    data = Interactions.from_triples(*np.nonzero(x), n_users=60, n_items=12)
    weights = update(Ease(2.0).fit(data), data, removed=[0]).fitted.model.weights
    np.testing.assert_array_equal(np.delete(weights[:, 4], [4, 5]), np.delete(weights[:, 5], [4, 5]))
    assert weights[4, 5] == weights[5, 4]
