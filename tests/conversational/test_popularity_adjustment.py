"""The two readings of CRAG's popularity adjustment, against their formulas."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp

import jaxrec
from jaxrec import InputError, Interactions
from jaxrec.conversational.crag import popularity


@pytest.fixture
def train(rng):
    matrix = (rng.random((60, 12)) < np.linspace(0.05, 0.6, 12)).astype(np.float64)
    matrix[0] = 1
    return Interactions.from_csr(sp.csr_array(matrix))


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_the_gram_matrix_is_scaled_from_both_sides(train, power):
    x = reference.dense(train)
    scale = np.diag(x.sum(axis=0) ** (-power / 2))
    scaled = popularity.scaled_gram(train, power)
    np.testing.assert_allclose(reference.gram(reference.dense(scaled)), scale @ x.T @ x @ scale, rtol=1e-6)
    weights = jaxrec.Ease(0.5, dtype="float64").fit(scaled).model.weights
    inverse = np.linalg.inv(scale @ x.T @ x @ scale + 0.5 * np.eye(12))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_scores_are_scaled_by_the_change_of_popularity(rng):
    weights, counts, recent = rng.normal(size=(4, 4)), np.array([8, 4, 4, 0]), np.array([2, 4, 2, 0])
    expected = weights * np.array([(2 / 8) / (8 / 16), (4 / 8) / (4 / 16), 1, 1]) ** 0.5
    np.testing.assert_allclose(popularity.rescaled(weights, counts, recent, 0.5), expected)
    np.testing.assert_allclose(popularity.rescaled(weights, counts, recent, 0), weights)
    assert popularity.rescaled(weights.astype(np.float32), counts, recent).dtype == np.float32


def test_what_it_refuses(train):
    with pytest.raises(InputError, match="power must be a finite number of at least 0"):
        popularity.scaled_gram(train, -1)
    for counts, recent, says in (
        ([1, 2], [1, 2, 3], "one for each column"),
        ([1, 2, -1], [1, 2, 3], "at least 0"),
        ([0, 0, 0], [1, 2, 3], "must not all be 0"),
    ):
        with pytest.raises(InputError, match=says):
            popularity.rescaled(np.eye(3), np.array(counts), np.array(recent))
