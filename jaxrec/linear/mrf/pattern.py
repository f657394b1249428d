"""Which items are neighbours, and blocks of neighbours that cover all items (Steck, NeurIPS 2019, section 3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxrec.linear.mrf.covariance import ScaledGram
from jaxrec.runtime.progress import progress_bar
from jaxrec.runtime.threads import map_in_order

BLOCK_ENTRIES = 2**22  # of X'X at once, in each thread
SAMPLE_ENTRIES = 2**24  # of S, from which a threshold is read off
FEWEST_COLUMNS = 32  # of them


class Pattern(NamedTuple):
    """Which weights may differ from 0: the neighbours of every item, by item.

    Attributes:
      indptr: [I + 1] int64; the neighbours of item j are `items[indptr[j]:indptr[j + 1]]`.
      items: [nnz] int32, ascending within an item, which itself is not among them.
      strength: [nnz] float32 |S_ij|.
    """

    indptr: np.ndarray
    items: np.ndarray
    strength: np.ndarray


class Cover(NamedTuple):
    """Blocks of items, and which of their columns are wanted.

    Attributes:
      indptr: [N + 1] int64; the items of block n are `items[indptr[n]:indptr[n + 1]]`.
      items: the items of each block; those whose columns are wanted come last, the one it was built around at the end.
      n_wanted: [N] number of columns wanted.
    """

    indptr: np.ndarray
    items: np.ndarray
    n_wanted: np.ndarray


def threshold_for(gram: ScaledGram, density: float) -> float:
    """The threshold above which about this share of the I^2 pairs lies, ties included.

    Read off the columns of a random sample of the items, or of all of them where SAMPLE_ENTRIES allow.

    Args:
      gram: S.
      density: in (0, 1]; the diagonal counts as outside the pattern.
    """
    if density == 1:
        return 0.0
    n = gram.n_items
    size = min(n, max(FEWEST_COLUMNS, SAMPLE_ENTRIES // n))
    items = np.sort(np.random.default_rng(0).choice(n, size, replace=False))
    strength = np.abs(gram.columns(items))
    strength[items, np.arange(size)] = -1
    kept = min(max(1, round(density * n * size)), (n - 1) * size)
    return max(0.0, float(np.partition(strength.reshape(-1), -kept)[-kept])) if kept > 0 else 0.0


def find_pattern(gram: ScaledGram, threshold: float, max_in_column: int) -> Pattern:
    """The pairs with |S_ij| >= threshold, of each item's at most the `max_in_column` largest.

    The cap is per column, so that the pattern need not be symmetric. Constant items have no neighbours.

    Cost: the sum over users of len(history)^2; memory of the pattern and of a block a thread. Pairs that share no user
      are looked at only where p_i p_j reaches the threshold, which is among the most popular items.
    """
    n = gram.n_items
    q, p = gram.inverse_scale, gram.shift
    highest = np.abs(p).max(initial=0)
    popular = np.abs(p) * highest >= threshold
    users_items = np.diff(gram.by_user.indptr).astype(np.float64)
    entries = np.where(popular, n, np.minimum(n, (gram.by_item != 0) @ users_items))
    bounds = _cut(entries, BLOCK_ENTRIES)

    def kept(block: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = gram.by_item[block[0] : block[1]] @ gram.by_user
        column = np.repeat(np.arange(*block), np.diff(counts.indptr))
        item = counts.indices
        strength = np.abs(counts.data.astype(np.float64) * (q[item] * q[column]) - p[item] * p[column])
        keep = strength >= threshold
        parts = [(column[keep], item[keep], strength[keep])]
        heads = np.flatnonzero(popular[block[0] : block[1]])
        if len(heads):
            product = np.abs(p[heads + block[0], None] * p)
            column, item = np.nonzero((product >= threshold) & (counts[heads].toarray() == 0))
            parts.append((heads[column] + block[0], item, product[column, item]))
        column, item, strength = (np.concatenate(part) for part in zip(*parts, strict=True))
        keep = (column != item) & (q[column] > 0) & (q[item] > 0)
        column, item, strength = column[keep], item[keep], strength[keep]
        order = np.lexsort((item, column))
        column, item, strength = column[order], item[order], strength[order]
        column_sizes = np.bincount(column - block[0], minlength=block[1] - block[0])
        if column_sizes.max(initial=0) > max_in_column:
            by_strength = np.lexsort((item, -strength, column))
            rank = np.arange(len(item)) - np.repeat(np.cumsum(column_sizes) - column_sizes, column_sizes)
            chosen = np.sort(by_strength[rank < max_in_column])
            item, strength = item[chosen], strength[chosen]
            column_sizes = np.minimum(column_sizes, max_in_column)
        return column_sizes, item.astype(np.int32), strength.astype(np.float32)

    found = []
    with progress_bar("finding neighbours", n) as advance:
        for part in map_in_order(kept, bounds):
            found.append(part)
            advance(len(part[0]))
    sizes, items, strength = (np.concatenate(part) for part in zip(*found, strict=True))
    return Pattern(np.concatenate([[0], np.cumsum(sizes)]), items, strength)


def cover(pattern: Pattern, r: float, importance: np.ndarray) -> Cover:
    """Neighbourhoods that cover all items that have neighbours, found greedily.

    Items are visited by their number of neighbours, most first. One that no block has done yet gets a block of itself
    and its neighbours, and with it the share r of them that are nearest to it count as done.

    Args:
      pattern: the neighbours.
      r: in [0, 1]; 0 gives every item a block of its own.
      importance: [I] breaks ties of the number of neighbours, larger first.
    """
    sizes = np.diff(pattern.indptr)
    order = np.lexsort((-importance, -sizes))
    done = sizes == 0
    blocks, wanted = [], []
    for i in order:
        if done[i]:
            continue
        near = slice(pattern.indptr[i], pattern.indptr[i + 1])
        items, count = pattern.items[near], sizes[i] + 1
        n_wanted = max(1, math.ceil(r * count - 1e-9))
        if n_wanted > 1:
            items = items[np.argsort(pattern.strength[near], kind="stable")]
            done[items[count - n_wanted :]] = True
        done[i] = True
        blocks += items, [i]
        wanted.append(n_wanted)
    lengths = np.fromiter(map(len, blocks), np.int64, len(blocks)).reshape(-1, 2).sum(axis=1)
    items = np.concatenate([*blocks, np.zeros(0, np.int32)]).astype(np.int32)
    return Cover(np.concatenate([[0], np.cumsum(lengths)]), items, np.array(wanted, np.int64))


def _cut(weight: np.ndarray, budget: float) -> list[tuple[int, int]]:
    """Consecutive ranges of at most this weight each, or of one entry."""
    bounds, start, total = [], 0, np.concatenate([[0], np.cumsum(weight)])
    while start < len(weight):
        stop = max(start + 1, int(np.searchsorted(total, total[start] + budget, side="right")) - 1)
        bounds.append((start, stop))
        start = stop
    return bounds
