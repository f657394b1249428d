"""Adversarial data and settings by seed, with float64 references of every family: what a certificate is held against.

Values over many decades, users who have everything with huge values, copies and near-copies of items, private items,
several components, items without users, regularization from 1e-9 to 1e9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import reference
import scipy.linalg
import scipy.optimize
import scipy.sparse as sp

import jaxrec
from jaxrec import Interactions
from jaxrec.closed_form import certificate
from jaxrec.fitting import Method
from jaxrec.solvers.columns import largest_share

FREE_OF_ROUNDING = 2e-6  # relative errors below this are float32's own rounding of the weights


class Outcome(NamedTuple):
    """What became of a fit.

    Attributes:
      status: "certified", or what the refusal said.
      error: true relative error of the weights, in the Frobenius norm.
      worst: the largest of a column.
      estimate: the certificate's estimate of `error`.
      estimated_worst: its estimate of `worst`.
      repr: the method.
      was_right: whether a refused fit, with every limit lifted, would have been within a hundredth.
      change: of a fit by sweeps or epochs, the true relative change by as many again.
      estimated_change: the change by the last one, times their number.
    """

    status: str
    error: float = np.nan
    worst: float = np.nan
    estimate: float = np.nan
    estimated_worst: float = np.nan
    repr: str = ""
    was_right: bool = False
    change: float = np.nan
    estimated_change: float = np.nan

    @property
    def ratio(self) -> float:
        """The true error beyond rounding over the estimate; 0 where none is made."""
        return beyond(self.error, self.estimate)

    @property
    def change_ratio(self) -> float:
        """The same of the change."""
        return beyond(self.change, self.estimated_change)


def beyond(true: float, estimate: float) -> float:
    """A true error beyond rounding over the estimate; 0 where there is neither."""
    if np.isnan(true) and np.isnan(estimate):
        return 0.0
    return max(0.0, true - FREE_OF_ROUNDING) / max(estimate, 1e-30)


def draw_data(rng: np.random.Generator, most: int = 24) -> Interactions:
    """A small set with some of what makes numbers go wrong."""
    n_users, n_items = rng.integers(3, 2 * most), int(rng.choice([most // 4, most // 2, most]))  # few shapes to compile
    x = (rng.random((n_users, n_items)) < rng.choice([0.05, 0.2, 0.5])) * 1.0
    kind = rng.integers(6)
    if kind == 1:
        x *= rng.integers(1, 6, x.shape)
    elif kind == 2:
        x *= 10.0 ** rng.uniform(-3, 3, x.shape)
    elif kind == 3:
        x *= 10.0 ** rng.uniform(-2, 2, n_items)
    if rng.random() < 0.3:  # users who have everything, with huge values
        x[: rng.integers(1, 3)] = 10.0 ** rng.uniform(0, 5)
    if rng.random() < 0.4:  # copies, and near-copies
        copies = rng.integers(0, n_items, rng.integers(1, n_items))
        x[:, copies] = x[:, [rng.integers(n_items)]]
        if rng.random() < 0.5:
            x[rng.integers(n_users), copies[0]] += 10.0 ** rng.uniform(-4, 1)
    if rng.random() < 0.3:  # two components
        x[: n_users // 2, n_items // 2 :] = x[n_users // 2 :, : n_items // 2] = 0
    if rng.random() < 0.3:  # private items, and items without users
        some = rng.permutation(n_items)[: max(1, n_items // 4)]
        x[:, some] = 0
        x[rng.integers(0, n_users, len(some)), some] = rng.random() < 0.7
    if not x.any():
        x[0, 0] = 1
    return Interactions.from_csr(sp.csr_array(x.astype(np.float32)))


def draw_reg(rng: np.random.Generator, x: np.ndarray) -> float:
    """Anything from 1e-9 to 1e9, half of the time near the size of the data."""
    if rng.random() < 0.5:
        return float(10.0 ** rng.uniform(-9, 9))
    return float(np.clip(np.mean(x**2) * len(x) * 10.0 ** rng.uniform(-4, 3), 1e-9, 1e9))


# -- references, column by column in scaled float64 ---------------------------------------------------------------


def ridge_columns(x: np.ndarray, penalty: np.ndarray, limit: float = 0.0) -> np.ndarray:
    """B that minimises ||X - X B||^2 + ||Lambda^(1/2) B||^2 with a diagonal of at most `limit`, by columns.

    A column with a diagonal of 0 is a least-squares problem on stacked rows, whose condition number is the root of that
    of the normal equations; with a diagonal b it is (1 - b) times that, and the best b follows from a parabola.
    """
    n = x.shape[1]
    out = np.zeros((n, n))
    for j in range(n):
        o = np.arange(n) != j
        rows, right = np.vstack([x[:, o], np.diag(np.sqrt(penalty[o]))]), np.concatenate([x[:, j], np.zeros(n - 1)])
        scale = 1 / np.linalg.norm(rows, axis=0)
        w = scale * np.linalg.lstsq(rows * scale, right, rcond=0)[0] if n > 1 else np.zeros(0)
        left = float(np.sum((right - rows @ w) ** 2))  # the value at b_jj = 0
        own = min(left / (left + penalty[j]), limit)
        out[o, j], out[j, j] = (1 - own) * w, own
    return out


def solve_scaled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A^-1 b for a positive definite A, scaled to a unit diagonal, with one refinement in long double."""
    scale = 1 / np.sqrt(np.diag(a))
    scaled = a * scale[:, None] * scale
    try:
        factor = scipy.linalg.cho_factor(scaled)
    except np.linalg.LinAlgError:
        return np.full(b.shape, np.nan)  # not even float64 can say
    right = b * (scale if b.ndim == 1 else scale[:, None])
    found = scipy.linalg.cho_solve(factor, right)
    for _ in range(2):
        rest = (right.astype(np.longdouble) - scaled.astype(np.longdouble) @ found.astype(np.longdouble)).astype(float)
        found = found + scipy.linalg.cho_solve(factor, rest)
    return found * (scale if b.ndim == 1 else scale[:, None])


