"""SciPy's sparse matrices, checked before native code follows their indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data import columns


def rows_of(matrix: Any, name: str) -> sp.csr_array:
    """The matrix as compressed sparse rows in canonical form, with finite float32 values and no stored zeros.

    Nothing is copied where the matrix is that already.

    Raises:
      InputError: it is no two-dimensional sparse matrix, its arrays do not fit one another, or a value is no number.
    """
    if not sp.issparse(matrix) or matrix.ndim != 2:
        raise InputError(f"{name}: wanted a two-dimensional SciPy sparse matrix, got {type(matrix).__name__}.")
    _check(matrix, name)
    try:
        csr = sp.csr_array(matrix)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        kind = matrix.format
        raise InputError(f"{name}: the arrays of the {kind} matrix do not fit one another ({error}).") from None
    if csr is not matrix and matrix.format != "csr":
        _check(csr, name)
    stored = int(csr.indptr[-1])
    # Made anew: a matrix that was changed in place still says that it is in canonical form.
    csr = sp.csr_array((csr.data[:stored], csr.indices[:stored], csr.indptr), shape=csr.shape, copy=False)
    if not csr.has_canonical_format:
        # A sum in a narrow type would wrap around.
        csr = csr.astype(np.float64) if csr.dtype.kind in "iuf" else csr.copy()
        csr.sum_duplicates()
    values = columns.numbers(f"{name}: value", csr.data)
    if values is not csr.data:
        csr = sp.csr_array((values, csr.indices, csr.indptr), shape=csr.shape, copy=False)
    if not values.all():
        csr = csr.copy()
        csr.eliminate_zeros()
    return csr


def _check(matrix: Any, name: str) -> None:
    """Refuses a matrix of which an index points outside, or that is beyond 32 bits."""
    for what, size in zip(("rows", "columns"), matrix.shape, strict=True):
        columns.countable(f"{name}: the number of {what}", int(size))
    if matrix.format in ("csr", "csc", "bsr") and len(matrix.data) < len(matrix.indices):
        raise InputError(f"{name}: there are {len(matrix.data)} values for {len(matrix.indices)} indices.")
    if matrix.format in ("csr", "csc"):
        shape = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
        _checks.sparse_rows(name, np.asarray(matrix.indptr), np.asarray(matrix.indices), shape)
    elif matrix.format == "bsr":
        block = matrix.data.shape[1:]
        if len(block) != 2 or not all(block) or np.mod(matrix.shape, block).any():
            raise InputError(f"{name}: blocks of {block} do not divide a matrix of {matrix.shape}.")
        blocks = (matrix.shape[0] // block[0], matrix.shape[1] // block[1])
        _checks.sparse_rows(name, np.asarray(matrix.indptr), np.asarray(matrix.indices), blocks)
    elif matrix.format == "coo":
        for indices, size in zip((matrix.row, matrix.col), matrix.shape, strict=True):
            indices = columns.indices(f"{name}:", indices)
            if len(indices) != len(matrix.data) or (len(indices) and indices.max() >= size):
                raise InputError(f"{name}: the indices of the coo matrix do not fit its {matrix.shape} or its values.")
