"""The trainings of the experiment on depth: a network for a setting, its loss beside the linear optimum.

Reconstruction is `jaxrec.Autoencoder` as everyone has it. The supervised network predicts a user's other items from
some of them: the same layers, steps and keys, with another target.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec.closed_form import bounds, spectral
from jaxrec.closed_form.bounds import Bound
from jaxrec.data import Interactions, row_batches
from jaxrec.deep import Autoencoder, excess
from jaxrec.deep.network.model import Network
from jaxrec.deep.network.training import Run, certify
from jaxrec.models import FitInfo, Fitted, with_items
from jaxrec.solvers.lanczos import Eigenpairs
from jaxrec.status import Certificate, FitError, Status

# At the start, down to 0 along half a cosine. The loss of a step is the mean over users of the sum over items.
LEARNING_RATES = {"adam": 1e-3, "nadam": 1e-3, "momentum": 3e-3}
BATCH_SIZE = 512  # users, when a loss is measured


@dataclasses.dataclass(frozen=True)
class Setting:
    """A training.

    Attributes:
      depth: hidden layers; the last of them has `width` outputs.
      activation: after each of them, the last included.
      width: K, the rank of what comes out.
      hidden: width of the hidden layers before the last; 0 if there is none.
      optimizer: a key of `LEARNING_RATES`.
      dropout: share of a history's items that the input lacks in training.
      seed: of the start and the order of users.
    """

    depth: int
    activation: str
    width: int
    hidden: int
    optimizer: str = "adam"
    dropout: float = 0.0
    seed: int = 0

    @property
    def described(self) -> str:
        """The setting in words."""
        hidden = f" after {self.hidden}" if self.depth > 1 else ""
        noise = f", dropout {self.dropout:g}" if self.dropout else ""
        kind = f"depth {self.depth}, {self.activation}, width {self.width}{hidden}"
        return f"{kind}, {self.optimizer}{noise}, seed {self.seed}"

    def method(self, epochs: int, batch_size: int) -> Autoencoder:
        """The autoencoder. Histories enter as they are: scaled to length 1, a linear one could not reach the bound."""
        return Autoencoder(
            encoder=(*[self.hidden] * (self.depth - 1), self.width),
            decoder=(),
            activation=self.activation,  # pyright: ignore[reportArgumentType]: one of them
            loss="squared",
            normalize=False,
            dropout=self.dropout,
            optimizer=self.optimizer,  # pyright: ignore[reportArgumentType]: one of them
            schedule="cosine",
            learning_rate=LEARNING_RATES[self.optimizer],
            epochs=epochs,
            batch_size=batch_size,
        )


def beside_bound(fitted: Fitted, train: Interactions, bound: Bound) -> dict[str, float]:
    """Loss, bound and ratio of a fitted autoencoder, for a cell."""
    found = excess(fitted, train, bound)
    return {"loss": found.loss, "bound": found.bound.value, "ratio": found.ratio}


def linear_network(train: Interactions, pairs: Eigenpairs, width: int) -> Fitted:
    """The linear autoencoder that reaches the bound, as a network: x -> m + V V' (x - m).

    Args:
      train: U x I interactions, with column means m.
      pairs: eigenpairs of the centred X'X; V are the first `width` vectors.
      width: K.
    """
    method = Setting(1, "linear", width, 0).method(1, 1)
    v, mean = pairs.vectors[:, :width], spectral.column_means(train)
    parts = {"encoder.layers.0": (v, -mean @ v), "decoder.layers.0": (v.T, mean)}
    parameters = {
        f"{layer}.{name}": np.asarray(part, np.float32)
        for layer, both in parts.items()
        for name, part in zip(("kernel", "bias"), both, strict=True)
    }
    certificate = Certificate(Status.OK, 0.0, math.inf, {})
    return Fitted(
        with_items(Network(parameters, method.architecture(train.n_items)), train.items),
        FitInfo(method, certificate, train.items, train.summary(), {}),
    )


class Supervised(NamedTuple):
    """The same users' items in two parts, and what is known of linear maps from one to the other.

    Attributes:
      inputs: U x I, what is known of the users.
      targets: U x J, what is predicted.
      explained: squared singular values of what linear maps of the inputs explain of the targets.
      spectrum: squared singular values of the targets.
    """

    inputs: Interactions
    targets: Interactions
    explained: bounds.Spectrum
    spectrum: bounds.Spectrum

    def linear(self, width: int) -> float:
        """The loss of the best linear map of rank K with a bias."""
        return bounds.eckart_young(self.explained, width)

    def floor(self, width: int) -> float:
        """What no network is below whose last hidden layer has K outputs."""
        return bounds.eckart_young(self.spectrum, width)


def divided(train: Interactions, n_inputs: int, width: int) -> Supervised:
    """The items divided at random, always in the same way, `n_inputs` of them to be the inputs.

    Args:
      train: U x I interactions.
      n_inputs: how many items are inputs. Were there as many as users, linear maps would explain everything.
      width: the largest K that will be asked about.
    """
    order = np.random.default_rng(0).permutation(train.n_items)
    inputs, targets = (train.select_items(np.sort(part)) for part in (order[:n_inputs], order[n_inputs:]))
    explained = bounds.explained(inputs, targets, bias=True)
    return Supervised(inputs, targets, explained, bounds.spectrum(targets, width, bias=True))


def predict(setting: Setting, data: Supervised, epochs: int, batch_size: int) -> dict[str, Any]:
    """Loss of a network that is trained from inputs to targets, beside the loss of the best linear map of its width.

    Raises:
      FitError: the loss is not finite, or did not fall.
    """
    method, inputs, targets = setting.method(epochs, batch_size), data.inputs, data.targets
    task = method.task(inputs)
    architecture = dataclasses.replace(task.config.architecture, n_outputs=targets.n_items)
    task = task._replace(config=dataclasses.replace(task.config, architecture=architecture))
    run = Run(task, inputs, None, None, jax.random.key(setting.seed), None, {}, targets)
    parameters, course, again = run("network", None)
    certificate = certify(parameters, course, again)
    if certificate.status is not Status.OK:
        raise FitError(certificate.status, str(certificate))
    score, loss = jax.jit(Network.score), 0.0
    network = Network(parameters, architecture)
    for batch, wanted in zip(row_batches(inputs, BATCH_SIZE), row_batches(targets, BATCH_SIZE), strict=True):
        errors = np.asarray(wanted.dense(targets.n_items), np.float64) - np.asarray(score(network, batch), np.float64)
        loss += float(np.sum(errors[np.asarray(batch.rows) >= 0] ** 2))
    linear = data.linear(setting.width)
    return {"loss": loss, "linear": linear, "floor": data.floor(setting.width), "ratio": loss / linear}
