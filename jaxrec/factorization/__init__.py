"""Weighted matrix factorization: one file a method, named after it."""

from jaxrec.factorization.awmf.method import Awmf
from jaxrec.factorization.ials.fold_in import fold_in, fold_in_items
from jaxrec.factorization.ials.method import Ials
from jaxrec.factorization.ials.model import UserItemFactors
from jaxrec.factorization.weighted_ease.method import WeightedEase

__all__ = ["Awmf", "Ials", "UserItemFactors", "WeightedEase", "fold_in", "fold_in_items"]
