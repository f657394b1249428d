"""What a fit of `Awmf` works out once: its equations without S in diagonal form, and factors to start from."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from scipy.linalg import lapack
from scipy.sparse.linalg import ArpackError

from jaxrec.closed_form.gram import gram_matrix, mesh_gram, squared_norms, with_user_weights
from jaxrec.closed_form.spectral import closed_form_factor, closed_form_l2, closed_form_product, eigenpairs
from jaxrec.data.interactions import Interactions
from jaxrec.factorization.ridge import Regressions
from jaxrec.models import ItemFactors
from jaxrec.runtime import parallel
from jaxrec.solvers.lanczos import Eigenpairs

CLOSED_FORMS = {"product": closed_form_product, "factor": closed_form_factor, "l2": closed_form_l2}
FLOOR = {4: 2e-6, 8: 1e-10}  # eigenvalues of the Gram matrix below this share of the largest count as rounding
NEARLY_SINGULAR = 1e-8  # the same where X'X is inverted
POWER_ITERATIONS = 10  # of the subspace to start from, where it need not be exact


@dataclasses.dataclass(frozen=True)
class JointSpectrum:
    """The S = 0 part of the equations for A: X'D(p)X and R made diagonal at once, E'X'D(p)X E = D(s), E'R E = I.

    R is I, or X'X where the penalty is on X A. For V'D(q)V = T D(t) T' these equations are then solved, for the right-
    hand side B, by A = E C T' with C = (E'B T) / (s t' + reg).

    Attributes:
      values: [N] s.
      basis: [I, N] E; or None where E is only the diagonal `scale`, which drops what is off the diagonals of X'D(p)X.
      scale: [I] that diagonal, or None.
      ridge: what stands in place of reg, or None. Where all t are one, E'(t X'D(p)X + reg R) E = I is enough, s being 0
        and this 1: a Cholesky factor in place of eigenvectors.
    """

    values: Any
    basis: Any = None
    scale: Any = None
    ridge: float | None = None


def spectrum(
    train: Interactions, users: Regressions, kind: str, reg: float, exact: bool, on_cpu: bool
) -> tuple[JointSpectrum, Eigenpairs | None]:
    """The preconditioner, and all eigenpairs of X'D(p)X where it needed them.

    Args:
      train: U x I interactions X.
      users: the weights by user: p is its `scale`, q its `col`.
      kind: "l2", "product" or "factor".
      reg: the strength.
      exact: whether to factor the whole matrix; else only its diagonal counts.
      on_cpu: where the matrix is factored; else on the default device.

    Cost: exact: for "product" where q is the same for all items, and for "factor" where p is for all users, on a CPU
      I^3 flops and 20 I^2 bytes; else an eigendecomposition, 9 I^3 flops.
    """
    row, col = users.scale, users.col
    weighted = with_user_weights(train, row)
    same = bool(np.ptp(row) == 0)
    if not exact:
        values = squared_norms(weighted)
        if kind != "factor":
            return JointSpectrum(values, None, np.ones_like(values)), None
        plain = _floored(squared_norms(train), 1e-10)
        return JointSpectrum(values / plain, None, 1 / np.sqrt(plain)), None
    dtype = np.dtype(jnp.zeros(()).dtype)
    if kind == "product" and np.ptp(col) == 0 and reg > 0 and on_cpu:
        matrix = col[0] * gram_matrix(weighted, np.float64)
        np.einsum("ii->i", matrix)[:] += max(reg, 2 * NEARLY_SINGULAR * float(matrix.diagonal().max()))
        basis = _inverse_root_on_range(matrix)
        return JointSpectrum(np.zeros(len(basis)), basis.astype(dtype), ridge=1.0), None
    if kind != "factor":
        values, vectors = _eigh(weighted, on_cpu)
        return JointSpectrum(_floored(values), vectors), Eigenpairs(values[::-1], vectors[:, ::-1])
    if on_cpu:
        gram, pairs = gram_matrix(train, np.float64), None
        basis = _inverse_root_on_range(gram).astype(dtype)
    else:
        values, vectors = _eigh(train, on_cpu)
        basis = vectors / np.sqrt(_floored(values)).astype(vectors.dtype)
        pairs = Eigenpairs(float(row.mean()) * values[::-1], vectors[:, ::-1])
    if same:
        return JointSpectrum(np.full(basis.shape[1], float(row[0])), basis), pairs
    within = basis.T @ gram_matrix(weighted, dtype) @ basis
    values, turn = scipy.linalg.eigh(within, driver="evd", overwrite_a=True, check_finite=False)
    return JointSpectrum(_floored(values), basis @ turn), pairs


def start(
    train: Interactions, problem: Any, pairs: Eigenpairs | None, rank: int, kind: str, reg: float, exact: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A and V of the closed form for W = p q', with the mean of q.

    Args:
      train: U x I interactions X.
      problem: of the sweeps.
      pairs: from `spectrum`, or None.
      rank: K.
      kind: "l2", "product" or "factor".
      reg: the strength.
      exact: whether this is the very solution. If not, directions that it drops are kept small: alternating steps never
        leave 0, and other weights may want them.
    """
    row, col = problem.users.scale, problem.users.col
    level = float(col.mean()) or 1.0
    if pairs is None:
        pairs = leading(with_user_weights(train, row), rank, exact)
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


