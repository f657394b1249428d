"""Compiled programs of many sizes: how many are kept, and when they are dropped."""

import pathlib
import subprocess
import sys

import jax
import pytest

from jaxrec.runtime import programs

MANY_SIZES = """
import numpy as np, jaxrec
from jaxrec.data import synthetic

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

data, found = synthetic(300, 400), []
for fits in range(20):
    {method}.fit(data.select_items(np.arange(300 - 5 * fits)))
    found.append(resident())
print(found[-1] - found[programs])
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(programs, "_sizes", set())
    monkeypatch.setattr(programs, "SIZES_KEPT", 8)
    dropped = []
    monkeypatch.setattr(jax, "clear_caches", lambda: dropped.append(1))
    return dropped


def fit(size, n_programs=1):
    with programs.bounded(size):
        for _ in range(n_programs):
            jax.jit(lambda x: x + 1).lower(0.0).compile()


def test_the_programs_of_a_few_sizes_are_kept(fresh):
    for size in [*range(programs.SIZES_KEPT), 0, 3]:
        fit(size)
    assert not fresh
    fit(programs.SIZES_KEPT)
    assert len(fresh) == 1 and programs._sizes == {programs.SIZES_KEPT}


def test_fits_that_compile_nothing_do_not_count(fresh):
    for size in range(3 * programs.SIZES_KEPT):
        fit(size, n_programs=0)
    assert not fresh and not programs._sizes


def test_nothing_is_dropped_within_another_fit(fresh):
    for size in range(programs.SIZES_KEPT):
        fit(size)
    with programs.bounded("around"):
        fresh.clear()
        for size in range(100, 100 + 3 * programs.SIZES_KEPT):
            fit(size)
    assert not fresh


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="no /proc")
@pytest.mark.parametrize("method", ["Slim()", "Elsa(rank=16, epochs=2)"])
def test_memory_stays_where_it_is_over_twenty_sizes(method):
    code = MANY_SIZES.format(method="jaxrec." + method).replace("[programs]", f"[{programs.SIZES_KEPT - 1}]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, check=True)
    assert float(done.stdout) < 100, done.stdout
