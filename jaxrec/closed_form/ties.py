"""Items that the data cannot tell apart: the same users with the same values.

In exact arithmetic such twins score the same for everyone who has neither, and rankings break the tie by their index.
In floating point rounding breaks it, differently on every device, which is seen in the fourth digit of the metrics of
catalogues with many rare items. Giving twins one column, and each pair of them one weight, restores the tie.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.data.interactions import Interactions
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import take_columns

CHUNK = 256  # columns that are gathered at a time


class IdenticalItems(NamedTuple):
    """The S items that have twins.

    Attributes:
      items: [S] which.
      first: [S] the first of the twins of each, maybe itself.
      second: [S] the next one.
      kind: [I] the same number for items of the same kind.
    """

    items: np.ndarray
    first: np.ndarray
    second: np.ndarray
    kind: np.ndarray


def identical_items(data: Interactions) -> IdenticalItems:
    """The items of `data` that have the same users with the same values as others; those without users do not count."""
    columns = data.to_csr().tocsc()
    columns.sort_indices()
    n = data.n_items
    kind, second, known = np.arange(n), np.full(n, -1), {}
    for j, (start, stop) in enumerate(zip(columns.indptr[:-1], columns.indptr[1:], strict=True)):
        if start < stop:
            first = known.setdefault((columns.indices[start:stop].tobytes(), columns.data[start:stop].tobytes()), j)
            kind[j] = first
            if first < j and second[first] < 0:
                second[first] = j
    items = np.flatnonzero(second[kind] >= 0)
    return IdenticalItems(items, kind[items], second[kind[items]], kind)


def shared_columns(
    own: Float[Array, "N m"],
    items: Int[Array, " S"],
    first: Int[Array, " S"],
    second: Int[Array, " S"],
    kind: Int[Array, " N"],
    axis: str | None = None,
) -> Float[Array, "N m"]:
    """[N, m] my columns of item-item weights in which `items` have copies of the columns of their first twins.

    Args:
      own: [N, m] my columns.
      items: [S] which, maybe some of `IdenticalItems.items`.
      first: [S] as in `IdenticalItems`.
      second: [S] as in `IdenticalItems`.
      kind: as in `IdenticalItems`.
      axis: the mesh axis over which columns are split, or None.

    Cost: N S numbers received; two N x S matrices.
    """
    m = own.shape[1]
    found = _for_each(take_columns(own, first, axis), items, first, second, kind, jnp)
    place = items - parallel.axis_index(axis) * m
    return own.at[:, jnp.where(place >= 0, place, m)].set(found, mode="drop")


def _for_each(columns: Any, items: Any, first: Any, second: Any, kind: Any, xp: Any) -> Any:
    """[N, S] the columns of `items` from those [N, S] of their first twins, by NumPy or JAX."""
    at = xp.arange(len(items))
    to_itself, to_each_other = columns[first, at], columns[second, at]
    own = xp.arange(len(columns))[:, None] == items[None, :]
    inside = xp.where(own, to_itself[None, :], to_each_other[None, :])
    return xp.where(kind[:, None] == kind[items][None, :], inside, columns)


@partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def _shared_columns(weights, items, first, second, kind, mesh):
    inputs = (parallel.COLUMNS, *[parallel.REPLICATED] * 4)
    return parallel.over_columns(shared_columns, mesh, inputs, parallel.COLUMNS)(weights, items, first, second, kind)


def share_columns(weights: Any, twins: IdenticalItems) -> Any:
    """The same item-item weights, made in place, in which twins have one column and each pair of them one weight.

    Args:
      weights: [I, I] on the host; or on devices, maybe [N, N] padded and split by columns. Overwritten.
      twins: from `identical_items`.

    Cost: S I numbers are read and written.
    """
    if isinstance(weights, np.ndarray):
        for s in range(0, len(twins.items), CHUNK):
            items, first, second = (part[s : s + CHUNK] for part in twins[:3])
            weights[:, items] = _for_each(weights[:, first], items, first, second, twins.kind, np)
        return weights
    size = len(weights)
    kind = np.concatenate([twins.kind, np.arange(len(twins.kind), size)])
    for s in range(0, len(twins.items), CHUNK):
        # Chunks of one shape, filled up with the last, so that one program serves all.
        parts = [np.pad(part[s : s + CHUNK], (0, max(0, s + CHUNK - len(twins.items))), "edge") for part in twins[:3]]
        weights = _shared_columns(weights, *parts, kind, parallel.mesh_of(weights))
    return weights
