"""How close closed forms of the low-rank EDLAE come to its optimum."""

from jaxrec.experiments.low_rank.experiment import VERSION, run

__all__ = ["VERSION", "run"]
