"""Files of JSON, packed by gzip or not: read a line at a time, and refused in one sentence where they are damaged."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from jaxrec._checks import InputError
from jaxrec.runtime.archive import DAMAGE
from jaxrec.runtime.files import regular
from jaxrec.runtime.memory import require_memory

LONGEST_LINE = 2**24  # bytes
MOST_BYTES = 2**33  # of a file, unpacked
AT_ONCE = 2**26  # bytes, after which memory is looked at
OBJECT_BYTES = 8  # of memory that a byte of JSON takes as Python's objects


@contextlib.contextmanager
def unpacked(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """The content of a file, unpacked if it begins as gzip does.

    Raises:
      InputError: it cannot be opened.
    """
    try:
        with regular(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield gzip.open(file) if packed else file  # pyright: ignore[reportReturnType]
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile) or error.errno is None:
            raise InputError(f"{path} is truncated or damaged: it cannot be unpacked.") from None
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def json_lines(path: str | os.PathLike) -> Iterator[tuple[int, Any]]:
    """The number, from 1, and the value of each line that is not empty.

    Raises:
      InputError: the file cannot be read, is damaged, has a line that is no JSON, or one that is longer than
        `LONGEST_LINE`.
    """
    for number, line in text_lines(path):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            split = line.strip() in ("[", "{")
            why = "write each conversation on one line" if split else "the file is damaged, or of another format"
            raise InputError(f"{path}: line {number} is no JSON{' by itself' * split}; {why}.") from None


def text_lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """The number, from 1, and the text of each line that is not empty, as of `json_lines`."""
    done = looked_at = number = 0
    with unpacked(path) as file:
        while True:
            number += 1
            try:
                line = file.readline(LONGEST_LINE + 1)
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
            except UnicodeDecodeError:
                raise InputError(f"{path}: line {number} is no text in UTF-8.") from None
            except DAMAGE:
                raise InputError(f"{path} is truncated or damaged: it ends within line {number}.") from None
            if not line:
                return
            done += len(line)
            if len(line) > LONGEST_LINE or done > MOST_BYTES:
                most = f"line {number} has" if len(line) > LONGEST_LINE else "it unpacks to"
                limit = LONGEST_LINE if len(line) > LONGEST_LINE else MOST_BYTES
                raise InputError(f"{path}: {most} more than {limit:,} bytes, which no dialogues have.")
            if done - looked_at > AT_ONCE:
                require_memory(OBJECT_BYTES * AT_ONCE, f"{path}: its next lines")
                looked_at = done
            if text.strip():
                yield number, text


def json_document(path: str | os.PathLike, most: int = 2**28) -> Any:
    """The value of a file that is one JSON text.

    Raises:
      InputError: the file cannot be read, is damaged, is no JSON, or unpacks to more than `most` bytes.
    """
    with unpacked(path) as file:
        try:
            content = io.BytesIO(file.read(most + 1)).getvalue()
        except DAMAGE:
            raise InputError(f"{path} is truncated or damaged: it cannot be unpacked.") from None
    if len(content) > most:
        raise InputError(f"{path} unpacks to more than {most:,} bytes.")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no JSON; it is damaged, or of another format.") from None
