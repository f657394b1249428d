"""Files that are odd rather than broken: names with brackets, long texts, many columns, old line ends, bombs."""

import gzip
import os
import time
import zipfile

import numpy as np
import polars as pl
import pytest
from reader_files import TEXT_WRITERS, WRITERS, refused, triples, write_csv, write_npz, write_parquet

from jaxrec.data import load
from jaxrec.runtime.archive import Archive


@pytest.mark.parametrize("name", ["data[1]", "da*ta", "data?", "[a-z]", "**"])
@pytest.mark.parametrize("write", WRITERS)
def test_names_are_no_patterns(write, name, tmp_path):
    path = write(tmp_path)
    there, decoys = tmp_path / name, [tmp_path / "data1", tmp_path / "data", tmp_path / "a"]
    for folder in (there, *decoys):
        folder.mkdir()
    for folder in decoys:  # what the pattern would find
        (folder / path.name).write_bytes(b"user,item\n77,77\n")
    same = load(path)
    inside = path.rename(there / path.name)
    assert triples(load(inside)) == triples(same)
    if path.name not in ("u.data", "ratings.dat", "ratings.csv"):
        renamed = inside.rename(tmp_path / (name + path.suffix))
        (tmp_path / ("data1" + path.suffix)).write_bytes(b"user,item\n77,77\n")
        assert triples(load(renamed)) == triples(same)


