"""`Interactions` against dictionaries of (user, item)."""

import dataclasses
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from jaxrec import Catalogue, InputError, Interactions

U, I = 5, 6  # noqa: E741

rows = st.lists(
    st.tuples(st.integers(0, U - 1), st.integers(0, I - 1), st.integers(-3, 5), st.integers(0, 4)), max_size=40
)


def columns(table):
    return np.array(table, np.int64).reshape(-1, 4).T


def as_dict(data):
    keys = zip(data.user_of_entry.tolist(), data.indices.tolist(), strict=True)
    return dict(zip(keys, data.values.tolist(), strict=True))


def naive_merge(table, rule):
    """What `repeats` promises, one row at a time."""
    kept = {}
    for user, item, value, _ in sorted(table, key=lambda row: row[3]):
        if value != 0:
            kept.setdefault((user, item), []).append(value)
    reduce = {"last": lambda v: v[-1], "first": lambda v: v[0], "sum": sum, "max": max}[rule]
    return {pair: value for pair, values in kept.items() if (value := reduce(values)) != 0}


@pytest.fixture
def example(rng):
    """Interactions with everything optional filled in, rows in mixed order."""
    dense = rng.integers(0, 3, (U, I)).astype(np.float32)
    users, items = np.nonzero(dense)
    mixed = rng.permutation(len(users))
    users, items = users[mixed], items[mixed]
    return Interactions.from_triples(
        users,
        items,
        dense[users, items],
        n_users=U,
        n_items=I,
        timestamps=np.arange(len(users)),
        split=np.arange(len(users)) % 2,
        user_split=[0, 1, 0, 1, 0],
        user_ids=[f"u{u}" for u in range(U)],
        item_ids=np.arange(I) + 100,
        titles=[f"Title {i}" for i in range(I)],
        name="example",
    )


@given(table=rows, rule=st.sampled_from(["last", "first", "sum", "max"]), timed=st.booleans())
def test_repeats_equal_the_naive_rule(table, rule, timed):
    if not timed:
        table = [(user, item, value, 0) for user, item, value, _ in table]
    users, items, values, times = columns(table)
    data = Interactions.from_triples(
        users, items, values, n_users=U, n_items=I, timestamps=times if timed else None, repeats=rule
    )
    assert as_dict(data) == naive_merge(table, rule)
    assert data.nnz == len(as_dict(data)) and (data.values != 0).all() and data.indptr[-1] == data.nnz


@given(table=rows)
def test_default_rule_is_last_with_a_count(table):
    users, items, values, times = columns(table)
    nonzero = [row for row in table if row[2]]
    extra = len(nonzero) - len({row[:2] for row in nonzero})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = Interactions.from_triples(users, items, values, n_users=U, n_items=I, timestamps=times)
    assert [f"{extra} rows repeat" in str(warning.message) for warning in caught] == [True] * (extra > 0)
    assert as_dict(data) == naive_merge(table, "last")


def test_order_of_the_source_stays_within_the_user():
    data = Interactions.from_triples([1, 0, 1, 0, 1], [4, 2, 0, 1, 3], n_users=2, n_items=5)
    assert data.indices.tolist() == [2, 1, 4, 0, 3] and data.indptr.tolist() == [0, 2, 5]
    kept = Interactions.from_triples([0, 0, 0], [1, 2, 1], repeats="last")
    assert kept.indices.tolist() == [2, 1]  # a repeated pair stands where the kept row stood


def test_repeats_as_an_error_name_the_pair():
    with pytest.raises(InputError, match=r"mine: 2 rows repeat .* the first at user 0, item 1; choose a repeats rule"):
        Interactions.from_triples([0, 0, 1, 1], [1, 1, 2, 2], repeats="error", name="mine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], []), "there are no interactions"),
        (([0, -1], [0, 0]), "user indices must not be negative, got -1"),
        (([0], [0, 1]), "column item has 2 rows where user has 1"),
        (([0, 0.5], [0, 0]), "user must be whole numbers"),
        (([0, np.nan], [0, 0]), "user must be whole numbers, got NaN"),
        ((["a"], [0]), "user must be whole numbers"),
        (([[0]], [0]), "user must be one-dimensional"),
        (([0], [0], [np.inf]), "value number 0 is NaN or infinite"),
        (([0], [0], [1e300]), "value number 0 is NaN or infinite in float32"),
        (([0], [0], ["a"]), "value must be a column of numbers"),
        (([0], [2**31]), "n_items must be below 2\\^31"),
    ],
)
def test_triples_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        Interactions.from_triples(*arguments)


