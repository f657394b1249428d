"""How the weighted full-rank models are solved: one linear system an item, all of them together.

Column j of B follows from c_j = H_j^-1 e_j with H_j = X' D(W_:j) X + reg I. With W = p q' + S,

    H_j = P + (q_j / q - 1) (P - reg I) + X' D(S_:j) X,    P = q X' D(p) X + reg I,

so one inverse, of P, preconditions all items whose q_j is near q, and is exact for those with q_j = q and S_:j = 0.
Conjugate gradients start there. Each iteration multiplies P^-1 by a block of columns, and visits S: on a CPU entry by
entry, elsewhere through dense batches of users, which a matrix unit takes in less time than the gathers. P itself is
never multiplied by: P times a direction obeys the recurrence of the direction. Items are taken by blocks of like q and
popularity, which take about as many iterations, so that 2 I x I matrices and a few blocks suffice.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxrec.closed_form import kernel
from jaxrec.closed_form.gram import BLOCK_BYTES, default_gram, lower_gram, squared_norms, with_user_weights
from jaxrec.closed_form.mesh import invert
from jaxrec.data.batching import row_batches, scatter_rows
from jaxrec.data.interactions import Interactions
from jaxrec.factorization.weights import Weights
from jaxrec.runtime import parallel
from jaxrec.runtime.blas import add_product
from jaxrec.runtime.progress import progress_bar
from jaxrec.runtime.threads import map_in_order, n_threads
from jaxrec.solvers import cg
from jaxrec.solvers.columns import HIGHEST, columns_product
from jaxrec.status import Status

SPREAD = 4.0  # most by which the q of a block's items differ
WIDTH = 256  # most items of a block on the host
ENTRIES = 2**25  # of X, item by item, that a block visits on the host: 8 bytes each
COLUMNS_AT_ONCE = 1024  # most columns of a block on each device


class SolvedColumns(NamedTuple):
    """What comes out, of every item.

    Attributes:
      weights: [I, I] B; on a mesh [N, N], padded.
      unexplained: [I] 1 / c_jj.
      iterations: [I] of conjugate gradients; 0 where the answer is in closed form.
      residual: [I] of the systems for c_j, in the norm of P^-1 and relative to what `limits` says.
      preconditioner: about a multiple of P^-1, [I, I], maybe padded or a `Rescaled`; for the certificate.
    """

    weights: Any
    unexplained: np.ndarray
    iterations: np.ndarray
    residual: np.ndarray
    preconditioner: Any = None


class Settings(NamedTuple):
    """reg, whether the diagonal is free, the relative residual that ends the iterations, and the most of them."""

    reg: Any
    free: bool
    tolerance: Any
    max_iterations: Any


def limits(first: Any, unit: Any, penalised: Any, settings: Settings, square: Any, along: int) -> Any:
    """The squared norm in P^-1 that a residual may keep, from the start c = P^-1 e_j and (P_jj) `penalised`.

    Relative to c without its own entry, of which the weights consist; its square in the norm of P is
    c_jj (P_jj c_jj - 1), and reg |c|^2 at least, which rounding leaves when reg is huge; and not above e_j's, c_jj.
    Never below rounding of `square`, the squared norm at the start.
    """
    xp = jnp if isinstance(first, jax.Array) else np
    own = (first * unit).sum(along, keepdims=True)
    others = settings.reg * (xp.where(unit > 0, 0, first) ** 2).sum(along, keepdims=True)
    limit = settings.tolerance**2 * xp.minimum(own, xp.maximum(own * (penalised * own - 1), others))
    return xp.maximum(limit, xp.finfo(square.dtype).eps ** 2 * square)


def _dot(a: Any, b: Any, along: int) -> Any:
    return (a * b).sum(along, keepdims=True)


def columns_of_weights(c: Any, unit: Any, settings: Settings, along: int) -> tuple[Any, Any]:
    """(columns of B, 1 / c_jj) from c_j: e_j - reg c_j where the diagonal is free, else -c_j / c_jj off it."""
    xp = jnp if isinstance(c, jax.Array) else np
    own = (c * unit).sum(along, keepdims=True)
    unexplained = 1 / xp.where(own > 0, own, xp.nan)  # also of the items that only fill up a block
    free = unit - settings.reg * c
    return (free if settings.free else xp.where(unit > 0, 0, -c * unexplained)), unexplained


# -- which items together -----------------------------------------------------------------------------------------


def groups(weights: Weights, counts: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Items whose q_j are within `SPREAD` of each other, popular ones first, and the q that P takes for them.

    q = 0 counts as a 1e-9th of the largest: P is then reg I to rounding, which is right for a column without weights.
    """
    col = np.asarray(weights.col, np.float64)
    most = col.max(initial=0) or 1.0
    level = np.log(np.maximum(col / most, 1e-9))
    kind = np.floor(-level / np.log(SPREAD)).astype(int)
    for k in np.unique(kind):
        items = np.flatnonzero(kind == k)
        middle = most * np.exp((level[items].min() + level[items].max()) / 2)
        scale = float(col[items[0]]) if (col[items] == col[items[0]]).all() and col[items[0]] > 0 else float(middle)
        yield scale, items[np.argsort(-counts[items], kind="stable")]


