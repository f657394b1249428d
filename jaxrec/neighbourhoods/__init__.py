"""The scaled covariance of items block by block, its sparse pattern, and the solutions on its neighbourhoods."""

from jaxrec.neighbourhoods.blocks import block_columns, block_columns_on_host, solve
from jaxrec.neighbourhoods.gram import ScaledGram
from jaxrec.neighbourhoods.pattern import Cover, Pattern, cover, find_pattern, threshold_for

__all__ = [
    "Cover",
    "Pattern",
    "ScaledGram",
    "block_columns",
    "block_columns_on_host",
    "cover",
    "find_pattern",
    "solve",
    "threshold_for",
]
