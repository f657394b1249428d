"""Exact leave-one-user-out evaluation: every user is a test user of the model trained on all the others.

The scores themselves, and why they are exact, are in `jaxrec.closed_form.without_user`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.closed_form import kernel
from jaxrec.closed_form.certificate import certify
from jaxrec.closed_form.method import ClosedForm
from jaxrec.closed_form.without_user import LeaveUserOut, apart
from jaxrec.closed_form.without_user.structure import WithoutUser
from jaxrec.data import alignment
from jaxrec.data.interactions import Interactions
from jaxrec.data.splits import HeldOut, per_user_random
from jaxrec.evaluation import metrics as _metrics
from jaxrec.evaluation.held_out import Paired, paired
from jaxrec.evaluation.metrics import Metric
from jaxrec.evaluation.ranking import top_k_host
from jaxrec.evaluation.report import Report, report_on
from jaxrec.linear import Popularity
from jaxrec.runtime.threads import map_in_order
from jaxrec.solvers.columns import HIGHEST
from jaxrec.solvers.spd import spd_inverse
from jaxrec.status import FitError, Status

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little
BLOCK_BYTES = 2**23  # of scores: a few such blocks a thread stay in the cache


@door
def evaluate_leave_user_out(
    method: Any,
    data: Interactions,
    metrics: str | Iterable[str | Metric] = ("recall@20", "recall@50", "ndcg@100"),
    *,
    held_out: HeldOut | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    exclude_seen: bool = True,
    batch_size: int | None = None,
    label: str | None = None,
) -> Report:
    """The metrics of a method over all users of `data`, each scored by the model trained on all the others.

    Equal to U fits without one user each, up to rounding. There is no training part: every user is a test user, which
    makes the standard errors as small as the data allow. A part of the user's own history is folded in, and the rest
    are the targets.

    Args:
      method: a configured closed form such as `Ease(reg=500.0)`, or `Popularity()`.
      data: U x I interactions.
      metrics: names with cut-offs, as in "recall@20,ndcg@100" or a sequence of such.
      held_out: fold-in and targets of the users of `data`, such as `leave_one_out(data).test`, matched by the ids of
        items and users as in `evaluate`; default a random `test_fraction` of each history as targets
        (`per_user_random`).
      test_fraction: share of each history that are targets, where `held_out` is not given.
      seed: of the draw, where `held_out` is not given.
      exclude_seen: keep the items of the fold-in out of the ranking.
      batch_size: users scored at once; default by memory.
      label: what the report calls the model; default the method.

    Raises:
      InputError: the method is none for which this is exact, fold-in and targets do not fit the data, or every target
        stands in the excluded fold-in.
      FitError: the model of all users is not certified, or does not fit in memory; or float32 cannot resolve the model
        without one of them.

    Cost: of a fit, and of about two scorings of all users; with dropout above 0 the sum over users of
    len(history)^2 I flops. With little regularization some users take more, see `jaxrec.closed_form.without_user`.
    """
    check(method)
    wanted = _metrics.parse(metrics)
    both = of_users(data, held_out or per_user_random(data, test_fraction, seed).test)
    without = leave_user_out(method, data)
    return evaluate(without, data, both, wanted, exclude_seen=exclude_seen, batch_size=batch_size, label=label)


def of_users(data: Interactions, held_out: HeldOut) -> Paired:
    """Fold-in and targets of the users of the data, in their rows and in the data's numbering of items.

    Raises:
      InputError: nothing in common, or no ids and other shapes.
    """
    fold_in, targets = held_out
    if _not_alike(fold_in, data) or _not_alike(targets, data):
        raise InputError(
            f"held_out must hold the users and items of the data, {data.shape[0]} x {data.shape[1]}, got fold-in "
            f"{fold_in.shape[0]} x {fold_in.shape[1]} and targets {targets.shape[0]} x {targets.shape[1]}."
        )
    fold_in, _ = alignment.align_users(fold_in, data)
    return paired(data.items, data.n_items, fold_in, targets, stacklevel=4)


def _not_alike(part: Interactions, data: Interactions) -> bool:
    """Whether a part can be matched with the data neither by ids nor by its shape."""
    users = part.user_ids is None or data.user_ids is None
    items = part.items.ids is None or data.items.ids is None
    return (users and part.n_users != data.n_users) or (items and part.n_items != data.n_items)


def leave_user_out(
    method: Any, data: Interactions, gram: Any = None, structure: WithoutUser | None = None
) -> LeaveUserOut | WithoutUserCounts:
    """What scores each user of `data` by the model of `method` trained without that user.

    Args:
      method: a configured closed form, or `Popularity()`.
      data: U x I interactions.
      gram: [I, I] from `method.gram(data)`, where that is known already. Its memory is used up.
      structure: `WithoutUser(data)`, where several methods are looked at.

    Raises:
      InputError, FitError: as `evaluate_leave_user_out`.
    """
    check(method)
    if data.nnz == 0:
        raise InputError(f"{data.name}: there are no interactions to learn from.")
    if isinstance(method, Popularity):
        return WithoutUserCounts(data.item_counts, data.n_users)
    method.plan(data.n_users, data.n_items, data.nnz).require()
    gram = method.gram(data) if gram is None else gram
    problem = method.problem(data)
    if method.on_host:
        status, (off, diagonal) = kernel.invert_on_host(gram, problem.penalty), apart(gram)
    else:
        gram = gram[: data.n_items, : data.n_items]  # without the empty items that fill up the blocks of a device
        status, (off, diagonal) = Status.OK, _invert_on_device(gram, problem.penalty.astype(np.float32))
    without = LeaveUserOut(method, off, np.asarray(diagonal, np.float64), problem, structure or WithoutUser(data))
    certificate = certify(problem, without.solution, status)
    if certificate.status is not Status.OK:
        raise FitError(certificate.status, method._advice(certificate, data))
    return dataclasses.replace(without, certificate=certificate)


def check(method: Any) -> None:
    """Refuses a method whose leave-one-user-out scores have no closed form here."""
    own = isinstance(method, ClosedForm) and method.exact_updates
    if not own and not isinstance(method, Popularity):
        raise InputError(
            f"leave-one-user-out scores are exact for the closed forms on X'X (EASE, EDLAE, LAE, RLAE) and popularity, "
            f"not for {type(method).__name__}; evaluate it on a split."
        )


@dataclasses.dataclass(frozen=True)
class WithoutUserCounts:
    """Popularity without one user: the counts of all, less what the user adds to them.

    Attributes:
      counts: [I] users of each item.
      n_users: U.
    """

    counts: np.ndarray
    n_users: int

    def scores(self, history: Rows, fold_in: Rows) -> np.ndarray:
        """[B, I] share of the other users that have each item."""
        return ((self.counts - history.astype(bool).toarray()) / max(1, self.n_users - 1)).astype(np.float32)


def evaluate(
    without: LeaveUserOut | WithoutUserCounts,
    data: Interactions,
    both: Paired,
    wanted: tuple[Metric, ...],
    *,
    exclude_seen: bool = True,
    batch_size: int | None = None,
    label: str | None = None,
) -> Report:
    """The report on the models without one user each; see `evaluate_leave_user_out`."""
    if batch_size is not None:
        _checks.count("batch_size", batch_size, at_least=1)

    def rankings(users: np.ndarray, shown: Interactions, k: int) -> Iterable[tuple]:
        x, f = data.rows(users).to_csr(), shown.to_csr()
        size = batch_size or int(np.clip(BLOCK_BYTES // (4 * data.n_items), 16, 4096))

        def block(start: int) -> tuple[int, np.ndarray, np.ndarray]:
            part: Rows = f[start : start + size]
            scores = without.scores(x[start : start + size], part)
            if exclude_seen:
                scores[np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.indices] = -np.inf
            items, best = top_k_host(scores, k)
            return start, np.where(best == -np.inf, np.int32(-1), items), best

        return map_in_order(block, range(0, len(users), size))

    method = without.method if isinstance(without, LeaveUserOut) else Popularity()
    return report_on(rankings, label or str(method), wanted, both, exclude_seen)


def squared_error(
    x: Float[ArrayLike, "U I"], penalty: Any, user_weights: Any = 1.0, gram: Float[ArrayLike, "I I"] | None = None
) -> Float[Array, ""]:
    """The exact leave-one-user-out squared error of EASE, sum over u, j of w_u (x_uj - (x_u B_u)_j)^2.

    B_u is EASE trained without user u, and each item is predicted from the user's other items. With all of x folded
    in the terms above collapse: the error is c_uj / ((1 - w_u h_u) C_jj + w_u c_uj^2) with c_u = C x_u. It can be
    differentiated in `penalty` and `user_weights`, which costs no second factorization.

    Args:
      x: [U, I] interactions.
      penalty: diagonal of Lambda: [I], or a scalar; above 0.
      user_weights: [U] w, or a scalar.
      gram: [I, I] X'D(w)X, where it is known and nothing is to be learned of w.

    Cost: 2 I^3 + 2 U I^2 flops, and 2 U I^2 for the Gram matrix; arrays U x I.
    """
    x = jnp.asarray(x)
    w = jnp.broadcast_to(jnp.asarray(user_weights, x.dtype), x.shape[:1])
    gram = jnp.matmul(x.T, w[:, None] * x, precision=HIGHEST) if gram is None else jnp.asarray(gram)
    penalty = jnp.broadcast_to(jnp.asarray(penalty, x.dtype), x.shape[1:])
    inverse = spd_inverse(gram + jnp.diag(penalty))
    c = jnp.matmul(x, inverse, precision=HIGHEST)
    left = 1 - w * jnp.sum(x * c, axis=1)
    error = c / (left[:, None] * jnp.diagonal(inverse)[None, :] + w[:, None] * c**2)
    return jnp.sum(w[:, None] * error**2)


@partial(jax.jit, donate_argnums=0)
def _invert_on_device(gram: Any, penalty: Any) -> tuple[Any, Any]:
    """C without its diagonal, and its diagonal."""
    inverse = spd_inverse(gram + jnp.diag(penalty))
    diagonal = jnp.diagonal(inverse)
    return jnp.where(jnp.eye(len(diagonal), dtype=bool), 0, inverse), diagonal
