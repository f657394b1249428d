"""Popularity: the baseline that gives everyone the items with the most users."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from jaxrec._checks import InputError
from jaxrec.data import Interactions
from jaxrec.models import FitInfo, Fitted, ItemScores
from jaxrec.runtime.memory import Plan, available_bytes, rough_seconds
from jaxrec.status import Certificate, Status


@dataclasses.dataclass(frozen=True)
class Popularity:
    """Every item's share of users, the same scores for everyone.

    The scores s minimise ||P - 1 s'||_F^2, where P is the 0/1 pattern of the interactions. Deterministic, so its
    published figures check an evaluation before any model does.
    """

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """Fitted(model: ItemScores, info), or an `InputError` where there is nothing to learn from.

        Args:
          train: U x I interactions.
          devices: makes no difference: I counts are not worth splitting.

        Cost: one pass over the interactions.
        """
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")
        begun = time.perf_counter()
        counts = train.item_counts.astype(np.float64)
        scores = (counts / train.n_users).astype(np.float32)
        seconds = {"count": time.perf_counter() - begun}
        residual = np.linalg.norm(train.n_users * scores.astype(np.float64) - counts) / np.linalg.norm(counts)
        limit = 1e-6
        certificate = Certificate(Status.OK if residual <= limit else Status.RESIDUAL_TOO_LARGE, float(residual), limit)
        return Fitted(ItemScores(scores), FitInfo(self, certificate, train.items, train.summary(), seconds))

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes."""
        parts = {"counts and scores": 20 * n_items}
        where, advice = "host", "use a machine with more memory"
        flops = float(nnz)
        shape = (n_users, n_items, nnz)
        return Plan(str(self), shape, where, parts, available_bytes(), flops, rough_seconds(flops), advice)
