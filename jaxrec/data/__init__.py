"""From files to a host-side users x items matrix, its splits, and fixed-shape batches of its rows."""

from jaxrec.data.batching import RowBatch, row_batches
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions

__all__ = ["Catalogue", "Interactions", "RowBatch", "row_batches"]
