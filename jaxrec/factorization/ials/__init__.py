"""Matrix factorization of implicit feedback by alternating least squares."""

from jaxrec.factorization.ials.fold_in import fold_in, fold_in_items
from jaxrec.factorization.ials.method import Ials
from jaxrec.factorization.ials.model import UserItemFactors

__all__ = ["Ials", "UserItemFactors", "fold_in", "fold_in_items"]
