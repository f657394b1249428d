"""The small systems by which one user's rows leave an inverse, and sums over sparse rows: in NumPy, for many users."""

from __future__ import annotations

from typing import Any

import numpy as np

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little


def half(values: np.ndarray, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([B, n, n] L with L L' = x x' + D(changes), [B] whether there is one), of values of any size."""
    matrix = values[:, :, None] * values[:, None, :] + changes[:, :, None] * np.eye(values.shape[1])
    scale = np.sqrt(np.einsum("bnn->bn", matrix))
    scale[~(scale > 0)] = 1
    matrix /= scale[:, :, None] * scale[:, None, :]
    half, possible = np.zeros_like(matrix), np.ones(len(values), bool)
    for u, one in enumerate(matrix):
        try:
            half[u] = np.linalg.cholesky(one)
        except np.linalg.LinAlgError:
            possible[u] = False
    return half * scale[:, :, None], possible


def downdate(half: np.ndarray, picked: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([B, n, I] W with C_u = C + W'W, [B] about the least eigenvalue of R R') from L [B, n, n] and E'C [B, n, I]."""
    own = np.take_along_axis(picked, items[:, None, :], axis=2)
    turned = half.transpose(0, 2, 1)
    left = (np.eye(items.shape[1]) - turned @ own @ half).astype(picked.dtype)
    right = turned.astype(picked.dtype) @ picked
    try:
        least = 1 / np.abs(np.linalg.inv(left)).sum(axis=1).max(axis=1)
        return np.linalg.solve(np.linalg.cholesky(left), right), least
    except np.linalg.LinAlgError:  # of one of them; found out one by one
        if len(half) == 1:
            return np.zeros_like(right), np.zeros(1)
        parts = [downdate(half[u : u + 1], picked[u : u + 1], items[u : u + 1]) for u in range(len(half))]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))  # pyright: ignore[reportReturnType]


def entries(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each entry."""
    return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices


def row_products(rows: Rows, dense: np.ndarray) -> np.ndarray:
    """[B] float64 inner products of sparse and dense rows."""
    row, column = entries(rows)
    return np.bincount(row, rows.data * dense[row, column].astype(np.float64), minlength=rows.shape[0])


def add_sparse(dense: np.ndarray, rows: Rows, factors: np.ndarray) -> None:
    """Adds the sparse rows times D(factors) in place; factors [I], or [B, I] by row."""
    row, column = entries(rows)
    dense[row, column] += (rows.data * (factors[column] if factors.ndim == 1 else factors[row, column])).astype(
        dense.dtype
    )


def add_own_squares(b: np.ndarray, fold_in: Rows, c: np.ndarray, left: np.ndarray) -> None:
    """Takes each item's own share f_j c_j^2 / (1 - h) from (f'c) c' / (1 - h), in place, where f_j is not 0."""
    row, column = entries(fold_in)
    own = c[row, column].astype(np.float64)
    others = np.bincount(row, fold_in.data * own, minlength=len(b))[row] - fold_in.data * own
    b[row, column] = others * own / left[row]
