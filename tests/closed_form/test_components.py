"""Components without each user: equal to those of the data without the user; and what must be 0 there."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec import Interactions
from jaxrec.closed_form.components import Components, cut_apart, item_components
from jaxrec.closed_form.without_user.structure import WithoutUser


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
            found, cut = components.without(user), user in components.cuts.user
            assert same_partition(expected, found)
            cuts += cut
            one &= len(set(found[np.diff(rest.tocsc().indptr) > 0])) <= 1 and not cut
        assert components.is_one == (one and len(set(components.labels[np.diff(x.tocsc().indptr) > 0])) <= 1)
    assert cuts > 3


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2])
def test_nothing_speaks_for_what_lies_in_another_component_without_the_user(density):
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 20, 2)
        x = sp.csr_array((rng.random(shape) < density).astype(np.float32))
        fold_in = sp.csr_array(x.toarray() * (rng.random(shape) < 0.6))
        structure = WithoutUser(Interactions.from_csr(x))
        found = np.ones(shape)
        structure.clear((found,), x, fold_in)
        expected, x_dense = np.zeros(shape), x.toarray()
        for user in range(shape[0]):
            apart = item_components(sp.csr_array(np.where(np.arange(shape[0])[:, None] == user, 0, x_dense)))
            for item in range(shape[1]):
                others = np.delete(np.arange(shape[1]), item)
                shown = others[fold_in.toarray()[user, others] > 0]
                expected[user, item] = np.any(apart[shown] == apart[item])
        if not structure._components.is_one:
            np.testing.assert_array_equal(found, expected)
            seen += np.any(found != 1)
    assert seen > 20


def test_cutting_apart_keeps_what_is_linked(rng):
    labels = np.array([0, 1, 0, 2, 1, 0, 3, 0])
    matrix = rng.random((8, 8)) + 1
    found = matrix.copy()
    cut_apart(found, labels)
    np.testing.assert_array_equal(found, np.where(labels[:, None] == labels, matrix, 0))
