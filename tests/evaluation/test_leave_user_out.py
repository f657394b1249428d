"""Leave-one-user-out: equal to fitting again without the user, for every user, from the definition in float64."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.sparse as sp
from reference import dense, ease_columnwise

import jaxrec
from jaxrec import Ease, Edlae, FitError, InputError, Interactions, Lae, Popularity, Rlae
from jaxrec.closed_form import certificate
from jaxrec.closed_form.without_user import LeaveUserOut, scores
from jaxrec.closed_form.without_user import inverse as without_user
from jaxrec.data.splits import HeldOut, leave_one_out, per_user_random
from jaxrec.evaluation.leave_user_out import leave_user_out, squared_error
from jaxrec.solvers.spd import spd_inverse

METHODS = [
    Ease(3.0, dtype="float64"),
    Edlae(3.0, 0.0, dtype="float64"),
    Edlae(3.0, 0.4, dtype="float64"),
    Lae(3.0, dtype="float64"),
    Lae(3.0, 0.3, dtype="float64"),
    Rlae(3.0, xi=0.4, dtype="float64"),
    Rlae(3.0, 0.3, xi=0.4, dtype="float64"),
]


@pytest.fixture
def data(rng):
    """40 users and 13 items, one user without entries and one who has all items."""
    x = rng.random((40, 13)) < 0.1 + 0.5 * rng.random(13)
    x[3], x[7] = False, True
    return Interactions.from_triples(*np.nonzero(x), n_users=40, n_items=13)


def weights_without(x, u, method):
    """The optimum on all rows but u, by the stationarity of each column and nothing of ours."""
    x = np.delete(x, u, axis=0)
    gram = x.T @ x
    penalty = method.reg + getattr(method, "dropout", 0) / (1 - getattr(method, "dropout", 0)) * np.diag(gram)
    inverse = np.linalg.inv(gram + np.diag(penalty))
    free = np.eye(len(gram)) - inverse * penalty
    s = np.where(np.diag(free) > method.diagonal_limit, (1 - method.diagonal_limit) / np.diag(inverse), penalty)
    return np.eye(len(gram)) - inverse * s


def scores_without(x, fold_in, method):
    return np.stack([fold_in[u] @ weights_without(x, u, method) for u in range(len(x))])


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_scores_equal_those_of_fits_without_the_user(method, data):
    fold_in = per_user_random(data, 0.4).test.fold_in
    without = leave_user_out(method, data)
    found = without.scores(data.to_csr(np.float64), fold_in.to_csr(np.float64))
    np.testing.assert_allclose(found, scores_without(dense(data), dense(fold_in), method), atol=1e-11)
    assert without.certificate.status is jaxrec.Status.OK


def test_the_fold_in_may_hold_what_the_history_does_not(data, rng):
    other = rng.random((40, 13)) * (rng.random((40, 13)) < 0.3)
    fold_in = Interactions.from_triples(*np.nonzero(other), other[other != 0], n_users=40, n_items=13)
    found = leave_user_out(METHODS[0], data).scores(data.to_csr(np.float64), fold_in.to_csr(np.float64))
    np.testing.assert_allclose(found, scores_without(dense(data), dense(fold_in), METHODS[0]), atol=1e-11)


def test_values_other_than_one_are_used_as_they_are(data, rng):
    valued = dataclasses.replace(data, values=rng.integers(1, 6, data.nnz).astype(np.float32))
    for method in METHODS:
        found = leave_user_out(method, valued).scores(*[valued.to_csr(np.float64)] * 2)
        np.testing.assert_allclose(found, scores_without(dense(valued), dense(valued), method), atol=1e-10)


def test_the_reference_itself_is_ease(data):
    x = dense(data)
    np.testing.assert_allclose(
        weights_without(x, 5, Ease(3.0)), ease_columnwise(np.delete(x, 5, axis=0), 3.0), atol=1e-11
    )


@pytest.mark.parametrize("method", [Ease(3.0), Edlae(3.0, 0.4), Popularity()], ids=str)
def test_report_equals_that_of_refits(method, data):
    part = per_user_random(data, 0.4, seed=5).test
    found = jaxrec.evaluate_leave_user_out(
        method, data, "recall@3,ndcg@5,coverage@3", test_fraction=0.4, seed=5, batch_size=7
    )
    seen = np.zeros(13, bool)
    for u in range(40):
        if part.targets.user_counts[u]:
            others = data.rows(np.delete(np.arange(40), u))
            one = [side.rows(np.array([u])) for side in part]
            report = jaxrec.evaluate(method.fit(others), *one, "recall@3,ndcg@5")
            for name in report.mean:
                assert found.per_user[name][u] == pytest.approx(report.mean[name], abs=1e-9)
            seen[jaxrec.recommend(method.fit(others), one[0], 3).items[0]] = True
        else:
            assert np.isnan(found.per_user["recall@3"][u])
    assert found.mean["coverage@3"] == pytest.approx(seen.mean())
    assert found.n_users + found.n_without_targets == 40 and found.model == str(method)


def test_both_solvers_agree(data):
    part = leave_one_out(data).test
    for make in (Ease, Lae, Rlae):
        host, device = (
            leave_user_out(make(3.0, solver=solver), data).scores(data.to_csr(), part.fold_in.to_csr())
            for solver in ("host", "jax")
        )
        np.testing.assert_allclose(host, device, atol=1e-5)
    assert isinstance(leave_user_out(Ease(3.0, solver="jax"), data).off, jax.Array)


@pytest.fixture
def with_a_loner(rng):
    """The last of 60 users has 200 of 210 items almost to himself: 1 - h is next to reg / 200."""
    x = np.zeros((60, 210))
    x[:59, :10] = rng.random((59, 10)) < 0.5
    x[:5, 10:] = rng.random((5, 200)) < 0.05
    x[59, 10:], x[59, 0] = 1, 1
    return Interactions.from_triples(*np.nonzero(x), n_users=60, n_items=210)


@pytest.mark.parametrize("solver", ["host", "jax"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("float64_items", [0, 1000])  # by refined rows, by an inverse in float64
def test_float32_resolves_a_user_with_items_almost_to_himself(
    with_a_loner, solver, dropout, float64_items, monkeypatch
):
    monkeypatch.setattr(without_user, "FLOAT64_ITEMS", float64_items)
    for reg in (1.0, 0.1, 0.01):  # from the inverse in float32 alone, errors of 2 %, 30 % and 90 %
        method = Edlae(reg, dropout, solver=solver)
        x, history = dense(with_a_loner), with_a_loner.to_csr()
        found = leave_user_out(method, with_a_loner).scores(history, history)[59]
        expected = x[59] @ weights_without(x, 59, method)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("solver", ["host", "jax"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_nothing_is_refined_where_that_is_not_needed(data, solver, dropout, monkeypatch):
    monkeypatch.setattr(LeaveUserOut, "_better", lambda *_: pytest.fail("a user is refined without need"))
    leave_user_out(Edlae(3.0, dropout, solver=solver), data).scores(*[data.to_csr()] * 2)


@pytest.mark.parametrize("method", [Ease(0.1), Edlae(0.1, 0.2), Ease(0.1, solver="jax")], ids=str)
def test_a_user_whom_rounding_hides_is_refused(with_a_loner, method, monkeypatch):
    monkeypatch.setattr(certificate, "REFINEMENTS", 1)
    monkeypatch.setattr(without_user, "FLOAT64_ITEMS", 0)
    with pytest.raises(FitError, match="without a user who has items almost to himself, or far larger"):
        leave_user_out(method, with_a_loner).scores(*[with_a_loner.to_csr()] * 2)


def sparse_data(seed: int) -> Interactions:
    """Private items, users who share items with one other user, and several components, as sparse data have them."""
    rng = np.random.default_rng(seed)
    x = np.zeros((60, 90))
    x[:30, :20], x[30:50, 20:35] = rng.random((30, 20)) < 0.12, rng.random((20, 15)) < 0.15
    x[np.arange(50), rng.integers(35, 60, 50)] = 1
    x[np.arange(60), rng.integers(60, 90, 60)] = 1
    x[:3, 20] = 1  # these three link the halves
    return Interactions.from_triples(*np.nonzero(x), n_users=60, n_items=90)


SPARSE_METHODS = [Ease(1.0), Ease(1.0, solver="jax"), Edlae(1.0, 0.3), Lae(3.0), Rlae(1.0, xi=0.3)]


@pytest.mark.parametrize("method", SPARSE_METHODS, ids=str)
def test_zeros_and_ties_are_exact_without_the_user(method):
    """What is 0 or equal without the user, in float64, is so exactly: rounding would rank the user's own items."""
    data = sparse_data(1)
    part = per_user_random(data, 0.5).test
    found = leave_user_out(method, data).scores(data.to_csr(), part.fold_in.to_csr())
    expected = scores_without(dense(data), dense(part.fold_in), method)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    off = dense(part.fold_in) == 0
    np.testing.assert_array_equal(found[(np.abs(expected) < 1e-14) & off], 0)
    x, ties = dense(data), 0
    for u in range(60):
        columns = np.delete(x, u, axis=0)
        for j in np.flatnonzero(x[u] * off[u]):
            twins = np.flatnonzero((columns == columns[:, [j]]).all(axis=0) & off[u])
            assert len(set(found[u, twins])) == 1
            ties += len(twins) > 1
    assert ties > 10


