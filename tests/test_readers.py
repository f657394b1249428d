"""Every reader: what it must return, and the one sentence with which it refuses bad input."""

import gzip
import pickle
import re
import shutil
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrec import InputError, Interactions
from jaxrec.data import from_frame, load

# The same six interactions in every format: ids in no order, 10 after 9 by number, before it as text.
USERS = [10, 9, 10, 300, 9, 10]
ITEMS = [7, 7, 50, 8, 1, 8]
RATINGS = [5, 3, 1, 4, 2, 4]
TIMES = [60, 50, 40, 30, 20, 10]


def table():
    return pl.DataFrame({"userId": USERS, "movieId": ITEMS, "rating": RATINGS, "timestamp": TIMES})


def joined(separator, header=""):
    rows = zip(USERS, ITEMS, RATINGS, TIMES, strict=True)
    return header + "".join(separator.join(map(str, row)) + "\n" for row in rows)


def write_csv(folder):
    (folder / "ratings.csv").write_text(joined(",", "userId,movieId,rating,timestamp\n"))
    return folder / "ratings.csv"


def write_tsv(folder):
    (folder / "data.tsv").write_text(joined("\t", "User_ID\titem id\tStars\tTime\n"))
    return folder / "data.tsv"


def write_parquet(folder):
    table().write_parquet(folder / "data.parquet")
    return folder / "data.parquet"


def write_dat(folder):
    (folder / "ratings.dat").write_text(joined("::"))
    return folder / "ratings.dat"


def write_u_data(folder):
    (folder / "u.data").write_text(joined("\t"))
    return folder / "u.data"


def write_inter(folder):
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (folder / "data.inter").write_text(joined("\t", header))
    return folder / "data.inter"


def write_npz(folder, **changed):
    user_ids, users = np.unique(USERS, return_inverse=True)
    item_ids, items = np.unique(ITEMS, return_inverse=True)
    arrays = {"user": users, "item": items, "n_users": 3, "n_items": 4, "rating": RATINGS, "timestamp": TIMES}
    arrays |= {"user_ids": user_ids, "item_ids": item_ids} | changed
    np.savez(folder / "data.npz", **{key: array for key, array in arrays.items() if array is not None})
    return folder / "data.npz"


WRITERS = [write_csv, write_tsv, write_parquet, write_dat, write_u_data, write_inter, write_npz]
TEXT_WRITERS = [write_csv, write_tsv, write_dat, write_u_data, write_inter]


def refused(path, **options):
    """The sentence `path` is refused with."""
    with warnings.catch_warnings(), pytest.raises(InputError) as caught:
        warnings.simplefilter("error")
        load(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".") and len(sentence) < 700
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return sentence


def triples(data):
    """{(user id, item id): (value, time)}."""
    users = data.user_ids[data.user_of_entry].tolist()
    items = data.items.ids[data.indices].tolist()
    times = [None] * data.nnz if data.timestamps is None else data.timestamps.tolist()
    return dict(zip(zip(users, items, strict=True), zip(data.values.tolist(), times, strict=True), strict=True))


# What comes out


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same(write, tmp_path):
    path = write(tmp_path)
    data = load(path)
    assert data.shape == (3, 4)
    assert data.user_ids.tolist() == [9, 10, 300] and data.items.ids.tolist() == [1, 7, 8, 50]
    assert data.indices[data.indptr[1] : data.indptr[2]].tolist() == [1, 3, 2]  # user 10, in the order of the file
    assert data.timestamps[data.indptr[1] : data.indptr[2]].tolist() == [60, 40, 10]
    assert data.is_binary and data.split is None and data.items.titles is None

    assert triples(load(path, values="rating")) == {
        (u, i): (r, t) for u, i, r, t in zip(USERS, ITEMS, RATINGS, TIMES, strict=True)
    }
    liked = load(path, min_rating=4)
    assert triples(liked) == {(u, i): (1, t) for u, i, r, t in zip(USERS, ITEMS, RATINGS, TIMES, strict=True) if r >= 4}
    # Only what is left is numbered, unless the file fixes the sizes.
    assert liked.shape == ((3, 4) if write is write_npz else (2, 2))


