"""How well autoencoders fit their training data, by depth, and what that means on test users."""

from jaxrec.experiments.regularization.experiment import VERSION, run

__all__ = ["VERSION", "run"]
