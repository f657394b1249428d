"""Items that the data cannot tell apart: the same users with the same values.

In exact arithmetic such twins score the same for everyone who has neither, and rankings break the tie by their index.
In floating point rounding breaks it, differently on every device, which is seen in the fourth digit of the metrics of
catalogues with many rare items.

A problem whose optimum is unique, and which does not change when twins change places, has an optimum B = P B P' for
every permutation P of twins. The mean of P B P' over all these P is therefore nearer to the optimum than B, or as
near, in any norm that does not change with the order: it is the orthogonal projection onto the matrices that twins
leave alone. Off the groups it is the mean over the rows and columns of two groups; within a group one mean over all
pairs of different twins, and one of the diagonal. Methods take it before they certify what they return.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.data.interactions import Interactions
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import HIGHEST, own_diagonal, without_diagonal

CHUNK = 256  # columns that are taken at a time


class IdenticalItems(NamedTuple):
    """The S items that have twins, kind by kind.

    Attributes:
      items: [S] which, those of a kind together.
      starts: [G] where each kind begins in `items`.
      kind: [I] the same number for items of the same kind: the first of them.
    """

    items: np.ndarray
    starts: np.ndarray
    kind: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """[G] how many twins each kind has, at least 2."""
        return np.diff(np.append(self.starts, len(self.items)))


def identical_items(data: Interactions) -> IdenticalItems:
    """The items of `data` that have the same users with the same values as others; those without users do not count."""
    columns = data.to_csr().tocsc()
    columns.sort_indices()
    kind, known = np.arange(data.n_items), {}
    for j, (start, stop) in enumerate(zip(columns.indptr[:-1], columns.indptr[1:], strict=True)):
        if start < stop:
            kind[j] = known.setdefault((columns.indices[start:stop].tobytes(), columns.data[start:stop].tobytes()), j)
    several = np.flatnonzero(np.bincount(kind, minlength=data.n_items)[kind] > 1)
    items = several[np.argsort(kind[several], kind="stable")]
    return IdenticalItems(items, np.unique(kind[items], return_index=True)[1], kind)


def tie_entries(values: np.ndarray, twins: IdenticalItems) -> np.ndarray:
    """[I] the values, one an item, with the mean of every kind in place of those of its items."""
    if not len(twins.items):
        return values
    out = np.array(values)
    out[twins.items] = np.repeat(np.add.reduceat(out[twins.items], twins.starts) / twins.sizes, twins.sizes)
    return out


def tie(weights: Any, twins: IdenticalItems) -> Any:
    """The same item-item weights, made in place, with the mean over all permutations of twins: see the module.

    Args:
      weights: [I, I] on the host; or on devices, maybe [N, N] padded and split by columns. Overwritten.
      twins: from `identical_items`.

    Cost: 2 S I numbers are read and written; on devices 4 N^2 G / D flops for G kinds on D devices.
    """
    if not len(twins.items):
        return weights
    return _tie_on_host(weights, twins) if isinstance(weights, np.ndarray) else _tie_on_devices(weights, twins)


# -- the host -----------------------------------------------------------------------------------------------------


def _tie_on_host(weights: np.ndarray, twins: IdenticalItems) -> np.ndarray:
    items, starts, sizes = twins.items, twins.starts, twins.sizes
    own = tie_entries(weights.diagonal().astype(np.float64), twins)
    weights[items, items] = 0
    for start, size in zip(starts, sizes, strict=True):
        same = items[start : start + size]
        weights[same] = weights[same].mean(axis=0, dtype=np.float64)
    for s in range(0, len(weights), CHUNK):
        rows = weights[s : s + CHUNK]
        means = np.add.reduceat(rows[:, items].astype(np.float64), starts, axis=1) / sizes
        rows[:, items] = np.repeat(means, sizes, axis=1)
    for start, size in zip(starts, sizes, strict=True):
        same = items[start : start + size]
        # The mean of the columns counts the diagonal, which was 0.
        inside = np.full((size, size), weights[same[0], same[0]].astype(np.float64) * size / (size - 1))
        np.fill_diagonal(inside, own[same[0]])
        weights[np.ix_(same, same)] = inside
    return weights


# -- devices ------------------------------------------------------------------------------------------------------


def _tie_on_devices(weights: Any, twins: IdenticalItems) -> Any:
    size, mesh = len(weights), parallel.mesh_of(weights)
    own = tie_entries(_diagonal(weights, mesh=mesh)[: len(twins.kind)].astype(np.float64), twins)
    chunks = list(_chunks(twins, size))
    weights = without_diagonal(weights, twins.items)
    for items, slot, counts, _ in chunks:
        weights = _mean_rows(weights, items, slot, counts, mesh=mesh)
    for items, slot, counts, inside in chunks:
        diagonal = np.pad(own, (0, size - len(own)))[np.minimum(items, size - 1)].astype(np.float32)
        weights = _mean_columns(weights, items, slot, counts, inside, diagonal, mesh=mesh)
    return weights


def _chunks(twins: IdenticalItems, size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Whole kinds of about CHUNK items, in arrays of one shape: (items, their kind in the chunk, 1 / sizes, shares).

    What fills up an array is item `size`, which does not exist; a share is what turns the mean of the columns of a
    kind, of which one is 0, into the mean over pairs.
    """
    many = max(CHUNK, int(twins.sizes.max()))
    ends, begin = np.cumsum(twins.sizes), 0
    while begin < len(ends):
        before = int(twins.starts[begin])
        end = int(np.searchsorted(ends, before + many, side="right"))
        items, sizes = twins.items[before : ends[end - 1]], twins.sizes[begin:end]
        yield (
            np.pad(items, (0, many - len(items)), constant_values=size),
            np.pad(np.repeat(np.arange(len(sizes)), sizes), (0, many - len(items))),
            np.pad(1 / sizes, (0, many // 2 - len(sizes))).astype(np.float32),
            np.pad(sizes / (sizes - 1), (0, many // 2 - len(sizes))).astype(np.float32),
        )
        begin = end


def _shares(
    items: Int[Array, " S"], slot: Int[Array, " S"], counts: Float[Array, " G"], n: int, first: Any
) -> Float[Array, "G n"]:
    """[G, n] the matrix that takes means over kinds of the n items from `first` on."""
    place = jnp.where((items >= first) & (items < first + n), items - first, n)
    return jnp.zeros((len(counts), n), counts.dtype).at[slot, place].set(counts[slot], mode="drop")


def mean_rows(
    own: Float[Array, "N m"], items: Any, slot: Any, counts: Any, axis: str | None = None
) -> Float[Array, "N m"]:
    """[N, m] my columns, in which the rows of each kind are their mean; see `_chunks` for the arguments."""
    means = jnp.matmul(_shares(items, slot, counts, len(own), 0), own, precision=HIGHEST)
    return own.at[items].set(means[slot], mode="drop")


def mean_columns(
    own: Float[Array, "N m"],
    items: Any,
    slot: Any,
    counts: Any,
    inside: Any,
    diagonal: Any,
    axis: str | None = None,
) -> Float[Array, "N m"]:
    """[N, m] my columns of weights whose rows are means, in which columns of each kind are their mean as well.

    Within a kind there are one number for different twins, `inside` times the mean, and `diagonal`.
    """
    n, m = own.shape
    first = parallel.axis_index(axis) * m
    means = jnp.matmul(own, _shares(items, slot, counts, m, first).T, precision=HIGHEST)
    means = parallel.psum(means, axis)  # [N, G], the same on every device
    found = means[:, slot]
    # Of rows: the kind in the chunk, or -1.
    kind = jnp.full(n, -1).at[items].set(slot, mode="drop")
    same = kind[:, None] == slot[None, :]
    within = jnp.where(jnp.arange(n)[:, None] == items[None, :], diagonal[None, :], found * inside[slot][None, :])
    place = jnp.where((items >= first) & (items < first + m), items - first, m)
    return own.at[:, place].set(jnp.where(same, within, found), mode="drop")


_SPLIT, _WHOLE = parallel.COLUMNS, parallel.REPLICATED


@partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def _mean_rows(weights, items, slot, counts, *, mesh):
    return parallel.over_columns(mean_rows, mesh, (_SPLIT, *[_WHOLE] * 3), _SPLIT)(weights, items, slot, counts)


@partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def _mean_columns(weights, items, slot, counts, inside, diagonal, *, mesh):
    tied = parallel.over_columns(mean_columns, mesh, (_SPLIT, *[_WHOLE] * 5), _SPLIT)
    return tied(weights, items, slot, counts, inside, diagonal)


def _diagonal(weights: Any, mesh: Any) -> np.ndarray:
    return parallel.to_host(_diagonal_on_mesh(weights, mesh=mesh))


@partial(jax.jit, static_argnames="mesh")
def _diagonal_on_mesh(weights, *, mesh):
    return parallel.over_columns(own_diagonal, mesh, _SPLIT, parallel.ROWS)(weights)
