"""Weighted full-rank item-item models: EASE and LAE under any weights of the squared errors.

    min over B [I, I] of   sum over ALL u, i of W_ui (X_ui - (X B)_ui)^2 + reg ||B||_F^2,

with zero diagonal (weighted EASE) or a free one (weighted LAE), and W = p q' + S (`jaxrec.Weights`). It is the
full-rank member of the family in Ayoub, Robertson, Liang, Steck & Kallus, "Does Weighting Improve Matrix Factorization
for Recommender Systems?" (WWW 2025). With H_j = X' D(W_:j) X + reg I and c_j = H_j^-1 e_j, column j of the optimum is
-c_j / c_jj off the diagonal, or e_j - reg c_j where that is free: a linear system an item, `weighted_ease.solve`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form import ties
from jaxrec.closed_form.products import Rescaled
from jaxrec.data.interactions import Interactions
from jaxrec.factorization.weighted_ease import iterate, solve
from jaxrec.factorization.weighted_ease.certificate import certify
from jaxrec.factorization.weighted_ease.iterate import Settings, SolvedColumns
from jaxrec.factorization.weights import Weights
from jaxrec.fitting import HostOrDevices, Stopwatch
from jaxrec.models import Fitted, ItemWeights
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.solvers.columns import HIGHEST, without_diagonal
from jaxrec.solvers.spd import sweep_layout
from jaxrec.status import Certificate, Status

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
FLOAT64_ITEMS = 4096  # up to which a fit on the host that lacks digits is made again in float64, and then rounded


def objective(
    x: Float[ArrayLike, "U I"], cell_weights: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], reg: Any
) -> Float[Array, ""]:
    """The loss sum W (X - X B)^2 + reg ||B||_F^2, literally, for checking: it takes all matrices dense.

    Args:
      x: [U, I] interactions.
      cell_weights: [U, I] W >= 0.
      weights: [I, I] B.
      reg: scalar > 0.
    """
    x, w, weights = map(jnp.asarray, (x, cell_weights, weights))
    error = x - jnp.matmul(x, weights, precision=HIGHEST)
    return jnp.sum(w * error**2) + reg * jnp.sum(weights**2)


@dataclasses.dataclass(frozen=True, repr=False)
class WeightedEase(HostOrDevices):
    """EASE, or LAE, with weighted errors: min sum W (X - X B)^2 + reg ||B||_F^2, exactly (Ayoub et al., WWW 2025).

    The values of X mean what they mean in `Ease`: they are inputs and targets alike, and the default weights do not
    read them. Where they are strengths that shall say how much an interaction counts (as in `Ials`, whose targets are
    1), fit `train.binarised()` with `cell_weights=Weights.constant(train, alpha)`.

    Attributes:
      reg: L2 strength, in interactions per item (weighted ones); scaling W and reg alike changes nothing.
      alpha: what an observed cell weighs on top of a missing one.
      unobserved_weight: weight of a missing cell.
      diagonal: "zero", as in EASE, or "free", as in LAE.
      tolerance: relative residual of the linear systems at which the iterations stop, in the norm of the
        preconditioner's inverse; default 1e-6, in float64 1e-12. The certificate's limit is 100 times that.
      max_iterations: of conjugate gradients; they grow like sqrt(1 + alpha / unobserved_weight), whatever the data.
      solver: "host" visits the observed cells on the CPU, "jax" takes dense batches of users on the default device;
        "auto" the former where that is a CPU.
      dtype: "float32", or "float64" for nearly collinear items ("host" only).
    """

    name: ClassVar[str] = "weighted-ease"

    reg: float = 100.0
    alpha: float = 1.0
    unobserved_weight: float = 1.0
    diagonal: Literal["zero", "free"] = "zero"
    tolerance: float | None = None
    max_iterations: int = 200

    def __post_init__(self):
        super().__post_init__()
        _checks.positive("reg", self.reg, "the unit is interactions per item")
        _checks.positive("alpha", self.alpha, "for no weighting use Ease or Lae")
        _checks.positive("unobserved_weight", self.unobserved_weight)
        _checks.one_of("diagonal", self.diagonal, ("zero", "free"))
        if self.tolerance is not None:
            _checks.positive("tolerance", self.tolerance)
        _checks.count("max_iterations", self.max_iterations, at_least=1)

    def cell_weights(self, train: Interactions) -> Weights:
        """W of a fit that is given none: unobserved_weight, and alpha more on the entries."""
        return Weights.constant(train.binarised(), self.alpha, unobserved_weight=self.unobserved_weight)

    @property
    def settings(self) -> Settings:
        """What the solvers take."""
        tolerance = TOLERANCE[self.dtype] if self.tolerance is None else self.tolerance
        return Settings(self.reg, self.diagonal == "free", tolerance, self.max_iterations)

    def fit(self, train: Interactions, devices: Any = None, *, cell_weights: Weights | None = None) -> Fitted:
        """The fitted weights with their certificate.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.
          devices: what to split every I x I matrix over by columns (see `jaxrec.runtime.parallel.make_mesh`).
          cell_weights: W in place of the default, made from interactions with the entries of `train`.

        Returns:
          Fitted(model: ItemWeights, info: FitInfo). The certificate holds the gradient of the loss in up to 64
          columns over the gradient at zero, in float64 through the sparse data (all columns of at most 64; else 32 at
          random, and 32 in which most digits cancel); among its details the estimated error of the weights in these,
          the iterations, the largest residual of a system, and the bound on the condition number that the weights
          imply. What float32 cannot resolve is solved in float64 and rounded, on the host up to 4,096 items.

        Raises:
          FitError: it does not fit in memory, or the result is not certified; says what to change.
          InputError: there is nothing to learn from, or the weights do not belong to `train`.

        Cost: see `plan`.
        """
        return self._fit(train, devices, cell_weights=cell_weights)

    def _solve(
        self, train: Interactions, mesh: Any, clock: Stopwatch, *, cell_weights: Weights | None = None, **_: Any
    ) -> tuple[ItemWeights, Certificate]:
        weights = self.cell_weights(train) if cell_weights is None else cell_weights
        _require(weights, train)
        solution, certificate = self._solved(train, weights, self.settings, np.dtype(self.dtype), mesh, clock)
        done = certificate.detail.get("iterations", 0)
        lacks_digits = certificate.status is not Status.OK and done < self.max_iterations
        if mesh is None and self.dtype == "float32" and lacks_digits and train.n_items <= FLOAT64_ITEMS:
            settings = self.settings._replace(tolerance=min(self.settings.tolerance, TOLERANCE["float64"]))
            solution, certificate = self._solved(train, weights, settings, np.dtype(np.float64), mesh, clock)
        return ItemWeights(solution.weights, padding=len(solution.weights) - train.n_items), certificate

    def _solved(
        self, train: Interactions, weights: Weights, settings: Settings, dtype: Any, mesh: Any, clock: Stopwatch
    ) -> tuple[SolvedColumns, Certificate]:
        """The solution as it is returned, and its certificate."""
        with clock.stage("solve"):
            solution = solve.solve(train, weights, settings, dtype, mesh)
        with clock.stage("certificate"):
            if len(solution.weights):
                tied = _tied(solution.weights, train, weights)
                # Of e_j - reg c_j rounding may leave something where an item has no users.
                tied = without_diagonal(tied, np.flatnonzero(train.item_counts == 0))
                tied = tied if mesh else tied.astype(self.dtype, copy=False)
                known = solution.preconditioner
                if isinstance(known, Rescaled):  # of the weights themselves, whose memory went into the tied ones
                    known = dataclasses.replace(known, matrix=tied)
                solution = solution._replace(weights=tied, preconditioner=known)
            return solution, certify(train, weights, solution, self.settings, dtype)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        if certificate.status is Status.RESIDUAL_TOO_LARGE:
            return f"the iterations have not converged ({certificate}): raise max_iterations, tolerance or reg."
        return f"{self.dtype} cannot resolve these items ({certificate}): raise reg, or use dtype='float64'."

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        """With the default weights; one matrix more where q varies.

        The flops are for iterations in proportion to sqrt(1 + alpha / unobserved_weight).
        """
        iterations = 4 + 6 * (1 + self.alpha / self.unobserved_weight) ** 0.5
        size = np.dtype(self.dtype).itemsize
        visited = 2.0 * nnz * max(1.0, nnz / n_users)  # squares of the lengths of histories, which differ
        if host:
            parts = {
                "inverse, and weights": 2 * size * n_items**2,
                "a block of items": 10 * size * n_items * min(n_items, iterate.WIDTH),
                "the observed cells that a block visits": int(16 * min(iterate.ENTRIES, visited)),
                "sparse data, by user and by item": 60 * nnz,
            }
            flops = (1 + 2 * iterations) * float(n_items) ** 3
        else:
            layout = sweep_layout(n_items, on.count)
            width = min(layout.size // on.count, iterate.COLUMNS_AT_ONCE)
            parts = {
                "inverse, and weights": on.share(8 * layout.size**2),
                "a block of items": 40 * layout.size * width * on.on_host,
                "batches of users made dense": 5 * 2**26 * on.on_host,
                "interactions padded": on.share(24 * nnz),
            }
            flops = 2.0 * layout.size**3 + iterations * (2.0 * layout.size**3 + 4.0 * n_users * layout.size**2)
        return Needs(parts, flops, "use fewer items (drop those with the fewest users), or more devices")


def _require(weights: Weights, train: Interactions) -> None:
    """Refuses weights of other data, and such as are no weights or say nothing."""
    weights.require(train)
    parts = [weights.row, weights.col, weights.on_pattern(train)]
    least = min(float(np.min(part, initial=np.inf)) for part in parts)
    if not (least >= 0 and all(np.isfinite(part).all() for part in parts)):
        raise InputError(f"weights must be finite and not negative, got {least:g}; build them with a constructor.")
    if not weights.on_pattern(train).max(initial=0) > 0:
        raise InputError("the weights of all interactions are 0, which leaves nothing to fit; raise some.")


def _tied(b: Any, train: Interactions, weights: Weights) -> Any:
    """B with one column for items that neither data nor weights can tell apart (see `jaxrec.closed_form.ties`)."""
    rule = weights.rule
    if rule is None:
        return b
    found = ties.identical_items(train)
    first = found.kind[found.items]
    alike = all((part[found.items] == part[first]).all() for part in (rule.col, rule.slope, rule.offset))
    return ties.tie(b, found) if alike else b
