"""Small dense inverses on item neighbourhoods, many at a time: one JAX kernel, its CPU twin, and their mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from scipy.linalg import lapack

from jaxrec.linear.mrf.covariance import ScaledGram
from jaxrec.linear.mrf.pattern import Cover, Pattern
from jaxrec.runtime import parallel
from jaxrec.runtime.progress import progress_bar
from jaxrec.runtime.threads import map_in_order
from jaxrec.solvers.spd import solve_each

BATCH_ENTRIES, HOST_BATCH_ENTRIES = 2**24, 2**20
BATCH_USERS = 2**24  # users x blocks
REFINEMENTS, ENOUGH = 8, 1e-6  # most steps, and the relative error that ends them


class Columns(NamedTuple):
    """Some columns of the solutions of a batch of blocks.

    Attributes:
      weights: [N, m, d] column k belongs to the k-th of the last d items; the weight of the item itself is 0.
      unexplained: [N, d] 1 / C_jj.
    """

    weights: Any
    unexplained: Any


def block_columns(grams: Float[ArrayLike, "N m m"], n_columns: int) -> Columns:
    """The last columns of B = I - C D(1/diag C) with C the inverse of each of N blocks (Steck 2019).

    Column j is the ridge regression of item j on the other items of its block. Can be jitted and differentiated.

    Args:
      grams: [N, m, m] SPD, reg included; blocks smaller than m are padded in front with the identity.
      n_columns: d, how many of the last columns are wanted. Static.

    Cost: N (m^3/3 + 2 m^2 d) flops.
    Fails: NaN where a block is not numerically positive definite.
    """
    grams = jnp.asarray(grams)
    n, m = grams.shape[:2]
    wanted = jnp.broadcast_to(jnp.eye(m, dtype=grams.dtype)[:, m - n_columns :], (n, m, n_columns))
    inverse = solve_each(grams, wanted)
    unexplained = 1 / jnp.diagonal(inverse[:, m - n_columns :], axis1=1, axis2=2)
    return Columns(jnp.where(wanted > 0, 0, -inverse * unexplained[:, None, :]), unexplained)


@partial(jax.jit, static_argnames=("n_columns", "mesh"))
def _block_columns(grams, n_columns, mesh):
    def kernel(grams, axis):
        return tuple(block_columns(grams, n_columns))

    return parallel.over_columns(kernel, mesh, parallel.ROWS, (parallel.ROWS, parallel.ROWS))(grams)


def block_columns_on_host(grams: np.ndarray, n_columns: int, dtype: Any = None) -> tuple[Columns, np.ndarray]:
    """The same columns by LAPACK, block after block, and [N] the estimated relative error of those of a block.

    A block is factored in `dtype`, and its columns refined with residuals in float64; one for which that does not do
    is factored in float64.

    Args:
      grams: [N, m, m] as in `block_columns`, in float64.
      n_columns: d.
      dtype: of the factors; default float64.
    """
    n, m = grams.shape[:2]
    kinds = list(dict.fromkeys((np.dtype(dtype or np.float64), np.dtype(np.float64))))
    weights, unexplained, errors = np.empty((n, m, n_columns)), np.empty((n, n_columns)), np.full(n, np.inf)
    for k, gram in enumerate(grams):
        for kind in kinds:
            weights[k], unexplained[k], errors[k] = _columns_of_block(gram, n_columns, kind)
            if errors[k] <= ENOUGH:
                break
    return Columns(weights, unexplained), errors


def _columns_of_block(gram: np.ndarray, n_columns: int, kind: np.dtype) -> tuple[np.ndarray, Any, float]:
    """([m, d] weights, [d] 1 / C_jj, their estimated error) from a factor of this kind; NaN and inf where none exists.

    With the wanted items last, L^-1 E is the inverse of the last corner of the factor L and 0 above: n_columns = 1
    costs m^3/3 flops and one back substitution. Where each step of refinement is so many times smaller than the one
    before, what is left after it is as many times smaller again.
    """
    m = len(gram)
    potrf, potrs, trtri, trtrs = lapack.get_lapack_funcs(("potrf", "potrs", "trtri", "trtrs"), dtype=kind)
    with np.errstate(all="ignore"):  # what overflows has no factor
        factor, failed = potrf(gram.astype(kind).T, lower=1, overwrite_a=1, clean=0)
    if failed:
        return np.full((m, n_columns), np.nan), np.nan, np.inf
    corner, own = slice(m - n_columns, m), (np.arange(m - n_columns, m), np.arange(n_columns))
    inverse = np.zeros((m, n_columns), kind, order="F")
    inverse[corner] = np.tril(trtri(factor[corner, corner], lower=1)[0])
    inverse = trtrs(factor, inverse, lower=1, trans=1, overwrite_b=1)[0].astype(np.float64)
    unexplained = 1 / inverse[own]
    weights = -inverse * unexplained
    weights[own] = 0
    last, error = 1.0, np.inf
    for _ in range(REFINEMENTS):
        gradient = gram @ weights - gram[:, corner]
        gradient[own] = 0
        size = np.abs(gradient).max(initial=0)
        if size == 0:
            return weights, unexplained, 0.0
        step = potrs(factor, (gradient / size).astype(kind), lower=1)[0].astype(np.float64) * size
        step += weights * step[own]
        step[own] = 0
        weights -= step
        moved, sizes = (np.linalg.norm(a, axis=0) for a in (step, weights))
        now = float(np.max(moved / np.where(sizes > 0, sizes, np.inf), initial=0))
        error = now * min(1.0, now / last) if last > 0 else now
        if not now <= last or error <= ENOUGH:
            break
        last = now
    return weights, unexplained, error if np.isfinite(error) else np.inf


class Solved(NamedTuple):
    """What the blocks gave: the weights on the scale of S, in the order of the pattern, and what was seen of them.

    Attributes:
      values: [nnz] the mean over the blocks that reach an entry; 0 where none does.
      residual: the largest relative residual of the checked blocks, each against its own Gram matrix.
      rounding: the largest estimated rounding error, eps/2 max (S_jj + reg) C_jj.
      error: the largest estimated relative error of the columns of a block; NaN where devices solved them.
    """

    values: np.ndarray
    residual: float
    rounding: float
    error: float


def solve(gram: ScaledGram, pattern: Pattern, blocks: Cover, reg: float, dtype: Any, mesh: Any = None) -> Solved:
    """The weights of the pattern from all blocks.

    Blocks of like size are solved together. An entry of the pattern that several blocks reach is the mean of theirs:
    sums of (value, 1) are kept by its place in the pattern.

    Args:
      gram: S.
      pattern: where weights may stand.
      blocks: which blocks, and which columns of each.
      reg: added to the diagonal of S.
      dtype: of the blocks.
      mesh: what `parallel.make_mesh` returned, whose devices share each batch of blocks; None is LAPACK on the host.

    Cost: see `Mrf`.
    """
    dtype = np.dtype(dtype)
    sums, reached = np.zeros(len(pattern.items)), np.zeros(len(pattern.items), np.int32)
    residuals, roundings, errors = [0.0], [0.0], [0.0]
    eps = float(np.finfo(np.float64 if mesh is None else dtype).eps)  # refined in float64 on the host
    column_sizes = np.diff(pattern.indptr)
    sizes = np.diff(blocks.indptr)
    most = BATCH_USERS // max(1, len(gram.by_user.indptr) - 1)

    def work(batch: tuple[np.ndarray, int, int, int]) -> tuple[list, list, float, float, float]:
        which, count, width, n_columns = batch
        lists = [blocks.items[blocks.indptr[b] : blocks.indptr[b + 1]] for b in which]
        lengths = np.zeros(count, np.int64)
        lengths[: len(which)] = sizes[which]
        grams = gram.blocks(np.concatenate(lists), lengths, width, reg, np.float64 if mesh is None else dtype)
        check, diagonal, error = grams[0], np.einsum("njj->nj", grams), np.nan
        if mesh is None:
            columns, estimated = block_columns_on_host(grams, n_columns, dtype)
            error = float(estimated.max())
        else:
            placed = parallel.place(grams, mesh, parallel.ROWS)
            columns = Columns(*map(parallel.to_host, _block_columns(placed, n_columns, mesh)))
        unexplained = np.maximum(columns.unexplained, np.finfo(columns.unexplained.dtype).tiny)
        rounding = eps / 2 * float(np.max(diagonal[:, width - n_columns :] / unexplained))
        own = np.arange(n_columns), np.arange(n_columns)
        at_answer, at_zero = check @ columns.weights[0] - check[:, width - n_columns :], check[:, width - n_columns :]
        at_answer[width - n_columns :][own] = at_zero[width - n_columns :][own] = 0
        start = float(np.linalg.norm(at_zero))
        residual = float(np.linalg.norm(at_answer)) / start if start > 0 else 0.0

        places, values = [], []
        slot_of = np.full(gram.n_items, -1, np.int32)
        for items, weights, n_wanted in zip(lists, columns.weights, blocks.n_wanted[which], strict=False):
            wanted = items[len(items) - n_wanted :]
            if n_wanted == 1:  # the column of the item the block was built around, in the order of the pattern
                places.append(np.arange(len(items) - 1) + pattern.indptr[wanted[0]])
                values.append(weights[width - len(items) : -1, -1])
                continue
            slot_of[items] = np.arange(width - len(items), width)
            many = column_sizes[wanted]
            place = np.arange(many.sum()) + np.repeat(pattern.indptr[wanted] - (np.cumsum(many) - many), many)
            slot = slot_of[pattern.items[place]]
            column = np.repeat(np.arange(n_columns - n_wanted, n_columns), many)
            inside = slot >= 0
            places.append(place[inside])
            values.append(weights[slot[inside], column[inside]])
            slot_of[items] = -1
        return places, values, residual, rounding, error

    # Two programs of batched LAPACK calls at once can hang JAX on a CPU: one at a time there.
    over = map_in_order if mesh is None else map
    with progress_bar("solving blocks", float(len(sizes))) as advance:
        for places, values, residual, rounding, error in over(
            work, _batches(sizes, blocks.n_wanted, most, mesh.size if mesh else 0)
        ):
            for place, value in zip(places, values, strict=True):  # within one block no entry occurs twice
                sums[place] += value
                reached[place] += 1
            residuals.append(residual)
            roundings.append(rounding)
            errors.append(error)
            advance(len(places))
    sums /= np.maximum(reached, 1)
    return Solved(sums, float(np.max(residuals)), float(np.max(roundings)), float(np.max(errors)))


def _batches(
    sizes: np.ndarray, n_wanted: np.ndarray, most: int, n_devices: int
) -> Iterator[tuple[np.ndarray, int, int, int]]:
    """Yields (blocks, number of blocks, width, columns) of a batch of at most so many blocks, largest first.

    For devices (0 is the host) sizes are rounded up to steps of a factor 1.4, and a step has one number of blocks, so
    that few shapes are compiled, and one that the devices can share; what is missing is filled up with empty blocks.
    """
    order = np.argsort(-sizes, kind="stable")
    width_of = np.array([_step(size) for size in sizes.tolist()], np.int64) if n_devices else sizes
    start = 0
    while start < len(order):
        width = int(width_of[order[start]])
        count = int(max(1, min(most, (BATCH_ENTRIES if n_devices else HOST_BATCH_ENTRIES) // width**2)))
        count += -count % max(1, n_devices)
        which = order[start : start + count]
        if n_devices:
            which = which[width_of[which] == width]
        else:
            count = len(which)
        n_columns = int(n_wanted[which].max())
        if n_devices and n_columns > 1:
            n_columns = min(width, _step(n_columns))
        yield which, count, width, n_columns
        start += len(which)


def _step(size: int) -> int:
    """The smallest of 8, 12, 16, 24, ... (multiples of 8 about a factor 1.4 apart) that holds `size`."""
    step = 8
    while step < size:
        step = 8 * math.ceil(step * 1.4 / 8)
    return step
