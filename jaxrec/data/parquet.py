"""What a Parquet file says of itself, read before Polars takes its word for it.

The footer and the headers of pages are structures in Thrift's compact protocol (parquet.thrift of the Apache Parquet
format). Damaged ones make Polars panic, or ask for all memory, at which Rust ends the process.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any, NamedTuple

MAGIC = b"PAR1"
# Types of Thrift's compact protocol.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
DEEPEST = 16  # structures within one another
REPEATED = 2  # of a field in the schema
DATA, INDEX, DICTIONARY, DATA_V2 = range(4)  # kinds of pages
# Where the number of values stands in the header of each kind of page: field of the page, field of its own header.
VALUES_OF = {DATA: (5, 1), DICTIONARY: (7, 1), DATA_V2: (8, 1)}


class Chunk(NamedTuple):
    """A column within a group of rows.

    Attributes:
      start: of its first page in the file.
      size: in bytes, as they lie in the file.
      values: how many there are.
    """

    start: int
    size: int
    values: int


@dataclasses.dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
      content: the file.
      names: of its columns.
      rows: how many there are.
      chunks: of each column that holds one value a row, by name.
    """

    content: bytes
    names: list[str]
    rows: int
    chunks: dict[str, list[Chunk]]

    def column_bytes(self, name: str) -> int:
        """Bytes of the pages of a column, unpacked.

        Raises:
          ValueError: its pages are not what they announce; so do LookupError and TypeError.
        """
        return sum(self._pages(chunk) for chunk in self.chunks[name])

    def _pages(self, chunk: Chunk) -> int:
        at, end, values, unpacked = chunk.start, chunk.start + chunk.size, 0, 0
        while values < chunk.values:
            reader = _Reader(self.content, at, end)
            page = reader.structure()
            kind, size, packed = (_whole(page, field) for field in (1, 2, 3))
            at = reader.at + packed
            if kind == INDEX:
                continue
            outer, inner = VALUES_OF[kind]
            held = _whole(page[outer], inner)
            if at > end or (kind == DICTIONARY and held > size):
                raise ValueError("a page that is not what it announces")
            unpacked += size
            if kind != DICTIONARY:
                values += held
                if held == 0 and packed == 0:
                    raise ValueError("an empty page")
        if values != chunk.values:
            raise ValueError("pages with other values than announced")
        return unpacked


def described(content: bytes) -> Table:
    """What a Parquet file holds, as its footer says.

    Raises:
      ValueError: it is none, or its numbers do not go together; so do LookupError, TypeError and AttributeError.
    """
    if content[:4] != MAGIC or content[-4:] != MAGIC or len(content) < 12:
        raise ValueError("no Parquet file")
    (length,) = struct.unpack("<I", content[-8:-4])
    end = len(content) - 8
    if length > end - 4:
        raise ValueError("a footer longer than the file")
    footer = _Reader(content, end - length, end).structure()
    names, flat = _columns(footer[2])
    if len(set(names)) < len(names):
        raise ValueError("a column that occurs twice")
    rows, chunks = _whole(footer, 3), {name: [] for name in flat}
    for group in footer.get(4, []):
        held = _whole(group, 3)
        found = [_chunk(column[3], held, end - length) for column in group[1]]
        for name, chunk in found:
            if name in chunks:
                chunks[name].append(chunk)
        if held and {name for name, _ in found} < set(flat):
            raise ValueError("a group of rows without some column")
    for name in flat:
        if sum(chunk.values for chunk in chunks[name]) != rows:
            raise ValueError("groups with other rows than the whole")
    return Table(content, names, rows, chunks)


def _columns(schema: list[dict[int, Any]]) -> tuple[list[str], list[str]]:
    """The names of the columns, and of those with one value a row."""
    names, flat, at = [], [], 1
    for _ in range(_whole(schema[0], 5)):
        element, left = schema[at], 1
        name = element[4].decode("utf-8")
        names.append(name)
        if not element.get(5) and element.get(3) != REPEATED:
            flat.append(name)
        while left:  # this element and all within it
            left += (schema[at].get(5) or 0) - 1
            at += 1
    if at != len(schema):
        raise ValueError("a schema with other columns than announced")
    return names, flat


def _chunk(meta: dict[int, Any], rows: int, end: int) -> tuple[str, Chunk]:
    path = meta[3]
    start = min(_whole(meta, 9), meta.get(11) or _whole(meta, 9))
    chunk = Chunk(start, _whole(meta, 7), _whole(meta, 5))
    if chunk.start < 4 or chunk.start + chunk.size > end or (len(path) == 1 and chunk.values != rows):
        raise ValueError("a column outside the file, or with other rows than its group")
    return path[0].decode("utf-8"), chunk


def _whole(structure: dict[int, Any], field: int) -> int:
    """A whole number of at least 0."""
    value = structure[field]
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"field {field} is {value!r}")
    return value


class _Reader:
    """Thrift's compact protocol: structures become dicts by the numbers of fields, strings bytes."""

    def __init__(self, content: bytes, at: int, end: int):
        self.content, self.at, self.end = content, at, end

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """The fields of the structure that begins here."""
        fields: dict[int, Any] = {}
        number = 0
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (I16, I32, I64):
            return self._signed()
        if kind in (BYTE, TRUE, FALSE):
            return self._byte()
        if kind == DOUBLE:
            return self._bytes(8)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == STRUCT:
            return self.structure(depth)
        if kind in (LIST, SET):
            head = self._byte()
            size = self._room(head >> 4 if head >> 4 != 15 else self._varint())
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        if kind == MAP:
            size = self._room(self._varint())
            kinds = self._byte() if size else 0
            return [(self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1)) for _ in range(size)]
        raise ValueError(f"type {kind}")

    def _room(self, size: int) -> int:
        if size > self.end - self.at:  # each takes a byte at least
            raise ValueError("a list longer than what holds it")
        return size

    def _byte(self) -> int:
        if self.at >= self.end:
            raise ValueError("cut short")
        self.at += 1
        return self.content[self.at - 1]

    def _bytes(self, size: int) -> bytes:
        self.at += self._room(size)
        return self.content[self.at - size : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number beyond 64 bits")

    def _signed(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
