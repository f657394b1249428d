"""Tables of factors on a device or split over a mesh by rows, and the regressions of their rows in batches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.factorization.ridge.batches import Shapes, batches
from jaxrec.factorization.ridge.kernels import gram
from jaxrec.factorization.ridge.rows import Regressions
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import HIGHEST

IN_FLIGHT = 2  # batches that JAX may have been given and not done


class HalfStep(NamedTuple):
    """One side, ready for the devices.

    Attributes:
      rows: its regressions.
      batches: the same in fixed shapes for the devices, or in chunks for the host.
      own: [N] where its rows stand in its table.
      size: rows of the table.
      col: [M] q, in the order of the other side's table.
    """

    rows: Regressions
    batches: list[Any]
    own: np.ndarray
    size: int
    col: Any


def side(
    rows: Regressions, own: tuple[np.ndarray, int], other: tuple[np.ndarray, int], shapes: Shapes, mesh: Any
) -> HalfStep:
    """The regressions on the devices.

    Args:
      rows: of one side.
      own: from `positions`: where its rows stand, and the size of their table.
      other: where the other side's rows stand, and the size of their table.
      shapes: from `shapes`.
      mesh: what `parallel.make_mesh` returned.

    Cost: 12 bytes an entry, padded.
    """
    made = list(batches(rows, own[0], other[0], own[1], shapes, mesh))
    return HalfStep(rows, made, *own, put(at_positions(rows.col, other), mesh))


def at_positions(table: np.ndarray, own: tuple[np.ndarray, int]) -> np.ndarray:
    """A table or vector in the order of the devices, 0 where it is padded."""
    placed = np.zeros((own[1], *table.shape[1:]), table.dtype)
    placed[own[0]] = table
    return placed


def put(array: np.ndarray, mesh: Any) -> Any:
    """The array on a mesh, split by rows."""
    return parallel.place(array.astype(jnp.zeros(()).dtype), mesh, parallel.ROWS)


def over_batches(
    solve: Callable[..., tuple[Any, ...]], side: HalfStep, own: Any, other: Any, mesh: Any, *shared: Any
) -> Any:
    """A new table from all batches of a side, and the sums over them of what else `solve` returns.

    Args:
      solve: (systems, gathered [B, L, K], start [B, K], *shared) -> (factors [B, K], *sums).
      side: whose rows they are.
      own: [N, K] the side's table, of which `start` are rows.
      other: [M, K] the other side's, which is gathered whole on every device.
      mesh: of both.
      shared: passed on.

    Returns:
      The table, and a list of float64 sums.
    """
    functions = table_operations(mesh)
    whole, table, sums = functions.whole(other), jnp.zeros_like(own), []
    for batch in side.batches:
        gathered, start = functions.gather(whole, own, batch.at, batch.systems.items)
        factors, *rest = solve(batch.systems, gathered, start, *shared)
        table = functions.scatter(table, batch.at, factors)
        sums.append(rest)
        if len(sums) > IN_FLIGHT:  # or else the gathered factors of all batches are there at once
            jax.block_until_ready(sums[-1 - IN_FLIGHT])
    return table, np.sum(np.asarray(jax.device_get(sums), np.float64), axis=0)


class TableOperations(NamedTuple):
    """Jitted functions of tables that are split by rows.

    Attributes:
      whole: the table, whole on every device.
      gram: [K, K] from a table and the weight of each row.
      turned: a table times a K x K matrix.
      gather: the rows of one table that a batch's entries name, and its own rows of another.
      scatter: a table with a batch's rows put in; its memory is used up.
    """

    whole: Any
    gram: Any
    turned: Any
    gather: Any
    scatter: Any


@functools.cache
def table_operations(mesh: Any) -> TableOperations:
    """The functions of tables on this mesh; cheap to compile."""

    def gather(whole, own, at, items, axis):
        return whole[items], own.at[at].get(mode="fill", fill_value=0)

    def scatter(table, at, factors, axis):
        return table.at[at].set(factors, mode="drop")

    def summed(factors, col, axis):
        return parallel.psum(gram(factors, col), axis)

    def turned(table, by, axis):
        return jnp.matmul(table, by.astype(table.dtype), precision=HIGHEST)

    rows, same = parallel.ROWS, parallel.REPLICATED
    over = partial(parallel.over_columns, mesh=mesh)
    return TableOperations(
        whole=jax.jit(partial(parallel.replicate, mesh=mesh)) if mesh.size > 1 else lambda table: table,
        gram=jax.jit(over(summed, inputs=(rows, rows), outputs=same)),
        turned=jax.jit(over(turned, inputs=(rows, same), outputs=rows)),
        gather=jax.jit(over(gather, inputs=(same, rows, rows, rows), outputs=(rows, rows))),
        scatter=jax.jit(over(scatter, inputs=(rows, rows, rows), outputs=rows), donate_argnums=0),
    )
