"""Npz files whose headers claim what they cannot hold, and what is read of them."""

import io
import zipfile

import numpy as np
import pytest

from jaxrec import InputError
from jaxrec.runtime import memory
from jaxrec.runtime.archive import DAMAGE, Archive, Pickled


def archive(compression=zipfile.ZIP_DEFLATED, **members):
    """An archive of arrays, or of bytes as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in members.items():
            if not isinstance(content, bytes):
                inner = io.BytesIO()
                np.save(inner, content)
                content = inner.getvalue()
            made.writestr(f"{name}.npy", content)
    return file


def header(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little") + text.encode()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.zeros((0, 3)),
        np.array(5),
        np.array("text"),
        np.arange(3, dtype=">i4"),
        np.arange(300_000),
    ],
    ids=str,
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_come_back(array, compression):
    found = Archive(archive(compression, a=array), "x").read(["a", "missing"])
    assert list(found) == ["a"] and found["a"].dtype == array.dtype
    np.testing.assert_array_equal(found["a"], array)
    assert found["a"].flags.f_contiguous == array.flags.f_contiguous


def test_text_becomes_objects_a_piece_at_a_time():
    text = np.array(["a", "é" * 3000, "", "七人"] * 100)
    found = Archive(archive(a=text), "x").read(["a"])["a"]
    assert found.dtype == object and found.tolist() == text.tolist()


@pytest.mark.parametrize(
    "members",
    [
        {"a": header("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,), }\n")},
        {"a": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n") + bytes(8)},
        {"a": header("{'descr': '<U1000000000', 'fortran_order': False, 'shape': (1,), }\n")},
        {"a": header("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 300 + ")" * 300 + ", }\n")},
        {"a": header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n") + bytes(9)},
        {"a": header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n", b"\x03\x00") + bytes(8)},
        {"a": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(20_000)},
        {"a": b"no array"},
    ],
)
def test_headers_that_lie(members):
    with pytest.raises(DAMAGE):
        Archive(archive(**members), "x")


def test_objects_are_never_unpickled():
    with pytest.raises(Pickled):
        Archive(archive(a=header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n")), "x")


def test_a_member_twice_and_other_compressions():
    file = archive(a=np.arange(3))
    with zipfile.ZipFile(file, "a") as more, pytest.warns(UserWarning, match="Duplicate"):
        more.writestr("a.npy", b"again")
    with pytest.raises(ValueError, match="twice"):
        Archive(file, "x")
    with pytest.raises(NotImplementedError):
        Archive(archive(zipfile.ZIP_BZIP2, a=np.arange(3)), "x")


def test_a_size_that_the_content_cannot_have():
    """The directory of an archive claims 2 GB for a hundred bytes."""
    shape = 2**28 - 16
    content = header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape},), }}".ljust(117) + "\n")
    file = archive(a=content + bytes(100))
    size = len(content) + 100
    claimed = len(content) + 8 * shape
    raw = file.getvalue().replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little"))
    assert raw != file.getvalue()
    with pytest.raises(ValueError, match="cannot have"):
        Archive(io.BytesIO(raw), "x")


def test_a_wrong_checksum():
    raw = bytearray(archive(zipfile.ZIP_STORED, a=np.arange(100), b=np.array(["x"] * 9)).getvalue())
    for name, text in (("a", np.int64(50).tobytes()), ("b", b"x\0\0\0" * 5)):
        broken = bytes(raw).replace(text, b"\7" + text[1:], 1)
        with pytest.raises(DAMAGE):
            Archive(io.BytesIO(broken), "x").read([name])


def test_more_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device=None: 1000)
    found = Archive(archive(a=np.zeros(100), b=np.zeros(1000)), "some file")
    assert found.read(["a"])["a"].size == 100
    with pytest.raises(InputError, match=r"some file: its arrays need .* where"):
        found.read(["a", "b"])
