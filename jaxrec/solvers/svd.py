"""Truncated singular value decompositions, of matrices given whole or by their products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec.solvers.columns import HIGHEST

# A truncated SVD is cut from the whole one up to this size: the whole one takes a fraction of a second.
WHOLE_SVD_UP_TO = 256


def orthonormal(a: Float[Array, "n K"]) -> Float[Array, "n K"]:
    """[n, K] an orthonormal basis of the columns (Householder QR); 4 n K^2 flops."""
    return jnp.linalg.qr(a)[0]


class Operator(NamedTuple):
    """A matrix given by its products with blocks of vectors.

    Attributes:
      shape: (m, n).
      dtype: of its entries.
      apply: [n, K] -> [m, K], the product.
      transpose: [m, K] -> [n, K], the product with the transpose.
    """

    shape: tuple[int, ...]
    dtype: Any
    apply: Callable[[Any], Any]
    transpose: Callable[[Any], Any]


def truncated_svd(
    a: Operator | Float[ArrayLike, "m n"],
    rank: int,
    key: PRNGKeyArray,
    *,
    power_iterations: int = 6,
    oversampling: int = 16,
) -> tuple[Float[Array, "m K"], Float[Array, " K"], Float[Array, "n K"]]:
    """The `rank` largest singular values with their left and right singular vectors: a is near u D(s) v'.

    Randomized subspace iteration (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1), orthonormalized at every
    product. Where it would save nothing it gives way to the whole SVD: for matrices of at most 256 rows or columns,
    and where rank + oversampling passes half of the smaller side. To be called inside `jax.jit`.

    Args:
      a: [m, n] matrix, or an `Operator`, which is applied to blocks of rank + oversampling vectors.
      rank: static, 1 to min(m, n).
      key: random key of the starting block.
      power_iterations: static; each multiplies the error of the subspace by (s_beyond / s_rank)^2.
      oversampling: static; how many more vectors are carried along.

    Returns:
      [m, rank] u, [rank] s descending, [n, rank] v; u and v with orthonormal columns, each pair free in sign.

    Cost: 2 + 2 `power_iterations` products of 2 m n rank flops each; the whole SVD about 20 n^3.
    """
    if not isinstance(a, Operator):
        matrix = jnp.asarray(a)
        multiply = partial(jnp.matmul, precision=HIGHEST)
        a = Operator(matrix.shape, matrix.dtype, partial(multiply, matrix), partial(multiply, matrix.T))
    (m, n), width = a.shape, rank + oversampling
    if min(m, n) <= WHOLE_SVD_UP_TO or 2 * width > min(m, n):
        u, s, vt = jnp.linalg.svd(a.apply(jnp.eye(n, dtype=a.dtype)), full_matrices=False)
        return u[:, :rank], s[:rank], vt[:rank].T

    def iterate(_, basis):
        return orthonormal(a.apply(orthonormal(a.transpose(basis))))

    basis = orthonormal(a.apply(jax.random.normal(key, (n, width), a.dtype)))
    basis = lax.fori_loop(0, power_iterations, iterate, basis)
    v, s, ut = jnp.linalg.svd(a.transpose(basis), full_matrices=False)
    u = jnp.matmul(basis, ut[:rank].T, precision=HIGHEST)
    return u, s[:rank], v[:, :rank]
