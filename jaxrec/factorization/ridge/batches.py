"""Rows of like length in batches of few fixed shapes, dealt to the devices of a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.factorization.ridge.kernels import RegressionBatch
from jaxrec.factorization.ridge.rows import Regressions
from jaxrec.runtime import parallel

LEAST_WIDTH = 8
BATCH_NUMBERS = 2**22  # of gathered factors in a batch; on a CPU larger ones gain nothing
DEVICE_BATCH_NUMBERS = 2**27


def batch_numbers(platform: str) -> int:
    """How many gathered factors a batch may hold."""
    return BATCH_NUMBERS if platform == "cpu" else DEVICE_BATCH_NUMBERS


class Shapes(NamedTuple):
    """How the tables of factors and their rows are cut.

    Attributes:
      batch: from a width L (a power of two) to the number B of rows a device takes at a time.
      devices: D.
    """

    batch: dict[int, int]
    devices: int


class Batch(NamedTuple):
    """Some rows of a table and their regressions, padded.

    Attributes:
      at: [D B] int32 where the rows stand in their device's part of the table; past its end where padded.
      systems: the regressions, with D B rows.
    """

    at: Any
    systems: RegressionBatch


def shapes(sides: list[Regressions], rank: int, devices: int = 1, *, square: bool = False) -> Shapes:
    """Few shapes for all sides: histories are padded to powers of two, and a width has one number of rows.

    The kernels of one side then serve the other without being compiled again.

    Args:
      sides: users, items.
      rank: K.
      devices: D.
      square: whether a row takes K x K numbers besides its L x K.
    """
    most = batch_numbers(jax.default_backend()) // rank
    numbers = [np.bincount(_exponents(side.counts), minlength=64) for side in sides]
    batch = {}
    for exponent, rows in enumerate(np.max(numbers, axis=0)):
        if rows:
            width = 2**exponent
            largest = most // max(width, rank) if square else most // width
            batch[width] = int(min(_power_above(-(-int(rows) // devices)), max(1, largest)))
    return Shapes(batch, devices)


def positions(counts: np.ndarray, devices: int) -> tuple[np.ndarray, int]:
    """[N] where each row stands in a table of that many rows, so that all devices get rows of all lengths alike."""
    n = len(counts)
    if devices == 1:
        return np.arange(n), n
    own = -(-n // devices)
    rank = np.empty(n, np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(n)
    return rank % devices * own + rank // devices, own * devices


def batches(
    rows: Regressions, own: np.ndarray, other: np.ndarray, size: int, shapes: Shapes, mesh: Any
) -> Iterator[Batch]:
    """The rows that have entries, shortest first; the others are 0 in any case.

    Args:
      rows: the regressions of one side.
      own: [N] positions of the rows in their table.
      other: [M] positions of the other side's.
      size: rows of the table, a multiple of D.
      shapes: from `shapes`.
      mesh: what `parallel.make_mesh` returned.
    """
    each = size // shapes.devices
    widths = 2 ** _exponents(rows.counts)
    for width, per_device in shapes.batch.items():
        chosen = np.flatnonzero((widths == width) & (rows.counts > 0))
        device = own[chosen] // each
        dealt = [chosen[device == d] for d in range(shapes.devices)]
        for start in range(0, max(map(len, dealt)), per_device):
            which = np.full((shapes.devices, per_device), -1)
            for d, users in enumerate(dealt):
                part = users[start : start + per_device]
                which[d, : len(part)] = part
            yield _padded(rows, which.ravel(), own, other, each, width, mesh)


def _padded(rows: Regressions, which: np.ndarray, own: Any, other: Any, each: int, width: int, mesh: Any) -> Batch:
    real = which >= 0
    counts = np.where(real, rows.counts[which], 0)
    starts = np.where(real, rows.indptr[which], 0)
    row = np.repeat(np.arange(len(which)), counts)
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    entry = starts[row] + column
    items = np.zeros((len(which), width), np.int32)
    weights, targets = np.zeros((2, *items.shape))
    items[row, column] = other[rows.indices[entry]]
    weights[row, column], targets[row, column] = rows.weights[entry], rows.targets[entry]
    at = np.where(real, own[which] % each, each).astype(np.int32)
    scale, ridge = np.where(real, rows.scale[which], 0), np.where(real, rows.ridge[which], 1)
    floats = jnp.zeros(()).dtype
    return jax.tree.map(
        lambda array: parallel.place(array.astype(floats) if array.dtype == float else array, mesh, parallel.ROWS),
        Batch(at, RegressionBatch(items, weights, targets, scale, ridge)),
    )


def _exponents(counts: np.ndarray) -> np.ndarray:
    """[N] the least e with 2^e >= max(count, 8)."""
    return np.ceil(np.log2(np.maximum(counts, LEAST_WIDTH))).astype(np.int64)


def _power_above(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()
