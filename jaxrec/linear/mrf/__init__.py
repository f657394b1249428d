"""The sparse Markov random field: a covariance block by block, its pattern, and many small inverses on it."""

from jaxrec.linear.mrf.method import Mrf

__all__ = ["Mrf"]
