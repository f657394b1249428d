"""Fixed-shape batches of sparse rows: the only sparse thing a kernel sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.data.interactions import Interactions


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

    L is the longest history of the batch rounded up to a power of two, so that few shapes are compiled.

    Args:
      data: U x I interactions.
      batch_size: B.
      by_length: visit the users by length of history, so that little is padded (order of users given up).
    """
    order = np.argsort(data.user_counts, kind="stable") if by_length else np.arange(data.n_users)
    for start in range(0, data.n_users, batch_size):
        users = order[start : start + batch_size]
        part = data.rows(users)
        counts = part.user_counts
        width = 1 << int(max(1, counts.max(initial=1)) - 1).bit_length()
        rows = np.full(batch_size, -1, np.int32)
        rows[: len(users)] = users
        items = np.zeros((batch_size, width), np.int32)
        values = np.zeros((batch_size, width), np.float32)
        at = part.user_of_entry, np.arange(part.nnz) - np.repeat(part.indptr[:-1], counts)
        items[at] = part.indices
        values[at] = part.values
        yield RowBatch(jnp.asarray(rows), jnp.asarray(items), jnp.asarray(values))
