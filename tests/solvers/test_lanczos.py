"""The largest singular value of products of sparse matrices, of little rank as well."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec.solvers.lanczos import largest_singular_value


@pytest.mark.parametrize("rank", (0, 1, 3, 9))
@pytest.mark.parametrize("shape", ((9, 12), (12, 9), (30, 2), (1, 40)))
def test_largest_singular_value(rng, shape, rank):
    a = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    b = rng.normal(size=(7, shape[0]))
    expected = np.linalg.norm(a, 2), np.linalg.norm(b @ a, 2)
    found = largest_singular_value(sp.csr_array(a)), largest_singular_value(sp.csr_array(b), sp.csr_array(a))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_copies_of_one_row_leave_nothing_outside():
    assert largest_singular_value(sp.csr_array(np.ones((5, 8)))) == pytest.approx(40**0.5)
