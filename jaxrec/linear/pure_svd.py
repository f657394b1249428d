"""PureSVD and its regularised form: the truncated SVD of X as a linear autoencoder of a given rank.

PureSVD (Cremonesi, Koren & Turrin, RecSys 2010) scores by x V V' with the first k right singular vectors of X. With
an L2 penalty on the product, the best rank-k autoencoder is x V D(sigma^2 / (sigma^2 + reg)) V' (Jin et al., KDD 2021).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.sparse.linalg import ArpackError

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form.spectral import DENSE_UP_TO, eigenpairs
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import HostOnly, Stopwatch
from jaxrec.models import Fitted, ItemFactors
from jaxrec.runtime.memory import CPU_CORE_RATE, Hardware, Needs
from jaxrec.solvers.columns import HIGHEST
from jaxrec.solvers.lanczos import Eigenpairs
from jaxrec.status import Certificate, FitError, Status

LIMIT = 1e-5  # of the relative residual; float32 factors sit near 1e-7
# Than the flops at the typical rate of a core, as products with one vector are bound by memory: measured 17 to 35 on
# Gowalla (ranks of 512 and more) and MovieLens 1M, and 100 to 140 on an older processor.
LANCZOS_SLOWER = 30


def objective(
    x: Float[ArrayLike, "U I"], encoder: Float[ArrayLike, "I K"], decoder: Float[ArrayLike, "I K"], reg: Any
) -> Float[Array, ""]:
    """The loss ||X - X E D'||_F^2 + reg ||E D'||_F^2 (Jin et al. 2021), literally; reg = 0 is PureSVD's.

    Args:
      x: [U, I] interactions.
      encoder: [I, K] E.
      decoder: [I, K] D.
      reg: scalar >= 0.
    """
    x, encoder, decoder = (jnp.asarray(part) for part in (x, encoder, decoder))
    weights = jnp.matmul(encoder, decoder.T, precision=HIGHEST)
    return jnp.sum((x - jnp.matmul(x, weights, precision=HIGHEST)) ** 2) + reg * jnp.sum(weights**2)


def residual(x: sp.csr_array, pairs: Eigenpairs) -> float:
    """||X'X V - V D(values)||_F / ||V D(values)||_F: 0 exactly where the gradient of `objective` vanishes."""
    error = x.T @ (x @ pairs.vectors) - pairs.vectors * pairs.values
    return float(np.linalg.norm(error) / np.linalg.norm(pairs.vectors * pairs.values))


def largest_missed(x: sp.csr_array, pairs: Eigenpairs) -> float:
    """A lower bound of the largest eigenvalue of X'X that is not among the pairs, by power iteration outside them."""
    vectors = pairs.vectors
    probe = np.random.default_rng(0).normal(size=(len(vectors), 4))
    found = 0.0
    for _ in range(8):
        for _ in range(2):  # the second time removes what the first left by rounding
            probe /= np.maximum(np.linalg.norm(probe, axis=0), np.finfo(np.float64).tiny)
            probe -= vectors @ (vectors.T @ probe)
        norms = np.linalg.norm(probe, axis=0)
        if not norms.min() > 0.5:  # nothing is left outside
            break
        image = x.T @ (x @ probe)
        found = max(found, float(np.max(np.sum(probe * image, axis=0) / norms**2)))
        probe = image
    return found


@dataclasses.dataclass(frozen=True)
class PureSvd(HostOnly):
    """PureSVD: the best autoencoder of rank K, from the truncated SVD of X; with `reg`, its regularised form.

    Attributes:
      rank: K, from 1 to the number of items.
      reg: L2 strength of ||B||_F^2, in the unit of squared singular values; 0 is PureSVD. With it, direction l is
        scaled by sigma_l^2 / (sigma_l^2 + reg) (Jin et al., KDD 2021).
    """

    name: ClassVar[str] = "pure-svd"

    rank: int = 16
    reg: float = 0.0

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.count("rank", self.rank, at_least=1)
        _checks.nonnegative("reg", self.reg, "the unit is squared singular values")

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted factors with their certificate.

        The certificate holds the residual of the eigenvalue equation, to which the gradient of the objective is
        proportional, and compares the smallest eigenvalue with a lower bound of the largest one left out.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.
          devices: make no difference: what is decomposed is the sparse X itself, by the host.

        Returns:
          Fitted(model: ItemFactors, info: FitInfo).

        Raises:
          InputError: there is nothing to learn from, or `rank` exceeds the number of items.
          FitError: it does not fit in memory, or the decomposition failed.

        Cost: see `eigenpairs`; all on the host in float64, rounded once.
        """
        return self._fit(train, devices)

    def _refuse(self, train: Interactions) -> None:
        super()._refuse(train)
        if self.rank > train.n_items:
            raise InputError(f"rank must be at most the number of items, {train.n_items:,}, got {self.rank}.")

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[ItemFactors, Certificate]:
        with clock.stage("decomposition"):
            try:
                pairs = eigenpairs(train, self.rank)
            except ArpackError as error:
                raise FitError(Status.RESIDUAL_TOO_LARGE, f"the decomposition failed ({error}); lower rank.") from error
        with clock.stage("certificate"):
            x = train.to_csr(np.float64)
            shrunk = pairs.values / (pairs.values + self.reg) if self.reg > 0 else np.ones(self.rank)
            decoder = pairs.vectors.astype(np.float32)
            error = residual(x, Eigenpairs(pairs.values, decoder.astype(np.float64)))
            smallest, missed = float(pairs.values[-1]), largest_missed(x, pairs)
            slack = 1e-7 * float(pairs.values[0])
            status = Status.OK if error <= LIMIT and missed <= smallest + slack else Status.RESIDUAL_TOO_LARGE
            detail = {"smallest eigenvalue kept": smallest, "found outside": missed}
        model = ItemFactors((pairs.vectors * shrunk).astype(np.float32), decoder)
        return model, Certificate(status, error, LIMIT, detail)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        return f"{certificate}; lower rank."

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        parts = {"factors": 8 * n_items * self.rank, "sparse data in float64": 12 * nnz}
        advice = "use a lower rank or a machine with more memory"
        if n_items <= DENSE_UP_TO or 2 * self.rank > n_items:
            return Needs(parts | {"Gram matrix and eigenvectors in float64": 24 * n_items**2}, 9.0 * n_items**3, advice)
        parts["Lanczos vectors"] = 16 * n_items * 2 * self.rank + 8 * n_users
        flops = 5.0 * self.rank * (4.0 * nnz + 4.0 * n_items * self.rank)
        return Needs(parts, flops, advice, LANCZOS_SLOWER * flops / CPU_CORE_RATE)  # on however many threads
