"""The rows of one side of X as regressions: from interactions and weights, for users who were trained on and others."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxrec.data.batching import RowBatch
from jaxrec.data.interactions import Interactions
from jaxrec.factorization.ridge.kernels import RegressionBatch
from jaxrec.factorization.weights import WeightRule, Weights


class Regressions(NamedTuple):
    """N regressions in compressed sparse rows, on the host; see `kernels` for what they minimise.

    Attributes:
      indptr: [N + 1] entries of row u are `indptr[u]:indptr[u + 1]`.
      indices: [nnz] which factors of the other side.
      weights: [nnz] s.
      targets: [nnz] b.
      scale: [N] p.
      ridge: [N] r.
      col: [M] q of the other side.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray
    targets: np.ndarray
    scale: np.ndarray
    ridge: np.ndarray
    col: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """[N] entries of each row."""
        return np.diff(self.indptr)

    def take(self, some: np.ndarray) -> Regressions:
        """Those rows for which [N] `some` is true."""
        entries = np.repeat(some, self.counts)
        return self._replace(
            indptr=np.concatenate([[0], np.cumsum(self.counts[some])]),
            indices=self.indices[entries],
            weights=self.weights[entries],
            targets=self.targets[entries],
            scale=self.scale[some],
            ridge=self.ridge[some],
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FoldIn:
    """What makes a regression of a history: weights, targets and ridge, by the rule of the fit.

    The ridge is r = reg (n + p sum(q))^reg_exponent, n the number of entries (Rendle et al. 2021: reg (n + a0 I)^nu).
    The targets of entries are 1: b = s + one_targets p q. With one_targets = 1 the loss is W (1 - prediction)^2 on them
    (Hu et al. 2008); with 0 the term p q prediction^2 pulls them to 0 as it does all cells (iALS 2021), which is the
    target s / (p q + s).

    Attributes:
      reg: scalar >= 0.
      reg_exponent: scalar.
      one_targets: scalar: 1, or 0 for the smaller targets s / (p q + s).
      col_sum: scalar sum of q over the items of the fit.
      rule: the weights of unseen users, or None where the fit's weights have none.
    """

    reg: Any
    reg_exponent: Any
    one_targets: Any
    col_sum: Any
    rule: Any = dataclasses.field(default=None, metadata={"part": WeightRule})

    def systems(self, history: RowBatch) -> RegressionBatch:
        """The regressions of a batch of histories; can be traced."""
        rule: WeightRule = self.rule
        real = history.values != 0
        counts = jnp.sum(real, axis=1)
        weights, scale = rule.entries(history.items, history.values), rule.rows(counts)
        base = jnp.where(real, self.one_targets * scale[:, None] * jnp.asarray(rule.col)[history.items], 0)
        ridge = self.reg * (counts + scale * self.col_sum) ** self.reg_exponent
        return RegressionBatch(history.items, weights, weights + base, scale, ridge)

    def rows(self, x: Interactions, weights: Weights) -> Regressions:
        """The regressions of the users of `x` with these weights, in float64."""
        row, col = np.asarray(weights.row), np.asarray(weights.col)
        entries = np.zeros(x.nnz) if weights.entries is None else np.asarray(weights.entries)
        targets = entries + float(self.one_targets) * row[x.user_of_entry] * col[x.indices]
        ridge = self.ridge(x.user_counts, row, float(col.sum()))
        return Regressions(x.indptr, x.indices, entries, targets, row, ridge, col)

    def ridge(self, counts: np.ndarray, scale: np.ndarray, col_sum: float) -> np.ndarray:
        """[N] r of rows with so many entries and the weights p, where q sums to `col_sum`."""
        return float(self.reg) * (counts + scale * col_sum) ** float(self.reg_exponent)


def transposed(rows: Regressions, counts: np.ndarray, fold: FoldIn) -> Regressions:
    """The regressions of the other side: the same entries, column by column.

    Args:
      rows: of the users.
      counts: [I] the number of users of each item.
      fold: for the ridge.
    """
    order: Any = sp.csr_array(
        (np.arange(1, len(rows.indices) + 1), rows.indices, rows.indptr), shape=(len(rows.scale), len(rows.col))
    ).tocsc()
    at = order.data - 1
    ridge = fold.ridge(counts, rows.col, float(rows.scale.sum()))
    return Regressions(order.indptr, order.indices, rows.weights[at], rows.targets[at], rows.col, ridge, rows.scale)
