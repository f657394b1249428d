"""The frame around every fit: what is refused, where it is computed, whether it fits, what it took, what is certified.

A method is a frozen dataclass of hyper-parameters that inherits from `Method` and writes what is its own: `_solve`, the
model with its certificate; `_needs`, the memory and flops of that; `_advice`, what to change where it failed.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door, kind
from jaxrec.data.interactions import Interactions
from jaxrec.models import FitInfo, Fitted, with_items
from jaxrec.runtime import forking, parallel, programs
from jaxrec.runtime.memory import Hardware, Needs, Plan, hardware, plan_on, says_that_memory_ran_out
from jaxrec.status import Certificate, FitError, Status

PUBLIC = {"fit", "fit_from_gram", "gram", "plan", "cell_weights", "problem"}  # what methods have of them are doors


class Stopwatch:
    """Wall-clock seconds of named stages.

    Attributes:
      seconds: of each stage that is over, by name, in order.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the body of a `with` statement."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun


@kind("gram: Any")
def _gram(name: str, value: Any) -> Any:
    """A square matrix of floating-point numbers, on the host or on devices."""
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 2 and value.shape[0] == value.shape[1]:
        if jax.numpy.issubdtype(value.dtype, jax.numpy.floating):
            return value
    raise InputError(f"{name} must be what the method's gram(train) returned, got {_checks.briefly(value)}.")


