"""Fitted models: pytrees of arrays, and the one contract at their output."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float

from jaxrec.data import Catalogue, RowBatch
from jaxrec.status import Certificate


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores items from histories; recommending and evaluating know nothing else of a model."""

    @property
    def n_items(self) -> int:
        """I, the number of items scored."""
        ...

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores, higher is better; can be traced by JAX."""
        ...


@runtime_checkable
class HostScorer(Protocol):
    """A scorer that can also work on the CPU from sparse rows, which costs nnz x I instead of B x I x I."""

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] float32 scores of sparse rows."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ItemWeights:
    """A linear item-item model: the scores of a history x are x B.

    Attributes:
      weights: [I, I] B, row-major; column j holds what every item contributes to the score of item j. A NumPy array
        where the fit ran on the host, a JAX array where it ran on a device. B is not symmetric: x B is not x B'.
    """

    weights: Any

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.weights.shape[1]

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores x B; 2 B I^2 flops at full float32 precision."""
        return jnp.matmul(history.dense(self.n_items), self.weights, precision=jax.lax.Precision.HIGHEST)

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] scores x B; 2 nnz I flops."""
        return history @ np.asarray(self.weights)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ItemFactors:
    """A linear item-item model of low rank: the scores of a history x are (x U) V'.

    The diagonal of U V' only shows in the scores of items already in the history, which a recommendation leaves out.

    Attributes:
      encoder: [I, K] U; row i holds what item i contributes to the K features of a user.
      decoder: [I, K] V; row j holds how the features score item j.
    """

    encoder: Any
    decoder: Any

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.decoder.shape[0]

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores (x U) V'; 4 B I K flops at full float32 precision."""
        features = jnp.matmul(history.dense(self.n_items), self.encoder, precision=jax.lax.Precision.HIGHEST)
        return jnp.matmul(features, self.decoder.T, precision=jax.lax.Precision.HIGHEST)

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] scores (x U) V'; 2 nnz K + 2 B I K flops."""
        return (history @ np.asarray(self.encoder)) @ np.asarray(self.decoder).T


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ItemScores:
    """A model that gives every user the same scores.

    Attributes:
      scores: [I] one score an item.
    """

    scores: Any

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.scores.shape[0]

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] the same row for everyone."""
        return jnp.broadcast_to(self.scores, (history.rows.shape[0], self.n_items))

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] the same row for everyone."""
        return np.tile(np.asarray(self.scores), (len(history.indptr) - 1, 1))


@dataclasses.dataclass(frozen=True)
class FitInfo:
    """What is known about a fit besides the model.

    Attributes:
      method: the frozen configuration that was fitted, such as `Ease(reg=100.0)`.
      certificate: the evidence that the model solves the stated problem.
      items: names of the items, so that a saved model can speak of titles without its data.
      data: what it was trained on: name, users, items, interactions and fingerprint.
      seconds: wall-clock time of each stage, by name.
    """

    method: Any
    certificate: Certificate
    items: Catalogue
    data: dict[str, Any]
    seconds: dict[str, float]


class Fitted(NamedTuple):
    """What `fit` returns: the model, and what is known about it."""

    model: Any
    info: FitInfo
