"""Item-kNN: the neighbourhood baseline, cosine similarity of items with shrinkage (Sarwar et al., WWW 2001).

On the CPU only pairs of items that have users in common are visited, and the model is sparse; on accelerators and
meshes everything is dense.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form.gram import default_gram, squared_norms
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import Method, Stopwatch
from jaxrec.models import Fitted, ItemWeights, SparseItemWeights
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.runtime.threads import map_in_order, n_threads
from jaxrec.solvers.columns import columns_of, on_diagonal, own_diagonal, sample_columns
from jaxrec.status import Certificate, Status

LIMIT = 1e-5
POPULAR = 10  # times the mean: what the busiest block of columns may have to visit
BLOCK = 256  # columns at a time and thread on the host


def weights(
    gram: Float[ArrayLike, "N m"], shrinkage: Any, neighbours: int, axis: str | None = None
) -> Float[Array, "N m"]:
    """[N, m] my columns of the shrunk cosines A_ij / (sqrt(A_ii A_jj) + shrinkage), of nearest neighbours only.

    Args:
      gram: [N, m] my columns of A = X'X. Not modified.
      shrinkage: scalar >= 0: pairs of items with few users are damped.
      neighbours: how many a column keeps; items tied with the last of them stay as well, so that the order of items
        does not matter. Static.
      axis: the mesh axis over which columns are split, or None, with m = N.

    Returns:
      [N, m] zero diagonal. Item j is scored by its own nearest neighbours, which stand in column j.

    Cost: m top-k selections; three N x m matrices.
    """
    gram = jnp.asarray(gram)
    own = jnp.sqrt(own_diagonal(gram, axis))
    scale = parallel.all_gather(own, axis)[:, None] * own[None, :] + shrinkage
    off = (scale > 0) & ~on_diagonal(gram, axis)
    # Row j for item j, since the selection runs along rows.
    similar = jnp.where(off, gram / jnp.where(off, scale, 1), 0).T
    least = lax.map(lambda row: lax.top_k(row, min(neighbours, len(gram)))[0][-1], similar)
    return jnp.where(similar >= least[:, None], similar, 0).T


@partial(jax.jit, static_argnames=("neighbours", "mesh"), donate_argnums=0)
def _weights(gram, shrinkage, neighbours, mesh):
    kernel = partial(weights, neighbours=neighbours)
    inputs = (parallel.COLUMNS, parallel.REPLICATED)
    return parallel.over_columns(kernel, mesh, inputs, parallel.COLUMNS)(gram, shrinkage)


def weights_on_host(train: Interactions, shrinkage: float, neighbours: int) -> sp.csc_array:
    """[I, I] what `weights` returns, from the sparse X on the CPU, without entries that are 0.

    Cost: the sum over users of len(history)^2 multiplications; the weights, and a block of the Gram matrix a thread.
    """
    x = train.to_csr(np.float64)
    by_item = sp.csr_array(x.T)
    columns: Any = sp.csc_array(x)
    own = np.sqrt(squared_norms(train))

    def nearest(start: int) -> sp.csc_array:
        block: Any = sp.csc_array(by_item @ columns[:, start : start + BLOCK])  # of the Gram matrix
        column = np.repeat(np.arange(block.shape[1]), np.diff(block.indptr))
        similar = (block.data / (own[block.indices] * own[start + column] + shrinkage)).astype(np.float32)
        similar[block.indices == start + column] = 0
        parts = np.split(similar, block.indptr[1:-1])
        least = [np.partition(part, -neighbours)[-neighbours] if len(part) > neighbours else 0 for part in parts]
        block.data = np.where(similar >= np.array(least, np.float32)[column], similar, 0)
        block.eliminate_zeros()
        return block

    return sp.csc_array(sp.hstack(list(map_in_order(nearest, range(0, train.n_items, BLOCK))), format="csc"))


def residual(train: Interactions, columns: np.ndarray, found: np.ndarray, shrinkage: float, neighbours: int) -> float:
    """The relative error of some columns [I, S] of the weights against cosines taken from the sparse X in float64.

    The size of the largest entries that are kept is compared, so that ties in float32 do not count as errors.
    """
    x = train.to_csr(np.float64)
    norms = np.sqrt(np.asarray(x.multiply(x).sum(axis=0)).ravel())
    scale = norms[:, None] * norms[columns] + shrinkage
    exact = (x.T @ x[:, columns]).toarray() / np.where(scale > 0, scale, 1)
    exact[columns, np.arange(len(columns))] = 0
    kept = np.where(found != 0, exact, 0)
    k = min(neighbours, train.n_items)
    largest, chosen = (np.sort(part, axis=0)[-k:] for part in (exact, kept))
    error = np.hypot(np.linalg.norm(found - kept), np.linalg.norm(largest - chosen))
    norm = float(np.linalg.norm(exact))
    return float(error) / norm if norm > 0 else float(error)


@dataclasses.dataclass(frozen=True)
class ItemKnn(Method):
    """Item-kNN: an item's score is the sum of its cosines with its nearest items, of which the history has some.

    Attributes:
      neighbours: how many nearest items count for each item.
      shrinkage: added to the denominator of the cosine, in interactions; damps similarities of rare items.
    """

    name: ClassVar[str] = "item-knn"

    neighbours: int = 100
    shrinkage: float = 10.0

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.count("neighbours", self.neighbours, at_least=1)
        _checks.nonnegative("shrinkage", self.shrinkage, "the unit is interactions")

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted weights; the certificate recomputes up to 64 columns from the data in float64.

        Args:
          train: U x I interactions X; nonnegative values other than 1 are used as they are.
          devices: what to split every I x I matrix over by columns, as in `Ease.fit`; None is the default device.

        Returns:
          Fitted(model: SparseItemWeights on the CPU without devices, else ItemWeights; info: FitInfo).

        Raises:
          InputError: there is nothing to learn from, or a value is negative.
          FitError: it does not fit in memory, or the certificate fails.

        Cost: the Gram matrix, and I selections among I, on the CPU among the items with users in common.
        """
        return self._fit(train, devices)

    def _refuse(self, train: Interactions) -> None:
        super()._refuse(train)
        if train.values.min() < 0:
            raise InputError(f"{train.name}: values must not be negative for item-kNN, got {train.values.min()}.")

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[Any, Certificate]:
        columns = sample_columns(train.n_items)
        if mesh is None:
            with clock.stage("neighbours"):
                by_column = weights_on_host(train, self.shrinkage, self.neighbours)
                chosen, found = by_column[:, columns].toarray().astype(np.float64), sp.csr_array(by_column)
                model = SparseItemWeights(*(jnp.asarray(part) for part in (found.indptr, found.indices, found.data)))
        else:
            with clock.stage("gram"):
                gram = jax.block_until_ready(default_gram(train, mesh))
            with clock.stage("neighbours"):
                found = jax.block_until_ready(_weights(gram, np.float32(self.shrinkage), self.neighbours, mesh))
                chosen = columns_of(found, columns)[: train.n_items]
                model = ItemWeights(found, padding=len(found) - train.n_items)
        with clock.stage("certificate"):
            error = residual(train, columns, chosen, self.shrinkage, self.neighbours)
        return model, Certificate(Status.OK if error <= LIMIT else Status.RESIDUAL_TOO_LARGE, error, LIMIT)

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        return f"{certificate}; this is a fault of the library or the device."

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        pairs = nnz * max(1.0, nnz / n_users)  # users with long histories have more
        if host:
            entries = int(min(n_items * (self.neighbours + 1.0), pairs))
            popular = POPULAR * pairs * min(1.0, BLOCK / n_items)  # of the busiest block
            block = int(min(BLOCK * float(n_items), pairs, popular))
            parts = {"weights, three times": 36 * entries, "blocks of the Gram matrix": 40 * block * n_threads()}
        else:
            parts = {"three I x I matrices": on.share(12 * n_items**2)}
        parts |= {"sparse data, four times": 48 * nnz}
        return Needs(parts, 2.0 * pairs + 20.0 * n_items**2, "use fewer items (drop those with the fewest users)")
