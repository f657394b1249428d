"""Training as pure functions: `init` makes a state, `step` makes the next one from a batch, compiled once and in place.

What is static is a `StepConfig`, every real number is traced in `StepNumbers`, and the noise of a step is a function of
the key and of the number of the step: the same key gives the same weights, also after an interruption.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxrec.data.batching import PackedBatch
from jaxrec.deep.network import losses
from jaxrec.deep.network.architecture import Architecture
from jaxrec.runtime import parallel

OPTIMIZERS = ("adam", "nadam", "momentum", "sgd")
GROUPS = ("encoder", "decoder")
Parameters = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step does, but for its numbers.

    Attributes:
      architecture: of the network.
      reconstruction: one of `losses.RECONSTRUCTIONS`.
      prior: of a gaussian code: "normal", or RecVAE's "composite"; else "none".
      penalty: what the L2 penalty is on: all kernels ("weights"), or the code and the last kernel ("bottleneck").
      full_emphasis: only what the input lacks counts: items that were dropped, in proportion to 1 / dropout, and items
        that were never there.
      hidden_noise: whether outputs of hidden layers are dropped.
      optimizer: one of `OPTIMIZERS`.
      schedule: of the learning rate: "constant", or "cosine" down to 0.
    """

    architecture: Architecture
    reconstruction: str = "multinomial"
    prior: Literal["none", "normal", "composite"] = "none"
    penalty: Literal["weights", "bottleneck"] = "weights"
    full_emphasis: bool = False
    hidden_noise: bool = False
    optimizer: str = "adam"
    schedule: Literal["constant", "cosine"] = "constant"


class StepNumbers(NamedTuple):
    """The real numbers of a step; traced, so that other values compile nothing anew.

    Attributes:
      learning_rate: at the start.
      total_steps: steps of the training, for the cosine schedule.
      dropout: share of a history's items that the input lacks.
      hidden_dropout: share of each hidden layer's outputs that are dropped.
      kl_weight: of the KL divergence from a normal prior, once it is reached.
      kl_steps: the weight is at most the number of the step over this; 0 takes `kl_weight` at once.
      kl_per_item: with the composite prior the weight is this times the sum of the history.
      kernel_reg: coefficient of squared kernels in the mean loss of a user.
      code_reg: coefficient of the squared code of a user.
      confidence: of an observed cell under the gaussian loss.
    """

    learning_rate: Any = 1e-3
    total_steps: Any = 1.0
    dropout: Any = 0.0
    hidden_dropout: Any = 0.0
    kl_weight: Any = 0.0
    kl_steps: Any = 0.0
    kl_per_item: Any = 0.0
    kernel_reg: Any = 0.0
    code_reg: Any = 0.0
    confidence: Any = 1.0


class TrainingState(NamedTuple):
    """What a step hands to the next.

    Attributes:
      parameters: arrays by dotted names; the first word is the group, encoder or decoder.
      moments: what the optimizer remembers of each group.
      prior: the encoder's parameters as the composite prior knows them; else empty.
      step: how many steps were made.
    """

    parameters: Parameters
    moments: dict[str, Any]
    prior: Parameters
    step: Array


class Losses(NamedTuple):
    """Means over the users of a batch, and the norm of the gradient.

    Attributes:
      total: what is differentiated.
      reconstruction: the part of it that compares outputs and histories.
      kl: the divergence, before its weight.
      gradient: norm over the parameters that the step trains.
    """

    total: Any
    reconstruction: Any
    kl: Any
    gradient: Any


def group(parameters: Parameters, name: str) -> Parameters:
    """The parameters of the encoder or of the decoder."""
    return {key: value for key, value in parameters.items() if key.startswith(f"{name}.")}


def init(config: StepConfig, key: PRNGKeyArray) -> TrainingState:
    """The state before the first step."""
    from jaxrec.deep.network import modules

    parameters = {name: jnp.asarray(values) for name, values in modules.init(config.architecture, key).items()}
    moments = {name: _optimizer(config).init(group(parameters, name)) for name in GROUPS}
    prior = group(parameters, "encoder") if config.prior == "composite" else {}
    return TrainingState(parameters, moments, jax.tree.map(jnp.copy, prior), jnp.zeros((), jnp.int32))


