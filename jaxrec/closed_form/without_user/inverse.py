"""The scores of the models that were trained without one user each, from the inverse of the model of all users.

Removing user u with history x from the data takes x x' from G = X'X + Lambda, and so changes C = G^-1 by a matrix of
rank one (Sherman and Morrison, 1950): with c = C x and h = x'c, C_u = C + c c' / (1 - h). The scores that the model
without u gives for a history f are f - (f'C_u) D(s), with s as in `jaxrec.closed_form` but from C_u:

    f'C_u = f'C + (f'c) c' / (1 - h),    diag(C_u) = diag(C) + c^2 / (1 - h).

No model is fitted again: all users together cost about two scorings. A penalty that counts the user's own items
(dropout above 0) changes with the user too, on these items alone. Then G changes by E M E', where E picks the user's n
items and M = x x' + D(delta), and with M = L L' and the Cholesky factor R R' = I - L'E'C E L it is C_u = C + W'W,
W = R^-1 L'E'C: exact as well, at n^2 I flops for a user.

Three things keep the digits. The diagonal of C is kept apart from the rest, so that a large penalty drowns nothing of
the scores. Users for whom the two parts of f'C_u cancel, or 1 - h is small (users of large values, or with items almost
to themselves), are scored again from an inverse in float64, or from rows of C that are refined in float64 where that
would be too large; and if that does not do, by a fit without them. And what is exactly 0 or equal in a model without
the user, by which users and items are linked, is made so: rounding would tell which items the user had.
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
from jaxrec.closed_form.certificate import PROBES, refined_rows
from jaxrec.closed_form.gram import lower_gram
from jaxrec.closed_form.method import ClosedForm
from jaxrec.closed_form.products import Rescaled, times_weights, weights_times
from jaxrec.closed_form.unexplained import squared_errors
from jaxrec.closed_form.without_user.downdates import add_own_squares, add_sparse, downdate, half, row_products
from jaxrec.closed_form.without_user.structure import WithoutUser
from jaxrec.solvers.columns import HIGHEST
from jaxrec.status import Certificate, FitError, Status

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little
# Where 1 - h (or the least eigenvalue of R R') is below this, removing the user cancels digits of C.
REFINE_BELOW = {"float32": 0.05, "float64": 1e-6}
UNSURE = 0.01  # or where rounding errors of C may add up to so much in h
CANCELLED = 1e-5  # or rounding of the parts of f'C_u to so much of their sum
SCORE_LIMIT = 2e-3  # or rounding errors of C to so much of the scores
NUMBERS_AT_ONCE = 2**22  # numbers in W of users that are taken together
MIN_LEFT = 1e-7  # of what may be left, and largest relative error of C x
FLOAT64_ITEMS = 4096  # up to which an inverse in float64, and a fit without a user, are no great matter


@dataclasses.dataclass(frozen=True)
class LeaveUserOut:
    """The inverse C of all users' data, from which the models without any one of them follow.

    Attributes:
      method: the closed form.
      off: [I, I] C = (X'X + Lambda)^-1 without its diagonal, both triangles.
      diagonal: [I] float64 diagonal of C.
      problem: data X, penalty and limit of the diagonal.
      structure: what is exactly 0, or equal, without each user.
      certificate: of the model of all users.
    """

    method: ClosedForm
    off: Any
    diagonal: np.ndarray
    problem: kernel.Problem
    structure: WithoutUser
    certificate: Certificate | None = None

    @property
    def solution(self) -> kernel.Solution:
        """The model of all users; its weights are only multiplied, and never formed."""
        s, own = self.problem.scale(self._unexplained), np.minimum(self._own, self.problem.diagonal_limit)
        return kernel.Solution(Rescaled(self.off, left=-1.0, diagonal=own / s, right=s), self._unexplained)

    @property
    def size(self) -> float:
        """||zd(B)||_F of the model of all users: the stronger the regularization, the smaller."""
        off, s, total = np.asarray(self.off), self.problem.scale(self._unexplained).astype(self.off.dtype), 0.0
        for begin in range(0, len(off), 256):
            weights = off[begin : begin + 256] * s
            total += float(np.einsum("ij,ij->", weights, weights, dtype=np.float64))
        return total**0.5

    def scores(self, history: Rows, fold_in: Rows) -> np.ndarray:
        """[B, I] scores of histories `fold_in` by the models that were each trained without one user.

        Args:
          history: [B, I] what the data hold of each user: this is taken from the data.
          fold_in: [B, I] what the model is shown of each user; often a part of `history`.

        Raises:
          FitError: the model of all users but one is not certified in float64, or too large to be fitted for one user.
        """
        found, weak = self._scores_and_weak(history, fold_in)
        if weak.any():
            at = np.flatnonzero(weak)
            found[at] = self._better(history[at], fold_in[at])
        self.structure.settle(found, history, fold_in, self.problem.diagonal_limit > 0)
        return found

    def _better(self, history: Rows, fold_in: Rows) -> np.ndarray:
        """[B, I] float64 scores of users whom C in this precision cannot be rid of."""
        if self.off.dtype != np.float64 and len(self.diagonal) <= FLOAT64_ITEMS:
            found, weak = self._in_float64._scores_and_weak(history, fold_in)
        else:
            found, weak = self._scores_and_weak(history, fold_in, self._refined)
        for u in np.flatnonzero(weak):
            found[u] = self._fitted_without(history[u : u + 1], fold_in[u : u + 1])
        return found

    def _fitted_without(self, history: Rows, fold_in: Rows) -> np.ndarray:
        """[I] the scores of one user by a fit in float64 to the data of all others."""
        (user,) = self.structure.users_of(history)
        if user < 0 or len(self.diagonal) > FLOAT64_ITEMS:
            raise FitError(
                Status.ILL_CONDITIONED,
                f"{self.method.dtype} cannot resolve {self.method} without a user who has items almost to himself, or "
                "far larger values than others; raise reg, leave such users out, or use "
                f"{type(self.method).__name__}(dtype='float64').",
            )
        others = self.problem.x.rows(np.delete(np.arange(self.problem.x.n_users), user))
        if others.nnz == 0:
            return np.zeros(len(self.diagonal))
        method = dataclasses.replace(self.method, solver="host", dtype="float64")
        return (fold_in @ np.asarray(method.fit(others).model.weights))[0]

    def _scores_and_weak(self, history: Rows, fold_in: Rows, refined: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """([B, I] scores, [B] whether they lack digits); `refined` makes rows C, in place of products with C."""
        if self._counts_the_users_items:
            return self._by_length(history, fold_in, refined)
        if refined is None:
            both = sp.vstack([fold_in, history - fold_in], format="csr")
            rows = self._times_off(both)
            shown, rest = rows[: history.shape[0]], rows[history.shape[0] :]
            c = shown + rest  # = history C, from what is not shown alone, but for the diagonal of C
            add_sparse(c, history, self.diagonal)
        else:
            (shown, shown_errors), (c, errors) = refined(fold_in), refined(history)
            add_sparse(shown, fold_in, -self.diagonal)
        left = 1 - row_products(history, c)
        with np.errstate(all="ignore"):  # what is not finite is weak
            along = row_products(fold_in, c) / left
            if refined is None:
                missed = self._missed(shown, fold_in) + along[:, None] * (c @ self._residual)
                s = self.problem.scale(self._unexplained)
                more = np.linalg.norm(c * s.astype(c.dtype), axis=1) * _norms(history, 1 / s) / left
                errors = np.sqrt((missed**2).mean(axis=1)) * (1 + np.abs(more))
            b = along[:, None].astype(c.dtype) * c
            add_own_squares(b, fold_in, c, left)
            np.square(c, out=c)
            c /= left[:, None].astype(c.dtype)
            own = self._own - self.problem.penalty * c if self.problem.diagonal_limit > 0 else None
            c += self.diagonal.astype(c.dtype)
            found, sums, weak = self._combined(shown, b, c, history, fold_in, self.problem.penalty, own)
        if refined is None:
            return found, weak | self._unsure(left, history) | ((sums > 0) & ~(errors <= SCORE_LIMIT * sums))
        exact = (left > MIN_LEFT) & (errors < MIN_LEFT) & (shown_errors < MIN_LEFT)
        return found, weak | ~exact

    def _combined(
        self, a: np.ndarray, b: np.ndarray, divisor: np.ndarray, history: Rows, fold_in: Rows, penalty: Any, own: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """([B, I] scores, [B] their norms but for f's items, [B] whether a and b cancel too far); overwrites all.

        Args:
          a: [B, I] f'C without the diagonal of C.
          b: [B, I] f'(C_u - C), without the diagonal as well.
          divisor: [B, I] diag(C_u).
          history: [B, I] what is left out.
          fold_in: [B, I] f.
          penalty: [I] or [B, I] Lambda without the user.
          own: [B, I] the diagonal 1 - Lambda_j C_u,jj that it would have if it were free; None where it is 0.
        """
        limit, eps = self.problem.diagonal_limit, float(np.finfo(a.dtype).eps)
        self.structure.clear((a, b), history, fold_in)
        np.divide(1 - limit, divisor, out=divisor)
        s = np.maximum(divisor, penalty.astype(a.dtype), out=divisor)
        a += b
        a *= s
        np.subtract(0, a, out=a)  # which makes 0 of 0, not -0
        b *= s
        row = np.repeat(np.arange(fold_in.shape[0]), np.diff(fold_in.indptr))
        at = row, fold_in.indices
        seen = a[at]
        a[at] = b[at] = 0
        parts, sums = (np.sqrt(np.einsum("ij,ij->i", m, m, dtype=np.float64)) for m in (b, a))
        a[at] = seen
        if own is not None:
            a[at] += fold_in.data * np.clip(own[at], 0, limit)
        return a, sums, ~(eps * parts <= CANCELLED * sums)

    @cached_property
    def _residual(self) -> np.ndarray:
        """[I, P] (G C - I) D(s) z of random signs z, without its diagonal: what is wrong with C.

        With v = C_u f, the norm of v'(G C - I) D(s) is how far rounding of C has moved the scores of f.
        """
        n = len(self.diagonal)
        signs = np.random.default_rng(1).choice(np.array([-1.0, 1.0]), (n, PROBES))
        response = weights_times(self.solution.weights, signs)
        s = self.problem.scale(self._unexplained)[:, None]
        wrong = self._x.T @ (self._x @ (signs - response)) + self.problem.penalty[:, None] * (signs - response)
        wrong -= s * signs
        return wrong - signs * (signs * wrong).mean(axis=1, keepdims=True)

    def _missed(self, shown: np.ndarray, fold_in: Rows) -> np.ndarray:
        """[B, P] f'C times `_residual`, from f'C without the diagonal of C."""
        return shown @ self._residual + fold_in @ (self.diagonal[:, None] * self._residual)

    def _unsure(self, left: np.ndarray, history: Rows) -> np.ndarray:
        """[B] whether C is not exact enough to remove the user."""
        dtype = np.dtype(self.off.dtype)
        largest = (abs(history) @ np.sqrt(np.abs(self.diagonal))) ** 2  # of x'|C|x
        return ~((left > REFINE_BELOW[dtype.name]) & (np.finfo(dtype).eps / 2 * largest < UNSURE))

    @cached_property
    def _unexplained(self) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return 1 / self.diagonal

    @cached_property
    def _own(self) -> np.ndarray:
        """[I] the diagonal 1 - Lambda_j C_jj of weights whose diagonal is free; 0 where it is always 0."""
        if self.problem.diagonal_limit == 0:
            return np.zeros(len(self.diagonal))
        errors = squared_errors(self.problem, self._unexplained, self.off, -self._unexplained)
        return errors / (self.problem.penalty + errors)

    @cached_property
    def _in_float64(self) -> LeaveUserOut:
        """The same from an inverse in float64, whose fits without a user are the last resort."""
        gram = lower_gram(self.problem.x, np.float64)
        if kernel.invert_on_host(gram, self.problem.penalty) is not Status.OK:
            gram = np.full_like(gram, np.nan)  # then every user is weak
        return LeaveUserOut(self.method, *apart(gram), self.problem, self.structure)

    @cached_property
    def _x(self) -> Rows:
        """[U, I] X in float64."""
        return self.problem.x.to_csr(np.float64)

    def _times_off(self, rows: Rows) -> np.ndarray:
        """[B, I] sparse rows times C without its diagonal, computed where that lies."""
        if isinstance(self.off, jax.Array):
            return np.array(_times_on_device(rows.toarray().astype(self.off.dtype), self.off))
        return rows.astype(self.off.dtype) @ self.off

    def _refined(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """([B, I] float64 rows C, [B] their relative errors)."""

        def times_inverse(rows: np.ndarray) -> np.ndarray:
            return times_weights(rows, self.off) + rows * self.diagonal

        return refined_rows(rows, times_inverse, self._x, self.problem.penalty)

    @property
    def _counts_the_users_items(self) -> bool:
        return not np.array_equal(self.problem.penalty, self.method.penalty(self.problem.gram_diagonal / 2))

    def _by_length(self, history: Rows, fold_in: Rows, refined: Any) -> tuple[np.ndarray, np.ndarray]:
        """The scores where the penalty too changes with the user; users with equally many items together."""
        found = np.empty(history.shape, np.float64 if refined else self.off.dtype)
        weak = np.zeros(len(found), bool)
        lengths = np.diff(history.indptr)
        for n in np.unique(lengths):
            users = np.flatnonzero(lengths == n)
            step = max(1, NUMBERS_AT_ONCE // (max(1, n) * history.shape[1]))
            for chunk in np.split(users, range(step, len(users), step)):
                found[chunk], weak[chunk] = self._of_one_length(history[chunk], fold_in[chunk], refined)
        return found, weak

    def _of_one_length(self, history: Rows, fold_in: Rows, refined: Any) -> tuple[np.ndarray, np.ndarray]:
        """The same for B users of n items each."""
        count, n_items = history.shape
        items = history.indices.reshape(count, -1)
        n = items.shape[1]
        values = history.data.reshape(items.shape).astype(np.float64)
        penalty = np.stack([self._penalty_without(*user) for user in zip(items, values, strict=True)])
        changes = np.take_along_axis(self.problem.penalty - penalty, items, axis=1)
        unit = sp.csr_array((np.ones(items.size), items.ravel(), np.arange(items.size + 1)), (items.size, n_items))
        weak = np.zeros(count, bool)
        if refined is None:
            a, picked = self._times_off(fold_in), self._times_off(unit)
            add_sparse(picked, unit, self.diagonal)
        else:
            (a, errors), (picked, picked_errors) = refined(fold_in), refined(unit)
            add_sparse(a, fold_in, -self.diagonal)
            weak |= ~(np.maximum(errors, picked_errors.reshape(count, n).max(axis=1, initial=0)) < MIN_LEFT)
        b, divisor = np.zeros_like(a), np.tile(self.diagonal.astype(a.dtype), (count, 1))
        if n:
            lower, possible = half(values, changes)
            w, left = downdate(lower, picked.reshape(count, n, n_items), items)
            along = w @ fold_in.toarray()[:, :, None].astype(w.dtype)
            squares = np.einsum("bni,bni->bi", w, w)
            b += (along.transpose(0, 2, 1) @ w)[:, 0]
            add_sparse(b, fold_in, -squares)
            divisor += squares
            rest = np.take_along_axis(penalty, items, axis=1)
            spoilt = np.finfo(np.float64).eps * values**2 > MIN_LEFT * rest  # what is left of the penalty
            weak |= ~possible | spoilt.any(axis=1)
            weak |= self._unsure(left, history) if refined is None else ~(left > MIN_LEFT)
        with np.errstate(all="ignore"):
            own = 1 - penalty * divisor if self.problem.diagonal_limit > 0 else None
            if refined is None:
                missed = self._missed(a + b, fold_in)
            found, sums, cancelled = self._combined(a, b, divisor, history, fold_in, penalty, own)
            if refined is None:
                weak |= (sums > 0) & ~(np.sqrt((missed**2).mean(axis=1)) <= SCORE_LIMIT * sums)
        return found, weak | cancelled

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


def apart(inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C without its diagonal, in place, and [I] float64 its diagonal)."""
    diagonal = inverse.diagonal().astype(np.float64)
    np.fill_diagonal(inverse, 0)
    return inverse, diagonal


@jax.jit
def _times_on_device(rows: Any, off: Any) -> Any:
    return jnp.matmul(rows, off, precision=HIGHEST)


def _norms(rows: Rows, factors: np.ndarray) -> np.ndarray:
    """[B] norms of sparse rows times D(factors)."""
    squares = np.square(rows.data * factors[rows.indices], dtype=np.float64)
    return np.sqrt(np.bincount(np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), squares, rows.shape[0]))
