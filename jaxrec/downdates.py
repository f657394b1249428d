"""The scores of the models that were trained without one user each, from the inverse of the model of all users.

Removing user u with history x from the data takes x x' from G = X'X + Lambda, and so changes C = G^-1 by a matrix of
rank one (Sherman and Morrison, 1950): with c = C x and h = x'c, C_u = C + c c' / (1 - h). The scores that the model
without u gives for a history f are f - (f'C_u) D(s), with s as in `jaxrec.closed_form` but from C_u:

    f'C_u = f'C + (f'c) c' / (1 - h),    diag(C_u) = diag(C) + c^2 / (1 - h).

No model is fitted again: all users together cost about two scorings. A penalty that counts the user's own items
(dropout above 0) changes with the user too, on these items alone. Then G changes by E M E', where E picks the user's n
items and M = x x' + D(delta), and with M = L L' and the Cholesky factor R R' = I - L'E'C E L it is C_u = C + W'W,
W = R^-1 L'E'C: exact as well, at n^2 I flops for a user.

Where 1 - h is small (little regularization, and a user who has items almost to himself), float32 holds too few digits
of C for the quotient: for these users C x is refined in float64 through the sparse data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.linalg import blas, lapack

from jaxrec import closed_form, kkt, linalg
from jaxrec._checks import InputError
from jaxrec.closed_form import ClosedForm
from jaxrec.data import Interactions
from jaxrec.status import Certificate, FitError, Status

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little
# Where 1 - h (or the least eigenvalue of R R') is below this, removing the user cancels digits of C: C x is refined.
WEAK = {"float32": 0.05, "float64": 1e-6}
UNSURE = 0.01  # or where rounding errors of C may add up to so much in h
SMALLEST = 1e-7  # of what may be left, and largest relative error of C x


@dataclasses.dataclass(frozen=True)
class LeaveUserOut:
    """The inverse C of all users' data, from which the models without any one of them follow.

    Attributes:
      method: the closed form.
      inverse: [I, I] C = (X'X + Lambda)^-1, both triangles.
      gram_diagonal: [I] diagonal of X'X.
      penalty: [I] diagonal of Lambda.
      data: X.
      certificate: of the model of all users.
    """

    method: ClosedForm
    inverse: Any
    gram_diagonal: np.ndarray
    penalty: np.ndarray
    data: Interactions
    certificate: Certificate | None = None

    @property
    def solution(self) -> closed_form.Solution:
        """The model of all users; its weights are only multiplied from the right, and never formed."""
        with np.errstate(divide="ignore"):
            unexplained = 1 / np.asarray(self.inverse.diagonal(), np.float64)
        s = np.maximum((1 - self.method.diagonal_limit) * unexplained, self.penalty)
        return closed_form.Solution(_Weights(self.inverse, s), unexplained)

    @property
    def size(self) -> float:
        """||zd(B)||_F of the model of all users: the stronger the regularization, the smaller."""
        inverse = np.asarray(self.inverse)
        squares = np.einsum("ij,ij->j", inverse, inverse) - inverse.diagonal() ** 2
        return float(np.sqrt((squares * self.solution.weights.s**2).sum()))

    def scores(self, history: Rows, fold_in: Rows) -> np.ndarray:
        """[B, I] scores of histories `fold_in` by the models that were each trained without one user.

        Args:
          history: [B, I] what the data hold of each user: this is taken from the data.
          fold_in: [B, I] what the model is shown of each user; often a part of `history`.

        Raises:
          FitError: even refined, rounding leaves nothing of 1 - h.
        """
        if self._counts_the_users_items:
            return np.concatenate([np.empty((0, history.shape[1]), np.float32), *self._one_by_one(history, fold_in)])
        if isinstance(self.inverse, jax.Array):
            dense = (jnp.asarray(rows.toarray()) for rows in (history, fold_in))
            found, left = _scores_on_device(self.inverse, *dense, self.penalty, self.method.diagonal_limit)
            found, left = np.array(found), np.asarray(left)
        else:
            shown = fold_in @ self.inverse
            c = shown + (history - fold_in) @ self.inverse  # = history C, from what is not shown alone
            found, left = self._finish_with(shown, c, history, fold_in)
        weak = np.flatnonzero(self._weak(left, history))
        if len(weak):
            history, fold_in = history[weak], fold_in[weak]
            shown, c = self._refined(fold_in), self._refined(history)
            found[weak], left = self._finish_with(shown, c, history, fold_in)
            self._require(left.min() > SMALLEST)
        return found

    def _finish_with(self, shown: np.ndarray, c: np.ndarray, history: Rows, fold_in: Rows) -> tuple:
        """([B, I] scores, [B] 1 - h) from f'C and c; overwrites both."""
        left = 1 - _row_products(history, c)
        shown += (_row_products(fold_in, c) / left)[:, None].astype(c.dtype) * c
        np.square(c, out=c)
        c /= left[:, None].astype(c.dtype)
        c += np.asarray(self.inverse.diagonal())
        limit = self.method.diagonal_limit
        return _finish(shown, c, fold_in, self.penalty.astype(c.dtype), limit), left

    def _weak(self, left: Any, history: Rows) -> Any:
        """[B] whether C is not exact enough to remove the user."""
        dtype = np.dtype(self.inverse.dtype)
        largest = (abs(history) @ np.sqrt(np.abs(np.asarray(self.inverse.diagonal(), np.float64)))) ** 2  # of x'|C|x
        return np.logical_not((left > WEAK[dtype.name]) & (np.finfo(dtype).eps / 2 * largest < UNSURE))

    @cached_property
    def _x(self) -> Rows:
        """[U, I] X in float64."""
        return self.data.to_csr(np.float64)

    def _refined(self, rows: Rows) -> np.ndarray:
        """[B, I] float64 rows C."""
        found, errors = kkt.refined_rows(rows, self.inverse, self._x, self.penalty)
        self._require(errors.max(initial=0) < SMALLEST)
        return found

    def _require(self, exact: Any) -> None:
        """Refuses scores of which rounding leaves nothing."""
        if not exact:
            raise FitError(
                Status.ILL_CONDITIONED,
                f"{self.method.dtype} cannot resolve {self.method} without a user who has items almost to himself; "
                f"raise reg, or use {type(self.method).__name__}(dtype='float64').",
            )

    @property
    def _counts_the_users_items(self) -> bool:
        return not np.array_equal(self.penalty, self.method.penalty(self.gram_diagonal / 2))

    def _one_by_one(self, history: Rows, fold_in: Rows) -> Iterator[np.ndarray]:
        """The scores where the penalty too changes with the user."""
        inverse = np.asarray(self.inverse)
        for u in range(history.shape[0]):
            x, shown = history[u : u + 1], fold_in[u : u + 1]
            items, values = x.indices, x.data.astype(np.float64)
            rest = self.gram_diagonal.copy()
            rest[items] -= values**2
            penalty = self.method.penalty(rest)
            delta = self.penalty - penalty
            changed = delta != 0
            changed[items] = False
            if changed.any():
                raise InputError(
                    f"the penalty of {type(self.method).__name__} on one item depends on the others, so that "
                    "leave-one-user-out scores have no closed form; evaluate it on a split."
                )
            numerator, divisor = shown @ inverse, inverse.diagonal()[None, :].copy()
            if len(items):
                half = np.linalg.cholesky(np.outer(values, values) + np.diag(delta[items]))
                w, left = _downdate(half, inverse[items], items)
                if self._weak(left, x):
                    unit = sp.csr_array((np.ones(len(items)), (np.arange(len(items)), items)), (len(items), x.shape[1]))
                    numerator = self._refined(shown)
                    w, left = _downdate(half, self._refined(unit), items)
                    self._require(left > SMALLEST)
                numerator = numerator + (w @ shown.toarray()[0]) @ w
                divisor = divisor + np.einsum("ni,ni->i", w, w)
            yield _finish(numerator, divisor, shown, penalty.astype(inverse.dtype), self.method.diagonal_limit)


def scores(
    inverse: Float[ArrayLike, "I I"],
    history: Float[ArrayLike, "B I"],
    fold_in: Float[ArrayLike, "B I"],
    penalty: Any,
    diagonal_limit: Any = 0.0,
    user_weights: Any = 1.0,
) -> Float[Array, "B I"]:
    """[B, I] scores of `fold_in` by the models that were each trained without one user; can be jitted, differentiated.

    The kernel of `LeaveUserOut.scores`, for a penalty that does not depend on the data.

    Args:
      inverse: [I, I] C = (X'D(w)X + Lambda)^-1 of all users.
      history: [B, I] rows x of X to leave out.
      fold_in: [B, I] rows f to score.
      penalty: [I] diagonal of Lambda, or a scalar.
      diagonal_limit: scalar xi in [0, 1], the largest diagonal of the weights.
      user_weights: [B] w, the weight of each user in the sum X'D(w)X, or a scalar.

    Cost: 4 B I^2 flops.
    Differs from `LeaveUserOut`: nothing is refined where 1 - w x'C x is small, and with it digits of C are lost.
    """
    return _scores_and_left(inverse, history, fold_in, penalty, diagonal_limit, user_weights)[0]


def _scores_and_left(
    inverse: Any, history: Any, fold_in: Any, penalty: Any, diagonal_limit: Any = 0.0, user_weights: Any = 1.0
) -> tuple[Array, Array]:
    """What `scores` returns, and [B] 1 - w x'C x."""
    inverse, history, fold_in = jnp.asarray(inverse), jnp.asarray(history), jnp.asarray(fold_in)
    w = jnp.broadcast_to(jnp.asarray(user_weights, inverse.dtype), history.shape[:1])
    c = jnp.matmul(history, inverse, precision=linalg.HIGHEST)
    left = 1 - w * jnp.sum(history * c, axis=1)
    gain = w / left  # of rank one: C_u = C + gain c c'
    shown = jnp.matmul(fold_in, inverse, precision=linalg.HIGHEST)
    numerator = shown + (gain * jnp.sum(fold_in * c, axis=1))[:, None] * c
    divisor = jnp.diagonal(inverse)[None, :] + gain[:, None] * c**2
    s = jnp.maximum((1 - diagonal_limit) / divisor, jnp.reshape(jnp.asarray(penalty), (1, -1)))
    return fold_in - numerator * s, left


@dataclasses.dataclass(frozen=True)
class _Weights:
    """B = I - C D(s), to be multiplied from the right."""

    inverse: Any
    s: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        return self.inverse.dtype

    def __matmul__(self, right: np.ndarray) -> np.ndarray:
        scaled = (self.s[:, None] * right).astype(self.dtype)
        if isinstance(self.inverse, jax.Array):
            return right - np.asarray(jnp.matmul(self.inverse, scaled, precision=linalg.HIGHEST))
        return right - self.inverse @ scaled


_scores_on_device = jax.jit(_scores_and_left)


def _downdate(half: np.ndarray, picked: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, float]:
    """([n, I] W with C_u = C + W'W, about the least eigenvalue of R R') from L [n, n] and E'C [n, I]."""
    potrf: Any = lapack.get_lapack_funcs("potrf", (picked,))
    trsm: Any = blas.get_blas_funcs("trsm", (picked,))
    pocon: Any = lapack.get_lapack_funcs("pocon", (picked,))
    left = (np.eye(len(items)) - half.T @ picked[:, items] @ half).astype(picked.dtype)
    factor, failed = potrf(left, lower=1)
    if failed:
        return picked, 0.0
    w = half.T.astype(picked.dtype) @ picked
    w = trsm(1.0, factor, w.T, side=1, lower=1, trans_a=1, overwrite_b=1).T  # factor^-1 w, in place
    norm = np.abs(left).sum(axis=0).max()
    return w, float(norm * pocon(factor, norm, uplo="L")[0])


def _row_products(rows: Rows, dense: np.ndarray) -> np.ndarray:
    """[B] float64 inner products of sparse and dense rows."""
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    return np.bincount(row, rows.data * dense[row, rows.indices].astype(np.float64), minlength=rows.shape[0])


def _finish(
    numerator: np.ndarray, divisor: np.ndarray, fold_in: Rows, penalty: np.ndarray, diagonal_limit: float
) -> np.ndarray:
    """[B, I] f - numerator s, with s = max((1 - xi) / divisor, penalty); overwrites both."""
    np.divide(1 - diagonal_limit, divisor, out=divisor)
    np.maximum(divisor, penalty[None, :], out=divisor)
    numerator *= divisor
    np.negative(numerator, out=numerator)
    numerator[np.repeat(np.arange(fold_in.shape[0]), np.diff(fold_in.indptr)), fold_in.indices] += fold_in.data
    return numerator