def test_sum_that_no_float32_can_hold():
    with pytest.raises(InputError, match="sum of repeated values, number 0 is NaN or infinite in float32"):
        Interactions.from_triples([0, 0], [0, 0], [3e38, 3e38], repeats="sum")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"n_users": 1}, "user index 1 is beyond n_users = 1"),
        ({"n_items": 2}, "item index 2 is beyond n_items = 2"),
        ({"user_ids": ["a"]}, "user_ids has 1 entries for 2 users"),
        ({"titles": ["a"]}, "titles must have one entry per item"),
        ({"split": [0, 2]}, "split must hold only 0"),
        ({"timestamps": [0]}, "timestamp has 1 rows"),
        ({"repeats": "lots"}, "repeats must be one of"),
    ],
)
def test_extras_refused(extra, said):
    with pytest.raises(InputError, match=said):
        Interactions.from_triples([0, 1], [0, 2], **extra)


# From and to SciPy


def test_canonical_csr_is_wrapped_without_a_copy(rng):
    matrix = sp.csr_array(np.where(rng.random((20, 30)) < 0.2, rng.random((20, 30)), 0).astype(np.float32))
    matrix = sp.csr_array((matrix.data, matrix.indices.astype(np.int32), matrix.indptr), matrix.shape)
    matrix.sum_duplicates()
    data = Interactions.from_csr(matrix)
    assert np.shares_memory(data.values, matrix.data) and np.shares_memory(data.indices, matrix.indices)
    again = data.to_csr()
    assert np.shares_memory(again.data, data.values) and np.shares_memory(again.indices, data.indices)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, bool])
def test_any_scipy_matrix(form, dtype, rng):
    dense = rng.integers(0, 2, (4, 7)).astype(dtype)
    matrix = sp.csr_array(dense).asformat(form)
    np.testing.assert_array_equal(Interactions.from_csr(matrix).to_csr().toarray(), dense)
    np.testing.assert_array_equal(matrix.toarray(), dense)


def test_csr_with_repeats_and_zeros_is_left_alone():
    matrix = sp.csr_array((np.array([1.0, 2.0, 0.0]), np.array([2, 2, 1]), np.array([0, 3])), (1, 3))
    data = Interactions.from_csr(matrix)
    assert as_dict(data) == {(0, 2): 3.0} and matrix.nnz == 3


def test_csr_refused():
    with pytest.raises(InputError, match="wanted a two-dimensional SciPy sparse matrix, got ndarray"):
        Interactions.from_csr(np.eye(3))
    with pytest.raises(InputError, match="NaN or infinite"):
        Interactions.from_csr(sp.csr_array([[np.nan]]))
    with pytest.raises(InputError, match="3 columns, but the catalogue names 2 items"):
        Interactions.from_csr(sp.csr_array(np.eye(3)), items=Catalogue(2))


def test_to_csr_of_another_type(example):
    assert example.to_csr(np.float64).dtype == np.float64
    np.testing.assert_array_equal(example.to_csr(np.float64).toarray(), example.to_csr().toarray())


def test_lists():
    data = Interactions.from_lists([[3, 1], [], (2,), np.array([0])], 4)
    assert data.indices.tolist() == [3, 1, 2, 0] and data.user_counts.tolist() == [2, 0, 1, 1]
    catalogue = Catalogue(4, titles=np.array(list("abcd")))
    assert Interactions.from_lists([[3]], catalogue).items is catalogue
    assert Interactions.from_lists([[], [1]], np.int64(3)).shape == (2, 3)
    assert Interactions.from_lists([], 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("lists", "said"),
    [([[4]], "item index 4 is beyond"), ([[1], [1.5]], "row 1 must be whole"), ([["a"]], "row 0 must be whole")],
)
def test_lists_refused(lists, said):
    with pytest.raises(InputError, match=said):
        Interactions.from_lists(lists, 4)


# Views


@given(chosen=st.lists(st.integers(0, U - 1), max_size=8))
def test_rows(chosen):
    matrix = sp.csr_array(np.arange(U * I).reshape(U, I) % 4)
    part = Interactions.from_csr(matrix).rows(np.array(chosen, np.int64))
    np.testing.assert_array_equal(part.to_csr().toarray(), matrix.toarray()[chosen])


