"""iALS: equal to sweeps of dense solves, to the closed form without weights, on any mesh, and across a kill."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import FitError, Ials, InputError, Interactions, Popularity, Status, Weights, evaluate, load, recommend
from jaxrec.data import synthetic
from jaxrec.data.splits import strong_generalization
from jaxrec.factorization import alternation, fold_in, fold_in_items
from jaxrec.factorization.ials import method as ials
from jaxrec.factorization.ials import sweeps
from jaxrec.factorization.ridge import FoldIn
from jaxrec.runtime import memory, parallel

USERS, ITEMS, RANK = 43, 31, 5


def on_entries(x: Interactions, level: float) -> Weights:
    """Weights without a rule: of the values, so that rows and columns of X have theirs."""
    return Weights.on_entries(x, level * np.sqrt(x.values), unobserved_weight=0.4)


WEIGHTS = {
    "constant": lambda x: Weights.constant(x, 2.0, unobserved_weight=0.3),
    "log": lambda x: Weights.log(x, 3.0, 0.5),
    "popular zeros": lambda x: Weights.popularity_zeros(x, 0.7, unobserved_weight=0.4),
    "activity": lambda x: Weights.user_activity(x, -0.4, alpha=1.0),
    "on entries": lambda x: on_entries(x, 3),
}
weighted = pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)
MODES = {
    "host": {"mode": "cholesky", "solver": "host"},
    "cholesky": {"mode": "cholesky", "solver": "jax"},
    "cg": {"mode": "cg", "solver": "host"},
    "cg on a device": {"mode": "cg", "solver": "jax"},
    "block": {"mode": "block", "block_size": 2},
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@pytest.fixture
def data(rng) -> Interactions:
    """Counts; user 3 and item 5 are empty, item 9 is everyone's, item 10 is a copy of item 11."""
    x = rng.integers(1, 5, (USERS, ITEMS)) * (rng.random((USERS, ITEMS)) < 0.4 * rng.random((USERS, 1)) + 0.05)
    x[:, 9], x[:, 10] = 1, x[:, 11]
    x[3], x[:, 5] = 0, 0
    return Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=USERS, n_items=ITEMS)


def dense_parts(data, weights, method):
    """0/1 matrix, p q', S, and the strengths of both sides, from the formulas."""
    x = (data.to_csr(np.float64).toarray() != 0).astype(float)
    base, entries = np.outer(weights.row, weights.col), weights.sparse(data).toarray()
    user_reg, item_reg = (method.reg * (x.sum(axis) + base.sum(axis)) ** method.reg_exponent for axis in (1, 0))
    return x, base, entries, user_reg, item_reg


def dense_sweep(parts, p, v, target):
    """A sweep of exact alternating least squares, one dense solve a row, each on all cells of the row."""
    x, base, entries, user_reg, item_reg = parts
    w = base + entries
    wanted = x * (w if target == "one" else entries)
    eye = np.eye(p.shape[1])
    p[:] = 0
    for u in np.flatnonzero(x.any(axis=1)):
        p[u] = np.linalg.solve(v.T @ (w[u][:, None] * v) + user_reg[u] * eye, v.T @ wanted[u])
    v[:] = 0
    for i in np.flatnonzero(x.any(axis=0)):
        v[i] = np.linalg.solve(p.T @ (w[:, i][:, None] * p) + item_reg[i] * eye, p.T @ wanted[:, i])
    return p, v


def run(data, method, weights=None, n=1, mesh=None, state=None):
    """The state after n sweeps, on the host, and what each reported."""
    settings = method._settings(method._mesh(mesh))
    problem, _ = method.problem(data, weights)
    sides = sweeps.sides(problem, method.rank, settings)
    state = sweeps.init(jax.random.key(0), *data.shape, method.rank, method.init_std) if state is None else state
    state, course = sweeps.place(state, sides, settings), []
    for _ in range(n):
        state, info = sweeps.step(state, sides, problem.constant, settings)
        course.append(info)
    return sweeps.fetch(state, sides, settings), course, problem


