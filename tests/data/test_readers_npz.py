"""Arrays in .npz: the library's layout and SciPy's, good and bad."""

import gzip
import pickle
import re
import shutil

import numpy as np
import pytest
import scipy.sparse as sp
from reader_files import refused, write_npz

from jaxrec.data import load

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
        ({"user_split": [0, 1]}, "user_split has shape (2,) for 3 users"),
        ({"user_ids": [1, 2]}, "user_ids has shape (2,) for 3 users"),
        ({"item_ids": [1, 2, 3, 2]}, "item_ids must be distinct, but 2 occurs more than once"),
        ({"user_ids": [0.5, 1, 2]}, "user_ids must be integers or text, got float64"),
        ({"split": [0, -1, 0, 1, 1, 0]}, "got -1"),
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
    np.savez(path, user=np.array([{}], object), item=[0], n_users=1, n_items=1)
    assert "holds pickled objects, which are never loaded" in refused(path)
    path.write_bytes(pickle.dumps({"user": [0]}))
    assert "holds pickled objects" in refused(path)


def test_titles_written_on_windows(tmp_path):
    path = write_npz(tmp_path)
    (tmp_path / "data.items.txt.gz").write_bytes(gzip.compress("\ufeffa\r\nb\r\nc\r\nd\r\n".encode()))
    assert load(path, repeats="last").items.titles.tolist() == ["a", "b", "c", "d"]


def test_a_page_of_text_is_no_pickle(tmp_path):
    (tmp_path / "data.npz").write_text("<html>404</html>")
    assert "no readable .npz file" in refused(tmp_path / "data.npz")


def test_npz_of_other_files(tmp_path):
    path = tmp_path / "data.npz"
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
