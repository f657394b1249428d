"""The titles that can be recommended, numbered, and how a title that somebody wrote is found among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.conversational.links import How, Limits, Link
from jaxrec.conversational.links import limits as given_limits
from jaxrec.conversational.nearest import FAR, Nearest, WordIndex, by_edits
from jaxrec.conversational.titles import LONGEST, normalised, numbers, split_year, with_year, without_article
from jaxrec.data import columns
from jaxrec.data.catalogue import Catalogue as Items
from jaxrec.data.interactions import Interactions

KEPT = 2**17  # names whose nearest titles are kept


class Catalogue:
    """I titles, by index; the index of a title is that of its item in the data it was made from.

    Attributes:
      titles: [I] of str, "Name (year)" where a year is known.
      years: [I] int32, 0 where none is known.
      items: the same titles as the core's catalogue, with the ids of the source.
    """

    def __init__(
        self,
        titles: Iterable[str],
        years: Iterable[Any] | None = None,
        ids: Any = None,
        *,
        repeats: Literal["error", "first"] = "error",
    ):
        """Numbers titles in the order given.

        Args:
          titles: with or without a year behind them.
          years: of titles that have none behind them; None, an empty text or NaN where it is not known.
          ids: the source's own, or None.
          repeats: what becomes of a title that stands there twice, year included: it is refused, or the later ones are
            never found, which leaves the numbers of all others as they are.

        Raises:
          InputError: no titles; one that is no text, empty, or there twice; a year that is none.
        """
        _checks.one_of("repeats", repeats, ("error", "first"))
        self.titles = tuple(_with_years(_texts(titles), years))
        self.items = Items(len(self.titles), ids=ids, titles=np.array(self.titles, object))
        self._names, self._first = self._parts(), self._numbered(repeats)
        self._looked_up: dict[str, dict[str, tuple]] = {}  # by spelling and name

    @classmethod
    @door
    def of(
        cls,
        source: Any,
        *,
        title: str = "title",
        year: str = "year",
        id: str = "id",
        repeats: Literal["error", "first"] = "error",
    ) -> Catalogue:
        """The catalogue of what has titles: `Interactions`, a core `Catalogue`, a table, or a list of titles.

        Args:
          source: a table is a Polars or pandas frame, or a mapping from names to columns.
          title: the column of titles, for a table.
          year: the column of years, which need not be there.
          id: the column of ids, which need not be there.
          repeats: as for `Catalogue`.

        Raises:
          InputError: it has no titles; or as for `Catalogue`.
        """
        if isinstance(source, Catalogue):
            return source
        if isinstance(source, Interactions):
            source = source.items
        if isinstance(source, Items):
            if source.titles is None:
                raise InputError("the items have no titles; give a catalogue of titles, in the order of the items.")
            named = [str(found) or f"item {source.names[item]}" for item, found in enumerate(source.titles)]
            return cls(named, ids=source.ids, repeats=repeats)
        names = list(source) if isinstance(source, Mapping) else list(getattr(source, "columns", ()))
        if not names:
            return cls(source, repeats=repeats)
        if title not in names:
            raise InputError(f"the table has no column {title!r}, only {', '.join(map(str, names))}; name it: title=.")
        columns_there = {name: _column(name, source[name]) for name in (title, year, id) if name in names}
        return cls(columns_there[title], columns_there.get(year), columns_there.get(id), repeats=repeats)

    def __len__(self) -> int:
        return len(self.titles)

    def __repr__(self) -> str:
        return f"Catalogue of {len(self):,} titles"

    @property
    def n_items(self) -> int:
        """I, the number of titles."""
        return len(self.titles)

    def number(self, titles: Iterable[str], *, unknown: Literal["error", "-1"] = "error") -> np.ndarray:
        """[N] the items of titles as data write them: the same text but for spaces, or the same name and year.

        Nothing is guessed; for what people and models write there is `link`.

        Args:
          titles: N of them.
          unknown: what becomes of a title that is none of the catalogue, or may be several: it is refused, or its item
            is -1.

        Raises:
          InputError: a title that is not in the catalogue, with how many there are.
        """
        _checks.one_of("unknown", unknown, ("error", "-1"))
        titles = _texts(titles)
        items = np.array([self._item(title) for title in titles], np.int32)
        missing = list(dict.fromkeys(title for title, item in zip(titles, items, strict=True) if item < 0))
        if missing and unknown == "error":
            raise InputError(
                f"{len(missing)} of {len(set(titles))} titles are not in the catalogue of {len(self)}, such as "
                f"{_checks.shown(missing[0])}; give the catalogue of these data, or unknown='-1' to count them."
            )
        return items

    def nearest(self, names: Iterable[str], spelling: Literal["normalised", "lower"] = "normalised") -> Nearest:
        """For each of N names the fewest edits to a title, which titles are so near, and one of them.

        Picked is the title that equals the name, case included; else the first in the order of text.

        Args:
          names: N of them, each the name of one item.
          spelling: "normalised" compares names without years, and never takes a title of another year; "lower" compares
            whole titles in lower case and nothing else.

        Cost: see `nearest.by_edits`; a name is compared once, and its answer kept for the next time.
        """
        _checks.one_of("spelling", spelling, ("normalised", "lower"))
        names = _texts(names)
        known = self._looked_up.setdefault(spelling, {})
        if len(known) > KEPT:
            known.clear()
        distinct = [name for name in dict.fromkeys(names) if name not in known]
        found = self._nearest(distinct, spelling, Limits().years)
        known.update(zip(distinct, zip(*found, strict=True), strict=True))
        rows = [known[name] for name in names]
        distance, item = (np.array([row[part] for row in rows], np.int32) for part in (0, 1))
        return Nearest(distance, item, [row[2] for row in rows])

    def match(self, names: Iterable[str], limits: Limits | None = None) -> list[Link]:
        """The link of each of N names, which are taken to be nothing but the name of one item.

        A name is a title exactly, or by few edits, or by its words; in this order, and else none. What both matchers
        say of it is in the link.
        """
        within: Limits = given_limits("limits", limits or Limits())
        names = _texts(names)
        found: dict[str, Link] = {}
        rest = []
        for name in dict.fromkeys(names):
            items = self.exactly(name, within.years)
            if items:
                found[name] = self._link(name, items, "exact", 0, by_edit=items[0], by_words=items[0], share=1.0)
            else:
                rest.append(name)
        found.update(zip(rest, self._guessed(rest, within), strict=True))
        return [found[name] for name in names]

    @door
    def link(self, text: str, limits: Limits | None = None) -> list[Link]:
        """The items that a text names, in its order: somebody's sentence, or a title, or several.

        Found are titles written out, whatever their case, with or without article and year; what stands in quotes; and
        pieces within few edits of a title. A word that is said every day ("it", "up", "signs") is a title only where it
        is written like one: capitalised within a sentence, in quotes, with its year, or alone. If nothing of the text
        is a title, and the text is short enough to be one, there is one link of all of it, which is "none".
        """
        from jaxrec.conversational.mentions import mentioned

        return mentioned(self, text, limits or Limits())

    def _item(self, title: str) -> int:
        found = self._first.get(_spaced(title), -1)
        if found < 0 and len(items := self.exactly(title, 0)) == 1:
            return items[0]
        return found

    def exactly(self, title: str, years: int) -> list[int]:
        """The items of this name whose year, where both have one, is at most so many years away; the best first."""
        name, year = split_year(title)
        key = normalised(name)
        items = self._by_name.get(key) or self._by_bare_name.get(without_article(key), ())
        if not key:
            return []
        apart = {item: abs(int(self.years[item]) - year) if year and self.years[item] else years for item in items}
        likely = [item for item in items if apart[item] <= years]
        spaced = _spaced(title)
        return sorted(likely, key=lambda item: (self.titles[item] != spaced, self._names[item][0] != name, apart[item]))

    def lengths_at(self, spelled: Sequence[str]) -> list[int]:
        """How many of the words with which a text begins make a name, longest first; words in normalised spelling."""
        lengths, key = [], ""
        for length, word in enumerate(spelled, start=1):
            key = f"{key} {word}" if key else word
            if key not in self._beginnings:
                break
            if key in self._by_name or key in self._by_bare_name:
                lengths.append(length)
        return lengths[::-1]

    def _guessed(self, names: list[str], limits: Limits) -> list[Link]:
        """The links of names that are no title exactly."""
        short = [name if len(name) <= LONGEST else "" for name in names]
        near = self._nearest(short, "normalised", limits.years)
        keys = [normalised(split_year(name)[0]) for name in short]
        by_words = self._words.best([without_article(key).split() for key in keys])
        links = []
        for row, (name, key, (worded, share)) in enumerate(zip(names, keys, by_words, strict=True)):
            evidence: dict[str, Any] = {"by_edit": int(near.item[row]), "by_words": worded, "share": share}
            distance = int(near.distance[row])
            if not key:
                links.append(Link(name, -1, "", "none", distance))
            elif distance < FAR and limits.allows(key, distance) and (alike := self._alike(key, near, row)):
                links.append(self._link(name, alike, "edit", distance, **evidence))
            elif self._is_by_words(name, key, worded, share, limits):
                apart = self._nearest_one(key, worded)
                links.append(self._link(name, [worded], "words", apart, **evidence))
            else:
                links.append(Link(name, -1, "", "none", distance, **evidence))
        return links

    def _alike(self, key: str, near: Nearest, row: int) -> list[int]:
        """The nearest titles that have the same numbers in them, the one that was picked first."""
        nearest = dict.fromkeys([int(near.item[row]), *map(int, near.tied[row])])
        return [item for item in nearest if numbers(self._normalised[item]) == numbers(key)]

    def _is_by_words(self, name: str, key: str, item: int, share: float, limits: Limits) -> bool:
        """Whether two words or more, all of them of the title, are as large a part of it as is asked for."""
        asked = set(without_article(key).split())
        if share < 1 or len(asked) < 2:
            return False
        year = split_year(name)[1]
        if year and self.years[item] and abs(int(self.years[item]) - year) > limits.years:
            return False
        return len(asked) >= limits.covered * len(self._words.names[item])

    def _link(self, text: str, items: list[int], how: How, distance: int, **evidence: Any) -> Link:
        return Link(text, items[0], self.titles[items[0]], how, distance, alternatives=tuple(items[1:]), **evidence)

    def _nearest_one(self, key: str, item: int) -> int:
        return int(by_edits([key], [self._normalised[item]], np.zeros(1)).distance[0])

    def _nearest(self, names: list[str], spelling: str, years: int) -> Nearest:
        if spelling == "lower":
            found = by_edits([name.lower() for name in names], self._lower, self._order)
        else:
            parts = [split_year(name) for name in names]
            asked = np.array([year or 0 for _, year in parts], np.int32)
            keys = [normalised(name) for name, _ in parts]
            found = by_edits(keys, self._normalised, self._order, asked, self.years, years)
        for row, name in enumerate(names):
            exactly = self._first.get(name, -1)
            if exactly >= 0 and found.distance[row] == 0:
                found.item[row] = exactly
        return found

    def _parts(self) -> list[tuple[str, int | None]]:
        return [split_year(title) for title in self.titles]

    def _numbered(self, repeats: str) -> dict[str, int]:
        """The item of each title; of one that is there twice the first."""
        first: dict[str, int] = {}
        for item, title in enumerate(self.titles):
            if first.setdefault(title, item) != item and repeats == "error":
                raise InputError(
                    f"{_checks.shown(title)} is the title of two items, {first[title]} and {item}; tell them apart by "
                    "their years, or pass repeats='first'."
                )
        return first

    @cached_property
    def years(self) -> np.ndarray:  # noqa: D102, among the attributes above
        return np.array([year or 0 for _, year in self._names], np.int32)

    @cached_property
    def _normalised(self) -> list[str]:
        return [normalised(name) for name, _ in self._names]

    @cached_property
    def _lower(self) -> list[str]:
        return [title.lower() for title in self.titles]

    @cached_property
    def _order(self) -> np.ndarray:
        """[I] the rank of each title in the order of text."""
        order = np.empty(len(self), np.int32)
        order[sorted(range(len(self)), key=self.titles.__getitem__)] = np.arange(len(self))
        return order

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        """What the names begin with, up to each of their words, with the article and without."""
        begun = set()
        for name in (*self._by_name, *self._by_bare_name):
            heads = name.split(" ")
            begun.update(" ".join(heads[: n + 1]) for n in range(len(heads)))
        return frozenset(begun)

    @cached_property
    def _words(self) -> WordIndex:
        return WordIndex([without_article(name).split() for name in self._normalised])

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        return self._items_called(self._normalised)

    @cached_property
    def _by_bare_name(self) -> dict[str, list[int]]:
        return self._items_called([without_article(name) for name in self._normalised])

    def _items_called(self, spelled: Sequence[str]) -> dict[str, list[int]]:
        items: dict[str, list[int]] = {}
        for item in self._first.values():
            items.setdefault(spelled[item], []).append(item)
        return items


def _texts(given: Any) -> list[str]:
    """Titles or names as a list of texts."""
    if isinstance(given, Mapping) or hasattr(given, "columns"):
        raise InputError("titles must be a list of texts, got a table; give its column, or the table to Catalogue.of.")
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"titles must be a list of texts, got {_checks.briefly(given)}.")
    listed = list(given)
    for place, title in enumerate(listed):
        if not isinstance(title, str):
            raise InputError(f"titles must be texts, and number {place} is {_checks.briefly(title)}.")
    return [str(title) for title in listed]


def _column(name: Any, values: Any) -> list[Any]:
    """A column of a table as a list."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(
            f"the column {name!r} must be a list with a value for each title, got {_checks.briefly(values)}."
        )
    return list(values)


def _with_years(titles: list[str], years: Iterable[Any] | None) -> list[str]:
    """Titles as they are kept: a single space between words, the year behind."""
    columns.names("titles", titles)
    listed = [None] * len(titles) if years is None else list(years)
    if not titles or len(listed) != len(titles):
        got = f"{len(listed)} years" if titles else "none"
        raise InputError(f"titles must be at least one, with a year for each or none, got {len(titles)} and {got}.")
    whole = [_spaced(with_year(title, year)) for title, year in zip(titles, listed, strict=True)]
    if "" in whole:
        raise InputError(f"titles must not be empty, and number {whole.index('')} is.")
    return whole


def _spaced(title: str) -> str:
    return " ".join(title.split())