@pytest.mark.parametrize("write", TEXT_WRITERS)
def test_windows_line_ends(write, tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert load(path).nnz == 6
    assert load(path).timestamps[0] == 50


def test_names(tmp_path):
    assert load(write_tsv(tmp_path)).name == "data"
    assert load(write_csv(tmp_path)).name == tmp_path.name
    assert load(write_csv(tmp_path), name="mine").name == "mine"
    assert load(str(write_csv(tmp_path))).nnz == 6


def test_text_ids_are_sorted_as_text(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("user,item\nb10,x\nb9,007\nälg,7\nb10,007\n", encoding="utf-8")
    data = load(path)
    assert data.user_ids.tolist() == ["b10", "b9", "älg"]
    assert data.items.ids.tolist() == ["007", "7", "x"]  # a leading zero is part of an id
    assert data.to_csr().toarray().tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_named_columns(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b,c,user,item,d\n1,2,3,9,9,0.5\n4,5,6,9,9,1.5\n")
    data = load(path, user="a", item="b", rating="c", timestamp="d", values="c", min_rating=3.5)
    assert triples(data) == {(4, 5): (6, 1_500_000)}
    assert triples(load(path, user="a", item="b", values="d")) == {(1, 2): (0.5, None), (4, 5): (1.5, None)}
    assert "there is no column 'z' (user=), the columns are a, b, c, user, item, d." in refused(path, user="z")
    assert "'z' (values=)" in refused(path, values="z")
    assert "hold the rating" in refused(path, min_rating=3)
    assert "hold the rating" in refused(path, values="rating")
    assert "name of a column" in refused(path, user=3)


def test_dates_order_like_times(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("user,item,date\n1,1,2020-01-02\n1,2,2020-01-01\n1,3,2019-12-31\n")
    assert np.argsort(load(path).timestamps).tolist() == [2, 1, 0]
    path.write_text("user,item,date\n1,1,2020-01-02 10:00:00\n1,2,2020-01-02 09:59:59\n")
    assert np.diff(load(path).timestamps).tolist() == [-1_000_000]
    path.write_text("user,item,date\n1,1,yesterday\n")
    assert "column 'date' holds 'yesterday' in row 1" in refused(path)


def test_repeats_follow_the_rule(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("user,item,rating,timestamp\n1,1,5,10\n1,1,3,9\n2,1,1,1\n")
    with pytest.warns(UserWarning, match=r"data.csv: 1 rows repeat"):
        assert triples(load(path, values="rating")) == {(1, 1): (5, 10), (2, 1): (1, 1)}
    assert triples(load(path, values="rating", repeats="first"))[1, 1] == (3, 9)
    assert triples(load(path, values="rating", repeats="sum"))[1, 1][0] == 8
    assert triples(load(path, values="rating", min_rating=4, repeats="error")) == {(1, 1): (5, 10)}
    assert "1 rows repeat" in refused(path, repeats="error")
    assert "repeats must be one of" in refused(path, repeats="lots")


@pytest.mark.parametrize("threshold", ["4", np.nan, np.inf])
def test_threshold_must_be_a_number(threshold, tmp_path):
    assert "min_rating must be a finite number" in refused(write_csv(tmp_path), min_rating=threshold)


@pytest.mark.parametrize("write", WRITERS)
def test_threshold_nobody_reaches(write, tmp_path):
    path = write(tmp_path)
    assert f"{path} holds no interactions that reach min_rating" in refused(path, min_rating=6)


def test_movie_titles(tmp_path):
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n7,"Seven, The (1995)",Crime\n8,Eight\x85½,x\n99,No,x\n')
    data = load(write_csv(tmp_path))
    assert data.items.titles.tolist() == ["", "Seven, The (1995)", "Eight\x85½", ""]
    assert data.items.label(0) == "1" and data.items.find("seven, the (1995)") == 1


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize(
    ("write", "films", "lines"),
    [
        (write_dat, "movies.dat", "7::Misérables: Les (1995)::Drama|War\n8::Café\x85 (1990)::Drama\n"),
        (write_u_data, "u.item", "7|Misérables: Les (1995)|01-Jan-1995||http\n8|Café\x85 (1990)|x\n"),
    ],
)
def test_movie_titles_in_either_encoding(write, films, lines, encoding, tmp_path):
    (tmp_path / films).write_bytes(lines.encode(encoding))
    assert load(write(tmp_path)).items.titles.tolist() == ["", "Misérables: Les (1995)", "Café\x85 (1990)", ""]
    (tmp_path / films).write_text("7 Seven\n")
    assert f"{films}: line 1 is not an id and a title" in refused(write(tmp_path))


def test_movies_without_titles(tmp_path):
    (tmp_path / "movies.csv").write_text("id,name\n1,a\n")
    assert "movies.csv has no column 'movieId'" in refused(write_csv(tmp_path))


@pytest.mark.parametrize("write", [write_csv, write_dat, write_u_data, write_inter])
def test_folder_with_a_known_file(write, tmp_path):
    write(tmp_path)
    assert load(tmp_path).nnz == 6


# LightGCN's lists


def write_lists(folder, train="5 1 2 3\n0 3\n11 1", test="5 4\n7\n11 9 2 \n"):
    (folder / "train.txt").write_text(train)
    if test is not None:
        (folder / "test.txt").write_text(test)
    return folder


def test_lists_with_a_split(tmp_path):
    data = load(write_lists(tmp_path))
    assert data.name == tmp_path.name
    assert data.user_ids.tolist() == [0, 5, 11] and data.items.ids.tolist() == [1, 2, 3, 4, 9]
    assert set(triples(data.keep(data.split == 0))) == {(5, 1), (5, 2), (5, 3), (0, 3), (11, 1)}
    assert set(triples(data.keep(data.split == 1))) == {(5, 4), (11, 9), (11, 2)}
    assert load(tmp_path / "train.txt").fingerprint == data.fingerprint


def test_lists_without_a_test_file(tmp_path):
    data = load(write_lists(tmp_path, test=None))
    assert data.nnz == 5 and data.split is None
    assert "hold the rating" in refused(tmp_path, min_rating=3)


@pytest.mark.parametrize("bad", ["0 1\n1 x 3\n", "0 1\n1 -3\n", "0 1\n1 2.5\n", "0 1\n1,2\n", f"0 1\n1 {10**20}\n"])
def test_lists_with_something_else_in_a_line(bad, tmp_path):
    assert "train.txt: line 2 holds" in refused(write_lists(tmp_path, train=bad))


@pytest.mark.parametrize("bad", ["\n \n", "3\n4\n"])
def test_lists_without_interactions(bad, tmp_path):
    sentence = refused(write_lists(tmp_path, train=bad, test=None))
    assert "train.txt" in sentence and ("no interactions" in sentence or "no rows" in sentence)


def test_lists_with_a_bad_test_file(tmp_path):
    assert "test.txt: line 1 holds" in refused(write_lists(tmp_path, test="a b\n"))


@given(st.lists(st.lists(st.integers(0, 50), unique=True, max_size=6), min_size=1, max_size=8).filter(any))
def test_lists_round_trip(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("lists")
    write_lists(folder, "".join(f"{u} {' '.join(map(str, row))}\n" for u, row in enumerate(rows)), test=None)
    assert list(triples(load(folder))) == [(u, i) for u, row in enumerate(rows) for i in row]


# Arrays


def test_npz_keeps_its_sizes_splits_and_titles(tmp_path):
    path = write_npz(
        tmp_path, n_users=5, n_items=6, user_ids=None, item_ids=None, split=[0, 1] * 3, user_split=[0, 0, 1, 1, 0]
    )
    (tmp_path / "data.items.txt.gz").write_bytes(gzip.compress("a\nb\u2028b\nc\n\ne\nf\n".encode()))
    data = load(path)
    assert data.shape == (5, 6) and data.user_ids is None
    assert data.items.titles.tolist() == ["a", "b\u2028b", "c", "", "e", "f"]
    assert data.user_split.tolist() == [0, 0, 1, 1, 0]
    assert data.split.tolist() == [1, 0, 0, 0, 1, 1]  # by user, then in the order of the file
    assert load(path, min_rating=4).shape == (5, 6)


def test_npz_position_is_the_order_within_the_user(tmp_path):
    data = load(write_npz(tmp_path, position=[2, 1, 0, 0, 0, 1], timestamp=None))
    assert data.indices.tolist() == [0, 1, 3, 2, 1, 2] and data.timestamps is None
    by_position = load(write_npz(tmp_path, position=[2, 1, 0, 0, 0, 1]), min_rating=3)
    assert by_position.indices.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("key", ["count", "hours", "liked"])
def test_npz_values_by_name(key, tmp_path):
    path = write_npz(tmp_path, **{key: np.arange(1, 7) / 2})
    assert load(path).is_binary
    assert sorted(load(path, values=key).values) == [0.5, 1, 1.5, 2, 2.5, 3]
    assert load(path, rating=key, min_rating=1.5).nnz == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"user": None}, "no array 'user', the arrays are"),
        ({"n_items": None}, "no array 'n_items'"),
        ({"n_items": 3, "item_ids": None}, "item index 3 is beyond n_items = 3"),
        ({"n_users": 2, "user_ids": None}, "user index 2 is beyond n_users = 2"),
        ({"n_users": -1}, "n_users must be one whole number"),
        ({"n_users": [3, 3]}, "n_users must be one whole number"),
        ({"n_users": 3.5}, "n_users must be one whole number"),
        ({"user": [-1, 0, 0, 0, 0, 0]}, "must not be negative, got -1"),
        ({"user": [0.5, 0, 0, 0, 0, 0]}, "user must be whole numbers"),
        ({"item": [np.nan, 0, 0, 0, 0, 0]}, "item must be whole numbers, got NaN"),
        ({"item": list("abcdef")}, "item must be whole numbers"),
        ({"item": [0, 1]}, "'item' has shape (2,) where 'user' has 6 rows"),
        ({"user": np.zeros((2, 3), int)}, "'user' has shape (2, 3)"),
        ({"rating": [1, 2, 3]}, "'rating' has shape (3,)"),
        ({"rating": list("abcdef")}, "rating must be finite numbers"),
        ({"rating": [1, 2, 3, 4, 5, np.nan]}, "rating must be finite numbers"),
        ({"timestamp": [0, 1, 2, 3, 4, np.nan]}, "timestamp must be whole numbers"),
        ({"timestamp": [0, 1]}, "'timestamp' has shape (2,)"),
        ({"position": [0.5] * 6}, "position must be whole numbers"),
        ({"split": [0, 1, 2, 0, 0, 0]}, "split must hold only 0 (train) and 1 (test), got 2"),
        ({"user_split": [0, 1]}, "user_split has 2 entries for 3 users"),
        ({"user_ids": [1, 2]}, "user_ids has 2 entries for 3 users"),
        ({"item_ids": [1, 2]}, "item_ids has shape (2,) for 4 items"),
        ({"user": np.zeros(6, int), "item": np.zeros(6, int)}, "5 rows repeat"),
        ({k: np.zeros(0, int) for k in ("user", "item", "rating", "timestamp")}, "holds no interactions"),
    ],
)
def test_npz_refuses(changed, said, tmp_path):
    path = write_npz(tmp_path, **changed)
    sentence = refused(path, values="rating", min_rating=0, repeats="error")
    assert said in sentence and str(path) in sentence


def test_npz_with_pickled_arrays(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, user=np.array([{}], object), item=[0], n_users=1, n_items=1, allow_pickle=True)
    assert "holds pickled objects, which are never loaded" in refused(path)
    path.write_bytes(pickle.dumps({"user": [0]}))
    assert "holds pickled objects" in refused(path)


def test_npz_of_other_files(tmp_path):
    path = tmp_path / "data.npz"
    shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path, ".")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "user.txt").write_text("hello")
    shutil.move(shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path / "text"), path)
    assert "no NumPy arrays" in refused(path)
    with path.open("wb") as file:
        np.save(file, np.arange(3))
    assert "no readable .npz file" in refused(path)


