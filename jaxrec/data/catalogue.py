"""What the items are called: their ids in the source and their titles."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from functools import cached_property

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data import columns


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """Names of `n_items` items, by index.

    Attributes:
      n_items: I, the number of items.
      ids: [I] the source's own ids (integers or strings), or None: an item is then called by its index.
      titles: [I] strings, or None.
      origin: where `ids` are no names but indices in another catalogue, which has no ids: that catalogue.
    """

    n_items: int
    ids: np.ndarray | None = None
    titles: np.ndarray | None = None
    origin: Catalogue | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "n_items", _checks.whole("n_items", self.n_items))
        _checks.count("n_items", self.n_items)
        for name in ("ids", "titles"):
            names = getattr(self, name)
            if names is not None and not (isinstance(names, np.ndarray) and names.ndim == 1):
                object.__setattr__(self, name, names := columns.names(name, names))
            if names is not None and len(names) != self.n_items:
                raise InputError(f"{name} must have one entry per item ({self.n_items}), got {len(names)}.")

    @door
    def label(self, item: int) -> str:
        """The title of an item; its id if it has no title; "-" for -1, which stands for no item."""
        if item < 0:
            return "-"
        if item >= self.n_items:
            raise InputError(f"item must be below {self.n_items}, the number of items, got {_checks.shown(item)}.")
        if self.titles is not None and self.titles[item]:
            return str(self.titles[item])
        return str(item if self.ids is None else self.ids[item])

    @door
    def take(self, items: np.ndarray) -> Catalogue:
        """The catalogue of the chosen items, in the order given."""
        items = columns.places("item", items, self.n_items)
        return Catalogue(
            n_items=len(items),
            ids=items.copy() if self.ids is None else self.ids[items],
            titles=None if self.titles is None else self.titles[items],
            origin=self if self.ids is None else self.origin,
        )

    @property
    def names(self) -> np.ndarray:
        """[I] the ids; the indices where there are none."""
        return np.arange(self.n_items) if self.ids is None else self.ids

    @door
    def find(self, name: str | int) -> int:
        """The index of the item with this id or title.

        An integer is an id. A text is an exact id, else an exact title, else a title equal up to case, else the only
        title that contains it. Anything else is an `InputError` that proposes close titles. So is a title that several
        items have: the error gives their ids.
        """
        if (item := self._by_id.get(str(name))) is not None:
            return item
        wanted = str(name).casefold()
        if not isinstance(name, str):
            raise InputError(f"no item has the id {name!r}{columns.nearest(name, self.names)}.")
        if self.titles is None:
            near = columns.nearest(name, self.names)
            raise InputError(f"no item has the id {name!r}, and this data set has no titles to search{near}.")
        found = self._by_title.get(str(name)) or self._by_folded_title.get(wanted)
        if not found:
            containing = [items for title, items in self._by_folded_title.items() if wanted in title]
            if len(containing) > 1:
                some = "; ".join(self.label(items[0]) for items in containing[:5])
                raise InputError(f"{name!r} fits {len(containing)} titles ({some}); give more of the title.")
            found = containing[0] if containing else []
        if len(found) > 1:
            some = ", ".join(str(self.names[item]) for item in found[:5])
            more = ", ..." if len(found) > 5 else ""
            raise InputError(f"{name!r} is the title of {len(found)} items; give the id of one of them: {some}{more}.")
        if found:
            return found[0]
        close = difflib.get_close_matches(wanted, self._by_folded_title, n=3, cutoff=0.5)
        hint = "; ".join(self.label(self._by_folded_title[title][0]) for title in close)
        raise InputError(f"no item is called {name!r}{hint and f'; the closest titles are: {hint}'}.")

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {str(name): i for i, name in enumerate(self.names)}

    @cached_property
    def _by_title(self) -> dict[str, list[int]]:
        return self._items_with(str)

    @cached_property
    def _by_folded_title(self) -> dict[str, list[int]]:
        return self._items_with(str.casefold)

    def _items_with(self, spelling: Callable[[str], str]) -> dict[str, list[int]]:
        items: dict[str, list[int]] = {}
        for item, title in enumerate(() if self.titles is None else self.titles):
            if title:
                items.setdefault(spelling(str(title)), []).append(item)
        return items
