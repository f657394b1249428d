"""The sweeps of asymmetric weighted factorization: A by preconditioned conjugate gradients, then V exactly.

With vec in column order the equations for A are

    [ (V (x) X)' D(vec W) (V (x) X) + reg R ] vec A = vec(X'(W o X) V),    R = I (x) I, V'V (x) I or I (x) X'X,

of size I K. They are never formed: with W = p q' + S a product with the matrix is

    Z = X A;   Y = D(p) Z (V'D(q)V) + (S o (Z V')) V;   X'Y + reg {A | A V'V | X'Z}.

Without S they are solved by what makes X'D(p)X and R diagonal at once, which `JointSpectrum` holds; V'D(q)V changes in
every sweep, but is K x K. Where c1 p q' <= W <= c2 p q', the eigenvalues of the preconditioned matrix lie in
[min(c1, 1), max(c2, 1)], whatever the data, reg and I.

"product" sees only A V'. The factor that is not solved for is kept orthonormal, which turns its penalty into the
penalty of "l2" on the other one: ||A V'||^2 is ||A||^2 where V'V = I and ||V||^2 where A'A = I. The other two penalties
are, for a given A V', lowest where A (or X A) and V have the same K x K moments; each sweep begins by making them so.
Without it "l2" takes several times as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from jaxrec.data.interactions import Interactions
from jaxrec.factorization.ridge import FoldIn, Regressions, transposed
from jaxrec.factorization.weights import Weights
from jaxrec.solvers import cg
from jaxrec.solvers.lanczos import largest_singular_value

NUMBERS_AT_ONCE = 2**21  # of factors that are gathered for predictions, in float64
ZERO_FACTORS = 1e-30  # a squared norm of factors below which they are zero


class AwmfState(NamedTuple):
    """What a sweep carries: A [I, K] and V [I, K]."""

    encoder: Any
    decoder: Any


class AwmfInfo(NamedTuple):
    """What a sweep reports.

    Attributes:
      objective: the loss after it, regularization included.
      gradient: norm of the gradient in A before its step, over the norm of the right-hand side of its equations.
      residual: norm of the gradient in A after its step, over the same.
      steps: of conjugate gradients.
    """

    objective: float
    gradient: float
    residual: float
    steps: float


class AwmfProblem(NamedTuple):
    """The data as the sweeps want them.

    Attributes:
      x: [U, I] X in float64.
      users: weights and weighted targets of the cells, by user, with ridge 0.
      items: the regressions of the items.
      constant: the loss of factors that are 0, sum of W x^2.
    """

    x: sp.csr_array
    users: Regressions
    items: Regressions
    constant: float


def problem(x: Interactions, weights: Weights, reg: float) -> AwmfProblem:
    """The regressions of the items of `x`, and what else the sweeps need."""
    sparse = x.to_csr(np.float64)
    users = FoldIn(0.0, 0.0, 1.0, 0.0).rows(x, weights)  # targets W on the entries of X
    constant = float(users.targets @ sparse.data**2)
    users = users._replace(targets=users.targets * sparse.data)
    items = transposed(users, x.item_counts, FoldIn(reg, 0.0, 1.0, 0.0))
    return AwmfProblem(sparse, users, items, constant)


@np.errstate(all="ignore")  # what overflows is not certified
def step(
    state: AwmfState, products: Any, problem: AwmfProblem, kind: str, reg: float, how: tuple[float, int]
) -> tuple[AwmfState, AwmfInfo]:
    """One sweep. Changes no argument.

    Args:
      state: from `products.place`.
      products: `OnHost` or `OnDevices`.
      problem: what they were made from.
      kind: "l2", "product" or "factor".
      reg: the strength.
      how: (tolerance, most steps) of conjugate gradients.

    Cost: with n steps, n + 1 times 8 nnz K + 4 I^2 K flops for A, and nnz K^2 + I K^3/3 for V.
    """
    a, v = balanced(state, products, kind)
    gram = products.item_gram(v)
    t, turn = _eigh(np.asarray(gram, np.float64))
    t = np.maximum(t, 1e-12 * max(t[-1], np.finfo(float).tiny))

    apply, right = equations(products, v, gram, kind, reg)
    least = float(np.finfo(products.dtype).eps) ** 1.5 * problem.constant  # below it is mostly rounding
    ridge = reg if products.ridge is None else products.ridge
    a, steps, before, after = conjugate_gradient(
        apply, lambda r: products.precondition(r, t, turn, ridge), products.dot, a, right, how[0], how[1], least
    )
    if kind == "product":
        a, corner = products.orthonormal(a)
        v = products.turned(v, corner.T)
    z = products.encode(a)
    solved = products.decode(z, v)
    objective = problem.constant + float(solved.entries) + float(solved.everywhere) + float(solved.penalty)
    if kind == "l2":
        objective += reg * products.dot(a, a)
    elif kind == "factor":
        objective += reg * float(np.trace(products.user_gram(z, weighted=False)))
    size = max(np.sqrt(products.dot(right, right)), np.finfo(float).tiny)
    info = AwmfInfo(objective, float(before / size), float(after / size), float(steps))
    return AwmfState(a, solved.factors), info


def equations(products: Any, v: Any, gram: Any, kind: str, reg: float) -> tuple[Callable, Any]:
    """The product with the matrix of the equations for A, and their right-hand side [I, K].

    Args:
      products: `OnHost` or `OnDevices`.
      v: [I, K] V; for "product" orthonormal.
      gram: [K, K] V'D(q)V.
      kind: "l2", "product" or "factor".
      reg: the strength.
    """

    def apply(a: Any) -> Any:
        z = products.encode(a)
        y = products.weigh(z, v, gram)
        return products.back(y + reg * z) if kind == "factor" else products.back(y) + reg * a

    return apply, products.back(products.right(v))


def balanced(state: AwmfState, products: Any, kind: str) -> AwmfState:
    """The same A V', for "product" with V orthonormal, else where the penalty is lowest."""
    a, v = state
    if kind == "product":
        v, corner = products.orthonormal(v)
        return AwmfState(products.turned(a, corner.T), v)
    own = products.user_gram(products.encode(a), weighted=False) if kind == "factor" else products.gram(a)
    change, inverse = balance(own, products.gram(v))
    return AwmfState(products.turned(a, change), products.turned(v, inverse))


