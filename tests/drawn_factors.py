"""Models of factors on adversarial data, with float64 references: what their certificates are held against.

Their losses are not convex, and a fit ends long before its steps stand still. So the statement that is held is how far
the factors that were solved for last are from the exact ones, given the other factors. How much as many sweeps or
epochs again change the predictions, of iALS exact ones in float64, is compared with the change by the last one times
their number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import drawn
import jax
import numpy as np
import pytest
import reference

import jaxrec
from jaxrec import Interactions
from jaxrec.factorization.alternation import CHANGE
from jaxrec.factorization.ridge import errors as ridge_errors
from jaxrec.fitting import Method
from jaxrec.linear import elsa
from jaxrec.linear.low_rank_edlae import certificate as low_rank
from jaxrec.solvers.columns import largest_share

SAMPLE = 12  # items that are looked at in every other fit, of up to 24; else all are


class Family(NamedTuple):
    """How fits are drawn and held.

    Attributes:
      draw: a method from draws and data.
      names: of the estimates of the whole error and of the worst item, and of the change by the last sweep.
      errors: true errors of the whole and of the worst item, from the method, the data and a model.
      change: the true relative change by as many sweeps again, likewise.
      counts_refused: whether a refused model with small errors was right: not where more than these is refused.
    """

    draw: Callable[[np.random.Generator, np.ndarray], Any]
    names: tuple[str, str, str]
    errors: Callable[[Any, Interactions, Any], tuple[float, float]]
    change: Callable[[Any, Interactions, Any], float]
    counts_refused: bool = True


def ridge_rows(cells: np.ndarray, targets: np.ndarray, ridge: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """[N, K] the minima of sum_i W_ni y'v_i (y'v_i) - 2 B_ni y'v_i + r_n |y|^2, by least squares on stacked rows.

    Args:
      cells: [N, M] W >= 0.
      targets: [N, M] B, 0 where W is.
      ridge: [N] r.
      factors: [M, K] V.
    """
    out = np.zeros((len(cells), factors.shape[1]))
    for n, w in enumerate(cells):
        if not targets[n].any():
            continue
        root = np.sqrt(w)[:, None]
        rows = np.vstack([root * factors, np.sqrt(ridge[n]) * np.eye(factors.shape[1])])
        right = np.append(np.divide(targets[n], root[:, 0], out=np.zeros_like(w), where=w > 0), np.zeros(out.shape[1]))
        scale = 1 / np.maximum(np.linalg.norm(rows, axis=0), 1e-150)
        out[n] = scale * np.linalg.lstsq(rows * scale, right, rcond=0)[0]
    return out


def of_predictions(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """The relative error in the Frobenius norm, and of the worst column, as a certificate counts it."""
    size, wrong = (np.linalg.norm(part, axis=0) for part in (true, found - true))
    whole = np.linalg.norm(wrong) / np.linalg.norm(size) if size.any() else float(wrong.any())
    return float(whole), largest_share(wrong, size)


def _twice(method: Any, data: Interactions, model: Any) -> tuple[Any, Any]:
    """The model after as many sweeps or epochs again, and the one given; that one twice where the other is refused."""
    name = "epochs" if hasattr(method, "epochs") else "sweeps"
    try:
        return dataclasses.replace(method, **{name: 2 * getattr(method, name)}).fit(data).model, model
    except jaxrec.FitError:
        return model, model


# -- iALS -----------------------------------------------------------------------------------------------------------


def _ials(rng: np.random.Generator, x: np.ndarray) -> Any:
    return jaxrec.Ials(
        rank=int(rng.integers(1, 7)),
        reg=float(10.0 ** (rng.uniform(-9, 3) if rng.random() < 0.5 else rng.uniform(-3, 0))),
        unobserved_weight=float(10.0 ** rng.uniform(-3, 0)),
        reg_exponent=float(rng.choice([0.0, 0.5, 1.0])),
        target=str(rng.choice(["shrunk", "one"])),  # pyright: ignore[reportArgumentType]
        mode=str(rng.choice(["cg", "cholesky"])),  # pyright: ignore[reportArgumentType]
        sweeps=int(rng.choice([2, 4, 8, 16, 64])),
        solver="host",
    )


def _ials_parts(method: Any, data: Interactions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """W and W T [U, I] and the strengths of users and of items, from the formulas."""
    x = reference.dense(data)
    seen, a0 = x != 0, method.unobserved_weight
    cells = a0 + method.alpha * x
    targets = np.where(seen, cells if method.target == "one" else method.alpha * x, 0)
    strengths = (method.reg * (seen.sum(axis) + a0 * x.shape[axis]) ** method.reg_exponent for axis in (1, 0))
    return cells, targets, *strengths


def _ials_errors(method: Any, data: Interactions, model: Any) -> tuple[float, float]:
    cells, targets, _, of_items = _ials_parts(method, data)
    p, v = (np.asarray(part, float) for part in (model.user_factors, model.item_factors))
    return of_predictions(p @ v.T, p @ ridge_rows(cells.T, targets.T, of_items, p).T)


def _ials_change(method: Any, data: Interactions, model: Any) -> float:
    cells, targets, of_users, of_items = _ials_parts(method, data)
    p, v = (np.asarray(part, float) for part in (model.user_factors, model.item_factors))
    now = p @ v.T
    for _ in range(method.sweeps):
        p = ridge_rows(cells, targets, of_users, v)
        v = ridge_rows(cells.T, targets.T, of_items, p)
    return of_predictions(p @ v.T, now)[0]


# -- AWMF -----------------------------------------------------------------------------------------------------------


def _awmf(rng: np.random.Generator, x: np.ndarray) -> Any:
    return jaxrec.Awmf(
        rank=int(rng.integers(1, 1 + min(6, *x.shape))),
        reg=drawn.draw_reg(rng, x),
        regularizer=str(rng.choice(["l2", "product", "factor"])),  # pyright: ignore[reportArgumentType]
        alpha=float(10.0 ** rng.uniform(-2, 2)),
        sweeps=int(rng.choice([2, 4, 8, 30])),
        tolerance=0.0,
        solver="host",
    )


def _awmf_cells(method: Any, data: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """X and W [U, I]."""
    x = reference.dense(data)
    return x, method.unobserved_weight + method.alpha * (x != 0)


def _best_v(method: Any, x: np.ndarray, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """[I, K] the V that is best for A."""
    if method.regularizer != "product":
        return ridge_rows(w.T, (w * x).T, np.full(x.shape[1], method.reg), x @ a)
    q, corner = np.linalg.qr(a)  # ||A V'|| = ||R V'||
    found = ridge_rows(w.T, (w * x).T, np.full(x.shape[1], method.reg), x @ q)
    return np.linalg.lstsq(corner, found.T, rcond=1e-13)[0].T


def _awmf_errors(method: Any, data: Interactions, model: Any) -> tuple[float, float]:
    x, w = _awmf_cells(method, data)
    a, v = (np.asarray(part, float) for part in (model.encoder, model.decoder))
    return of_predictions(x @ a @ v.T, x @ a @ _best_v(method, x, w, a).T)


def _awmf_change(method: Any, data: Interactions, model: Any) -> float:
    """What twice the sweeps, of which the first half are the same, end at."""
    x = reference.dense(data)
    ends = (
        x @ np.asarray(each.encoder, float) @ np.asarray(each.decoder, float).T for each in _twice(method, data, model)
    )
    return of_predictions(*ends)[0]


# -- low-rank EDLAE and ELSA ----------------------------------------------------------------------------------------


def _low_rank(rng: np.random.Generator, x: np.ndarray) -> Any:
    method = str(rng.choice(["fixed_point", "closed_form"]))
    rank = int(rng.choice([1, 2, 4]))  # few shapes to compile
    return jaxrec.LowRankEdlae(rank, drawn.draw_reg(rng, x), float(rng.choice([0.0, 0.3, 0.9])), method)  # pyright: ignore


def _low_rank_errors(method: Any, data: Interactions, model: Any) -> tuple[float, float]:
    """Item by item, least squares on the rows of X and of the penalty, without the item itself."""
    x = reference.dense(data)
    penalty = method.reg + method.dropout / (1 - method.dropout) * (x**2).sum(axis=0)
    u, v = (np.asarray(part, float) for part in (model.encoder, model.decoder))
    found, true = u @ v.T, np.zeros((len(u), len(u)))
    for j in range(len(u)):
        others = np.arange(len(u)) != j
        rows = np.vstack([x[:, others] @ u[others], np.sqrt(penalty[others])[:, None] * u[others]])
        scale = 1 / np.maximum(np.linalg.norm(rows, axis=0), 1e-150)
        best = np.linalg.lstsq(rows * scale, np.append(x[:, j], np.zeros(len(u) - 1)), rcond=1e-13)[0]
        true[others, j] = u[others] @ (scale * best)
        found[j, j] = 0
    return of_predictions(found, true)


def _elsa(rng: np.random.Generator, x: np.ndarray) -> Any:
    epochs, rank = int(rng.choice([1, 2, 5, 10, 20])), int(rng.choice([2, 4]))
    return jaxrec.Elsa(
        rank, epochs, float(10.0 ** rng.uniform(-2, -0.5)), batch_size=8, init_seed=int(rng.integers(99))
    )


def _elsa_change(method: Any, data: Interactions, model: Any) -> float:
    """What twice the epochs, of which the first half are the same, end at."""
    ends = (np.asarray(each.encoder, float) for each in _twice(method, data, model))
    return of_predictions(*(e @ e.T - np.diag(np.sum(e**2, axis=1)) for e in ends))[0]


def done(detail: dict[str, float]) -> int:
    """How many sweeps or epochs a certificate tells of."""
    return sum(name.startswith(("loss after sweep", "loss in epoch")) for name in detail)


def _unknown(*_: Any) -> Any:
    return np.nan, np.nan


WORST = "estimated error of the worst item"
FAMILIES = {
    "ials": Family(_ials, ("estimated error of the item factors", WORST, CHANGE), _ials_errors, _ials_change),
    "awmf": Family(_awmf, ("estimated error of the decoder", WORST, CHANGE), _awmf_errors, _awmf_change),
    "low-rank-edlae": Family(
        _low_rank, ("estimated error of the decoder", WORST, ""), _low_rank_errors, lambda *_: np.nan, False
    ),
    "elsa": Family(_elsa, ("", "", elsa.CHANGE), _unknown, _elsa_change),
}


def run(family: str, seed: int) -> drawn.Outcome:
    """The outcome of one drawn fit of a family; of every other one a part of the items is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (ridge_errors, low_rank):
            patch.setattr(module, "SAMPLE", SAMPLE if seed % 2 else 64)
        return _run(FAMILIES[family], np.random.default_rng(seed), patch)


