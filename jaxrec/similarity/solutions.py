"""The two regularized factorizations whose cosines Steck, Ekanadham & Kallus compare, in closed form.

    product:  min over A, B [I, K] of  ||X - X A B'||_F^2 + reg ||A B'||_F^2
    factor:   min over A, B [I, K] of  ||X - X A B'||_F^2 + reg (||X A||_F^2 + ||B||_F^2)

(WWW 2024 Companion, arXiv 2403.05440, equations 1 and 2.) X A are the embeddings of the users, B those of the items.
With X = U D(sigma) V' both solutions keep the first K singular directions and shrink them. The first objective sees
only the product A B', so that (A M, B M'^-1) solves it as well for every invertible M; the second leaves rotations.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec.closed_form.spectral import closed_form_factor, closed_form_product, shrinkage
from jaxrec.linear.pure_svd import objective as product_objective
from jaxrec.solvers.columns import HIGHEST

__all__ = ["closed_form_factor", "closed_form_product", "factor_objective", "product_objective", "shrinkage"]


def factor_objective(
    x: Float[ArrayLike, "U I"], encoder: Float[ArrayLike, "I K"], decoder: Float[ArrayLike, "I K"], reg: Any
) -> Float[Array, ""]:
    """The loss ||X - X A B'||_F^2 + reg (||X A||_F^2 + ||B||_F^2) (Steck et al. 2024, eq. 2), literally.

    It depends on X through X'X alone, as does `product_objective`: any R with R'R = X'X, such as the transposed
    Cholesky factor of the Gram matrix, gives the same value as X.

    Args:
      x: [U, I] interactions, or such an R.
      encoder: [I, K] A.
      decoder: [I, K] B.
      reg: scalar >= 0, in the unit of singular values of X.
    """
    x, encoder, decoder = (jnp.asarray(part) for part in (x, encoder, decoder))
    users = jnp.matmul(x, encoder, precision=HIGHEST)
    error = x - jnp.matmul(users, decoder.T, precision=HIGHEST)
    return jnp.sum(error**2) + reg * (jnp.sum(users**2) + jnp.sum(decoder**2))
