"""Updates: equal to a fit on the changed data, for every closed form; what cannot be done is said."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxrec
from jaxrec import Ease, Edlae, InputError, Interactions, Lae, Popularity, Rlae, Status
from jaxrec import update as update_users
from jaxrec.closed_form import update as update_module

METHODS = [
    Ease(3.0, dtype="float64"),
    Edlae(3.0, 0.0, dtype="float64"),
    Edlae(3.0, 0.3, dtype="float64"),
    Lae(30.0, dtype="float64"),
    Lae(30.0, 0.2, dtype="float64"),
    Rlae(3.0, xi=0.3, dtype="float64"),
    Rlae(3.0, 0.2, xi=0.3, dtype="float64"),
]


def interactions(rng, n_users, n_items=60, first_id=1000):
    x = rng.random((n_users, n_items)) < 0.05 + 0.4 * rng.random(n_items)
    ids = [f"u{u}" for u in range(first_id, first_id + n_users)]
    return Interactions.from_triples(*np.nonzero(x), n_users=n_users, n_items=n_items, user_ids=ids)


@pytest.fixture
def train(rng):
    return interactions(rng, 200)


def without_ids(data):
    return dataclasses.replace(data, user_ids=None)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("what", ["add", "forget", "both"])
def test_equals_a_fit_on_the_new_data(method, what, train, rng, monkeypatch):
    monkeypatch.setattr(update_module, "WORTH_IT", 10)
    added = interactions(rng, 4, first_id=5000) if what != "forget" else None
    removed = ["u1003", "u1100", "u1042"] if what != "add" else []
    found = update_users(method.fit(train), train, added=added, removed=removed)
    assert found.refitted is None
    kept = [u for u, name in enumerate(train.user_ids) if name not in removed]
    rows = [train.rows(np.array(kept)).to_csr()] + ([added.to_csr()] if added is not None else [])
    expected = method.fit(Interactions.from_csr(jaxrec_vstack(rows)))
    np.testing.assert_allclose(found.fitted.model.weights, expected.model.weights, atol=1e-12)
    np.testing.assert_allclose(found.fitted.model.unexplained, expected.model.unexplained, rtol=1e-11)
    assert found.fitted.info.certificate.status is Status.OK
    assert found.fitted.info.data["fingerprint"] == found.train.fingerprint
    assert found.train.n_users == 200 - len(removed) + (4 if added is not None else 0)


def jaxrec_vstack(rows):
    import scipy.sparse as sp

    return sp.vstack(rows, format="csr")


def test_a_changed_history_and_back_again(train):
    method = Ease(3.0)
    fitted = method.fit(train)
    user = np.array([17])
    shorter = train.rows(user).keep(np.arange(train.user_counts[17]) > 1)
    changed = update_users(fitted, train, added=shorter, removed=["u1017"])
    assert changed.refitted is None and changed.train.nnz == train.nnz - 2
    assert np.abs(changed.fitted.model.weights - fitted.model.weights).max() > 1e-3
    back = update_users(changed.fitted, changed.train, added=train.rows(user), removed=["u1017"])
    np.testing.assert_allclose(back.fitted.model.weights, fitted.model.weights, atol=1e-5)


def test_many_updates_in_a_row_do_not_drift_away(train):
    fitted, data = Ease(30.0).fit(train), train
    for user in train.user_ids[:50]:
        fitted, data, refitted = update_users(fitted, data, removed=[user])
        assert refitted is None
    np.testing.assert_allclose(fitted.model.weights, Ease(30.0).fit(data).model.weights, atol=1e-5)


@pytest.mark.parametrize("method", [Ease(3.0), Edlae(3.0, 0.3), Lae(30.0), Rlae(3.0, xi=0.3)], ids=str)
def test_forgetting_leaves_exact_zeros(method, rng):
    """The last user has an item to himself, and alone links two halves of the catalogue."""
    x = np.zeros((101, 31))
    x[:50, :15], x[50:100, 15:30] = rng.random((50, 15)) < 0.3, rng.random((50, 15)) < 0.3
    x[100, [2, 5, 17, 21, 30]] = 1
    data = Interactions.from_triples(*np.nonzero(x), n_users=101, n_items=31)
    found = update_users(method.fit(data), data, removed=[100])
    assert found.refitted is None
    weights = np.asarray(found.fitted.model.weights)
    assert not weights[30].any() and not weights[:, 30].any()
    assert not weights[:15, 15:].any() and not weights[15:, :15].any() and weights[:15, :15].any()
    np.testing.assert_allclose(weights, method.fit(found.train).model.weights, atol=2e-6)


def test_an_update_that_has_drifted_is_replaced_by_a_fit(train):
    fitted = Ease(3.0).fit(train)
    weights = fitted.model.weights.copy()
    weights[3, 5] += 0.1
    spoilt = fitted._replace(model=dataclasses.replace(fitted.model, weights=weights))
    found = update_users(spoilt, train, removed=["u1000"])
    assert found.refitted and "residual" in found.refitted
    np.testing.assert_array_equal(found.fitted.model.weights, Ease(3.0).fit(found.train).model.weights)
    assert update_users(fitted, train, removed=["u1000"], residual_limit=1e-12).refitted


def test_changes_of_many_users_are_a_fit(train):
    found = update_users(Ease(3.0).fit(train), train, removed=train.user_ids[:50])
    assert found.refitted == "50 changed rows on 60 items"


def test_a_device_model_stays_on_its_device(train):
    method = Ease(3.0, solver="jax")
    found = update_users(method.fit(train), train, removed=["u1000"])
    assert found.refitted is None and isinstance(found.fitted.model.weights, jax.Array)
    np.testing.assert_allclose(found.fitted.model.weights, method.fit(found.train).model.weights, atol=2e-5)


@pytest.mark.parametrize("n_removed", [1, 50])  # an update, a fit
def test_a_split_model_stays_split(train, n_removed):
    method = Ease(3.0)
    fitted = method.fit(train, jax.devices()[:3])
    assert fitted.model.padding > 0
    found = update_users(fitted, train, removed=train.user_ids[:n_removed])
    assert (found.refitted is None) == (n_removed == 1)
    assert found.fitted.model.weights.sharding == fitted.model.weights.sharding
    expected = method.fit(found.train).model
    np.testing.assert_allclose(found.fitted.model.to_host().weights, expected.weights, atol=2e-5)
    again = update_users(found.fitted, found.train, removed=["u1199"])
    assert again.fitted.model.n_items == 60 and again.refitted is None


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.int64])
def test_numbers_of_users_are_continued_in_any_type(train, dtype):
    data = dataclasses.replace(train.rows(np.arange(128)), user_ids=np.arange(128).astype(dtype))
    added = without_ids(train.rows(np.arange(128, 131)))
    found = update_users(Ease(3.0).fit(data), data, added=added)
    assert [int(name) for name in found.train.user_ids[-3:]] == [128, 129, 130]


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (np.int64, np.uint64),
        (np.uint64, np.int64),
        (str, np.int64),
        (np.int64, str),
        (object, str),
        (np.int8, np.int64),
    ],
)
def test_ids_of_other_types_stay_what_they_are(train, first, more):
    data = dataclasses.replace(train, user_ids=np.arange(200).astype(np.uint8 if first is np.int8 else first))
    added = dataclasses.replace(train.rows([0, 1]), user_ids=np.array([300, 301]).astype(more))
    found = update_users(Ease(3.0).fit(data), data, added=added).train.user_ids
    assert list(map(str, found)) == list(map(str, [*range(200), 300, 301]))


def test_a_saved_model_can_be_updated(train, tmp_path):
    jaxrec.save(tmp_path / "model", Ease(3.0).fit(train))
    assert update_users(jaxrec.load_model(tmp_path / "model"), train, removed=["u1000"]).refitted is None


def test_row_numbers_stand_for_ids_and_stay_what_they_were(train):
    plain = without_ids(train)
    fitted, data, _ = update_users(Ease(3.0).fit(plain), plain, removed=[5], added=without_ids(train.rows([0])))
    assert data.user_ids.tolist() == [*range(5), *range(6, 200), 200]
    with pytest.raises(InputError, match="no user with the id 5"):
        update_users(fitted, data, removed=[5])


def test_nothing_to_do_is_nothing_done(train):
    fitted = Ease(3.0, dtype="float64").fit(train)
    found = update_users(fitted, train)
    np.testing.assert_allclose(found.fitted.model.weights, fitted.model.weights, atol=1e-15)


def test_refusals(train, rng):
    fitted = Ease(3.0).fit(train)
    for removed, match in {
        ("u1001", "u1002", "u1001"): "user 'u1001' is named twice",
        ("nobody",): "no user with the id 'nobody'",
    }.items():
        with pytest.raises(InputError, match=match):
            update_users(fitted, train, removed=removed)
    for removed in ("u1001", 5, None, [["u1001"]]):
        with pytest.raises(InputError, match=r"removed must be a sequence of user ids, got .*; put a single"):
            update_users(fitted, train, removed=removed)
    doubled = train.rows(np.append(np.arange(200), 7))
    with pytest.raises(InputError, match="two users have the id 'u1007', so that neither can be forgotten by it"):
        update_users(Ease(3.0).fit(doubled), doubled, removed=["u1007"])
    with pytest.raises(InputError, match="added holds user 'u7' twice"):
        twice = dataclasses.replace(train.rows([0, 1]), user_ids=np.array(["u7", "u7"]))
        update_users(fitted, train, added=twice)
    with pytest.raises(InputError, match="residual_limit must be finite"):
        update_users(fitted, train, removed=["u1001"], residual_limit=float("nan"))
    once = update_users(fitted, train, removed=["u1001"])
    with pytest.raises(InputError, match="no user with the id 'u1001'"):
        update_users(once.fitted, once.train, removed=["u1001"])
    with pytest.raises(InputError, match="not fitted on interactions as given"):
        update_users(once.fitted, train, removed=["u1002"])
    with pytest.raises(InputError, match="added holds user 'u1000'"):
        update_users(fitted, train, added=train.rows([0]))
    with pytest.raises(InputError, match="added needs user_ids"):
        update_users(fitted, train, added=without_ids(train.rows([0])))
    with pytest.raises(InputError, match="added has 61 items and the model 60"):
        update_users(fitted, train, added=interactions(rng, 2, 61))
    with pytest.raises(InputError, match="no interactions would be left"):
        update_users(fitted, train, removed=train.user_ids)
    with pytest.raises(InputError, match="only closed forms"):
        update_users(Popularity().fit(train), train, removed=["u1001"])
    bare = fitted._replace(model=jaxrec.ItemWeights(fitted.model.weights))
    with pytest.raises(InputError, match="without keeping"):
        update_users(bare, train, removed=["u1001"])
