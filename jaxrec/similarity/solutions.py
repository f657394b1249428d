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
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks, linalg
from jaxrec.linear.pure_svd import Eigenpairs
from jaxrec.linear.pure_svd import objective as product_objective
from jaxrec.models import ItemFactors

__all__ = ["closed_form_factor", "closed_form_product", "factor_objective", "product_objective", "shrinkage"]

KINDS = ("product", "factor")


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
    users = jnp.matmul(x, encoder, precision=linalg.HIGHEST)
    error = x - jnp.matmul(users, decoder.T, precision=linalg.HIGHEST)
    return jnp.sum(error**2) + reg * (jnp.sum(users**2) + jnp.sum(decoder**2))


def shrinkage(sigma: np.ndarray, reg: float, kind: str) -> np.ndarray:
    """[K] by what the solution multiplies each singular direction of X.

    "product" is sigma^2 / (sigma^2 + reg), as of ridge regression; "factor" is (1 - reg / sigma)_+, which thresholds
    the singular values sigma - reg softly, and is 0 from reg = sigma on.

    Args:
      sigma: [K] singular values of X, at least 0.
      reg: above 0; in the unit of sigma^2 for "product", of sigma for "factor".
      kind: "product" or "factor".
    """
    _checks.one_of("kind", kind, KINDS)
    _checks.positive("reg", reg)
    sigma = np.asarray(sigma, np.float64)
    if kind == "product":
        return sigma**2 / (sigma**2 + reg)
    return np.maximum(sigma - reg, 0) / np.maximum(sigma, reg)


def closed_form_product(pairs: Eigenpairs, reg: float) -> ItemFactors:
    """One of the solutions of the product objective: A = B = V D(d)^(1/2), d = sigma^2 / (sigma^2 + reg).

    (Steck et al. 2024, section 2.1.) Nothing singles it out among (A M, B M'^-1) but that it is balanced.

    Args:
      pairs: the K largest eigenvalues sigma^2 and eigenvectors of X'X, from `linear.pure_svd.eigenpairs`; computed
        once, they serve every `reg`.
      reg: above 0, in the unit of sigma^2: squared singular values of X.

    Returns:
      ItemFactors of the precision of `pairs`. Not unique if sigma_K equals the singular value after it.
    """
    root = np.sqrt(shrinkage(np.sqrt(pairs.values), reg, "product"))
    return ItemFactors(pairs.vectors * root, pairs.vectors * root)


def closed_form_factor(pairs: Eigenpairs, reg: float) -> ItemFactors:
    """The solution of the factor objective, unique up to rotation: users X A = U D(sigma - reg)_+^(1/2), items alike.

    A = V D((sigma - reg)_+)^(1/2) / sigma and B = V D((sigma - reg)_+)^(1/2) (Steck et al. 2024, section 2.3). It is
    also where unweighted alternating least squares with the penalty reg (||P||^2 + ||Q||^2) ends: P = X A, Q = B.

    Args:
      pairs: as in `closed_form_product`. From eigenvalues of X'X, singular values below some 1e-7 of the largest are
        rounding errors; they do not matter where they are below `reg`.
      reg: above 0, in the unit of sigma: directions with sigma <= reg are zero.
    """
    sigma = np.sqrt(pairs.values)
    root = np.sqrt(sigma * shrinkage(sigma, reg, "factor"))
    return ItemFactors(pairs.vectors * (root / np.maximum(sigma, reg)), pairs.vectors * root)