@pytest.mark.parametrize("method", SPARSE_METHODS[:1] + SPARSE_METHODS[2:4], ids=str)
def test_metrics_equal_those_of_refits_on_sparse_data(method):
    """Before zeros and ties were exact, rounding put a user's own items first."""
    data = sparse_data(2)
    part = per_user_random(data, 0.5).test
    found = jaxrec.evaluate_leave_user_out(method, data, "ndcg@10", held_out=part).per_user["ndcg@10"]
    expected = np.full(60, np.nan)
    for u in np.flatnonzero(part.targets.user_counts):
        model = method.fit(data.rows(np.delete(np.arange(60), u)))
        expected[u] = jaxrec.evaluate(model, *(side.rows([u]) for side in part), "ndcg@10").mean["ndcg@10"]
    np.testing.assert_allclose(np.nanmean(found), np.nanmean(expected), atol=0.01)
    assert np.nanmean(np.abs(found - expected) > 1e-9) < 0.1  # other ties are broken by rounding in either


@pytest.mark.parametrize("height", [1e3, 1e5, 1e6])
def test_scores_of_users_with_huge_values_are_right_or_refused(height, rng):
    refused = 0
    for reg in (1.0, 1e4, 1e7, 1e9):
        x = (rng.random((30, 14)) < 0.3) * 1.0
        x[0] = height
        data = Interactions.from_csr(sp.csr_array(x))
        fold_in = data.keep(rng.random(data.nnz) < 0.8)
        try:
            found = leave_user_out(Ease(reg), data).scores(data.to_csr(), fold_in.to_csr())
        except FitError:
            refused += 1
            continue
        expected = scores_without(x, dense(fold_in), Ease(reg))
        assert (np.linalg.norm(found - expected, axis=1) <= 0.01 * np.linalg.norm(expected, axis=1)).all()
    assert refused < 4


