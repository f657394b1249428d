"""Recommendations by user: indices and scores, and the same as ids, titles and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data import alignment
from jaxrec.data.catalogue import Catalogue


@dataclasses.dataclass(frozen=True, eq=False)
class Recommendations:
    """The best items of each user, best first; unpacks as (items, scores).

    Attributes:
      items: [B, k] int32 indices in `catalogue`; where no item is left I, the number of items, which is the index of
        none, so that indexing by it is an error.
      scores: [B, k] float32; -inf where no item is left.
      catalogue: names of the items; without ids where the model does not know them.
      user_ids: [B] ids of the users whose histories these are; where they have none, the numbers of the rows that they
        were chosen from; None where that are all rows.
    """

    items: np.ndarray
    scores: np.ndarray
    catalogue: Catalogue
    user_ids: np.ndarray | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.items, self.scores))

    def __len__(self) -> int:
        """B, the number of users."""
        return len(self.items)

    def ids(self) -> list[list[Any]]:
        """The items' ids, of each user as many as are left; indices where the items have no ids."""
        return self._named(self.catalogue.names)

    @door
    def titles(self, catalogue: Catalogue | None = None) -> list[list[str]]:
        """The items' titles, or ids where there are none; of each user as many as are left.

        Args:
          catalogue: takes titles from there, matched by id; default the titles that the model was fitted with.

        Raises:
          InputError: the catalogue is of other items.
        """
        named = self.catalogue if catalogue is None else catalogue
        at = np.arange(self.catalogue.n_items)
        if catalogue is not None:
            found = alignment.places(self.catalogue, catalogue, "the recommendations", "the catalogue given")
            if found is None and catalogue.n_items != self.catalogue.n_items:
                raise InputError(
                    f"the catalogue given has {catalogue.n_items} items and the recommendations are of "
                    f"{self.catalogue.n_items}; they must agree, or both have ids."
                )
            at = at if found is None else found
        return [
            [named.label(place) if place >= 0 else self.catalogue.label(item) for item, place in row]
            for row in self._named(np.stack([np.arange(len(at)), at], axis=1))
        ]

    def to_polars(self) -> Any:
        """A Polars frame with the columns user, item, rank (from 1), score and title, one recommendation a row.

        Users and items are called by their ids, or by row and index where there are none; title is null where there is
        none.
        """
        import polars as pl

        return pl.DataFrame(self._columns(), schema_overrides={"title": pl.String})

    def to_pandas(self) -> Any:
        """The same as a pandas frame.

        Raises:
          InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise InputError("to_pandas needs pandas: pip install pandas; to_polars does without.") from None
        return pd.DataFrame(self._columns())

    @property
    def _left(self) -> np.ndarray:
        """[B, k] where there is an item."""
        return self.items < self.catalogue.n_items

    def _named(self, names: np.ndarray) -> list[list[Any]]:
        left = self._left
        return [names[row[kept]].tolist() for row, kept in zip(self.items, left, strict=True)]

    def _columns(self) -> dict[str, Any]:
        user, rank = np.nonzero(self._left)
        items, titles = self.items[user, rank], self.catalogue.titles
        return {
            "user": (np.arange(len(self.items)) if self.user_ids is None else self.user_ids)[user].tolist(),
            "item": self.catalogue.names[items].tolist(),
            "rank": (rank + 1).tolist(),
            "score": self.scores[user, rank].tolist(),
            "title": [None if titles is None else str(titles[item]) or None for item in items.tolist()],
        }


def listed(items: np.ndarray, scores: np.ndarray, catalogue: Catalogue, user_ids: Any = None) -> Recommendations:
    """Recommendations from rankings in which -1 stands for no item."""
    return Recommendations(np.where(items < 0, np.int32(catalogue.n_items), items), scores, catalogue, user_ids)