def leading(data: Interactions, rank: int, exact: bool) -> Eigenpairs:
    """The `rank` largest eigenpairs of X'X, by `eigenpairs`; or near them, by randomized subspace iteration.

    Cost: 4 nnz (rank + 16) flops for each of a few products, and 4 I rank^2 for each of as many orthonormalizations.
    """
    if exact:
        with contextlib.suppress(ArpackError):  # then any start must do
            return eigenpairs(data, rank)
    x: Any = data.to_csr(np.float32)
    by_item = x.T.tocsr()
    width = min(rank + 16, data.n_items)
    basis = np.random.default_rng(0).normal(size=(data.n_items, width)).astype(np.float32)
    for _ in range(POWER_ITERATIONS):
        basis = scipy.linalg.qr(by_item @ (x @ basis), mode="economic", overwrite_a=True, check_finite=False)[0]
    scored = x @ basis
    values, turn = np.linalg.eigh(scored.T @ scored)
    return Eigenpairs(values[::-1][:rank], (basis @ turn[:, ::-1][:, :rank]))


def _eigh(data: Interactions, on_cpu: bool) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors of the Gram matrix, by the host or the default device."""
    if on_cpu:
        gram = gram_matrix(data, np.dtype(jnp.zeros(()).dtype))
        values, vectors = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    else:
        values, vectors = map(
            np.asarray, jax.jit(jnp.linalg.eigh)(mesh_gram(data, parallel.default_mesh(), data.n_items))
        )
    return values, np.ascontiguousarray(vectors)


def _inverse_root(matrix: np.ndarray) -> np.ndarray | None:
    """[I, I] E with E'matrix E = I, the transposed inverse of its Cholesky factor; None where it is nearly singular."""
    potrf, trtri = lapack.get_lapack_funcs(("potrf", "trtri"), (matrix,))
    factor, failed = potrf(matrix.T, lower=1, clean=1)
    if failed or factor.diagonal().min() ** 2 <= NEARLY_SINGULAR * matrix.diagonal().max(initial=0.0):
        return None
    return np.ascontiguousarray(trtri(factor, lower=1, overwrite_c=1)[0].T)


def _inverse_root_on_range(matrix: np.ndarray) -> np.ndarray:
    """[I, N] the same for any positive semi-definite matrix, N being its rank but for rounding.

    With fewer users than items, or items that others add up to, the loss sees X A alone: what X maps to 0 must stay out
    of E, which else holds numbers of any size there.
    """
    if (root := _inverse_root(matrix)) is not None:
        return root
    values, vectors = scipy.linalg.eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
    kept = values > NEARLY_SINGULAR * values[-1]
    return vectors[:, kept] / np.sqrt(values[kept])


def _floored(values: np.ndarray, share: float | None = None) -> np.ndarray:
    share = FLOOR[values.dtype.itemsize] if share is None else share
    return np.maximum(values.astype(np.float64), share * float(values.max(initial=0.0)) or 1.0)
