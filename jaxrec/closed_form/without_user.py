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
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec._checks import InputError
from jaxrec.closed_form import kernel
from jaxrec.closed_form.certificate import refined_rows
from jaxrec.closed_form.method import ClosedForm
from jaxrec.solvers.columns import HIGHEST
from jaxrec.status import Certificate, FitError, Status

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little
# Where 1 - h (or the least eigenvalue of R R') is below this, removing the user cancels digits of C: C x is refined.
REFINE_BELOW = {"float32": 0.05, "float64": 1e-6}
UNSURE = 0.01  # or where rounding errors of C may add up to so much in h
NUMBERS_AT_ONCE = 2**22  # numbers in W of users that are taken together
MIN_LEFT = 1e-7  # of what may be left, and largest relative error of C x


@dataclasses.dataclass(frozen=True)
class LeaveUserOut:
    """The inverse C of all users' data, from which the models without any one of them follow.

    Attributes:
      method: the closed form.
      inverse: [I, I] C = (X'X + Lambda)^-1, both triangles.
      problem: data X, penalty and limit of the diagonal.
      certificate: of the model of all users.
    """

    method: ClosedForm
    inverse: Any
    problem: kernel.Problem
    certificate: Certificate | None = None

    @property
    def solution(self) -> kernel.Solution:
        """The model of all users; its weights are only multiplied from the right, and never formed."""
        with np.errstate(divide="ignore"):
            unexplained = 1 / np.asarray(self.inverse.diagonal(), np.float64)
        return kernel.Solution(_Weights(self.inverse, self.problem.scale(unexplained)), unexplained)

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
            return self._by_length(history, fold_in)
        if isinstance(self.inverse, jax.Array):
            dense = (jnp.asarray(rows.toarray()) for rows in (history, fold_in))
            found, left = _scores_on_device(self.inverse, *dense, self.problem.penalty, self.problem.diagonal_limit)
            found, left = np.array(found), np.asarray(left)
        else:
            shown = fold_in @ self.inverse
            c = shown + (history - fold_in) @ self.inverse  # = history C, from what is not shown alone
            found, left = self._scores_with(shown, c, history, fold_in)
        weak = np.flatnonzero(self._weak(left, history))
        if len(weak):
            history, fold_in = history[weak], fold_in[weak]
            shown, c = self._refined(fold_in), self._refined(history)
            found[weak], left = self._scores_with(shown, c, history, fold_in)
            self._require(left.min() > MIN_LEFT)
        return found

    def _scores_with(self, shown: np.ndarray, c: np.ndarray, history: Rows, fold_in: Rows) -> tuple:
        """([B, I] scores, [B] 1 - h) from f'C and c; overwrites both."""
        left = 1 - _row_products(history, c)
        shown += (_row_products(fold_in, c) / left)[:, None].astype(c.dtype) * c
        np.square(c, out=c)
        c /= left[:, None].astype(c.dtype)
        c += np.asarray(self.inverse.diagonal())
        limit = self.problem.diagonal_limit
        return _scores_from_inverse(shown, c, fold_in, self.problem.penalty.astype(c.dtype), limit), left

    def _weak(self, left: Any, history: Rows) -> Any:
        """[B] whether C is not exact enough to remove the user."""
        dtype = np.dtype(self.inverse.dtype)
        largest = (abs(history) @ np.sqrt(np.abs(np.asarray(self.inverse.diagonal(), np.float64)))) ** 2  # of x'|C|x
        return np.logical_not((left > REFINE_BELOW[dtype.name]) & (np.finfo(dtype).eps / 2 * largest < UNSURE))

    @cached_property
    def _x(self) -> Rows:
        """[U, I] X in float64."""
        return self.problem.x.to_csr(np.float64)

    def _refined(self, rows: Rows) -> np.ndarray:
        """[B, I] float64 rows C."""
        found, errors = refined_rows(rows, self.inverse, self._x, self.problem.penalty)
        self._require(errors.max(initial=0) < MIN_LEFT)
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
        return not np.array_equal(self.problem.penalty, self.method.penalty(self.problem.gram_diagonal / 2))

    def _by_length(self, history: Rows, fold_in: Rows) -> np.ndarray:
        """The scores where the penalty too changes with the user; users with equally many items together."""
        found = np.empty(history.shape, self.inverse.dtype)
        lengths = np.diff(history.indptr)
        for n in np.unique(lengths):
            users = np.flatnonzero(lengths == n)
            step = max(1, NUMBERS_AT_ONCE // (max(1, n) * history.shape[1]))
            for chunk in np.split(users, range(step, len(users), step)):
                found[chunk] = self._of_one_length(history[chunk], fold_in[chunk])
        return found

    def _of_one_length(self, history: Rows, fold_in: Rows) -> np.ndarray:
        """The same for B users of n items each."""
        inverse, count = np.asarray(self.inverse), history.shape[0]
        items = history.indices.reshape(count, -1)
        values = history.data.reshape(items.shape).astype(np.float64)
        penalty = np.stack([self._penalty_without(*user) for user in zip(items, values, strict=True)])
        changes = np.take_along_axis(self.problem.penalty - penalty, items, axis=1)
        numerator, divisor = fold_in @ inverse, np.tile(inverse.diagonal(), (count, 1))
        if items.shape[1]:
            half = np.linalg.cholesky(values[:, :, None] * values[:, None, :] + _diagonals(changes))
            w, left = _downdate(half, inverse[items], items)
            numerator, divisor = _downdated(w, fold_in.toarray(), numerator, divisor)
            for u in np.flatnonzero(self._weak(left, history)):
                shown, one = fold_in[u : u + 1], slice(u, u + 1)
                n = len(items[u])
                unit = sp.csr_array((np.ones(n), (np.arange(n), items[u])), (n, history.shape[1]))
                w, sure = _downdate(half[one], self._refined(unit)[None], items[one])
                self._require(sure[0] > MIN_LEFT)
                start = self._refined(shown), inverse.diagonal()[None, :].astype(np.float64)
                numerator[one], divisor[one] = _downdated(w, shown.toarray(), *start)
        return _scores_from_inverse(
            numerator, divisor, fold_in, penalty.astype(inverse.dtype), self.problem.diagonal_limit
        )

    def _penalty_without(self, items: np.ndarray, values: np.ndarray) -> np.ndarray:
        """[I] the diagonal of Lambda without a user."""
        rest = self.problem.gram_diagonal.copy()
        rest[items] -= values**2
        penalty = self.method.penalty(rest)
        changed = penalty != self.problem.penalty
        changed[items] = False
        if changed.any():
            raise InputError(
                f"the penalty of {type(self.method).__name__} on one item depends on the others, so that "
                "leave-one-user-out scores have no closed form; evaluate it on a split."
            )
        return penalty


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
    c = jnp.matmul(history, inverse, precision=HIGHEST)
    left = 1 - w * jnp.sum(history * c, axis=1)
    gain = w / left  # of rank one: C_u = C + gain c c'
    shown = jnp.matmul(fold_in, inverse, precision=HIGHEST)
    numerator = shown + (gain * jnp.sum(fold_in * c, axis=1))[:, None] * c
    divisor = jnp.diagonal(inverse)[None, :] + gain[:, None] * c**2
    s = kernel.scale(1 / divisor, jnp.reshape(jnp.asarray(penalty), (1, -1)), diagonal_limit)
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
            return right - np.asarray(jnp.matmul(self.inverse, scaled, precision=HIGHEST))
        return right - self.inverse @ scaled


_scores_on_device = jax.jit(_scores_and_left)


def _diagonals(entries: np.ndarray) -> np.ndarray:
    """[B, n, n] diagonal matrices from [B, n] diagonals."""
    return entries[:, :, None] * np.eye(entries.shape[1])


def _downdate(half: np.ndarray, picked: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([B, n, I] W with C_u = C + W'W, [B] about the least eigenvalue of R R') from L [B, n, n] and E'C [B, n, I]."""
    own = np.take_along_axis(picked, items[:, None, :], axis=2)
    turned = half.transpose(0, 2, 1)
    left = (np.eye(items.shape[1]) - turned @ own @ half).astype(picked.dtype)
    right = turned.astype(picked.dtype) @ picked
    try:
        least = 1 / np.abs(np.linalg.inv(left)).sum(axis=1).max(axis=1)
        return np.linalg.solve(np.linalg.cholesky(left), right), least
    except np.linalg.LinAlgError:  # of one of them; found out one by one
        if len(half) == 1:
            return np.zeros_like(right), np.zeros(1)
        parts = [_downdate(half[u : u + 1], picked[u : u + 1], items[u : u + 1]) for u in range(len(half))]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))  # pyright: ignore[reportReturnType]


