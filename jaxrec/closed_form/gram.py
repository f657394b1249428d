"""Sufficient statistics of the data: what every closed form needs to know of it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num

from jaxrec.data.batching import row_batches, scatter_rows
from jaxrec.data.interactions import Interactions
from jaxrec.runtime import parallel
from jaxrec.runtime.progress import progress_bar
from jaxrec.runtime.threads import map_in_order, n_threads
from jaxrec.solvers.columns import row_chunk
from jaxrec.solvers.spd import sweep_layout
from jaxrec.solvers.spd_host import mirror_lower

# float32 counts exactly up to here: one more user of the same item, and adding 1 changes nothing.
EXACT_COUNTS = 2**24
BLOCK_BYTES = 2**26


def gram_matrix(data: Interactions, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """[I, I] the uncentred co-occurrence counts X'X, computed on the host.

    Args:
      data: U x I interactions X.
      dtype: float32 or float64.

    Returns:
      [I, I] symmetric; exact to the last bit of `dtype` for 0/1 data of any number of users.

    Cost: the sum over users of len(history)^2 multiplications; the result and two blocks of 64 MB a thread.
    """
    out = lower_gram(data, dtype)
    mirror_lower(out)
    return out


def lower_gram(
    data: Interactions, dtype: np.dtype | type = np.float32, user_weights: np.ndarray | None = None
) -> np.ndarray:
    """[I, I] X'X with zeros above the blocks of the diagonal: half the work, for callers that need one triangle.

    Blocks of rows are multiplied as sparse matrices and written straight into the dense result. With `user_weights` w,
    [U] and at least 0, it is X' D(w) X, in which float64 stays exact, as it does not by way of `with_user_weights`.
    """
    n = data.n_items
    if user_weights is not None and (np.asarray(user_weights) == 1).all():
        user_weights = None
    # Counts are integers, exact in float32 below 2^24; all else is accumulated in float64 and rounded once.
    exact = user_weights is None and _exact_in_float32(data)
    x = data.to_csr(dtype if exact else np.float64)
    by_item = x.T.tocsr()
    if user_weights is not None:
        by_item.data *= np.asarray(user_weights, np.float64)[by_item.indices]
    out = np.zeros((n, n), dtype)
    rows = max(1, _rows_at_once(n))

    def fill(s: int) -> int:
        t = min(s + rows, n)
        with np.errstate(over="ignore"):  # what overflows is not certified
            out[s:t, :t] = (by_item[s:t] @ x[:, :t]).toarray()
        return t - s

    with progress_bar("Gram matrix", n) as advance:
        # Longest rows first, so that no thread is left with the largest block at the end.
        for done in map_in_order(fill, reversed(range(0, n, rows))):
            advance(done)
    return out


def gram_memory(n_users: int, n_items: int, nnz: int, itemsize: int, weighted: bool = False) -> dict[str, int]:
    """Bytes of the arrays of `lower_gram` at its end, by what they are.

    Args:
      n_users: U.
      n_items: I.
      nnz: number of interactions.
      itemsize: bytes of a number of the result.
      weighted: whether the values are such that float64 is asked for.
    """
    number = 4 + (8 if weighted else itemsize)  # of a sparse matrix
    cells = _rows_at_once(n_items) * n_items
    filled = int(min(cells, nnz * max(1.0, nnz / n_users)))
    return {
        "lower half of the Gram matrix": itemsize * n_items**2 // 2,
        "blocks of it, sparse and dense": n_threads() * (itemsize * cells + number * filled),
        "sparse data by user and by item, and their parts": (2 + n_threads()) * number * nnz,
    }


def _rows_at_once(n_items: int) -> int:
    """Rows of a block of the Gram matrix on the host."""
    return min(n_items, int(np.clip(BLOCK_BYTES // (12 * max(n_items, 1)), 16, 1024)))


def with_user_weights(data: Interactions, weights: np.ndarray, dtype: np.dtype | type = np.float32) -> Interactions:
    """`data` as D(weights)^(1/2) X, so that its Gram matrix is the user-weighted X' D(weights) X.

    Args:
      data: U x I interactions X.
      weights: [U] at least 0.
      dtype: of the values; float64 for what is computed in float64.
    """
    roots = np.sqrt(np.asarray(weights, np.float64))[data.user_of_entry]
    return dataclasses.replace(data, values=(data.values * roots).astype(dtype))


def default_gram(data: Interactions, mesh: Any = None) -> Float[Array, "N N"]:
    """[N, N] X'X as a float32 JAX array: whole on the CPU, or on a mesh, padded and split by columns.

    By way of the host if the devices are CPUs, on which sparse products cost a fraction of dense ones.

    Args:
      data: U x I interactions; on several hosts the same on each.
      mesh: what `parallel.make_mesh` returned; then N is I padded with empty items as `sweep_layout` says. Or None.
    """
    if mesh is None:
        return jnp.asarray(gram_matrix(data))
    form = host_gram_on_mesh if mesh.devices.flat[0].platform == "cpu" else mesh_gram
    return form(data, mesh, sweep_layout(data.n_items, mesh.size).size)


def mesh_gram(data: Interactions, mesh: Any, size: int, batch_size: int | None = None) -> Float[Array, "N N"]:
    """[N, N] X'X as float32, padded with empty items and split over `mesh` by columns; computed on the devices.

    Batches of users travel as padded sparse rows, each device receiving its share from the host and the rest from the
    others; every device builds its own columns. No dense block and no partial sum is ever sent.

    Args:
      data: U x I interactions; on several hosts the same on each.
      mesh: what `parallel.make_mesh` returned.
      size: N >= I, a multiple of the number of devices.
      batch_size: users at a time; default as many as keep a dense block within 256 MB, at most 4096.

    Cost: 2 U N^2 flops in all; on each device its columns, and a dense block of batch_size x N.
    """
    if batch_size is None:
        batch_size = int(np.clip(4 * BLOCK_BYTES // ((2 if data.is_binary else 4) * size), 64, 4096))
    total = parallel.zeros((size, size), mesh, jnp.int32 if _counting(data) else jnp.float32)
    with progress_bar("Gram matrix", data.n_users) as advance:
        for batch in row_batches(data, min(batch_size, max(1, data.n_users)), by_length=True):
            rows = parallel.place_rows((np.asarray(batch.items), np.asarray(batch.values)), mesh)
            total = _add_gram_on_mesh(total, *rows, binary=data.is_binary, mesh=mesh)
            advance(batch.rows.shape[0])
    return total if total.dtype == jnp.float32 else _as_float32(total)


def host_gram_on_mesh(data: Interactions, mesh: Any, size: int) -> Float[Array, "N N"]:
    """[N, N] the same, from sparse products on the hosts: each fills its own devices' columns one after the other.

    Cost: the sum over users of len(history)^2 multiplications; on a host one device's columns at a time.
    """
    n, exact = data.n_items, _exact_in_float32(data)
    by_item = data.to_csr(np.float32 if exact else np.float64).T.tocsr()
    rows = int(np.clip(BLOCK_BYTES // (12 * size), 16, 1024))

    with progress_bar("Gram matrix", size) as advance:

        def fill(columns: slice) -> np.ndarray:
            start, stop, _ = columns.indices(size)
            out = np.zeros((size, stop - start), np.float32)
            own = by_item[start:stop].T.tocsr()

            def fill_rows(s: int) -> None:
                t = min(s + rows, n)
                with np.errstate(over="ignore"):  # what overflows is not certified
                    out[s:t, : own.shape[1]] = (by_item[s:t] @ own).toarray()

            for _ in map_in_order(fill_rows, range(0, n, rows)):
                pass
            advance(stop - start)
            return out

        return parallel.fill_columns((size, size), mesh, fill)


def _exact_in_float32(data: Interactions) -> bool:
    """Whether every count of two items together is an integer below 2^24."""
    return bool(data.is_binary and data.item_counts.max(initial=0) < EXACT_COUNTS)


def _counting(data: Interactions) -> bool:
    """Whether counts need int32, float32 being too narrow for them."""
    return data.is_binary and not _exact_in_float32(data)


def add_gram(
    total: Num[Array, "I m"],
    items: Int[Array, "B L"],
    values: Float[Array, "B L"],
    binary: bool,
    chunk: int | None = None,
    axis: str | None = None,
) -> Num[Array, "I m"]:
    """[I, m] total + my columns of the Gram matrix of the padded rows of all devices.

    Args:
      total: [I, m] float32; or int32, which counts exactly up to 2^31. Without `axis`, m = I.
      items: [B, L] item indices, 0 where padded.
      values: [B, L] values, 0 where padded.
      binary: whether all values are 1 (or 0 where padded). Static. 0/1 operands are exact in bfloat16 and products
        accumulate in float32: one pass of a matrix unit with nothing lost. Other values need full precision.
      chunk: rows of `total` updated at a time, a divisor of I, so that no second I x m matrix is made. Static.
      axis: the mesh axis over which rows and columns are split, or None.
    """
    n, m = total.shape
    items, values = (parallel.all_gather(part, axis) for part in (items, values))
    dense = scatter_rows(items, values, n, jnp.bfloat16 if binary else jnp.float32)
    own = dense if axis is None else lax.dynamic_slice_in_dim(dense, parallel.axis_index(axis) * m, m, axis=1)
    precision = lax.Precision.DEFAULT if binary else lax.Precision.HIGHEST

    def plus(total, dense):
        part = jnp.matmul(dense.T, own, precision=precision, preferred_element_type=jnp.float32)
        return total + part.astype(total.dtype)

    if chunk is None:
        return plus(total, dense)

    def update(i, total):
        part = lax.dynamic_slice_in_dim(total, i * chunk, chunk)
        part = plus(part, lax.dynamic_slice_in_dim(dense, i * chunk, chunk, axis=1))
        return lax.dynamic_update_slice_in_dim(total, part, i * chunk, axis=0)

    return lax.fori_loop(0, n // chunk, update, total)


_as_float32 = partial(jax.jit, donate_argnums=0)(lambda total: total.astype(jnp.float32))


@partial(jax.jit, static_argnames=("binary", "mesh"), donate_argnums=0)
def _add_gram_on_mesh(total, items, values, *, binary, mesh):
    kernel = partial(add_gram, binary=binary, chunk=row_chunk(len(total)))
    placed = (parallel.COLUMNS, parallel.ROWS, parallel.ROWS)
    return parallel.over_columns(kernel, mesh, placed, parallel.COLUMNS)(total, items, values)


def squared_norms(data: Interactions) -> np.ndarray:
    """[I] float64 the diagonal of X'X: the sum of squares of each item's values."""
    return np.bincount(data.indices, np.square(data.values, dtype=np.float64), minlength=data.n_items)


def reg_dominates(data: Interactions, reg: float) -> bool:
    """Whether `reg` is so far above every item's sum of squares that it leaves nothing to learn."""
    return reg >= 1e3 * float(squared_norms(data).max())


def offdiagonal_norm(products: np.ndarray, signs: np.ndarray) -> float:
    """An unbiased estimate of the Frobenius norm of a matrix without its diagonal, from random-sign probes.

    With z uniform in {-1, 1}^I, the variance of z_j (M z)_j is the sum of M_jk^2 over k != j: the diagonal only
    shifts its mean. So the sample variance over probes, summed over j, estimates the squared norm.

    Args:
      products: [I, P] M z of each probe.
      signs: [I, P] the probes, -1 or 1; P is at least 2.
    """
    return float(np.sqrt(np.var(products * signs, axis=1, ddof=1).sum()))
