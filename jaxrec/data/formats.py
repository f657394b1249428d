"""Text and Parquet files as tables: delimited, MovieLens, RecBole, LightGCN."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxrec._checks import InputError, shown
from jaxrec.data import parquet
from jaxrec.data.lines import one_line_end
from jaxrec.data.numbering import each_once, first_row, stripped
from jaxrec.data.panics import without_panics
from jaxrec.runtime.archive import DAMAGE
from jaxrec.runtime.files import regular
from jaxrec.runtime.memory import require_memory

SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
REPEATED = re.compile(r"_duplicated_\d+$")  # what Polars adds to a name that occurs again
NO_PARQUET = "is no readable Parquet file: truncated, or of another kind"
MOST_COLUMNS = 100_000
FIELD_BYTES = 16  # that a text takes in Polars besides its letters
ROW_BYTES = 64  # of memory that an interaction takes until all are in their rows
RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
FILMS_BESIDE = {"ratings.csv": "movies.csv", "ratings.dat": "movies.dat", "u.data": "u.item"}


def read_delimited(path: Path) -> pl.DataFrame:
    """All columns of a CSV or TSV file with a header, as text; types come from the whole column later."""
    typed_header = path.suffix.lower() == ".inter"
    table = _csv(path, separator=SEPARATORS[path.suffix.lower()], quote_char=None if typed_header else '"')
    names = [column.split(":")[0] for column in table.columns] if typed_header else table.columns
    known = set(names)
    each_once([stem if (stem := REPEATED.sub("", name)) in known else name for name in names], str(path))
    table.columns = names
    return table


def read_parquet(path: Path) -> Mapping[str, pl.Series]:
    """The columns of a Parquet file, each read when it is asked for."""
    with regular(path) as file:
        content = file.read()
    try:
        return _ParquetColumns(path, parquet.described(content))
    except DAMAGE:
        raise InputError(f"{path} {NO_PARQUET}.") from None


class _ParquetColumns(Mapping):
    def __init__(self, path: Path, table: parquet.Table):
        self.path, self.table = path, table

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.names)

    def __len__(self) -> int:
        return len(self.table.names)

    def __getitem__(self, name: str) -> pl.Series:
        rows = self.table.rows
        if name not in self.table.chunks:
            raise InputError(f"{self.path}: the column {shown(name)} holds lists or structures, not one value a row.")
        try:
            unpacked = self.table.column_bytes(name)
        except DAMAGE:
            raise InputError(f"{self.path} {NO_PARQUET}.") from None
        require_memory(ROW_BYTES * rows + unpacked, f"{self.path}: {rows:,} rows of the column {shown(name)}")
        content = io.BytesIO(self.table.content)
        column = _polars(self.path, lambda: pl.read_parquet(content, columns=[name]), NO_PARQUET)[name]
        if len(column) != rows:
            raise InputError(f"{self.path} is damaged: it announces {rows} rows and has {len(column)}.")
        return stripped(column, str(self.path))


def read_u_data(path: Path) -> pl.DataFrame:
    """MovieLens 100K: user, item, rating and time, separated by tabs."""
    table = _csv(path, separator="\t", quote_char=None, has_header=False)
    return _named(path, table, "tabs")


def read_colons(path: Path) -> pl.DataFrame:
    """MovieLens 1M and 10M: user, item, rating and time, separated by `::`."""
    table = _csv(path, separator=":", quote_char=None, has_header=False)
    between = table.get_columns()[1::2]  # a pair of colons encloses an empty field
    for column in between:
        if row := first_row(column.is_not_null()):
            raise InputError(f"{path}: row {row} is not separated by '::' throughout.")
    return _named(path, table[:, ::2], "'::'")


def read_lists(path: Path) -> tuple[pl.DataFrame, np.ndarray | None]:
    """LightGCN's lists, "user item item ..." a line: a table, and the split (1 = test.txt) if that file exists."""
    parts = [_pairs(path)]
    if (test := path.with_name("test.txt")).is_file():
        parts.append(_pairs(test))
    split = np.repeat(np.arange(len(parts), dtype=np.uint8), [len(part[0]) for part in parts])
    table = pl.DataFrame({"user": np.concatenate([p[0] for p in parts]), "item": np.concatenate([p[1] for p in parts])})
    return table, split if len(parts) == 2 else None


