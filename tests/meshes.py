"""Data, shapes and programs for the tests on several devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import Interactions
from jaxrec.runtime import parallel


def spd(n: int, rng) -> np.ndarray:
    x = rng.normal(size=(2 * n + 1, n))
    return x.T @ x / 2 + 3 * np.eye(n)


def random_data(rng, n_users=90, n_items=67, binary=True) -> Interactions:
    x = rng.random((n_users, n_items)) < 0.05 + 0.5 * rng.random(n_items) ** 2
    x[0] = True
    values = None if binary else rng.integers(1, 6, x.sum())
    return Interactions.from_triples(*np.nonzero(x), values, n_users=n_users, n_items=n_items)


def shape_of(shape, mesh, placement=parallel.COLUMNS):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=parallel.sharding(mesh, placement))


def sent(compiled) -> set[tuple[str, str]]:
    """What devices send each other: (collective, type and shape of its result), from the compiled text."""
    collectives = r"(all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast)"
    found = re.findall(rf"= \(?(\w+\[[\d,]*\])[^=]*? {collectives}(?:-start)?\(", compiled.as_text())
    return {(name, shape) for shape, name in found}


def numbers(sent_shape: str) -> int:
    """How many numbers an array such as "f32[16,40]" has."""
    inside = sent_shape[sent_shape.index("[") + 1 : -1]
    return int(np.prod([int(size) for size in inside.split(",") if size], dtype=np.int64))


def most_sent(compiled) -> int:
    return max((numbers(shape) for _, shape in sent(compiled)), default=0)