@dataclasses.dataclass(frozen=True, repr=False)
class Method(abc.ABC):
    """A frozen dataclass of hyper-parameters that can fit and plan.

    Attributes:
      name: what the command line calls it.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """What a method lets the public call takes what its signature says, whichever class writes it."""
        super().__init_subclass__(**kwargs)
        for name in PUBLIC & vars(cls).keys():
            setattr(cls, name, door(vars(cls)[name]))

    def __post_init__(self):
        _checks.plain_numbers(self)

    def __repr__(self) -> str:
        """The settings of the method, then where and how it is solved if that was asked for."""
        own = [field for field in dataclasses.fields(self) if not field.kw_only]
        how = [
            field for field in dataclasses.fields(self) if field.kw_only and getattr(self, field.name) != field.default
        ]
        settings = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in own + how)
        return f"{type(self).__name__}({settings})"

    @door
    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted model, and what is known about it.

        Args:
          train: U x I interactions X.
          devices: what to split the work over: a sequence of devices, or a `jax.sharding.Mesh` of any shape (see
            `jaxrec.runtime.parallel.make_mesh`). None is the default device, or the host where that is a CPU.

        Returns:
          Fitted(model, info: FitInfo with certificate and timings).

        Raises:
          InputError: there is nothing to learn from, or the data do not suit the method.
          FitError: the fit does not fit in memory, or its result is not certified; says what to change.

        Cost: see `plan`.
        """
        return self._fit(train, devices)

    @door
    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes, at its peak, on each device; allocates nothing.

        Args:
          n_users: U.
          n_items: I.
          nnz: number of interactions.
          devices: devices or a mesh; or such as "8xH100" or "v5e", which need not be at hand. None is what `fit` takes
            without devices.
        """
        for name, value in {"n_users": n_users, "n_items": n_items, "nnz": nnz}.items():
            _checks.count(name, value, at_least=1)
        return self._plan((n_users, n_items, nnz), devices if isinstance(devices, str) else self._mesh(devices))

    @property
    def on_host(self) -> bool:
        """Whether a fit without devices takes the path of the CPU."""
        return jax.default_backend() == "cpu"

    @abc.abstractmethod
    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **options: Any) -> tuple[Any, Certificate]:
        """The model, which is not looked at where it is not certified, and its certificate.

        Args:
          train: interactions, of which there are some.
          mesh: what `parallel.make_mesh` returned; None is the host.
          clock: takes the time of each stage.
          **options: what the method's own `fit` takes besides.
        """

    @abc.abstractmethod
    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        """Memory and operations of a fit on this hardware; `host`: by the path of the CPU."""

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        """What to change where a fit is not certified, in one sentence."""
        return f"{certificate}; raise reg."

    def _refuse(self, train: Interactions) -> None:
        """Raises an `InputError` where this method cannot learn from these data."""
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")

    def _mesh(self, devices: Any) -> Any:
        """The mesh to compute on; None is the host."""
        if devices is None:
            return None if self.on_host else parallel.default_mesh()
        return parallel.make_mesh(devices)

    def _plan(self, shape: tuple[int, int, int], mesh: Any) -> Plan:
        """The plan of a fit to data of this shape: on a mesh, on devices named by a text, or on the host."""
        on = hardware(jax.devices("cpu")[:1] if mesh is None else mesh)
        return plan_on(on, self, shape, self._needs(*shape, on, mesh is None))

    def _fit(self, train: Interactions, devices: Any, **options: Any) -> Fitted:
        """What `fit` returns; `options` go to `_solve`."""
        forking.require_usable()
        self._refuse(train)
        mesh = self._mesh(devices)
        planned = self._plan((train.n_users, train.n_items, train.nnz), mesh)
        planned.require()
        clock = Stopwatch()
        try:
            with programs.bounded(train.shape):
                model, certificate = self._solve(train, mesh, clock, **options)
            return self._certified(train, model, certificate, clock)
        except Exception as error:
            if not says_that_memory_ran_out(error):
                raise
            raise planned.ran_out() from error

    def _certified(self, train: Interactions, model: Any, certificate: Certificate, clock: Stopwatch) -> Fitted:
        """The model with what is known about it, or a `FitError`."""
        if certificate.status is not Status.OK:
            raise FitError(certificate.status, self._advice(certificate, train))
        info = FitInfo(self, certificate, train.items, train.summary(), clock.seconds)
        return Fitted(with_items(model, train.items), info)


@dataclasses.dataclass(frozen=True, repr=False)
class HostOnly(Method):
    """A method that the host alone works for; devices make no difference, but what is no device is refused."""

    def _mesh(self, devices: Any) -> None:
        super()._mesh(devices)

    def _plan(self, shape: tuple[int, int, int], mesh: Any) -> Plan:
        return super()._plan(shape, None)


@dataclasses.dataclass(frozen=True, repr=False)
class HostOrJax(Method):
    """A method with a solver on the CPU besides the JAX kernels.

    Attributes:
      solver: "host" takes the CPU; "jax" the JAX kernels on the default device; "auto" takes "host" if the default
        device is a CPU, else "jax".
    """

    solver: Literal["auto", "host", "jax"] = dataclasses.field(default="auto", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        _checks.one_of("solver", self.solver, ("auto", "host", "jax"))

    @property
    def on_host(self) -> bool:
        """Whether a fit without devices takes the path of the CPU."""
        return self.solver == "host" or (self.solver == "auto" and jax.default_backend() == "cpu")

    def _mesh(self, devices: Any) -> Any:
        if devices is not None and self.solver == "host":
            raise InputError("solver='host' runs without devices; leave out devices, or the solver.")
        return super()._mesh(devices)


@dataclasses.dataclass(frozen=True, repr=False)
class HostOrDevices(HostOrJax):
    """A method with a solver on the CPU, in either precision, besides the JAX kernel.

    Attributes:
      dtype: "float32", or "float64" for nearly collinear items ("host" only).
    """

    dtype: Literal["float32", "float64"] = dataclasses.field(default="float32", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        _checks.one_of("dtype", self.dtype, ("float32", "float64"))
        if (self.solver, self.dtype) == ("jax", "float64"):
            raise InputError("solver='jax' computes in float32; for dtype='float64' use solver='host'.")

    @property
    def on_host(self) -> bool:
        """Whether a fit without devices takes the path of the CPU."""
        return super().on_host or self.dtype == "float64"

    def _mesh(self, devices: Any) -> Any:
        if devices is not None and (self.solver == "host" or self.dtype == "float64"):
            raise InputError(
                f"devices compute in float32 by the JAX kernel, got solver={self.solver!r} and dtype={self.dtype!r}; "
                "leave out devices, or these."
            )
        return super()._mesh(devices)
