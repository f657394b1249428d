"""Mult-VAE: a variational autoencoder with a multinomial likelihood (Liang, Krishnan, Hoffman & Jebara, WWW 2018)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxrec import _checks
from jaxrec.deep.network import Architecture
from jaxrec.deep.network.architecture import check_widths
from jaxrec.deep.network.method import NeuralMethod
from jaxrec.deep.network.step import StepConfig, StepNumbers


@dataclasses.dataclass(frozen=True, repr=False)
class MultVae(NeuralMethod):
    """Mult-VAE: a gaussian code, a multinomial likelihood, and a KL weight that is annealed and stays below 1.

    For a user x, with code z from q = N(mean(x), variance(x)), it minimises

        - sum_i x_i log softmax(f(z))_i + beta KL(q || N(0, 1)) + reg * squared kernels

    (the paper's equation 7). The defaults are the settings of the paper and its code for ML-20M: I-600-200-600-I, tanh,
    histories scaled to length 1, half of their items dropped.

    How it is trained, by Adam, is set by the fields of `jaxrec.deep.NeuralMethod`, such as `epochs` and `patience`.

    Attributes:
      hidden: widths between the items and the code, outermost first; the decoder mirrors them.
      latent: K, the length of the code.
      dropout: share of a history's items that the input lacks, in training.
      kl_weight: beta once it is annealed.
      kl_steps: steps after which an uncapped beta would be 1: it is min(kl_weight, step / kl_steps). With the default,
        0.2 is reached after 40,000 steps; take fewer if a training has fewer. 0 takes kl_weight from the start.
      reg: L2 coefficient of the kernels, in the loss of one user.
    """

    name: ClassVar[str] = "mult-vae"

    hidden: tuple[int, ...] = (600,)
    latent: int = 200
    dropout: float = 0.5
    kl_weight: float = 0.2
    kl_steps: int = 200_000
    reg: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_widths("hidden", self.hidden)
        _checks.count("latent", self.latent, at_least=1)
        _checks.dropout(self.dropout)
        _checks.count("kl_steps", self.kl_steps)
        for name in ("kl_weight", "reg"):
            _checks.nonnegative(name, getattr(self, name))

    def architecture(self, n_items: int) -> Architecture:
        """The network of a fit to so many items."""
        return Architecture(
            n_items,
            encoder=(*self.hidden, self.latent),
            decoder=self.hidden[::-1],
            code="gaussian",
            compute=self.compute,
            parameters=self.parameters,
        )

    def step_config(self, n_items: int) -> StepConfig:
        """What a step does, in a fit to so many items."""
        return StepConfig(self.architecture(n_items), prior="normal")

    def step_numbers(self, n_users: int) -> StepNumbers:
        """The real numbers of a step."""
        return StepNumbers(
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            kl_weight=self.kl_weight,
            kl_steps=self.kl_steps,
            kernel_reg=self.reg,
        )
