"""Closed forms from the singular values of X: three regularizers, three curves by which they shrink them.

    min over A, V [I, K] of  ||X - X A V'||_F^2 + reg R(A, V),    with X = U D(sigma) W':

    product   R = ||A V'||^2            A V' = W D(sigma^2 / (sigma^2 + reg)) W'
    factor    R = ||X A||^2 + ||V||^2   A V' = W D((1 - reg / sigma)_+) W'
    l2        R = ||A||^2 + ||V||^2     A V' = W D((1 - reg / sigma^2)_+) W'

each cut to its K largest directions. "product" sees only A V' and leaves every invertible change of basis free
(A M, V M'^-1), the other two only rotations (Steck, Ekanadham & Kallus, WWW 2024 Companion, arXiv 2403.05440, for the
first two). At their optimum "factor" is 2 reg times the nuclear norm of X A V', "l2" 2 reg times the nuclear norm of
A V'.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.sparse.linalg import LinearOperator

from jaxrec import _checks
from jaxrec.closed_form.gram import gram_matrix
from jaxrec.data.interactions import Interactions
from jaxrec.models import ItemFactors
from jaxrec.solvers.columns import HIGHEST
from jaxrec.solvers.lanczos import Eigenpairs, lanczos

KINDS = ("product", "factor", "l2")
DENSE_UP_TO = 512  # items; above, and for ranks up to I/2, Lanczos iterations never form the Gram matrix


def eigenpairs(train: Interactions, rank: int, *, centred: bool = False) -> Eigenpairs:
    """The `rank` largest eigenpairs of X'X in float64, on the host; `centred`: of X minus its column means.

    Cost: Lanczos (ARPACK): about 2 to 10 times `rank` products with X and X', and I rank^2 flops each time it
    restarts; for few items, or ranks above I/2, 9 I^3 flops.
    Raises: ArpackError where it does not converge, or more eigenvalues are equal than it can tell apart.
    """
    n = train.n_items
    if n > DENSE_UP_TO and 2 * rank <= n:
        return lanczos(gram_operator(train, centred), rank, tolerance=1e-9)
    values, vectors = np.linalg.eigh(gram(train, centred))
    return Eigenpairs(np.maximum(values[::-1][:rank], 0), vectors[:, ::-1][:, :rank])


def column_means(train: Interactions) -> np.ndarray:
    """[I] the mean of each column of X over all users, in float64."""
    sums = np.bincount(train.indices, train.values.astype(np.float64), train.n_items)
    return sums / max(train.n_users, 1)


def gram(train: Interactions, centred: bool = False) -> np.ndarray:
    """[I, I] X'X in float64; `centred`: of X minus its column means."""
    found = np.asarray(gram_matrix(train, np.float64))
    if centred:
        shift = column_means(train)
        found = found - train.n_users * np.outer(shift, shift)
    return found


def gram_operator(train: Interactions, centred: bool = False) -> LinearOperator:
    """The map v -> X'X v in float64, without X'X; `centred`: of X minus its column means."""
    x, n = train.to_csr(np.float64), train.n_items
    shift = column_means(train) if centred else np.zeros(n)

    def product(v: np.ndarray) -> np.ndarray:
        v = v.ravel()
        return x.T @ (x @ v) - train.n_users * shift * (shift @ v)

    return LinearOperator((n, n), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]: of SciPy


def shrinkage(sigma: np.ndarray, reg: float, kind: str) -> np.ndarray:
    """[K] by what the solution multiplies each singular direction of X.

    "product" is sigma^2 / (sigma^2 + reg), as of ridge regression; "factor" is (1 - reg / sigma)_+, which thresholds
    the singular values sigma - reg softly, and is 0 from reg = sigma on; "l2" is (1 - reg / sigma^2)_+, which is
    (sigma^2 - reg)_+ / sigma^2.

    Args:
      sigma: [K] singular values of X, at least 0.
      reg: above 0; in the unit of sigma^2 for "product" and "l2", of sigma for "factor".
      kind: "product", "factor" or "l2".
    """
    _checks.one_of("kind", kind, KINDS)
    _checks.positive("reg", reg)
    sigma = np.asarray(sigma, np.float64)
    if kind == "product":
        return sigma**2 / (sigma**2 + reg)
    level = sigma if kind == "factor" else sigma**2
    return np.maximum(level - reg, 0) / np.maximum(level, reg)


def factor_objective(
    x: Float[ArrayLike, "U I"], encoder: Float[ArrayLike, "I K"], decoder: Float[ArrayLike, "I K"], reg: Any
) -> Float[Array, ""]:
    """The loss ||X - X A B'||_F^2 + reg (||X A||_F^2 + ||B||_F^2) (Steck et al. 2024, eq. 2), literally.

    It depends on X through X'X alone, as the product objective does: any R with R'R = X'X, such as the transposed
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


def closed_form_product(pairs: Eigenpairs, reg: float) -> ItemFactors:
    """One of the solutions of the product objective: A = B = V D(d)^(1/2), d = sigma^2 / (sigma^2 + reg).

    (Steck et al. 2024, section 2.1.) Nothing singles it out among (A M, B M'^-1) but that it is balanced.

    Args:
      pairs: the K largest eigenvalues sigma^2 and eigenvectors of X'X, from `eigenpairs`; computed
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


def closed_form_l2(pairs: Eigenpairs, reg: float) -> ItemFactors:
    """The solution with ||A||^2 + ||V||^2, unique up to rotation: A = V = W D((1 - reg / sigma^2)_+)^(1/2).

    Args:
      pairs: as in `closed_form_product`.
      reg: above 0, in the unit of sigma^2: directions with sigma^2 <= reg are zero.
    """
    root = np.sqrt(shrinkage(np.sqrt(pairs.values), reg, "l2"))
    return ItemFactors(pairs.vectors * root, pairs.vectors * root)