def has_constant_col(weights: Weights) -> bool:
    """Whether q is one number above 0."""
    return bool(len(weights.col) and weights.col[0] > 0 and (weights.col == weights.col[0]).all())


# -- the host -----------------------------------------------------------------------------------------------------


class Visits(NamedTuple):
    """For a part of a block: the users of each item, each with all items; X' (S o (X c)) needs no other cells of S.

    Attributes:
      rows: [sum of m_j, b I] the rows of X of the users of the first item, then of the second, shifted by I, and so on.
      weights: [sum of m_j] S.
      systems: which of the block.
    """

    rows: sp.csr_array
    weights: np.ndarray
    systems: slice

    def add(self, c: np.ndarray, out: np.ndarray) -> None:
        """Writes X' (S o (X c)) of my systems, from c [b, I], to `out`."""
        predicted = self.rows @ c[self.systems].ravel()
        predicted *= self.weights
        out[self.systems] = (self.rows.T @ predicted).reshape(-1, c.shape[1])


def visits(x: Any, extra: Any, items: np.ndarray, systems: slice) -> Visits:
    """Of the items of a part of a block; `x` is X and `extra` S, both sparse."""
    n = x.shape[1]
    ends = [slice(extra.indptr[j], extra.indptr[j + 1]) for j in items]
    rows = x[np.concatenate([extra.indices[part] for part in ends])]
    bounds = rows.indptr[np.concatenate([[0], np.cumsum([part.stop - part.start for part in ends])])]
    for k, (begin, end) in enumerate(itertools.pairwise(bounds)):
        rows.indices[begin:end] += k * n
    shifted = sp.csr_array((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], len(items) * n))
    return Visits(shifted, np.concatenate([extra.data[part] for part in ends]), systems)


def host_blocks(items: np.ndarray, cost: np.ndarray) -> Iterator[np.ndarray]:
    """The items in their order, at most `WIDTH` and, unless it is one alone, of `ENTRIES` visits together."""
    begin, total = 0, 0
    for end, item in enumerate(items):
        total += cost[item]
        if end > begin and (total > ENTRIES or end - begin == WIDTH):
            yield items[begin:end]
            begin, total = end, cost[item]
    yield items[begin:]


