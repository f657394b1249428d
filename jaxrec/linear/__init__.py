"""The linear-autoencoder family and its baselines: one file a method, named after it."""

from jaxrec.linear.ease import Ease
from jaxrec.linear.edlae import Edlae, Lae, Rlae
from jaxrec.linear.low_rank import LowRankEdlae
from jaxrec.linear.popularity import Popularity

__all__ = ["Ease", "Edlae", "Lae", "LowRankEdlae", "Popularity", "Rlae"]
