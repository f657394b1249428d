"""Many small weighted ridge regressions on one table of factors: what alternating least squares does all day."""

from jaxrec.factorization.ridge.batches import Batch, Shapes, batch_numbers, batches, positions, shapes
from jaxrec.factorization.ridge.errors import RowErrors, gram_in_float64, row_errors
from jaxrec.factorization.ridge.host_cg import Chunk, chunks, steps_on_host
from jaxrec.factorization.ridge.host_cholesky import solve_on_host
from jaxrec.factorization.ridge.kernels import (
    GramSpectrum,
    RegressionBatch,
    Solved,
    apply,
    block_sweep,
    cholesky,
    conjugate_gradient,
    gram,
    right_sides,
    spectrum,
)
from jaxrec.factorization.ridge.rows import FoldIn, Regressions, transposed
from jaxrec.factorization.ridge.tables import (
    IN_FLIGHT,
    HalfStep,
    at_positions,
    over_batches,
    put,
    side,
    table_operations,
)

# Of a thread on the host: gathered factors, what is made of them, and what OpenBLAS takes.
HOST_BYTES = {"cg": 60_000_000, "cholesky": 60_000_000}

__all__ = [
    "HOST_BYTES",
    "IN_FLIGHT",
    "Batch",
    "Chunk",
    "FoldIn",
    "GramSpectrum",
    "HalfStep",
    "RegressionBatch",
    "Regressions",
    "RowErrors",
    "Shapes",
    "Solved",
    "apply",
    "at_positions",
    "batch_numbers",
    "batches",
    "block_sweep",
    "cholesky",
    "chunks",
    "conjugate_gradient",
    "gram",
    "gram_in_float64",
    "over_batches",
    "positions",
    "put",
    "right_sides",
    "row_errors",
    "shapes",
    "side",
    "solve_on_host",
    "spectrum",
    "steps_on_host",
    "table_operations",
    "transposed",
]
