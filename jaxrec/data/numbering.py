"""Tables with one interaction a row: from columns of ids to a matrix."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from jaxrec._checks import InputError, shown
from jaxrec.data.columns import LONGEST_NAME, text
from jaxrec.data.interactions import Interactions
from jaxrec.data.load_options import Options
from jaxrec.data.panics import without_panics

MICROSECONDS = {"day": 86_400_000_000, "ms": 1000, "us": 1, "ns": 1}  # nanoseconds stay what they are


def columns_of(frame: Any, where: str) -> Mapping[str, pl.Series]:
    """The columns of a pandas or Polars frame by name, each turned into a Polars series when it is asked for."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not hasattr(frame, "columns"):
        raise InputError(f"{where}: wanted a pandas or Polars frame, got {type(frame).__name__}.")
    each_once([str(column) for column in frame.columns], where)
    return _Columns(frame, where)


def each_once(columns: Sequence[str], where: str) -> None:
    """Refuses names of columns of which two are the same."""
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise InputError(f"{where}: the column {shown(column)} occurs more than once.")
        seen.add(column)


def from_table(
    table: Mapping[str, pl.Series],
    options: Options,
    *,
    where: str,
    name: str,
    split: np.ndarray | None = None,
    titles: Mapping[str, str] | None = None,
) -> Interactions:
    """Interactions from columns of ids.

    Args:
      table: columns by name.
      options: what was asked of `load`.
      where: the source, for messages.
      name: what the data set is called.
      split: [rows] of 0 (train) and 1 (test), or None.
      titles: title by item id (written as text), or None.
    """
    try:
        with without_panics():
            (user_ids, users), (item_ids, items), extra, source = _numbered(table, options, where, split)
    except pl.exceptions.PanicException:
        raise InputError(f"{where} cannot be read: its content is damaged.") from None
    made = Interactions.from_triples(
        users,
        items,
        **extra,
        n_users=len(user_ids),
        n_items=len(item_ids),
        user_ids=user_ids,
        item_ids=item_ids,
        titles=None if titles is None else text([titles.get(str(i), "") for i in item_ids.tolist()]),
        repeats=options.repeats,
        name=where,
    )
    if made.nnz == 0:
        raise InputError(f"{where} holds no interactions, or only of value 0.")
    return dataclasses.replace(made, name=name, source=source)


def _numbered(
    table: Mapping[str, pl.Series], options: Options, where: str, split: np.ndarray | None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], dict[str, Any], dict[str, str]]:
    """Users and items as `_number_ids` gives them, what else there is of every row, and the columns by their use.

    What else there is comes by argument of `from_triples`.
    """
    columns = list(table)
    roles = {role: options.column(role, columns, where) for role in ("user", "item")}
    time_column = options.optional_column("timestamp", columns, where)
    value_column = options.value_column(columns, where)
    rating_column = options.rating_column(columns, where)

    series = {role: table[column] for role, column in roles.items()}
    if not len(series["user"]):
        raise InputError(f"{where} is empty: it has columns and no rows.")
    extra: dict[str, Any] = {"split": split}
    if value_column is not None:
        extra["values"] = _numbers(table[value_column], where)
    if time_column is not None:
        extra["timestamps"] = _times(table[time_column], where)
    for role in series:
        _no_gaps(series[role], where)
    if rating_column is not None:
        kept = np.flatnonzero(_numbers(table[rating_column], where) >= options.min_rating)
        if not len(kept):
            raise InputError(f"{where} holds no interactions that reach min_rating = {options.min_rating}.")
        series = {role: column.gather(kept) for role, column in series.items()}
        extra = {key: None if array is None else array[kept] for key, array in extra.items()}
    used = {**roles, "rating": rating_column, "timestamp": time_column, "values": value_column}
    source = {role: column for role, column in used.items() if column}
    return _number_ids(series["user"], where), _number_ids(series["item"], where), extra, source


class _Columns(Mapping):
    """The columns of a frame, each turned into a Polars series when it is asked for."""

    def __init__(self, frame: Any, where: str):
        self.frame, self.where = frame, where
        self.names = {str(column): column for column in frame.columns}

    def __iter__(self):
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> pl.Series:
        return stripped(self._series(name), self.where)

    def _series(self, name: str) -> pl.Series:
        column = self.frame[self.names[name]]
        if isinstance(column, pl.Series):
            return column
        array = np.array(column)
        try:
            if array.dtype.kind == "O":  # the missing values of pandas are NaN, NA, NaT or None
                array[np.asarray(column.isna()) if hasattr(column, "isna") else array == None] = None  # noqa: E711
                return pl.Series(name, array.tolist())
            return pl.Series(name, array)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            raise InputError(
                f"{self.where}: column {name!r} mixes types that do not go together; make it text with .astype(str)."
            ) from None


def stripped(column: pl.Series, where: str) -> pl.Series:
    """A column, of text without the spaces around it: "1, 2" is 1 and 2.

    Raises:
      InputError: a text is longer than ids, numbers and dates are, as after a quote that was never closed. It is looked
        for first: what is done to text makes copies, where a file may have told one text for all rows.
    """
    if column.dtype in (pl.Categorical, pl.Enum):
        column = _words(column)
    if column.dtype != pl.String:
        return column
    long = (column.str.len_bytes() > LONGEST_NAME).fill_null(False)
    if long.any() and (row := first_row(long & (column.str.len_chars() > LONGEST_NAME))):
        raise InputError(f"{where}: column {shown(column.name)} holds more than {LONGEST_NAME:,} letters in row {row}.")
    return column.str.strip_chars() if column.str.contains(r"^\s|\s$").any() else column