def _run(family: Family, rng: np.random.Generator, patch: pytest.MonkeyPatch) -> drawn.Outcome:
    data = drawn.draw_data(rng)
    method = family.draw(rng, reference.dense(data))
    kept, certified = [], Method._certified

    def keep(self: Any, train: Any, model: Any, certificate: Any, clock: Any) -> Any:
        kept.append(model)
        return certified(self, train, model, certificate, clock)

    patch.setattr(Method, "_certified", keep)
    try:
        fitted = method.fit(data)
    except jaxrec.FitError as error:
        solved = family.counts_refused and kept and all(np.isfinite(p).all() for p in jax.tree.leaves(kept[0]))
        right = bool(solved and family.errors(method, data, kept[0])[0] <= 0.01)
        return drawn.Outcome(error.status.value, repr=repr(method), was_right=right)
    except jaxrec.InputError:
        return drawn.Outcome("nothing to learn", repr=repr(method))
    detail = fitted.info.certificate.detail
    if "largest singular value at zero" in detail:
        return drawn.Outcome("nothing to learn", repr=repr(method))
    error, worst = family.errors(method, data, kept[0])
    change = family.change(method, data, kept[0])
    whole, of_worst, by_last = (detail.get(name, np.nan) for name in family.names)
    return drawn.Outcome(
        "certified", error, worst, whole, of_worst, repr(method), False, change, done(detail) * by_last
    )
