"""CRAG on a planted world: what each of its steps adds, and what happens where the language model errs."""

from jaxrec.experiments.crag.experiment import VERSION, run

__all__ = ["VERSION", "run"]