def solve_on_host(train: Interactions, weights: Weights, settings: Settings, dtype: Any) -> SolvedColumns | None:
    """The optimum on the CPU; None where P is not numerically positive definite."""
    n = train.n_items
    x = train.to_csr(dtype)
    extra = weights.sparse(train, dtype).tocsc()
    visited = weights.entries is not None
    lengths = np.asarray(train.user_counts, np.int64)
    cost = np.bincount(train.indices, lengths[train.user_of_entry], minlength=n)
    gram = lower_gram(train, np.dtype(dtype), np.asarray(weights.row))
    diagonal = np.diag(gram).astype(np.float64)
    found = SolvedColumns(np.empty((n, n), dtype), *(np.zeros(n) for _ in range(3)))
    grouped = list(groups(weights, train.item_counts))
    with progress_bar("conjugate gradients", n) as advance:
        for number, (scale, items) in enumerate(grouped, 1):
            inverse = gram if number == len(grouped) else gram.copy()
            inverse *= np.dtype(dtype).type(scale)
            if kernel.invert_on_host(inverse, np.full(n, float(settings.reg))) is not Status.OK:
                return None
            for block in host_blocks(items, cost):
                shift = (np.asarray(weights.col)[block] / scale - 1).astype(dtype)[:, None]
                penalised = (scale * diagonal[block] + settings.reg).astype(dtype)[:, None]
                parts = _parts(x, extra, block, cost) if visited else []
                _solve_host_block(found, block, inverse, (shift, penalised), parts, settings)
                advance(len(block))
    return found._replace(preconditioner=gram)


def _parts(x: sp.csr_array, extra: sp.csc_array, block: np.ndarray, cost: np.ndarray) -> list[Visits]:
    """The visits of a block, split for the threads into parts of about as many."""
    total = np.cumsum(cost[block])
    shares = np.searchsorted(total, total[-1] * np.arange(1, n_threads()) / n_threads())
    bounds = [0, *np.unique(np.clip(shares, 1, len(block) - 1)), len(block)] if len(block) > 1 else [0, 1]
    return [visits(x, extra, block[a:b], slice(a, b)) for a, b in itertools.pairwise(bounds) if a < b]


def _solve_host_block(
    found: SolvedColumns, block: Any, inverse: Any, scales: Any, parts: list, settings: Settings
) -> None:
    """Writes the columns of the block into `found`; a system is a row here (P^-1 is symmetric)."""
    shift, penalised = scales
    unit = np.zeros((len(block), inverse.shape[0]), inverse.dtype)
    unit[np.arange(len(block)), block] = 1
    reg = inverse.dtype.type(settings.reg)

    def apply_inverse(rows: np.ndarray) -> np.ndarray:
        out = np.empty_like(rows)
        add_product(out, rows, inverse, beta=0)
        return out

    def apply_excess(rows: np.ndarray, image: np.ndarray) -> np.ndarray:
        out = np.empty_like(rows) if parts else np.zeros_like(rows)
        for _ in map_in_order(lambda part: part.add(rows, out), parts):
            pass
        return out + shift * (image - reg * rows) if shift.any() else out

    first = inverse[block]
    dot = partial(_dot, along=1)
    state = cg.begin(first * 0, -apply_excess(first, unit), apply_inverse, dot)
    enough = limits(first, unit, penalised, settings, state.square, 1)
    for _ in range(settings.max_iterations):
        if not cg.any_active(state, enough):
            break
        state = cg.step(state, lambda v, image: image + apply_excess(v, image), apply_inverse, dot, enough)
    weights, unexplained = columns_of_weights(first + state.solution, unit, settings, 1)
    found.weights[:, block] = weights.T
    found.unexplained[block] = unexplained[:, 0]
    found.iterations[block] = state.steps[:, 0]
    found.residual[block] = settings.tolerance * cg.relative_residual(state, enough)[:, 0]


# -- devices ------------------------------------------------------------------------------------------------------
Batches = list[tuple[Any, Any, Any]]


