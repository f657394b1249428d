"""Bad files: the one sentence with which each is refused."""

import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader_files import (
    TEXT_WRITERS,
    refused,
    table,
    write_csv,
    write_dat,
    write_inter,
    write_npz,
    write_parquet,
    write_tsv,
    write_u_data,
)

from jaxrec import InputError
from jaxrec.data import load

# Damage that any file can suffer


@pytest.mark.parametrize("source", ["nothing.csv", "msweb2", "no/where/train.txt"])
def test_missing_file(source):
    assert re.match(r"there is no file .*bundled data set.*\(msweb, redial\)\.", refused(source))


@pytest.mark.parametrize("source", [3, None, table()])
def test_not_a_path(source):
    assert "wanted a path or a name" in refused(source)


def test_folder_without_known_files(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "is a folder without train.txt" in refused(tmp_path)


@pytest.mark.parametrize("name", ["data.xlsx", "data", "data.txt", "data.csv.bak"])
def test_unknown_ending(name, tmp_path):
    (tmp_path / name).write_text("user,item\n1,1\n")
    assert f"{tmp_path / name} has no known ending; what can be read: .npz, .csv" in refused(tmp_path / name)


@pytest.mark.parametrize(("name", "said"), [("x.csv.gz", "unpack it first"), ("x.json", "jaxrec.data.from_frame")])
def test_an_unknown_ending_says_what_helps(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    assert said in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user;item\n1;2\n", "it seems to be separated by ';'"),
        ("user\titem\n1\t2\n", r"it seems to be separated by '\t'"),
        ("1,2,3\n1,3,4\n", "its first row seems to be no header"),
    ],
)
def test_a_table_of_another_form_says_what_helps(text, said, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    assert said in refused(tmp_path / "x.csv")


ALL_NAMES = ["x.npz", "x.csv", "x.tsv", "x.parquet", "x.inter", "x.dat", "u.data", "train.txt", "ratings.csv"]


@pytest.mark.parametrize("name", ALL_NAMES)
def test_empty_file(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    assert refused(tmp_path / name) == f"{tmp_path / name} is empty."


@pytest.mark.parametrize("name", ALL_NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_binary_garbage(name, seed, tmp_path):
    garbage = np.random.default_rng(seed).bytes(1000)
    if seed == 1:
        garbage = b"PK\x03\x04" + garbage
    if seed == 2:
        garbage = b"PAR1" + garbage + b"PAR1"
    if seed == 3:
        garbage = garbage.replace(b"\0", b"")
    (tmp_path / name).write_bytes(garbage)
    assert str(tmp_path / name) in refused(tmp_path / name)


@pytest.mark.parametrize("write", [write_npz, write_parquet])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_binary_file(write, part, tmp_path):
    path = write(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(part * len(raw))])
    assert f"{path} is no readable" in refused(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
@pytest.mark.parametrize("write", [write_npz, write_parquet])
def test_damaged_byte_is_refused_or_harmless(write, at, byte, tmp_path):
    path = write(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[int(at * len(raw))] = byte
    path.write_bytes(bytes(raw))
    try:
        load(path, repeats="last")
    except InputError as error:
        assert str(path) in str(error)


DAMAGED = """
    import os, sys, threading, warnings
    from pathlib import Path
    from jaxrec import InputError
    from jaxrec.data import load

    warnings.simplefilter("ignore")
    if sys.argv[2] == "closed":
        os.close(2)
    refused = 0

    def read(path):
        global refused
        try:
            load(path)
        except InputError as error:
            assert "\\n" not in str(error) and "panic" not in str(error), str(error)
            refused += 1

    threads = [threading.Thread(target=read, args=[path]) for path in Path(sys.argv[1]).glob("*.parquet")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(threads), refused)
    if sys.argv[2] != "closed":
        os.write(2, b"still here")
"""


@pytest.mark.parametrize(
    ("settings", "stderr"),
    [({}, "open"), ({"RUST_BACKTRACE": "full"}, "open"), ({"POLARS_MAX_THREADS": "1"}, "open"), ({}, "closed")],
    ids=str,
)
def test_damaged_parquet_says_one_sentence_and_nothing_of_rust(settings, stderr, tmp_path, rng):
    """Polars panics on some of these files, and Rust writes of it to standard error before Python hears of it."""
    n = 5000
    table = {"user": rng.integers(0, 900, n), "item": [f"film {i}" for i in rng.integers(0, 300, n)]}
    raw = {}
    for kind in ("zstd", "snappy", "uncompressed"):
        pl.DataFrame(table).write_parquet(tmp_path / "whole", compression=kind)
        raw[kind] = (tmp_path / "whole").read_bytes()
    for number in range(20):
        content = np.frombuffer(raw[list(raw)[number % 3]], np.uint8).copy()
        footer = len(content) - 8 - int.from_bytes(content[-8:-4].tobytes(), "little")
        end = len(content) - 8
        damage = {0: (4, end, end // 50), 1: (4, footer, 5), 2: (footer, end, 4), 3: (footer, end, 40)}
        if number % 5 in damage:  # bytes anywhere, in the pages, in what describes them; else a piece is cut out
            at = rng.integers(*damage[number % 5])
            content[at] = rng.integers(256, size=len(at))
        else:
            first, last = np.sort(rng.integers(4, len(content) - 8, 2))
            content = np.delete(content, slice(first, last))
        (tmp_path / f"{number}.parquet").write_bytes(content.tobytes())
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DAMAGED), tmp_path, stderr],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == ("still here" if stderr == "open" else ""), done.stderr[:2000]
    read, refused = map(int, done.stdout.split())
    assert read == 20 and refused >= 10


def test_other_words_on_standard_error_come_through_while_a_file_is_read(tmp_path, capfd, monkeypatch):
    def read(*args, **kwargs):
        os.write(2, b"from another thread")
        return real(*args, **kwargs)

    real = pl.read_csv
    monkeypatch.setattr(pl, "read_csv", read)
    load(write_csv(tmp_path))
    assert capfd.readouterr().err == "from another thread"


@pytest.mark.parametrize("write", [write_csv, write_tsv, write_inter])
def test_header_only(write, tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert f"{path} is empty: it has a header and no rows" in refused(path)


def test_parquet_without_rows(tmp_path):
    table().clear().write_parquet(tmp_path / "x.parquet")
    assert "has columns and no rows" in refused(tmp_path / "x.parquet")


@pytest.mark.parametrize("write", [write_csv, write_tsv, write_inter, write_parquet])
@pytest.mark.parametrize("lost", ["user", "item"])
def test_missing_column(write, lost, tmp_path):
    path = write(tmp_path)
    if write is write_parquet:
        table().drop({"user": "userId", "item": "movieId"}[lost]).write_parquet(path)
    else:
        path.write_text(re.sub({"user": "(?i)user", "item": "(?i)item|movie"}[lost], "q", path.read_text()))
    sentence = refused(path)
    assert f"{path}: no column is known to hold the {lost}; name it with {lost}=, the columns are" in sentence
    assert "rating" in sentence or "Stars" in sentence


@pytest.mark.parametrize("write", TEXT_WRITERS)
@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({"user": "-4"}, "ids must not be negative, got -4"),
        ({"item": "-4"}, "ids must not be negative, got -4"),
        ({"rating": "good"}, "holds 'good' in row 4, wanted a number"),
        ({"rating": "inf"}, "holds 'inf' in row 4, wanted a number"),
        ({"rating": "NaN"}, "in row 4|row 4 has no rating"),
        ({"rating": ""}, "in row 4|row 4 has no rating|not separated by '::'"),
        ({"user": ""}, "in row 4|row 4 has no user|not separated by '::'"),
        ({"user": "nan"}, "in row 4|row 4 has no user"),
        ({"item": ""}, "in row 4|row 4 has no movie|not separated by '::'"),
        ({"time": "noon"}, "holds 'noon' in row 4, wanted a number"),
        ({"user": "3.5"}, "ids must be integers or text, got 3.5"),
        ({"item": "8.0"}, "ids must be integers or text, got 8.0"),
    ],
)
def test_one_bad_field(write, new, said, tmp_path):
    path = write(tmp_path)
    lines = path.read_text().splitlines()
    row = 4 if write in (write_csv, write_tsv, write_inter) else 3
    separator = {".csv": ",", ".dat": "::"}.get(path.suffix, "\t")
    fields = dict(zip(("user", "item", "rating", "time"), lines[row].split(separator), strict=True)) | new
    lines[row] = separator.join(fields.values())
    path.write_text("\n".join(lines) + "\n")
    sentence = refused(path, values="rating", min_rating=0)
    assert re.search(said, sentence) and str(path) in sentence


@pytest.mark.parametrize("write", TEXT_WRITERS)
@pytest.mark.parametrize("last", ["more", "fewer"])
def test_ragged_rows(write, last, tmp_path):
    path = write(tmp_path)
    separator = {".csv": ",", ".dat": "::"}.get(path.suffix, "\t")
    path.write_text(path.read_text() + (separator.join("12345") if last == "more" else separator.join("12")) + "\n")
    sentence = refused(path)
    assert str(path) in sentence and ("ragged" in sentence or "empty in row 7" in sentence)


def test_dat_with_other_separators(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("1:x:2:x:3:x:4\n")
    assert "row 1 is not separated by '::' throughout" in refused(path)
    path.write_text("1::2::3::4\n1:2::3::4\n")
    assert "ratings.dat" in refused(path)
    path.write_text("1,2,3,4\n")
    assert "the first row has 1 fields where user, item, rating and time separated by '::'" in refused(path)


@pytest.mark.parametrize("write", TEXT_WRITERS)
def test_wrong_encoding(write, tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_text().replace("300", "\xe9t\xe9").encode("latin-1"))
    assert f"{path} is not UTF-8 text" in refused(path)
    path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16"))
    assert f"{path} is not UTF-8 text but binary" in refused(path)


def test_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = write_csv(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).nnz == 6


@pytest.mark.parametrize("write", [write_csv, write_tsv, write_parquet, write_dat, write_u_data, write_inter])
def test_repeated_rows_refused_on_request(write, tmp_path):
    path = write(tmp_path)
    if write is write_parquet:
        pl.concat([table(), table()]).write_parquet(path)
    else:
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines, lines[-1]]) + "\n")
    sentence = refused(path, repeats="error")
    assert "rows repeat a (user, item) pair" in sentence and str(path) in sentence
