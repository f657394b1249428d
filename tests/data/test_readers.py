"""Every reader: what it must return from good input."""

import warnings

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from reader_files import (
    ITEMS,
    RATINGS,
    TEXT_WRITERS,
    TIMES,
    USERS,
    WRITERS,
    refused,
    triples,
    write_csv,
    write_dat,
    write_inter,
    write_npz,
    write_tsv,
    write_u_data,
)

from jaxrec import Interactions
from jaxrec.data import from_frame, load

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


def test_spaces_around_fields_are_no_part_of_them(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("user, item, rating, time\n1, 2, 4, 70\n3,2 ,5,80\n")
    assert triples(load(path, values="rating")) == {(1, 2): (4, 70), (3, 2): (5, 80)}
    path.write_text("user,item\n1,2\n  ,2\n")
    assert "column 'user' is empty in row 2" in refused(path)


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
    assert "user must be a text" in refused(path, user=3)


def test_dates_order_like_times(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("user,item,date\n1,1,2020-01-02\n1,2,2020-01-01\n1,3,2019-12-31\n")
    assert np.argsort(load(path).timestamps).tolist() == [2, 1, 0]
    path.write_text("user,item,date\n1,1,2020-01-02 10:00:00\n1,2,2020-01-02 09:59:59\n")
    assert np.diff(load(path).timestamps).tolist() == [-1_000_000]
    path.write_text("user,item,date\n1,1,1e30\n")
    assert "column 'date' holds times beyond 64 bits" in refused(path)
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
    assert "min_rating must be " in refused(write_csv(tmp_path), min_rating=threshold)


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


# Round trips over any triples

ids = st.one_of(st.integers(0, 2**40), st.text("abcxyz", min_size=1, max_size=3))
pairs = st.lists(st.tuples(ids, ids, st.integers(1, 9)), min_size=1, max_size=30, unique_by=lambda row: row[:2])


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
