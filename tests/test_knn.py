"""Item-kNN: equal to loops over pairs and sorts, whatever the order of items."""

import jax
import numpy as np
import pytest

from jaxrec import InputError, Interactions, ItemKnn
from jaxrec.linear import knn


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


@pytest.mark.parametrize("neighbours", (1, 3, 29, 1000))
@pytest.mark.parametrize("shrinkage", (0.0, 7.5))
def test_weights_equal_the_definition(data, neighbours, shrinkage):
    x = data.to_csr(np.float64).toarray()
    found = np.asarray(ItemKnn(neighbours, shrinkage).fit(data).model.weights)
    np.testing.assert_allclose(found, literal(x, shrinkage, neighbours), atol=1e-6)
    assert not np.diag(found).any() and not found[:, 7].any()


def test_neighbours_stand_in_columns(data):
    found = np.asarray(ItemKnn(2).fit(data).model.weights)
    assert (np.count_nonzero(found, axis=0) <= 3).all() and np.count_nonzero(found, axis=1).max() > 3


def test_ties_stay_so_that_order_does_not_matter():
    data = Interactions.from_lists([[0, 1, 2, 3]] * 3, 4)
    np.testing.assert_allclose(ItemKnn(1, 0.0).fit(data).model.weights, 1 - np.eye(4), atol=1e-6)


def test_certificate_sees_a_wrong_value_and_a_wrong_neighbour(data):
    columns = np.arange(30)
    found = np.array(ItemKnn(3).fit(data).model.weights, np.float64)
    assert knn.residual(data, columns, found, 10.0, 3) < 1e-6
    assert knn.residual(data, columns, found * 1.001, 10.0, 3) > 1e-4
    assert knn.residual(data, columns, found, 10.0, 4) > 1e-3
    assert knn.residual(data, columns, np.array(ItemKnn(2).fit(data).model.weights), 10.0, 3) > 1e-3


def test_shrinkage_does_not_compile_anew(data):
    before = knn._weights._cache_size()
    for shrinkage in (1.0, 2.0, 3.0):
        ItemKnn(5, shrinkage).fit(data)
    assert knn._weights._cache_size() == before + 1
    jax.make_jaxpr(knn.weights, static_argnums=2)(np.eye(3, dtype=np.float32), 1.0, 2)


def test_bad_input_is_refused(data):
    with pytest.raises(InputError, match="neighbours must be at least 1"):
        ItemKnn(0)
    with pytest.raises(InputError, match="shrinkage must be a finite number"):
        ItemKnn(shrinkage=-1.0)
    negative = Interactions.from_triples([0, 1], [0, 1], [1.0, -2.0])
    with pytest.raises(InputError, match="must not be negative"):
        ItemKnn().fit(negative)
