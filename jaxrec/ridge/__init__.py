"""Many small weighted ridge regressions on one table of factors: what alternating least squares does all day."""

from jaxrec.ridge.batches import Batch, Shapes, batch_numbers, batches, shapes
from jaxrec.ridge.gauge import orthonormal, orthonormal_on_host
from jaxrec.ridge.host import solve_on_host
from jaxrec.ridge.host_steps import Chunk, chunks, steps_on_host
from jaxrec.ridge.rows import FoldIn, Rows, transposed
from jaxrec.ridge.systems import Solved, Systems, block_sweep, cholesky, conjugate_gradient, gram

__all__ = [
    "Batch",
    "Chunk",
    "FoldIn",
    "Rows",
    "Shapes",
    "Solved",
    "Systems",
    "batch_numbers",
    "batches",
    "block_sweep",
    "cholesky",
    "chunks",
    "conjugate_gradient",
    "gram",
    "orthonormal",
    "orthonormal_on_host",
    "shapes",
    "solve_on_host",
    "steps_on_host",
    "transposed",
]
