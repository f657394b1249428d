"""What a fit will need, and what there is, before anything is allocated."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import re
from typing import Any, NamedTuple

import jax

from jaxrec._checks import InputError, shown
from jaxrec.runtime import cgroups, parallel
from jaxrec.runtime.threads import n_threads
from jaxrec.status import FitError, Status

GB = 1e9
UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}
# Sustained float32 rates for rough times, in flops per second: a CPU core with AVX-512 (measured), and, on paper,
# 70 % of the published peak of a GPU, or 50 % of a TPU chip's bfloat16 peak over the 6 passes of full precision.
CPU_CORE_RATE = 1.0e11
DEVICE_RATES = {"H100": 4.7e13, "H200": 4.7e13, "A100": 1.4e13, "v5 lite": 1.6e13, "v5e": 1.6e13, "v2": 1.9e12}
# Published memory of devices that are not at hand, of which a process gets about nine tenths.
DEVICE_GB = {"h200": 141, "h100": 80, "a100": 80, "v5e": 16, "v2": 8}
USABLE = 0.9
# What a fit by JAX takes on a CPU beside its arrays, in bytes: compiled programs, and pieces below the 32 MB from which
# the allocator gives memory back, which each of XLA's threads keeps. A training has about twice as many programs.
JAX_WORKING = 100_000_000
# Of a thread, in bytes of address space: its stack, and the heap that the allocator gives it; and how many threads a
# core XLA, two copies of OpenBLAS and this library start in all.
THREAD_RESERVES = 72 * 2**20
THREADS_A_CORE = 8
# How XLA, Python's threads and the dynamic loader say that there is no more memory.
OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "Out of memory",
    "can't start new thread",
    "cannot allocate memory",
    "failed to map segment",
)


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The devices a plan is for.

    Attributes:
      device_kind: what each is.
      platform: "cpu", "gpu" or "tpu".
      count: D, how many share the work.
      on_host: how many of them share the memory of one host: simulated devices; 1 where each has its own.
      available: bytes free to each (or to all on one host), or None if that cannot be found out.
    """

    device_kind: str
    platform: str
    count: int
    on_host: int
    available: int | None

    @property
    def where(self) -> str:
        """The devices in words."""
        if self.platform == "cpu":
            return "host" if self.count == 1 else f"host, on {self.count} CPU devices"
        return self.device_kind if self.count == 1 else f"{self.count} x {self.device_kind}, on each"

    def working(self, times: int = 1) -> dict[str, int]:
        """The part of a plan that is there whatever the size: `JAX_WORKING`, on a CPU."""
        return {"compiled programs, and what threads keep": times * JAX_WORKING} if self.platform == "cpu" else {}

    def share(self, size: int) -> int:
        """Of an array of so many bytes that is split over all devices, what lies in one memory."""
        return -(-size // self.count) * self.on_host


def hardware(devices: Any = None) -> Hardware:
    """The devices of a mesh, or those that a text such as "8xH100" or "v5e" names, here or not.

    Args:
      devices: a mesh, a sequence of devices, a text; or None, the default device.

    Raises:
      InputError: the text names no known device, or the devices make no mesh.
    """
    if devices is None:
        devices = jax.devices()[:1]
    if isinstance(devices, str):
        count, _, kind = devices.lower().rpartition("x")
        if kind not in DEVICE_GB or not re.fullmatch(r"[0-9]{0,9}", count) or int(count or 1) < 1:
            raise InputError(
                f"devices must be a mesh, or a count and one of {', '.join(DEVICE_GB)} as in '8xh100', got "
                f"{shown(devices)}."
            )
        platform = "tpu" if kind.startswith("v") else "gpu"
        return Hardware(kind, platform, int(count or 1), 1, int(USABLE * DEVICE_GB[kind] * GB))
    flat = list(parallel.make_mesh(devices).devices.flat)
    own = [device for device in flat if device.process_index == jax.process_index()] or flat
    on_host = len(own) if own[0].platform == "cpu" else 1
    return Hardware(own[0].device_kind, own[0].platform, len(flat), on_host, available_bytes(own[0]))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What fitting a method takes, estimated without allocating.

    Attributes:
      method: the configured method, as text.
      shape: (users, items, interactions).
      where: "host" or the kind of the device that holds the arrays.
      parts: bytes of each large array that is alive at the peak, by what it is.
      available: bytes free there now, or None if that cannot be found out.
      flops: floating-point operations of the fit.
      seconds: rough time of these at a typical rate for the machine, or None for an unknown device.
      advice: what to use instead if it does not fit.
    """

    method: str
    shape: tuple[int, int, int]
    where: str
    parts: dict[str, int]
    available: int | None
    flops: float
    seconds: float | None
    advice: str

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the peak is below what is available; True if that is unknown."""
        return self.available is None or self.total <= self.available

    def require(self) -> None:
        """Raises a `FitError` that holds this estimate, if the fit does not fit."""
        if not self.fits:
            raise FitError(
                Status.DOES_NOT_FIT,
                f"{self.method} on {self.shape[1]:,} items needs {self.total / GB:.1f} GB on the {self.where}, where "
                f"{(self.available or 0) / GB:.1f} GB are free; {self.advice}.",
            )

    def ran_out(self) -> FitError:
        """What is raised where the fit was begun, and could not have its memory."""
        return FitError(
            Status.DOES_NOT_FIT,
            f"{self.method} on {self.shape[1]:,} items ran out of memory on the {self.where}, of which it needs "
            f"{self.total / GB:.1f} GB by estimate; {self.advice}.",
        )

    def __str__(self) -> str:
        users, items, nnz = self.shape
        lines = [f"{self.method} on {users:,} users x {items:,} items, {nnz:,} interactions ({self.where})"]
        lines += [f"  {size / GB:10.3f} GB  {part}" for part, size in self.parts.items()]
        lines += [f"  {self.total / GB:10.3f} GB  at the peak"]
        if self.available is not None:
            lines += [f"  {self.available / GB:10.3f} GB  free now"]
        if self.seconds is not None:
            number, unit = next((self.seconds / s, u) for u, s in UNITS.items() if self.seconds >= s or s == 1)
            lines += [f"  {number:10.1f} {unit:<3} roughly ({self.flops:.2g} flops)"]
        return "\n".join([*lines, "  fits" if self.fits else f"  does not fit: {self.advice}"])


class Needs(NamedTuple):
    """What a fit takes on given hardware.

    Attributes:
      parts: bytes of each large array that is alive at the peak, on each device, by what it is.
      flops: floating-point operations in all.
      advice: what to use instead if it does not fit.
      seconds: rough time, if it is not the operations at the typical rate of the hardware.
    """

    parts: dict[str, int]
    flops: float
    advice: str
    seconds: float | None = None


def at_peak(*stages: dict[str, int]) -> dict[str, int]:
    """The parts of the stage of a fit that takes the most; the stages do not overlap."""
    return max(stages, key=lambda parts: sum(parts.values()))


def plan_on(on: Hardware, method: Any, shape: tuple[int, int, int], needs: Needs) -> Plan:
    """The plan of a fit to data of this shape with these needs."""
    seconds = rough_seconds(needs.flops, on)
    if needs.seconds is not None:
        seconds = needs.seconds
    elif seconds is not None and on.platform != "cpu":  # simulated devices share the cores of one
        seconds /= on.count
    parts = {part: int(size) for part, size in needs.parts.items()}
    return Plan(str(method), shape, on.where, parts, on.available, needs.flops, seconds, needs.advice)


def available_bytes(device: Any = None) -> int | None:
    """Bytes that can be allocated now: on the JAX `device`, or in host memory if it is None or a CPU.

    Host memory is what the kernel calls available, or what is left of the container's limit, or of the limit that the
    process has been given (`ulimit -v`), if that is less.
    """
    if device is not None and device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None
    found = (_meminfo_available(), cgroups.memory_left(), _address_space_left())
    found = [size for size in found if size is not None]
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    return min(found, default=None)


def says_that_memory_ran_out(error: BaseException) -> bool:
    """Whether this is how NumPy, XLA, the system or its threads say that there is no more memory."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # XLA's error is a RuntimeError, and so is what Python raises for a thread without memory for its stack.
    return isinstance(error, (RuntimeError, ImportError)) and any(text in str(error) for text in OUT_OF_MEMORY)


def require_memory(size: int, what: str) -> None:
    """Refuses what takes `size` bytes, if so many are not free; `what` begins the sentence, with a plural."""
    if (free := available_bytes()) is not None and size > free:
        raise InputError(f"{what} need {size / GB:,.1f} GB of memory, where {free / GB:,.1f} GB are free.")


def rough_seconds(flops: float, device: Any = None) -> float | None:
    """Seconds for so many float32 flops at a typical rate; None for a device of unknown kind."""
    if device is None or device.platform == "cpu":
        return flops / (CPU_CORE_RATE * n_threads())
    rates = [rate for kind, rate in DEVICE_RATES.items() if kind.lower() in device.device_kind.lower()]
    return flops / rates[0] if rates else None


def _meminfo_available() -> int | None:
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _address_space_left() -> int | None:
    """What is left of the address space that the process may have; None if that is not limited.

    Less what threads that are still to come will reserve of it, used or not.
    """
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        threads = len(os.listdir("/proc/self/task"))
    except (ImportError, OSError, ValueError):
        return None
    to_come = max(0, THREADS_A_CORE * n_threads() - threads) * THREAD_RESERVES
    return max(0, limit - pages * os.sysconf("SC_PAGE_SIZE") - to_come)