@weighted
@pytest.mark.parametrize("target", ("shrunk", "one"))
@pytest.mark.parametrize(
    "exact", ({"solver": "host"}, {"solver": "jax"}, {"mode": "block"}, {"mode": "cg", "cg_steps": 40})
)
def test_sweeps_equal_dense_solves(data, make, target, exact, x64):
    """Every way to solve the equations; one block of the whole rank is ALS itself."""
    weights = make(data)
    if target == "shrunk" and weights.entries is not None and weights.entries.min() < 0:
        pytest.skip("these weights have no shrunk target")
    method = Ials(RANK, 0.05, reg_exponent=0.8, target=target, **{"mode": "cholesky", **exact})
    found, course, _ = run(data, method, weights, 3)
    parts = dense_parts(data, weights, method)
    p, v = (np.array(factors) for factors in sweeps.init(jax.random.key(0), USERS, ITEMS, RANK, method.init_std))
    for _ in range(3):
        p, v = dense_sweep(parts, p, v, target)
    np.testing.assert_allclose(found.user_factors, p, atol=1e-8)
    np.testing.assert_allclose(found.item_factors, v, atol=1e-8)
    x, base, entries, *regs = parts
    expected = ials.objective(x, base, entries, p, v, *regs, target)
    assert course[-1].objective == pytest.approx(float(expected), rel=1e-10)


@weighted
@pytest.mark.parametrize("target", ("shrunk", "one"))
def test_loss_and_gradients_are_those_of_the_literal_objective(data, make, target, rng, x64):
    """Away from any optimum."""
    weights = make(data)
    method = Ials(RANK, 0.05, reg_exponent=0.8, target=target)
    if target == "shrunk" and weights.entries.min() < 0:
        pytest.skip("no such objective")
    problem, _ = method.problem(data, weights)
    p, v = rng.normal(size=(USERS, RANK)), rng.normal(size=(ITEMS, RANK))
    x, base, entries, *regs = dense_parts(data, weights, method)
    literal = lambda p, v: ials.objective(x, base, entries, p, v, *regs, target)  # noqa: E731
    loss, in_users, in_items = sweeps.loss_and_gradients(problem, p, v)
    assert loss == pytest.approx(float(literal(jnp.asarray(p), jnp.asarray(v))), rel=1e-12)
    expected = jax.grad(literal, argnums=(0, 1))(jnp.asarray(p), jnp.asarray(v))
    np.testing.assert_allclose(2 * in_users, expected[0], atol=1e-9)
    np.testing.assert_allclose(2 * in_items, expected[1], atol=1e-9)


@pytest.fixture
def clustered(rng) -> Interactions:
    """Five kinds of users and items, so that the singular values have a gap after the fifth."""
    x = (rng.integers(5, size=(USERS, 1)) == np.arange(ITEMS) % 5) ^ (rng.random((USERS, ITEMS)) < 0.03)
    return Interactions.from_triples(*np.nonzero(x), n_users=USERS, n_items=ITEMS)


def test_without_weights_it_is_a_shrunken_svd(clustered, x64):
    """P V' is X cut at K, its singular values lowered by reg, and P'P = V'V."""
    settings = {"target": "one", "mode": "cholesky", "init_std": 1.0}
    (p, v), course, _ = run(clustered, Ials(RANK, 0.7, reg_exponent=0.0, **settings), Weights.uniform(clustered), 400)
    left, sigma, right = np.linalg.svd((clustered.to_csr(np.float64) != 0).toarray().astype(float))
    np.testing.assert_allclose(p @ v.T, left[:, :RANK] * (sigma - 0.7)[:RANK] @ right[:RANK], atol=1e-8)
    np.testing.assert_allclose(p.T @ p, v.T @ v, atol=1e-8)
    assert course[-1].gradient < 1e-9