def middle(
    c: Float[Array, "N b"], columns: Int[Array, " b"], batches: Batches, axis: str | None = None
) -> Float[Array, "N b"]:
    """[N, b] X' (S o (X C)) of some of my columns, from dense batches of users.

    Args:
      c: [N, b] those columns of C.
      columns: [b] which of all they are; one out of range has a 0 column in C.
      batches: of each length of history (items, values, S), each [n, B / D, L]: n batches, my share of their users.
      axis: the mesh axis over which users and columns are split, or None.

    Cost: 4 U N b flops; two dense batches [B, N]. Devices send each other the padded interactions.
    """
    n = len(c)
    product = partial(jnp.matmul, precision=HIGHEST)
    at = jnp.clip(columns, 0, n - 1)
    total = jnp.zeros_like(c)
    for batch in batches:

        def add(k, total, batch=batch):
            items, values, extra = (parallel.all_gather(part[k], axis) for part in batch)
            dense = scatter_rows(items, values, n)
            weighted = product(dense, c) * jnp.take(scatter_rows(items, extra, n), at, axis=1)
            return total + product(dense.T, weighted)

        total = lax.fori_loop(0, len(batch[0]), add, total)
    return total


def block_of_columns(
    inverse: Float[Array, "N m"],
    columns: Int[Array, " b"],
    shift: Float[Array, " b"],
    penalised: Float[Array, " b"],
    batches: Batches,
    settings: Settings,
    axis: str | None = None,
) -> tuple[Float[Array, "N b"], Float[Array, "1 b"], Float[Array, "1 b"], Float[Array, "1 b"]]:
    """Some of my columns of B, and what is known of each: 1 / c_jj, iterations, residual. See `SolvedColumns`.

    Args:
      inverse: [N, m] my columns of P^-1.
      columns: [b] which of them; m where the block is only filled up.
      shift: [b] q_j / q - 1.
      penalised: [b] P_jj.
      batches: of each length of history (items, values, S), see `middle`.
      settings: `free` is static.
      axis: the mesh axis over which columns and users are split, or None.

    Cost: (2 N^2 b + 4 U N b) flops an iteration; seven N x b matrices.
    """
    n, m = inverse.shape
    real = columns < m
    where = jnp.where(real, parallel.axis_index(axis) * m + columns, n)
    unit = (jnp.arange(n)[:, None] == where[None, :]).astype(inverse.dtype)
    first = jnp.where(real[None, :], jnp.take(inverse, jnp.clip(columns, 0, m - 1), axis=1), 0)
    apply_inverse, dot = partial(columns_product, inverse, axis=axis), partial(_dot, along=0)

    def apply_excess(c, image):
        return shift[None, :] * (image - settings.reg * c) + middle(c, where, batches, axis)

    def carry_on(carry):
        state, done = carry
        active = cg.any_active(state, enough).astype(jnp.int32)
        return (parallel.psum(active, axis) > 0) & (done < settings.max_iterations)

    def advance(carry):
        state, done = carry
        return cg.step(state, lambda v, image: image + apply_excess(v, image), apply_inverse, dot, enough), done + 1

    begun = cg.begin(first * 0, -apply_excess(first, unit), apply_inverse, dot)
    enough = limits(first, unit, penalised[None, :], settings, begun.square, 0)
    state, _ = lax.while_loop(carry_on, advance, (begun, jnp.int32(0)))
    b, unexplained = columns_of_weights(first + state.solution, unit, settings, 0)
    return b, unexplained, state.steps, settings.tolerance * cg.relative_residual(state, enough)


@partial(jax.jit, static_argnames=("free", "mesh"), donate_argnums=0)
def _solve_block(weights, inverse, columns, scales, batches, floats, free, mesh):
    def kernel(weights, inverse, columns, scales, batches, reg, tolerance, most, axis):
        settings = Settings(reg, free, tolerance, most)
        shift, penalised = scales
        b, *known = block_of_columns(inverse, columns, shift, penalised, batches, settings, axis)
        return weights.at[:, columns].set(b, mode="drop"), *known

    split, rows, whole = parallel.COLUMNS, parallel.ROWS, parallel.REPLICATED
    inputs = (split, split, rows, rows, split, whole, whole, whole)
    solve: Any = parallel.over_columns(kernel, mesh, inputs, (split,) * 4)
    return solve(weights, inverse, columns, scales, batches, *floats)


