"""RecVAE: Mult-VAE with a composite prior and alternating training (Shenbin et al., WSDM 2020)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxrec import _checks
from jaxrec.deep.network import Architecture
from jaxrec.deep.network.method import NeuralMethod
from jaxrec.deep.network.step import StepConfig, StepNumbers
from jaxrec.deep.network.training import Pass

HIDDEN_LAYERS = 5


@dataclasses.dataclass(frozen=True, repr=False)
class RecVae(NeuralMethod):
    """RecVAE: a deeper encoder, a prior that remembers the encoder before, and a KL weight in proportion to histories.

    For a user x of n items, with a sample z of q = N(mean(x), variance(x)), it minimises

        - sum_i x_i log softmax(W z + b)_i + gamma n (log q(z) - log p(z | x)),

    p a mixture of N(0, 1), of the encoder at the end of the epoch before and of N(0, e^10), in shares 3/20, 3/4 and
    1/10, coordinate by coordinate. An epoch trains the encoder for `encoder_passes` over the users, with items dropped,
    then renews the prior, then trains the decoder for `decoder_passes`, with none dropped; each has its own Adam.
    The encoder has five hidden layers, each fed with the sum of all before it, with swish and layer normalisation.

    How it is trained, by Adam, is set by the fields of `jaxrec.deep.NeuralMethod`, such as `epochs` and `patience`.

    Attributes:
      hidden: width of the encoder's five hidden layers.
      latent: K, the length of the code.
      dropout: share of a history's items that the input lacks while the encoder is trained.
      gamma: weight of the KL divergence, for each item of a history.
      encoder_passes: over the users, in an epoch.
      decoder_passes: over the users, in an epoch.
      epochs: rounds of these passes, at most.
    """

    name: ClassVar[str] = "rec-vae"

    hidden: int = 600
    latent: int = 200
    dropout: float = 0.5
    gamma: float = 0.005
    encoder_passes: int = 3
    decoder_passes: int = 1
    _: dataclasses.KW_ONLY
    learning_rate: float = 5e-4
    epochs: int = 50

    def __post_init__(self):
        super().__post_init__()
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
        )

    def step_config(self, n_items: int) -> StepConfig:
        """What a step does, in a fit to so many items."""
        return StepConfig(self.architecture(n_items), prior="composite")

    def step_numbers(self, n_users: int) -> StepNumbers:
        """The real numbers of a step."""
        return StepNumbers(learning_rate=self.learning_rate, dropout=self.dropout, kl_per_item=self.gamma)

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes of an epoch: those that train the encoder, then those that train the decoder."""
        of_encoder = [Pass(("encoder",), remember=n == self.encoder_passes - 1) for n in range(self.encoder_passes)]
        return (*of_encoder, *[Pass(("decoder",), noisy=False)] * self.decoder_passes)
