"""Data in the numbering of something else: by id, against dictionaries of (user id, item id)."""

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec import Catalogue, Ease, InputError, Interactions, ItemWeights, split

NAMES = [f"i{i}" for i in range(8)]


def made(triples, item_ids=NAMES, user_ids=None, name="mine"):
    """Interactions from (user, item id, value)."""
    column = {item: i for i, item in enumerate(item_ids)}
    users, items, values = zip(*triples, strict=True) if triples else ((), (), ())
    n_users = len(user_ids) if user_ids is not None else max(users, default=-1) + 1
    return Interactions.from_triples(
        users,
        [column[item] for item in items],
        values,
        n_users=n_users,
        n_items=len(item_ids),
        item_ids=np.array(item_ids),
        user_ids=user_ids,
        name=name,
    )


def by_id(data):
    users = data.user_of_entry if data.user_ids is None else data.user_ids[data.user_of_entry]
    keys = zip(users.tolist(), data.items.names[data.indices].tolist(), strict=True)
    return dict(zip(keys, data.values.tolist(), strict=True))


@st.composite
def pairs(draw):
    """Two catalogues with something in common, and entries in the first."""
    first = draw(st.permutations(NAMES))[: draw(st.integers(1, 8))]
    other = draw(st.permutations(NAMES))[: draw(st.integers(1, 8))]
    other = other if set(first) & set(other) else [*other, first[0]]
    cells = draw(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(first)), unique=True, min_size=1))
    return made([(u, i, n + 1.0) for n, (u, i) in enumerate(cells)], first), Catalogue(len(other), np.array(other))


@given(pairs())
def test_items_are_matched_by_id(case):
    data, wanted = case
    known = {pair: value for pair, value in by_id(data).items() if pair[1] in wanted.ids}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = data.aligned_to(wanted)
    assert by_id(found) == known and found.shape == (data.n_users, wanted.n_items)
    lost = data.nnz - len(known)
    assert [f"{lost:,} entries of " in str(said.message) for said in caught] == [True] * (lost > 0)


