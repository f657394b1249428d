"""What the methods of `jaxrec.deep` share: networks, losses, training. Importing it does not import flax."""

from jaxrec.deep.network.architecture import Architecture
from jaxrec.deep.network.model import Network

__all__ = ["Architecture", "Network"]
