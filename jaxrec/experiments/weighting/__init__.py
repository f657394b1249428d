"""What weights of the errors gain, by family of models, regularizer and rank."""

from jaxrec.experiments.weighting.experiment import VERSION, run

__all__ = ["VERSION", "run"]
