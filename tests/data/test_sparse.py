"""Sparse matrices whose arrays point outside, which native code would follow."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec import InputError, Interactions


def eye(kind="csr"):
    return getattr(sp.csr_array(np.eye(3, dtype=np.float32)), f"to{kind}")()


def changed(kind, field, at, value):
    matrix = eye(kind)
    getattr(matrix, field)[at] = value
    return matrix


def shaped(kind, shape):
    matrix = eye(kind)
    matrix._shape = shape
    return matrix


COMPRESSED = ("csr", "csc", "bsr")
WRONG = {
    **{
        f"indices {v} of {k}": changed(k, "indices", 1, v)
        for k in ("csr", "csc", "bsr")
        for v in (99, -1, 3, 2**31 - 1)
    },
    **{f"indptr {v} of {k}": changed(k, "indptr", 1, v) for k in ("csr", "csc", "bsr") for v in (50, -1, 3)},
    **{f"{f} {v}": changed("coo", f, 1, v) for f in ("row", "col") for v in (99, -1, 3)},
    **{f"list {v}": changed("lil", "rows", 1, [v]) for v in (99, -1, 3)},
    "starts late": changed("csr", "indptr", 0, 1),
    "ends late": changed("csr", "indptr", 3, 4),
    "longer than its rows": shaped("csr", (2, 3)),
    "shorter than its rows": shaped("csr", (4, 3)),
    "fewer columns": shaped("csr", (3, 2)),
    "columns beyond 32 bits": shaped("csr", (3, 2**32 + 5)),
    "columns of 32 bits": shaped("csr", (3, 2**31)),
    "rows beyond 32 bits": shaped("coo", (2**33, 3)),
    "rows out of proportion": shaped("dok", (2**31 - 1, 3)),
    "complex": eye().astype(np.complex64),
    "one-dimensional": sp.coo_array(np.eye(3)[0]),
}


@pytest.mark.parametrize("matrix", WRONG.values(), ids=WRONG)
def test_what_points_outside_is_refused(matrix):
    with pytest.raises(InputError, match=r"\.$"):
        Interactions.from_csr(matrix)


@pytest.mark.parametrize("field", ["data", "indices"])
def test_arrays_of_other_lengths(field):
    for array in (np.zeros(2, np.int32), np.zeros((3, 1), np.int32), np.int32(3)):
        matrix = eye()
        setattr(matrix, field, array)
        with pytest.raises(InputError):
            Interactions.from_csr(matrix)


def test_columns_up_to_the_limit():
    assert Interactions.from_csr(shaped("csr", (3, 2**31 - 1))).n_items == 2**31 - 1


def test_sums_in_a_narrow_type_do_not_wrap_around():
    matrix = sp.csr_array((np.array([100, 100], np.int8), [1, 1], [0, 2]), shape=(1, 2))
    for same in (matrix, matrix.tocoo(), matrix.tocsc()):
        assert Interactions.from_csr(same).values.tolist() == [200]


def test_a_matrix_that_says_it_is_canonical_and_is_not():
    matrix = sp.csr_array((np.ones(2, np.float32), [0, 1], [0, 2]), shape=(1, 2))
    assert matrix.has_canonical_format
    matrix.indices[1] = 0
    made = Interactions.from_csr(matrix)
    assert made.indices.tolist() == [0] and made.values.tolist() == [2]


def test_room_that_is_not_used():
    arrays = (np.ones(5, np.float32), np.array([0, 1, 9, 9, 9], np.int32), np.array([0, 1, 2], np.int32))
    made = Interactions.from_csr(sp.csr_array(arrays, shape=(2, 2)))
    assert made.nnz == 2 and made.indices.tolist() == [0, 1]


def test_nothing_is_copied_of_a_good_matrix():
    matrix = sp.csr_array(np.eye(3, dtype=np.float32))
    made = Interactions.from_csr(matrix)
    assert np.shares_memory(made.indices, matrix.indices) and np.shares_memory(made.values, matrix.data)
