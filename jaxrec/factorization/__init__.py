"""Weighted matrix factorization: one file a method, named after it."""

from jaxrec.factorization.asymmetric import Awmf
from jaxrec.factorization.full_rank import WeightedEase
from jaxrec.factorization.symmetric import Ials
from jaxrec.factorization.symmetric_fold_in import fold_in, fold_in_items
from jaxrec.factorization.symmetric_model import UserItemFactors

__all__ = ["Awmf", "Ials", "UserItemFactors", "WeightedEase", "fold_in", "fold_in_items"]
