"""The data sets that experiments are run on: what file each is read from, and how it is prepared and divided."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.data import Interactions, load
from jaxrec.data.splits import HeldOut, Split, fixed, per_user_random, strong_generalization

STRONG = ("ndcg@100", "calibrated_recall@20", "calibrated_recall@50")  # as Mult-VAE, EASE and their successors report
FIXED = ("recall@20", "ndcg@20", "recall@50", "ndcg@50")  # as on the data sets of LightGCN
HELD_OUT = 0.1  # of the training interactions, for choosing settings if no users are set apart for that


@dataclasses.dataclass(frozen=True)
class DataSet:
    """How a data set is read, filtered and divided.

    Attributes:
      name: what it is called.
      files: where it may be, below the folder of data; the first that exists is read.
      options: of `jaxrec.load`.
      min_item_users: items with fewer users go.
      n_heldout: users to test on, and again to validate on; 0 takes the split that the source defines instead.
      first_users: only so many users are taken; None takes all.
      min_user_items: then users with fewer items go.
    """

    name: str
    files: tuple[str, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    min_item_users: int = 0
    n_heldout: int = 1000
    first_users: int | None = None
    min_user_items: int = 5

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured on it; settings are chosen by the first."""
        return STRONG if self.n_heldout else FIXED

    def find(self, folder: Path) -> Path | str | None:
        """The file, or the name of a bundled set; None if there is none."""
        if not self.files:
            return self.name
        return next((path for file in self.files if (path := folder / file).exists()), None)

    def prepare(self, folder: Path) -> Prepared:
        """The data, divided. The file must exist."""
        data = load(self.find(folder), **self.options, name=self.name)  # pyright: ignore[reportArgumentType]
        if self.first_users is not None:
            kept = dataclasses.replace(data, split=None, user_split=None)
            data = kept.rows(np.arange(min(self.first_users, data.n_users)))
        if not self.n_heldout:
            return Prepared(self, fixed(data))
        least = {"min_item_users": self.min_item_users, "min_user_items": self.min_user_items}
        return Prepared(self, strong_generalization(data, self.n_heldout, **least))

    def described(self) -> str:
        """How the data set is prepared, in words."""
        words = []
        if (least := self.options.get("min_rating")) is not None:
            words.append(f"ratings of at least {least:g}")
        if "values" in self.options:
            words.append(f"with {self.options['values']}s")
        if self.first_users is not None:
            words.append(f"the first {self.first_users:,} users")
        if self.min_item_users:
            words.append(f"items of at least {self.min_item_users} users")
        if not self.n_heldout:
            held_out = "the source's own split, settings chosen on a tenth of each user's training interactions"
            return ", ".join([*words, held_out])
        if self.min_user_items != type(self).min_user_items:
            words.append(f"users of at least {self.min_user_items} items")
        return ", ".join([*words, f"{self.n_heldout:,} users to test on and {self.n_heldout:,} to validate on"])


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set ready for an experiment; `plain` is the same with all values 1."""

    source: DataSet
    parts: Split

    @cached_property
    def plain(self) -> Split:
        """The split with all values 1."""

        def ones(part: HeldOut) -> HeldOut:
            return HeldOut(*(data.binarised() for data in part))

        train, test, validation = self.parts
        return Split(train.binarised(), ones(test), None if validation is None else ones(validation))

    @property
    def tuning(self) -> Split | None:
        """What to choose settings on if there are no validation users: a tenth of each user's interactions."""
        return None if self.parts.validation is not None else per_user_random(self.parts.train.binarised(), HELD_OUT)

    @property
    def has_counts(self) -> bool:
        """Whether the values are strengths."""
        return not self.parts.train.is_binary

    @property
    def train(self) -> Interactions:
        """What is learned from."""
        return self.parts.train

    @property
    def fingerprint(self) -> str:
        """What cells belong to."""
        return self.train.fingerprint

    def summary(self) -> dict[str, Any]:
        """What is told of the data."""
        return self.train.summary()

    @property
    def said(self) -> str:
        """The sizes, in a line."""
        train = self.train
        sizes = f"{train.n_users:,} users x {train.n_items:,} items, {train.nnz:,} interactions to learn from"
        return f"{train.name}: {sizes}"


MSWEB = DataSet("msweb", (), n_heldout=150, first_users=4000)
ML1M = DataSet("ml1m", ("ml1m.npz", "ml-1m/ratings.dat"), {"min_rating": 4})
LASTFM = DataSet("lastfm_hetrec", ("lastfm_hetrec.npz",), {"values": "count"}, min_item_users=5, n_heldout=300)
CITEULIKE_A = DataSet("citeulike_a", ("citeulike_a.npz",), min_item_users=15, n_heldout=600)
ML20M = DataSet("ml20m", ("ml20m.npz", "ml-20m/ratings.csv"), {"min_rating": 4}, n_heldout=10_000)
NETFLIX = DataSet("netflix", ("netflix.npz", "netflix.csv"), {"min_rating": 4}, n_heldout=40_000)
MSD = DataSet("msd", ("msd.npz", "msd.csv"), min_item_users=200, min_user_items=20, n_heldout=50_000)
GOWALLA = DataSet("gowalla", ("gowalla.npz",), n_heldout=0)
AMAZON_BOOK = DataSet("amazon_book_kgat", ("amazon_book_kgat.npz",), n_heldout=0)
AMAZON_HOME = DataSet("amazon_home_kitchen", ("amazon_home_kitchen.npz",), n_heldout=0)
