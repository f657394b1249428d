"""Asymmetric weighted matrix factorization, X A V with an item-item map in place of user factors."""

from jaxrec.factorization.awmf.method import Awmf

__all__ = ["Awmf"]
