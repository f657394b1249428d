"""The model of a factorization of users x items, which folds every history in."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float

from jaxrec._checks import InputError, briefly
from jaxrec._checks.doors import kind
from jaxrec.data.batching import RowBatch
from jaxrec.data.interactions import Interactions
from jaxrec.factorization import ridge
from jaxrec.factorization.ridge import FoldIn, RegressionBatch
from jaxrec.models import Fitted, Named

NUMBERS_AT_ONCE = 2**24  # of the systems that fold histories in, when scoring on a device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UserItemFactors(Named):
    """A factorization of users x items: the scores of a history are y V', y the user's factors that fit it best.

    Scoring folds every history in: it solves the user's own regression on the item factors exactly, with the weights
    and the regularization of the fit, whether the user was trained on or not. An empty history has factors 0.

    Attributes:
      user_factors: [U, K] of the users of the fit, as it left them.
      item_factors: [I, K] V.
      user_gram: [K, K] sum over users of p_u times the outer product of their factors.
      item_gram: [K, K] sum over items of q_i times the outer product of their factors.
      user_weights: [U] p.
      fold: what makes a regression of a history.
    """

    user_factors: Any
    item_factors: Any
    user_gram: Any
    item_gram: Any
    user_weights: Any
    fold: Any = dataclasses.field(default=None, metadata={"part": FoldIn})

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.item_factors.shape[0]

    def fold_in(self, history: RowBatch) -> Float[Array, "B K"]:
        """[B, K] the factors of users with these histories; B (L K^2 + K^3/3) flops, some rows at a time."""
        self.require_rule()
        factors, gram = jnp.asarray(self.item_factors), jnp.asarray(self.item_gram)
        (n, width), k = history.items.shape, factors.shape[1]
        size = min(n, max(1, NUMBERS_AT_ONCE // (k * max(k, width))))
        fill = [(0, -n % size)]
        systems = self.fold.systems(history)
        parts = [
            jnp.pad(part, fill + [(0, 0)] * (part.ndim - 1)).reshape(-1, size, *part.shape[1:]) for part in systems
        ]

        def solve(some: RegressionBatch) -> Any:
            return ridge.cholesky(some, factors[some.items], gram, jnp.zeros((size, k), factors.dtype)).factors

        # One batched LAPACK call at a time: several at once can hang JAX on a CPU.
        return jax.lax.map(solve, RegressionBatch(*parts)).reshape(-1, k)[:n]

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores of the folded-in histories."""
        return jnp.matmul(self.fold_in(history), jnp.asarray(self.item_factors).T, precision=jax.lax.Precision.HIGHEST)

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] scores of the folded-in histories; nnz K^2 + B (K^3/3 + 2 I K) flops."""
        self.require_rule()
        x = Interactions.from_csr(history)
        rows = self.fold.rows(x, self.fold.rule.on(x))
        factors = np.asarray(self.item_factors)
        return ridge.solve_on_host(rows, factors, np.asarray(self.item_gram)).factors @ factors.T

    def require_rule(self) -> None:
        """Refuses to fold in where the weights of unseen users are not known."""
        if self.fold.rule is None:
            raise InputError(
                "the weights of this fit (given entry by entry) have no rule for unseen users; call "
                "jaxrec.factorization.fold_in with their weights."
            )


@kind("UserItemFactors")
def _factors(name: str, value: Any) -> UserItemFactors:
    """A factorization, or a fit of one."""
    model = value.model if isinstance(value, Fitted) else value
    if not isinstance(model, UserItemFactors):
        raise InputError(f"{name} must be UserItemFactors, the model of a fit of Ials, got {briefly(model)}.")
    return model
