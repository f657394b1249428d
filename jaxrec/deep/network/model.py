"""A trained network as a model: a pytree of arrays that scores histories like every other."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float

from jaxrec.data.batching import PackedBatch, RowBatch, packed_rows
from jaxrec.data.interactions import Interactions
from jaxrec.deep.network.architecture import Architecture
from jaxrec.models import Named


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Network(Named):
    """A trained autoencoder: the scores of a history are its outputs, without noise (needs flax).

    Attributes:
      parameters: arrays by dotted names, such as "encoder.layers.0.kernel" [I, K].
      architecture: what they belong to.
    """

    parameters: dict[str, Any] = dataclasses.field(metadata={"part": dict})
    architecture: Architecture = dataclasses.field(metadata={"static": True})

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.architecture.n_items

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] outputs of the network: logits if its loss was a likelihood."""
        return self.score_packed(history.packed())

    def score_packed(self, history: PackedBatch) -> Float[Array, "B I"]:
        """[B, I] the same, of a packed batch."""
        from jaxrec.deep.network import modules

        return modules.merged(self.architecture, self.parameters).score(history)

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] the same, from sparse rows, on the default device."""
        rows = Interactions.from_csr(history)
        n = rows.n_users
        size, length = (1 << max(0, count - 1).bit_length() for count in (n, rows.nnz))  # few shapes are compiled
        return np.array(_score(self, packed_rows(rows, np.arange(n), size, length))[:n])


_score = jax.jit(Network.score_packed)
