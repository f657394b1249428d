"""Collaborative retrieval: for each set of items that a conversation speaks well of, the items that go with them.

CRAG (Zhu et al., WWW 2025, arXiv 2502.14137) learns a map W from the database of all items to the catalogue Q of those
that may be recommended: the minimum of ||R_Q - R W||_F^2 + reg ||W||_F^2, in which no item predicts itself. Its columns
separate. For the one of item i, with P = (R'R + reg I)^-1, stationarity says w = P (R'r_i - g e_i) for a multiplier g,
which is e_i - (reg + g) P e_i; and w_i = 0 asks for reg + g = 1 / P_ii. So w = e_i - P e_i / P_ii: column i of EASE
(`jaxrec.linear.ease`), whatever Q is. Hence no solver of its own: W is a choice of columns of an `Ease` fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float

from jaxrec import _checks
from jaxrec._checks import InputError, briefly
from jaxrec.data import alignment, columns
from jaxrec.data.batching import RowBatch
from jaxrec.data.interactions import Interactions
from jaxrec.data.kinds import interactions
from jaxrec.evaluation.ranking import recommend_batches
from jaxrec.models import Fitted, HostScorer, ItemWeights, Scorer
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import require_memory
from jaxrec.validation import scorer


class Retrieved(NamedTuple):
    """The items retrieved for each history, best first.

    Attributes:
      items: [B, k] int32 indices; -1 where nothing is left.
      scores: [B, k] their scores, all above 0, in the precision of the weights; -inf where nothing is left.
    """

    items: np.ndarray
    scores: np.ndarray


def retrieve(
    item_weights: Any,
    histories: Iterable[Sequence[int]] | Interactions,
    k: int,
    *,
    among: np.ndarray | Sequence[int] | None = None,
) -> Retrieved:
    """The k items with the highest scores above 0 for each history, without the items of the history.

    A history is a set: every item in it counts 1, however often it is named, whatever value Interactions give it. The
    score of item j is the sum of W_ij over its items i. Among equal scores the lower index comes first, as in
    `jaxrec.recommend`. Where fewer than k items score above 0, the row ends in -1; NaN is no score above 0. An empty
    history retrieves nothing, whatever the model scores.

    Args:
      item_weights: [I, I] array W, row-major: column j holds what each item contributes to the score of item j. Or an
        `ItemWeights`, what a fit returned, or any other model that scores items from histories.
      histories: B lists of item indices, each of any length; or B x I Interactions or a SciPy sparse matrix, matched by
        id where both sides have ids; or a [B, I] array of bool or float, in which what is not 0 is in the history.
      k: how many items at most; may be more than I, or 0.
      among: indices, or a mask [I], of the items that may be retrieved, the paper's catalogue Q; default all. Indices
        of what is retrieved are of all I items nevertheless.

    Raises:
      InputError: an index that is negative or beyond the last item, weights that are not square, or a model that is
        none.

    Cost: weights and models in the memory of the host are multiplied there, in their own precision (float64 in,
    float64 arithmetic), with 2 nnz I flops; those on an accelerator by a compiled kernel, at most 2 B I^2. Memory is
    bounded whatever B is, but for the result.
    """
    _checks.count("k", k)
    model = _scorer(item_weights)
    sets = _sets(histories, item_weights, model.n_items)
    allowed = np.zeros(model.n_items, bool)
    allowed[slice(None) if among is None else columns.places("among: item", among, model.n_items)] = True
    require_memory(16 * k * sets.n_users, f"{k:,} items for each of {sets.n_users:,} histories")
    items = np.full((sets.n_users, k), -1, np.int32)
    scores = np.full(items.shape, -np.inf, np.float32)
    if k == 0 or model.n_items == 0:
        return Retrieved(items, scores)
    for start, best, values in recommend_batches(_positive(model, allowed), sets, k):
        rows = slice(start, start + len(best))
        scores = scores.astype(np.promote_types(scores.dtype, values.dtype), copy=False)
        items[rows], scores[rows] = best, values
    empty = sets.user_counts == 0
    items[empty], scores[empty] = -1, -np.inf
    return Retrieved(items, scores)


def positive(scores: Float[Any, "B I"], allowed: Bool[Any, " I"]) -> Float[Any, "B I"]:
    """[B, I] the scores that are above 0 and of items that may be retrieved; -inf in place of the others and of NaN."""
    xp = jnp if isinstance(scores, jax.Array) else np
    return xp.where((scores > 0) & allowed[None, :], scores, -xp.inf)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Positive:
    """A scorer whose scores are -inf unless they are above 0 and of items that may be retrieved."""

    model: Any
    allowed: Any

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.model.n_items

    def score(self, history: RowBatch) -> Float[Array, "B I"]:
        """[B, I] scores."""
        return positive(jnp.asarray(self.model.score(history)), jnp.asarray(self.allowed))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _PositiveOnHost(_Positive):
    """The same of a model that works on sparse rows, too."""

    def score_host(self, history: sp.csr_array) -> np.ndarray:
        """[B, I] scores."""
        return positive(np.asarray(self.model.score_host(history)), self.allowed)


class _PositiveAsCalled(_Positive):
    """The same of an object that no compiled function can take: JAX sees no pytree in it."""


def _positive(model: Scorer, allowed: np.ndarray) -> Any:
    if isinstance(model, HostScorer):
        return _PositiveOnHost(model, allowed)
    is_pytree = not jax.tree_util.all_leaves([model])
    return (_Positive if is_pytree else _PositiveAsCalled)(model, allowed)


def _scorer(item_weights: Any) -> Any:
    """The model that scores; of an array, the linear one of these weights."""
    model = item_weights.model if isinstance(item_weights, Fitted) else item_weights
    if isinstance(model, np.ndarray | jax.Array):
        real = jnp.issubdtype(model.dtype, jnp.floating) or jnp.issubdtype(model.dtype, jnp.integer)
        if model.ndim != 2 or model.shape[0] != model.shape[1] or not real:
            raise InputError(
                f"item_weights must be a square matrix of numbers, one row and column per item, got "
                f"{model.dtype} of shape {model.shape}."
            )
        return ItemWeights(_multiplied(model))
    model = scorer("item_weights", model)
    if isinstance(model, ItemWeights) and parallel.mesh_of(model):
        return model.to_host()
    return model


def _multiplied(weights: Any) -> Any:
    """The weights in a type that sparse rows can be multiplied by."""
    if weights.dtype in (np.float32, np.float64):
        return weights
    if isinstance(weights, jax.Array) or weights.dtype == np.float16:
        return weights.astype(np.float32)
    return weights.astype(np.float64)


def _sets(histories: Any, known_by: Any, n_items: int) -> Interactions:
    """The histories as rows of ones, in the numbering of the model."""
    if isinstance(histories, Interactions) or sp.issparse(histories):
        given = interactions("histories", histories)
        return alignment.align_items(given, alignment.catalogue_of(known_by), "item_weights").data.binarised()
    if not isinstance(histories, Iterable) or isinstance(histories, str | bytes):
        raise InputError(f"histories must be lists of item indices or Interactions, got {briefly(histories)}.")
    rows = []
    if isinstance(histories, np.ndarray | jax.Array) and histories.ndim == 2 and histories.dtype.kind in "bf":
        if histories.shape[1] != n_items:
            raise InputError(
                f"histories, as a matrix of what each conversation names, must have a column for each of {n_items} "
                f"items, got {histories.shape[1]}; lists of item indices are whole numbers."
            )
        histories = [np.flatnonzero(row) for row in np.asarray(histories)]
    for number, each in enumerate(histories):
        if not isinstance(each, Iterable) or isinstance(each, str | bytes):
            raise InputError(
                f"histories must hold a list of item indices for each conversation, got {briefly(each)} as number "
                f"{number}; a single conversation is a list in a list."
            )
        rows.append(np.unique(columns.integers(f"histories: row {number}", [*each])))
    return Interactions.from_lists(rows, n_items, "histories")
