"""Mult-VAE: a variational autoencoder with a multinomial likelihood (Liang, Krishnan, Hoffman & Jebara, WWW 2018)."""

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
class MultVae(Trained):
    """Mult-VAE: a gaussian code, a multinomial likelihood, and a KL weight that is annealed and stays below 1.

    For a user x, with code z from q = N(mean(x), variance(x)), it minimises

        - sum_i x_i log softmax(f(z))_i + beta KL(q || N(0, 1)) + reg * squared kernels

    (the paper's equation 7). The defaults are those of the paper and its code on ML-20M: I-600-200-600-I, tanh,
    histories scaled to length 1, half of their items dropped.

    Attributes:
      hidden: widths between the items and the code, outermost first; the decoder mirrors them.
      latent: K, the length of the code.
      dropout: share of a history's items that the input lacks, in training.
      kl_weight: beta once it is annealed.
      kl_steps: steps after which an uncapped beta would be 1: it is min(kl_weight, step / kl_steps). With the default,
        0.2 is reached after 40,000 steps; take fewer where a training has fewer. 0 takes kl_weight from the start.
      reg: L2 coefficient of the kernels, in the loss of one user.
      learning_rate: Adam's.
      epochs: passes over the users, at most.
      batch_size: users in a step.
      patience: with a validation, epochs without a better ndcg@100 after which to stop; 0 never does.
      compute: type in which matrices are multiplied.
      parameters: type in which the parameters are kept.
      first_layer: how sparse histories enter; "auto" takes the faster by a rule (`jaxrec.deep.network.Architecture`).
    """

    hidden: tuple[int, ...] = (600,)
    latent: int = 200
    dropout: float = 0.5
    kl_weight: float = 0.2
    kl_steps: int = 200_000
    reg: float = 0.0
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
            first_layer=self.first_layer,
        )

    def task(self, train: Interactions) -> Task:
        """The training of a fit to these interactions."""
        knobs = Knobs(
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            kl_weight=self.kl_weight,
            kl_steps=self.kl_steps,
            kernel_reg=self.reg,
        )
        recipe = Recipe(self.architecture(train.n_items), prior="normal")
        return Task(recipe, knobs, (Pass(),), self.epochs, self.batch_size, self.patience)

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes; on each device of a mesh, or of such as "8xH100"."""
        return self._plan((n_users, n_items, nnz), devices, self.epochs, self.batch_size)
