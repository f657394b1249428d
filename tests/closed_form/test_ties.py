"""Items with the same users tie exactly, wherever the weights lie."""

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
    assert found.items.tolist() == sorted(j for same in expected for j in same)
    for same in expected:
        at = np.isin(found.items, same)
        assert set(found.first[at]) == {same[0]} and set(found.second[at]) == {same[1]}
        assert len(set(found.kind[same])) == 1
    assert len(np.unique(found.kind)) == data.n_items - sum(len(same) - 1 for same in expected)


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
    monkeypatch.setattr(ties, "share_columns", lambda weights, _: weights)
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
