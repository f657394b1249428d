"""CRAG's popularity adjustment: two readings of it, neither known to be the paper's.

The paper says that the weights are adjusted to recent popularity after Steck 2019 (a high-dimensional regression); the
file that was released with it is named after a popularity adjustment of 0.7 that is symmetric. Neither states the
formula, and the file was not at hand. Both functions here are ours, and neither is the default of anything.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data.interactions import Interactions


def scaled_gram(train: Interactions, power: float = 0.7) -> Interactions:
    """Interactions whose Gram matrix is D^(-power/2) G D^(-power/2), D the number of conversations of each item.

    An `Ease` fit of them inverts that matrix: popular items pull less at the weights of others, and are pulled less.

    Args:
      train: U x I, G their Gram matrix X'X.
      power: 0 changes nothing; 1 makes every item as strong as any other.
    """
    _checks.nonnegative("power", power)
    scale = np.maximum(train.item_counts, 1.0) ** (-power / 2)
    return dataclasses.replace(train, values=(train.values * scale[train.indices]).astype(np.float32))


def rescaled(weights: np.ndarray, counts: np.ndarray, recent: np.ndarray, power: float = 0.7) -> np.ndarray:
    """[I, I] weights W_ij (q_j / p_j)^power: items that are more popular lately than in training score higher.

    Args:
      weights: [I, I].
      counts: [I] p, how popular each item is in training, in shares or counts.
      recent: [I] q, how popular lately; both are compared as shares of their sums.
      power: 0 changes nothing.

    Items that training does not know keep their weights, which are 0 in a fit.
    """
    _checks.nonnegative("power", power)
    p, q = (np.asarray(each, np.float64) for each in (counts, recent))
    if p.shape != q.shape or p.shape != np.shape(weights)[-1:] or min(p.min(initial=0), q.min(initial=0)) < 0:
        raise InputError("counts and recent must be numbers of at least 0, one for each column of the weights.")
    if not p.sum() > 0 or not q.sum() > 0:
        raise InputError("counts and recent must not all be 0.")
    change = np.divide(q / q.sum(), p / p.sum(), out=np.ones_like(p), where=p > 0) ** power
    return (np.asarray(weights) * change[None, :]).astype(np.asarray(weights).dtype)