def batches_on(train: Interactions, weights: Weights, mesh: Any, n_items: int) -> Batches:
    """The interactions and their S in padded batches, by length of history, their users split over the mesh."""
    most = int(np.clip(4 * BLOCK_BYTES // (4 * n_items), 64, 4096))
    size = min(most, max(1, train.n_users))
    extra = dataclasses.replace(train, values=weights.sparse(train, np.float32).data)
    by_shape: dict[tuple[int, ...], list[tuple[np.ndarray, ...]]] = {}
    for plain, weighted in zip(*(row_batches(part, size, by_length=True) for part in (train, extra)), strict=True):
        parts = tuple(map(np.asarray, (plain.items, plain.values, weighted.values)))
        by_shape.setdefault(parts[0].shape, []).append(parts)

    def placed(parts: tuple[np.ndarray, ...]) -> Any:
        whole = np.stack(parts)
        return parallel.place(np.pad(whole, ((0, 0), (0, -whole.shape[1] % mesh.size), (0, 0))), mesh, parallel.COLUMNS)

    return [tuple(map(placed, zip(*parts, strict=True))) for parts in by_shape.values()]


def blocks_on(items: np.ndarray, n_own: int, n_devices: int) -> Iterator[np.ndarray]:
    """[D b] of each device b of its own columns, `n_own` where it has no more, until all `items` had their turn."""
    own = [items[items // n_own == device] % n_own for device in range(n_devices)]
    longest = max(map(len, own))
    steps = -(-longest // COLUMNS_AT_ONCE)
    width = -(-longest // steps)
    for begin in range(0, longest, width):
        parts = [part[begin : begin + width] for part in own]
        yield np.concatenate([np.pad(part, (0, width - len(part)), constant_values=n_own) for part in parts])


def solve_on_mesh(train: Interactions, weights: Weights, settings: Settings, mesh: Any) -> SolvedColumns:
    """The optimum on a mesh, each device solving for its own columns of the padded B."""
    n, col = train.n_items, np.asarray(weights.col)
    by_user = with_user_weights(train, np.asarray(weights.row))
    gram, diagonal = default_gram(by_user, mesh), squared_norms(by_user)
    size = len(gram)
    b = parallel.zeros((size, size), mesh)
    batches = batches_on(train, weights, mesh, size)
    known = np.zeros((3, size))
    floats = np.float32(settings.reg), np.float32(settings.tolerance), np.int32(settings.max_iterations)
    grouped = list(groups(weights, train.item_counts))
    with progress_bar("conjugate gradients", n) as advance:
        for number, (scale, items) in enumerate(grouped, 1):
            scaled = (_scale if number == len(grouped) else _scaled)(gram, np.float32(scale))
            inverse = invert(scaled, np.full(n, settings.reg), mesh, settings.reg)
            for columns in blocks_on(items, size // mesh.size, mesh.size):
                width = len(columns) // mesh.size
                device = np.repeat(np.arange(mesh.size), width)
                at = np.where(columns < size // mesh.size, device * (size // mesh.size) + columns, -1)
                real = at >= 0
                shift = np.where(real, col[at] / scale - 1, 0)
                penalised = np.where(real, scale * diagonal[at] + settings.reg, 1)
                columns, *scales = (
                    parallel.place(part, mesh, parallel.ROWS)
                    for part in (columns.astype(np.int32), shift.astype(np.float32), penalised.astype(np.float32))
                )
                b, *found = _solve_block(b, inverse, columns, tuple(scales), batches, floats, settings.free, mesh)
                for out, part in zip(known, found, strict=True):
                    out[at[real]] = parallel.to_host(part)[0][real]
                advance(int(real.sum()))
    return SolvedColumns(jax.block_until_ready(b), known[0, :n], known[1, :n], known[2, :n], inverse)


_scaled = jax.jit(lambda gram, scale: scale * gram)
_scale = partial(jax.jit, donate_argnums=0)(lambda gram, scale: scale * gram)
