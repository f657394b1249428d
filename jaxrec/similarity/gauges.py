"""Factors that score alike and look different: rescaling, canonical choices, and how far a cosine can move.

Scores P Q' (or X A B') do not change when the factors become P M and Q M'^-1, whatever the invertible M. Where the
objective sees only the scores, M is arbitrary: a *gauge*, and with it every cosine between rows of Q.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.models import Fitted, ItemFactors

KINDS = ("balanced", "item_orthonormal", "user_orthonormal")
# A matrix beyond this condition number changes the scores by more than rounding, when it is undone in float64.
WORST_CONDITION = 1e8


class Pair(NamedTuple):
    """Both sides of a factorization: [N, K] and [I, K] NumPy arrays; N is users, or items that add up to users."""

    user_factors: np.ndarray
    item_factors: np.ndarray


def pair_of(factors: Any) -> Pair:
    """The two sides of `factors`, as they are.

    Args:
      factors: ItemFactors (its encoder and decoder), what `fit` returned with such a model, or a tuple
        (user_factors [U, K], item_factors [I, K]).

    Raises:
      InputError: it is none of these, or the arrays do not fit together or are not finite.
    """
    model = factors.model if isinstance(factors, Fitted) else factors
    if isinstance(model, ItemFactors):
        sides = model.encoder, model.decoder
    elif isinstance(model, tuple | list) and len(model) == 2:
        sides = model
    else:
        own = "; give (model.user_factors, model.item_factors)" if hasattr(model, "user_factors") else ""
        raise InputError(
            f"factors must be ItemFactors or a pair (user_factors, item_factors), got {_checks.briefly(model)}{own}."
        )
    users, items = (matrix(name, side) for name, side in zip(("user factors", "item factors"), sides, strict=True))
    if users.shape[1] != items.shape[1]:
        raise InputError(
            f"user and item factors must have equally many columns, got {users.shape[1]} and {items.shape[1]}."
        )
    return Pair(users, items)


def matrix(name: str, values: Any) -> np.ndarray:
    """[N, K] `values` as a NumPy matrix of float32 or float64; refused where it is none, or not finite."""
    array = _checks.array(name, values)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be a matrix of numbers, got {array.dtype} of shape {array.shape}.")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite; row {int(np.argmin(np.isfinite(array).all(axis=1)))} is not.")
    return array


def item_indices(items: Any, n_items: int) -> np.ndarray:
    """`items` as an array of indices, refused where they are out of range."""
    items = _checks.array("items", items)
    if items.dtype.kind not in "iu" or (items.size and not 0 <= items.min() <= items.max() < n_items):
        raise InputError(f"items must be whole numbers from 0 to {n_items - 1}.")
    return items


def _like(factors: Any, users: np.ndarray, items: np.ndarray) -> Any:
    """The two sides as `factors` were given: the same kind, the same precision."""
    pair = pair_of(factors)
    users, items = users.astype(pair.user_factors.dtype), items.astype(pair.item_factors.dtype)
    return ItemFactors(users, items) if isinstance(factors, Fitted | ItemFactors) else Pair(users, items)


def rescale(factors: Any, scale: Any) -> Any:
    """The factors (A D, B D^-1), which score as (A, B) do (Steck et al. 2024, eq. 3).

    Args:
      factors: ItemFactors, a fit, or a pair (user_factors, item_factors); see `pair_of`.
      scale: [K] the diagonal of D, finite and not 0.

    Returns:
      ItemFactors, or a Pair where arrays were given; computed in float64, in the precision of the input.
    """
    users, items = pair_of(factors)
    scale = np.asarray(scale, np.float64)
    if scale.shape != items.shape[1:] or not np.isfinite(scale).all() or not scale.all():
        raise InputError(f"scale must hold {items.shape[1]} finite numbers other than 0, one a dimension.")
    return _like(factors, users * scale, items / scale)


def transform(factors: Any, by: Any) -> Any:
    """The factors (A M, B M'^-1), which score as (A, B) do.

    Args:
      factors: as in `rescale`.
      by: [K, K] M, invertible, with a condition number below 1e8.
    """
    users, items = pair_of(factors)
    by, rank = matrix("the transformation", by).astype(np.float64), items.shape[1]
    if by.shape != (rank, rank):
        raise InputError(f"the transformation must be {rank} x {rank}, got {by.shape[0]} x {by.shape[1]}.")
    if not (condition := np.linalg.cond(by)) < WORST_CONDITION:
        raise InputError(
            f"the transformation must be invertible; its condition number is {condition:.1e} (limit 1e+08)."
        )
    return _like(factors, users.astype(np.float64) @ by, np.linalg.solve(by, items.T.astype(np.float64)).T)


def canonical_gauge(factors: Any, kind: str = "balanced") -> Any:
    """Factors with the same scores in a gauge that only the scores determine (up to signs, and equal singular values).

    With the SVD A B' = U D(s) W':

    - "balanced": A = U D(s)^(1/2), B = W D(s)^(1/2); both sides share each direction's weight.
    - "item_orthonormal": A = U D(s), B = W. Of full rank all items are then orthogonal: no two are similar.
    - "user_orthonormal": A = U, B = W D(s). Where A is an encoder of full rank, cosines between users X A are then
      those between rows of X.

    Cosines in each are unique, but that does not make one of them right: they differ from each other.

    Args:
      factors: as in `rescale`.
      kind: one of the above.

    Cost: 4 (N + I) K^2 + 30 K^3 flops, in float64.
    """
    _checks.one_of("kind", kind, KINDS)
    users, items = pair_of(factors)
    rank = items.shape[1]
    (left, upper), (right, lower) = (np.linalg.qr(side.astype(np.float64)) for side in (users, items))
    u, s, wt = np.linalg.svd(upper @ lower.T, full_matrices=False)
    power = {"balanced": 0.5, "item_orthonormal": 0.0, "user_orthonormal": 1.0}[kind]
    parts = (left @ u) * s ** (1 - power), (right @ wt.T) * s**power
    # With fewer rows than dimensions there are fewer directions than columns; the rest is zero.
    return _like(factors, *(np.pad(part, ((0, 0), (0, rank - len(s)))) for part in parts))


class CosineRange(NamedTuple):
    """The smallest and the largest cosine; ends that only infinite scales reach are not reached but approached."""

    low: Any
    high: Any


def cosine_range(item_factors: Any, i: Any, j: Any) -> CosineRange:
    """Between what a rescaling of the dimensions, B -> B D^-1, can bring the cosine of two items: exactly.

    With rows b, c of B and t_l = c_l / b_l: all of (-1, 1) if products b_l c_l of both signs occur. If none is
    negative, from 1 / cosh(log(t_max / t_min) / 2), which is Cassels' inequality, up to 1, or down to 0 where only
    one of b_l and c_l vanishes; mirrored if none is positive; 0 alone if all products are 0. Under *all* invertible
    matrices it is (-1, 1) for every two items that are not parallel.

    Args:
      item_factors: [I, K] B, in the basis whose dimensions are rescaled.
      i: items, an index or an array of them.
      j: items, likewise.

    Returns:
      CosineRange(low, high), of the shape of i and j; NaN where one of the rows is zero, and so has no cosine.

    Cost: K for each pair.
    """
    items = matrix("item factors", item_factors).astype(np.float64)
    i, j = (item_indices(index, len(items)) for index in (i, j))
    b, c = np.broadcast_arrays(items[i], items[j])
    matters = (b != 0) | (c != 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(np.abs(c)) - np.log(np.abs(b))  # -inf or inf where one of them is 0
        smallest = np.where(matters, log_ratio, np.inf).min(axis=-1)
        largest = np.where(matters, log_ratio, -np.inf).max(axis=-1)
        spread = np.where(smallest == largest, 0, largest - smallest)
    bound = np.where(np.isinf(spread), 0, 1 / np.cosh(np.minimum(spread, 700) / 2))
    signs = np.sign(b) * np.sign(c)  # the product itself may underflow
    high = np.where((signs > 0).any(axis=-1), 1, 0 - bound)
    low = np.where((signs < 0).any(axis=-1), -1, bound)
    undefined = ~b.any(axis=-1) | ~c.any(axis=-1)
    low, high = (np.where(undefined, np.nan, end) for end in (low, high))
    return CosineRange(low, high) if low.ndim else CosineRange(float(low), float(high))
