"""An autoencoder of any depth, with the linear ones among them: what deep ones are compared with."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.deep.network import Architecture
from jaxrec.deep.network.architecture import ACTIVATIONS, check_widths
from jaxrec.deep.network.losses import RECONSTRUCTIONS
from jaxrec.deep.network.method import NeuralMethod
from jaxrec.deep.network.step import OPTIMIZERS, StepConfig, StepNumbers


@dataclasses.dataclass(frozen=True, repr=False)
class Autoencoder(NeuralMethod):
    """An autoencoder of given depth, widths, activation, loss and noise, trained by gradient steps.

    It minimises the sum over users of the loss of (x, f(x~)), x~ being x with items dropped, plus the penalty. With
    activation "linear" and loss "squared" it comes to closed forms, as far as the steps lead:

    - encoder (), bias off: `Lae(reg)`, with dropout DLAE, with full emphasis `Edlae(reg, dropout)`;
    - encoder (K,), untied, bias off: with reg 0 `PureSvd(K)`; with a penalty see `jaxrec.closed_form.bounds`.

    How it is trained, besides `optimizer` and `schedule`, is set by the fields of `jaxrec.deep.NeuralMethod`, such as
    `epochs` and `patience`.

    Attributes:
      encoder: widths of the hidden layers up to the code, outermost first; empty for one linear map I x I.
      decoder: widths of the hidden layers after the code; tied weights need the encoder's, mirrored, without the code.
      activation: after every hidden layer, the code included; "linear" is none.
      loss: "multinomial" (softmax), "squared", "gaussian" (squared / 2, observed cells times `confidence`) or
        "logistic" (each item by itself; 0/1 data).
      confidence: weight of observed cells under the gaussian loss; other cells weigh 1.
      tied: the decoder's kernels are the encoder's, transposed.
      bias: whether the layers have one.
      normalize: histories are scaled to length 1 first.
      reg: L2 strength in the sum of the losses of all users, as `Lae` has it.
      penalty: what is penalised: all kernels ("weights"), or code and last kernel ("bottleneck", without `decoder`).
      dropout: share of a history's items that the input lacks, in training; the others are scaled up.
      full_emphasis: with dropout: only what the input lacks counts (EDLAE).
      hidden_dropout: share of each hidden layer's outputs that are dropped, in training.
      optimizer: "adam", "nadam", "momentum" (0.9) or "sgd".
      schedule: of the learning rate: "constant", or "cosine" down to 0 at the last step.
    """

    name: ClassVar[str] = "autoencoder"

    encoder: tuple[int, ...] = (600, 200)
    decoder: tuple[int, ...] = (600,)
    activation: Literal["linear", "tanh", "relu", "gelu", "sigmoid", "swish", "selu", "elu"] = "tanh"
    loss: Literal["multinomial", "squared", "gaussian", "logistic"] = "multinomial"
    confidence: float = 10.0
    tied: bool = False
    bias: bool = True
    normalize: bool = True
    reg: float = 0.0
    penalty: Literal["weights", "bottleneck"] = "weights"
    dropout: float = 0.5
    full_emphasis: bool = False
    hidden_dropout: float = 0.0
    optimizer: Literal["adam", "nadam", "momentum", "sgd"] = "adam"
    schedule: Literal["constant", "cosine"] = "constant"
    _: dataclasses.KW_ONLY
    epochs: int = 100

    def __post_init__(self):
        super().__post_init__()
        check_widths("encoder", self.encoder)
        check_widths("decoder", self.decoder)
        _checks.one_of("activation", self.activation, ACTIVATIONS)
        _checks.one_of("loss", self.loss, RECONSTRUCTIONS)
        _checks.one_of("penalty", self.penalty, ("weights", "bottleneck"))
        _checks.one_of("optimizer", self.optimizer, OPTIMIZERS)
        _checks.one_of("schedule", self.schedule, ("constant", "cosine"))
        _checks.positive("confidence", self.confidence)
        _checks.nonnegative("reg", self.reg)
        _checks.dropout(self.dropout)
        _checks.number("hidden_dropout", self.hidden_dropout)
        if not 0 <= self.hidden_dropout < 1:
            raise InputError(f"hidden_dropout must be at least 0 and below 1, got {self.hidden_dropout!r}.")
        if not self.encoder and (self.decoder or self.tied or self.penalty == "bottleneck"):
            raise InputError(
                "encoder=() is one linear map and has no decoder, tied weights or bottleneck; give the encoder a width."
            )
        if self.penalty == "bottleneck" and self.decoder:
            raise InputError(
                f"penalty='bottleneck' is on the code, which must be the last hidden layer: give decoder=(), got "
                f"{self.decoder}."
            )
        if self.tied and self.decoder != self.encoder[-2::-1]:
            raise InputError(
                f"tied weights need decoder={self.encoder[-2::-1]}, the encoder's widths mirrored without the code, "
                f"got {self.decoder}."
            )
        if self.full_emphasis and (self.dropout == 0 or self.loss not in ("squared", "logistic")):
            raise InputError(
                "full_emphasis counts what was dropped, cell by cell: it needs a dropout above 0 and loss 'squared' or "
                f"'logistic', got dropout={self.dropout!r} and loss={self.loss!r}."
            )

    def architecture(self, n_items: int) -> Architecture:
        """The network of a fit to so many items."""
        return Architecture(
            n_items,
            encoder=self.encoder,
            decoder=self.decoder,
            activation=self.activation,
            tied=self.tied,
            bias=self.bias,
            normalize=self.normalize,
            compute=self.compute,
            parameters=self.parameters,
        )

    def step_config(self, n_items: int) -> StepConfig:
        """What a step does, in a fit to so many items."""
        return StepConfig(
            self.architecture(n_items),
            reconstruction=self.loss,
            penalty=self.penalty,
            full_emphasis=self.full_emphasis,
            hidden_noise=self.hidden_dropout > 0,
            optimizer=self.optimizer,
            schedule=self.schedule,
        )

    def step_numbers(self, n_users: int) -> StepNumbers:
        """The real numbers of a step, in a fit to so many users."""
        return StepNumbers(
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            hidden_dropout=self.hidden_dropout,
            kernel_reg=self.reg / n_users,  # the steps work on means over users
            code_reg=self.reg if self.penalty == "bottleneck" else 0.0,
            confidence=self.confidence,
        )
