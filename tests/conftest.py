"""Environment of the whole test run, set before NumPy or JAX is imported."""

import os

# Simulated devices each call threaded OpenBLAS: up to 49x the CPU time on two cores without this.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """float64 in JAX, for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng():
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def data(rng):
    """150 users of three tastes and 24 items, one of which nobody has."""
    from jaxrec import Interactions  # not earlier: jaxtyping checks what is imported after this file

    taste = rng.random((3, 24)) ** 3
    x = rng.random((150, 24)) < taste[rng.integers(0, 3, 150)]
    x[:, 7] = False
    return Interactions.from_triples(*np.nonzero(x), n_users=150, n_items=24)
