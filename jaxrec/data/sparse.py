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
        # A sum in a narrow type would wrap around, here and below.
        wide = matrix if matrix.format == "csr" or matrix.dtype.kind not in "iu" else matrix.astype(np.float64)
        csr: Any = sp.csr_array(wide)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        kind = matrix.format
        raise InputError(f"{name}: the arrays of the {kind} matrix do not fit one another ({error}).") from None
    if matrix.format != "csr":
        _check(csr, name)
    stored = int(csr.indptr[-1])
    # Made anew: a matrix that was changed in place still says that it is in canonical form.
    csr = sp.csr_array((csr.data[:stored], csr.indices[:stored], csr.indptr), shape=csr.shape, copy=False)
    if not csr.has_canonical_format:
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
    kind = matrix.format
    shape = int(matrix.shape[0]), int(matrix.shape[1])
    for what, size in zip(("rows", "columns"), shape, strict=True):
        columns.countable(f"{name}: the number of {what}", size)
    dtype = np.dtype(matrix.dtype)
    if dtype.kind not in "biuf":
        raise InputError(f"{name}: value must be a column of numbers, got {dtype}.")
    if kind != "csr":  # room for all rows is made where they are compressed
        columns.proportionate(f"{name}: the number of rows", shape[0], _stored(matrix))
    if kind in ("csr", "csc", "bsr"):
        data, indptr, indices = (np.asarray(part) for part in (matrix.data, matrix.indptr, matrix.indices))
        block = data.shape[1:] if kind == "bsr" else (1, 1)
        if data.ndim != (3 if kind == "bsr" else 1) or not all(block) or np.mod(shape, block).any():
            raise InputError(f"{name}: values of shape {data.shape} do not make a {kind} matrix of {shape}.")
        rows, across = shape[0] // block[0], shape[1] // block[1]
        _checks.sparse_rows(name, indptr, indices, (across, rows) if kind == "csc" else (rows, across))
        if len(data) < len(indices):
            raise InputError(f"{name}: there are {len(data)} values for {len(indices)} indices.")
    elif kind == "coo":
        for part, size in zip((matrix.row, matrix.col), shape, strict=True):
            part = columns.indices(f"{name}:", part)
            if part.shape != np.shape(matrix.data) or (len(part) and part.max() >= size):
                raise InputError(f"{name}: the indices of the coo matrix do not fit its {shape} or its values.")
    elif kind == "lil" and (len(matrix.rows) != shape[0] or len(matrix.data) != shape[0]):
        raise InputError(f"{name}: there are {len(matrix.rows)} lists for {shape[0]} rows.")
    elif kind == "dia" and (np.ndim(matrix.data) != 2 or np.shape(matrix.offsets) != (len(matrix.data),)):
        raise InputError(
            f"{name}: there are {np.shape(matrix.offsets)} offsets for diagonals of {np.shape(matrix.data)}."
        )


def _stored(matrix: Any) -> int:
    """About how many entries are stored."""
    return (
        len(matrix.keys())
        if matrix.format == "dok"
        else sum(map(len, matrix.rows))
        if matrix.format == "lil"
        else np.size(matrix.data)
    )