def loss(
    config: StepConfig,
    parameters: Parameters,
    prior: Parameters,
    batch: PackedBatch,
    numbers: StepNumbers,
    step: Any,
    key: Any,
    target: PackedBatch | None = None,
) -> tuple[Any, Losses]:
    """The mean loss of a batch, to be differentiated, and its parts.

    Args:
      config: what a step does.
      parameters: of the network.
      prior: parameters of the encoder in the composite prior.
      batch: B users; rows that only pad (row index below 0) do not count.
      numbers: the real numbers of a step.
      step: number of the step.
      key: random key of its noise.
      target: [B, J] what the outputs are compared with, if not with the batch itself (J is
        `Architecture.n_outputs`); not with full emphasis.
    """
    from jaxrec.deep.network import modules

    architecture = config.architecture
    network = modules.merged(architecture, parameters)
    drop_key, hidden_key, code_key = jax.random.split(key, 3)
    kept = kept_entries(drop_key, batch, 1 - numbers.dropout)
    full = modules.normalized(batch) if architecture.normalize else batch
    noisy = full.replaced(jnp.where(kept, full.values / (1 - numbers.dropout), 0))

    def drop(h: Any, number: int) -> Any:
        if not config.hidden_noise:
            return h
        stays = jax.random.bernoulli(jax.random.fold_in(hidden_key, number), 1 - numbers.hidden_dropout, h.shape)
        return jnp.where(stays, h / (1 - numbers.hidden_dropout), 0)

    code, log_variance = network.encode(noisy, drop)
    kl, kl_weight = jnp.zeros(code.shape[0], code.dtype), 0.0
    if log_variance is not None:
        mean, noise = code, jax.random.normal(code_key, code.shape, code.dtype)
        code = mean + noise * jnp.exp(0.5 * log_variance)
        if config.prior == "composite":
            old = modules.merged(architecture, {**parameters, **jax.lax.stop_gradient(prior)}).encode(
                full, modules.keep
            )
            kl = losses.composite_kl(code, mean, log_variance, *old)
            kl_weight = numbers.kl_per_item * batch.totals(batch.values)
        else:
            kl = losses.normal_kl(mean, log_variance)
            ramp = jnp.where(numbers.kl_steps > 0, step / jnp.maximum(numbers.kl_steps, 1), jnp.inf)
            kl_weight = jnp.minimum(numbers.kl_weight, ramp)
    outputs = network.decode(code, lambda h, number: drop(h, 1000 + number))
    wanted = batch if target is None else target
    if config.reconstruction == "multinomial":
        of_user = losses.multinomial(outputs, wanted)
    else:
        x, weights = wanted.dense(outputs.shape[1], outputs.dtype), 1.0
        if config.full_emphasis:
            missed = jnp.where(kept, 0.0, 1 / numbers.dropout)
            extra = batch.replaced(jnp.where(batch.values != 0, missed - 1, 0))
            weights = 1 + extra.dense(architecture.n_items, outputs.dtype)
        of_user = {
            "squared": lambda: losses.squared(outputs, x, weights),
            "gaussian": lambda: losses.gaussian(outputs, x, numbers.confidence),
            "logistic": lambda: losses.logistic(outputs, x, weights),
        }[config.reconstruction]()

    real = batch.rows.reshape(-1) >= 0
    n = jnp.maximum(jnp.sum(real), 1)

    def mean_of(values: Any) -> Any:
        return jnp.sum(jnp.where(real, values, 0)) / n

    last = f"decoder.layers.{len(architecture.decoder)}.kernel"
    kernels = [v for k, v in parameters.items() if (k == last if config.penalty == "bottleneck" else ".kernel" in k)]
    squares = sum(
        (jnp.sum(jnp.square(kernel.astype(outputs.dtype))) for kernel in kernels), jnp.zeros((), outputs.dtype)
    )
    per_user = of_user + kl_weight * kl + numbers.code_reg * jnp.sum(code**2, axis=1)
    total = mean_of(per_user) + numbers.kernel_reg * squares
    return total, Losses(total, mean_of(of_user), mean_of(kl), 0.0)


def kept_entries(key: Any, batch: PackedBatch, share: Any) -> Any:
    """[P, N] whether each entry stays in the input, which has the probability `share`.

    It depends on the key, the user and the item alone, and so not on how a batch is packed or split over devices.
    """

    def stays(row: Any, item: Any) -> Any:
        return jax.random.bernoulli(jax.random.fold_in(jax.random.fold_in(key, row), item), share)

    return jax.vmap(jax.vmap(stays))(batch.spread(batch.rows.reshape(-1)), batch.items)


@partial(jax.jit, static_argnames=("config", "groups", "mesh"), donate_argnames="state")
def step(
    config: StepConfig,
    state: TrainingState,
    batch: PackedBatch,
    numbers: StepNumbers,
    key: PRNGKeyArray,
    groups: tuple[str, ...],
    mesh: Any,
    target: PackedBatch | None = None,
) -> tuple[TrainingState, Losses]:
    """The state after one step of the optimizer on a batch, and the losses of the state before it.

    Args:
      config: what a step does. Static.
      state: given up: its memory is used for the result.
      batch: B users; on a mesh one part a device, each device holding all parameters.
      numbers: the real numbers of a step.
      key: random key of the training.
      groups: which of `GROUPS` are trained; the other stays. Static.
      mesh: what `parallel.make_mesh` returned, or None. Static.
      target: the same as `loss` takes, of the same users, split alike.
    """
    key = jax.random.fold_in(key, state.step)
    trained = {name: value for part in groups for name, value in group(state.parameters, part).items()}

    def of(some: Parameters) -> tuple[Any, Losses]:
        return loss(config, {**state.parameters, **some}, state.prior, batch, numbers, state.step, key, target)

    slope, parts = jax.grad(of, has_aux=True)(trained)
    rate = numbers.learning_rate
    if config.schedule == "cosine":
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * state.step / numbers.total_steps))
    parameters, moments = dict(state.parameters), dict(state.moments)
    for part in groups:
        update, moments[part] = _optimizer(config).update(group(slope, part), state.moments[part])
        for name, change in update.items():
            parameters[name] = parameters[name] - (rate * change).astype(parameters[name].dtype)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(slope)))
    following = TrainingState(parameters, moments, state.prior, state.step + 1)
    return parallel.replicate((following, parts._replace(gradient=norm)), mesh)


def remember(state: TrainingState) -> TrainingState:
    """The state whose composite prior is the encoder of now."""
    return state._replace(prior=jax.tree.map(jnp.copy, group(state.parameters, "encoder")))


def _optimizer(config: StepConfig) -> Any:
    """What makes of a gradient a step of unit learning rate."""
    import optax

    return {
        "adam": optax.scale_by_adam,
        "nadam": partial(optax.scale_by_adam, nesterov=True),
        "momentum": partial(optax.trace, decay=0.9),
        "sgd": optax.identity,
    }[config.optimizer]()
