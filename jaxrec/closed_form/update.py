"""Exact updates of a fitted closed form: users come, change or are forgotten, and nothing is fitted again.

With Z the m rows that are added or removed and S = D(+1 or -1), the Gram matrix changes to G + Z'S Z, and C = G^-1 to
C - P'(S^-1 + Z P')^-1 P with P = Z C (Woodbury, 1950). A penalty that counts users (dropout above 0) changes too, by
delta on some items; these are further rows e_j of Z, with delta_j in S. The fitted weights B = I - C D(s) hold C:
with the stored 1 / diag(C) and s as in `jaxrec.closed_form`, C = (I - B) D(1/s).
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.linalg
import scipy.sparse as sp

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.closed_form import kernel, ties
from jaxrec.closed_form.certificate import certify
from jaxrec.closed_form.components import cut_apart, item_components
from jaxrec.closed_form.method import ClosedForm, settled
from jaxrec.data import alignment
from jaxrec.data.columns import text
from jaxrec.data.interactions import Interactions
from jaxrec.models import Fitted, ItemWeights, with_items
from jaxrec.runtime import parallel
from jaxrec.runtime.blas import add_product
from jaxrec.status import Certificate, Status

# Above this share of the items' number, m rows cost no less than a fit: 2 m I^2 flops and memory traffic against I^3.
WORTH_IT = 0.25


class Updated(NamedTuple):
    """What `update` returns.

    Attributes:
      fitted: the model of the new data, with a certificate on these.
      train: the new data.
      refitted: why a fit was needed after all, in a few words; None where the update did it.
    """

    fitted: Fitted
    train: Interactions
    refitted: str | None


@door
def update(
    fitted: Fitted,
    train: Interactions,
    *,
    added: Interactions | None = None,
    removed: Sequence[str | int] | np.ndarray = (),
    residual_limit: float | None = None,
) -> Updated:
    """The model of the data with some users added and others forgotten: what a fit would return, up to rounding.

    A changed history is its old version removed and its new one added. Removing is exact: the result depends on the
    forgotten users only through rounding errors, which the certificate on the new data bounds; where it fails, or so
    many users change that it would not pay, the method is fitted again.

    Args:
      fitted: a fitted closed form (EASE, EDLAE, LAE, RLAE).
      train: the data it was fitted on.
      added: rows to append; where both have ids of items, these are matched, and entries of items that `train` does not
        have are left out, with a warning. Where both have ids of users, no id twice.
      removed: ids of the users to forget; where the data have no ids, their row numbers, which then become the ids.
      residual_limit: largest KKT residual with which an updated model is returned; default the limit of a fit.

    Returns:
      Updated(fitted, train, refitted).

    Raises:
      InputError: a user is unknown, named twice or forgotten already; `fitted` is not of these data, or of a method
        that has no such update; nobody would be left.
      FitError: even fitting again did not lead to a certified model.

    Cost: 2 m I^2 flops for m changed users (with dropout above 0, plus one for every item whose count changes), and
    two passes over B; two I x I matrices, the old weights among them.
    """
    method, model = fitted.info.method, fitted.model
    if not (isinstance(method, ClosedForm) and method.exact_updates and isinstance(model, ItemWeights)):
        raise InputError(f"only closed forms such as Ease and Edlae have an exact update, got {method}; fit it again.")
    if model.unexplained is None:
        raise InputError("this model was fitted without keeping 1 / diag(C), which an update needs; fit it again.")
    other_items = alignment.places(train.items, fitted.info.items, train.name, "the model") is not None
    if other_items or fitted.info.data.get("fingerprint") != train.fingerprint:
        raise InputError(
            f"the model was not fitted on {train.name} as given; update it with the data it was fitted on."
        )
    if residual_limit is not None:
        _checks.positive("residual_limit", residual_limit)
    if added is not None:
        found = alignment.align_items(added, train.items, train.name)
        alignment.warn_of_left_out(added, found.unknown, found.n_entries, train.name, stacklevel=4)
        added = found.data
    gone = _rows_of(train, removed)
    new = _changed(train, gone, added)
    if new.nnz == 0:
        raise InputError(f"{train.name}: no interactions would be left to learn from; remove fewer users.")

    mesh = parallel.mesh_of(model.weights)
    begun = time.perf_counter()
    parts = [train.rows(gone)] + ([added] if added is not None else [])
    before, after = method.problem(train), method.problem(new)
    delta = after.penalty - before.penalty
    items = np.flatnonzero(delta)
    unit: Any = sp.csr_array((np.ones(len(items)), (np.arange(len(items)), items)), shape=(len(items), train.n_items))
    z: Any = sp.vstack([*(part.to_csr(np.float64) for part in parts), unit], format="csr")
    signs = np.concatenate([-np.ones(len(gone)), np.ones(z.shape[0] - len(gone) - len(items)), delta[items]])
    kept = np.diff(z.indptr) > 0  # users without entries change nothing
    z, signs = z[np.flatnonzero(kept)], signs[kept]
    if len(signs) > WORTH_IT * train.n_items:
        return Updated(method.fit(new, mesh), new, f"{len(signs):,} changed rows on {train.n_items:,} items")

    inverse = _inverse_of(model.to_host(), before)
    status = _add_rows(inverse, z, signs)
    if status is Status.OK:
        if len(gone):  # users who are added can only link
            cut_apart(inverse, item_components(new.to_csr()))
        unknown = np.flatnonzero(after.gram_diagonal == 0)
        inverse[unknown, unknown] = 1 / after.penalty[unknown]
        solution = kernel.weights_in_place(inverse, after.penalty, after.diagonal_limit)
        solution = settled(after, solution, ties.identical_items(new))
    else:
        solution = kernel.Solution(inverse, np.full(len(inverse), np.nan))
    seconds = {"update": time.perf_counter() - begun}
    begun = time.perf_counter()
    certificate = certify(after, solution, status)
    limit = certificate.limit if residual_limit is None else residual_limit
    seconds["certificate"] = time.perf_counter() - begun
    if certificate.status is not Status.OK or certificate.residual > limit:
        return Updated(method.fit(new, mesh), new, f"certificate {certificate}")
    return Updated(_wrapped(fitted, solution, certificate, new, seconds), new, None)


def _rows_of(train: Interactions, removed: Sequence[str | int] | np.ndarray) -> np.ndarray:
    if isinstance(removed, str) or _checks.array("removed", removed).ndim != 1:
        came = _checks.briefly(removed)
        raise InputError(f"removed must be a sequence of user ids, got {came}; put a single one in a list.")
    if train.user_ids is not None and len(removed) and (twice := _repeated(train.user_ids)) is not None:
        raise InputError(f"{train.name}: two users have the id {twice!r}, so that neither can be forgotten by it.")
    rows = np.array([train.user_index(user) for user in removed], np.int64)
    first = np.unique(rows, return_index=True)[1]
    if len(first) < len(rows):
        again = next(user for at, user in enumerate(removed) if at not in set(first.tolist()))
        raise InputError(f"user {again!r} is named twice in removed; a user can be forgotten only once.")
    return rows


def _changed(train: Interactions, gone: np.ndarray, added: Interactions | None) -> Interactions:
    """The data without the rows `gone` and with the rows of `added` at the end."""
    ids = np.arange(train.n_users) if train.user_ids is None else train.user_ids
    kept = np.delete(np.arange(train.n_users), gone)
    left = ids[kept]
    new = dataclasses.replace(train.rows(kept), user_ids=left)
    if added is None:
        return new
    if added.n_items != train.n_items:
        raise InputError(f"added has {added.n_items} items and the model {train.n_items}; they must agree.")
    if added.user_ids is not None:
        ids = added.user_ids
        if (twice := _repeated(ids)) is not None:
            raise InputError(f"added holds user {twice!r} twice; give each user one row.")
    elif left.dtype.kind in "iu":
        ids = (int(ids.max()) if len(ids) else -1) + 1 + np.arange(added.n_users)
    else:
        raise InputError("added needs user_ids, since those of the data are no numbers that could be continued.")
    twice = np.intersect1d(text(left), text(ids))
    if len(twice):
        raise InputError(
            f"added holds user {str(twice[0])!r}, whom the data have already; remove the old history as well."
        )
    return dataclasses.replace(
        new,
        indptr=np.concatenate([new.indptr, new.indptr[-1] + added.indptr[1:]]),
        indices=np.concatenate([new.indices, added.indices]),
        values=np.concatenate([new.values, added.values]),
        user_ids=_joined(left, ids),
        timestamps=None,
        split=None,
        user_split=None,
        divisions=(),
        row_numbers=None,
        origin=object(),
    )


def _joined(ids: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Ids after ids; where their types have no common one that keeps them all, as text."""
    together = np.concatenate([ids, more]) if ids.dtype.kind == more.dtype.kind else None
    if together is None and {ids.dtype.kind, more.dtype.kind} == {"i", "u"}:
        together = np.array([*ids.tolist(), *more.tolist()])  # else NumPy makes them floats
    if together is None or together.dtype.kind == "f":
        return np.array([*map(str, ids.tolist()), *map(str, more.tolist())])
    return together


