"""The certificate of the weighted full-rank models: gradients, and the error of the weights, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrec.closed_form.certificate import ROUNDING_LIMIT
from jaxrec.closed_form.products import weights_times
from jaxrec.data.interactions import Interactions
from jaxrec.factorization.weighted_ease import solve
from jaxrec.factorization.weighted_ease.iterate import Settings, SolvedColumns
from jaxrec.factorization.weights import Weights
from jaxrec.solvers import cg
from jaxrec.status import Certificate, Status, last_checks

SAMPLE = 64  # columns that are looked at: half of them those in which most digits cancel, half at random
SLACK = 100  # the certificate's limit over the tolerance
STEPS, ENOUGH = 200, 1e-4  # of conjugate gradients for an error: most of them, and the relative residual that ends them
CELLS = 2**24  # of the users x items of a few columns, made dense


def certify(
    train: Interactions, weights: Weights, solution: SolvedColumns, settings: Settings, dtype: Any = None
) -> Certificate:
    """The evidence on a solution, as told in `WeightedEase.fit`.

    The status tells the first check that fails: all c_jj are above 0; every system is solved to the tolerance; the
    estimated rounding error of the weights, eps / 2 max_j (H_j)_jj c_jj, is below a hundredth; the gradient is below
    its limit; the estimated error of the weights is below a hundredth, and of no column far above it.

    With the gradient g of column j, in float64 through the sparse data, b_j - H_j^-1 g is the optimum (but for the
    diagonal, where that is 0). So H_j^-1 g is what is wrong with b_j, by conjugate gradients in float64 with the
    preconditioner of the fit.

    Args:
      train: interactions X.
      weights: W.
      solution: what is returned.
      settings: of the fit.
      dtype: of the arithmetic, where the weights were rounded afterwards.

    Cost: some 30 products of X and X' with 64 vectors, and of P^-1 with them.
    """
    limit = SLACK * settings.tolerance
    if not np.isfinite(solution.unexplained).all():
        return Certificate(Status.NOT_POSITIVE_DEFINITE, float("nan"), limit)
    n = train.n_items
    squares = np.bincount(train.indices, weights.on_pattern(train) * train.values.astype(np.float64) ** 2, minlength=n)
    cancels = (squares + settings.reg) / solution.unexplained
    rounding = float(np.finfo(dtype or solution.weights.dtype).eps) / 2 * float(np.max(cancels))
    items, drawn = sample(cancels)
    b = np.asarray(solve.columns_of(solution.weights, items), np.float64)[:n]
    starts, errors, wrong = (np.zeros(len(items)) for _ in range(3))
    for part in np.array_split(np.arange(len(items)), max(1, -(-len(items) * train.n_users // CELLS))):
        system = Systems(train, weights, items[part], settings)
        at_answer, at_zero = system.gradient(b[:, part]), system.gradient(np.zeros((n, len(part))))
        starts[part], errors[part] = (np.linalg.norm(g, axis=0) for g in (at_zero, at_answer))
        wrong[part] = system.relative_error(b[:, part], at_answer, solution.preconditioner)
    residual = float(np.linalg.norm(errors[drawn])) / (float(np.linalg.norm(starts[drawn])) or 1.0)
    sizes = np.linalg.norm(b, axis=0)
    size = float(np.linalg.norm(sizes[drawn]))
    weight_error = float(np.linalg.norm((wrong * sizes)[drawn])) / size if size > 0 else 0.0
    column_error = float(wrong.max())
    worst = float(solution.residual.max())
    detail = {
        "iterations": float(solution.iterations.max()),
        "mean iterations": float(solution.iterations.mean()),
        "residual of the systems": worst,
        "estimated rounding error": rounding,
        "estimated error of the weights": weight_error,
        "estimated error of the worst column": column_error,
    }
    if np.isfinite(bound := solve.condition_bound(train, weights, settings.reg)):
        detail["condition bound"] = bound
    if not np.isfinite([residual, *errors]).all():
        status = Status.NOT_FINITE
    elif worst > settings.tolerance:
        status = Status.RESIDUAL_TOO_LARGE
    elif rounding > ROUNDING_LIMIT:
        status = Status.ILL_CONDITIONED
    else:
        status = last_checks(residual, limit, weight_error, column_error)
    return Certificate(status, residual, limit, detail)


def sample(cancels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([S] items to look at, [S] whether each was drawn at random): all if there are few."""
    n = len(cancels)
    if n <= SAMPLE:
        return np.arange(n), np.ones(n, bool)
    drawn = np.random.default_rng(0).permutation(n)[: SAMPLE // 2]
    worst = np.setdiff1d(np.argsort(-cancels, kind="stable")[: SAMPLE // 2], drawn)
    return np.concatenate([drawn, worst]), np.arange(len(drawn) + len(worst)) < len(drawn)


class Systems:
    """The systems H_j = X' D(W_:j) X + reg I of a few items, in float64.

    Args:
      train: interactions X.
      weights: W.
      items: [S] j.
      settings: reg, and whether the diagonal is free.
    """

    def __init__(self, train: Interactions, weights: Weights, items: np.ndarray, settings: Settings):
        self.x: Any = train.to_csr(np.float64)
        self.cells = np.stack([solve.weights_of_item(weights, train, item) for item in items.tolist()], axis=1)
        self.targets = self.x[:, items].toarray()
        self.reg, self.free = float(settings.reg), settings.free
        self.own = items, np.arange(len(items))

    def times(self, columns: np.ndarray) -> np.ndarray:
        """[I, S] H_j of each column."""
        return self.x.T @ (self.cells * (self.x @ columns)) + self.reg * columns

    def gradient(self, b: np.ndarray) -> np.ndarray:
        """[I, S] half the gradient of the loss; 0 on a diagonal that is not free."""
        found = self.x.T @ (self.cells * (self.x @ b - self.targets)) + self.reg * b
        if not self.free:
            found[self.own] = 0
        return found

    def relative_error(self, b: np.ndarray, gradient: np.ndarray, preconditioner: Any) -> np.ndarray:
        """[S] the norm of H_j^-1 g over the norm of b; with a free diagonal, the larger of with and without it.

        Infinite where the iterations do not get there.
        """

        def precondition(columns: np.ndarray) -> np.ndarray:
            return columns if preconditioner is None else weights_times(preconditioner, columns)

        def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.einsum("ij,ij->j", a, b)[None, :]

        size = np.abs(gradient).max(axis=0, keepdims=True)
        scaled = gradient / np.where(size > 0, size, 1)
        with np.errstate(all="ignore"):
            state = cg.begin(np.zeros_like(b), scaled, precondition, dot)
            enough = ENOUGH**2 * state.square
            for _ in range(STEPS):
                if not cg.any_active(state, enough):
                    break
                state = cg.step(state, lambda v, _: self.times(v), precondition, dot, enough)
        step = state.solution * size
        if not self.free:
            step = step + b * step[self.own]
            step[self.own] = 0
        found = _ratio(step, b)
        if self.free:
            off, others = step.copy(), b.copy()
            off[self.own] = others[self.own] = 0
            found = np.maximum(found, _ratio(off, others))
        found = np.where((state.square > enough)[0] & (size[0] > 0), np.inf, found)
        return np.where((self.cells * self.targets).any(axis=0), found, 0)  # else nothing is asked of the column


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[S] norms of columns of a over those of b; 0 where both are."""
    above, below = np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0)
    with np.errstate(all="ignore"):
        return np.where(above > 0, above / np.where(below > 0, below, above), 0)
