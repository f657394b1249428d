"""Exact solvers for recommender-system research, in JAX."""

from jaxrec._checks import InputError
from jaxrec.data import Catalogue, Interactions, load
from jaxrec.data.splits import HeldOut, Split, split
from jaxrec.evaluate import Report, evaluate
from jaxrec.io import load_model, save
from jaxrec.linear import Ease, Edlae, HigherOrder, Lae, Mrf, Popularity, Rlae
from jaxrec.memory import Plan
from jaxrec.methods import plan
from jaxrec.models import FitInfo, Fitted, ItemScores, ItemWeights, PairWeights, Scorer, SparseItemWeights
from jaxrec.recommend import Recommendations, recommend
from jaxrec.status import Certificate, FitError, Status

__version__ = "0.1.0"
__all__ = [
    "Catalogue",
    "Certificate",
    "Ease",
    "Edlae",
    "FitError",
    "FitInfo",
    "Fitted",
    "HeldOut",
    "HigherOrder",
    "InputError",
    "Interactions",
    "ItemScores",
    "ItemWeights",
    "Lae",
    "Mrf",
    "PairWeights",
    "Plan",
    "Popularity",
    "Recommendations",
    "Report",
    "Rlae",
    "Scorer",
    "SparseItemWeights",
    "Split",
    "Status",
    "evaluate",
    "load",
    "load_model",
    "plan",
    "recommend",
    "save",
    "split",
]