@pytest.mark.parametrize("titles", ["a\nb\nc\n", "a\nb\nc\nd\ne\n"])
def test_wrong_number_of_titles(titles, tmp_path):
    (tmp_path / "data.items.txt.gz").write_bytes(gzip.compress(titles.encode()))
    assert re.search(r"data.items.txt.gz has [35] titles for 4 items", refused(write_npz(tmp_path)))


@pytest.mark.parametrize("damage", [lambda raw: raw[:-12], lambda raw: b"text", lambda raw: b"", lambda raw: raw[:3]])
def test_damaged_titles(damage, tmp_path):
    raw = gzip.compress("\n".join("abcd" * 50).encode())
    (tmp_path / "data.items.txt.gz").write_bytes(damage(raw))
    assert "data.items.txt.gz" in refused(write_npz(tmp_path))


def test_titles_in_another_encoding(tmp_path):
    (tmp_path / "data.items.txt.gz").write_bytes(gzip.compress("é\nb\nc\nd\n".encode("latin-1")))
    assert "no readable gzip file of UTF-8 text" in refused(write_npz(tmp_path))


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
def test_scipy_matrix(form, tmp_path, rng):
    dense = rng.integers(0, 3, (5, 7)).astype(np.float32)
    sp.save_npz(tmp_path / "x.npz", sp.csr_array(dense).asformat(form))
    np.testing.assert_array_equal(load(tmp_path / "x.npz", values="data").to_csr().toarray(), dense)
    np.testing.assert_array_equal(load(tmp_path / "x.npz").to_csr().toarray(), dense > 0)
    np.testing.assert_array_equal(load(tmp_path / "x.npz", min_rating=2).to_csr().toarray(), dense == 2)
    assert "with 'data' alone" in refused(tmp_path / "x.npz", values="count")
    assert "reach min_rating" in refused(tmp_path / "x.npz", min_rating=9)


