"""The penalty reg ||P V'||^2: it sees the predictions alone, so that any basis of the factors will do.

Where V'V = I it is reg ||P||^2, and reg ||V||^2 where P'P = I: with the factors that are not solved for kept
orthonormal, every solver of the plain penalty solves this one, and well-conditioned at that. It does not lower the
rank: it is what the weights W + reg with the targets W x / (W + reg) are without a penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def orthonormal(own: Any, other: Any, gram: Callable, turned: Callable) -> tuple[Any, Any]:
    """(own G^1/2, other G^-1/2) with the second orthonormal, G its Gram matrix: the same predictions.

    Of all orthonormal bases it is the nearest to the old one, and no two devices choose another. A mesh has the Gram
    matrix as a sum; the second pass makes up for the squared condition number. Directions that are zero for the
    precision stay near zero.

    Args:
      own: [N, K] factors.
      other: [M, K] those that become orthonormal.
      gram: of a table, [K, K].
      turned: (table, [K, K]) -> their product.
    """
    for _ in range(2):
        found = np.asarray(gram(other))
        values, vectors = np.linalg.eigh(found.astype(np.float64))
        least = np.finfo(found.dtype).eps * max(values[-1], 0) + np.finfo(np.float64).tiny
        root = np.sqrt(np.maximum(values, least))
        own, other = (turned(table, vectors * by @ vectors.T) for table, by in ((own, root), (other, 1 / root)))
    return own, other


def orthonormal_on_host(own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same on the host, its sums in float64."""

    def gram(table: np.ndarray) -> np.ndarray:
        table = table.astype(np.float64)
        return table.T @ table

    return orthonormal(own, other, gram, lambda table, by: table @ by.astype(table.dtype))
