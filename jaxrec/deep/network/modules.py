"""The networks as Flax NNX modules. This file alone imports flax; it is imported when a network is first needed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrec.data.batching import PackedBatch
from jaxrec.deep.network.architecture import Architecture
from jaxrec.solvers.columns import HIGHEST

NORM_EPSILON = 0.1  # RecVAE's
BIAS_STD = 0.001  # Mult-VAE's
TINY = 1e-12
GATHERED_AT_ONCE = 2**25  # numbers, when the first layer gathers: 128 MB
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "sigmoid": jax.nn.sigmoid,
    "swish": jax.nn.swish,
    "selu": jax.nn.selu,
    "elu": jax.nn.elu,
}


class Dense(nnx.Module):
    """x W + b; sums in float32 (or float64) whatever the type of the factors."""

    def __init__(self, n_in: int, n_out: int, architecture: Architecture, own_kernel: bool = True):
        self.compute = architecture.compute
        self.kernel: Any = nnx.Param(jnp.zeros((n_in, n_out), architecture.parameters)) if own_kernel else None
        self.bias: Any = nnx.Param(jnp.zeros(n_out, architecture.parameters)) if architecture.bias else None

    def __call__(self, x: jax.Array, kernel: Any = None) -> jax.Array:
        """[B, n_out]; `kernel` stands in for one of its own."""
        return self.shifted(self.product(x, self.kernel[...] if kernel is None else kernel))

    def product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """[B, n_out] x W."""
        x, kernel = x.astype(self.compute), kernel.astype(self.compute)
        return jnp.matmul(x, kernel, precision=HIGHEST, preferred_element_type=_wide(self.compute))

    def gather(self, history: PackedBatch) -> jax.Array:
        """[B, n_out] x W + b of sparse rows: a product for every entry and output, `GATHERED_AT_ONCE` at a time.

        A training batch fits in one go, as it should: going backwards each go writes the whole gradient of W.
        """
        kernel = self.kernel[...].astype(self.compute)
        parts, length = history.items.shape
        size = min(length, max(1, GATHERED_AT_ONCE // (parts * kernel.shape[1])))

        def product(some: PackedBatch) -> jax.Array:
            values = some.values.astype(self.compute).astype(_wide(self.compute))
            return some.totals(values[:, :, None] * kernel[some.items])

        if size == length:
            return self.shifted(product(history))
        pieces = history.pieces(size)
        start = jnp.zeros((history.rows.size, kernel.shape[1]), _wide(self.compute))
        return self.shifted(jax.lax.scan(lambda total, some: (total + product(some), None), start, pieces)[0])

    def shifted(self, rows: jax.Array) -> jax.Array:
        """[B, n_out] the rows plus the bias, if there is one."""
        return rows if self.bias is None else rows + self.bias[...].astype(rows.dtype)[None, :]


class Norm(nnx.Module):
    """Layer normalisation: (h - mean) / sqrt(variance + 0.1), scaled and shifted."""

    def __init__(self, width: int, architecture: Architecture):
        self.scale = nnx.Param(jnp.ones(width, architecture.parameters))
        self.bias = nnx.Param(jnp.zeros(width, architecture.parameters))

    def __call__(self, h: jax.Array) -> jax.Array:
        """[B, n]."""
        centred = h - jnp.mean(h, axis=1, keepdims=True)
        unit = centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=1, keepdims=True) + NORM_EPSILON)
        return unit * self.scale[...].astype(h.dtype)[None, :] + self.bias[...].astype(h.dtype)[None, :]


class Stack(nnx.Module):
    """Layers one after the other, all but the last with the activation; `dense` adds all earlier ones to each."""

    def __init__(self, sizes: tuple[tuple[int, int], ...], architecture: Architecture, own_kernels: bool = True):
        self.layers = nnx.List([Dense(a, b, architecture, own_kernels) for a, b in sizes])
        hidden = [b for _, b in sizes[:-1]] if architecture.body == "dense" else []
        self.norms = nnx.List([Norm(width, architecture) for width in hidden])
        self.activation = architecture.activation

    def __call__(
        self, first: Callable[[Dense], Any], drop: Callable[[Any, int], Any], kernels: Any = None
    ) -> jax.Array:
        """[B, n] outputs of the last layer.

        Args:
          first: what the first layer makes of the input.
          drop: what is done to the outputs of each hidden layer, given its number.
          kernels: in place of the layers' own.
        """
        act, before = ACTIVATIONS[self.activation], []
        h: Any = None
        for number, layer in enumerate(self.layers):
            h = first(layer) if number == 0 else layer(h, None if kernels is None else kernels[number])
            if number == len(self.layers) - 1:
                return h
            if len(self.norms):
                h = self.norms[number](act(sum(before, start=h)))
                before.append(h)
            else:
                h = act(h)
            h = drop(h, number)
        return h


class NetworkModule(nnx.Module):
    """An autoencoder: `encode` to a code, `decode` to a score for each item."""

    def __init__(self, architecture: Architecture):
        inner = architecture.widths[: len(architecture.encoder)]
        if architecture.code == "gaussian":
            inner = (*inner[:-1], (inner[-1][0], 2 * inner[-1][1]))
        self.architecture = architecture
        self.encoder = Stack(inner, architecture) if inner else None
        plain = architecture.widths[len(architecture.encoder) :]
        self.decoder = Stack(plain, dataclasses.replace(architecture, body="plain"), own_kernels=not architecture.tied)

    def encode(self, history: PackedBatch, drop: Callable[[Any, int], Any]) -> tuple[Any, Any]:
        """[B, K] the code, or the mean of a gaussian one, and its [B, K] log variance, else None."""
        if self.encoder is None:
            return history.dense(self.architecture.n_items, _wide(self.architecture.compute)), None
        h = self.encoder(lambda layer: self.enter(layer, history), drop)
        if self.architecture.code == "gaussian":
            mean, log_variance = jnp.split(h, 2, axis=1)
            return mean, log_variance
        return (ACTIVATIONS[self.architecture.activation](h) if self.architecture.code == "activated" else h), None

    def enter(self, layer: Dense, history: PackedBatch) -> jax.Array:
        """[B, n] the first layer on sparse rows."""
        if self.architecture.gathers(history.entries_per_row):
            return layer.gather(history)
        return layer(history.dense(self.architecture.n_items, jnp.dtype(self.architecture.compute)))

    def decode(self, code: jax.Array, drop: Callable[[Any, int], Any]) -> jax.Array:
        """[B, I] one output an item."""
        kernels = None
        if self.architecture.tied and self.encoder is not None:
            kernels = [layer.kernel[...].T for layer in reversed(list(self.encoder.layers))]
        return self.decoder(lambda layer: layer(code, kernels and kernels[0]), drop, kernels)

    def score(self, history: PackedBatch) -> jax.Array:
        """[B, I] outputs without noise: no dropout, the mean of the code."""
        code, _ = self.encode(normalized(history) if self.architecture.normalize else history, keep)
        return self.decode(code, keep)


def normalized(history: PackedBatch) -> PackedBatch:
    """The rows scaled to length 1; empty ones stay empty."""
    length = jnp.sqrt(jnp.maximum(history.totals(history.values**2), TINY))
    return history.replaced(history.values / history.spread(length))


def init(architecture: Architecture, key: jax.Array) -> dict[str, np.ndarray]:
    """The random parameters of a network, by dotted names such as "encoder.layers.0.kernel".

    They are drawn on the host, one after the other from the words of the key: on every device and mesh the same.
    """
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    _, state = skeleton(architecture)
    parameters, fan_in = {}, 1
    for path, leaf in sorted(nnx.to_flat_state(state), key=lambda pair: (pair[0][:-1], pair[0][-1] != "kernel")):
        size, kind = leaf.shape, path[-1]
        if kind == "kernel":
            fan_in = size[0]
            bound = math.sqrt(6 / sum(size)) if architecture.init == "glorot" else fan_in**-0.5
            values = draw.uniform(-bound, bound, size)
        elif "norms" in path:
            values = np.full(size, float(kind == "scale"))
        elif architecture.init == "glorot":
            values = BIAS_STD * np.clip(draw.normal(size=size), -2, 2)
        else:
            values = draw.uniform(-(fan_in**-0.5), fan_in**-0.5, size)
        parameters[_name(path)] = values.astype(leaf.dtype)
    return parameters


@lru_cache(maxsize=64)
def skeleton(architecture: Architecture) -> tuple[Any, Any]:
    """The graph definition of a network, and its state without numbers."""
    return nnx.split(nnx.eval_shape(lambda: NetworkModule(architecture)))


def merged(architecture: Architecture, parameters: dict[str, Any]) -> NetworkModule:
    """The network with these parameters."""
    graph, state = skeleton(architecture)
    flat = {path: leaf.replace(parameters[_name(path)]) for path, leaf in nnx.to_flat_state(state)}
    return nnx.merge(graph, nnx.from_flat_state(flat))


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _wide(compute: str) -> Any:
    return jnp.promote_types(compute, jnp.float32)


def keep(h: Any, number: int) -> Any:
    """The outputs of a hidden layer as they are: no dropout."""
    return h
