"""EASE: the linear autoencoder with zero diagonal, in closed form (Steck, WWW 2019, arXiv 1905.03375)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec.closed_form import kernel
from jaxrec.closed_form.method import ClosedForm


def objective(x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], reg: Any) -> Float[Array, ""]:
    """The regularised squared error ||X - X B||_F^2 + reg ||B||_F^2 (Steck 2019), of which EASE is the minimum.

    The minimum is taken over weights B with zero diagonal. This is the literal loss, for checking: it takes X dense.

    Args:
      x: [U, I] interactions.
      weights: [I, I] B.
      reg: scalar > 0, or [I] one for the row of each item.
    """
    return kernel.objective(x, weights, reg)


def weights(gram: Float[ArrayLike, "I I"], reg: Any) -> Float[Array, "I I"]:
    """[I, I] the EASE weights: the minimum of ||X - X B||_F^2 + reg ||B||_F^2 subject to diag(B) = 0.

    With C = (X'X + reg I)^-1, B_ij = -C_ij / C_jj for i != j (Steck 2019). It takes the Gram matrix, so that a sweep
    over `reg` computes that once; `reg` is traced, so the sweep compiles once. Can be jitted, mapped and
    differentiated.

    Args:
      gram: [I, I] X'X, uncentred; symmetric. Not modified.
      reg: scalar > 0, in the unit of the diagonal of `gram` (interactions per item); or [I] one an item.

    Returns:
      [I, I] zero diagonal.

    Cost: 2 I^3 flops; three I x I matrices (the argument, the result, one update).
    Fails: NaN where gram + reg I is not numerically positive definite.
    Differs from the paper: nothing.
    """
    gram = jnp.asarray(gram)
    return kernel.solve(gram, jnp.broadcast_to(jnp.asarray(reg, gram.dtype), gram.shape[:1])).weights


@dataclasses.dataclass(frozen=True, repr=False)
class Ease(ClosedForm):
    """EASE: item-item weights B that minimise ||X - X B||_F^2 + reg ||B||_F^2 with zero diagonal (Steck 2019).

    Attributes:
      reg: L2 strength, the paper's lambda, in interactions per item; larger means weights nearer to zero. Hundreds to
        a thousand on data with ten million interactions, tens on small or sparse data. The optimum is flat.
      solver: "host" works in place in the memory of one I x I matrix on the CPU; "jax" runs the JAX kernel on the
        default device; "auto" takes "host" where the default device is a CPU, else "jax".
      dtype: "float32", or "float64" for nearly collinear items ("host" only).
    """

    name: ClassVar[str] = "ease"

    reg: float = 100.0

    def __post_init__(self):
        super().__post_init__()
        _checks.positive("reg", self.reg, "the unit is interactions per item")

    def penalty(self, gram_diagonal: np.ndarray) -> np.ndarray:
        """[I] reg for every item."""
        return np.full(len(gram_diagonal), float(self.reg))
