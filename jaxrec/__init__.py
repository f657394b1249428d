"""Exact solvers for recommender-system research, in JAX."""

from jaxrec.runtime.interrupts import end_while_importing

end_while_importing()  # JAX takes seconds to import

# ruff: noqa: E402
from jaxrec._checks import InputError
from jaxrec.closed_form.update import Updated, update
from jaxrec.data import Catalogue, Interactions, load
from jaxrec.data.splits import HeldOut, Split, split
from jaxrec.deep import Autoencoder, MultDae, MultVae, RecVae
from jaxrec.deep.network import Network
from jaxrec.evaluation.leave_user_out import evaluate_leave_user_out
from jaxrec.evaluation.ranking import recommend
from jaxrec.evaluation.recommendations import Recommendations
from jaxrec.evaluation.report import Report, evaluate
from jaxrec.factorization import Awmf, Ials, UserItemFactors, WeightedEase
from jaxrec.factorization.weights import Weights
from jaxrec.linear import (
    Dan,
    Deql,
    Ease,
    Edlae,
    Elsa,
    HigherOrder,
    ItemKnn,
    Lae,
    LowRankEdlae,
    Mrf,
    NonnegativeEase,
    Popularity,
    PureSvd,
    Rlae,
    Slim,
)
from jaxrec.methods import plan
from jaxrec.models import FitInfo, Fitted, ItemFactors, ItemScores, ItemWeights, PairWeights, Scorer, SparseItemWeights
from jaxrec.runtime.memory import Plan
from jaxrec.saving import load_model, save
from jaxrec.similarity import GaugeReport, gauge_report, similar_items
from jaxrec.status import Certificate, FitError, Status
from jaxrec.tuning import Tuning, tune

__version__ = "0.1.0"
__all__ = [
    "Autoencoder",
    "Awmf",
    "Catalogue",
    "Certificate",
    "Dan",
    "Deql",
    "Ease",
    "Edlae",
    "Elsa",
    "FitError",
    "FitInfo",
    "Fitted",
    "GaugeReport",
    "HeldOut",
    "HigherOrder",
    "Ials",
    "InputError",
    "Interactions",
    "ItemFactors",
    "ItemKnn",
    "ItemScores",
    "ItemWeights",
    "Lae",
    "LowRankEdlae",
    "Mrf",
    "MultDae",
    "MultVae",
    "Network",
    "NonnegativeEase",
    "PairWeights",
    "Plan",
    "Popularity",
    "PureSvd",
    "RecVae",
    "Recommendations",
    "Report",
    "Rlae",
    "Scorer",
    "Slim",
    "SparseItemWeights",
    "Split",
    "Status",
    "Tuning",
    "Updated",
    "UserItemFactors",
    "WeightedEase",
    "Weights",
    "evaluate",
    "evaluate_leave_user_out",
    "gauge_report",
    "load",
    "load_model",
    "plan",
    "recommend",
    "save",
    "similar_items",
    "split",
    "tune",
    "update",
]
