"""The linear-autoencoder family and its baselines: one file a method, named after it."""

from jaxrec.linear.ease import Ease
from jaxrec.linear.edlae import Edlae, Lae, Rlae
from jaxrec.linear.higher_order import HigherOrder
from jaxrec.linear.mrf import Mrf
from jaxrec.linear.popularity import Popularity

__all__ = ["Ease", "Edlae", "HigherOrder", "Lae", "Mrf", "Popularity", "Rlae"]
