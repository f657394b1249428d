"""What a fit of `asymmetric` works out once: the diagonal form of its equations without S, and factors to start from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from scipy.sparse.linalg import ArpackError

from jaxrec import stats
from jaxrec.data import Interactions
from jaxrec.factorization.asymmetric_products import Spectrum
from jaxrec.models import ItemFactors
from jaxrec.spectral import Eigenpairs, closed_form_factor, closed_form_l2, closed_form_product, eigenpairs

CLOSED_FORMS = {"product": closed_form_product, "factor": closed_form_factor, "l2": closed_form_l2}
FLOOR = 16  # rounding errors: eigenvalues below so many, relative to the largest, count as that


def spectrum(train: Interactions, row: np.ndarray, kind: str, exact: bool) -> tuple[Spectrum, Eigenpairs | None]:
    """The preconditioner, and all eigenpairs of X'D(p)X where it needed them.

    Args:
      train: U x I interactions X.
      row: [U] p.
      kind: "l2", "product" or "factor".
      exact: whether to decompose the whole matrix; else only its diagonal counts.

    Cost: exact: 9 I^3 flops and 12 I^2 bytes, and once more for "factor" where p is not the same for all users.
    """
    weighted = stats.with_user_weights(train, row)
    same = bool(np.ptp(row) == 0)
    if not exact:
        values = stats.gram_diagonal(weighted)
        if kind != "factor":
            return Spectrum(values, None, np.ones_like(values)), None
        plain = _floored(stats.gram_diagonal(train))
        return Spectrum(values / plain, None, 1 / np.sqrt(plain)), None
    if kind != "factor":
        values, vectors = _eigh(weighted)
        return Spectrum(_floored(values), vectors), Eigenpairs(values[::-1], vectors[:, ::-1])
    values, vectors = _eigh(train)
    basis = vectors / np.sqrt(_floored(values)).astype(vectors.dtype)
    level = float(row[0]) if same else float(row.mean())
    pairs = Eigenpairs(level * values[::-1], vectors[:, ::-1])
    if same:
        return Spectrum(np.full(len(values), level), basis), pairs
    within = basis.T @ _gram(weighted) @ basis
    values, turn = scipy.linalg.eigh(within, driver="evd", overwrite_a=True, check_finite=False)
    return Spectrum(_floored(values), basis @ turn), pairs


def start(
    train: Interactions, problem: Any, pairs: Eigenpairs | None, rank: int, kind: str, reg: float, exact: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A and V of the closed form for W = p q', with the mean of q.

    Args:
      train: U x I interactions X.
      problem: of the sweeps.
      pairs: from `spectrum`; without them Lanczos iterations find the K largest.
      rank: K.
      kind: "l2", "product" or "factor".
      reg: the strength.
      exact: whether this is the very solution. If not, directions that it drops are kept small: alternating steps never
        leave 0, and other weights may want them.
    """
    row, col = problem.base
    level = float(col.mean()) or 1.0
    if pairs is None:
        try:
            pairs = eigenpairs(stats.with_user_weights(train, row), rank)
        except ArpackError:  # any start will do
            drawn = np.random.default_rng(0).normal(size=(train.n_items, rank))
            pairs = Eigenpairs(np.ones(rank), np.linalg.qr(drawn)[0])
    values = np.maximum(pairs.values[:rank].astype(np.float64), 0)
    pairs = Eigenpairs(np.maximum(values, 1e-6 * values[0] + 1e-30), pairs.vectors[:, :rank].astype(np.float64))
    if kind == "factor":  # its loss is that of X, level p times, whose penalty is on X A
        level *= float(row.mean()) or 1.0
        pairs = Eigenpairs(pairs.values / (float(row.mean()) or 1.0), pairs.vectors)
    strength = max(reg / level, 1e-30)
    if exact:
        model = CLOSED_FORMS[kind](pairs, strength)
    elif kind == "factor":
        sigma = np.sqrt(pairs.values)
        root = np.sqrt(sigma**2 / (sigma + strength))
        model = ItemFactors(pairs.vectors * (root / sigma), pairs.vectors * root)
    else:
        model = closed_form_product(pairs, strength)
    return model.encoder, model.decoder


def _eigh(data: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors of the Gram matrix, by the host or the default device."""
    if jax.default_backend() == "cpu":
        gram = _gram(data)
        values, vectors = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    else:
        values, vectors = map(np.asarray, jax.jit(jnp.linalg.eigh)(stats.device_gram(data)))
    return values.astype(np.float64), np.ascontiguousarray(vectors)


def _gram(data: Interactions) -> np.ndarray:
    return stats.gram(data, np.dtype(jnp.zeros(()).dtype))


def _floored(values: np.ndarray) -> np.ndarray:
    least = FLOOR * np.finfo(jnp.zeros(()).dtype).eps * values.max(initial=0.0)
    return np.maximum(values.astype(np.float64), least or 1.0)
