"""The weighted full-rank models in closed form, item by item, or by conjugate gradients: whichever W allows."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.linalg

from jaxrec.closed_form import kernel
from jaxrec.closed_form import mesh as mesh_solver
from jaxrec.closed_form.gram import default_gram, lower_gram, with_user_weights
from jaxrec.closed_form.products import Rescaled
from jaxrec.data.interactions import Interactions
from jaxrec.factorization.weighted_ease.iterate import (
    Settings,
    SolvedColumns,
    columns_of_weights,
    groups,
    has_constant_col,
    solve_on_host,
    solve_on_mesh,
)
from jaxrec.factorization.weights import Weights
from jaxrec.runtime import parallel
from jaxrec.runtime.blas import add_product
from jaxrec.solvers.columns import take_columns
from jaxrec.status import Status


def solve_in_closed_form(
    train: Interactions, weights: Weights, settings: Settings, dtype: Any, mesh: Any
) -> SolvedColumns | None:
    """The optimum for W = p q' with one q for all items: EASE or LAE of D(p)^(1/2) X and reg / q."""
    n, scale = train.n_items, float(weights.col[0])
    penalty, limit = np.full(n, settings.reg / scale), float(settings.free)
    if mesh is None:
        gram = lower_gram(train, dtype, np.asarray(weights.row))
        solution, status = kernel.solve_on_host(gram, penalty, limit)
        if status is not Status.OK:
            return None
    else:
        gram = default_gram(with_user_weights(train, np.asarray(weights.row)), mesh)
        solution = mesh_solver.solve_on_mesh(gram, penalty, limit, mesh)
        jax.block_until_ready(solution.weights)
    unexplained = np.asarray(solution.unexplained, np.float64)
    inverse = Rescaled(solution.weights, left=-1.0, diagonal=1.0, right=1 / kernel.scale(unexplained, penalty, limit))
    return SolvedColumns(solution.weights, scale * unexplained, np.zeros(n), np.zeros(n), inverse)


def solve_rank_one(train: Interactions, weights: Weights, settings: Settings, dtype: Any) -> SolvedColumns:
    """The optimum for W = p q' from X' D(p) X = V D(s) V': all c_j = V D(s q_j + reg)^-1 V' e_j by one product.

    In float64, and rounded once: eigenvectors in float32 lose four digits, and save a third of the time. It stands
    beside the iterations as a second path that is exact: they end at their tolerance.

    Cost: about 10 I^3 flops; four float64 matrices.
    """
    gram = lower_gram(train, np.dtype(np.float64), np.asarray(weights.row))
    values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, check_finite=False)
    shrunk = vectors.T / (np.maximum(values, 0)[:, None] * np.asarray(weights.col)[None, :] + settings.reg)
    c = np.empty(shrunk.shape)
    add_product(c, np.ascontiguousarray(vectors), np.ascontiguousarray(shrunk), beta=0)
    b, unexplained = columns_of_weights(c, np.eye(len(c)), settings, 0)
    usual = np.maximum(values, 0) * float(np.median(np.asarray(weights.col))) + settings.reg
    add_product(c, np.ascontiguousarray(vectors / usual), np.ascontiguousarray(vectors.T), beta=0)
    return SolvedColumns(b.astype(dtype), unexplained[0], np.zeros(len(c)), np.zeros(len(c)), c)


def weights_of_item(weights: Weights, train: Interactions, item: int) -> np.ndarray:
    """[U] float64 W_:j."""
    out = np.asarray(weights.row, np.float64) * float(weights.col[item])
    if weights.entries is not None:
        own = np.flatnonzero(train.indices == item)
        out[train.user_of_entry[own]] += np.asarray(weights.entries)[own]
    return out


def solve(train: Interactions, weights: Weights, settings: Settings, dtype: Any, mesh: Any) -> SolvedColumns:
    """The optimum by the cheapest way that these weights allow; `unexplained` is NaN where there is none."""
    plain = weights.entries is None or not np.any(weights.entries)
    if plain and has_constant_col(weights):
        found = solve_in_closed_form(train, weights, settings, dtype, mesh)
    elif mesh is not None:
        found = solve_on_mesh(train, weights, settings, mesh)
    elif plain:
        found = solve_rank_one(train, weights, settings, dtype)
    else:
        found = solve_on_host(train, weights, settings, dtype)
    nothing = np.full(train.n_items, np.nan)
    return found or SolvedColumns(np.empty((0, 0), dtype), nothing, nothing, nothing)


def condition_bound(train: Interactions, weights: Weights, reg: float) -> float:
    """The largest condition number that the preconditioned systems can have: of W over what P takes for it.

    1 where the answer is in closed form, inf where a weight is 0 in P and not in W.
    """
    low, high = weights.ratio_bounds(train)
    squares = np.asarray(weights.row)[train.user_of_entry] @ train.values.astype(np.float64) ** 2  # trace of X' D(p) X
    worst = 1.0
    for scale, items in groups(weights, train.item_counts):
        share = np.asarray(weights.col)[items] / scale
        least = np.maximum(np.minimum(1, low * share), reg / (reg + scale * squares))
        worst = max(worst, float((np.maximum(1, high * share) / least).max()))
    return worst


def columns_of(weights: Any, items: np.ndarray) -> np.ndarray:
    """[N, S] some columns of B on the host, wherever it lies."""
    if isinstance(weights, np.ndarray):
        return weights[:, items]
    return parallel.to_host(_take(weights, items, parallel.mesh_of(weights)))


@partial(jax.jit, static_argnames="mesh")
def _take(weights, items, mesh):
    placed = (parallel.COLUMNS, parallel.REPLICATED)
    return parallel.over_columns(take_columns, mesh, placed, parallel.REPLICATED)(weights, items)