def test_values_of_all_sizes_end_in_right_scores(rng):
    x = (rng.random((30, 12)) < 0.4) * 10.0 ** rng.uniform(-6, 6, (30, 12))
    data = Interactions.from_csr(sp.csr_array(x.astype(np.float32)))
    found = leave_user_out(Edlae(0.1, 0.3), data).scores(data.to_csr(), data.to_csr())
    x = dense(data)
    for u in range(30):
        gram = np.delete(x, u, axis=0).T @ np.delete(x, u, axis=0)
        scale = np.sqrt(0.1 + 0.3 / 0.7 * np.diag(gram))
        inverse = np.linalg.inv(gram / np.outer(scale, scale) + np.eye(12)) / np.outer(scale, scale)
        expected = x[u] - x[u] @ (inverse / np.diag(inverse))
        assert np.linalg.norm(found[u] - expected) <= 0.01 * np.linalg.norm(expected) + 1e-9


def test_a_huge_reg_is_no_reason_to_refuse(data):
    for reg in (1e6, 1e9):
        weights = Ease(reg, dtype="float64").fit(data).model.weights
        assert leave_user_out(Ease(reg), data).size == pytest.approx(np.linalg.norm(weights), rel=1e-5)


def test_size_is_the_norm_of_the_weights(data):
    for method in METHODS:
        weights = method.fit(data).model.weights
        norm = np.linalg.norm(weights - np.diag(np.diag(weights)))
        assert leave_user_out(method, data).size == pytest.approx(norm, rel=1e-9)


