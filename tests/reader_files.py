"""The same six interactions written in every format, and how a reader refuses."""

import warnings

import numpy as np
import polars as pl
import pytest

from jaxrec import InputError
from jaxrec.data import load

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