def movie_titles(path: Path) -> dict[str, str] | None:
    """Titles by movie id, from the file of films that MovieLens puts beside its ratings; None if there is none."""
    if path.name not in FILMS_BESIDE or not (films := path.with_name(FILMS_BESIDE[path.name])).is_file():
        return None
    if films.suffix == ".csv":
        table = read_delimited(films)
        if missing := [column for column in ("movieId", "title") if column not in table.columns]:
            raise InputError(f"{films} has no column {missing[0]!r}, so it gives no titles.")
        return dict(zip(table["movieId"].to_list(), table["title"].fill_null("").to_list(), strict=True))
    raw = one_line_end(_content(films))
    try:
        words = raw.decode("utf-8")
    except UnicodeDecodeError:
        words = raw.decode("latin-1")  # MovieLens 100K and 1M; 10M is in UTF-8
    separator = "::" if films.suffix == ".dat" else "|"
    rows = [line.split(separator, 2) for line in words.split("\n") if line]
    if ragged := [number for number, row in enumerate(rows, 1) if len(row) < 2]:
        raise InputError(f"{films}: line {ragged[0]} is not an id and a title separated by {separator!r}.")
    return {row[0]: row[1].rstrip("\r") for row in rows}


def _csv(path: Path, separator: str, quote_char: str | None, **how: Any) -> pl.DataFrame:
    content = one_line_end(_content(path), None if quote_char is None else quote_char.encode())
    fields = 1 + content.count(separator.encode(), 0, content.find(b"\n") % (len(content) + 1))
    if fields > MOST_COLUMNS:
        raise InputError(f"{path}: the first row has {fields:,} fields, where at most {MOST_COLUMNS:,} make a table.")
    rows = content.count(b"\n") + 1
    require_memory(FIELD_BYTES * rows * fields + 2 * len(content), f"{path}: {rows:,} rows of {fields} fields")
    how |= {"separator": separator, "quote_char": quote_char, "null_values": ["NaN", "nan", "NULL", "null"]}
    # Not the path, in which Polars takes brackets and stars for a pattern of names.
    table = _polars(path, lambda: pl.read_csv(content, infer_schema=False, **how), "is no readable table")
    if not len(table):
        raise InputError(f"{path} is empty: it has a header and no rows.")
    return table


def _content(path: Path) -> bytes:
    """What a text file holds."""
    with regular(path) as file:
        require_memory(os.fstat(file.fileno()).st_size, f"{path}: its contents")
        content = file.read()
    if b"\0" in content[: 1 << 16]:
        raise InputError(f"{path} is not UTF-8 text but binary; convert it first.")
    return content


def _polars(path: Path, read: Callable[[], pl.DataFrame], otherwise: str) -> pl.DataFrame:
    try:
        with without_panics():
            return read()
    except pl.exceptions.PanicException:
        said = "its content is damaged"
    except (pl.exceptions.PolarsError, OSError) as error:
        said = str(error)
    if "utf-8" in said.lower():
        raise InputError(f"{path} is not UTF-8 text; convert it first.")
    if "more fields than" in said:
        raise InputError(f"{path} is ragged: a row has more fields than the first one.")
    raise InputError(f"{path} {otherwise} ({said.splitlines()[0].rstrip('.')[:200] if said else 'no reason given'}).")


def _named(path: Path, table: pl.DataFrame, separator: str) -> pl.DataFrame:
    if table.width not in (3, 4):
        raise InputError(
            f"{path}: the first row has {table.width} fields where user, item, rating and time separated by "
            f"{separator} were wanted."
        )
    table.columns = RATING_COLUMNS[: table.width]
    for column in table:
        if row := first_row(column.is_null()):
            raise InputError(f"{path} is ragged: row {row} has no {column.name}, where the first row has one.")
    return table


def _pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """User and item of every interaction of one file of lists; a user without items adds none."""
    content = one_line_end(_content(path))
    if odd := re.search(rb"[^0-9 \t\r\n]|[0-9]{19}", content):  # 18 digits are sure to fit 64 bits
        line = content.count(b"\n", 0, odd.start()) + 1
        raise InputError(f"{path}: line {line} holds {ascii(odd[0])[1:]}, wanted integers from 0 up, spaces between.")
    letters = np.frombuffer(content, np.uint8)
    digit = letters >= ord("0")
    starts = np.flatnonzero(digit & ~np.concatenate([[False], digit[:-1]]))
    if not len(starts):
        raise InputError(f"{path} holds no interactions.")
    numbers = np.fromstring(content, np.int64, sep=" ")
    # The line of a number is the count of line ends before it; the first number of a line is the user.
    line = np.searchsorted(np.flatnonzero(letters == ord("\n")), starts)
    is_user = np.concatenate([[True], line[1:] != line[:-1]])
    lengths = np.diff(np.append(np.flatnonzero(is_user), len(numbers))) - 1
    return np.repeat(numbers[is_user], lengths), numbers[~is_user]
