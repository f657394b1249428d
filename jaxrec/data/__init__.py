"""From files to a host-side users x items matrix, its splits, and fixed-shape batches of its rows."""

from jaxrec.data import kinds as kinds  # which tells the doors what data are
from jaxrec.data.batching import RowBatch, row_batches
from jaxrec.data.bundled import BUNDLED, BundledData
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions
from jaxrec.data.load_options import KNOWN_COLUMNS
from jaxrec.data.readers import from_frame, load
from jaxrec.data.synthetic import synthetic

__all__ = [
    "BUNDLED",
    "KNOWN_COLUMNS",
    "BundledData",
    "Catalogue",
    "Interactions",
    "RowBatch",
    "from_frame",
    "load",
    "row_batches",
    "synthetic",
]