def elastic_net(x: np.ndarray, reg: float, l1: float, nonnegative: bool) -> np.ndarray | None:
    """SLIM's columns, or None where they could not be found to nine digits.

    Nonnegative ones by nonnegative least squares on the factor of a QR decomposition, of either sign by coordinate
    descent and a Newton step.
    """
    n = x.shape[1]
    gram, out = x.T @ x, np.zeros((n, n))
    for j in range(n):
        o = np.arange(n) != j
        if not o.any():
            continue
        rows = np.vstack([x[:, o], reg**0.5 * np.eye(n - 1)])
        scale = 1 / np.linalg.norm(rows, axis=0)
        factor, linear = np.linalg.qr(rows * scale)[1], gram[o, j] * scale
        if nonnegative:
            target = scipy.linalg.solve_triangular(factor, linear - l1 * scale, trans="T")
            found = scipy.optimize.nnls(factor, target, maxiter=100 * n)[0]
            on = found > 0
            if l1 == 0 and on.any():  # along flat directions least squares on the rows are exact, and NNLS is not
                again = np.linalg.lstsq(rows[:, on] * scale[on], np.append(x[:, j], np.zeros(n - 1)), rcond=0)[0]
                found[on] = again if (again >= 0).all() else found[on]
        else:
            found = _signed(factor.T @ factor, linear, l1 * scale)
        at = factor.T @ (factor @ found) - linear
        lower = np.minimum(at + l1 * scale, 0) + (0 if nonnegative else np.maximum(at - l1 * scale, 0))
        wrong = np.where(found == 0, lower, at + l1 * scale * np.sign(found))
        if np.linalg.norm(wrong) > 1e-9 * np.linalg.norm(linear):
            return None
        out[o, j] = found * scale
        for k in np.flatnonzero(o):  # the optimum is unique, and so the same for copies
            same = np.flatnonzero((x == x[:, [k]]).all(axis=0) & o)
            out[same, j] = out[same, j].mean()
    return out


