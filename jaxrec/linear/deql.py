"""DEQL: EDLAE with any weight on what was not dropped, in closed form (ICLR 2026, arXiv 2603.07402).

Each input is dropped with probability p = 1 - q; errors on dropped items weigh 1 and on kept ones b. In expectation the
column of item i solves a linear system of its own, H_i b_i = v_i. In EDLAE's unit, with r = b / (p + q b),
G = A + Lambda, Lambda_j = reg + p/q A_jj, and o for all items but i, it reads

    G_oo b_o + r A_oi b_ii = A_oi        r A_io b_o + (r A_ii / q + reg) b_ii = r A_ii.

H_i differs from G by a matrix of rank 2, for which the paper uses Woodbury's formula. Elimination shows more: with
w = G_oo^-1 A_oi, the column of EDLAE, the first line says b_o = (1 - r b_ii) w, and the second is then an equation for
the number b_ii alone, in which A_io w = G_ii - 1 / C_ii, C = G^-1. So the answer is EDLAE with rescaled columns and a
diagonal: nothing needs to be solved beyond EDLAE's one inverse.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec.closed_form import kernel
from jaxrec.closed_form.certificate import RESIDUAL_LIMIT
from jaxrec.closed_form.gram import reg_dominates
from jaxrec.closed_form.kernel import Problem, Solution
from jaxrec.closed_form.method import ClosedForm
from jaxrec.closed_form.products import Rescaled
from jaxrec.closed_form.unexplained import squared_errors
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import Stopwatch
from jaxrec.models import Fitted
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.solvers.columns import HIGHEST, columns_of, sample_columns
from jaxrec.status import Certificate, FitError, Status


def objective(
    x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], dropout: Any, reg: Any, kept_weight: Any
) -> Float[Array, ""]:
    """The expected loss E ||W^(1/2) o (X - Z B)||_F^2 / (p + q b) + reg ||B||_F^2, exactly.

    Z is X with each entry dropped with probability p, the others divided by q = 1 - p; W is 1 on what was dropped and
    b on what was kept. Divided by W's mean so that `reg` means the same for all b.

    Args:
      x: [U, I] interactions.
      weights: [I, I] B.
      dropout: scalar p in (0, 1).
      reg: scalar > 0.
      kept_weight: scalar b >= 0.
    """
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    own = jnp.diagonal(weights)
    others = weights - jnp.diag(own)
    error = x - jnp.matmul(x, others, precision=HIGHEST)  # mean where the item itself was dropped
    kept = 1 - dropout
    squares = dropout * error**2 + kept * kept_weight * (error - x * own[None, :] / kept) ** 2
    mean = jnp.sum(squares) / (dropout + kept * kept_weight)
    variance = dropout / kept * jnp.sum(jnp.sum(x**2, axis=0)[:, None] * others**2)
    return mean + variance + reg * jnp.sum(weights**2)


def own_weights(gram_diagonal: Any, unexplained: Any, dropout: Any, reg: Any, kept_weight: Any) -> tuple[Any, Any]:
    """([I], [I]): the diagonal b_ii, and the factor 1 - r b_ii of EDLAE's columns.

    Args:
      gram_diagonal: [I] A_ii.
      unexplained: [I] 1 / C_ii.
      dropout: scalar p in (0, 1).
      reg: scalar > 0.
      kept_weight: scalar b >= 0.
    """
    kept = 1 - dropout
    mean = dropout + kept * kept_weight
    r = kept_weight / mean
    error = unexplained - reg - dropout / kept * gram_diagonal  # A_ii - A_io w
    others = reg + r * dropout / (kept * mean) * gram_diagonal
    both = others + r**2 * error
    return r * error / both, others / both


def weights(gram: Float[ArrayLike, "I I"], dropout: Any, reg: Any, kept_weight: Any) -> Float[Array, "I I"]:
    """[I, I] the optimum of `objective` over all B; can be jitted, mapped and differentiated.

    Args:
      gram: [I, I] X'X; symmetric. Not modified.
      dropout: scalar p in (0, 1).
      reg: scalar > 0, in interactions per item.
      kept_weight: scalar b >= 0: 0 is EDLAE, 1 is DLAE, with the same p and reg.

    Cost: 2 I^3 flops; three I x I matrices.
    Fails: NaN where X'X + Lambda is not numerically positive definite.
    Differs from the paper: b is relative to the weight of dropped items (the paper's b^2 / a^2), reg to the mean
    weight, and kept inputs are divided by q, which scales B by q.
    """
    gram = jnp.asarray(gram)
    diagonal = jnp.diagonal(gram)
    solution = kernel.solve(gram, kernel.dropout_penalty(diagonal, dropout, reg))
    own, factor = own_weights(diagonal, solution.unexplained, dropout, reg, kept_weight)
    return _combined(solution.weights, own, factor)


def _combined(edlae: Any, own: Any, factor: Any) -> Any:
    return jnp.where(jnp.eye(len(own), dtype=bool), own[None, :], edlae * factor[None, :])


_combined_on_device = jax.jit(_combined, donate_argnums=0)


def residual(
    train: Interactions, columns: np.ndarray, found: np.ndarray, dropout: float, reg: float, kept_weight: float
) -> float:
    """The relative error ||H_i b_i - v_i|| / ||v_i|| over some columns, in float64 through sparse X.

    Args:
      train: the interactions X.
      columns: [S] items i.
      found: [I, S] their columns of B.
      dropout: p.
      reg: L2 strength.
      kept_weight: b.
    """
    kept = 1 - dropout
    r = kept_weight / (dropout + kept * kept_weight)
    x = train.to_csr(np.float64)
    target = x.T @ x[:, columns].toarray()  # A_ji
    gram_diagonal = np.asarray(x.multiply(x).sum(axis=0)).ravel()
    chosen = columns, np.arange(len(columns))
    own, own_gram = found[chosen], gram_diagonal[columns]
    product = x.T @ (x @ found)
    error = product + (reg + dropout / kept * gram_diagonal)[:, None] * found - target * (1 + (1 - r) * own)
    error[chosen] = r * (product[chosen] - own_gram * own) + (r * own_gram / kept + reg) * own - r * own_gram
    target[chosen] = r * own_gram
    norm = float(np.linalg.norm(target))
    return float(np.linalg.norm(error)) / norm if norm > 0 else float(np.linalg.norm(error))


@dataclasses.dataclass(frozen=True, repr=False)
class Deql(ClosedForm):
    """DEQL: item-item weights trained on dropped items with weight 1 and on kept ones with weight b.

    Between EDLAE (b = 0) and DLAE (b = 1), and beyond (arXiv 2603.07402). The diagonal only shows in scores of items
    already in the history; what b changes in a ranking of new items is a factor for each item.

    Attributes:
      reg: L2 strength in interactions per item, as in Edlae.
      dropout: the probability p, strictly between 0 and 1, that an item of a history is dropped.
      kept_weight: b, the weight of errors on kept items relative to the weight of errors on dropped ones; at least 0.
      solver: as in Ease.
      dtype: as in Ease.
    """

    name: ClassVar[str] = "deql"

    reg: float = 100.0
    dropout: float = 0.3
    kept_weight: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.fraction("dropout", self.dropout)
        _checks.nonnegative("kept_weight", self.kept_weight)

    def penalty(self, gram_diagonal: np.ndarray) -> np.ndarray:
        """[I] reg + p/(1-p) (X'X)_jj, as in Edlae."""
        return kernel.dropout_penalty(gram_diagonal, self.dropout, self.reg)

    def transform_weights(self, problem: Problem, solution: Solution) -> tuple[np.ndarray | Array, Rescaled]:
        """([I, I] EDLAE's columns rescaled, with the diagonal; EDLAE's optimum of it)."""
        weights = solution.weights
        unexplained = np.asarray(solution.unexplained, np.float64)
        unexplained = problem.penalty + squared_errors(problem, unexplained, weights, np.ones(len(unexplained)))
        parts = own_weights(problem.gram_diagonal, unexplained, self.dropout, self.reg, self.kept_weight)
        own, factor = (part.astype(weights.dtype) for part in parts)
        if isinstance(weights, jax.Array):
            empty = len(weights) - problem.x.n_items  # items that fill up the blocks of a device
            weights = _combined_on_device(weights, np.pad(own, (0, empty)), np.pad(factor, (0, empty)))
        else:
            np.multiply(weights, factor, out=weights)
            np.fill_diagonal(weights, own)
        return weights, Rescaled(weights, diagonal=own, right=1 / factor.astype(np.float64))

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted weights with their certificate; as `Ease.fit`, which see.

        The certificate holds the larger of two residuals: of EDLAE's optimum, from all columns, and of the
        systems H_i b_i = v_i themselves for up to 64 columns.
        """
        return self._fit(train, devices)

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        needs = super()._needs(n_users, n_items, nnz, on, host)
        checked = {"columns that are checked": 8 * 64 * (6 * n_items + n_users)}
        return needs._replace(parts=needs.parts | checked)

    def _with_certificate(
        self, train: Interactions, problem: Problem, solution: Solution, status: Status, clock: Stopwatch
    ) -> tuple[Any, Certificate]:
        model, certificate = super()._with_certificate(train, problem, solution, status, clock)
        if certificate.status is not Status.OK:
            return model, certificate
        columns = sample_columns(train.n_items)
        found = columns_of(model.weights, columns)[: train.n_items]
        own = residual(train, columns, found, self.dropout, self.reg, self.kept_weight)
        certificate = dataclasses.replace(certificate, residual=max(own, certificate.residual))
        if not own <= RESIDUAL_LIMIT[self.dtype]:
            way = "lower reg: nothing is left to learn" if reg_dominates(train, self.reg) else "raise reg"
            raise FitError(Status.RESIDUAL_TOO_LARGE, f"{certificate}; {way}, or use Deql(dtype='float64').")
        return model, certificate
