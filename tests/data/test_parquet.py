"""What is read of a Parquet file before Polars sees it."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reader_files import refused, table, triples, write_parquet

from jaxrec.data import load, parquet
from jaxrec.runtime import memory


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "zstd", "gzip", "lz4"])
@pytest.mark.parametrize("group", [None, 2])
@pytest.mark.parametrize("statistics", [True, False])
def test_names_and_rows(compression, group, statistics, tmp_path):
    path = tmp_path / "x.parquet"
    table().write_parquet(path, compression=compression, row_group_size=group, statistics=statistics)
    found = parquet.described(path.read_bytes())
    assert found.names == table().columns and found.rows == 6
    for name in found.names:
        assert found.column_bytes(name) > 6


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_files_of_arrow(version, dictionary, tmp_path):
    made = pa.table({"user": ["a", "b", None] * 500, "item": list(range(1500)), "list": [[1, 2]] * 1500})
    pq.write_table(
        made, tmp_path / "x.parquet", data_page_version=version, use_dictionary=dictionary, data_page_size=99
    )
    found = parquet.described((tmp_path / "x.parquet").read_bytes())
    assert found.names == ["user", "item", "list"] and found.rows == 1500 and list(found.chunks) == ["user", "item"]
    assert found.column_bytes("item") > 1500
    assert "'user' is empty in row 3" in refused(tmp_path / "x.parquet")
    assert "holds lists or structures" in refused(tmp_path / "x.parquet", item="list")


def test_columns_that_nobody_asked_for_are_not_read(tmp_path):
    whole = table().with_columns(text=pl.lit("x" * 100))
    whole.write_parquet(tmp_path / "x.parquet", compression="uncompressed")
    raw = bytearray((tmp_path / "x.parquet").read_bytes())
    start = parquet.described(bytes(raw)).chunks["text"][0].start
    raw[start : start + 20] = b"\xff" * 20
    (tmp_path / "x.parquet").write_bytes(raw)
    assert load(tmp_path / "x.parquet").nnz == 6
    assert "no readable Parquet file" in refused(tmp_path / "x.parquet", values="text")


def test_one_long_text_for_all_rows(tmp_path):
    """A few kilobytes that stand for gigabytes."""
    long, rows = "x" * 200_000, 20_000
    same = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([long]))
    for users in (same, pa.array([long] * 100)):
        pq.write_table(pa.table({"user": users, "item": range(len(users))}), tmp_path / "x.parquet")
        assert "column 'user' holds more than 10,000 letters in row 1" in refused(tmp_path / "x.parquet")


def test_categories_are_text(tmp_path):
    made = pl.DataFrame({"user": ["b ", "a", "b "], "item": [1, 2, 3]}).with_columns(
        pl.col("user").cast(pl.Categorical)
    )
    made.write_parquet(tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet").user_ids.tolist() == ["a", "b"]


def test_more_rows_than_there_is_memory_for(tmp_path, monkeypatch):
    path = write_parquet(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda device=None: 300)
    assert "6 rows of the column" in refused(path) and "need" in refused(path)


@pytest.mark.parametrize("huge", [2**31 - 1, 2**40, 2**63 - 1])
def test_numbers_that_lie(huge, tmp_path):
    """Every place of the footer and of the pages in turn, as if it were a number, made huge."""
    path = write_parquet(tmp_path)
    raw = path.read_bytes()
    end = len(raw) - 8
    start = end - int.from_bytes(raw[-8:-4], "little")
    number = varint(2 * huge)
    for at in np.unique(np.linspace(4, end - 1, 25).astype(int)).tolist():
        content = raw[:at] + number + raw[at + 1 : end]
        length = end - start + (len(number) - 1 if at >= start else 0)
        path.write_bytes(content + length.to_bytes(4, "little") + b"PAR1")
        try:
            found = load(path, repeats="last")
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert found.nnz <= 6


def test_nanoseconds_keep_their_order(tmp_path):
    times = pl.Series([3, 1, 2]).cast(pl.Datetime("ns"))
    made = pl.DataFrame({"user": [1, 1, 1], "item": [7, 8, 9], "timestamp": times})
    made.write_parquet(tmp_path / "x.parquet")
    assert [time for _, time in triples(load(tmp_path / "x.parquet")).values()] == [3, 1, 2]
