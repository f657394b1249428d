"""Newton steps of many columns at once, each on the entries that are free in it: what is wrong with iterates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxrec.solvers import cg

DENSE = 256  # rows up to which the systems are solved directly
STEPS, ENOUGH = 300, 1e-3  # of conjugate gradients: most of them, and the relative residual that ends them


def restricted_solve(
    times: Callable[[np.ndarray], np.ndarray], diagonal: np.ndarray, right: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """([N, S] float64 H_ff^-1 r_f of each column and 0 elsewhere, [S] whether that was reached).

    Args:
      times: multiplies [N, .] by a symmetric positive definite H.
      diagonal: [N] of H.
      right: [N, S] r, finite.
      free: [N, S] which entries of each column may differ from 0.

    Cost: up to 256 rows S N^3 / 3 flops; else up to 300 products of H with S columns.
    """
    size = np.abs(right).max(axis=0, keepdims=True)
    scaled = np.where(free, right / np.where(size > 0, size, 1), 0)
    if len(right) <= DENSE:
        return _directly(times(np.eye(len(right))), scaled, free, size)

    def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->j", a, b)[None, :]

    def apply(v: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.where(free, times(v), 0)

    def precondition(v: np.ndarray) -> np.ndarray:
        return v / diagonal[:, None]

    with np.errstate(all="ignore"):
        state = cg.begin(np.zeros_like(scaled), scaled, precondition, dot)
        enough = ENOUGH**2 * state.square
        for _ in range(STEPS):
            if not cg.any_active(state, enough):
                break
            state = cg.step(state, apply, precondition, dot, enough)
    return state.solution * size, (state.square <= enough)[0]


def _directly(
    matrix: np.ndarray, scaled: np.ndarray, free: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    root = 1 / np.sqrt(np.maximum(matrix.diagonal(), np.finfo(np.float64).tiny))
    even = (matrix + matrix.T) / 2 * root[:, None] * root
    found, reached = np.zeros_like(scaled), np.ones(scaled.shape[1], bool)
    for k in range(scaled.shape[1]):
        on = np.flatnonzero(free[:, k])
        try:
            found[on, k] = root[on] * np.linalg.solve(even[np.ix_(on, on)], root[on] * scaled[on, k])
        except np.linalg.LinAlgError:
            reached[k] = False
    return found * size, reached
