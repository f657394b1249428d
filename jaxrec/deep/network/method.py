"""What the methods of `jaxrec.deep` share: the settings of a training, and all of `fit` and `plan` but the network."""

from __future__ import annotations

import abc
import dataclasses
import os
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.data.interactions import Interactions
from jaxrec.data.splits import HeldOut
from jaxrec.deep.network import losses
from jaxrec.deep.network.architecture import DTYPES, Architecture
from jaxrec.deep.network.model import Network
from jaxrec.deep.network.step import StepConfig, StepNumbers
from jaxrec.deep.network.training import Callback, Pass, Run, Task, certify
from jaxrec.evaluation.held_out import Paired, paired
from jaxrec.fitting import Method, Stopwatch
from jaxrec.models import Fitted
from jaxrec.runtime import checkpoint as kept
from jaxrec.runtime.memory import Hardware, Needs
from jaxrec.status import Certificate

PARAMETER_COPIES = 5  # at the peak: parameters, gradient, two moments, a copy


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class NeuralMethod(Method):
    """An autoencoder trained by gradient steps: a method says what is trained, and this trains it.

    Attributes:
      learning_rate: of the optimizer, at the start.
      epochs: passes over the users, at most.
      batch_size: users in a step.
      patience: with a validation, epochs without a better ndcg@100 after which to stop; 0 never does.
      compute: type in which matrices are multiplied.
      parameters: type in which the parameters are kept.
    """

    learning_rate: float = 1e-3
    epochs: int = 200
    batch_size: int = 500
    patience: int = 0
    compute: Literal["float32", "bfloat16"] = "float32"
    parameters: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        _checks.plain_numbers(self)
        for name in ("epochs", "batch_size"):
            _checks.count(name, getattr(self, name), at_least=1)
        _checks.count("patience", self.patience)
        _checks.positive("learning_rate", self.learning_rate)
        for name in ("compute", "parameters"):
            _checks.one_of(name, getattr(self, name), DTYPES)

    def __repr__(self) -> str:
        """The settings of the method, then the settings of its training."""
        fields = sorted(dataclasses.fields(self), key=lambda field: field.kw_only is True)
        return f"{type(self).__name__}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in fields)})"

    @abc.abstractmethod
    def architecture(self, n_items: int) -> Architecture:
        """The network of a fit to so many items."""

    @abc.abstractmethod
    def step_numbers(self, n_users: int) -> StepNumbers:
        """The real numbers of a step, in a fit to so many users."""

    def step_config(self, n_items: int) -> StepConfig:
        """What a step does, in a fit to so many items."""
        return StepConfig(self.architecture(n_items))

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes over the users of which an epoch consists."""
        return (Pass(),)

    def task(self, train: Interactions) -> Task:
        """The training of a fit to these interactions."""
        numbers = self.step_numbers(int(np.count_nonzero(train.user_counts)))
        config = self.step_config(train.n_items)
        return Task(config, numbers, self.passes, self.epochs, self.batch_size, self.patience)

    def fit(
        self,
        train: Interactions,
        devices: Any = None,
        *,
        validation: HeldOut | None = None,
        key: PRNGKeyArray | None = None,
        checkpoint: str | os.PathLike | None = None,
        callback: Callback | None = None,
    ) -> Fitted:
        """The trained network with what is known about it.

        The loss is not convex, and the certificate is no proof of an optimum: it says that all numbers are finite, that
        the reconstruction loss of the users of the first step fell, and how large the gradient of a step was at the
        end, as a share of the first (its residual, for which there is no limit). Among its details are the best
        epoch and its validation metric, and the users trained on per second. The course is what `callback` sees.

        Args:
          train: U x I interactions X; users without any are left out.
          devices: what to split the users of a batch over: a sequence of devices, or a `jax.sharding.Mesh` of any shape
            (see `jaxrec.runtime.parallel.make_mesh`). Each holds the whole network. None is the default device.
          validation: users whose ndcg@100 is measured after every epoch, matched by ids as in `evaluate`: the weights
            of the best epoch are returned, and `patience` epochs without a better one end the training. None returns
            the last weights.
          key: random key of the start, the order of users and the noise; default `jax.random.key(0)`. The same key
            gives the same weights on the same hardware.
          checkpoint: a file that is replaced after an epoch (at most a tenth of the time goes into that), from which a
            fit that was killed goes on, with the very weights it would have had. Delete it afterwards.
          callback: called after each epoch with its number (from 1) and its `Epoch`; ends the training if it returns
            something true.

        Returns:
          Fitted(model: Network, info: FitInfo).

        Raises:
          InputError: there is nothing to learn from, an argument does not suit the data, or flax is not installed.
          FitError: it does not fit in memory, or the loss is not finite or did not fall.

        Cost: see `plan`; about 6 operations per user and parameter in each pass over the users.
        """
        both = None if validation is None else paired(train.items, train.n_items, *validation)
        return self._fit(train, devices, validation=both, key=key, checkpoint=checkpoint, callback=callback)

    def _refuse(self, train: Interactions) -> None:
        _require_packages(type(self).__name__)
        super()._refuse(train)
        losses.check_values(self.step_config(train.n_items).reconstruction, train)

    def _solve(
        self,
        train: Interactions,
        mesh: Any,
        clock: Stopwatch,
        validation: Paired | None = None,
        key: PRNGKeyArray | None = None,
        checkpoint: str | os.PathLike | None = None,
        callback: Callback | None = None,
        **_: Any,
    ) -> tuple[Network, Certificate]:
        key = jax.random.key(0) if key is None else key
        held_out = None if validation is None else [part.fingerprint for part in validation[:2]]
        belongs_to = kept.identity(str(self), train.fingerprint, key, validation=held_out)
        with clock.stage("train"):
            run = Run(self.task(train), train, mesh, validation, key, checkpoint, belongs_to)
            parameters, course, again = run(type(self).__name__, callback)
        return Network(parameters, self.architecture(train.n_items)), certify(parameters, course, again)

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        network, batch = self.architecture(n_items), min(self.batch_size, n_users)
        prior = self.step_config(n_items).prior == "composite"
        widest = n_items * 3 + sum(b for _, b in network.widths) * 3
        if network.gathers(entries := nnz / max(1, n_users)):
            widest += round((1 + prior) * entries * network.widths[0][1])
        elif prior:
            widest += 5 * n_items
        parts = {
            "parameters, gradient, two moments, a copy": 4 * PARAMETER_COPIES * network.n_parameters * on.on_host,
            "encoder of the prior": 2 * network.n_parameters * prior * on.on_host,
            "a batch of users": on.share(4 * batch * widest),
            "sparse data, twice": 16 * nnz,
        } | on.working(2)
        flops = 6.0 * n_users * network.n_parameters * self.epochs * len(self.passes)
        return Needs(parts, flops, "use narrower layers, a smaller batch_size, or fewer items")

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        return f"{certificate}; lower learning_rate."


def _require_packages(name: str) -> None:
    """Refuses to go on without flax and optax."""
    try:
        import flax
        import optax
    except ImportError:
        raise InputError(f"{name} needs the packages flax and optax: pip install 'jaxrec[deep]'.") from None
    del flax, optax
