"""What a reader is asked for: which columns, which of them become values, which rows are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data.interactions import REPEAT_RULES

# In order of preference; compared in lower case without anything but letters and digits ("User_ID" is "userid").
KNOWN_COLUMNS = {
    "user": ("user", "userid", "uid", "useridx", "reviewerid", "visitorid", "customerid", "sessionid"),
    "item": (
        *("item", "itemid", "iid", "itemidx", "movie", "movieid", "product", "productid", "asin", "parentasin"),
        *("book", "bookid", "isbn", "artist", "artistid", "track", "trackid", "song", "songid"),
    ),
    "rating": ("rating", "ratings", "stars", "score"),
    "timestamp": ("timestamp", "time", "datetime", "date", "unixreviewtime"),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """The keyword arguments of `load`, of the kinds it takes; the attributes mean what they mean there."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None
    values: str | None = None
    min_rating: float | None = None
    repeats: str | None = None

    def __post_init__(self):
        if self.min_rating is not None:
            _checks.finite("min_rating", self.min_rating)
        _checks.one_of("repeats", self.repeats, (None, *REPEAT_RULES))

    def asked(self) -> dict[str, Any]:
        """What was asked for, by name, as JSON has it; what was left to be found is not there."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value if isinstance(value, str) else float(value)
            for name, value in given.items()
            if value is not None
        }

    def column(self, role: str, columns: Sequence[str], where: str) -> str:
        """The column that plays `role`: the one asked for, else the first known name that occurs."""
        if (found := self.optional_column(role, columns, where)) is None:
            known = f"no column is known to hold the {role}; name it with {role}=, {among(columns)}"
            raise InputError(f"{where}: {known}{_odd_header(columns)}.")
        return found

    def optional_column(self, role: str, columns: Sequence[str], where: str) -> str | None:
        """The column that plays `role`; None if no name was asked for and no known one occurs."""
        if (asked := getattr(self, role)) is not None:
            return named_column(asked, role, columns, where)
        by_plain_name = {_plain(column): column for column in reversed(columns)}
        return next((by_plain_name[known] for known in KNOWN_COLUMNS[role] if known in by_plain_name), None)

    def value_column(self, columns: Sequence[str], where: str) -> str | None:
        """The column whose numbers become the values; "rating" also finds the rating under another name."""
        if self.values == "rating" and "rating" not in columns:
            return self.column("rating", columns, where)
        return None if self.values is None else named_column(self.values, "values", columns, where)

    def rating_column(self, columns: Sequence[str], where: str) -> str | None:
        """The column that `min_rating` speaks of, or None if nothing is asked of the ratings."""
        return None if self.min_rating is None else self.column("rating", columns, where)


def named_column(asked: str, role: str, columns: Sequence[str], where: str) -> str:
    """`asked`, if it is among `columns`."""
    if asked not in columns:
        raise InputError(f"{where}: there is no column {asked!r} ({role}=), {among(columns)}.")
    return asked


def among(names: Sequence[str], what: str = "columns") -> str:
    """The words "the columns are a, b, c", short even if a file that is no table gave the names."""
    some = ", ".join(ascii(name)[1:-1][:40] for name in names[:20])
    return f"the {what} are {some}{', ...' * (len(names) > 20)}"


def _odd_header(columns: Sequence[str]) -> str:
    """What seems to be wrong with a table whose columns have such names."""
    if len(columns) == 1 and (found := [mark for mark in ";\t|" if mark in columns[0]]):
        return f"; it seems to be separated by {found[0]!r}, and jaxrec.data.from_frame takes it as pandas reads it"
    if columns and all(_is_number(column) for column in columns):
        return "; its first row seems to be no header, so add one, such as user,item,rating"
    return ""


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("_duplicated_", "", 1).isdecimal()


def _plain(column: str) -> str:
    return "".join(letter for letter in column.lower() if letter.isalnum())
