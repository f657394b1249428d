"""The linear-autoencoder family and its baselines: one file or folder a method, named after it."""

from jaxrec.linear.dan import Dan
from jaxrec.linear.deql import Deql
from jaxrec.linear.ease import Ease
from jaxrec.linear.edlae import Edlae, Lae, Rlae
from jaxrec.linear.elsa import Elsa
from jaxrec.linear.higher_order import HigherOrder
from jaxrec.linear.item_knn import ItemKnn
from jaxrec.linear.low_rank_edlae import LowRankEdlae
from jaxrec.linear.mrf import Mrf
from jaxrec.linear.popularity import Popularity
from jaxrec.linear.pure_svd import PureSvd
from jaxrec.linear.slim import NonnegativeEase, Slim

__all__ = [
    "Dan",
    "Deql",
    "Ease",
    "Edlae",
    "Elsa",
    "HigherOrder",
    "ItemKnn",
    "Lae",
    "LowRankEdlae",
    "Mrf",
    "NonnegativeEase",
    "Popularity",
    "PureSvd",
    "Rlae",
    "Slim",
]
