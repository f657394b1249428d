"""Columns at the door: sizes, numbers, times and names."""

import numpy as np
import pytest

from jaxrec import InputError, Interactions
from jaxrec.data import columns


def triples(**given):
    return Interactions.from_triples(**({"users": [0, 1], "items": [0, 1]} | given))


@pytest.mark.parametrize("size", ["n_users", "n_items"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (20.7, "must be a whole number, got 20.7"),
        ("6", "must be a whole number, got '6'"),
        (True, "must be a whole number"),
        (-1, "must be at least 0"),
        (1, "index 1 is beyond"),
        (2**31, "must be below 2"),
        (10**400, "must be below 2"),
    ],
)
def test_sizes(size, value, said):
    with pytest.raises(InputError, match=said):
        triples(**{size: value})


def test_indices_with_gaps_ask_for_no_room():
    with pytest.raises(InputError, match="n_users = 2147483647 is too many for 2 interactions; number the ids"):
        triples(users=[0, 2**31 - 2])
    assert triples(n_items=20_000_000).n_items == 20_000_000  # the caller says so, and no room is made for items


def test_room_for_more_users_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr("jaxrec.runtime.memory.available_bytes", lambda device=None: 10**8)
    with pytest.raises(InputError, match=r"the rows of 2,000,000,000 users need 48\.0 GB of memory"):
        triples(n_users=2_000_000_000)


@pytest.mark.parametrize("time", [np.uint64(2**63 + 5), 1e300, -1e300, 2.0**63])
def test_times_beyond_64_bits(time):
    with pytest.raises(InputError, match=r"timestamp must be below 2\^63"):
        triples(timestamps=np.array([0, time], np.asarray(time).dtype))


def test_values_too_small_for_float32():
    with pytest.raises(InputError, match="value number 1 is too small for float32"):
        triples(values=[1.0, 1e-46])
    assert triples(values=[1.0, 1e-45]).nnz == 2


@pytest.mark.parametrize("field", ["user_ids", "item_ids"])
def test_ids_are_distinct(field):
    for ids in (["a", "a"], [3, 3], np.array(["a", "a"]), np.array([7, 7], object)):
        with pytest.raises(InputError, match=f"{field} must be distinct, but ['a37]+ occurs more than once"):
            triples(**{field: ids})
    made = triples(**{field: ["a\0", "a"]})
    assert len({*(made.user_ids if field == "user_ids" else made.items.ids)}) == 2


@pytest.mark.parametrize("field", ["user_ids", "item_ids", "titles"])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "x" * 10_001], "at most 10,000 letters each, and number 1 has more"),
        (np.array(["a", "x" * 10_001]), "at most 10,000 letters each, and number 1 has more"),
        (["a", None], "must be numbers or text, got None at 1"),
        (["a", ["b"]], "must be numbers or text"),
        ([1, 10**400], "must be numbers or text"),
        (["a", "\ud800"], "half a letter"),
        (np.array([["a", "b"]]), "must be one-dimensional"),
        (np.array([b"a", b"b"]), "must be numbers or text"),
        (5, "must be a sequence of names"),
    ],
    ids=lambda case: repr(case)[:20],
)
def test_names(field, names, said):
    with pytest.raises(InputError, match=said):
        triples(**{field: names})


def test_one_long_name_takes_its_own_room_alone():
    names = ["short"] * 50_000 + ["x" * 10_000]
    assert columns.names("titles", names).nbytes == 8 * len(names)


def test_an_integer_among_texts_is_text():
    assert columns.names("ids", [1, "b"]).tolist() == ["1", "b"]
    assert columns.names("ids", [1, 2]).dtype.kind == "i" and columns.names("ids", (1, 2**63)).tolist() == [1, 2**63]


@pytest.mark.parametrize("items", [6.5, "x", -1, 10**400, None])
def test_lists_of_an_odd_number_of_items(items):
    with pytest.raises(InputError):
        Interactions.from_lists([[0, 1]], items)


@pytest.mark.parametrize(
    ("name", "close"),
    [("1", "; the closest: '001'"), (1, "; the closest: '001'"), ("itm 2", "; the closest: 'item 2'"), ("zzz", "")],
)
def test_the_nearest_names(name, close):
    assert columns.nearest(name, np.array(["001", "item 2", "x"], object)) == close


def test_among_very_many_names_only_those_with_other_zeros_are_looked_for():
    many = np.arange(columns.FEW + 1).astype(str)
    assert columns.nearest("007", many) == "; the closest: '7'" and columns.nearest("7x", many) == ""
