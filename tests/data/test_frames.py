"""Interactions from pandas and Polars frames."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from reader_files import table, triples, write_csv

from jaxrec import InputError
from jaxrec.data import from_frame, load

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
        ({"user": [b"a", b"b"]}, r"got Binary in column 'user'; make them text with \.astype\(str\)"),
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


@pytest.mark.skipif(not hasattr(pl, "Int128"), reason="no such type in this polars")
def test_ids_of_128_bits():
    big, bigger = (pl.Series([top, 2], dtype=pl.Int128) for top in (2**63, 2**64))
    assert from_frame(pl.DataFrame({"user": big, "item": ["a", "b"]})).user_ids.tolist() == [2, 2**63]
    with pytest.raises(InputError, match=r"ids must be below 2\^64"):
        from_frame(pl.DataFrame({"user": bigger, "item": ["a", "b"]}))


def test_whole_numbers_beside_a_gap_are_ids():
    """A column of pandas in which a value was missing once is one of floats."""
    frame = pd.DataFrame({"user": [1.0, 2.0], "item": [7.0, 7.0]})
    assert from_frame(frame).user_ids.tolist() == [1, 2] and from_frame(frame).items.ids.tolist() == [7]


def test_a_column_of_numbers_and_text_says_what_helps():
    frame = pd.DataFrame({"user": [9, 32, "user_foo"], "item": [1, 1, 2]})
    with pytest.raises(InputError, match=r"make it text with \.astype\(str\)"):
        from_frame(frame)
    assert from_frame(frame.astype({"user": str})).n_users == 3


def test_what_is_no_frame():
    with pytest.raises(InputError, match="wanted a pandas or Polars frame, got list"):
        from_frame([1, 2])
    with pytest.raises(InputError, match="'user' occurs more than once"):
        from_frame(pd.DataFrame([[1, 2, 3]], columns=["user", "user", "item"]))
    with pytest.raises(InputError, match=r"no column is known to hold the user.*the columns are 0, 1"):
        from_frame(pd.DataFrame([[1, 2]]))
