"""The architecture of a network, a small frozen dataclass: all of it but the numbers, and static when JAX compiles."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Literal

from jaxrec import _checks
from jaxrec._checks import InputError

ACTIVATIONS = ("linear", "tanh", "relu", "gelu", "sigmoid", "swish", "selu", "elu")
DTYPES = ("float32", "bfloat16")
# The first layer gathers if the catalogue is so many times a packed history, and else multiplies dense rows.
# On a CPU dense rows are faster at 19, both alike at 380 (docs/deep-autoencoders.md); no accelerator was tried.
GATHER_FROM = 32


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An autoencoder of I items: histories go through an encoder to a code of K numbers, and a decoder to I scores.

    Attributes:
      n_items: I.
      encoder: widths of the encoder's layers; the last is K. Empty, together with `decoder`: one linear map I x I.
      decoder: widths of the layers between the code and the I outputs.
      activation: after every hidden layer, one of `ACTIVATIONS`.
      code: "activated" like a hidden layer, "linear", or "gaussian": the last layer of the encoder gives K means and K
        log variances.
      body: "plain" layers, or "dense": hidden layers of one width, each of which adds what all before it gave and ends
        in a layer normalisation (RecVAE).
      tied: the decoder's kernels are the encoder's, transposed.
      bias: whether the layers have one.
      normalize: histories are scaled to length 1 first.
      init: "glorot" (Xavier uniform, biases near 0) or "fan_in" (uniform within 1 / sqrt(inputs), biases too).
      compute: type in which matrices are multiplied; sums and all else are float32.
      parameters: type in which the parameters are kept.
      first_layer: "auto" goes by the rule of `GATHER_FROM`; for tests and benchmarks, "dense" multiplies the kernel by
        dense rows and "gather" sums the kernel's rows of a user's items. They differ by rounding.
      n_outputs: J, if the network predicts J other numbers than its I items, such as one half of a history from the
        other half; 0 if the outputs are the items.
    """

    n_items: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...] = ()
    activation: str = "tanh"
    code: Literal["activated", "linear", "gaussian"] = "activated"
    body: Literal["plain", "dense"] = "plain"
    tied: bool = False
    bias: bool = True
    normalize: bool = True
    init: Literal["glorot", "fan_in"] = "glorot"
    compute: str = "float32"
    parameters: str = "float32"
    first_layer: Literal["auto", "dense", "gather"] = "auto"
    n_outputs: int = 0

    def gathers(self, entries_per_row: float) -> bool:
        """Whether the first layer gathers from batches with so many entries a user, padding included."""
        by_rule = self.first_layer == "auto" and self.n_items >= GATHER_FROM * entries_per_row
        return by_rule or self.first_layer == "gather"

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of every layer in order; a gaussian code counts once."""
        sizes = (self.n_items, *self.encoder, *self.decoder, self.n_outputs or self.n_items)
        return tuple(itertools.pairwise(sizes))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every array of parameters, by its dotted name."""
        inner, plain = self.widths[: len(self.encoder)], self.widths[len(self.encoder) :]
        if self.code == "gaussian":
            inner = (*inner[:-1], (inner[-1][0], 2 * inner[-1][1]))
        found: dict[str, tuple[int, ...]] = {}
        for name, widths, own in (("encoder", inner, True), ("decoder", plain, not self.tied)):
            for number, (before, after) in enumerate(widths):
                layer = f"{name}.layers.{number}"
                found |= {f"{layer}.kernel": (before, after)} if own else {}
                found |= {f"{layer}.bias": (after,)} if self.bias else {}
        hidden = inner[:-1] if self.body == "dense" else ()
        for number, (_, width) in enumerate(hidden):
            found |= {f"encoder.norms.{number}.{kind}": (width,) for kind in ("scale", "bias")}
        return found

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained (the normalisations aside)."""
        kernels = self.widths[: len(self.encoder)] if self.tied else self.widths
        code = self.encoder[-2:] if self.code == "gaussian" else ()
        extra = (code[0] if len(code) == 2 else self.n_items) * code[-1] if code else 0
        return sum(a * b for a, b in kernels) + extra + sum(b for _, b in self.widths) * self.bias


def check_widths(name: str, widths: Any) -> None:
    """Refuse what is no tuple of widths."""
    if not isinstance(widths, tuple):
        raise InputError(f"{name} must be a tuple of widths, such as (600,), got {_checks.shown(widths)}.")
    for width in widths:
        _checks.count(f"a width of {name}", width, at_least=1)