def test_kernel_with_user_weights(x64, data, rng):
    x, w = dense(data), rng.random(40) + 0.5
    penalty = 1 + rng.random(13)
    inverse = jax.jit(spd_inverse)(x.T @ (w[:, None] * x) + np.diag(penalty))
    found = jax.jit(scores)(inverse, x, x, penalty, 0.0, w)
    error = 0.0
    for u in range(40):
        rest = np.delete(np.arange(40), u)
        left = np.linalg.inv(x[rest].T @ (w[rest, None] * x[rest]) + np.diag(penalty))
        expected = x[u] @ (np.eye(13) - left / np.diag(left))
        np.testing.assert_allclose(found[u], expected, atol=1e-11)
        error += w[u] * np.sum((x[u] - expected) ** 2)
    assert float(jax.jit(squared_error)(x, penalty, w)) == pytest.approx(error, rel=1e-11)


@pytest.mark.parametrize("of", ["reg", "item", "user"])
def test_gradients_of_the_squared_error(x64, data, rng, of):
    x = dense(data)
    at, loss = {
        "reg": (np.array([2.0]), lambda t: squared_error(x, t[0])),
        "item": (1 + rng.random(13), lambda t: squared_error(x, t)),
        "user": (0.5 + rng.random(40), lambda t: squared_error(x, 2.0, t)),
    }[of]
    loss = jax.jit(loss)  # else every call is traced again, for a minute in all
    found = jax.jit(jax.grad(loss))(at)
    step = 1e-5
    for j in range(len(at)):
        shift = step * (np.arange(len(at)) == j)
        assert float(found[j]) == pytest.approx(float(loss(at + shift) - loss(at - shift)) / (2 * step), rel=2e-6)


def test_refusals(data):
    class Odd(Ease):
        def penalty(self, gram_diagonal):
            return np.full(len(gram_diagonal), 1 + gram_diagonal.mean())

    class Own(Ease):
        def fit(self, train):
            return super().fit(train)

    with pytest.raises(InputError, match=r"exact for the closed forms.*not for Own"):
        jaxrec.evaluate_leave_user_out(Own(), data)
    with pytest.raises(InputError, match="penalty of Odd on one item depends on the others"):
        jaxrec.evaluate_leave_user_out(Odd(), data)
    with pytest.raises(InputError, match="held_out must hold the users and items of the data, 40 x 13"):
        jaxrec.evaluate_leave_user_out(Ease(), data, held_out=HeldOut(data, data.rows(np.arange(3))))
    with pytest.raises(InputError, match="no user has targets"):
        jaxrec.evaluate_leave_user_out(Ease(), data, held_out=HeldOut(data, data.keep(np.zeros(data.nnz, bool))))
    with pytest.raises(InputError, match="batch_size must be at least 1, got -5"):
        jaxrec.evaluate_leave_user_out(Ease(), data, batch_size=-5)
    with pytest.raises(InputError, match="no interactions"):
        leave_user_out(Ease(), Interactions.from_triples([], [], n_users=2, n_items=2))


def test_a_model_that_cannot_be_certified_is_not_evaluated():
    twins = Interactions.from_lists([[0, 1]] * 3000, 2)
    with pytest.raises(FitError, match="raise reg"):
        leave_user_out(Ease(1e-4), twins)


def test_the_data_stay_as_they_are(rng):
    """Rows whose items stand in any order are not sorted in place, which would move what is held out by position."""
    users = np.repeat(np.arange(30), 6)
    items = np.concatenate([rng.permutation(12)[:6] for _ in range(30)])
    data = Interactions.from_csr(sp.csr_array((np.ones(180, np.float32), items, np.arange(0, 181, 6)), shape=(30, 12)))
    before = data.indices.copy(), data.values.copy()
    jaxrec.evaluate_leave_user_out(Ease(3.0), data, "ndcg@5")
    np.testing.assert_array_equal(data.indices, before[0])
    assert len(users) == data.nnz