def balance(own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """M and M'^-1 [K, K] for which M' own M = M^-1 other M'^-1, diagonal: 2 tr of it is what the penalty sinks to.

    The identity where a factor is zero, all of it penalized away.
    """
    own, other = (np.asarray(part, np.float64) for part in (own, other))
    if min(np.trace(own), np.trace(other)) < ZERO_FACTORS:
        return np.eye(len(own)), np.eye(len(own))
    values, vectors = _eigh(own)
    root = np.sqrt(np.maximum(values, 1e-12 * values[-1] + 1e-300))
    inner = (vectors * root).T @ other @ (vectors * root)
    values, turn = _eigh(inner)
    quarter = np.maximum(values, 1e-12 * values[-1] + 1e-300) ** 0.25
    return (vectors / root) @ turn * quarter, (vectors * root) @ turn / quarter


def _eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NumPy's, with NaN where it would raise: what overflows ends as no certified model."""
    if not np.isfinite(matrix).all():
        return np.full(len(matrix), np.nan), np.full_like(matrix, np.nan)
    return np.linalg.eigh(matrix)


def conjugate_gradient(
    apply: Callable,
    precondition: Callable,
    dot: Callable,
    start: Any,
    right: Any,
    tolerance: float,
    most: int,
    least: float = 0.0,
) -> tuple[Any, int, float, float]:
    """The solution of apply(a) = right from `start`, the steps, and the norms of the residual before and after.

    Every step lowers the loss, however few there are. They end once the residual, in the norm of the preconditioner's
    inverse (whose square bounds how far above its minimum the loss is), is `tolerance` times what it was at the start:
    as the sweeps converge the start comes nearer to the solution, and so does what is asked for.

    Args:
      apply: the product with a symmetric positive definite matrix.
      precondition: the product with the inverse of one near it.
      dot: the scalar product.
      start: where to begin.
      right: the right-hand side.
      tolerance: of the residual, relative to the residual of `start`.
      most: steps at most.
      least: a decrease of the loss too small to matter; 0 for none.
    """
    state = cg.begin(start, right - apply(start), precondition, dot)
    before = np.sqrt(dot(state.residual, state.residual))
    enough = max(tolerance**2 * state.square, least)
    while state.steps < most and state.square > enough:
        taken = state.steps
        state = cg.step(state, lambda v, _: apply(v), precondition, dot, enough)
        if state.steps == taken:  # rounding, or NaN
            break
    return state.solution, int(state.steps), float(before), float(np.sqrt(dot(state.residual, state.residual)))


def loss_and_gradients(
    problem: AwmfProblem, state: AwmfState, kind: str, reg: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss and half its gradients in A and in V, in float64 through the sparse data, independent of the kernels.

    Cost: 12 nnz K + 6 (U + I) K^2 flops.
    """
    x, users = problem.x, problem.users
    a, v = (np.asarray(part, np.float64) for part in state)
    z = x @ a
    z_gram, v_gram = z.T @ (users.scale[:, None] * z), v.T @ (users.col[:, None] * v)
    row = np.repeat(np.arange(len(z)), users.counts)
    predicted = np.empty(len(row))
    entries = max(1, NUMBERS_AT_ONCE // v.shape[1])
    for start in range(0, len(row), entries):
        some = slice(start, start + entries)
        predicted[some] = np.einsum("ek,ek->e", z[row[some]], v[users.indices[some]])
    loss = problem.constant + predicted @ (users.weights * predicted - 2 * users.targets) + np.sum(z_gram * v_gram)
    error: Any = sp.csr_array((users.weights * predicted - users.targets, users.indices, users.indptr), x.shape)
    in_z = error @ v + users.scale[:, None] * (z @ v_gram)
    in_v = error.T @ z + users.col[:, None] * (v @ z_gram)
    if kind == "product":
        moments = a.T @ a, v.T @ v
        return (
            float(loss + reg * np.sum(moments[0] * moments[1])),
            x.T @ in_z + reg * a @ moments[1],
            in_v + (reg * v @ moments[0]),
        )
    loss += reg * np.sum(v**2) + reg * np.sum((z if kind == "factor" else a) ** 2)
    in_a = x.T @ (in_z + reg * z) if kind == "factor" else x.T @ in_z + reg * a
    return float(loss), in_a, in_v + reg * v


def right_sides(problem: AwmfProblem, state: AwmfState) -> tuple[float, float]:
    """Norms of the right-hand sides of the equations for A and for V, the measure for the gradients."""
    users = problem.users
    targets: Any = sp.csr_array((users.targets, users.indices, users.indptr), problem.x.shape)
    a, v = (np.asarray(part, np.float64) for part in state)
    return float(np.linalg.norm(problem.x.T @ (targets @ v))), float(np.linalg.norm(targets.T @ (problem.x @ a)))


def singular_value_at_zero(problem: AwmfProblem, kind: str, reg: float) -> float:
    """The largest singular value of X'(W o X), for "factor" of W o X, over reg.

    The loss is its constant - 2 <X A, (W o X) V> + the penalty + a sum of W (X A V')^2, which is at least 0. So factors
    of 0 are the optimum where this value is at most 1; with "product" they never are.

    Cost: some 30 products with these matrices, mostly.
    """
    users = problem.users
    if kind == "product" or not (reg > 0 and np.isfinite(users.targets).all()):
        return float("inf")
    targets: Any = sp.csr_array((users.targets, users.indices, users.indptr), problem.x.shape)
    return largest_singular_value(*((targets,) if kind == "factor" else (problem.x.T, targets))) / reg
