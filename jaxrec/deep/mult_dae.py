"""Mult-DAE: a denoising autoencoder with a multinomial likelihood (Liang, Krishnan, Hoffman & Jebara, WWW 2018)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from jaxrec import _checks
from jaxrec.data import Interactions
from jaxrec.deep.network import Architecture
from jaxrec.deep.network.architecture import check_widths
from jaxrec.deep.network.step import Knobs, Recipe
from jaxrec.deep.network.training import Pass, Task, Trained, check_training
from jaxrec.runtime.memory import Plan


@dataclasses.dataclass(frozen=True)
class MultDae(Trained):
    """Mult-DAE: a plain code, a multinomial likelihood, dropped items and weight decay.

    For a user x and x~, x with items dropped, it minimises

        - sum_i x_i log softmax(f(g(x~)))_i + reg * squared kernels

    (the paper's equation 10). The defaults are those of the paper and its code on ML-20M: I-200-I, tanh, histories
    scaled to length 1, half of their items dropped, reg 0.01 / 500.

    Attributes:
      hidden: widths between the items and the code, outermost first; the decoder mirrors them.
      latent: K, the length of the code.
      dropout: share of a history's items that the input lacks, in training.
      reg: L2 coefficient of the kernels, in the loss of one user.
      learning_rate: Adam's.
      epochs: passes over the users, at most.
      batch_size: users in a step.
      patience: with a validation, epochs without a better ndcg@100 after which to stop; 0 never does.
      compute: type in which matrices are multiplied.
      parameters: type in which the parameters are kept.
      first_layer: how sparse histories enter; "auto" takes the faster by a rule (`jaxrec.deep.network.Architecture`).
    """

    hidden: tuple[int, ...] = ()
    latent: int = 200
    dropout: float = 0.5
    reg: float = 0.01 / 500
    learning_rate: float = 1e-3
    epochs: int = 200
    batch_size: int = 500
    patience: int = 0
    compute: Literal["float32", "bfloat16"] = "float32"
    parameters: Literal["float32", "bfloat16"] = "float32"
    first_layer: Literal["auto", "dense", "gather"] = "auto"

    def __post_init__(self):
        check_training(self)
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
            first_layer=self.first_layer,
        )

    def task(self, train: Interactions) -> Task:
        """The training of a fit to these interactions."""
        knobs = Knobs(learning_rate=self.learning_rate, dropout=self.dropout, kernel_reg=self.reg)
        recipe = Recipe(self.architecture(train.n_items))
        return Task(recipe, knobs, (Pass(),), self.epochs, self.batch_size, self.patience)

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes; on each device of a mesh, or of such as "8xH100"."""
        return self._plan((n_users, n_items, nnz), devices, self.epochs, self.batch_size)
