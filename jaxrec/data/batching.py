"""Fixed-shape batches of sparse rows, padded one by one or packed end to end: all that kernels see of sparse data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec import _checks
from jaxrec._checks.doors import door
from jaxrec.data.interactions import Interactions

MOST_CELLS = 2**25  # of one padded batch: 256 MB of indices and values
DEVIATIONS = 4.0  # above the mean number of entries of a random packed batch, which its length allows for


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowBatch:
    """B sparse rows, each padded to L entries.

    Attributes:
      rows: [B] int32, the row each came from, in an evaluation of the fold-in as it was given; -1 where filled up.
      items: [B, L] int32 item indices; 0 where padded.
      values: [B, L] float32; 0 where padded.

    A padded entry has value 0 *and* the valid index 0: JAX clamps gathers and drops scatters that are out of range
    without a word, so an invalid index would go unseen.
    """

    rows: Int[Any, " B"]
    items: Int[Any, "B L"]
    values: Float[Any, "B L"]

    def dense(self, n_items: int, dtype=jnp.float32) -> Float[Array, "B I"]:
        """[B, I] the rows as a dense matrix."""
        return scatter_rows(self.items, self.values, n_items, dtype)

    def packed(self) -> PackedBatch:
        """The same rows as a packed batch, in one part, with their padding."""
        n, width = self.items.shape
        owners = jnp.repeat(jnp.arange(n, dtype=jnp.int32), width)
        return PackedBatch(*(part.reshape(1, -1) for part in (self.rows, owners, self.items, self.values)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedBatch:
    """B sparse rows whose entries lie end to end, in P parts of equally many rows.

    A `RowBatch` pads each row to the longest, which is most of it where a few rows are long; this pads only what all
    rows of a part have together. On a mesh each device holds one part: its rows with their entries.

    Attributes:
      rows: [P, B/P] int32, the row each came from; -1 where filled up.
      owners: [P, N] int32, which of its part's rows an entry is of, ascending.
      items: [P, N] int32 item indices; 0 where padded.
      values: [P, N] float32; 0 where padded.
    """

    rows: Int[Any, "... P b"]
    owners: Int[Any, "... P N"]
    items: Int[Any, "... P N"]
    values: Float[Any, "... P N"]

    @property
    def entries_per_row(self) -> float:
        """How many entries there are for a row, padding included."""
        return self.items.size / self.rows.size

    def totals(self, of_entries: Array) -> Array:
        """[B, ...] the sum over the entries of each row of [P, N, ...] numbers."""
        empty = jnp.zeros((self.rows.shape[1], *of_entries.shape[2:]), of_entries.dtype)
        return self._whole(jax.vmap(lambda owners, part: empty.at[owners].add(part))(self.owners, of_entries))

    def spread(self, of_rows: Array) -> Array:
        """[P, N, ...] what [B, ...] has for the row of each entry."""
        return jax.vmap(lambda part, owners: part[owners])(self._split(of_rows), self.owners)

    def at(self, outputs: Float[Any, "B I"]) -> Float[Array, "P N"]:
        """[P, N] the outputs at the entries."""
        return jax.vmap(lambda part, row, item: part[row, item])(self._split(outputs), self.owners, self.items)

    def dense(self, n_items: int, dtype=jnp.float32) -> Float[Array, "B I"]:
        """[B, I] the rows as a dense matrix."""
        empty = jnp.zeros((self.rows.shape[1], n_items), dtype)
        values = self.values.astype(dtype)
        return self._whole(jax.vmap(lambda row, i, v: empty.at[row, i].add(v))(self.owners, self.items, values))

    def replaced(self, values: Float[Any, "P N"]) -> PackedBatch:
        """The same entries with other values; the values of padding must be 0."""
        return PackedBatch(self.rows, self.owners, self.items, values)

    def pieces(self, size: int) -> PackedBatch:
        """The same batch with its entries in pieces of `size`, stacked in front: [N/size, ...] everywhere."""
        _, length = self.items.shape
        pad = ((0, 0), (0, -length % size))
        owners = jnp.pad(self.owners, pad, mode="edge")
        entries = (owners, jnp.pad(self.items, pad), jnp.pad(self.values, pad))
        owners, items, values = (jnp.swapaxes(part.reshape(len(part), -1, size), 0, 1) for part in entries)
        return PackedBatch(jnp.broadcast_to(self.rows, (len(items), *self.rows.shape)), owners, items, values)

    def _split(self, of_rows: Array) -> Array:
        return of_rows.reshape(*self.rows.shape, *of_rows.shape[1:])

    def _whole(self, of_parts: Array) -> Array:
        return of_parts.reshape(self.rows.size, *of_parts.shape[2:])


def scatter_rows(
    items: Int[Any, "B L"], values: Float[Array, "B L"], n_items: int, dtype=jnp.float32
) -> Float[Array, "B I"]:
    """[B, I] dense rows from padded ones; padding adds 0 to item 0."""
    empty = jnp.zeros((items.shape[0], n_items), dtype)
    return jax.vmap(lambda row, i, v: row.at[i].add(v.astype(dtype)))(empty, items, values)


@door
def row_batches(data: Interactions, batch_size: int, *, by_length: bool = False) -> Iterator[RowBatch]:
    """The rows of `data` in batches of one fixed B; the last is filled up with empty rows (row index -1).

    L is the longest history of the batch rounded up to a power of two, so that few shapes are compiled. Where B x L
    would pass `MOST_CELLS`, the batch has half as many rows, or a quarter, and so on.

    Args:
      data: U x I interactions.
      batch_size: B.
      by_length: visit the users by length of history, so that little is padded (order of users given up).
    """
    _checks.count("batch_size", batch_size, at_least=1)
    lengths = data.user_counts
    order = np.argsort(lengths, kind="stable") if by_length else np.arange(data.n_users)
    start = 0
    while start < data.n_users:
        size = batch_size
        while size > 1 and size * width_for(lengths[order[start : start + size]]) > MOST_CELLS:
            size = (size + 1) // 2
        chosen = order[start : start + size]
        yield padded_rows(data, chosen, size, width_for(lengths[chosen]))
        start += size


def padded_rows(data: Interactions, users: np.ndarray, size: int, width: int) -> RowBatch:
    """The rows of `users`, each padded to `width` entries, filled up to `size` rows with empty ones (row index -1)."""
    part = data.rows(users)
    counts = part.user_counts
    rows = np.full(size, -1, np.int32)
    rows[: len(users)] = users
    items = np.zeros((size, width), np.int32)
    values = np.zeros(items.shape, np.float32)
    at = part.user_of_entry, np.arange(part.nnz) - np.repeat(part.indptr[:-1], counts)
    items[at] = part.indices
    values[at] = part.values
    return RowBatch(jnp.asarray(rows), jnp.asarray(items), jnp.asarray(values))


def width_for(lengths: np.ndarray) -> int:
    """The smallest power of two that holds the longest of some histories."""
    return 1 << (max(1, int(lengths.max(initial=1))) - 1).bit_length()


def packed_rows(data: Interactions, users: np.ndarray, size: int, length: int, parts: int = 1) -> PackedBatch:
    """The rows of `users` end to end, in NumPy arrays.

    Args:
      data: U x I interactions.
      users: at most `size` of its rows.
      size: B, a multiple of `parts`; filled up with empty rows (row index -1).
      length: N, or a divisor of it: of its multiples the smallest is taken that holds the fullest part.
      parts: P.
    """
    some, own = data.rows(users), size // parts
    part_of_entry, owner = np.divmod(some.user_of_entry, own)
    starts = np.searchsorted(part_of_entry, np.arange(parts + 1))
    fullest = int(np.diff(starts).max())
    shape = (parts, length * max(1, -(-fullest // length)))
    rows, owners = np.full(size, -1, np.int32), np.full(shape, own - 1, np.int32)
    items, values = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    rows[: len(users)] = users
    at = part_of_entry, np.arange(some.nnz) - starts[part_of_entry]
    owners[at], items[at], values[at] = owner, some.indices, some.values
    return PackedBatch(rows.reshape(parts, own), owners, items, values)  # pyright: ignore[reportArgumentType]


def packed_length(counts: np.ndarray, size: int) -> int:
    """A number of entries that `size` rows chosen at random seldom exceed, so that few shapes are compiled.

    Args:
      counts: [U] entries of every row.
      size: how many rows are chosen, at most U.
    """
    largest = int(np.sort(counts)[-size:].sum())  # never exceeded
    usual = size * counts.mean() + DEVIATIONS * np.sqrt(size) * counts.std()
    return -(-max(1, min(largest, int(usual))) // 32) * 32
