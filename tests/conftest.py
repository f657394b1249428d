"""Environment of the whole test run, set before NumPy or JAX is imported."""
# ruff: noqa: E402

import atexit
import os
import shutil
import tempfile

# Simulated devices each call threaded OpenBLAS: up to 49x the CPU time on two cores without this.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
# LLVM optimises nothing, in one piece, which takes a third off the time of compiling; XLA's own passes all run. What
# the caller's XLA_FLAGS say comes after and wins, but for the number of devices.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"
)
DEVICES = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = " ".join((QUICK, os.environ.get("XLA_FLAGS", ""), DEVICES))

# A program is compiled once in a run, by whichever worker or subprocess comes first: nearly all the time goes into
# compiling. JAX does not write its files at one stroke; who reads half a file warns (pyproject.toml lets this warning
# pass) and compiles. The process that starts the workers makes the folder and removes it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxrec-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("jaxrec", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("jaxrec")


@pytest.fixture(autouse=True, scope="session")
def keep_all_programs():
    """Programs of all sizes are kept: tests are of many, and some count what was compiled."""
    from jaxrec.runtime import programs

    programs.SIZES_KEPT = 10**6


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
