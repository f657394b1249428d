"""The sweeps of alternating least squares: users given items, then items given users, on the host, a device or a mesh.

On a mesh both tables of factors are split by rows, rows of all lengths on every device. Before a half-sweep each
device gathers the other side's whole table, [I, K] or [U, K]; the Gram matrix is a sum over devices of K x K numbers.
Nothing of size U x I or I x I exists.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import PRNGKeyArray

from jaxrec.data.interactions import Interactions
from jaxrec.factorization import ridge
from jaxrec.factorization.ridge import FoldIn, HalfStep, Regressions, Solved
from jaxrec.factorization.weights import Weights
from jaxrec.runtime import blas, parallel
from jaxrec.solvers.lanczos import largest_singular_value

NUMBERS_AT_ONCE = 2**18  # of factors in float64, in the certificate


class IalsState(NamedTuple):
    """What a sweep carries: the factors [U, K] and [I, K], on the host, or on devices in the order of a `HalfStep`."""

    user_factors: Any
    item_factors: Any


class IalsInfo(NamedTuple):
    """What a sweep reports.

    Attributes:
      objective: the loss after it, regularization included.
      gradient: norm of the gradient in the user factors before it, over the norm of their right-hand sides.
      residual: relative residual of the equations that it solved: of rounding size for "cholesky", else of how far
        conjugate gradients came but for the last step, or blocks.
    """

    objective: float
    gradient: float
    residual: float


class IalsProblem(NamedTuple):
    """The regressions of both sides, and the loss of factors that are 0."""

    users: Regressions
    items: Regressions
    constant: float


@dataclasses.dataclass(frozen=True)
class SolverSettings:
    """How the equations are solved.

    Attributes:
      mode: "cg", "cholesky" or "block".
      cg_steps: of "cg".
      block_size: of "block".
      mesh: what `parallel.make_mesh` returned; None is the host.
    """

    mode: str = "cholesky"
    cg_steps: int = 2
    block_size: int = 128
    mesh: Any = None


def problem(x: Interactions, weights: Weights, fold: FoldIn) -> IalsProblem:
    """The regressions of all users and all items of `x`."""
    users = fold.rows(x, weights)
    items = ridge.transposed(users, x.item_counts, fold)
    constant = float(users.targets.sum())  # the targets are 1, so that b t^2 / t = b
    return IalsProblem(users, items, constant)


def loss_and_gradients(
    problem: IalsProblem, user_factors: Any, item_factors: Any
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss and half its gradients [U, K] and [I, K], in float64, independent of the kernels.

    The sum over all U I cells of p q prediction^2 is <P'D(p)P, V'D(q)V> (Rendle et al. 2021); only the entries of X are
    visited one by one.

    Cost: 8 nnz K + 2 (U + I) K^2 flops; the gradients, the item factors in float64 and a block of rows.
    """
    users, items, loss = problem
    v = np.asarray(item_factors, np.float64)
    v_gram = v.T @ (items.scale[:, None] * v)
    in_users, in_items = np.empty((len(users.scale), v.shape[1])), np.zeros_like(v)
    p_gram = np.zeros_like(v_gram)
    for some, p, entries, indices, indptr in _blocks(users, user_factors):
        scale = users.scale[some, None]
        p_gram += p.T @ (scale * p)
        row = np.repeat(np.arange(len(p)), np.diff(indptr))
        predicted, error = np.empty(len(row)), np.empty(len(row))
        for start in range(0, len(row), max(1, NUMBERS_AT_ONCE // v.shape[1])):
            few = slice(start, start + max(1, NUMBERS_AT_ONCE // v.shape[1]))
            predicted[few] = np.einsum("ek,ek->e", p[row[few]], v[indices[few]])
        error[:] = users.weights[entries] * predicted - users.targets[entries]
        loss += predicted @ (error - users.targets[entries])
        sparse = sp.csr_array((error, indices, indptr), (len(p), len(v)))
        penalty = users.ridge[some, None] * p
        loss += np.sum(penalty * p)
        in_users[some] = sparse @ v + scale * (p @ v_gram) + penalty
        in_items += sparse.T @ p
    loss += np.sum(p_gram * v_gram)
    for start in range(0, len(v), size := max(1, NUMBERS_AT_ONCE // v.shape[1])):
        some = slice(start, start + size)
        penalty = items.ridge[some, None] * v[some]
        in_items[some] += items.scale[some, None] * (v[some] @ p_gram) + penalty
        loss += np.sum(penalty * v[some])
    return float(loss), in_users, in_items


def right_sides(problem: IalsProblem, user_factors: Any, item_factors: Any) -> tuple[float, float]:
    """Norms of the right-hand sides of all users' and of all items' equations, the measure for the gradients."""
    users, v = problem.users, np.asarray(item_factors, np.float64)
    of_users, of_items = 0.0, np.zeros_like(v)
    for _, p, entries, indices, indptr in _blocks(users, user_factors):
        targets = sp.csr_array((users.targets[entries], indices, indptr), (len(p), len(v)))
        of_users += float(np.sum((targets @ v) ** 2))
        of_items += targets.T @ p
    return float(np.sqrt(of_users)), float(np.linalg.norm(of_items))


def singular_value_at_zero(problem: IalsProblem) -> float:
    """The largest singular value of D(r)^(-1/2) B D(r)^(-1/2), B being the targets, r the penalties of users and items.

    The loss of factors P, V is its constant - 2 <B, PV'> + the penalties + a sum of W (PV')^2, which is at least 0. So
    factors of 0 are the optimum exactly where this value is at most 1.

    Cost: some 30 products with B, mostly.
    """
    users, items, _ = problem
    row = np.repeat(np.arange(len(users.scale)), users.counts)
    with np.errstate(all="ignore"):
        scaled = users.targets / np.sqrt(users.ridge[row].astype(np.float64) * items.ridge[users.indices])
    if not np.isfinite(scaled).all():
        return float("inf")
    b: Any = sp.csr_array((scaled, users.indices, users.indptr), (len(users.scale), len(items.scale)))
    return largest_singular_value(b)


def _blocks(users: Regressions, factors: Any) -> Iterator[tuple[slice, np.ndarray, slice, np.ndarray, np.ndarray]]:
    """Some users at a time: which, their factors in float64, their entries, and the items and row pointers of these."""
    size = max(1, NUMBERS_AT_ONCE // factors.shape[1])
    for start in range(0, len(users.scale), size):
        some = slice(start, min(start + size, len(users.scale)))
        indptr = users.indptr[some.start : some.stop + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        yield some, np.asarray(factors[some], np.float64), entries, users.indices[entries], indptr - indptr[0]


def init(key: PRNGKeyArray, n_users: int, n_items: int, rank: int, std: float) -> IalsState:
    """Normal factors with standard deviation std / sqrt(K) (Rendle et al. 2021), on the host."""
    dtype = jnp.zeros(()).dtype
    keys = jax.random.split(key)
    scale = std / np.sqrt(rank)
    draws = (scale * jax.random.normal(k, (n, rank), dtype) for k, n in zip(keys, (n_users, n_items), strict=True))
    return IalsState(*map(np.asarray, draws))


def sides(problem: IalsProblem, rank: int, settings: SolverSettings) -> tuple[HalfStep, HalfStep]:
    """Users and items in batches on the devices, or in chunks on the host; its exact solver needs neither.

    Cost: 12 bytes an entry, padded, for each side.
    """
    if settings.mesh is None:
        cut = (lambda rows: ridge.chunks(rows, rank)) if settings.mode == "cg" else lambda rows: []
        users, items = (
            HalfStep(rows, cut(rows), np.arange(len(rows.scale)), len(rows.scale), rows.col) for rows in problem[:2]
        )
        return users, items
    devices = settings.mesh.size
    users, items = (ridge.positions(rows.counts, devices) for rows in problem[:2])
    shapes = ridge.shapes(list(problem[:2]), rank, devices, square=settings.mode != "cg")
    return (
        ridge.side(problem.users, users, items, shapes, settings.mesh),
        ridge.side(problem.items, items, users, shapes, settings.mesh),
    )


def place(state: IalsState, sides: tuple[HalfStep, HalfStep], settings: SolverSettings) -> IalsState:
    """Factors in the order of users and items, from the host to where the sweeps want them."""
    if settings.mesh is None:
        return IalsState(*map(np.asarray, state))
    placed = (
        ridge.put(ridge.at_positions(np.asarray(factors), (side.own, side.size)), settings.mesh)
        for factors, side in zip(state, sides, strict=True)
    )
    return IalsState(*placed)


def fetch(state: IalsState, sides: tuple[HalfStep, HalfStep], settings: SolverSettings) -> IalsState:
    """The opposite of `place`."""
    if settings.mesh is None:
        return state
    return IalsState(*(parallel.to_host(table)[side.own] for table, side in zip(state, sides, strict=True)))


def step(
    state: IalsState, sides: tuple[HalfStep, HalfStep], constant: float, settings: SolverSettings
) -> tuple[IalsState, IalsInfo]:
    """One sweep: the users' factors given the items', then the items' given the users'. Changes no argument.

    Args:
      state: the factors, from `place`.
      sides: from `sides`.
      constant: of the problem.
      settings: the same as for `sides`.

    Cost: nnz K^2 + (U + I) K^3/3 flops by Cholesky; (steps + 1/2) (8 nnz K + 2 (U + I) K^2) by conjugate gradients.
    """
    half = _half_on_host if settings.mesh is None else _half
    users = half(sides[0], *state, settings)
    items = half(sides[1], state.item_factors, users.factors, settings)
    penalty = users.penalty + items.penalty
    tiny = np.finfo(float).tiny
    with np.errstate(all="ignore"):  # what overflows is not certified
        objective = constant + items.entries + items.everywhere + penalty
        gradient = np.sqrt(users.before / np.maximum(users.right, tiny))
        residual = np.sqrt((users.after + items.after) / np.maximum(users.right + items.right, tiny))
    return IalsState(users.factors, items.factors), IalsInfo(float(objective), float(gradient), float(residual))


def _half_on_host(side: HalfStep, own: np.ndarray, other: np.ndarray, settings: SolverSettings) -> Solved:
    with blas.one_thread():  # for the products before the rows too: threads of OpenBLAS spin for a while after a call
        gram = other.T @ (side.col.astype(other.dtype)[:, None] * other)
        if settings.mode == "cg":
            return ridge.steps_on_host(side.batches, other, gram, own, settings.cg_steps)
        return ridge.solve_on_host(side.rows, other, gram, own)


def _half(side: HalfStep, own: Any, other: Any, settings: SolverSettings) -> Solved:
    solve = _compiled(settings.mode, settings.block_size if settings.mode == "block" else 0, settings.mesh)
    gram = ridge.table_operations(settings.mesh).gram(other, side.col)
    shared = (gram, ridge.spectrum(parallel.to_host(gram)), settings.cg_steps) if settings.mode == "cg" else (gram,)
    table, sums = ridge.over_batches(solve, side, own, other, settings.mesh, *shared)
    return Solved(table, *sums)


@functools.cache
def _compiled(mode: str, block_size: int, mesh: Any) -> Callable[..., Solved]:
    """The solver of a batch, which is dear to compile and knows nothing of the tables' sizes."""

    def solve(systems, near, start, gram, *steps, axis):
        if mode == "cholesky":
            solved = ridge.cholesky(systems, near, gram, start)
        elif mode == "block":
            solved = ridge.block_sweep(systems, near, gram, start, min(block_size, gram.shape[0]))
        else:
            spectrum, count = steps
            solved = ridge.conjugate_gradient(systems, near, gram, start, count, spectrum)
        return Solved(solved.factors, *(parallel.psum(part, axis) for part in solved[1:]))

    rows, same = parallel.ROWS, parallel.REPLICATED
    outputs = Solved(rows, *[same] * 6)
    inputs = (rows, rows, rows, same) + ((ridge.GramSpectrum(same, same), same) if mode == "cg" else ())
    return jax.jit(parallel.over_columns(solve, mesh, inputs=inputs, outputs=outputs))
