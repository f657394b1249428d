"""The linear-autoencoder family and its baselines: one file a method, named after it."""

from jaxrec.linear.ease import Ease
from jaxrec.linear.popularity import Popularity

__all__ = ["Ease", "Popularity"]
