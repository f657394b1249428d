"""Mult-DAE: a denoising autoencoder with a multinomial likelihood (Liang, Krishnan, Hoffman & Jebara, WWW 2018)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxrec import _checks
from jaxrec.deep.network import Architecture
from jaxrec.deep.network.architecture import check_widths
from jaxrec.deep.network.method import NeuralMethod
from jaxrec.deep.network.step import StepNumbers


@dataclasses.dataclass(frozen=True, repr=False)
class MultDae(NeuralMethod):
    """Mult-DAE: a plain code, a multinomial likelihood, dropped items and weight decay.

    For a user x and x~, x with items dropped, it minimises

        - sum_i x_i log softmax(f(g(x~)))_i + reg * squared kernels

    (the paper's equation 10). The defaults are the settings of the paper and its code for ML-20M: I-200-I, tanh,
    histories scaled to length 1, half of their items dropped, reg 0.01 / 500.

    How it is trained, by Adam, is set by the fields of `jaxrec.deep.NeuralMethod`, such as `epochs` and `patience`.

    Attributes:
      hidden: widths between the items and the code, outermost first; the decoder mirrors them.
      latent: K, the length of the code.
      dropout: share of a history's items that the input lacks, in training.
      reg: L2 coefficient of the kernels, in the loss of one user.
    """

    name: ClassVar[str] = "mult-dae"

    hidden: tuple[int, ...] = ()
    latent: int = 200
    dropout: float = 0.5
    reg: float = 0.01 / 500

    def __post_init__(self):
        super().__post_init__()
        check_widths("hidden", self.hidden)
        _checks.count("latent", self.latent, at_least=1)
        _checks.dropout(self.dropout)
        _checks.nonnegative("reg", self.reg)

    def architecture(self, n_items: int) -> Architecture:
        """The network of a fit to so many items."""
        return Architecture(
            n_items,
            encoder=(*self.hidden, self.latent),
            decoder=self.hidden[::-1],
            compute=self.compute,
            parameters=self.parameters,
        )

    def step_numbers(self, n_users: int) -> StepNumbers:
        """The real numbers of a step."""
        return StepNumbers(learning_rate=self.learning_rate, dropout=self.dropout, kernel_reg=self.reg)
