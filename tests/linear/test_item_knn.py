"""Item-kNN: equal to loops over pairs and sorts, whatever the order of items."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec import InputError, Interactions, ItemKnn
from jaxrec.data import row_batches
from jaxrec.linear import item_knn
from jaxrec.models import ItemWeights, SparseItemWeights
from jaxrec.runtime import parallel


@pytest.fixture
def data(rng) -> Interactions:
    x = (rng.random((60, 30)) < rng.random(30) ** 2) * rng.integers(1, 6, (60, 30))
    x[:, 7] = 0
    users, items = np.nonzero(x)
    return Interactions.from_triples(users, items, x[users, items], n_users=60, n_items=30)


def literal(x: np.ndarray, shrinkage: float, neighbours: int) -> np.ndarray:
    """Pair by pair, then a full sort of each column; ties with the last neighbour stay."""
    n = x.shape[1]
    weights = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            below = np.sqrt(x[:, i] @ x[:, i]) * np.sqrt(x[:, j] @ x[:, j]) + shrinkage
            if i != j and below > 0:
                weights[i, j] = x[:, i] @ x[:, j] / below
    for j in range(n):
        least = sorted(weights[:, j])[::-1][min(neighbours, n) - 1]
        weights[weights[:, j] < least - 1e-9, j] = 0
    return weights


def weights_of(fitted) -> np.ndarray:
    """[I, I], from the scores of histories of one item, on the host and by JAX."""
    n = fitted.model.n_items
    found = fitted.model.score_host(sp.eye_array(n, dtype=np.float32, format="csr"))
    (batch,) = row_batches(Interactions.from_lists([[item] for item in range(n)], n), n)
    np.testing.assert_allclose(found, fitted.model.score(batch), rtol=1e-6)
    return found


@pytest.mark.parametrize("devices", (None, 1))
@pytest.mark.parametrize("neighbours", (1, 3, 29, 1000))
@pytest.mark.parametrize("shrinkage", (0.0, 7.5))
def test_weights_equal_the_definition(data, neighbours, shrinkage, devices):
    x = data.to_csr(np.float64).toarray()
    found = weights_of(ItemKnn(neighbours, shrinkage).fit(data, devices and jax.devices()[:devices]))
    np.testing.assert_allclose(found, literal(x, shrinkage, neighbours), atol=1e-6)
    assert not np.diag(found).any() and not found[:, 7].any()


def test_on_the_host_the_model_is_sparse_and_made_in_blocks(data, monkeypatch):
    whole = item_knn.weights_on_host(data, 2.0, 3)
    assert (whole.data > 0).all() and whole.nnz < 30 * 8
    monkeypatch.setattr(item_knn, "BLOCK", 7)
    np.testing.assert_array_equal(item_knn.weights_on_host(data, 2.0, 3).toarray(), whole.toarray())
    assert isinstance(ItemKnn().fit(data).model, SparseItemWeights)
    assert isinstance(ItemKnn().fit(data, parallel.make_mesh()).model, ItemWeights)
    on_host, dense = (ItemKnn().plan(30_000, 41_000, 800_000, devices).total for devices in (None, jax.devices()[:1]))
    assert on_host < 2e9 < 2e10 < dense


def test_neighbours_stand_in_columns(data):
    found = weights_of(ItemKnn(2).fit(data))
    assert (np.count_nonzero(found, axis=0) <= 3).all() and np.count_nonzero(found, axis=1).max() > 3


def test_ties_stay_so_that_order_does_not_matter():
    data = Interactions.from_lists([[0, 1, 2, 3]] * 3, 4)
    np.testing.assert_allclose(weights_of(ItemKnn(1, 0.0).fit(data)), 1 - np.eye(4), atol=1e-6)


def test_certificate_sees_a_wrong_value_and_a_wrong_neighbour(data):
    columns = np.arange(30)
    found = weights_of(ItemKnn(3).fit(data)).astype(np.float64)
    assert item_knn.residual(data, columns, found, 10.0, 3) < 1e-6
    assert item_knn.residual(data, columns, found * 1.001, 10.0, 3) > 1e-4
    assert item_knn.residual(data, columns, found, 10.0, 4) > 1e-3
    assert item_knn.residual(data, columns, weights_of(ItemKnn(2).fit(data)), 10.0, 3) > 1e-3


def test_shrinkage_does_not_compile_anew(data):
    before = item_knn._weights._cache_size()
    for shrinkage in (1.0, 2.0, 3.0):
        ItemKnn(5, shrinkage).fit(data, jax.devices()[:1])
    assert item_knn._weights._cache_size() == before + 1
    jax.make_jaxpr(item_knn.weights, static_argnums=2)(np.eye(3, dtype=np.float32), 1.0, 2)


def test_bad_input_is_refused(data):
    with pytest.raises(InputError, match="neighbours must be at least 1"):
        ItemKnn(0)
    with pytest.raises(InputError, match="shrinkage must be a finite number"):
        ItemKnn(shrinkage=-1.0)
    negative = Interactions.from_triples([0, 1], [0, 1], [1.0, -2.0])
    with pytest.raises(InputError, match="must not be negative"):
        ItemKnn().fit(negative)
