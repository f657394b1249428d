"""EASE and LAE under any weights of the squared errors."""

from jaxrec.factorization.weighted_ease.method import WeightedEase

__all__ = ["WeightedEase"]