def _repeated(ids: np.ndarray) -> str | None:
    """An id that stands twice in `ids`, or None."""
    values, counts = np.unique(text(ids), return_counts=True)
    return str(values[counts.argmax()]) if len(ids) and counts.max() > 1 else None


def _inverse_of(model: ItemWeights, problem: kernel.Problem) -> np.ndarray:
    """[I, I] C = (I - B) D(1/s), a new array."""
    unexplained = np.asarray(model.unexplained, np.float64)
    inverse = np.asarray(model.weights) * (-1 / problem.scale(unexplained)).astype(model.weights.dtype)[None, :]
    np.einsum("ii->i", inverse)[:] = 1 / unexplained
    return inverse


def _add_rows(inverse: np.ndarray, z: Any, signs: np.ndarray) -> Status:
    """Changes C = G^-1 to (G + Z'D(signs)Z)^-1 in place.

    Args:
      inverse: [I, I] C.
      z: [m, I] sparse rows.
      signs: [m] what each row is multiplied by.
    """
    if not len(signs):
        return Status.OK
    p = z.astype(inverse.dtype) @ inverse
    # The small system is what cancels where a user weighs much: in float64 it costs nothing.
    small = np.diag(1 / signs) + z @ p.T.astype(np.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
            gain = scipy.linalg.solve((small + small.T) / 2, np.eye(len(signs)), assume_a="sym")
    except (np.linalg.LinAlgError, scipy.linalg.LinAlgWarning):
        return Status.NOT_POSITIVE_DEFINITE
    step = np.empty_like(p)
    add_product(step, gain.astype(p.dtype), p, beta=0)
    for start in range(0, len(inverse), 1024):
        rows = slice(start, start + 1024)
        add_product(inverse[rows], np.ascontiguousarray(p[:, rows]), step, alpha=-1, transpose_a=True)
    return Status.OK


def _wrapped(
    fitted: Fitted, solution: kernel.Solution, certificate: Certificate, new: Interactions, seconds: dict
) -> Fitted:
    """The updated model where the old one lives: split in the same way over the same devices."""
    old, weights, padding = fitted.model, solution.weights, 0
    if isinstance(old.weights, jax.Array):
        weights = np.pad(weights, (0, old.padding)).astype(old.weights.dtype, copy=False)
        if mesh := parallel.mesh_of(old.weights):
            weights = parallel.place(weights, mesh, parallel.COLUMNS)
        else:
            weights = jax.device_put(weights, old.weights.sharding)
        padding = old.padding
    model = ItemWeights(weights, solution.unexplained, padding=padding)
    info = dataclasses.replace(fitted.info, certificate=certificate, data=new.summary(), seconds=seconds)
    return Fitted(with_items(model, info.items), info)
