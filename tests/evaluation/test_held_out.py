"""Evaluations of data that number items or users in another way than the model, or than each other."""

import dataclasses
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrec
from jaxrec import Catalogue, Ease, Ials, InputError, Interactions, ItemWeights, Popularity, evaluate
from jaxrec.data.splits import HeldOut, Split, leave_one_out, strong_generalization

NAMES = "recall@3,ndcg@5,coverage@3"


@pytest.fixture
def data(rng):
    taste = rng.random((3, 14)) ** 2
    x = rng.random((90, 14)) < 0.2 + 0.7 * taste[rng.integers(0, 3, 90)]
    ids = [f"i{i}" for i in range(14)]
    return Interactions.from_triples(*np.nonzero(x), n_users=90, n_items=14, item_ids=ids, user_ids=np.arange(90) + 500)


@pytest.fixture
def parts(data):
    return strong_generalization(data, 20)


def same(found, expected, but=("seconds", "per_user", "standard_error")):
    for field in dataclasses.fields(expected):
        if field.name not in but:
            assert getattr(found, field.name) == getattr(expected, field.name), field.name
    for name, values in expected.per_user.items():
        np.testing.assert_array_equal(found.per_user[name], values)


def test_targets_of_unknown_items_are_missed(tmp_path):
    (tmp_path / "tr.csv").write_text("user,item\n1,a\n1,b\n2,a\n2,c\n3,b\n3,c\n")
    (tmp_path / "te.csv").write_text("user,item\n1,d\n2,b\n3,a\n3,d\n")
    tr, te = (jaxrec.load(tmp_path / f"{name}.csv") for name in ("tr", "te"))
    with pytest.warns(UserWarning, match="tr and te: 2 targets are of items that the model does not know") as said:
        report = evaluate(Popularity().fit(tr), tr, te, "recall@1,ndcg@3,coverage@1")
    assert len(said) == 1
    assert report.mean["recall@1"] == pytest.approx((0 + 1 + 1 / 2) / 3)
    assert report.mean["coverage@1"] == 1 and report.n_users == 3 and report.n_unknown_targets == 2
    assert "2 targets count as missed: the model does not know their items" in str(report)
    only = te.keep(te.items.ids[te.indices] == "d")
    with pytest.raises(InputError, match="te: the model knows the item of no target"):
        evaluate(Popularity().fit(tr), tr, only)


def test_other_users_are_refused(tmp_path):
    (tmp_path / "tr.csv").write_text("user,item\nu1,a\nu1,b\nu2,a\nu3,c\n")
    (tmp_path / "te.csv").write_text("user,item\nx1,c\nx2,b\nx3,a\n")
    tr, te = (jaxrec.load(tmp_path / f"{name}.csv") for name in ("tr", "te"))
    with pytest.raises(InputError, match=r"te and tr have no users in common \(x1, x2, x3 and u1, u2, u3\)"):
        evaluate(Popularity().fit(tr), tr, te)


def test_permuted_rows_and_items_give_the_same_figures(parts, rng):
    fitted, (fold_in, targets) = Ease(5.0).fit(parts.train), parts.test
    expected = evaluate(fitted, fold_in, targets, NAMES)
    assert expected.mean["recall@3"] > 0.2
    rows, items = rng.permutation(fold_in.n_users), rng.permutation(fold_in.n_items)
    same(evaluate(fitted, fold_in, targets.rows(rows), NAMES), expected)
    same(evaluate(fitted, fold_in.select_items(items), targets.select_items(items), NAMES), expected)
    same(evaluate(fitted, fold_in, targets.select_items(items), NAMES), expected)
    same(
        evaluate(fitted.model, fold_in.select_items(items), targets, NAMES),
        expected,
        ("seconds", "per_user", "model", "standard_error", "trained_on_these"),
    )
    turned = evaluate(fitted, fold_in.rows(rows), targets, NAMES)
    np.testing.assert_array_equal(turned.per_user["recall@3"], expected.per_user["recall@3"][rows])
    bare = ItemWeights(fitted.model.weights)  # knows no names: the fold-in is in its order, the targets follow that
    assert evaluate(bare, fold_in, targets.select_items(items), NAMES).mean == expected.mean