def test_rows_take_everything_of_the_user_along(example):
    part = example.rows(np.array([3, 1]))
    assert part.user_ids.tolist() == ["u3", "u1"] and part.user_split.tolist() == [1, 1]
    start, stop = example.indptr[3:5]
    assert part.timestamps[: stop - start].tolist() == example.timestamps[start:stop].tolist()
    assert part.split[: stop - start].tolist() == example.split[start:stop].tolist()
    by_mask = example.rows(np.array([False, True, False, True, False]))
    assert by_mask.user_ids.tolist() == ["u1", "u3"]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ([-2], "user indices must not be negative, got -2"),
        ([0, -1], "user indices must not be negative, got -1"),
        ([5], "user index 5 is beyond n_users = 5"),
        ([10**6], "user index 1000000 is beyond n_users = 5"),
        ([False, True], "user mask must be 5 truth values, got bool of shape \\(2,\\)"),
        (np.ones((5, 1), bool), "user mask must be 5 truth values"),
        (3, "user must be one-dimensional"),
        (["1"], "user must be whole numbers"),
        ([1.5], "user must be whole numbers"),
        ([np.nan], "user must be whole numbers, got NaN"),
        (None, "user must be one-dimensional"),
    ],
)
def test_rows_refused(example, choice, said):
    with pytest.raises(InputError, match=f"^example: {said}.*\\.$"):
        example.rows(choice)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ([1, 1], "item indices must be distinct, got 1 more than once"),
        ([-1], "item indices must not be negative, got -1"),
        ([I], "item index 6 is beyond n_items = 6"),
        (["Toy Story"], "item must be whole numbers"),
        ([True], "item mask must be 6 truth values"),
        (2, "item must be one-dimensional"),
    ],
)
def test_items_refused(example, choice, said):
    with pytest.raises(InputError, match=f"^example: {said}.*\\.$"):
        example.select_items(choice)


@pytest.mark.parametrize("choice", [[True], [0, 2], [], 3, None, "all", np.ones((2, 2), bool)])
def test_entries_refused(example, choice):
    with pytest.raises(InputError, match=f"^example: entry mask must be {example.nnz} truth values, got .*\\.$"):
        example.keep(choice)


def test_whole_floats_masks_and_nothing_are_choices(example):
    assert example.rows([1.0, 3.0]).user_ids.tolist() == ["u1", "u3"] and example.rows([]).n_users == 0
    assert example.select_items(np.arange(I) == 2).items.ids.tolist() == [102] and example.select_items([]).n_items == 0


def test_keep(example):
    kept = example.keep(example.split == 1)
    expected = {
        pair: value for (pair, value), side in zip(as_dict(example).items(), example.split, strict=True) if side
    }
    assert as_dict(kept) == expected and kept.shape == example.shape and (kept.split == 1).all()
    assert kept.timestamps.tolist() == example.timestamps[example.split == 1].tolist()
    assert example.keep(np.zeros(example.nnz, bool)).nnz == 0


def test_select_items(example):
    chosen = np.array([4, 0, 2])
    part = example.select_items(chosen)
    np.testing.assert_array_equal(part.to_csr().toarray(), example.to_csr().toarray()[:, chosen])
    assert part.items.ids.tolist() == [104, 100, 102] and part.items.titles.tolist() == [
        "Title 4",
        "Title 0",
        "Title 2",
    ]


def test_binarised(example):
    assert not example.is_binary
    binary = example.binarised()
    assert binary.is_binary and binary.binarised() is binary
    np.testing.assert_array_equal(binary.to_csr().toarray(), example.to_csr().toarray() != 0)


# Facts


def test_counts(example):
    dense = example.to_csr().toarray()
    assert example.user_counts.tolist() == (dense > 0).sum(1).tolist()
    assert example.item_counts.tolist() == (dense > 0).sum(0).tolist()
    assert example.n_users == U and example.n_items == I and example.nnz == np.count_nonzero(dense)


def test_user_index(example):
    assert example.user_index("u3") == 3
    assert dataclasses.replace(example, user_ids=None).user_index(2) == 2
    with pytest.raises(InputError, match="example: there is no user with the id 'u9'"):
        example.user_index("u9")


def test_fingerprint_tells_data_apart(example):
    assert example.fingerprint == dataclasses.replace(example, name="other", user_ids=None).fingerprint
    changed = [
        example.binarised(),
        example.rows(np.arange(U)[::-1]),
        example.select_items(np.arange(I)[::-1]),
        example.keep(np.arange(example.nnz) > 0),
    ]
    assert len({example.fingerprint, *(data.fingerprint for data in changed)}) == 5


def test_repr(example):
    assert repr(example).startswith(f"Interactions(example: 5 users x 6 items, {example.nnz} entries, ")