@given(st.permutations(range(5)), st.permutations(range(5)), st.integers(1, 5))
def test_users_are_matched_by_id(here, there, n_there):
    data = made([(u, f"i{u}", u + 1.0) for u in range(5)], user_ids=np.array(here))
    other = made([(u, "i0", 1.0) for u in range(n_there)], user_ids=np.array(there[:n_there]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = data.aligned_to(other, users=True)
    assert found.user_ids.tolist() == other.user_ids.tolist()
    assert by_id(found) == {pair: value for pair, value in by_id(data).items() if pair[0] in other.user_ids}
    assert len(caught) == (n_there < 5) and all(f"{5 - n_there} users" in str(said.message) for said in caught)


def test_users_who_are_not_there_have_empty_rows():
    data = made([(0, "i1", 1.0), (1, "i2", 1.0)], user_ids=np.array(["b", "a"]))
    found = data.aligned_to(made([(0, "i0", 1.0)] * 1, user_ids=np.array(["x", "a", "y", "b"])), users=True)
    assert found.user_counts.tolist() == [0, 1, 0, 1] and found.indices.tolist() == [2, 1]


def test_the_same_places_cost_nothing():
    data = made([(0, "i1", 1.0)])
    copy = Catalogue(8, data.items.ids.copy())
    for other in (data.items, copy, data, Ease(1.0).fit(data), Ease(1.0).fit(data).model):
        assert data.aligned_to(other) is data
    assert data.aligned_to(data, users=True) is data


@pytest.mark.parametrize(
    ("ids", "wanted", "column"),
    [
        (np.array([3, 7]), np.array([7, 3, 5]), [1, 0]),
        (np.array([3, 7], np.int8), np.array([7, 3], np.uint64), [1, 0]),
        (np.array([2**64 - 1, 7], np.uint64), np.array([7, -1]), [1]),
        (np.array([2**53 + 1, 2**53], np.uint64), np.array([2**53, 2**53 + 1]), [1, 0]),
        (np.array(["3", "7"]), np.array([7, 3]), [1, 0]),
        (np.array(["a", "b"], object), np.array(["b", "a"]), [1, 0]),
    ],
)
def test_ids_of_any_type(ids, wanted, column):
    data = Interactions.from_lists([[0, 1]], Catalogue(2, ids))
    lost = len(column) < 2
    with pytest.warns(UserWarning, match="1 entries") if lost else warnings.catch_warnings():
        found = data.aligned_to(Catalogue(len(wanted), wanted))
    assert found.indices.tolist() == ([0] if lost else column)


def test_nothing_in_common_is_refused():
    data = made([(0, "i1", 1.0)], user_ids=np.array(["a"]))
    with pytest.raises(
        InputError, match=r"mine: the model knows none of its items \(i0, i1, i2, ...; there they are x\)"
    ):
        data.aligned_to(Catalogue(1, np.array(["x"])))
    with pytest.raises(InputError, match="mine and mine have no users in common"):
        data.aligned_to(made([(0, "i1", 1.0)], user_ids=np.array(["b"])), users=True)


def test_an_id_of_several_items_is_refused_unless_the_places_agree():
    twice = Catalogue(3, np.array(["a", "b", "a"]))
    data = Interactions.from_lists([[0, 2]], twice)
    assert data.aligned_to(Catalogue(3, twice.ids.copy())) is data
    for one, other in ((twice, ["b", "a"]), (Catalogue(2, np.array(["b", "a"])), ["a", "b", "a"])):
        with pytest.raises(InputError, match="an id stands for more than one item"):
            Interactions.from_lists([[0]], one).aligned_to(Catalogue(len(other), np.array(other)))


def test_without_ids_the_shapes_must_agree():
    named, bare = made([(0, "i1", 1.0)]), Interactions.from_lists([[1]], 8)
    assert named.aligned_to(bare) is named and bare.aligned_to(named) is bare
    assert bare.aligned_to(named, users=True) is bare
    with pytest.raises(InputError, match="lists has 5 items and mine 8; they must agree"):
        Interactions.from_lists([[1]], 5).aligned_to(named)
    with pytest.raises(InputError, match="same users in the same rows, got 1 and 2 rows"):
        Interactions.from_lists([[1], [1]], 8).aligned_to(named, users=True)


def test_what_carries_no_catalogue_is_refused():
    data = made([(0, "i1", 1.0)])
    for other in (ItemWeights(np.eye(8)), "msweb", None):
        with pytest.raises(InputError, match="carries no catalogue to align to"):
            data.aligned_to(other)
    with pytest.raises(InputError, match="users=True matches the users of Interactions, got Catalogue"):
        data.aligned_to(data.items, users=True)


class TestItemsChosenFromAMatrixWithoutIds:
    """Their ids are columns of that matrix, which is known to be their origin."""

    @pytest.fixture
    def whole(self, rng):
        return Interactions.from_csr(Interactions.from_triples(*np.nonzero(rng.random((40, 9)) < 0.5)).to_csr())

    def test_the_matrix_is_matched_by_column(self, whole):
        part = whole.select_items(np.array([4, 0, 7]))
        found = whole.keep(np.isin(whole.indices, [0, 4, 7])).aligned_to(part)
        np.testing.assert_array_equal(found.to_csr().toarray(), whole.to_csr().toarray()[:, [4, 0, 7]])
        again = part.aligned_to(whole)
        np.testing.assert_array_equal(again.to_csr().toarray()[:, [4, 0, 7]], part.to_csr().toarray())

    def test_so_it_is_where_all_were_chosen(self, whole):
        order = np.roll(np.arange(9), 4)
        part = whole.select_items(order)
        np.testing.assert_array_equal(whole.aligned_to(part).indices, np.argsort(order)[whole.indices])

    def test_another_matrix_of_that_width_is_refused_unless_in_order(self, whole):
        part, other = whole.select_items(np.roll(np.arange(9), 4)), Interactions.from_lists([[3]], 9)
        with pytest.raises(
            InputError, match="items of lists have no ids, and those of matrix are as many, in another order"
        ):
            other.aligned_to(part)
        assert other.aligned_to(whole.select_items(np.arange(9))).indices.tolist() == [3]
        assert Interactions.from_lists([[2]], 3).aligned_to(whole.select_items([4, 0, 7])).indices.tolist() == [2]

    def test_names_and_columns_are_not_compared(self, whole):
        named = dataclasses.replace(whole, items=Catalogue(9, np.arange(9)[::-1].copy()))
        with pytest.raises(InputError, match="the items of matrix have no ids, only indices"):
            named.aligned_to(whole.select_items(np.roll(np.arange(9), 4)))

    def test_the_strong_split_renumbers_and_nothing_goes_wrong(self, rng):
        data = Interactions.from_csr(Interactions.from_triples(*np.nonzero(rng.random((60, 12)) < 0.6)).to_csr())
        train = split(data, "strong").train
        assert train.n_items == 12 and train.items.ids.tolist() != list(range(12))
        found = data.rows([5]).aligned_to(Ease(1.0).fit(train))
        assert sorted(train.items.ids[found.indices]) == sorted(data.rows([5]).indices)


class TestUsersWithoutIds:
    def test_rows_chosen_from_the_same_data_are_matched(self, rng):
        data = Interactions.from_triples(*np.nonzero(rng.random((30, 6)) < 0.5), n_users=30, n_items=6)
        fold_in, targets = split(data, "per-user").test
        chosen, order = np.array([7, 3, 20, 11]), rng.permutation(30)
        with pytest.warns(UserWarning, match="users of whom the other part has no row"):
            found = targets.rows(order).aligned_to(fold_in.rows([11, 3, 7, 20]).rows([2, 1, 3, 0]), users=True)
        np.testing.assert_array_equal(found.to_csr().toarray(), targets.to_csr().toarray()[chosen])
        back = targets.rows(order).aligned_to(fold_in, users=True)
        np.testing.assert_array_equal(back.to_csr().toarray(), targets.to_csr().toarray())
        with pytest.raises(InputError, match="no users in common"):
            targets.rows([1, 2]).aligned_to(fold_in.rows([3, 4]), users=True)

    def test_rows_of_other_data_are_taken_as_they_stand(self, rng):
        one, other = (Interactions.from_lists([[u] for u in range(5)], 5) for _ in range(2))
        found = one.rows([3, 1]).aligned_to(other.rows([0, 4]), users=True)
        assert found.indices.tolist() == [3, 1]