def test_users_and_items_that_one_side_lacks(parts):
    fitted, (fold_in, targets) = Ease(5.0).fit(parts.train), parts.test
    expected = evaluate(fitted, fold_in, targets, NAMES)
    some = np.flatnonzero(targets.user_counts)
    fewer = evaluate(fitted, fold_in, targets.rows(some[3:]), NAMES)
    assert np.isnan(fewer.per_user["recall@3"][some[:3]]).all() and fewer.n_users == len(some) - 3
    np.testing.assert_array_equal(fewer.per_user["recall@3"][some[3:]], expected.per_user["recall@3"][some[3:]])
    with pytest.warns(UserWarning, match="3 users of whom the other part has no row are left out"):
        lacking = evaluate(fitted, fold_in.rows(np.delete(np.arange(fold_in.n_users), some[:3])), targets, NAMES)
    assert lacking.n_unknown_users == 3 and lacking.mean["recall@3"] == fewer.mean["recall@3"]
    small = Ease(5.0).fit(parts.train.select_items(np.array([9, 2, 4, 11, 0, 7])))
    with pytest.warns(UserWarning, match="entries of .* are left out; .* count as missed") as said:
        report = evaluate(small, fold_in, targets, NAMES)
    assert len(said) == 1
    known = np.isin(fold_in.items.ids, small.info.items.ids)
    assert report.n_unknown_fold_in == np.count_nonzero(~known[fold_in.indices])
    assert report.n_unknown_targets == np.count_nonzero(~known[targets.indices])
    assert report.n_users == expected.n_users
    for u in some:
        history = fold_in.rows([u]).select_items(np.flatnonzero(known))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = jaxrec.recommend(small, history, 3).ids()[0]
        wanted = set(targets.items.ids[targets.rows([u]).indices])
        assert report.per_user["recall@3"][u] == pytest.approx(len(wanted & set(top)) / len(wanted))


def test_another_split_of_the_same_items_is_matched_and_flagged(data):
    one, other = (strong_generalization(data, 20, seed=seed) for seed in (1, 2))
    assert one.train.items.ids.tolist() != other.train.items.ids.tolist()
    fitted = Ease(5.0).fit(one.train)
    found = evaluate(fitted, *other.test, NAMES)
    by_hand = [
        part.select_items([data.items.find(i) for i in one.train.items.ids])
        for part in (
            data.rows(other.test.fold_in.user_ids - 500).keep(_kept(data, other.test.fold_in)),
            data.rows(other.test.targets.user_ids - 500).keep(_kept(data, other.test.targets)),
        )
    ]
    assert found.mean == evaluate(ItemWeights(fitted.model.weights), *by_hand, NAMES).mean
    assert found.trained_on_these is True and "this is no test: the model was trained on data" in str(found)
    clean = evaluate(fitted, *one.test, NAMES)
    assert clean.trained_on_these is False and "no test" not in str(clean)
    assert evaluate(Ease(5.0).fit(data), *one.test, NAMES).trained_on_these is True
    assert evaluate(fitted.model, *one.test, NAMES).trained_on_these is None


def _kept(data, part):
    """Which entries of the data, of the users of a part in its order, stand in that part."""
    rows = data.rows(part.user_ids - 500)
    there = set(zip(part.user_ids[part.user_of_entry].tolist(), part.items.ids[part.indices].tolist(), strict=True))
    return np.array(
        [
            pair in there
            for pair in zip(
                rows.user_ids[rows.user_of_entry].tolist(), rows.items.ids[rows.indices].tolist(), strict=True
            )
        ]
    )


