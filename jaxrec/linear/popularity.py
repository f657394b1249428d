"""Popularity: the baseline that gives everyone the items with the most users."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from jaxrec.data.interactions import Interactions
from jaxrec.fitting import HostOnly, Stopwatch
from jaxrec.models import ItemScores
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.status import Certificate


@dataclasses.dataclass(frozen=True)
class Popularity(HostOnly):
    """Every item's share of users, the same scores for everyone: the model is ItemScores.

    The scores s minimise ||P - 1 s'||_F^2, where P is the 0/1 pattern of the interactions. Deterministic, so its
    published figures check an evaluation before any model does. Devices make no difference: I counts are not worth
    splitting.

    Cost: one pass over the interactions.
    """

    name: ClassVar[str] = "popularity"

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[ItemScores, Certificate]:
        with clock.stage("count"):
            scores = (train.item_counts.astype(np.float64) / train.n_users).astype(np.float32)
        return ItemScores(scores), Certificate.exact()

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        return Needs({"counts and scores": 20 * n_items}, float(nnz), "use a machine with more memory")
