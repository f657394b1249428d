"""Exact solvers for recommender-system research, in JAX."""

from jaxrec._checks import InputError
from jaxrec.data import Catalogue, Interactions
from jaxrec.models import Fitted, ItemScores, ItemWeights, Scorer
from jaxrec.status import Certificate, FitError, Status

__version__ = "0.1.0"
__all__ = [
    "Catalogue",
    "Certificate",
    "FitError",
    "Fitted",
    "InputError",
    "Interactions",
    "ItemScores",
    "ItemWeights",
    "Scorer",
    "Status",
]