@pytest.mark.parametrize(
    "changed",
    [
        {"indices": [0, 9]},
        {"indices": [0, -1]},
        {"indices": [0]},
        {"indptr": [0, 2, 1]},
        {"indptr": [0, 1]},
        {"format": b"xyz"},
        {"data": ["a", "b"]},
        {"data": [1.0, np.nan]},
        {"shape": [2]},
    ],
)
def test_scipy_matrix_that_does_not_hold_together(changed, tmp_path):
    arrays = {"format": b"csr", "shape": [2, 3], "data": [1.0, 2.0], "indices": [0, 1], "indptr": [0, 1, 2]}
    np.savez(tmp_path / "x.npz", **(arrays | changed))
    assert str(tmp_path / "x.npz") in refused(tmp_path / "x.npz")


def test_empty_scipy_matrix(tmp_path):
    sp.save_npz(tmp_path / "x.npz", sp.csr_array((3, 4)))
    assert "holds no interactions" in refused(tmp_path / "x.npz")


# Damage that any file can suffer


@pytest.mark.parametrize("source", ["nothing.csv", "msweb2", "no/where/train.txt"])
def test_missing_file(source):
    assert re.match(r"there is no file .*bundled data set.*\(msweb\)\.", refused(source))


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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
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


# Frames