def _signed(a: np.ndarray, b: np.ndarray, l1: np.ndarray) -> np.ndarray:
    """The minimum of 1/2 w'A w - b'w + l1'|w|, A with a unit diagonal."""
    w = np.zeros(len(b))
    for _ in range(3000):
        most = 0.0
        for k in range(len(b)):
            rest = b[k] - a[k] @ w + a[k, k] * w[k]
            new = np.sign(rest) * max(0.0, abs(rest) - l1[k]) / a[k, k]
            most, w[k] = max(most, abs(new - w[k])), new
        if most <= 1e-13 * np.abs(w).max(initial=0):
            break
    on = w != 0
    if on.any():
        w[on] = np.linalg.lstsq(a[np.ix_(on, on)], b[on] - l1[on] * np.sign(w[on]), rcond=0)[0]
    return w


# -- families -----------------------------------------------------------------------------------------------------


def closed_form(make: Callable[[np.random.Generator, float], Any], popularity: bool = False) -> Callable:
    """A drawn fit of a closed form against the columns of its normal equations."""

    def run(rng: np.random.Generator) -> tuple[Any, Interactions, Callable[[], np.ndarray]]:
        data = draw_data(rng)
        x = reference.dense(data)
        method = make(rng, draw_reg(rng, x))

        def expected() -> np.ndarray:
            share = getattr(method, "dropout", 0.0)
            penalty = method.reg + share / (1 - share) * (x**2).sum(axis=0)
            return ridge_columns(x, penalty, method.diagonal_limit)

        return method, data, expected

    return run


def _weighted(rng: np.random.Generator) -> tuple[Any, Interactions, Callable[[], np.ndarray]]:
    data = draw_data(rng)
    x = reference.dense(data)
    reg, alpha = draw_reg(rng, x), float(10.0 ** rng.uniform(-3, 4))
    method = jaxrec.WeightedEase(reg, alpha=alpha, diagonal=str(rng.choice(["zero", "free"])))  # pyright: ignore

    def expected() -> np.ndarray:
        n = x.shape[1]
        out = np.zeros((n, n))
        for j in range(n):
            w = 1 + alpha * (x[:, j] != 0)
            rows = np.sqrt(w)[:, None] * x
            out[:, j] = ridge_columns(rows, np.full(n, reg), float(method.diagonal == "free"))[:, j]
        return out

    return method, data, expected


def _slim(rng: np.random.Generator) -> tuple[Any, Interactions, Callable[[], np.ndarray]]:
    data = draw_data(rng, 14)
    x = reference.dense(data)
    reg = draw_reg(rng, x)
    l1 = float(rng.choice([0.0, np.mean(x) * 10.0 ** rng.uniform(-3, 1)]))
    method = jaxrec.Slim(reg, l1, nonnegative=bool(rng.random() < 0.7))
    return method, data, lambda: elastic_net(x, reg, l1, method.nonnegative)


def _higher_order(rng: np.random.Generator) -> tuple[Any, Interactions, Callable[[], np.ndarray]]:
    data = draw_data(rng, 10)
    x = reference.dense(data)
    reg, pair_reg = draw_reg(rng, x), draw_reg(rng, x)
    method = jaxrec.HigherOrder(reg, pair_reg, n_pairs=int(rng.integers(1, 20)))

    def expected(pairs: np.ndarray) -> np.ndarray:
        n = x.shape[1]
        z = x[:, pairs[:, 0]] * x[:, pairs[:, 1]]
        features, penalty = np.hstack([x, z]), np.repeat([reg, pair_reg], [n, len(pairs)])
        out = np.zeros((n + len(pairs), n))
        for j in range(n):
            may = np.concatenate([np.arange(n) != j, (pairs != j).all(axis=1)])
            part = features[:, may]
            out[may, j] = solve_scaled(part.T @ part + np.diag(penalty[may]), part.T @ x[:, j])
        return out

    return method, data, expected  # pyright: ignore[reportReturnType]