@modes
def test_the_loss_never_rises_and_stays_finite(data, mode):
    _, course, _ = run(data, Ials(RANK, 0.01, **mode), n=15)
    losses = [info.objective for info in course]
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.8 * losses[0] and np.isfinite(course).all()
    assert course[-1].gradient < course[1].gradient
    exact = run(data, Ials(RANK, 0.01, mode="cholesky"), n=15)[1][-1].objective
    assert losses[-1] < 1.02 * exact  # another local optimum may be better


@modes
def test_empty_rows_are_zero_and_copies_agree(data, mode):
    (p, v), _, _ = run(data, Ials(RANK, 0.01, **mode), n=10)
    assert not p[3].any() and not v[5].any() and np.isfinite(p).all() and np.isfinite(v).all()
    np.testing.assert_allclose(v[10], v[11], atol=1e-3 * np.abs(v).max())


@pytest.mark.parametrize(("mode", "devices"), [("cg", 8), ("cg", 2), ("cholesky", 8), ("block", 8), ("block", 1)])
def test_sharded_equals_single(data, mode, devices, x64):
    """Few lengths of rows, since each is compiled; the single fit is that of the host where there is one."""
    data = data.rows(np.arange(3, 18)).select_items(np.arange(13))
    method = Ials(RANK, 0.05, mode=mode, block_size=3)
    weights = Weights.user_activity(data, -0.4, alpha=1.0)
    single, expected, _ = run(data, method, weights, 3)
    split, found, _ = run(data, method, weights, 3, mesh=jax.devices()[:devices])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    for one, other in zip(split, single, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_a_mesh_splits_the_tables_and_fits(data):
    """43 users and 31 items on 8 devices: 6 and 4 rows each."""
    mesh = parallel.make_mesh(jax.devices()[:8])
    fitted, plain = (Ials(RANK, mode="cg").fit(data, devices=m) for m in (mesh, None))
    np.testing.assert_allclose(fitted.model.item_factors, plain.model.item_factors, atol=1e-4)
    settings = Ials(RANK)._settings(mesh)
    problem, _ = Ials(RANK).problem(data)
    sides = sweeps.sides(problem, RANK, settings)
    state = sweeps.place(sweeps.init(jax.random.key(0), USERS, ITEMS, RANK, 0.1), sides, settings)
    assert {part.data.shape for part in state.user_factors.addressable_shards} == {(6, RANK)}
    state, _ = sweeps.step(state, sides, problem.constant, settings)
    assert {part.data.shape for part in state.item_factors.addressable_shards} == {(4, RANK)}


def test_float32_is_close_to_float64(data):
    single, _, _ = run(data, Ials(RANK, 0.05, mode="cholesky"), n=5)
    with jax.enable_x64(True):
        start = sweeps.IalsState(*(np.float64(f) for f in sweeps.init(jax.random.key(0), USERS, ITEMS, RANK, 0.1)))
    # The same draws in both precisions.
    start32 = sweeps.IalsState(*(np.float32(f) for f in start))
    single, _, _ = run(data, Ials(RANK, 0.05, mode="cholesky"), n=5, state=start32)
    double, _, _ = run(data, Ials(RANK, 0.05, mode="cholesky"), n=5, state=start)
    np.testing.assert_allclose(
        single.user_factors @ single.item_factors.T, double.user_factors @ double.item_factors.T, atol=1e-4
    )


def test_weights_and_reg_may_be_scaled_together(data, x64):
    method = Ials(RANK, 0.4, reg_exponent=0.0, mode="cholesky", target="one")
    weights = Weights.log(data, 2.0)
    one, _, _ = run(data, method, weights, 4)
    other, _, _ = run(data, dataclasses.replace(method, reg=1.2), weights.scaled(3.0), 4)
    np.testing.assert_allclose(one.item_factors, other.item_factors, atol=1e-9)


def test_kernels_compile_once_for_all_settings_and_both_sides(data):
    sweeps._compiled.cache_clear()
    for reg, steps in ((0.01, 2), (0.1, 3), (1.0, 5)):
        run(data, Ials(RANK, reg, cg_steps=steps, solver="jax"), n=2)
    widths = {
        w
        for counts in (data.user_counts, data.item_counts)
        for w in 2 ** np.ceil(np.log2(np.maximum(counts[counts > 0], 8)))
    }
    assert sweeps._compiled("cg", 0, parallel.default_mesh())._cache_size() == len(widths)


# -- fit --------------------------------------------------------------------------------------------------------------


@modes
def test_fit_certifies_itself(data, mode):
    fitted = Ials(RANK, 0.02, sweeps=30, **mode).fit(data)
    certificate = fitted.info.certificate
    assert certificate.status is Status.OK
    problem, _ = Ials(RANK, 0.02).problem(data)
    loss, _, in_items = sweeps.loss_and_gradients(problem, fitted.model.user_factors, fitted.model.item_factors)
    assert certificate.detail["loss"] == pytest.approx(loss, rel=1e-6)
    assert certificate.detail["loss after sweep 30"] == pytest.approx(loss, rel=1e-5)
    assert certificate.residual < (1e-5 if mode["mode"] == "cholesky" else 1e-2)
    right = sweeps.right_sides(problem, fitted.model.user_factors, fitted.model.item_factors)[1]
    assert certificate.residual == pytest.approx(np.linalg.norm(in_items) / right)
    assert 0 < certificate.detail[alternation.CHANGE] < 0.1


@modes
def test_estimated_error_of_the_item_factors(data, mode):
    """What exact items, given the users, change in the predictions; of conjugate gradients and blocks it shows."""
    method = Ials(RANK, 0.02, sweeps=4, **mode)
    fitted = method.fit(data)
    detail = fitted.info.certificate.detail
    p, v = (np.array(part, np.float64) for part in (fitted.model.user_factors, fitted.model.item_factors))
    x, base, entries, _, of_items = dense_parts(data, method.cell_weights(data), method)
    w, exact = base + entries, np.zeros_like(v)
    for i in np.flatnonzero(x.any(axis=0)):
        left = p.T @ (w[:, i][:, None] * p) + of_items[i] * np.eye(RANK)
        exact[i] = np.linalg.solve(left, p.T @ (x * entries)[:, i])
    true = np.linalg.norm(p @ (v - exact).T) / np.linalg.norm(p @ v.T)
    assert detail["estimated error of the item factors"] == pytest.approx(true, rel=1e-3)
    assert true < 1e-5 if mode["mode"] == "cholesky" else true > 1e-4


def test_item_factors_far_from_their_equations_are_refused(data, monkeypatch):
    monkeypatch.setitem(ials.ERROR_LIMITS, "cg", (1e-5, 1))
    with pytest.raises(FitError, match=r"ill-conditioned.*raise sweeps, or use mode='cholesky'"):
        Ials(RANK, sweeps=2).fit(data)
    monkeypatch.setitem(ials.ERROR_LIMITS, "cholesky", (1e-9, 1))
    with pytest.raises(FitError, match="raise reg: float32 cannot resolve"):
        Ials(RANK, sweeps=2, mode="cholesky").fit(data)


def test_one_user_alone_and_nothing_worth_learning():
    """Outside of the one direction that the targets have there is nothing, which ARPACK refuses to look at."""
    data = Interactions.from_lists([[0, 1, 2, 3]] * 3, 4)
    with pytest.warns(UserWarning, match="nothing is left to learn"):
        assert Ials(2, reg=1e4).fit(data).info.certificate.status is Status.OK


@weighted
def test_folding_in_is_the_exact_half_sweep(data, make):
    """Users of the training set, folded in, get what solving for the users gives them; so do items."""
    weights = make(data)
    fitted = Ials(RANK, 0.05, target="one", mode="cholesky", sweeps=4).fit(data, cell_weights=weights)
    parts = dense_parts(data, weights, fitted.info.method)
    v, p = (np.array(f, np.float64) for f in (fitted.model.item_factors, fitted.model.user_factors))
    expected, _ = dense_sweep(parts, p.copy(), v.copy(), "one")
    some = np.array([0, 7, 20, 1])
    explicit = None
    if weights.rule is None:
        with pytest.raises(InputError, match="no rule for unseen users"):
            fold_in(fitted.model, data.rows(some))
        with pytest.raises(InputError, match="no rule for unseen users"):
            recommend(fitted, data.rows(some))
        explicit = on_entries(data.rows(some), 3)
    found = fold_in(fitted.model, data.rows(some), explicit)
    np.testing.assert_allclose(found, expected[some], atol=2e-4)
    if explicit is None:
        np.testing.assert_allclose(fitted.model.score_host(data.to_csr())[some], found @ v.T, atol=1e-4)


@pytest.mark.parametrize("make", (WEIGHTS["constant"], WEIGHTS["activity"], WEIGHTS["on entries"]))
def test_new_items_are_folded_in(data, make):
    weights = make(data)
    fitted = Ials(RANK, 0.05, target="one", mode="cholesky", sweeps=4).fit(data, cell_weights=weights)
    some = np.array([0, 7, 9])
    columns = data.to_csr().T.tocsr()[some]
    explicit = None
    if weights.rule is None:
        turned = Interactions.from_csr(columns)
        given = on_entries(turned, 3)
        explicit = dataclasses.replace(given, row=np.full(len(some), 0.4), col=np.ones(USERS))
    found = fold_in_items(fitted.model, columns, explicit)
    np.testing.assert_allclose(found, np.asarray(fitted.model.item_factors)[some], atol=2e-4)


def test_what_cannot_be_folded_in_is_refused(data):
    model = Ials(RANK).fit(data).model
    with pytest.raises(InputError, match="row 1 of what is folded in is empty"):
        fold_in(model, data.rows(np.array([0, 3])))
    with pytest.raises(InputError, match="the model has 31 items"):
        fold_in(model, Interactions.from_lists([[0]], 7))
    with pytest.raises(InputError, match="other items than the model, so that cell_weights are not of these"):
        fold_in(model, data.rows([0]).select_items(np.arange(7)), Weights.uniform(data.rows([0])))
    with pytest.raises(InputError, match="the model has 43 users"):
        fold_in_items(model, data)
    model = Ials(RANK, target="one").fit(data, cell_weights=WEIGHTS["popular zeros"](data)).model
    with pytest.raises(InputError, match="differ from item to item"):
        fold_in_items(model, data.to_csr().T.tocsr()[[0]])
    assert not Ials(RANK).fit(data).model.score_host(data.to_csr()[[3]]).any()  # scoring gives zeros instead


@pytest.mark.parametrize("mode", ("cg", "cholesky", "block"))
@pytest.mark.parametrize("share", (0.9, 1.5))
def test_factors_of_zero_are_recognised(data, mode, share):
    """They are the optimum where no direction of the targets is worth its penalty; just below that others are."""
    method = Ials(RANK, reg=50.0, alpha=1.0, reg_exponent=0.0, mode=mode, sweeps=40)
    problem, _ = method.problem(data)
    targets = np.zeros((USERS, ITEMS))
    targets[data.user_of_entry, data.indices] = problem.users.targets
    largest = np.linalg.norm(targets / np.sqrt(np.outer(problem.users.ridge, problem.items.ridge)), 2)
    assert sweeps.singular_value_at_zero(problem) == pytest.approx(largest, rel=1e-5)
    method = dataclasses.replace(method, reg=50 * share * largest)
    if share < 1:
        fitted = method.fit(data)
        assert fitted.info.certificate.detail["loss"] < problem.constant
        return
    with pytest.warns(UserWarning, match="nothing is left to learn"):
        fitted = method.fit(data)
    assert fitted.info.certificate.status is Status.OK and not np.any(fitted.model.user_factors)


@pytest.mark.parametrize(
    ("method", "scale"), ((Ials(8, reg=1000.0), 1.0), (Ials(8, reg=1e-3, mode="cholesky"), 1e20)), ids=str
)
def test_values_out_of_range_are_told_from_what_is_not_worth_learning(data, method, scale):
    scaled = dataclasses.replace(data, values=(data.values * scale).astype(np.float32))
    if scale > 1:
        with pytest.raises(FitError, match="scale the values down, of which the largest is 4e"):
            method.fit(scaled)
    else:
        with pytest.warns(UserWarning, match="all factors are 0; lower reg"):
            fitted = method.fit(scaled)
        assert fitted.info.certificate.residual == 0 and not np.any(fitted.model.item_factors)


def test_early_stop_and_callback(data):
    seen = []
    fitted = Ials(RANK, sweeps=50).fit(data, callback=lambda n, info, state: seen.append((n, info, state)) or n == 3)
    assert [n for n, _, _ in seen] == [1, 2, 3]
    np.testing.assert_array_equal(seen[-1][2].item_factors, fitted.model.item_factors)
    tolerant = Ials(RANK, reg=0.1, sweeps=500, tolerance=1e-3, mode="cholesky").fit(data).info.certificate.detail
    done = max(int(name.split()[-1]) for name in tolerant if name.startswith("loss after"))
    losses = [tolerant[f"loss after sweep {n}"] for n in range(1, done + 1)]
    assert 2 < done < 500 and losses[-2] - losses[-1] < 1e-3 * losses[-2] <= losses[-3] - losses[-2] + 1e-9 * losses[-2]


def test_same_key_same_factors(data):
    one, two, other = (Ials(RANK).fit(data, key=jax.random.key(k)).model for k in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert np.abs(one.item_factors - other.item_factors).max() > 1e-3


def test_it_learns():
    train, test, _ = strong_generalization(load("msweb").rows(np.arange(12000)), n_heldout=500)
    scores = [
        evaluate(m.fit(train), *test, "ndcg@20").mean["ndcg@20"] for m in (Ials(reg=0.01, sweeps=5), Popularity())
    ]
    assert scores[0] > scores[1] + 0.04


# -- checkpoints ------------------------------------------------------------------------------------------------------


@modes
def test_a_checkpoint_continues_with_the_very_result(data, mode, tmp_path):
    method = Ials(RANK, sweeps=6, **mode)
    whole = method.fit(data)
    file = tmp_path / "run.npz"
    dataclasses.replace(method, sweeps=2).fit(data, checkpoint=file)
    resumed = method.fit(data, checkpoint=file)
    jax.tree.map(np.testing.assert_array_equal, resumed.model, whole.model)
    assert resumed.info.certificate == whole.info.certificate
    assert os.listdir(tmp_path) == ["run.npz"]


KILLED = """
import os, signal, sys
import numpy as np
from jaxrec import Ials
from jaxrec.data import synthetic
def die(number, info, state):
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Ials(4, sweeps=7).fit(synthetic(60, 40), checkpoint=sys.argv[1], callback=die)
"""


def test_kill_9_loses_at_most_one_sweep(tmp_path):
    file = tmp_path / "run.npz"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file)], capture_output=True, timeout=1000)
    assert killed.returncode == -signal.SIGKILL
    seen = []
    method = Ials(4, sweeps=7)
    resumed = method.fit(synthetic(60, 40), checkpoint=file, callback=lambda number, *_: seen.append(number))
    assert seen == [5, 6, 7]
    np.testing.assert_allclose(resumed.model.item_factors, method.fit(synthetic(60, 40)).model.item_factors, atol=1e-4)


