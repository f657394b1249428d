"""What the methods of `jaxrec.deep` share: networks, losses, training. Importing it does not import flax."""

from jaxrec.networks.architecture import Architecture
from jaxrec.networks.scorer import Network

__all__ = ["Architecture", "Network"]
