"""Sufficient statistics of the data: what every closed form needs to know of it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from jaxrec._progress import progress_bar
from jaxrec._threads import map_in_order
from jaxrec.data import Interactions, row_batches
from jaxrec.data.batching import scatter_rows
from jaxrec.linalg import mirror_lower

# float32 counts exactly up to here: one more user of the same item, and adding 1 changes nothing.
EXACT_COUNTS = 2**24
BLOCK_BYTES = 2**26


def gram(data: Interactions, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """[I, I] the uncentred co-occurrence counts X'X, computed on the host.

    Args:
      data: U x I interactions X.
      dtype: float32 or float64.

    Returns:
      [I, I] symmetric; exact to the last bit of `dtype` for 0/1 data of any number of users.

    Cost: the sum over users of len(history)^2 multiplications; the result and two blocks of 64 MB a thread.
    """
    out = gram_lower(data, dtype)
    mirror_lower(out)
    return out


def gram_lower(data: Interactions, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """[I, I] X'X with zeros above the blocks of the diagonal: half the work, for callers that need one triangle.

    Blocks of rows are multiplied as sparse matrices and written straight into the dense result.
    """
    n = data.n_items
    # Counts are integers, exact in float32 below 2^24; all else is accumulated in float64 and rounded once.
    exact = data.is_binary and data.item_counts.max(initial=0) < EXACT_COUNTS
    x = data.to_csr(dtype if exact else np.float64)
    by_item = x.T.tocsr()
    out = np.zeros((n, n), dtype)
    rows = int(np.clip(BLOCK_BYTES // (12 * max(n, 1)), 16, 1024))

    def fill(s: int) -> int:
        t = min(s + rows, n)
        out[s:t, :t] = (by_item[s:t] @ x[:, :t]).toarray()
        return t - s

    with progress_bar("Gram matrix", n) as advance:
        # Longest rows first, so that no thread is left with the largest block at the end.
        for done in map_in_order(fill, reversed(range(0, n, rows))):
            advance(done)
    return out


def device_gram(data: Interactions, batch_size: int = 4096, device: Any = None) -> Float[Array, "I I"]:
    """[I, I] X'X as float32 on the default device, from dense blocks of users streamed to it.

    Cost: 2 U I^2 flops; the result, and one dense block of `batch_size` x I on the device.
    """
    counting = data.is_binary and data.item_counts.max(initial=0) >= EXACT_COUNTS
    with jax.default_device(device), progress_bar("Gram matrix", data.n_users) as advance:
        total = jnp.zeros((data.n_items, data.n_items), jnp.int32 if counting else jnp.float32)
        for batch in row_batches(data, min(batch_size, max(1, data.n_users)), by_length=True):
            total = _add_gram(total, batch.items, batch.values, binary=data.is_binary)
            advance(batch.rows.shape[0])
        return total.astype(jnp.float32)


def with_user_weights(data: Interactions, weights: np.ndarray) -> Interactions:
    """`data` as D(weights)^(1/2) X, so that its Gram matrix is the user-weighted X' D(weights) X.

    Args:
      data: U x I interactions X.
      weights: [U] at least 0.
    """
    roots = np.sqrt(np.asarray(weights, np.float64))[data.user_of_entry]
    return dataclasses.replace(data, values=(data.values * roots).astype(np.float32))


def default_gram(data: Interactions) -> Float[Array, "I I"]:
    """[I, I] X'X as a float32 JAX array on the default device: by way of the host where that is the CPU."""
    return jnp.asarray(gram(data)) if jax.default_backend() == "cpu" else device_gram(data)


def add_gram(
    total: Num[Array, "I I"], items: Int[Array, "B L"], values: Float[Array, "B L"], binary: bool
) -> Num[Array, "I I"]:
    """[I, I] total + the Gram matrix of B padded rows.

    Args:
      total: [I, I] float32; or int32, which counts exactly up to 2^31.
      items: [B, L] item indices, 0 where padded.
      values: [B, L] values, 0 where padded.
      binary: whether all values are 1 (or 0 where padded). Static. 0/1 operands are exact in bfloat16 and products
        accumulate in float32: one pass of a matrix unit with nothing lost. Other values need full precision.
    """
    dense = scatter_rows(items, values, total.shape[0], jnp.bfloat16 if binary else jnp.float32)
    precision = jax.lax.Precision.DEFAULT if binary else jax.lax.Precision.HIGHEST
    part = jnp.matmul(dense.T, dense, precision=precision, preferred_element_type=jnp.float32)
    return total + part.astype(total.dtype)


_add_gram = partial(jax.jit, static_argnames="binary", donate_argnums=0)(add_gram)


def offdiagonal_norm(products: np.ndarray, signs: np.ndarray) -> float:
    """An unbiased estimate of the Frobenius norm of a matrix without its diagonal, from random-sign probes.

    With z uniform in {-1, 1}^I, the variance of z_j (M z)_j is the sum of M_jk^2 over k != j: the diagonal only
    shifts its mean. So the sample variance over probes, summed over j, estimates the squared norm.

    Args:
      products: [I, P] M z of each probe.
      signs: [I, P] the probes, -1 or 1; P is at least 2.
    """
    return float(np.sqrt(np.var(products * signs, axis=1, ddof=1).sum()))
