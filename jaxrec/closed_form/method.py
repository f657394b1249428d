"""What the closed-form linear autoencoders share: all of a fit but the penalty and the limit of the diagonal."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form import by_users as dual
from jaxrec.closed_form import ties
from jaxrec.closed_form.certificate import ROUNDING_LIMIT, certify
from jaxrec.closed_form.gram import BLOCK_BYTES, default_gram, lower_gram, squared_norms
from jaxrec.closed_form.kernel import Solution, solve_on_host, weights_in_place
from jaxrec.closed_form.mesh import solve_on_mesh
from jaxrec.data import Interactions
from jaxrec.models import FitInfo, Fitted, ItemWeights
from jaxrec.runtime import parallel
from jaxrec.runtime.memory import Plan, hardware, plan_on
from jaxrec.runtime.threads import n_threads
from jaxrec.solvers.spd import blocks
from jaxrec.status import Certificate, FitError, Status


@dataclasses.dataclass(frozen=True, repr=False)
class ClosedForm(abc.ABC):
    """A method whose answer is B = I - C D(s): all of `fit` and `plan` but its penalty and its diagonal limit.

    Attributes:
      solver: "host" works in place in the memory of one I x I matrix on the CPU; "jax" runs the JAX kernel, in place
        too, on the default device; "auto" takes "host" where the default device is a CPU, else "jax".
      dtype: "float32", or "float64" for nearly collinear items ("host" only).
    """

    solver: Literal["auto", "host", "jax"] = dataclasses.field(default="auto", kw_only=True)
    dtype: Literal["float32", "float64"] = dataclasses.field(default="float32", kw_only=True)

    def __post_init__(self):
        _checks.plain_numbers(self)
        _checks.one_of("solver", self.solver, ("auto", "host", "jax"))
        _checks.one_of("dtype", self.dtype, ("float32", "float64"))
        if (self.solver, self.dtype) == ("jax", "float64"):
            raise InputError("solver='jax' computes in float32; for dtype='float64' use solver='host'.")

    def __repr__(self) -> str:
        """The settings of the method, then where and how it is solved if that was asked for."""
        own = [field for field in dataclasses.fields(self) if not field.kw_only]
        how = [
            field for field in dataclasses.fields(self) if field.kw_only and getattr(self, field.name) != field.default
        ]
        settings = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in own + how)
        return f"{type(self).__name__}({settings})"

    @abc.abstractmethod
    def penalty(self, gram_diagonal: np.ndarray) -> np.ndarray:
        """[I] float64 diagonal of Lambda, from the diagonal [I] of X'X."""

    @property
    def diagonal_limit(self) -> float:
        """The largest diagonal xi: 0 forbids items to predict themselves, 1 leaves them free."""
        return 0.0

    def training_data(self, train: Interactions) -> Interactions:
        """The interactions whose Gram matrix is taken: `train`, or the same with its users weighted."""
        return train

    def penalty_on(self, train: Interactions, gram_diagonal: np.ndarray) -> np.ndarray:
        """[I] the penalty where it depends on more of the data than the diagonal of the Gram matrix."""
        return self.penalty(gram_diagonal)

    def finish(
        self, train: Interactions, solution: Solution, penalty: np.ndarray, gram_diagonal: np.ndarray
    ) -> np.ndarray | Array:
        """[I, I] the model's weights from the certified optimum, whose memory may be reused; on a mesh padded."""
        return solution.weights

    @property
    def is_plain(self) -> bool:
        """Whether the model is the optimum itself on the data as given, which closed-form updates rely on."""
        hooks = ("fit", "training_data", "penalty_on", "finish")
        return all(getattr(type(self), hook) is getattr(ClosedForm, hook) for hook in hooks)

    @property
    def on_host(self) -> bool:
        """Whether `fit` takes the in-place CPU path."""
        return self.solver == "host" or (
            self.solver == "auto" and (jax.default_backend() == "cpu" or self.dtype == "float64")
        )

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted weights with their certificate.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.
          devices: what to split every I x I matrix over by columns: a `jax.sharding.Mesh` of any shape, or a sequence
            of devices (see `jaxrec.runtime.parallel.make_mesh`). None is one device, or the host. On several hosts each
            calls this with the same data and the same devices.

        Returns:
          Fitted(model: ItemWeights, info: FitInfo with certificate and timings).

        Raises:
          FitError: the fit does not fit in memory, or its result is not certified; says what to change.
          InputError: there is nothing to learn from.

        Cost: see `plan`; on the host the sum over users of len(history)^2, and I^3 flops at GEMM speed; or what
        `jaxrec.closed_form.by_users` says where users are so much fewer than items that this is cheaper, and memory
        allows it.
        """
        if train.nnz == 0:
            raise InputError(f"{train.name}: there are no interactions to learn from.")
        mesh = self._mesh(devices)
        if mesh is None and self._plan_by_users(int(np.count_nonzero(train.user_counts)), train.n_items, train.nnz):
            with contextlib.suppress(FitError):  # what is not certified this way may be so the other way
                return self._fit(train, self._solve_by_users)
        self._plan_by_items(train.n_users, train.n_items, train.nnz, mesh).require()
        begun = time.perf_counter()
        gram = self.gram(train, devices)
        seconds = {"gram": time.perf_counter() - begun}
        model, info = self.fit_from_gram(train, gram, devices)
        return Fitted(model, dataclasses.replace(info, seconds=seconds | info.seconds))

    def gram(self, train: Interactions, devices: Any = None) -> Any:
        """X'X where and as this method wants it.

        On the host [I, I], the lower triangle; on a mesh [N, N], padded with empty items and split by columns.
        """
        mesh = self._mesh(devices)
        if mesh is None:
            return lower_gram(self.training_data(train), np.dtype(self.dtype))
        return jax.block_until_ready(default_gram(self.training_data(train), mesh))

    def fit_from_gram(self, train: Interactions, gram: Any, devices: Any = None) -> Fitted:
        """What `fit` returns, from the Gram matrix of `train`, so that many fits can share one.

        Args:
          train: U x I interactions X, which the certificate needs.
          gram: from `gram` of a method with the same solver, dtype and mesh. Its memory is used up.
          devices: as in `fit`.

        Raises:
          FitError: the result is not certified.

        Cost: that of `fit` without the Gram matrix.
        """
        mesh = self._mesh(devices)
        cut = blocks(train.n_items, mesh.size) if mesh else None

        def solve_from_gram(_: Interactions, penalty: np.ndarray) -> tuple[Solution, Status]:
            if cut is None:
                return solve_on_host(gram, penalty, self.diagonal_limit)
            with np.errstate(over="ignore"):
                solution = Solution(*solve_on_mesh(gram, penalty, self.diagonal_limit, mesh, cut))
            return jax.block_until_ready(solution), Status.OK

        return self._fit(train, solve_from_gram, cut.size - train.n_items if cut else 0)

    def _solve_by_users(self, x: Interactions, penalty: np.ndarray) -> tuple[Solution, Status]:
        inverse, status = dual.inverse(x, penalty, np.dtype(self.dtype))
        return weights_in_place(inverse, penalty, self.diagonal_limit), status

    def _fit(self, train: Interactions, solver: Callable[..., tuple[Solution, Status]], padding: int = 0) -> Fitted:
        """The certified and finished answer of a solver, given the data and the penalty, on so many items too many."""
        seconds = {}
        x = self.training_data(train)
        gram_diagonal = squared_norms(x)
        penalty = self.penalty_on(train, gram_diagonal)
        begun = time.perf_counter()
        solution, status = solver(x, penalty)
        seconds["solve"] = time.perf_counter() - begun

        begun = time.perf_counter()
        certificate = certify(x, solution, penalty, gram_diagonal, self.diagonal_limit, status)
        seconds["certificate"] = time.perf_counter() - begun
        if certificate.status is not Status.OK:
            raise FitError(certificate.status, self._advice(certificate, penalty, gram_diagonal))
        weights = ties.tie(self.finish(train, solution, penalty, gram_diagonal), ties.twins_of(train))
        model = ItemWeights(weights, solution.unexplained, padding=padding)
        return Fitted(model, FitInfo(self, certificate, train.items, train.summary(), seconds))

    def _mesh(self, devices: Any) -> Any:
        """The mesh to compute on; None is the in-place CPU path."""
        if devices is None:
            return None if self.on_host else parallel.make_mesh(list(jnp.zeros(()).devices()))  # the default device
        _checks.runs_on_a_mesh(self.solver, self.dtype)
        return parallel.make_mesh(devices)

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes, at its peak, on each device.

        Args:
          n_users: U, of those with interactions.
          n_items: I.
          nnz: number of interactions.
          devices: a mesh or its devices; or such as "8xH100" or "v5e", which need not be at hand; None is what `fit`
            takes without a mesh.
        """
        mesh = devices if isinstance(devices, str) else self._mesh(devices)
        by_users = self._plan_by_users(n_users, n_items, nnz) if mesh is None else None
        return by_users or self._plan_by_items(n_users, n_items, nnz, mesh)

    def _plan_by_users(self, n_users: int, n_items: int, nnz: int) -> Plan | None:
        """The plan of a fit on the host from a U x U inverse, if that is the way to go.

        It pays; it fits; and the other way fits too, in case that the answer is not certified.
        """
        shape, size = (n_users, n_items, nnz), np.dtype(self.dtype).itemsize
        if not dual.pays(*shape, size) or not self._plan_by_items(*shape, None).fits:
            return None
        parts, flops = dual.memory(*shape, size), dual.cost(*shape)
        made = plan_on(hardware(jax.devices("cpu")[:1]), self, shape, parts, flops, "")
        return made if made.fits else None

    def _plan_by_items(self, n_users: int, n_items: int, nnz: int, mesh: Any) -> Plan:
        """The plan of a fit from the Gram matrix, on a mesh or, where it is None, on the host."""
        size = np.dtype(self.dtype).itemsize
        if mesh is None:
            found, larger = hardware(jax.devices("cpu")[:1]), "a machine with more memory"
            parts = {
                "Gram matrix, inverse and weights, in one place": size * n_items**2,
                "panels of the inverse": 2 * size * n_items * min(512, n_items),
                "blocks of the Gram matrix": n_threads() * min(2 * BLOCK_BYTES, size * n_items**2),
                "sparse data, twice": 24 * nnz + 16 * (n_users + n_items),
            }
            flops = float(n_items) ** 3
        else:
            found, larger = hardware(mesh), "more devices, or larger ones"
            cut = blocks(n_items, found.count)
            own = cut.size // found.count
            panels = 2 * cut.size * cut.block + own * (cut.block + cut.chunk)
            parts = {
                "Gram matrix, inverse and weights, in one place": size * cut.size * own * found.on_host,
                "panels of the inverse, or users made dense": max(size * panels, 5 * 2**26) * found.on_host,
            }
            # One bfloat16 pass for 0/1 data, where full precision takes six; on a CPU sparse products, far fewer flops.
            gram_flops = 0 if found.platform == "cpu" else 2.0 * n_users * cut.size**2 / 6
            flops = 2.0 * cut.size**3 + gram_flops
        advice = f"use {larger}, or fewer items (drop those with the fewest users)"
        return plan_on(found, self, (n_users, n_items, nnz), parts, flops, advice)

    def _advice(self, certificate: Certificate, penalty: np.ndarray, gram_diagonal: np.ndarray) -> str:
        """What to change, in one sentence."""
        limits = np.finfo(self.dtype)
        eps, most = float(limits.eps), float(gram_diagonal.max())
        least, largest = float(penalty.min()), float(penalty.max())
        # The inverse holds products of two of them.
        if not (most > float(limits.tiny) ** 0.5 and most + largest < float(limits.max) ** 0.5):
            return (
                f"the squared values (up to {most:.1g} an item) and reg = {least:g} leave the range of {self.dtype}: "
                "multiply the values by some s and reg by s^2, which changes no weight."
            )
        enough = max(2 * least, eps / ROUNDING_LIMIT * most)
        also = "" if self.dtype == "float64" else f", or use {type(self).__name__}(dtype='float64')"
        return (
            f"{self.dtype} cannot resolve these items at reg = {least:g} ({certificate}); some are copies or "
            f"combinations of others: raise reg, to {enough:.1g} at least{also}, or drop duplicate items."
        )