def test_a_pattern_that_fits_no_file(tmp_path):
    write_csv(tmp_path)
    assert "there is no file" in refused(tmp_path / "*.csv")


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    write_csv(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "got an empty text; the current folder is '.'" in refused("")
    assert load(".").nnz == 6


@pytest.mark.parametrize("write", TEXT_WRITERS)
@pytest.mark.parametrize("ends", [["\r"], ["\r\n"], ["\n", "\r\n", "\r"]], ids=repr)
def test_line_ends(write, ends, tmp_path):
    path = write(tmp_path)
    same = triples(load(path))
    lines = path.read_text().splitlines()
    path.write_bytes("".join(line + ends[row % len(ends)] for row, line in enumerate(lines)).encode())
    assert triples(load(path)) == same


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_line_ends_of_lists_and_titles(end, tmp_path):
    (tmp_path / "train.txt").write_bytes(f"0 1 2{end}1 3 4{end}".encode())
    data = load(tmp_path)
    assert data.user_ids.tolist() == [0, 1] and data.items.ids[data.indices].tolist() == [1, 2, 3, 4]
    path = write_npz(tmp_path)
    (tmp_path / "data.items.txt.gz").write_bytes(gzip.compress(end.join(["a", "b", "c", "d", ""]).encode()))
    assert load(path).items.titles.tolist() == ["a", "b", "c", "d"]


def test_a_quote_that_is_closed_much_later(tmp_path):
    rows = [f"u{i},i{i % 9}" for i in range(3000)]
    rows[10], rows[2500] = f'"{rows[10]}', f'{rows[2500]}"'
    (tmp_path / "x.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    assert "column 'user' holds more than 10,000 letters in row 11" in refused(tmp_path / "x.csv")


@pytest.mark.parametrize("letters", [10_000, 10_001])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_long_ids(letters, letter, tmp_path):
    (tmp_path / "x.csv").write_text(f"user,item\na,1\n{letter * letters},2\n", "utf-8")
    if letters > 10_000:
        assert "more than 10,000 letters in row 2" in refused(tmp_path / "x.csv")
    else:
        ids = load(tmp_path / "x.csv").user_ids
        assert ids.dtype == object and sorted(map(len, ids)) == [1, letters]


def test_ids_that_differ_by_a_nul(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"user,item\n" + b"a,1\n" * 20_000 + b"a\0,1\n")
    assert load(tmp_path / "x.csv", repeats="last").user_ids.tolist() == ["a", "a\0"]


def test_many_columns_take_no_long_time(tmp_path):
    names = ["user", "item", *(f"c{i}" for i in range(20_000))]
    (tmp_path / "x.csv").write_text(",".join(names) + "\n" + ",".join("1" * len(names)) + "\n")
    begun = time.process_time()
    assert load(tmp_path / "x.csv").nnz == 1
    assert time.process_time() - begun < 5
    (tmp_path / "x.csv").write_text("," * 200_000)
    assert "200,001 fields, where at most 100,000" in refused(tmp_path / "x.csv")


@pytest.mark.parametrize("header", ["user,user,item", "user,item,item", "user,x,x,item"])
def test_a_name_twice(header, tmp_path):
    (tmp_path / "x.csv").write_text(f"{header}\n1,2,3,4\n"[: None if header.count(",") == 3 else -3] + "\n")
    assert "occurs more than once" in refused(tmp_path / "x.csv")
    (tmp_path / "x.inter").write_text("user_id:token\tuser_id:float\titem_id:token\n1\t2\t3\n")
    assert "the column 'user_id' occurs more than once" in refused(tmp_path / "x.inter")


@pytest.mark.parametrize("date", ["01/02/2020", "1.2.2020", "31-12-20"])
def test_dates_whose_month_is_not_known(date, tmp_path):
    (tmp_path / "x.csv").write_text(f"user,item,date\na,1,{date}\n")
    assert f"holds '{date}' in row 1, of which day and month cannot be told apart" in refused(tmp_path / "x.csv")


@pytest.mark.parametrize("time", ["1e300", "18446744073709551616.5", "1e999"])
def test_times_beyond_64_bits(time, tmp_path):
    (tmp_path / "x.csv").write_text(f"user,item,time\na,1,{time}\n")
    assert "x.csv" in refused(tmp_path / "x.csv")


@pytest.mark.parametrize("value", ["0", "1e-46"])
def test_values_of_which_nothing_is_left(value, tmp_path):
    (tmp_path / "x.csv").write_text(f"user,item,rating\na,1,{value}\n")
    assert "x.csv" in refused(tmp_path / "x.csv", values="rating")
    path = write_npz(tmp_path, rating=[float(value)] * 6)
    assert str(path) in refused(path, values="rating")


@pytest.mark.parametrize("size", ["n_users", "n_items"])
def test_sizes_that_a_small_file_cannot_mean(size, tmp_path):
    path = write_npz(tmp_path, user_ids=None, item_ids=None, **{size: 2**31 - 1})
    assert "is too many for 6 interactions" in refused(path)
    path = write_npz(tmp_path, user_ids=None, item_ids=None, **{size: 2**40})
    assert "must be below 2^31" in refused(path)


def test_times_of_arrays_beyond_64_bits(tmp_path):
    for times in (np.array([2**63 + 5] * 6, np.uint64), np.array([1e300] * 6)):
        assert "must be below 2^63" in refused(write_npz(tmp_path, timestamp=times))


def test_only_known_arrays_are_read(tmp_path, monkeypatch):
    read = []
    content = Archive._content
    monkeypatch.setattr(Archive, "_content", lambda self, name: read.append(name) or content(self, name))
    assert load(write_npz(tmp_path, hours=np.ones(6), unused=np.zeros(9))).nnz == 6
    known = {"user", "item", "n_users", "n_items", "user_ids", "item_ids", "timestamp"}
    assert set(read) == known and len(read) == len(known)


def test_a_member_twice(tmp_path):
    path = write_npz(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("user.npy", b"x")
    assert "no readable .npz file" in refused(path)


def test_titles_that_unpack_to_more_than_titles_can_be(tmp_path):
    path = write_npz(tmp_path)
    (tmp_path / "data.items.txt.gz").write_bytes(gzip.compress(b"a" * 5_000_000))
    assert "unpacks to more than 1,052,576 bytes, which 4 titles are not" in refused(path)


def test_a_scipy_matrix_of_odd_arrays(tmp_path):
    whole = {"format": b"csr", "shape": [2, 3], "data": [1.0], "indices": [0], "indptr": [0, 1, 1]}
    for changed in ({"format": 3}, {"shape": [2, 2**31 + 5]}, {"shape": [2**31 - 1, 3]}, {"indices": [2**40]}):
        np.savez(tmp_path / "x.npz", **(whole | changed))
        assert "x.npz" in refused(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.csv", "x.npz", "x.parquet", "u.data", "train.txt", "ratings.dat"])
def test_pipes_and_devices_are_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    assert "there is no file" in refused(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert "there is no file" in refused(tmp_path / name)


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_npz])
def test_what_needs_more_memory_than_there_is(write, tmp_path, monkeypatch):
    path = write(tmp_path)
    monkeypatch.setattr("jaxrec.runtime.memory.available_bytes", lambda device=None: 50)
    sentence = refused(path)
    assert str(path) in sentence and "GB are free" in sentence


def test_times_that_no_calendar_knows(tmp_path):
    """Polars gives up on them, or wraps around."""
    for times in (pl.Series([2**62]).cast(pl.Datetime("ms")), pl.Series([-(2**62)]).cast(pl.Datetime("ms"))):
        pl.DataFrame({"user": ["a"], "item": ["b"], "timestamp": times}).write_parquet(tmp_path / "x.parquet")
        assert "holds times beyond 64 bits" in refused(tmp_path / "x.parquet")
