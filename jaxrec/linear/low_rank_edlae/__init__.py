"""EDLAE of low rank: the method, the kernels of its closed forms, and the fixed point that ends where none improves."""

from jaxrec.linear.low_rank_edlae.method import LowRankEdlae, excess, objective

__all__ = ["LowRankEdlae", "excess", "objective"]
