"""Fitted models: pytrees of arrays, and the one contract at their output."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float

from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data.batching import RowBatch
from jaxrec.data.catalogue import Catalogue
from jaxrec.runtime import parallel
from jaxrec.status import Certificate

PUBLIC = {"score", "score_host", "fold_in"}  # what models have of them are doors
ENTRIES_AT_ONCE = 2**16  # of sparse weights, when scoring on a device


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores items from histories; recommending and evaluating know little else of a model.

    One that has `items`, a `Catalogue`, besides, is given histories in its own numbering, matched by id.
    """

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


Model = TypeVar("Model")


class Named:
    """A model that may know its items by name.

    The catalogue is no field, and so no part of the pytree: nothing is compiled anew for another one, and arrays that
    went through JAX, or were replaced, are of no catalogue that anybody could vouch for.

    Attributes:
      items: names of the items, where the model comes from a fit or from disk; else None.
    """

    items: ClassVar[Catalogue | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """What a model scores is what the signatures say."""
        super().__init_subclass__(**kwargs)
        for name in PUBLIC & vars(cls).keys():
            own = vars(cls)[name]
            setattr(cls, name, door(_of_its_items(own) if name == "score_host" else own))


def _of_its_items(score: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """`score_host`, of histories of as many items as the model has."""

    @functools.wraps(score)
    def scored(self: Any, history: Any) -> np.ndarray:
        if history.shape[1] != self.n_items:
            raise InputError(f"the histories have {history.shape[1]} items and the model {self.n_items}.")
        return score(self, history)

    return scored


def with_items(model: Model, items: Catalogue | None) -> Model:
    """A shallow copy of a model that carries its catalogue; the model itself if it is of no class of ours."""
    if not isinstance(model, Named):
        return model
    named = copy.copy(model)
    object.__setattr__(named, "items", items)
    return named


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ItemWeights(Named):
    """A linear item-item model: the scores of a history x are x B.

    Attributes:
      weights: [I, I] B, row-major; column j holds what every item contributes to the score of item j. A NumPy array
        where the fit ran on the host, a JAX array where it ran on a device. B is not symmetric: x B is not x B'.
        On a mesh it is split by columns.
      unexplained: [I] 1 / diag(C), where B is the closed form I - C D(s): scoring does not need it, an exact update
        of the model does; else None.
      padding: how many of the last rows and columns are no items but fill up the blocks of a device; they are zero.
    """

    weights: Any
    unexplained: Any = None
    padding: int = dataclasses.field(default=0, metadata={"static": True}, kw_only=True)

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.weights.shape[1] - self.padding

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores x B; 2 B I^2 flops at full float32 precision."""
        dense = history.dense(self.weights.shape[0])
        return jnp.matmul(dense, self.weights, precision=jax.lax.Precision.HIGHEST)[:, : self.n_items]

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] scores x B; 2 nnz I flops."""
        return history @ self.to_host().weights

    def to_host(self) -> ItemWeights:
        """The same model in host memory, without padding; no copy where it is there already."""
        host = ItemWeights(parallel.to_host(self.weights)[: self.n_items, : self.n_items], self.unexplained)
        return with_items(host, self.items)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseItemWeights(Named):
    """A linear item-item model whose weights B are sparse: the scores of a history x are x B + offset.

    Attributes:
      indptr: [I + 1] integers; the entries of row i are `indptr[i]:indptr[i + 1]`.
      indices: [nnz] the column of each entry.
      values: [nnz] B, row by row.
      offset: [I] added to everyone's scores, or None; mu - mu B makes them mu + (x - mu) B.
    """

    indptr: Any
    indices: Any
    values: Any
    offset: Any = None

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.indptr.shape[0] - 1

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores x B + offset; B is never made dense.

        Cost: 2 B nnz flops; entries are taken `ENTRIES_AT_ONCE` at a time, so memory is B (2 I + that many).
        """
        n, nnz = self.n_items, self.values.shape[0]
        by_item = history.dense(n).T
        scores = jnp.zeros_like(by_item)
        if nnz > 0:
            size = min(nnz, ENTRIES_AT_ONCE)
            last = nnz - size
            indptr, indices, values = map(jnp.asarray, (self.indptr, self.indices, self.values))
            rows = jnp.repeat(jnp.arange(n), jnp.diff(indptr), total_repeat_length=nnz)

            def add(step, scores):
                start = jnp.minimum(step * size, last)
                here = [jax.lax.dynamic_slice(array, (start,), (size,)) for array in (rows, indices, values)]
                fresh = start + jnp.arange(size) >= step * size  # the last piece overlaps the one before
                parts = by_item[here[0]] * jnp.where(fresh, here[2], 0)[:, None]
                return scores.at[here[1]].add(parts)

            scores = jax.lax.fori_loop(0, -(-nnz // size), add, scores)
        scores = scores.T
        return scores if self.offset is None else scores + jnp.asarray(self.offset)[None, :]

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] scores x B + offset; 2 flops for every weight of every item of a history."""
        indptr, indices, values = map(np.asarray, (self.indptr, self.indices, self.values))
        weights = sp.csr_array((values, indices, indptr), shape=(self.n_items, self.n_items))
        product: Any = history @ weights
        scores = product.toarray()
        return scores if self.offset is None else scores + np.asarray(self.offset)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ItemFactors(Named):
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
class PairWeights(Named):
    """A linear model of items and pairs of items: the scores of a history x are x B + z W, with z_ik = x_i x_k.

    Attributes:
      weights: [I, I] B.
      pairs: [M, 2] int32 items of each pair.
      pair_weights: [M, I] W.
    """

    weights: Any
    pairs: Any
    pair_weights: Any

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.weights.shape[1]

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores x B + z W; 2 B I (I + M) flops at full float32 precision."""
        x = history.dense(self.n_items)
        z = x[:, self.pairs[:, 0]] * x[:, self.pairs[:, 1]]
        product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
        return product(x, self.weights) + product(z, self.pair_weights)

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] scores x B + z W; 2 I flops for every item and every pair of a history."""
        x, pairs = history.toarray(), np.asarray(self.pairs)
        z = sp.csr_array(x[:, pairs[:, 0]] * x[:, pairs[:, 1]])
        return history @ np.asarray(self.weights) + z @ np.asarray(self.pair_weights)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ItemScores(Named):
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
      data: what it was trained on: name, users, items, interactions and fingerprint; by "source" the columns and
        filters it was read with; by "divisions" the split it is a part of, with seed and settings.
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