def _words(column: pl.Series) -> pl.Series:
    """A column of categories as text, of which the rows share what is the same; a cast copies it for each."""
    distinct = column.drop_nulls().unique()
    if not len(distinct):
        return column.cast(pl.String)
    words = distinct.cast(pl.String)
    return column.to_physical().replace_strict(distinct.to_physical(), words, return_dtype=pl.String)


def first_row(mask: pl.Series) -> int | None:
    """The number of the first true row, counted from 1; None if there is none."""
    hits = mask.arg_true()
    return int(hits[0]) + 1 if len(hits) else None


def _no_gaps(column: pl.Series, where: str) -> None:
    gaps = column.is_null()
    if column.dtype == pl.String:
        gaps |= (column == "").fill_null(True)
    if row := first_row(gaps):
        raise InputError(f"{where}: column {column.name!r} is empty in row {row}.")


def _numbers(column: pl.Series, where: str) -> np.ndarray:
    """[rows] float64 and finite."""
    _no_gaps(column, where)
    try:
        array = column.cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError:
        raise InputError(f"{where}: column {column.name!r} must hold numbers, got {column.dtype}.") from None
    if row := first_row(~array.is_finite().fill_null(False)):
        odd = shown(column[row - 1])
        raise InputError(f"{where}: column {column.name!r} holds {odd} in row {row}, wanted a number.")
    return array.to_numpy()


def _times(column: pl.Series, where: str) -> np.ndarray:
    """[rows] int64: whole numbers as they are; fractions of seconds and dates in microseconds, or nanoseconds."""
    _no_gaps(column, where)
    if column.dtype == pl.String or column.dtype.is_integer():
        if (whole := column.cast(pl.Int64, strict=False)).null_count() == 0:
            return whole.to_numpy()
    if column.dtype == pl.String:
        if row := first_row(column.str.contains(r"^\d{1,2}[./-]\d{1,2}[./-]\d")):
            raise InputError(
                f"{where}: column {column.name!r} holds {shown(column[row - 1])} in row {row}, of which day and month "
                "cannot be told apart; write it as 2020-12-31."
            )
        with contextlib.suppress(pl.exceptions.PolarsError):
            column = column.str.to_datetime(time_unit="us")
    if column.dtype in (pl.Date, pl.Datetime):
        unit = MICROSECONDS[getattr(column.dtype, "time_unit", "day")]
        counted = column.to_physical().to_numpy().astype(np.int64)
        if int(counted.max()) * unit >= 2**63 or int(counted.min()) * unit < -(2**63):
            raise InputError(f"{where}: column {column.name!r} holds times beyond 64 bits.")
        return counted * unit
    seconds = _numbers(column, where)
    seconds = np.round(seconds * 1e6) if (seconds % 1).any() else seconds
    if np.abs(seconds).max() >= 2**63:
        raise InputError(f"{where}: column {column.name!r} holds times beyond 64 bits.")
    return seconds.astype(np.int64)


def _number_ids(column: pl.Series, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids in sorted order, and for every row the place of its id among them.

    Text that spells integers, all of them without leading zeros, is integers.
    """
    if column.dtype.is_float() and (column == column.floor()).fill_null(False).all() and (column.abs() < 2**53).all():
        column = column.cast(pl.Int64)  # whole numbers that stood beside a gap
    words = column.dtype == pl.String
    if not (words or column.dtype.is_integer()):
        kind = f"got {column.dtype} in column {column.name!r}"
        raise InputError(f"{where}: ids must be integers or text, {kind}; make them text with .astype(str).")
    ids = column.unique().sort()
    if words:
        numbers = ids.cast(pl.Int64, strict=False)
        if (numbers.cast(pl.String) == ids).fill_null(False).all():
            ids = ids.gather(numbers.arg_sort())
            numbers = numbers.sort()
        elif ids.cast(pl.Float64, strict=False).is_finite().fill_null(False).all() and ids.str.contains(r"\.").any():
            odd = ids.filter(ids.str.contains(r"\."))[0]
            raise InputError(
                f"{where}: ids must be integers or text, got {odd} in column {column.name!r}, no whole number."
            )
        else:
            numbers = None
        rows = column.cast(pl.Enum(ids)).to_physical()
        named = ids if numbers is None else numbers
    else:
        rows, named = column.rank("dense") - 1, ids
    if named.dtype.is_integer() and named[0] < 0:
        raise InputError(f"{where}: ids must not be negative, got {named[0]} in column {column.name!r}.")
    if named.dtype.is_integer() and named[-1] >= 2**64:
        raise InputError(f"{where}: ids must be below 2^64, got {named[-1]} in column {column.name!r}; make them text.")
    named = named.cast(pl.UInt64) if named.dtype.is_integer() and named[-1] >= 2**63 else named
    array = named.to_numpy() if named.dtype.is_integer() else text(named.to_list())
    return array, rows.to_numpy().astype(np.int32)
