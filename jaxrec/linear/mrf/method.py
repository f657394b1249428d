"""The sparse Markov random field: item-item weights on a sparse pattern, from many small inverses (Steck 2019).

"Markov Random Fields for Collaborative Filtering" (Steck, NeurIPS 2019, arXiv 1910.09645) takes users for samples of a
Gaussian. Its conditional means are EASE on centred and rescaled data. Where only large covariances count, every item
depends on few neighbours, and small dense blocks of the Gram matrix replace the one large inverse.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form.certificate import ROUNDING_LIMIT
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import HostOrDevices, Stopwatch
from jaxrec.linear.mrf.blocks import solve
from jaxrec.linear.mrf.covariance import CACHE_ENTRIES, ScaledGram
from jaxrec.linear.mrf.pattern import Pattern, cover, find_pattern, threshold_for
from jaxrec.models import Fitted, SparseItemWeights
from jaxrec.runtime.memory import Hardware, Needs, Plan, available_bytes
from jaxrec.solvers.columns import largest_share
from jaxrec.status import Certificate, Status, last_checks

SAMPLE = 64  # columns whose stationarity is checked
RESIDUAL_LIMIT = {"float32": 1e-4, "float64": 1e-10}
ROUNDING = 32 * float(np.finfo(np.float64).eps)  # of an entry of S, relative to the terms whose difference it is
SEEN = ("residual", "objective gap", "standard error of the gap", "error", "worst error")
NEIGHBOURS = 100  # of an item on average, unless told otherwise


def objective(x: Float[ArrayLike, "U I"], weights: Float[ArrayLike, "I I"], alpha: Any, reg: Any) -> Float[Array, ""]:
    """The loss ||Z - Z W||_F^2 + reg ||W||_F^2 of scaled, centred data, literally, for checking: it takes X dense.

    Z = (X - 1 mu') D(1/s) with s_j = (U variance of item j)^(alpha/2), and W = D(s) B D(1/s) are the weights on that
    scale. The sparse MRF with r = 0 is its minimum over weights B that vanish outside the pattern and on the diagonal.

    Args:
      x: [U, I] interactions; no item may be constant.
      weights: [I, I] B.
      alpha: scalar in [0, 1].
      reg: scalar > 0.
    """
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    scale = jnp.sum(centred**2, axis=0) ** (alpha / 2)
    z, w = centred / scale[None, :], scale[:, None] * weights / scale[None, :]
    return jnp.sum((z - jnp.matmul(z, w, precision=lax.Precision.HIGHEST)) ** 2) + reg * jnp.sum(w**2)


def stationarity(
    gram: ScaledGram, pattern: Pattern, weights: sp.csr_array, reg: float, n_columns: int, seed: int = 0
) -> dict[str, float]:
    """How far the weights are from the optimum on their pattern, over a random sample of columns.

    "residual" is ||g||_F / ||S||_F, both restricted to the pattern, with the gradient g = (S + reg I) W - S through the
    sparse X. "objective gap" is sum_j g_j' G_j^-1 g_j / sum_j s_j' G_j^-1 s_j with G_j the block of S + reg I on the
    neighbours of item j: what the loss exceeds the pattern's optimum by, as a share of what that optimum gains over
    B = 0; with its standard error from the sample. "error" and "worst error" are the norm of G_j^-1 g_j, which is what
    is wrong with a column, on the scale of B and relative to the columns: over all, and the largest; with what rounding
    of the two terms of S in float64 may do to it. Float64.

    Args:
      gram: S.
      pattern: where weights may stand.
      weights: [I, I] B, on the scale of X.
      reg: the regularization.
      n_columns: size of the sample.
      seed: of the sample.
    """
    known = np.flatnonzero(np.diff(pattern.indptr))
    if len(known) == 0:
        return dict.fromkeys(SEEN, 0.0)
    draws = np.random.default_rng(seed)
    items = draws.choice(known, min(n_columns, len(known)), replace=False)
    scale = np.where(gram.constant, 0, 1 / np.where(gram.constant, 1, gram.inverse_scale))
    w = scale[:, None] * weights[:, items].toarray().astype(np.float64) * gram.inverse_scale[items]
    target = gram.columns(items)
    gradient = gram.times(w) + reg * w - target
    errors, starts, gaps, gains, wrong, sizes = np.zeros((6, len(items)))
    for k, j in enumerate(items):
        near = pattern.items[pattern.indptr[j] : pattern.indptr[j + 1]]
        block = gram.blocks(near, np.array([len(near)]), len(near), reg, np.float64)[0]
        both = np.stack([gradient[near, k], target[near, k]], axis=1)
        errors[k], starts[k] = np.sum(both**2, axis=0)
        shift = np.abs(gram.shift[near])
        terms = shift * (shift @ np.abs(w[near, k]) + abs(gram.shift[j]))
        rounded = draws.choice([-ROUNDING, ROUNDING], (len(near), 8)) * terms[:, None]
        try:
            steps = np.linalg.solve(block, np.hstack([both, rounded]))
        except np.linalg.LinAlgError:
            return dict.fromkeys(SEEN, np.nan)
        gaps[k], gains[k] = np.sum(both * steps[:, :2], axis=0)
        parts = (steps[:, :1], steps[:, 2:], w[near, k : k + 1])
        left, of_sums, sizes[k] = (np.linalg.norm(gram.inverse_scale[near, None] * part) for part in parts)
        wrong[k] = left + of_sums / 8**0.5
    gap = gaps.sum() / gains.sum()
    spread = np.std(gaps - gap * gains, ddof=1) if len(items) > 1 else 0.0
    error = spread / gains.mean() * np.sqrt((1 / len(items)) * (1 - len(items) / len(known)))
    unit = np.where(gram.constant, 1, gram.inverse_scale)[items] ** -1.0
    whole = np.linalg.norm(wrong * unit) / (np.linalg.norm(sizes * unit) or 1.0)
    worst = largest_share(wrong * unit, sizes * unit)
    residual = np.sqrt(errors.sum() / starts.sum())
    return dict(zip(SEEN, map(float, (residual, gap, error, whole, worst)), strict=True))


@dataclasses.dataclass(frozen=True, repr=False)
class Mrf(HostOrDevices):
    """Sparse MRF: EASE on scaled data and a sparse pattern, from small blocks in place of one inverse (Steck 2019).

    An item's neighbours are those whose scaled covariance S_ij is large in absolute value. With r = 0 each item gets a
    block of itself and its neighbours, and column j of B is the exact optimum on its pattern. With r > 0 a block also
    serves the share r of its items nearest to its centre: fewer blocks, approximate columns; the certificate holds the
    objective gap.

    Attributes:
      reg: L2 strength, the paper's lambda, in the unit of the diagonal of S, (U variance)^(1 - alpha); the paper takes
        1 for sparse, 3 to 6 for dense weights; small and sparse data want 4 to 10.
      alpha: in [0, 1]: 0 compares covariances, 1 correlations.
      density: about which share of the I x I weights may differ from 0, by which the threshold is chosen; default as
        much as gives 100 neighbours an item on average. 1 is dense.
      threshold: the least absolute value of S_ij among neighbours, in place of `density`; 0 is dense.
      r: in [0, 1], the share of a block's columns that are kept.
      max_in_column: most neighbours of an item.
      center: score mu + (x - mu) B, which puts back the items' offsets, in place of x B as in the paper.
      solver: "host" factors the blocks by LAPACK on the CPU; "jax" in batches on the default device; "auto" takes
        "host" where that is a CPU. The pattern is always found on the host.
      dtype: of the blocks: "float32", or "float64" for nearly collinear items ("host" only).
    """

    name: ClassVar[str] = "mrf"

    reg: float = 4.0
    alpha: float = 0.75
    density: float | None = None
    threshold: float | None = None
    r: float = 0.0
    max_in_column: int = 1000
    center: bool = False

    def __post_init__(self):
        super().__post_init__()
        _checks.positive("reg", self.reg, "the unit is that of the diagonal of the scaled covariance")
        _checks.share("alpha", self.alpha)
        _checks.share("r", self.r)
        if self.density is not None and self.threshold is not None:
            raise InputError("density and threshold both set the pattern; give one of them.")
        if self.density is not None:
            _checks.number("density", self.density)
            if not 0 < self.density <= 1:
                raise InputError(f"density must be above 0 and at most 1, got {self.density!r}.")
        if self.threshold is not None:
            _checks.nonnegative("threshold", self.threshold)
        _checks.count("max_in_column", self.max_in_column, at_least=1)

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted sparse weights with their certificate.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.
          devices: what shares the blocks, as in `Ease.fit`; the pattern and the model stay on the host. None is
            what `solver` says.

        Returns:
          Fitted(model: SparseItemWeights, info). The certificate holds the residual of the blocks and, with r = 0, of
          the stated objective on a sample of columns; with r > 0 its detail estimates how far these are from their
          optimum, and a fit that lost all it could gain is refused. The detail holds the estimated error of the
          weights: with r = 0 of 64 sampled columns, by a Newton step in float64; and of the worst column, on the host,
          where all are refined in float64, of all. It counts the blocks, the items without neighbours (their scores are
          0 for everyone) and the constant items, and gives threshold and density.

        Raises:
          FitError: the fit does not fit in memory, or its result is not certified; says what to change.
          InputError: there is nothing to learn from, or no two items are neighbours.

        Cost: the sum over users of len(history)^2 for the pattern, and n^3/3 + n^2 r n flops for each block of n items.
        """
        return self._fit(train, devices)

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[Any, Certificate]:
        with clock.stage("pattern"):
            gram = ScaledGram.of(train, float(self.alpha))
            threshold = self.threshold
            if threshold is None:
                threshold = threshold_for(gram, self._density(train.n_items))
            pattern = find_pattern(gram, float(threshold), self.max_in_column)
        if len(pattern.items) == 0 and train.n_items > 1 and not gram.constant.all():
            raise InputError(f"no two items have a scaled covariance of {threshold:.3g} or more; lower the threshold.")
        with clock.stage("solve"):
            blocks = cover(pattern, float(self.r), gram.variance)
            solved = solve(gram, pattern, blocks, float(self.reg), self.dtype, mesh)
            weights = self._weights(gram, pattern, solved.values)
            offset = self._offset(gram, weights) if self.center else None
            model = SparseItemWeights(weights.indptr, weights.indices, weights.data, offset)
        with clock.stage("certificate"):
            seen = stationarity(gram, pattern, weights, float(self.reg), SAMPLE)
        residual = max(solved.residual, seen["residual"]) if self.r == 0 else solved.residual
        limit = RESIDUAL_LIMIT[self.dtype]
        # With r > 0 columns are not the pattern's optimum, and only their own blocks say how exact they are.
        error, worst = (seen["error"], seen["worst error"]) if self.r == 0 else (0.0, 0.0)
        worst = float(np.fmax(worst, solved.error))
        if not np.isfinite([solved.residual, solved.rounding]).all():
            status = Status.NOT_POSITIVE_DEFINITE
        elif not (np.isfinite(weights.data).all() and np.isfinite(list(seen.values())).all()):
            status = Status.NOT_FINITE
        elif solved.rounding > ROUNDING_LIMIT:
            status = Status.ILL_CONDITIONED
        elif seen["objective gap"] >= 1:
            status = Status.RESIDUAL_TOO_LARGE
        else:
            status = last_checks(residual, limit, error, worst)
        detail = {
            "objective gap over the pattern's optimum": seen["objective gap"],
            "standard error of the gap": seen["standard error of the gap"],
            "estimated rounding error": solved.rounding,
            "estimated error of the weights": error,
            "estimated error of the worst column": worst,
            "threshold": float(threshold),
            "density": len(pattern.items) / train.n_items**2,
            "blocks": float(len(blocks.n_wanted)),
            "largest block": float(np.diff(blocks.indptr).max(initial=0)),
            "items without neighbours": float(np.sum(np.diff(pattern.indptr) == 0)),
            "constant items": float(gram.constant.sum()),
        }
        return model, Certificate(status, float(residual), limit, detail)

    def _plan(self, shape: tuple[int, int, int], mesh: Any) -> Plan:
        """The plan of a fit, whose arrays lie on the host and whose flops the devices share."""
        return dataclasses.replace(super()._plan(shape, mesh), where="host", available=available_bytes())

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        """A `threshold` is counted as its worst case, full columns."""
        most = min(self.max_in_column, n_items)
        neighbours = most if self.threshold is not None else min(most, self._density(n_items) * n_items)
        entries = round(neighbours * n_items)
        parts = {
            "pattern, sums and weights": 36 * entries,
            "lists of blocks": 4 * round(entries / max(1.0, self.r * neighbours) + n_items),
            "counts of the most popular items": 4 * min(n_items**2, CACHE_ENTRIES),
            "sparse data, by user and by item": 32 * nnz + 16 * (n_users + n_items),
            "a block of the Gram matrix, and batches of blocks": 2**28,
        }
        n_blocks = n_items / max(1.0, self.r * neighbours)
        flops = n_blocks * (neighbours**3 / 3 + 2 * self.r * neighbours**3) + 10.0 * nnz * nnz / max(1, n_users)
        return Needs(parts, flops, "lower density, or max_in_column")

    def _density(self, n_items: int) -> float:
        """The density asked for, or its default."""
        return self.density if self.density is not None else min(1.0, NEIGHBOURS / n_items)

    def _weights(self, gram: ScaledGram, pattern: Pattern, values: np.ndarray) -> sp.csr_array:
        """[I, I] D(1/s) W D(s), by rows."""
        q = gram.inverse_scale
        column = np.repeat(np.arange(gram.n_items), np.diff(pattern.indptr))
        values = (values * q[pattern.items] / q[column]).astype(self.dtype)
        shape = (gram.n_items, gram.n_items)
        return sp.csc_array((values, pattern.items, pattern.indptr), shape=shape).tocsr()

    def _offset(self, gram: ScaledGram, weights: sp.csr_array) -> np.ndarray:
        """[I] mu - mu B."""
        return (gram.mean - weights.T @ gram.mean).astype(self.dtype)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        if certificate.status is Status.RESIDUAL_TOO_LARGE and self.r > 0:
            return f"the blocks do not represent their columns ({certificate}): lower r."
        also = "" if self.dtype == "float64" else ", or use Mrf(dtype='float64')"
        return f"{self.dtype} cannot resolve these items at reg = {self.reg:g} ({certificate}): raise reg{also}."
