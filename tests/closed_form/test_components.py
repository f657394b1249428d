"""Components without each user: equal to those of the data without the user; and what must be 0 there."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec.closed_form.components import Components, cut_apart, item_components


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("density", [0.03, 0.08, 0.15, 0.3])
def test_every_user_is_taken_out_exactly(density):
    cuts = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 25, 2)
        x = sp.csr_array((rng.random(shape) < density).astype(np.float32))
        components = Components(x)
        one = True
        for user in range(shape[0]):
            rest = x[np.delete(np.arange(shape[0]), user)]
            expected = item_components(rest) if shape[0] > 1 else np.arange(shape[1])
            found = components.without(x.indices[x.indptr[user] : x.indptr[user + 1]])
            assert same_partition(expected, found)
            cuts += found is not components.labels
            one &= len(set(found[np.diff(rest.tocsc().indptr) > 0])) <= 1 and found is components.labels
        assert components.is_one == (one and len(set(components.labels[np.diff(x.tocsc().indptr) > 0])) <= 1)
    assert cuts > 3


def test_cutting_apart_keeps_what_is_linked(rng):
    labels = np.array([0, 1, 0, 2, 1, 0, 3, 0])
    matrix = rng.random((8, 8)) + 1
    found = matrix.copy()
    cut_apart(found, labels)
    np.testing.assert_array_equal(found, np.where(labels[:, None] == labels, matrix, 0))
