"""Weights of squared errors: W = p q' + S, where S has the pattern of X; every weighted solver takes this one form.

The loss is the sum over ALL users u and items i of W_ui (X_ui - prediction_ui)^2. Missing cells outnumber the others a
hundredfold, so a solver must not visit them one by one; p q' on the missing ones is what makes that possible, because
the sum over all items of a user's row is then p_u times something that is the same for every user. All weightings in
common use have this form. Raising W on the positives while their targets stay also raises the level of the
predictions: it is not a knob that only changes rankings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.typing import ArrayLike
from numpy.typing import DTypeLike

from jaxrec import _checks
from jaxrec._checks import InputError, briefly
from jaxrec._checks.doors import door, kind
from jaxrec.data.interactions import Interactions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WeightRule:
    """How the weights of a user follow from the user's history, so that the weights of unseen users do.

    p_u = row_scale n_u^row_exponent, and S_ui = slope_i h(x_ui) + offset_i where x_ui is not 0, with
    h(x) = eps log(1 + x / eps), which is x itself for eps = inf.

    Attributes:
      col: [I] q.
      slope: [I] what a unit of h(x) adds to the weight of an entry.
      offset: [I] what every entry of the item adds.
      row_scale: scalar.
      row_exponent: scalar.
      saturation: scalar eps > 0.
    """

    col: Any
    slope: Any
    offset: Any
    row_scale: Any = 1.0
    row_exponent: Any = 0.0
    saturation: Any = math.inf

    def rows(self, counts: Any) -> Any:
        """[B] p of users with so many items; those without any count as if they had one."""
        xp = _namespace(counts)
        return self.row_scale * xp.maximum(counts, 1).astype(self.col.dtype) ** self.row_exponent

    def entries(self, items: Any, values: Any) -> Any:
        """S at `items` with the interactions `values`, of one shape; 0 where the value is 0, as in padding."""
        xp = _namespace(values)
        linear = xp.isinf(self.saturation)
        eps = xp.where(linear, 1, self.saturation)
        level = xp.where(linear, values, eps * xp.log1p(xp.maximum(values, 0) / eps))
        return xp.where(values != 0, self.slope[items] * level + self.offset[items], 0)

    def on(self, x: Interactions) -> Weights:
        """The weights of the users of `x`, entry by entry."""
        return _from_rule(x, self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """W = p q' + S >= 0. Build one with a constructor below, which all check what they are given.

    `x` is the matrix of interactions whose errors are weighted. The schemes that read its values take them for
    strengths (plays, hours, ratings); the targets of a fit may well be 1 for all of them.

    Attributes:
      row: [U] float64 p.
      col: [I] float64 q.
      entries: [nnz] float64 S in the order of the entries of X, or None where S = 0 (W has rank 1).
      rule: how the weights of unseen users follow from their histories, or None where that is not known.
      pattern: digest of the pattern of X that `entries` belongs to; "" where there are none.
    """

    row: Any
    col: Any
    entries: Any = None
    rule: WeightRule | None = None
    pattern: str = dataclasses.field(default="", metadata={"static": True})

    # -- constructors -------------------------------------------------------------------------------------------------

    @classmethod
    @door
    def uniform(cls, x: Interactions) -> Weights:
        """W = 1: no weighting."""
        return _from_rule(x, _rule(x.n_items), sparse=False)

    @classmethod
    @door
    def constant(cls, x: Interactions, alpha: float, *, unobserved_weight: float = 1.0) -> Weights:
        """W = unobserved_weight + alpha x_ui (Hu, Koren & Volinsky 2008, who have unobserved_weight = 1).

        Args:
          x: the interactions; values must not be negative.
          alpha: > 0, weight of a unit of strength.
          unobserved_weight: > 0, weight of a missing cell; the iALS papers' alpha_0 where alpha = 1.
        """
        _checks.positive("alpha", alpha, "without up-weighting use Weights.uniform")
        return _from_rule(x, _rule(x.n_items, unobserved_weight, slope=alpha))

    @classmethod
    @door
    def log(cls, x: Interactions, alpha: float, eps: float = 1.0, *, unobserved_weight: float = 1.0) -> Weights:
        """Many plays count less than in proportion: W = unobserved_weight + alpha h, h the log of 1 + x_ui / eps.

        Args:
          x: the interactions; values must not be negative.
          alpha: > 0.
          eps: > 0, the strength from which on more of it counts clearly less.
          unobserved_weight: > 0, weight of a missing cell.
        """
        _checks.positive("alpha", alpha, "without up-weighting use Weights.uniform")
        _checks.positive("eps", eps, "the unit is that of the values")
        return _from_rule(x, _rule(x.n_items, unobserved_weight, slope=alpha / eps, saturation=eps))

    @classmethod
    @door
    def ips(cls, x: Interactions, beta: float, *, alpha: float = 1.0, unobserved_weight: float = 1.0) -> Weights:
        """Positives weighted by inverse propensity: W_ui = c m_i^-beta, m_i the number of users of item i.

        The constant c makes `alpha` the mean weight of the positives, so that only its distribution changes.

        Args:
          x: the interactions; only their pattern is used.
          beta: >= 0; 0 weights all positives alike, 1 gives every item the same total.
          alpha: > 0, mean weight of the positives.
          unobserved_weight: > 0, weight of a missing cell.
        """
        _checks.nonnegative("beta", beta)
        _checks.positive("alpha", alpha)
        counts = x.item_counts.astype(np.float64)
        shape = np.maximum(counts, 1) ** -float(beta)
        scale = alpha * x.nnz / max(float(counts @ shape), 1e-300)
        return _from_rule(x, _rule(x.n_items, unobserved_weight, offset=scale * shape - unobserved_weight))

    @classmethod
    @door
    def popularity_zeros(
        cls, x: Interactions, omega: float = 0.5, *, unobserved_weight: float = 1.0, observed_weight: float = 1.0
    ) -> Weights:
        """Missing cells of popular items weigh more: q_i proportional to m_i^omega (eALS; He et al., SIGIR 2016).

        A popular item that a user has not taken was probably seen and passed over.

        Args:
          x: the interactions; only their pattern is used.
          omega: >= 0; 0 weights all missing cells alike.
          unobserved_weight: > 0, mean over items of the weight of a missing cell: eALS's c_0 / I.
          observed_weight: > 0, weight of every positive.
        """
        _checks.nonnegative("omega", omega)
        _checks.positive("unobserved_weight", unobserved_weight)
        _checks.positive("observed_weight", observed_weight)
        shape = x.item_counts.astype(np.float64) ** float(omega)
        col = unobserved_weight * shape / max(float(shape.mean()), 1e-300)
        return _from_rule(x, WeightRule(col, np.zeros(x.n_items), observed_weight - col))

    @classmethod
    @door
    def user_activity(cls, x: Interactions, beta: float, *, alpha: float = 0.0) -> Weights:
        """Users weighted by the length of their histories: p_u = c n_u^beta, with mean 1 over users.

        Args:
          x: the interactions.
          beta: below 0 busy users count less, above 0 more.
          alpha: >= 0, weight of a unit of strength on top, as in `constant`; 0 for none.
        """
        _checks.finite("beta", beta)
        _checks.nonnegative("alpha", alpha)
        shape = np.maximum(x.user_counts, 1).astype(np.float64) ** float(beta)
        rule = dataclasses.replace(
            _rule(x.n_items, slope=alpha),
            row_scale=np.float64(1 / shape.mean() if len(shape) else 1.0),
            row_exponent=np.float64(beta),
        )
        return _from_rule(x, rule, sparse=alpha > 0)

    @classmethod
    @door
    def rank_one(cls, row: ArrayLike, col: ArrayLike) -> Weights:
        """W = p q'; an unseen user gets the mean of p.

        Args:
          row: [U] p >= 0.
          col: [I] q >= 0.
        """
        p, q = _weights_given("row", row), _weights_given("col", col)
        scale = np.float64(p.mean() if len(p) else 1.0)
        return cls(
            p, q, rule=WeightRule(q, np.zeros_like(q), np.zeros_like(q), scale, np.float64(0), np.float64(np.inf))
        )

    @classmethod
    @door
    def on_entries(cls, x: Interactions, values: ArrayLike, *, unobserved_weight: float = 1.0) -> Weights:
        """W_ui = values on the entries of X and `unobserved_weight` elsewhere; it says nothing of unseen users.

        Args:
          x: the interactions; only their pattern is used.
          values: [nnz] weights >= 0 in the order of the entries of `x`.
          unobserved_weight: > 0, weight of a missing cell.
        """
        _checks.positive("unobserved_weight", unobserved_weight)
        given = _weights_given("values", values)
        if len(given) != x.nnz:
            raise InputError(f"values must hold one weight for each of the {x.nnz:,} entries, got {len(given):,}.")
        ones = np.ones(x.n_users), np.full(x.n_items, float(unobserved_weight))
        return cls(*ones, given - unobserved_weight, pattern=pattern_of(x))

    # -- what solvers ask ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(U, I)."""
        return self.row.shape[0], self.col.shape[0]

    @door
    def require(self, x: Interactions) -> None:
        """Refuses weights that were made for other interactions than `x`."""
        if self.shape != x.shape:
            raise InputError(
                f"the weights are for {self.shape[0]:,} users x {self.shape[1]:,} items and the interactions "
                f"{x.n_users:,} x {x.n_items:,}; make the weights from these interactions."
            )
        if self.pattern and self.pattern != pattern_of(x):
            raise InputError(
                "the weights have another pattern than the interactions (other entries, or in another order); make "
                "them from the interactions that are fitted."
            )

    def _require_size(self, x: Interactions) -> None:
        """As `require`, without a look at where the entries are."""
        if self.shape != x.shape or (self.entries is not None and len(self.entries) != x.nnz):
            self.require(x)

    @door
    def sparse(self, x: Interactions, dtype: DTypeLike = np.float64) -> sp.csr_array:
        """[U, I] S with the explicit pattern of X, entry by entry (zeros stay stored)."""
        self._require_size(x)
        values = np.zeros(x.nnz) if self.entries is None else np.asarray(self.entries)
        return sp.csr_array((values.astype(dtype), x.indices, x.indptr), shape=x.shape)

    @door
    def on_pattern(self, x: Interactions) -> np.ndarray:
        """[nnz] W on the entries of X."""
        self._require_size(x)
        base = np.asarray(self.row)[x.user_of_entry] * np.asarray(self.col)[x.indices]
        return base if self.entries is None else base + np.asarray(self.entries)

    @door
    def ratio_bounds(self, x: Interactions) -> tuple[float, float]:
        """(c1, c2) with c1 p q' <= W <= c2 p q' and c1 <= 1 <= c2.

        The eigenvalues of the weighted system, preconditioned by the system of S = 0, lie between these two: their
        quotient bounds its condition number, whatever the data and the regularization.
        """
        self._require_size(x)
        if self.entries is None or x.nnz == 0:
            return 1.0, 1.0
        base = np.asarray(self.row)[x.user_of_entry] * np.asarray(self.col)[x.indices]
        with np.errstate(all="ignore"):
            ratio = np.nan_to_num(1 + np.asarray(self.entries) / base, nan=1.0, posinf=np.inf)  # 0 / 0: both are 0
        return min(1.0, float(ratio.min())), max(1.0, float(ratio.max()))

    @door
    def scaled(self, factor: float) -> Weights:
        """The weights `factor` W; with the regularization scaled alike, no optimum changes."""
        _checks.positive("factor", factor)
        rule = self.rule and dataclasses.replace(
            self.rule, col=factor * self.rule.col, slope=factor * self.rule.slope, offset=factor * self.rule.offset
        )
        entries = None if self.entries is None else factor * self.entries
        return dataclasses.replace(self, col=factor * self.col, entries=entries, rule=rule)

    @door
    def of_unseen(self, histories: Interactions) -> Weights:
        """The weights of users who were not trained on, by the same rule as those who were."""
        if self.rule is None:
            raise InputError("these weights (given entry by entry) have no rule for unseen users; pass their weights.")
        if histories.n_items != self.shape[1]:
            raise InputError(f"the histories have {histories.n_items:,} items and the weights {self.shape[1]:,}.")
        return _from_rule(histories, self.rule, sparse=self.entries is not None)

    @door
    def to_dense(self, x: Interactions) -> np.ndarray:
        """[U, I] W, for checking."""
        return np.outer(self.row, self.col) + self.sparse(x).toarray()


