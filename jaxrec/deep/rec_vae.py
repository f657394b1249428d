"""RecVAE: Mult-VAE with a composite prior and alternating training (Shenbin et al., WSDM 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from jaxrec import _checks
from jaxrec.data import Interactions
from jaxrec.deep.network import Architecture
from jaxrec.deep.network.step import Knobs, Recipe
from jaxrec.deep.network.training import Pass, Task, Trained, check_training
from jaxrec.runtime.memory import Plan

HIDDEN_LAYERS = 5


@dataclasses.dataclass(frozen=True)
class RecVae(Trained):
    """RecVAE: a deeper encoder, a prior that remembers the encoder before, and a KL weight in proportion to histories.

    For a user x of n items, with a sample z of q = N(mean(x), variance(x)), it minimises

        - sum_i x_i log softmax(W z + b)_i + gamma n (log q(z) - log p(z | x)),

    p a mixture of N(0, 1), of the encoder at the end of the epoch before and of N(0, e^10), in shares 3/20, 3/4 and
    1/10, coordinate by coordinate. An epoch trains the encoder for `encoder_passes` over the users, with items dropped,
    then renews the prior, then trains the decoder for `decoder_passes`, with none dropped; each has its own Adam.
    The encoder has five hidden layers, each fed with the sum of all before it, with swish and layer normalisation.

    Attributes:
      hidden: width of the encoder's five hidden layers.
      latent: K, the length of the code.
      dropout: share of a history's items that the input lacks while the encoder is trained.
      gamma: weight of the KL divergence, for each item of a history.
      encoder_passes: over the users, in an epoch.
      decoder_passes: over the users, in an epoch.
      learning_rate: Adam's.
      epochs: at most.
      batch_size: users in a step.
      patience: with a validation, epochs without a better ndcg@100 after which to stop; 0 never does.
      compute: type in which matrices are multiplied.
      parameters: type in which the parameters are kept.
      first_layer: how sparse histories enter; "auto" takes the faster by a rule (`jaxrec.deep.network.Architecture`).
    """

    hidden: int = 600
    latent: int = 200
    dropout: float = 0.5
    gamma: float = 0.005
    encoder_passes: int = 3
    decoder_passes: int = 1
    learning_rate: float = 5e-4
    epochs: int = 50
    batch_size: int = 500
    patience: int = 0
    compute: Literal["float32", "bfloat16"] = "float32"
    parameters: Literal["float32", "bfloat16"] = "float32"
    first_layer: Literal["auto", "dense", "gather"] = "auto"

    def __post_init__(self):
        check_training(self)
        for name in ("hidden", "latent", "encoder_passes", "decoder_passes"):
            _checks.count(name, getattr(self, name), at_least=1)
        _checks.dropout(self.dropout)
        _checks.nonnegative("gamma", self.gamma)

    def architecture(self, n_items: int) -> Architecture:
        """The network of a fit to so many items."""
        return Architecture(
            n_items,
            encoder=(*[self.hidden] * HIDDEN_LAYERS, self.latent),
            activation="swish",
            code="gaussian",
            body="dense",
            init="fan_in",
            compute=self.compute,
            parameters=self.parameters,
            first_layer=self.first_layer,
        )

    def task(self, train: Interactions) -> Task:
        """The training of a fit to these interactions."""
        knobs = Knobs(learning_rate=self.learning_rate, dropout=self.dropout, kl_per_item=self.gamma)
        of_encoder = [Pass(("encoder",), remember=n == self.encoder_passes - 1) for n in range(self.encoder_passes)]
        of_decoder = [Pass(("decoder",), noisy=False)] * self.decoder_passes
        recipe = Recipe(self.architecture(train.n_items), prior="composite")
        return Task(recipe, knobs, (*of_encoder, *of_decoder), self.epochs, self.batch_size, self.patience)

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes; on each device of a mesh, or of such as "8xH100"."""
        epochs = self.epochs * (self.encoder_passes + self.decoder_passes)
        return self._plan((n_users, n_items, nnz), devices, epochs, self.batch_size)
