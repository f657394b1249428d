"""Top-k recommendation from histories, streamed in batches of users."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data import alignment
from jaxrec.data.batching import RowBatch, row_batches, scatter_rows
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions
from jaxrec.evaluation.recommendations import Recommendations, listed
from jaxrec.models import Fitted, HostScorer, ItemScores, ItemWeights, Scorer
from jaxrec.runtime import forking, parallel
from jaxrec.runtime.memory import require_memory
from jaxrec.runtime.progress import progress_bar
from jaxrec.runtime.threads import map_in_order

BLOCK_BYTES = 2**25
FOLDS = 64  # groups of so many items are told apart by their maxima first
MAX_CANDIDATES_PER_K = 4  # times k: more candidates than these are mostly ties


@door
def recommend(
    model: Scorer | Fitted, histories: Interactions, k: int = 10, *, exclude_seen: bool = True
) -> Recommendations:
    """The k items with the highest scores for each history.

    Ties: the higher score first, among equal scores the lower item index, on every device. An empty history is ranked
    too, by what the model scores it; for most that is 0 for every item, so that the first ones of the catalogue come
    out. A warning counts such histories: recommend by `Popularity` there.

    Histories that have ids of items are matched with a model that has (each that `fit` or `load_model` returned) by
    these; entries of items that the model does not know are left out, with a warning. Other histories, a SciPy matrix
    among them, must have the model's items in its order.

    Args:
      model: anything with `n_items` and `score` (a registered pytree is compiled, any other object called as it is),
        or what `fit` returned. One with a catalogue as `items` is one that has ids.
      histories: B x I users' histories, Interactions or a SciPy sparse matrix. The users need not have been
        trained on.
      k: number of items a user.
      exclude_seen: leave out the items of the user's own history.

    Returns:
      Recommendations(items [B, k], scores [B, k]) in the model's numbering, with its catalogue and the users' ids.

    Raises:
      InputError: the histories have no item in common with the model, or no ids and another number of items; or scores
        are NaN.

    Cost: on the CPU nnz x I flops for a linear model, elsewhere B x I^2; memory is bounded whatever B is.
    """
    _checks.count("k", k, at_least=1)
    scorer: Scorer = model.model if isinstance(model, Fitted) else model
    catalogue = alignment.catalogue_of(model)
    found = alignment.align_items(histories, catalogue, "the model")
    alignment.warn_of_left_out(histories, found.unknown, found.n_entries, "the model", stacklevel=4)
    histories = found.data
    _warn_of_empty(scorer, histories)
    require_memory(8 * k * histories.n_users, f"{k:,} recommendations for each of {histories.n_users:,} users")
    items = np.empty((histories.n_users, k), np.int32)
    scores = np.empty((histories.n_users, k), np.float32)
    with progress_bar("recommending", histories.n_users) as advance:
        for start, batch_items, batch_scores in recommend_batches(scorer, histories, k, exclude_seen=exclude_seen):
            rows = slice(start, start + len(batch_items))
            items[rows], scores[rows] = batch_items, batch_scores
            advance(len(batch_items))
    users = histories.row_numbers if histories.user_ids is None else histories.user_ids
    return listed(items, scores, catalogue or Catalogue(scorer.n_items), users)


def _warn_of_empty(scorer: Scorer, histories: Interactions) -> None:
    """Says how many histories are empty, unless the model is one that looks at none."""
    empty = np.flatnonzero(histories.user_counts == 0)
    if len(empty) and not isinstance(scorer, ItemScores):
        warnings.warn(
            f"{histories.name}: {len(empty):,} of {histories.n_users:,} histories (the first in row {empty[0]}) hold "
            "no item that the model knows: what it ranks says nothing of their users, so take Popularity for these.",
            stacklevel=4,
        )


def recommend_batches(
    model: Scorer,
    histories: Interactions,
    k: int,
    *,
    exclude_seen: bool = True,
    batch_size: int | None = None,
    rows: np.ndarray | None = None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields (start, items [B, k], scores [B, k]) for consecutive users; see `recommend`.

    Args:
      model: anything with `n_items` and `score`.
      histories: the users' histories.
      k: number of items a user.
      exclude_seen: leave out the items of the user's own history.
      batch_size: users at a time; default as many as keep a block of scores within 32 MB.
      rows: [B] the number of each history, as the model is told it and messages have it; default from 0 on.
    """
    _checks.count("k", k, at_least=1)
    if batch_size is not None:
        _checks.count("batch_size", batch_size, at_least=1)
    if histories.n_items != model.n_items:
        raise InputError(
            f"the histories have {histories.n_items} items and the model {model.n_items}; they must agree, or both "
            "have ids of items."
        )
    size = batch_size or int(np.clip(BLOCK_BYTES // (4 * max(1, model.n_items)), 16, 8192))
    kept = min(k, model.n_items)
    batches = _on_host if isinstance(model, HostScorer) and _lives_on_host(model) else _on_device
    rows = np.arange(histories.n_users) if rows is None else rows
    size = min(size, max(1, histories.n_users))
    for start, items, scores in batches(model, histories, kept, exclude_seen, size, rows):
        if np.isnan(scores).any():
            raise InputError(
                f"the model's scores for user row {rows[start + np.isnan(scores).any(1).argmax()]} are NaN."
            )
        items = np.where(scores == -np.inf, np.int32(-1), items)
        if kept < k:
            missing = ((0, 0), (0, k - kept))
            items = np.pad(items, missing, constant_values=-1)
            scores = np.pad(scores, missing, constant_values=-np.inf)
        yield start, items, scores


def _lives_on_host(model: Any) -> bool:
    """Whether no array of the model lies on a device other than a CPU, nor split over several."""
    arrays = [leaf for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.Array)]
    return parallel.mesh_of(arrays) is None and all(
        device.platform == "cpu" for array in arrays for device in array.devices()
    )


def _on_host(
    model: Any, histories: Interactions, k: int, exclude_seen: bool, size: int, _: np.ndarray
) -> Iterator[tuple]:
    matrix = histories.to_csr()

    def block(start: int) -> tuple[int, np.ndarray, np.ndarray]:
        rows = matrix[start : start + size]
        scores = _floating(_all_scored(np.asarray(model.score_host(rows)), rows.shape))
        if exclude_seen:
            scores[np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices] = -np.inf
        return start, *top_k_host(scores, k)

    yield from map_in_order(block, range(0, histories.n_users, size))


def _on_device(
    model: Any, histories: Interactions, k: int, exclude_seen: bool, size: int, numbers: np.ndarray
) -> Iterator[tuple]:
    forking.require_usable()
    is_pytree = not jax.tree_util.all_leaves([model])
    best = _top_k_on_device if is_pytree else top_k  # only a pytree can be an argument of a compiled function
    if isinstance(model, ItemWeights) and (mesh := parallel.mesh_of(model)):
        best = partial(_top_k_on_mesh, mesh=mesh)
    for batch in row_batches(histories, size):
        rows = np.asarray(batch.rows)
        real = rows >= 0
        told = jnp.asarray(np.where(real, numbers[rows], -1).astype(np.int32))
        scores, items = best(model, dataclasses.replace(batch, rows=told), k, exclude_seen)
        yield int(rows[0]), np.asarray(items)[real], np.asarray(scores)[real]


def top_k(
    model: Scorer, history: RowBatch, k: int, exclude_seen: bool = True
) -> tuple[Float[Array, "B k"], Int[Array, "B k"]]:
    """[B, k] the best scores of a batch and [B, k] their items, lower index first among ties; can be traced.

    Args:
      model: a pytree with `score`.
      history: B padded rows.
      k: at most I. Static.
      exclude_seen: score the items of the history -inf. Static.
    """
    scores = _sortable(_all_scored(model.score(history), (history.rows.shape[0], model.n_items)))
    if exclude_seen:
        scores = _banned(scores, jnp.where(history.values != 0, history.items, scores.shape[1]))
    best, items = jax.lax.top_k(scores, k)
    return best, items


def _all_scored(scores: Any, shape: tuple[int, ...]) -> Any:
    """The scores, which must be one of each item for each history."""
    if np.shape(scores) != tuple(shape):
        raise InputError(
            f"a model must score each item for each history, here {' x '.join(map(str, shape))} scores, and it "
            f"returned an array of shape {np.shape(scores)}."
        )
    return scores


def _sortable(scores: Any) -> Any:
    """[B, I] what lax.top_k orders as it should.

    By itself it goes by the sign bit: -0.0 below 0.0, which would break a tie, and -NaN (0/0 on many CPUs) last, where
    no one would see it.
    """
    return jnp.where(scores == 0, 0, jnp.where(jnp.isnan(scores), jnp.nan, scores))


def _banned(scores: Any, items: Any) -> Any:
    """[B, I] the scores, -inf for the items [B, L] of each row; items beyond the last one ban nothing."""
    return jax.vmap(lambda row, at: row.at[at].set(-jnp.inf, mode="drop"))(scores, items)


_top_k_on_device = partial(jax.jit, static_argnames=("k", "exclude_seen"))(top_k)


def best_columns(
    weights: Float[Array, "N m"],
    items: Int[Array, "B L"],
    values: Float[Array, "B L"],
    *,
    k: int,
    n_items: int,
    exclude_seen: bool,
    axis: str | None = None,
) -> tuple[Float[Array, "B k"], Int[Array, "B k"]]:
    """[B, k] the best scores among my columns of item-item weights, and [B, k] their items; k is at most m.

    Args:
      weights: [N, m] my columns; only the first `n_items` of all are items.
      items: [B, L] histories, 0 where padded.
      values: [B, L] their values, 0 where padded.
      k: how many. Static.
      n_items: I. Static.
      exclude_seen: score the items of the history -inf. Static.
      axis: the mesh axis over which columns are split, or None.
    """
    n, m = weights.shape
    start = parallel.axis_index(axis) * m
    scores = jnp.matmul(scatter_rows(items, values, n), weights, precision=jax.lax.Precision.HIGHEST)
    scores = _sortable(scores)
    if exclude_seen:
        mine = (values != 0) & (items >= start) & (items < start + m)
        scores = _banned(scores, jnp.where(mine, items - start, m))
    real = start + jnp.arange(m) < n_items
    best, at = jax.lax.top_k(jnp.where(real[None, :], scores, -jnp.inf), k)
    return best, start + at


@partial(jax.jit, static_argnums=(2, 3), static_argnames="mesh")
def _top_k_on_mesh(model, history, k, exclude_seen, *, mesh):
    """As top_k, of weights split by columns: only k candidates of each device are sent."""
    within = min(k, model.weights.shape[1] // mesh.size)
    kernel = partial(best_columns, k=within, n_items=model.n_items, exclude_seen=exclude_seen)
    inputs = (parallel.COLUMNS, parallel.REPLICATED, parallel.REPLICATED)
    found = parallel.over_columns(kernel, mesh, inputs, (parallel.COLUMNS, parallel.COLUMNS))(
        model.weights, history.items, history.values
    )
    # Candidates lie in the order of their devices, and so of their items among equal scores: ties stay as they are.
    scores, items = (parallel.replicate(part, mesh) for part in found)
    best, at = jax.lax.top_k(scores, k)
    return best, jnp.take_along_axis(items, at, axis=1)


def top_k_host(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """[B, k] the items with the highest scores, lower index first among ties, and [B, k] their scores in their type.

    Args:
      scores: [B, I]; NaN counts as highest.
      k: at most I.

    Cost: some passes over the scores. NumPy's partitions of whole rows take several times as long, most where nearly
    all scores are alike, as the scores of sparse models are.
    """
    ordered = scores = _floating(scores)
    if np.isnan(scores.max(initial=-np.inf)):
        ordered = np.where(np.isnan(scores), np.inf, np.minimum(scores, np.finfo(scores.dtype).max))
    rows, columns = np.nonzero(_candidates(ordered, k))
    counts = np.bincount(rows, minlength=len(scores))
    at = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    items = np.zeros((len(scores), counts.max(initial=k)), np.int32)
    values = np.full(items.shape, -np.inf, scores.dtype)  # what fills a row up stands behind all that is real
    items[rows, at], values[rows, at] = columns, ordered[rows, columns]
    best = np.take_along_axis(items, np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1)
    return best, np.take_along_axis(scores, best, axis=1)


def _floating(scores: np.ndarray) -> np.ndarray:
    """Scores that can be -inf."""
    return scores if np.issubdtype(scores.dtype, np.floating) else scores.astype(np.float64)


def _candidates(scores: np.ndarray, k: int) -> np.ndarray:
    """[B, I] which items may be among the k best: these for certain, and at most `MAX_CANDIDATES_PER_K` times as many.

    Of the maxima of many groups of items, the k-th is a bound that k items reach. Where too many do, most of them are
    equal to it as a rule, and of those the first are enough; else the row is sorted.
    """
    n_items = scores.shape[1]
    width = max(-(-n_items // FOLDS), min(2 * k, n_items))
    maxima = scores[:, :width].copy()  # of the items that are a multiple of `width` apart
    for start in range(width, n_items, width):
        part = scores[:, start : start + width]
        np.maximum(maxima[:, : part.shape[1]], part, out=maxima[:, : part.shape[1]])
    bound = np.partition(maxima, width - k, axis=1)[:, width - k, None]
    near = scores >= bound
    crowded = np.flatnonzero(near.sum(axis=1) > MAX_CANDIDATES_PER_K * k)
    if len(crowded):
        some, edge = scores[crowded], bound[crowded]
        above, equal = some > edge, some == edge
        free = k - above.sum(axis=1, keepdims=True)
        near[crowded] = above | (equal & (np.cumsum(equal, axis=1) <= free))
        for row in crowded[near[crowded].sum(axis=1) > MAX_CANDIDATES_PER_K * k]:
            best = np.argsort(-scores[row], kind="stable")[:k]
            near[row] = False
            near[row, best] = True
    return near
