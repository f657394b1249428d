"""Fixed-shape batches of sparse rows: the only sparse thing a kernel sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.data.interactions import Interactions

MOST_CELLS = 2**25  # of one padded batch: 256 MB of indices and values


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowBatch:
    """B sparse rows, each padded to L entries.

    Attributes:
      rows: [B] int32, the row each came from.
      items: [B, L] int32 item indices; 0 where padded.
      values: [B, L] float32; 0 where padded.

    A padded entry has value 0 *and* the valid index 0: JAX clamps gathers and drops scatters that are out of range
    without a word, so an invalid index would go unseen.
    """

    rows: Int[Array, " B"]
    items: Int[Array, "B L"]
    values: Float[Array, "B L"]

    def dense(self, n_items: int, dtype=jnp.float32) -> Float[Array, "B I"]:
        """[B, I] the rows as a dense matrix."""
        return scatter_rows(self.items, self.values, n_items, dtype)


def scatter_rows(
    items: Int[Array, "B L"], values: Float[Array, "B L"], n_items: int, dtype=jnp.float32
) -> Float[Array, "B I"]:
    """[B, I] dense rows from padded ones; padding adds 0 to item 0."""
    empty = jnp.zeros((items.shape[0], n_items), dtype)
    return jax.vmap(lambda row, i, v: row.at[i].add(v.astype(dtype)))(empty, items, values)


def row_batches(data: Interactions, batch_size: int, *, by_length: bool = False) -> Iterator[RowBatch]:
    """The rows of `data` in batches of one fixed B; the last is filled up with empty rows (row index -1).

    L is the longest history of the batch rounded up to a power of two, so that few shapes are compiled. Where B x L
    would pass `MOST_CELLS`, the batch has half as many rows, or a quarter, and so on.

    Args:
      data: U x I interactions.
      batch_size: B.
      by_length: visit the users by length of history, so that little is padded (order of users given up).
    """
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
