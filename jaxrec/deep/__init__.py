"""Deep autoencoders, trained by gradient steps: one file a method. Fitting and scoring need flax and optax."""

from jaxrec.deep.autoencoder import Autoencoder
from jaxrec.deep.mult_dae import MultDae
from jaxrec.deep.mult_vae import MultVae
from jaxrec.deep.rec_vae import RecVae

__all__ = ["Autoencoder", "MultDae", "MultVae", "RecVae"]