@pytest.mark.parametrize(
    "make", [lambda: table(), lambda: table().lazy(), lambda: pd.DataFrame(table().to_dict(as_series=False))]
)
def test_frames_equal_the_file(make, tmp_path):
    from_file = load(write_csv(tmp_path), values="rating")
    data = from_frame(make(), values="rating", name="mine")
    assert data.fingerprint == from_file.fingerprint and data.name == "mine"
    assert data.items.ids.tolist() == from_file.items.ids.tolist()
    assert data.timestamps.tolist() == from_file.timestamps.tolist()


@pytest.mark.parametrize("kind", ["str", "object", "category"])
def test_pandas_text_ids(kind):
    frame = pd.DataFrame({"user": pd.Series(["b", "a", "b"], dtype=kind), "item": pd.Series([1, 2, 2], dtype="Int64")})
    data = from_frame(frame)
    assert triples(data).keys() == {("b", 1), ("a", 2), ("b", 2)} and data.user_ids.tolist() == ["a", "b"]


def test_polars_categories_sort_as_text():
    frame = pl.DataFrame({"user": pl.Series(["b", "a"], dtype=pl.Categorical), "item": [1, 1]})
    assert from_frame(frame).user_ids.tolist() == ["a", "b"]


def test_frame_timestamps_of_dates():
    when = pd.to_datetime(["2020-01-02", "2020-01-01"])
    assert np.diff(from_frame(pd.DataFrame({"user": [1, 1], "item": [1, 2], "time": when})).timestamps) < 0
    assert np.diff(from_frame(pl.DataFrame({"user": [1, 1], "item": [1, 2], "time": when.to_numpy()})).timestamps) < 0


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"user": [1.0, 2.5]}, "ids must be integers or text, got Float64"),
        ({"user": [True, False]}, "ids must be integers or text, got Boolean"),
        ({"user": [1, -2]}, "must not be negative, got -2"),
        ({"user": ["a", None]}, "column 'user' is empty in row 2"),
        ({"user": ["a", 3]}, "mixes types"),
        ({"item": [1, None]}, "got Float64|empty in row 2"),
        ({"rating": ["a", "b"]}, "column 'rating' holds 'a' in row 1, wanted a number"),
        ({"rating": [1.0, np.nan]}, "column 'rating' (holds nan|is empty) in row 2"),
        ({"timestamp": [1.0, np.nan]}, "column 'timestamp' (holds nan|is empty) in row 2"),
    ],
)
@pytest.mark.parametrize("library", [pd, pl])
def test_frames_refused(columns, said, library):
    columns = {"user": [1, 2], "item": [1, 2], "rating": [1, 2]} | columns
    frame = library.DataFrame(columns) if library is pd else pl.DataFrame(columns, strict=False)
    if library is pl and said == "mixes types":
        pytest.skip("a Polars column has one type")
    with pytest.raises(InputError, match=said) as caught:
        from_frame(frame, values="rating", name="mine")
    assert str(caught.value).startswith("mine")


