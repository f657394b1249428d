"""`load`: which file is what, and how each becomes a matrix."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data.bundled import BUNDLED, bundled_names, load_bundled
from jaxrec.data.interactions import Interactions
from jaxrec.data.load_options import Options
from jaxrec.data.npz import read_npz

KNOWN_FILES = ("train.txt", "ratings.csv", "ratings.dat", "u.data")  # looked for in a folder, in this order
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".7z")
FORMATS = ".npz, .csv, .tsv, .parquet, .inter, .dat (with ::), u.data and train.txt"


@door
def load(
    source: Any,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    timestamp: str | None = None,
    values: str | None = None,
    min_rating: float | None = None,
    repeats: str | None = None,
    name: str | None = None,
) -> Interactions:
    """Interactions from a file, a folder, or the name of a data set that ships with the library.

    What is read, by name:

    - a bundled data set, such as "msweb" (a file of that name is reached as "./msweb");
    - `.npz`: arrays `user`, `item`, `n_users`, `n_items`, and where present `timestamp`, `position` (order within
      the user), `split`, `user_split`, `user_ids`, `item_ids`, numbers such as `rating`, `count` or `hours`, with
      titles in `NAME.items.txt.gz` beside it; or a matrix of `scipy.sparse.save_npz`, whose numbers are "data";
    - `.csv`, `.tsv`, `.parquet`: a table with named columns, one interaction a row;
    - `.inter`: RecBole's table, whose header carries types ("user_id:token");
    - `ratings.csv`, `ratings.dat` (`::`) and `u.data`: MovieLens, with titles from movies.csv, movies.dat or u.item
      beside it;
    - `train.txt`, with `test.txt` beside it as the fixed split: LightGCN's lines of a user and its items;
    - a folder that holds one of train.txt, ratings.csv, ratings.dat, u.data, or a single `.inter` file.

    Columns that are not named are found by the names in `jaxrec.data.KNOWN_COLUMNS`, whatever their case and
    punctuation: user, user_id, uid ...; item, item_id, movieId, asin ...; rating, stars, score; timestamp, time, date.

    Users and items are numbered in the sorted order of their ids (by number if all ids are integers, else as
    text); the ids themselves are kept. Only users and items with an interaction are numbered, except where the source
    fixes the sizes and numbers itself (`.npz`). Within a user the order of the source stays.

    Args:
      source: path or name.
      user: name of the column of user ids; integers from 0 up, or text.
      item: name of the column of item ids; likewise.
      rating: name of the column of ratings.
      timestamp: name of the column of times: numbers or dates; only their order matters.
      values: None makes every interaction 1; "rating", "count", "hours" or any other column keeps its numbers.
      min_rating: keep only the rows with at least this rating, in the unit of the source; the first thing done.
      repeats: what becomes of repeated (user, item) pairs: "last", "first", "sum", "max" or "error"; None keeps the
        last and warns with their number. Repeated entries of a SciPy matrix are always summed.
      name: what the data set is called in reports; default from the name of the file or folder.

    Returns:
      Interactions of shape U x I.

    Raises:
      InputError: one sentence on what is wrong with the source; nothing is half-loaded.
    """
    options = Options(user, item, rating, timestamp, values, min_rating, repeats)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"wanted a path or a name, got {type(source).__name__}; frames go to jaxrec.data.from_frame.")
    if not os.fspath(source):
        raise InputError(f"wanted a path or a name ({bundled_names()}), got an empty text; the current folder is '.'.")
    if isinstance(source, str) and source in BUNDLED:
        return _from(load_bundled(source, options, called=name), options, source)
    path = Path(source)
    try:
        if path.is_dir():
            path = _known_file(path)
        if not path.is_file():
            raise InputError(f"there is no file {path}, nor a bundled data set of that name ({bundled_names()}).")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty.")
        return _from(_read(path, options, name or _called(path)), options)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except MemoryError:
        raise InputError(f"{path} needs more memory than is free; keep what is needed of it, or use more.") from None


@door
def from_frame(
    frame: Any,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    timestamp: str | None = None,
    values: str | None = None,
    min_rating: float | None = None,
    repeats: str | None = None,
    name: str = "frame",
) -> Interactions:
    """Interactions from a pandas or Polars frame with one interaction a row.

    Anything with `.columns` and `frame[column]` will do. Arguments, numbering and errors are as for `load`.
    """
    from jaxrec.data import numbering

    options = Options(user, item, rating, timestamp, values, min_rating, repeats)
    return _from(numbering.from_table(numbering.columns_of(frame, name), options, where=name, name=name), options)


def name_of(source: str | os.PathLike[str]) -> str:
    """What `load` calls the data set of a path or a name."""
    if isinstance(source, str) and source in BUNDLED:
        return source
    path = Path(source)
    return _called(_known_file(path) if path.is_dir() else path)


def _from(data: Interactions, options: Options, bundled: str | None = None) -> Interactions:
    """The data with what they were read by: the columns found, and what was asked for."""
    return dataclasses.replace(data, source={"bundled": bundled, **(data.source or {}), **options.asked()})


def _read(path: Path, options: Options, name: str) -> Interactions:
    suffix = path.suffix.lower()
    extra: dict[str, Any] = {}
    if suffix == ".npz":
        return read_npz(path, path.with_name(f"{path.stem}.items.txt.gz"), options, name)
    from jaxrec.data import formats, numbering  # here because importing Polars takes a while

    table: Any
    if path.name == "u.data":
        table = formats.read_u_data(path)
    elif path.name == "train.txt":
        table, extra["split"] = formats.read_lists(path)
    elif suffix in formats.SEPARATORS:
        table = formats.read_delimited(path)
    elif suffix == ".parquet":
        table = formats.read_parquet(path)
    elif suffix == ".dat":
        table = formats.read_colons(path)
    else:
        hint = "unpack it first" if suffix in PACKED else "jaxrec.data.from_frame takes what pandas or Polars read"
        raise InputError(f"{path} has no known ending; what can be read: {FORMATS}; {hint}.")
    columns = table if suffix == ".parquet" else numbering.columns_of(table, str(path))
    return numbering.from_table(
        columns, options, where=str(path), name=name, titles=formats.movie_titles(path), **extra
    )


def _known_file(folder: Path) -> Path:
    for known in KNOWN_FILES:
        if (folder / known).is_file():
            return folder / known
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        raise InputError(f"{folder} is a folder without {', '.join(KNOWN_FILES)} or a single .inter file; name a file.")
    return found[0]


def _called(path: Path) -> str:
    return path.resolve().parent.name if path.name in KNOWN_FILES else path.stem
