"""Conventions: one sweep of the installed packages equals one sweep here, from the same factors."""

import warnings

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec import Ials, InputError, Interactions
from jaxrec.factorization import conventions
from jaxrec.factorization.ials import sweeps

USERS, ITEMS, RANK = 50, 33, 6


@pytest.fixture
def data(rng) -> Interactions:
    x = rng.integers(1, 6, (USERS, ITEMS)) * (rng.random((USERS, ITEMS)) < 0.2)
    return Interactions.from_triples(*np.nonzero(x), x[np.nonzero(x)], n_users=USERS, n_items=ITEMS)


@pytest.fixture
def start():
    return sweeps.init(jax.random.key(3), USERS, ITEMS, RANK, 0.3)


def sweep(data, convention, start, n=1):
    method = convention.method(rank=RANK, mode="cholesky", solver="host")
    settings = method._settings(None)
    problem, _ = method.problem(data, convention.cell_weights)
    sides, state = sweeps.sides(problem, RANK, settings), start
    for _ in range(n):
        state, info = sweeps.step(state, sides, problem.constant, settings)
    return state, info


@pytest.mark.parametrize("alpha", (2.0, 30.0))
@pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")  # its advice, for large data
@pytest.mark.parametrize("n", (1, 3))
def test_implicit(data, start, alpha, n):
    package = pytest.importorskip("implicit", reason="the package implicit is not installed (extra: peers)")
    model = package.cpu.als.AlternatingLeastSquares(
        factors=RANK, alpha=alpha, regularization=0.3, use_cg=False, iterations=n, num_threads=1
    )
    model.user_factors, model.item_factors = (np.array(factors) for factors in start)
    model.fit(sp.csr_matrix(data.to_csr()), show_progress=False)
    exact = type(start)(*(np.asarray(factors, np.float64) for factors in start))  # the rounding is theirs alone
    found, _ = sweep(data, conventions.implicit(data, alpha, 0.3), exact, n)
    for ours, theirs in zip(found[:2], (model.user_factors, model.item_factors), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("loss_type", ("IALSPP", "ORIGINAL"))
@pytest.mark.parametrize("scaling", ("none", "log"))
def test_irspack(data, start, loss_type, scaling):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        core = pytest.importorskip("irspack.recommenders.ials", reason="irspack is not installed (extra: peers)")
    x = data.to_csr()
    x.data = np.log1p(x.data / 0.5) if scaling == "log" else x.data
    trainer = core.IALSTrainer(
        sp.csr_matrix(x), RANK, 0.2, 0.02, 0.8, 0.1, core.SolverType.CHOLESKY, 3, 64,
        core.str_to_loss_type(loss_type), 0, 1, 5, 5,
    )  # fmt: skip
    trainer.core_trainer.user, trainer.core_trainer.item = (np.array(factors) for factors in start)
    trainer.run_epoch()
    found, _ = sweep(data, conventions.irspack(data, 0.2, 0.02, 0.8, scaling, 0.5, loss_type), start)
    np.testing.assert_allclose(found.user_factors, trainer.core_trainer.user, atol=1e-5)
    np.testing.assert_allclose(found.item_factors, trainer.core_trainer.item, atol=1e-5)


def cell_by_cell(data, p, v, weight, rest, target, ridge_of):
    """A loss from its row in the table."""
    x = data.to_csr(np.float64).toarray()
    y = p @ v.T
    loss = sum(
        weight(x[u, i]) * (target(x[u, i]) - y[u, i]) ** 2 if x[u, i] else rest * y[u, i] ** 2
        for u in range(USERS)
        for i in range(ITEMS)
    )
    loss += sum(ridge_of((x[u] > 0).sum(), ITEMS) * p[u] @ p[u] for u in range(USERS))
    return loss + sum(ridge_of((x[:, i] > 0).sum(), USERS) * v[i] @ v[i] for i in range(ITEMS))


def plain(n, cells):
    return 0.05


def scaled(n, cells):
    return 0.05 * (n + 0.2 * cells)


TABLE = {
    "hu": (lambda x: conventions.hu(x, 3.0, 0.05), (lambda r: 1 + 3 * r, 1.0, lambda r: 1.0, plain)),
    "implicit": (lambda x: conventions.implicit(x, 3.0, 0.05), (lambda r: 3 * r, 1.0, lambda r: 1.0, plain)),
    "ials": (lambda x: conventions.ials(x, 0.2, 0.05), (lambda r: 1.2, 0.2, lambda r: 1 / 1.2, scaled)),
    "alx": (lambda x: conventions.alx(x, 0.2, 0.05), (lambda r: 1.2, 0.2, lambda r: 1 / 1.2, scaled)),
    "irspack": (
        lambda x: conventions.irspack(x, 0.2, 0.05),
        (lambda r: r + 0.2, 0.2, lambda r: r / (r + 0.2), scaled),
    ),
    "original": (
        lambda x: conventions.irspack(x, 0.2, 0.05, loss_type="ORIGINAL"),
        (lambda r: r + 0.2, 0.2, lambda r: 1.0, scaled),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_loss_is_its_row_of_the_table(data, rng, name):
    """Up to a constant, which the shrunk targets add: differences between two sets of factors agree."""
    make, row = TABLE[name]
    convention = make(data)
    problem, _ = convention.method(rank=RANK).problem(data, convention.cell_weights)
    points = [(rng.normal(size=(USERS, RANK)), rng.normal(size=(ITEMS, RANK))) for _ in range(2)]
    found = [sweeps.loss_and_gradients(problem, *point)[0] for point in points]
    expected = [cell_by_cell(data, *point, *row) for point in points]
    assert found[0] - found[1] == pytest.approx(expected[0] - expected[1], rel=1e-9)


def test_to_implicit(data, rng):
    """For the same item factors, the user factors are a multiple."""
    x, start = data.binarised(), sweeps.init(jax.random.key(3), USERS, ITEMS, RANK, 0.3)
    other = conventions.to_implicit(0.2, 0.05)
    here, _ = sweep(x, conventions.ials(x, 0.2, 0.05, nu=0.0), start)
    there, _ = sweep(x, conventions.implicit(x, other.alpha, other.regularization), start)
    np.testing.assert_allclose(there.user_factors, other.scale * here.user_factors, atol=1e-5)


def test_same_total_reg(data):
    def total(reg, nu):
        problem, _ = (
            conventions.ials(data, 0.2, reg, nu)
            .method(rank=RANK)
            .problem(data, conventions.ials(data, 0.2).cell_weights)
        )
        return problem.users.ridge.sum() + problem.items.ridge.sum()

    assert total(conventions.same_total_reg(data, 0.01, 0.2, 1.0, 0.3), 0.3) == pytest.approx(
        total(0.01, 1.0), rel=1e-6
    )


def test_refusals(data):
    for make, complaint in (
        (lambda: conventions.implicit(Interactions.from_csr(-data.to_csr())), "must not be negative"),
        (lambda: conventions.implicit(data, 0.0), "alpha must be above 0"),
        (lambda: conventions.irspack(data, 0.1, loss_type="OTHER"), "loss_type must be one of"),
        (lambda: conventions.to_implicit(0.0, 1.0), "alpha0 must be above 0"),
    ):
        with pytest.raises(InputError, match=complaint):
            make()


def test_they_fit(data):
    made = conventions.hu(data, 3.0, 0.5)
    fitted = made.method(rank=RANK, sweeps=3).fit(data, cell_weights=made.cell_weights)
    assert fitted.info.method == Ials(RANK, 0.5, reg_exponent=0.0, target="one", sweeps=3)