def _downdated(w: np.ndarray, shown: np.ndarray, numerator: np.ndarray, divisor: np.ndarray) -> tuple:
    """([B, I] f'C_u, [B, I] diag(C_u)) from W [B, n, I], f, f'C and diag(C)."""
    along = w @ shown[:, :, None].astype(w.dtype)
    return numerator + (along.transpose(0, 2, 1) @ w)[:, 0], divisor + np.einsum("bni,bni->bi", w, w)


def _row_products(rows: Rows, dense: np.ndarray) -> np.ndarray:
    """[B] float64 inner products of sparse and dense rows."""
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    return np.bincount(row, rows.data * dense[row, rows.indices].astype(np.float64), minlength=rows.shape[0])


def _scores_from_inverse(
    numerator: np.ndarray, divisor: np.ndarray, fold_in: Rows, penalty: np.ndarray, diagonal_limit: float
) -> np.ndarray:
    """[B, I] f - numerator s, with s = max((1 - xi) / divisor, penalty); overwrites both."""
    np.divide(1 - diagonal_limit, divisor, out=divisor)
    np.maximum(divisor, penalty, out=divisor)
    numerator *= divisor
    np.negative(numerator, out=numerator)
    numerator[np.repeat(np.arange(fold_in.shape[0]), np.diff(fold_in.indptr)), fold_in.indices] += fold_in.data
    return numerator
