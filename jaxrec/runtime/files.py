"""Files written in one step: killed at any moment, the old one or the new one is there, never half of one."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxrec._checks import InputError


def check_file_target(path: str | os.PathLike) -> None:
    """Refuses a file name that could not be written to, or stands for a device or a pipe, which would be replaced."""
    check_parent(Path(os.path.realpath(path)))
    if Path(path).is_dir():
        raise InputError(f"{path or '.'} is a folder; give the name of a file.")
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f"{path} is a device or a pipe; give the name of a file.")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as strictly valid JSON, in one step: the file is the old one or the new one, never half of one.

    Dataclasses become objects, enumerations their values, NumPy's scalars and arrays numbers and lists, and numbers
    that are not finite strings ("nan", "inf"), for which JSON has no number. A symbolic link is followed.
    """
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8 in one step, like `write_json`."""
    check_file_target(path)
    with replacing(path) as file:
        file.write(text.encode())


def check_parent(path: Path) -> None:
    """Refuses a path in a folder that does not exist or cannot be written to."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {parent}; create it first.")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path} cannot be written: no permission to write to {parent}.")


@contextlib.contextmanager
def regular(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file opened for reading, which is a regular one: a pipe or a device might never end.

    Raises:
      InputError: it is none.
      OSError: it cannot be opened.
    """
    # Opened first and looked at then, so that it cannot become another meanwhile; a pipe would else be waited for.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path} is a folder, a device or a pipe; give a file.")
    with open(handle, "rb") as file:
        yield file


def read_json(path: str | os.PathLike, at_most: int = 2**24) -> Any:
    """What a JSON file says.

    Args:
      path: a regular file.
      at_most: how many bytes it may have.

    Raises:
      InputError: it is no regular file, or larger.
      ValueError: it is no JSON in UTF-8, or nested too deeply.
      OSError: it cannot be read.
    """
    with regular(path) as file:
        text = file.read(at_most + 1)
    if len(text) > at_most:
        raise InputError(f"{path} is larger than {at_most:,} bytes, which no such file of this library is.")
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike, unfinished_name: str | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` at the end, on the disk; if the body fails, the old one stays.

    Args:
      path: a symbolic link is followed.
      unfinished_name: what the new file is called until then, so that one that a killed process left is written over;
        default a new name each time.
    """
    path = Path(os.path.realpath(path))
    with naming(path), temporary(path.parent, unfinished_name) as unfinished:
        with open(unfinished, "wb") as file:
            yield file
            flush(file)
        os.replace(unfinished, path)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has what the system refuses, such as to write on a full disk, name `path`, which is what the caller asked for."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def temporary(folder: Path, name: str | None = None) -> Iterator[Path]:
    """A path in `folder`, by default of a new name; the file written to it is gone at the end unless it was renamed."""
    path = folder / (name or f".tmp-{secrets.token_hex(8)}")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def flush(file: BinaryIO) -> None:
    """Has the file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def storable(array: Any) -> tuple[np.ndarray, str]:
    """The array in a type that npz keeps, and its true type: bfloat16 and its like are stored as unsigned integers."""
    array = np.asarray(array)
    array = array.astype(str) if array.dtype.kind in "OT" else array
    extension = array.dtype.isbuiltin == 2  # NumPy's mark of a type that another package registered
    return array.view(f"u{array.dtype.itemsize}") if extension else array, str(array.dtype)


def plain(value: Any) -> Any:
    """`value` in JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