def test_checkpoints_that_do_not_belong_are_refused(data, tmp_path):
    file = tmp_path / "run.npz"
    Ials(RANK, sweeps=2).fit(data, checkpoint=file)
    for method, other, extra, name in (
        (Ials(RANK, reg=0.5), data, {}, "method"),
        (Ials(RANK), data.rows(np.arange(20)), {}, "data"),
        (Ials(RANK), data, {"key": jax.random.key(7)}, "key"),
        (Ials(RANK), data, {"cell_weights": Weights.log(data, 2.0)}, "weights"),
    ):
        with pytest.raises(InputError, match=f"belongs to another run \\(({name}) is"):
            method.fit(other, checkpoint=file, **extra)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match="is no checkpoint"):
        Ials(RANK).fit(data, checkpoint=file)
    with pytest.raises(InputError, match="folder does not exist"):
        Ials(RANK).fit(data, checkpoint=tmp_path / "nowhere" / "run.npz")


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Ials(0), "rank must be at least 1, got 0"),
        (lambda: Ials(reg=-1.0), "reg must be a finite number of at least 0"),
        (lambda: Ials(reg=float("inf")), "reg must be a finite number"),
        (lambda: Ials(alpha=0.0), "alpha must be above 0"),
        (lambda: Ials(alpha=float("inf")), "alpha must be finite"),
        (lambda: Ials(unobserved_weight=0.0), "unobserved_weight must be above 0"),
        (lambda: Ials(mode="lu"), "mode must be one of cg, cholesky, block"),
        (lambda: Ials(target="two"), "target must be one of"),
        (lambda: Ials(solver="gpu"), "solver must be one of"),
        (lambda: Ials(mode="block", solver="host"), "solver='host' is for mode='cg' or 'cholesky'"),
        (lambda: Ials(sweeps=0), "sweeps must be at least 1"),
    ],
)
def test_bad_settings_are_refused(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()


@pytest.mark.parametrize(
    ("method", "arguments", "complaint"),
    [
        (Ials(32, reg=0.0), {}, "without reg the rank must be at most the number of users and of items, here 31"),
        (Ials(RANK, reg=0.0), {}, "has 1 such users and 1 such items; raise reg"),
        (Ials(RANK), {"cell_weights": lambda x: Weights.uniform(x)}, "use target='one'"),
        (Ials(RANK), {"cell_weights": lambda x: Weights.uniform(x.rows(np.arange(4)))}, "make the weights from these"),
        (
            Ials(RANK),
            {"cell_weights": lambda x: Weights.constant(x.rows(np.arange(USERS)[::-1]), 1.0)},
            "another pattern",
        ),
        (Ials(RANK, mode="cholesky", solver="host"), {"devices": lambda x: jax.devices()}, "runs without devices"),
    ],
)
def test_bad_fits_are_refused(data, method, arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        method.fit(data, **{name: make(data) for name, make in arguments.items()})


@modes
def test_what_overflows_is_no_model(data, mode):
    with pytest.raises(FitError, match="not finite"):
        Ials(RANK, reg=1e-30, alpha=1e37, unobserved_weight=1e37, **mode).fit(data)


PEAK = """
import gc
from jaxrec import Ials
from jaxrec.data import synthetic
def status(key):
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if key in line)
Ials(4, sweeps=1).fit(synthetic(60, 40))
x = synthetic(8_000, 1_500)
gc.collect()
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
Ials(128, sweeps=1).fit(x)
print(status("VmHWM") - before, Ials(128).plan(*x.shape, x.nnz).total)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of a fit alone is not known here")
@pytest.mark.slow
def test_plan_is_the_peak():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=1000, check=True)
    measured, planned = map(int, done.stdout.split())
    assert 0.6 * (planned - memory.JAX_WORKING) < measured < 1.1 * planned


def test_plan_counts_the_devices():
    one, eight = (Ials(128).plan(10**6, 10**5, 10**8, devices) for devices in ("h100", "8xh100"))
    assert eight.parts["factors, at the start, old and new"] * 8 == one.parts["factors, at the start, old and new"]
    assert eight.parts["factors of the other side, gathered"] == 4 * 128 * 10**6 and eight.seconds < one.seconds
    assert FoldIn(1.0, 1.0, 0.0, 5.0).ridge(np.array([2]), np.array([3.0]), 5.0) == [17.0]