def _mrf(rng: np.random.Generator) -> tuple[Any, Interactions, Callable[[], np.ndarray]]:
    data = draw_data(rng)
    x = reference.dense(data)
    alpha = float(rng.choice([0.0, 0.5, 0.75, 1.0]))
    reg = float(10.0 ** rng.uniform(-9, 3)) if alpha == 1 else draw_reg(rng, x)
    method = jaxrec.Mrf(reg, alpha, threshold=0.0)

    def expected() -> np.ndarray:
        centred = x - x.mean(axis=0)
        variance = (centred**2).sum(axis=0)
        known = variance > 1e-10 * (x**2).sum(axis=0)
        scale = np.where(known, variance, 1) ** (alpha / 2)
        z = np.where(known, centred / scale, 0)
        out = np.zeros((len(known), len(known)))
        inside = ridge_columns(z[:, known], np.full(known.sum(), reg))
        out[np.ix_(known, known)] = inside
        return out * scale / scale[:, None]

    return method, data, expected


FAMILIES: dict[str, Callable] = {
    "ease": closed_form(lambda rng, reg: jaxrec.Ease(reg)),
    "edlae": closed_form(lambda rng, reg: jaxrec.Edlae(reg, float(rng.uniform(0, 0.99)))),
    "lae": closed_form(lambda rng, reg: jaxrec.Lae(reg, float(rng.choice([0.0, 0.3])))),
    "rlae": closed_form(lambda rng, reg: jaxrec.Rlae(reg, float(rng.choice([0.0, 0.3])), float(rng.random()))),
    "weighted-ease": _weighted,
    "slim": _slim,
    "higher-order": _higher_order,
    "mrf": _mrf,
}


def run(family: str, seed: int) -> Outcome:
    """The outcome of one drawn fit of a family; of closed forms every other one has its errors sampled."""
    before, certificate.EXACT_ITEMS = certificate.EXACT_ITEMS, 64 * (seed % 2)
    try:
        return _run(family, seed)
    finally:
        certificate.EXACT_ITEMS = before


def _run(family: str, seed: int) -> Outcome:
    method, data, expected = FAMILIES[family](np.random.default_rng(seed))
    refused, kept = None, []
    certified = Method._certified

    def keep(self: Any, train: Any, model: Any, certificate: Any, clock: Any) -> Any:
        kept.append(model)
        return certified(self, train, model, certificate, clock)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Method, "_certified", keep)
            fitted = method.fit(data)
    except jaxrec.FitError as error:
        refused = error.status.value
    except jaxrec.InputError:  # no neighbours, no pairs
        return Outcome("nothing to learn", repr=repr(method))
    if refused and (not kept or kept[0] is None or len(getattr(kept[0], "weights", "some")) == 0):
        return Outcome(refused, repr=repr(method))
    model = kept[0] if refused else fitted.model
    model = model.to_host() if hasattr(model, "to_host") else model
    if family == "higher-order":
        found: Any = np.vstack([np.asarray(model.weights, float), np.asarray(model.pair_weights, float)])
        true = expected(np.asarray(model.pairs))
    elif family == "mrf":
        n = data.n_items
        found = sp.csr_array((model.values, model.indices, model.indptr), shape=(n, n)).toarray().astype(float)
        true = expected()
    else:
        found, true = np.asarray(model.weights, float), expected()
    if refused:
        right = true is not None and bool(relative_errors(found, true)[0] <= 0.01)
        return Outcome(refused, repr=repr(method), was_right=right)
    if true is None or not np.isfinite(true).all():
        return Outcome("certified, without a reference", repr=repr(method))
    detail = fitted.info.certificate.detail
    error, worst = relative_errors(found, true)
    names = "estimated error of the weights", "estimated error of the worst column"
    return Outcome("certified", error, worst, *(detail[name] for name in names), repr(method))


def relative_errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """The relative error in the Frobenius norm, and of the worst column."""
    size, wrong = (np.linalg.norm(m, axis=0) for m in (true, found - true))
    whole = np.linalg.norm(wrong) / np.linalg.norm(size) if size.any() else float(wrong.any())
    return float(whole), largest_share(wrong, size)
