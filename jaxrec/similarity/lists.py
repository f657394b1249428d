"""Cosines of items and lists of similar items, each under a choice that is named."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data import alignment
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions
from jaxrec.evaluation.ranking import top_k_host
from jaxrec.evaluation.recommendations import Recommendations, listed
from jaxrec.models import Fitted, ItemFactors
from jaxrec.similarity.gauges import KINDS, canonical_gauge, item_indices, matrix, pair_of

CHOICES = ("as_given", *KINDS, "reconstruction")
BLOCK_BYTES = 2**25


def cosines(vectors: Any, rows: Any = None) -> np.ndarray:
    """[R, I] float64 cosines of rows of a matrix with all its rows; NaN for rows that are zero.

    Args:
      vectors: [I, K].
      rows: [R] which rows; all of them by default.

    Cost: 2 R I K flops.
    """
    unit = unit_rows(vectors)
    return (unit if rows is None else unit[np.asarray(rows)]) @ unit.T


def unit_rows(vectors: Any) -> np.ndarray:
    """[I, K] float64 the rows scaled to length 1; NaN for those that are zero."""
    vectors = matrix("the vectors", vectors).astype(np.float64)
    vectors = vectors / np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.full_like(vectors, np.nan), where=norms > 0)


def item_vectors(factors: Any, choice: str, data: Any = None) -> np.ndarray:
    """[I, K] the vectors whose cosines are the similarities of items under a choice.

    - "as_given": the item factors themselves, as most libraries take them.
    - "balanced", "item_orthonormal", "user_orthonormal": in that gauge; see `canonical_gauge`.
    - "reconstruction": the items' columns of all users' scores, P Q' or X A B', as vectors of length K with the same
      cosines: B C^(1/2), C = P'P or A'X'X A. The scores, and so these cosines, are the same in every gauge (Steck et
      al. 2024, section 4, "project back").

    Args:
      factors: ItemFactors, what `fit` returned, or a pair (user_factors, item_factors).
      choice: one of the above.
      data: for "reconstruction" of ItemFactors (or of a pair whose first part is an encoder) the users who are scored:
        Interactions, or their [I, I] Gram matrix X'X.

    Cost: 4 (N + I) K^2 flops, or for a reconstruction 2 (U + I) K^2; with a Gram matrix 2 I^2 K.
    """
    _checks.one_of("choice", choice, CHOICES)
    users, items = pair_of(factors)
    if choice == "as_given":
        return items
    if choice in KINDS:
        return pair_of(canonical_gauge(factors, choice)).item_factors
    if data is None and isinstance(factors, Fitted | ItemFactors):
        raise InputError("a reconstruction needs data: the Interactions of those who are scored, or their Gram matrix.")
    # Users enter by K x K second moments, which square what an ill-scaled gauge has spread out: balanced first.
    users, items = canonical_gauge((users.astype(np.float64), items.astype(np.float64)))
    values, vectors = np.linalg.eigh(_moments(users, _in_terms_of(factors, data)))
    return items @ (vectors * np.sqrt(np.maximum(values, 0)))


def _in_terms_of(factors: Any, data: Any) -> Any:
    """The data in the numbering of the factors, where both have ids of items."""
    named = isinstance(data, Interactions) and alignment.catalogue_of(factors) is not None
    return alignment.align_items(data, alignment.catalogue_of(factors), "the model").data if named else data


def _moments(users: np.ndarray, data: Any) -> np.ndarray:
    """[K, K] P'P, where P = X A if there are data X."""
    if data is None:
        return users.T @ users
    gram = None if isinstance(data, Interactions) else matrix("the Gram matrix", data)
    n_items = data.n_items if gram is None else len(gram)
    if n_items != len(users):
        raise InputError(
            f"the encoder has {len(users)} rows and the data {n_items} items; leave data out if these rows are users."
        )
    if gram is not None:
        return users.T @ gram @ users
    scored = data.to_csr(np.float64) @ users
    return scored.T @ scored


def reconstruction_cosine(factors: Any, data: Any = None) -> np.ndarray:
    """[I, I] float64 cosines between the items' columns of all users' scores; the same in every gauge.

    Args:
      factors: ItemFactors, what `fit` returned, or a pair (user_factors, item_factors).
      data: as in `item_vectors`.

    Returns:
      [I, I]; NaN for items that score 0 for everyone.

    Cost: as `item_vectors`, and 2 I^2 K flops; the scores themselves are never formed.
    """
    return cosines(item_vectors(factors, "reconstruction", data))


@door
def similar_items(factors: Any, items: Any = None, k: int = 10, *, choice: str, data: Any = None) -> Recommendations:
    """The k items with the highest cosines to each of `items`, itself left out.

    There is no default choice, because for most objectives the choice decides the lists: see `gauge_report`.

    Args:
      factors: ItemFactors, what `fit` returned, or a pair (user_factors, item_factors).
      items: [R] item indices; all items by default.
      k: how many.
      choice: whose cosines; see `item_vectors`.
      data: as in `item_vectors`.

    Returns:
      Recommendations(items [R, k], scores [R, k]), lower index first among equal cosines; "user_ids" are the ids of the
      items asked for. None are left for items whose vector is zero: they are similar to none.

    Cost: 2 R I K flops; memory is bounded whatever R is.
    """
    _checks.count("k", k, at_least=1)
    unit = unit_rows(item_vectors(factors, choice, data))
    n_items = len(unit)
    wanted = np.arange(n_items) if items is None else np.atleast_1d(item_indices(items, n_items))
    if wanted.ndim != 1:
        raise InputError(f"items must be a row of item indices, got an array of shape {wanted.shape}.")
    kept, size = min(k, n_items), max(1, BLOCK_BYTES // (8 * n_items))
    best = np.full((len(wanted), k), -1, np.int32)
    scores = np.full((len(wanted), k), -np.inf, np.float32)
    for start in range(0, len(wanted), size):
        rows = wanted[start : start + size]
        block = (unit[rows] @ unit.T).astype(np.float32)
        block[np.arange(len(rows)), rows] = -np.inf
        found, values = top_k_host(np.where(np.isnan(block), np.float32(-np.inf), block), kept)
        best[start : start + size, :kept] = np.where(values == -np.inf, np.int32(-1), found)
        scores[start : start + size, :kept] = values
    named = alignment.catalogue_of(factors)
    catalogue = named if named is not None and named.n_items == n_items else Catalogue(n_items)
    return listed(best, scores, catalogue, catalogue.names[wanted])
