"""Deep autoencoders, trained by gradient steps: one file a method. Fitting and scoring need flax and optax."""

from jaxrec.deep.autoencoder import Autoencoder
from jaxrec.deep.linear_bound import Excess, excess, linear_optimum
from jaxrec.deep.mult_dae import MultDae
from jaxrec.deep.mult_vae import MultVae
from jaxrec.deep.network.method import NeuralMethod
from jaxrec.deep.rec_vae import RecVae

__all__ = ["Autoencoder", "Excess", "MultDae", "MultVae", "NeuralMethod", "RecVae", "excess", "linear_optimum"]
