"""Plans and the memory they are compared with."""

import pathlib

import jax
import pytest

from jaxrec import Ease, FitError, InputError, Interactions, Plan, Status
from jaxrec.runtime import memory


def example(available):
    return Plan("Toy()", (3, 4, 5), "host", {"a": 600, "b": 400}, available, 2e9, 1.5, "use less")


def test_plan_totals_and_verdict():
    assert example(1000).fits and example(None).fits and not example(999).fits
    example(1000).require()
    with pytest.raises(FitError, match="Toy") as caught:
        example(999).require()
    assert caught.value.status is Status.DOES_NOT_FIT and "use less" in str(caught.value)


def test_plan_prints_its_parts_and_its_verdict():
    assert "1.5 s" in str(example(1000)) and str(example(1000)).endswith("fits")
    assert str(example(999)).endswith("does not fit: use less")
    assert "free now" not in str(example(None))


def test_available_memory_is_below_what_the_machine_has():
    meminfo = pathlib.Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("no /proc/meminfo on this system")
    total = 1024 * int(meminfo.read_text().split("MemTotal:")[1].split()[0])
    assert 0 < memory.available_bytes() <= total


def test_a_container_limit_counts(monkeypatch):
    monkeypatch.setattr(memory.cgroups, "memory_left", lambda: 12345)
    assert memory.available_bytes() == 12345


class Fake:
    platform, device_kind = "gpu", "NVIDIA H100 80GB HBM3"

    def memory_stats(self):
        return {"bytes_limit": 100, "bytes_in_use": 30}


def test_device_memory_and_rates():
    assert memory.available_bytes(Fake()) == 70
    assert memory.rough_seconds(4.7e13, Fake()) == pytest.approx(1)
    Fake.device_kind = "something new"
    assert memory.rough_seconds(1e12, Fake()) is None
    assert memory.rough_seconds(1e12) > 0


def test_a_limit_of_the_address_space_counts(monkeypatch):
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * 4096
    monkeypatch.setattr("resource.getrlimit", lambda which: (used + 10**6, used + 10**6))
    assert memory.available_bytes() <= 10**7
    with pytest.raises(InputError, match=r"the rows need 1.0 GB of memory, where 0.0 GB are free\."):
        memory.require_memory(10**9, "the rows")


@pytest.mark.parametrize("text", ["²xh100", "h200x2", "99999999999xh100", "0xh100"])
def test_devices_in_words_that_are_none(text):
    with pytest.raises(InputError, match="devices must be"):
        memory.hardware(text)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 64000000 bytes."),
        jax.errors.JaxRuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 84032132 bytes."),
        RuntimeError("can't start new thread"),
        ImportError("lib.so: failed to map segment from shared object"),
    ],
)
def test_a_fit_that_cannot_have_its_memory_ends_in_a_sentence(monkeypatch, error):
    def runs_out(*_, **__):
        raise error

    monkeypatch.setattr(Ease, "_solve", runs_out)
    with pytest.raises(FitError, match=r"Ease\(reg=100.0\) on 2 items ran out of memory .* needs 0.0 GB") as caught:
        Ease().fit(Interactions.from_triples([0, 1], [0, 1]))
    assert caught.value.status is Status.DOES_NOT_FIT and caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("INTERNAL: something else"), OSError(2, "no such file")])
def test_other_errors_are_left_alone(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(Ease, "_solve", fails)
    with pytest.raises(type(error), match=str(error.args[-1])):
        Ease().fit(Interactions.from_triples([0, 1], [0, 1]))


def test_the_larger_of_stages_is_planned():
    assert memory.at_peak({"a": 1, "b": 2}, {"c": 4}, {"d": 1}) == {"c": 4}