def test_what_is_no_frame():
    with pytest.raises(InputError, match="wanted a pandas or Polars frame, got list"):
        from_frame([1, 2])
    with pytest.raises(InputError, match="'user' occurs more than once"):
        from_frame(pd.DataFrame([[1, 2, 3]], columns=["user", "user", "item"]))
    with pytest.raises(InputError, match=r"no column is known to hold the user.*the columns are 0, 1"):
        from_frame(pd.DataFrame([[1, 2]]))


# Round trips over any triples

ids = st.one_of(st.integers(0, 2**40), st.text("abcxyz", min_size=1, max_size=3))
pairs = st.lists(st.tuples(ids, ids, st.integers(1, 9)), min_size=1, max_size=30, unique_by=lambda row: row[:2])


@settings(deadline=None)
@given(rows=pairs, form=st.sampled_from(["csv", "tsv", "inter", "parquet", "frame"]))
def test_triples_round_trip(tmp_path_factory, rows, form):
    users, items, ratings = zip(*rows, strict=True)
    whole = {}
    for name, column in {"user_id": users, "item_id": items}.items():
        whole[name] = list(column) if all(isinstance(i, int) for i in column) else [str(i) for i in column]
    frame = pl.DataFrame(whole | {"rating": ratings})
    path = tmp_path_factory.mktemp("round") / f"data.{form}"
    if form == "parquet":
        frame.write_parquet(path)
    elif form == "inter":
        frame.rename(lambda c: f"{c}:token").write_csv(path, separator="\t")
    elif form != "frame":
        frame.write_csv(path, separator="," if form == "csv" else "\t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1 and "1" in one column are the same id as text
        data = from_frame(frame, values="rating") if form == "frame" else load(path, values="rating")
    expected = {(u, i): r for u, i, r in zip(whole["user_id"], whole["item_id"], ratings, strict=True)}
    assert {key: value for key, (value, _) in triples(data).items()} == expected
    assert data.user_ids.tolist() == sorted(set(whole["user_id"]))
    assert data.items.ids.tolist() == sorted(set(whole["item_id"]))


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=5))
def test_csr_round_trip(rows):
    matrix = sp.csr_array(np.array(rows, np.float32))
    again = Interactions.from_csr(matrix).to_csr()
    np.testing.assert_array_equal(again.toarray(), matrix.toarray())