def pattern_of(x: Interactions) -> str:
    """A digest of the shape of X and of where its entries are, in their order."""
    digest = hashlib.sha256(np.asarray(x.shape, np.int64).tobytes())
    for array in (x.indptr, x.indices):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _namespace(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np


def _rule(
    n_items: int, unobserved_weight: float = 1.0, slope: float = 0.0, offset: Any = 0.0, saturation: float = math.inf
) -> WeightRule:
    _checks.positive("unobserved_weight", unobserved_weight)
    col, slopes, offsets = (np.broadcast_to(np.float64(v), n_items).copy() for v in (unobserved_weight, slope, offset))
    return WeightRule(col, slopes, offsets, np.float64(1), np.float64(0), np.float64(saturation))


def _from_rule(x: Interactions, rule: WeightRule, sparse: bool = True) -> Weights:
    """The weights of the users of `x` by the rule."""
    row = rule.rows(x.user_counts)
    if not sparse:
        return Weights(row, rule.col, rule=rule)
    if rule.slope.any() and x.nnz and x.values.min() < 0:
        raise InputError(
            f"{x.name}: weights must not be negative, and the values they are made from go down to "
            f"{x.values.min():g}; drop negative feedback, or give weights by Weights.on_entries."
        )
    entries = rule.entries(x.indices, x.values.astype(np.float64))
    return Weights(row, rule.col, entries, rule=rule, pattern=pattern_of(x))


def _weights_given(name: str, given: ArrayLike) -> np.ndarray:
    array = _checks.array(name, given)
    if array.ndim != 1:
        raise InputError(f"{name} must have 1 dimension, got shape {array.shape}.")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be numbers, got {array.dtype}.")
    array = array.astype(np.float64)
    if array.size and not (np.isfinite(array).all() and array.min() >= 0):
        worst = array[~np.isfinite(array)][0] if not np.isfinite(array).all() else array.min()
        raise InputError(f"{name}: weights must be finite and not negative, got {worst:g}.")
    return array


@kind("Weights")
def _weights(name: str, value: Any) -> Weights:
    """Weights, made by a constructor."""
    if not isinstance(value, Weights):
        raise InputError(f"{name} must be Weights, such as Weights.log(train, alpha=1.0), got {briefly(value)}.")
    return value
