"""EDLAE, DLAE and RDLAE: linear autoencoders trained to undo dropout, in closed form.

EDLAE ("Autoencoders that don't overfit towards the Identity", Steck, NeurIPS 2020) drops each input with probability p
and asks only for what was dropped. In expectation that is EASE with the penalty Lambda_j = reg + p/(1-p) (X'X)_jj.
Asking for the whole input leaves the diagonal free (DLAE), and a limit on the diagonal interpolates (RDLAE; Moon et
al., SIGIR 2023).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec.closed_form import kernel
from jaxrec.closed_form.kernel import dropout_penalty
from jaxrec.closed_form.method import ClosedForm


def objective(x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], dropout: Any, reg: Any) -> Float[Array, ""]:
    """The expected loss ||X - X B||_F^2 + ||Lambda^(1/2) B||_F^2, with Lambda_j = reg + p/(1-p) (X'X)_jj.

    With zd(B), B without its diagonal, in place of B it is the loss of full emphasis on what was dropped (Steck 2020).

    Args:
      x: [U, I] interactions.
      weights: [I, I] B.
      dropout: scalar p in [0, 1).
      reg: scalar > 0.
    """
    return kernel.objective(x, weights, dropout_penalty(jnp.sum(jnp.asarray(x) ** 2, axis=0), dropout, reg))


def weights(gram: Float[ArrayLike, "I I"], dropout: Any, reg: Any, diagonal_limit: Any = 0.0) -> Float[Array, "I I"]:
    """[I, I] the weights B = I - C D(s) with C = (X'X + Lambda)^-1; see `jaxrec.closed_form`.

    Args:
      gram: [I, I] X'X; symmetric. Not modified.
      dropout: scalar p in [0, 1), the probability that an input is dropped.
      reg: scalar > 0, in interactions per item.
      diagonal_limit: scalar xi in [0, 1]: 0 is EDLAE (Steck 2020), 1 DLAE, between them RDLAE (Moon et al. 2023).

    Cost: 2 I^3 flops; three I x I matrices.
    Fails: NaN where X'X + Lambda is not numerically positive definite.
    Differs from the paper: the factor 1/(1-p) of unscaled dropout is left out; it does not change a ranking.
    """
    gram = jnp.asarray(gram)
    return kernel.solve(gram, dropout_penalty(jnp.diagonal(gram), dropout, reg), diagonal_limit).weights


@dataclasses.dataclass(frozen=True, repr=False)
class Edlae(ClosedForm):
    """EDLAE: item-item weights trained to restore dropped items from the others (Steck, NeurIPS 2020).

    Attributes:
      reg: L2 strength in interactions per item, the paper's lambda; the papers take 70 to 500.
      dropout: the probability p in [0, 1) that an item of a history is dropped; 0 is EASE.
      solver: as in Ease.
      dtype: as in Ease.
    """

    name: ClassVar[str] = "edlae"

    reg: float = 100.0
    dropout: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.dropout(self.dropout)

    def penalty(self, gram_diagonal: np.ndarray) -> np.ndarray:
        """[I] reg + p/(1-p) (X'X)_jj."""
        return dropout_penalty(gram_diagonal, float(self.dropout), float(self.reg))


@dataclasses.dataclass(frozen=True, repr=False)
class Lae(Edlae):
    """LAE and DLAE: the linear autoencoder that may predict an item from itself; with dropout, DLAE.

    The diagonal only shows in the scores of items already in the history, which a recommendation leaves out. It needs
    a much larger `reg` than EASE.

    Attributes:
      reg: L2 strength in interactions per item.
      dropout: the probability p in [0, 1) that an item of a history is dropped; 0 is LAE.
      solver: as in Ease.
      dtype: as in Ease.
    """

    name: ClassVar[str] = "lae"

    reg: float = 1000.0
    dropout: float = 0.0

    @property
    def diagonal_limit(self) -> float:
        """1: the free optimum stays below it."""
        return 1.0


@dataclasses.dataclass(frozen=True, repr=False)
class Rlae(Edlae):
    """RLAE and RDLAE: the diagonal is limited to xi, between EASE (0) and LAE (1) (Moon et al., SIGIR 2023).

    Attributes:
      reg: L2 strength in interactions per item.
      dropout: the probability p in [0, 1) that an item of a history is dropped; 0 is RLAE, above it RDLAE.
      xi: the largest diagonal, in [0, 1].
      solver: as in Ease.
      dtype: as in Ease.
    """

    name: ClassVar[str] = "rlae"

    reg: float = 500.0
    dropout: float = 0.0
    xi: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        _checks.share("xi", self.xi)

    @property
    def diagonal_limit(self) -> float:
        """The paper's xi."""
        return float(self.xi)
