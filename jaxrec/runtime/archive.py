"""Arrays of an npz file, each looked at before it is read: what it announces must fit the file, and memory.

`numpy.load` takes room for whatever an archive says it holds; a file of some kilobytes may ask for all memory.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import numpy as np

from jaxrec.runtime.memory import require_memory

# What the zip, gzip and array readers raise on damaged files.
DAMAGE = (ValueError, TypeError, LookupError, EOFError, OSError, SyntaxError, NotImplementedError, RuntimeError)
DAMAGE += (AttributeError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error, RecursionError)
DAMAGE += (tokenize.TokenError,)  # NumPy reads headers as Python writes them
MOST_ARRAYS = 10_000
LONGEST_HEADER = 2**14
PIECE = 2**20
DEFLATED_AT_MOST = 1032  # times smaller than what it stands for, which is the most that the format can do


class Pickled(ValueError):
    """An array is of Python objects, which only code from the file could make."""


class Header(NamedTuple):
    """What an array announces.

    Attributes:
      dtype: of its numbers or text.
      shape: as of NumPy.
      by_columns: whether the first index runs fastest (Fortran's order).
      nbytes: of its content.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    by_columns: bool
    nbytes: int


class Archive:
    """The arrays of an npz file, of which the headers are known and the content is read when asked for.

    Making one raises one of `DAMAGE` if the file is no npz, or no sound one.

    Attributes:
      where: the file's name, for messages.
      headers: what each array announces, by name.
    """

    def __init__(self, file: BinaryIO, where: str):
        self.where = where
        self._zip = zipfile.ZipFile(file)
        members = self._zip.infolist()
        if len(members) > MOST_ARRAYS:
            raise ValueError(f"{len(members)} arrays")
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(set(names)) < len(names):
            raise ValueError("an array that occurs twice")
        self._members = dict(zip(names, members, strict=True))
        self.headers: dict[str, Header] = {name: self._header(name) for name in names}

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """These arrays, of all that are there.

        Raises:
          InputError: they need more memory than is free.
          Exception: one of `DAMAGE`, if the content is not what the headers announce.
        """
        names = [name for name in names if name in self.headers]
        require_memory(sum(self.headers[name].nbytes for name in names), f"{self.where}: its arrays")
        return {name: self._content(name) for name in names}

    def _header(self, name: str) -> Header:
        member = self._members[name]
        if not member.filename.endswith(".npy"):
            raise ValueError(f"{member.filename!r}, which is no array")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError("another compression than deflate")
        times = DEFLATED_AT_MOST if member.compress_type == zipfile.ZIP_DEFLATED else 1
        if member.file_size > times * member.compress_size + PIECE:
            raise ValueError("a size that its content cannot have")
        with self._zip.open(member) as file:
            start = io.BytesIO(file.read(LONGEST_HEADER))
        version = np.lib.format.read_magic(start)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, by_columns, dtype = read(start)
        if dtype.hasobject:
            raise Pickled(name)
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"shape {shape}")
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes != member.file_size - start.tell():
            raise ValueError(f"{member.file_size - start.tell()} bytes where {nbytes} were announced")
        return Header(dtype, shape, by_columns, nbytes)

    def _content(self, name: str) -> np.ndarray:
        """The array; text becomes objects, so that one long piece does not make all the others as wide."""
        header, member = self.headers[name], self._members[name]
        if header.dtype.kind == "U" and len(header.shape) == 1 and header.nbytes:
            return self._text(name)
        array = np.empty(header.shape[::-1] if header.by_columns else header.shape, header.dtype)
        into = array.reshape(-1).view(np.uint8) if header.nbytes else np.empty(0, np.uint8)
        with self._zip.open(member) as file:
            file.seek(member.file_size - header.nbytes)
            done = 0
            while piece := file.read(PIECE):  # the last, empty one checks the sum of all
                into[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
                done += len(piece)
        if done != header.nbytes:
            raise EOFError(name)
        return array.T if header.by_columns else array

    def _text(self, name: str) -> np.ndarray:
        header, member = self.headers[name], self._members[name]
        array, rows = np.empty(header.shape, object), max(1, PIECE // header.dtype.itemsize)
        with self._zip.open(member) as file:
            file.seek(member.file_size - header.nbytes)
            for start in range(0, len(array), rows):
                piece = array[start : start + rows]
                piece[:] = np.frombuffer(file.read(len(piece) * header.dtype.itemsize), header.dtype).tolist()
            file.read(1)  # the end, where the sum of all is checked
        return array