@pytest.mark.parametrize("order", [1, -1])
def test_users_with_an_empty_fold_in_are_counted(order):
    """With all of the test users new, items are ranked by number: the figure is of the numbering."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 51) ** 1.2
    chances /= chances.sum()
    rows = [
        (u, i, u * 10 + rng.integers(0, 10)) for u in range(300) for i in rng.choice(50, 6, replace=False, p=chances)
    ]
    users, items, times = np.array(rows).T
    split = jaxrec.split(Interactions.from_triples(users, np.arange(50)[::order][items], timestamps=times), "time")
    for method in (Ease(10.0), Ials(rank=8), Popularity()):
        report = evaluate(method.fit(split.train), *split.test, "recall@5")
        assert report.n_without_fold_in == report.n_users == 60
        assert "60 users have an empty fold-in, so that what is ranked says nothing of them" in str(report)
        by_number = order == -1 and not isinstance(method, Popularity)
        assert report.mean["recall@5"] == pytest.approx(0.022 if by_number else 0.511, abs=5e-4)


@pytest.mark.parametrize("batch_size", [None, 1, 2])
@pytest.mark.parametrize("targets", [[[], [1], [2]], [[0], [1], [2]], [[], [], [2]]])
def test_a_scorer_is_told_the_rows_of_the_fold_in_as_given(targets, batch_size):
    scores = np.array([[0.9, 0.1, 0.2, 0.3], [0.1, 0.9, 0.2, 0.3], [0.1, 0.2, 0.9, 0.3]], np.float32)

    class Elsewhere:
        n_items = 4

        def score(self, history):
            return jnp.asarray(scores)[history.rows]

    fold_in = Interactions.from_lists([[3]] * 3, 4)
    report = evaluate(Elsewhere(), fold_in, Interactions.from_lists(targets, 4), "recall@1", batch_size=batch_size)
    assert report.mean["recall@1"] == 1


def test_leave_user_out_matches_rows_and_items(data, rng):
    held_out = leave_one_out(data).test
    expected = jaxrec.evaluate_leave_user_out(Ease(5.0), data, NAMES, held_out=held_out)
    rows, items = rng.permutation(90), rng.permutation(14)
    shuffled = HeldOut(held_out.fold_in.rows(rows), held_out.targets.select_items(items))
    same(jaxrec.evaluate_leave_user_out(Ease(5.0), data, NAMES, held_out=shuffled), expected)
    fewer = HeldOut(*(part.rows(np.arange(40, 90)) for part in held_out))
    found = jaxrec.evaluate_leave_user_out(Ease(5.0), data, NAMES, held_out=fewer)
    assert (
        found.n_users == np.count_nonzero(fewer.targets.user_counts) and found.n_without_targets == 90 - found.n_users
    )
    np.testing.assert_array_equal(found.per_user["recall@3"][40:], expected.per_user["recall@3"][40:])
    strangers = HeldOut(*(dataclasses.replace(part, user_ids=np.arange(90) + 900) for part in held_out))
    with pytest.raises(InputError, match="no users in common"):
        jaxrec.evaluate_leave_user_out(Ease(5.0), data, held_out=strangers)


def test_tuning_matches_items_and_warns_once(data, parts):
    items = np.roll(np.arange(parts.train.n_items), 5)
    shuffled = Split(parts.train, parts.test, HeldOut(*(part.select_items(items) for part in parts.validation)))
    expected, found = (
        jaxrec.tune(Ease(), data, {"reg": [1, 50]}, protocol=p, metric="ndcg@5") for p in (parts, shuffled)
    )
    assert [c.report.mean for c in found.candidates] == [c.report.mean for c in expected.candidates]
    small = Split(parts.train.select_items(items[:9]), parts.test, parts.validation)
    with pytest.warns(UserWarning) as said:
        tuned = jaxrec.tune(Ease(), data, {"reg": [1, 50, 100]}, protocol=small, metric="ndcg@5")
    assert len(said) == 1 and tuned.best.report.n_unknown_targets > 0


def test_an_update_matches_items(data):
    train, new = data.rows(np.arange(85)), data.rows(np.arange(85, 90))
    fitted = Ease(5.0, dtype="float64").fit(train)
    expected = jaxrec.update(fitted, train, added=new)
    found = jaxrec.update(fitted, train, added=new.select_items(np.arange(14)[::-1]))
    np.testing.assert_array_equal(found.fitted.model.weights, expected.fitted.model.weights)
    assert found.fitted.model.items is found.fitted.info.items
    more = dataclasses.replace(new, items=Catalogue(14, np.array(["new", *new.items.ids[1:]])))
    with pytest.warns(UserWarning, match="items that interactions does not know .new. are left out"):
        found = jaxrec.update(fitted, train, added=more)
    without = jaxrec.update(fitted, train, added=new.keep(new.indices != 0))
    np.testing.assert_array_equal(found.fitted.model.weights, without.fitted.model.weights)
    renamed = dataclasses.replace(train, items=Catalogue(14, np.roll(train.items.ids, 1)))
    with pytest.raises(InputError, match="the model was not fitted on interactions as given"):
        jaxrec.update(fitted, renamed, added=new)
    with pytest.raises(InputError, match="interactions knows none of its items"):
        jaxrec.update(fitted, train, added=dataclasses.replace(new, items=Catalogue(14, np.arange(14))))


def test_validation_users_of_a_training_are_matched(parts):
    pytest.importorskip("flax")
    items = np.roll(np.arange(parts.train.n_items), 5)
    shuffled = HeldOut(*(part.select_items(items) for part in parts.validation))
    seen = []
    for validation in (parts.validation, shuffled):
        method = jaxrec.MultDae(latent=4, epochs=2, batch_size=30)
        detail = method.fit(parts.train, validation=validation).info.certificate.detail
        seen.append(detail["ndcg@100 on the validation users"])
    assert seen[0] == seen[1] > 0
