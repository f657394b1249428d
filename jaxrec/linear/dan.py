"""DAN: data-adaptive normalization of the linear autoencoders (Park et al., SIGIR 2025, arXiv 2504.05805).

Users are weighted by their number of items to the power -beta in the loss, which keeps the active ones from ruling it,
and the weights are scaled by item popularity to the powers a and -a, which sets how much popular items count.
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
from jaxrec.closed_form.gram import with_user_weights
from jaxrec.closed_form.kernel import Problem, Solution
from jaxrec.closed_form.method import ClosedForm
from jaxrec.closed_form.products import Rescaled
from jaxrec.data.interactions import Interactions


def objective(
    x: Float[ArrayLike, "U I"],
    weights: Float[ArrayLike, "I I"],
    penalty: Any,
    item_power: Any,
    user_power: Any,
) -> Float[Array, ""]:
    """The loss ||D(n_u)^(-beta/2) (X - X B0)||_F^2 + ||Lambda^(1/2) B0||_F^2 with B0 = D(n_i)^-a B D(n_i)^a.

    Args:
      x: [U, I] interactions; n_u and n_i count the nonzeros of their rows and columns.
      weights: [I, I] B.
      penalty: diagonal of Lambda: [I], or a scalar.
      item_power: scalar a.
      user_power: scalar beta.
    """
    x = jnp.asarray(x)
    users, items = (jnp.maximum(jnp.sum(x != 0, axis=axis), 1).astype(x.dtype) for axis in (1, 0))
    weighted = x * (users ** (-user_power / 2))[:, None]
    return kernel.objective(weighted, scaled(jnp.asarray(weights), items, -item_power), penalty)


def scaled(weights: Any, counts: Any, power: Any) -> Any:
    """[I, I] D(n)^power B D(n)^-power for counts n [I]; the diagonal stays."""
    factor = counts**power
    return weights * factor[:, None] / factor[None, :]


@dataclasses.dataclass(frozen=True, repr=False)
class Dan(ClosedForm):
    """DAN: EASE or LAE on user-weighted data, with weights scaled by popularity (Park et al., SIGIR 2025).

    With n_u and n_i the number of items of a user and of users of an item, A = X' D(n_u)^-beta X and
    Lambda_i = reg + p/(1-p) n_i, B0 is the optimum of EASE (or LAE) for A and Lambda, and B = D(n_i)^a B0 D(n_i)^-a.

    Attributes:
      reg: L2 strength, in the unit of the diagonal of A: user-weighted interactions per item.
      dropout: the probability p in [0, 1) that an item of a history is dropped.
      item_power: the paper's alpha, a above; 0 leaves the weights as they are. The authors take 0.2 to 0.3.
      user_power: the paper's beta; 0 weights all users alike. The authors take 0.2 to 0.3.
      zero_diagonal: True is the EASE form; False the LAE form, whose diagonal only shows in scores of known items.
      solver: as in Ease.
      dtype: as in Ease.
    """

    name: ClassVar[str] = "dan"

    reg: float = 50.0
    dropout: float = 0.0
    item_power: float = 0.2
    user_power: float = 0.2
    zero_diagonal: bool = True

    def __post_init__(self):
        super().__post_init__()
        _checks.positive("reg", self.reg, "the unit is user-weighted interactions per item")
        _checks.dropout(self.dropout)
        for name in ("item_power", "user_power"):
            _checks.share(name, getattr(self, name))

    @property
    def diagonal_limit(self) -> float:
        """0 in the EASE form; 1, which the free optimum stays below, in the LAE form."""
        return 0.0 if self.zero_diagonal else 1.0

    def training_data(self, train: Interactions) -> Interactions:
        """The interactions with user u's row multiplied by n_u^(-beta/2)."""
        weights = np.maximum(train.user_counts, 1.0) ** -self.user_power
        return with_user_weights(train, weights, np.dtype(self.dtype))

    def penalty(self, gram_diagonal: np.ndarray) -> np.ndarray:
        """[I] reg + p/(1-p) n_i, given n_i."""
        return kernel.dropout_penalty(gram_diagonal, self.dropout, self.reg)

    def problem(self, train: Interactions) -> Problem:
        """The same, with the penalty from the unweighted number of users of each item."""
        return super().problem(train)._replace(penalty=self.penalty(train.item_counts.astype(np.float64)))

    def transform_weights(self, problem: Problem, solution: Solution) -> tuple[np.ndarray | Array, Rescaled]:
        """([I, I] B = D(n_i)^a B0 D(n_i)^-a; B0 of it)."""
        counts = np.maximum(problem.x.item_counts, 1).astype(solution.weights.dtype)
        factor = counts**self.item_power
        if isinstance(solution.weights, jax.Array):
            counts = np.pad(counts, (0, len(solution.weights) - len(counts)), constant_values=1)
            weights: Any = _scaled_on_device(solution.weights, counts, np.float32(self.item_power))
        else:
            weights = np.multiply(solution.weights, factor[:, None], out=solution.weights)
            weights = np.divide(weights, factor, out=weights)
        return weights, Rescaled(weights, left=1 / factor, right=factor)


_scaled_on_device = jax.jit(scaled, donate_argnums=0)
