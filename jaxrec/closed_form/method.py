"""What the closed-form linear autoencoders share: all of a fit but the penalty and the limit of the diagonal."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array

from jaxrec._checks import InputError
from jaxrec.closed_form import by_users, ties
from jaxrec.closed_form.certificate import ROUNDING_LIMIT, certify
from jaxrec.closed_form.gram import default_gram, gram_memory, lower_gram, squared_norms
from jaxrec.closed_form.kernel import Problem, Solution, solve_on_host, weights_in_place
from jaxrec.closed_form.mesh import solve_on_mesh
from jaxrec.closed_form.unexplained import with_exact_diagonal
from jaxrec.data.interactions import Interactions
from jaxrec.fitting import HostOrDevices, Stopwatch
from jaxrec.models import Fitted, ItemWeights
from jaxrec.runtime.memory import Hardware, Needs, Plan, at_peak
from jaxrec.solvers.spd import sweep_layout
from jaxrec.status import Certificate, Status


def settled(problem: Problem, solution: Solution, twins: ties.IdenticalItems) -> Solution:
    """The solution as it is certified and returned: with twins tied, and a diagonal that rounding has not spoilt."""
    unexplained = ties.tie_entries(np.asarray(solution.unexplained), twins)
    return with_exact_diagonal(problem, Solution(ties.tie(solution.weights, twins), unexplained))


@dataclasses.dataclass(frozen=True, repr=False)
class ClosedForm(HostOrDevices):
    """A method whose answer is B = I - C D(s): all of `fit` and `plan` but its penalty and its diagonal limit.

    Attributes:
      solver: "host" works in place in the memory of one I x I matrix on the CPU; "jax" runs the JAX kernel, in place
        too, on the default device; "auto" takes "host" where the default device is a CPU, else "jax".
      dtype: "float32", or "float64" for nearly collinear items ("host" only).
    """

    # Whether the model is the optimum itself on the data as given, which closed-form updates rely on.
    exact_updates: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Classes that change what is solved, or the solution, do not promise exact updates."""
        super().__init_subclass__(**kwargs)
        hooks = ("fit", "training_data", "problem", "transform_weights")
        if any(getattr(cls, hook) is not getattr(ClosedForm, hook) for hook in hooks):
            cls.exact_updates = False

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

    def problem(self, train: Interactions) -> Problem:
        """What is minimised, but for the Gram matrix."""
        x = self.training_data(train)
        gram_diagonal = squared_norms(x)
        return Problem(x, gram_diagonal, self.penalty(gram_diagonal), self.diagonal_limit)

    def transform_weights(self, problem: Problem, solution: Solution) -> tuple[np.ndarray | Array, Any]:
        """([I, I] the model's weights, made of the optimum's in place; the optimum seen through them).

        The second is what anything of `jaxrec.closed_form.products` can be multiplied by; on a mesh both are padded.
        """
        return solution.weights, solution.weights

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted weights with their certificate.

        Args:
          train: U x I interactions X; values other than 1 are used as they are.
          devices: what to split every I x I matrix over by columns: a sequence of devices, or a `jax.sharding.Mesh` of
            any shape (see `jaxrec.runtime.parallel.make_mesh`). None is one device, or the host. On several hosts each
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
        return self._fit(train, devices)

    def gram(self, train: Interactions, devices: Any = None) -> Any:
        """X'X where and as this method wants it.

        On the host [I, I], the lower triangle; on devices [N, N], padded with empty items and split by columns.
        """
        mesh = self._mesh(devices)
        if mesh is None:
            return lower_gram(self.training_data(train), np.dtype(self.dtype))
        return jax.block_until_ready(default_gram(self.training_data(train), mesh))

    def fit_from_gram(self, train: Interactions, gram: Any, devices: Any = None) -> Fitted:
        """What `fit` returns, from the Gram matrix of `train`, so that many fits can share one.

        Args:
          train: U x I interactions X, which the certificate needs.
          gram: from `gram` of a method with the same solver and dtype, on the same devices. Its memory is used up.
          devices: as in `fit`.

        Raises:
          FitError: the result is not certified.
          InputError: the Gram matrix has another size, or lies elsewhere.

        Cost: of `fit` without the Gram matrix.
        """
        mesh, clock = self._mesh(devices), Stopwatch()
        size = train.n_items if mesh is None else sweep_layout(train.n_items, mesh.size).size
        if np.shape(gram) != (size, size) or isinstance(gram, np.ndarray) != (mesh is None):
            raise InputError(
                f"gram must be what `gram` of this method returns for {train.name} and these devices, {size} x {size}, "
                f"got {type(gram).__name__} of shape {np.shape(gram)}."
            )
        return self._certified(train, *self._solve_gram(train, gram, mesh, clock), clock)

    def _solve(self, train: Interactions, mesh: Any, clock: Stopwatch, **_: Any) -> tuple[Any, Certificate]:
        n_users = int(np.count_nonzero(train.user_counts))
        if mesh is None and self._plan_by_users((n_users, train.n_items, train.nnz)):
            problem = self.problem(train)
            with clock.stage("solve"):
                inverse, status = by_users.inverse(problem.x, problem.penalty, np.dtype(self.dtype))
                solution = weights_in_place(inverse, problem.penalty, problem.diagonal_limit)
            model, certificate = self._with_certificate(train, problem, solution, status, clock)
            if certificate.status is Status.OK:  # what is not certified this way may be so the other way
                return model, certificate
            del model, inverse, solution
        with clock.stage("gram"):
            gram = self.gram(train, mesh)
        return self._solve_gram(train, gram, mesh, clock)

    def _solve_gram(self, train: Interactions, gram: Any, mesh: Any, clock: Stopwatch) -> tuple[Any, Certificate]:
        """The model and its certificate from the Gram matrix, whose memory is used up."""
        problem = self.problem(train)
        with clock.stage("solve"):
            if mesh is None:
                solution, status = solve_on_host(gram, problem.penalty, problem.diagonal_limit)
            else:
                with np.errstate(over="ignore"):
                    solution, status = solve_on_mesh(gram, problem.penalty, problem.diagonal_limit, mesh), Status.OK
                jax.block_until_ready(solution)
        return self._with_certificate(train, problem, solution, status, clock)

    def _with_certificate(
        self, train: Interactions, problem: Problem, solution: Solution, status: Status, clock: Stopwatch
    ) -> tuple[Any, Certificate]:
        """The model made of a solution, and its certificate."""
        weights = solution.weights
        with clock.stage("certificate"):
            if status is Status.OK:
                solution = settled(problem, solution, ties.identical_items(train))
                weights, optimum = self.transform_weights(problem, solution)
                solution = solution._replace(weights=optimum)
            certificate = certify(problem, solution, status)
        return ItemWeights(weights, solution.unexplained, padding=len(weights) - train.n_items), certificate

    def _plan(self, shape: tuple[int, int, int], mesh: Any) -> Plan:
        return (self._plan_by_users(shape) if mesh is None else None) or super()._plan(shape, mesh)

    def _plan_by_users(self, shape: tuple[int, int, int]) -> Plan | None:
        """The plan of a fit on the host from a U x U inverse, if that is the way to go.

        It pays; it fits; and the other way fits too, in case that the answer is not certified.
        """
        size = np.dtype(self.dtype).itemsize
        if not by_users.pays(*shape, size) or not (by_items := super()._plan(shape, None)).fits:
            return None
        flops = by_users.cost(*shape)
        seconds = by_items.seconds and by_items.seconds * flops / by_items.flops
        made = dataclasses.replace(by_items, parts=by_users.memory(*shape, size), flops=flops, seconds=seconds)
        return made if made.fits else None

    def _needs(self, n_users: int, n_items: int, nnz: int, on: Hardware, host: bool) -> Needs:
        """Memory and operations of a fit from the Gram matrix."""
        size = np.dtype(self.dtype).itemsize
        if host:
            larger = "a machine with more memory"
            weighted = type(self).training_data is not ClosedForm.training_data
            solving = {
                "Gram matrix, inverse and weights, in one place": size * n_items**2,
                "columns of identical items, or panels of the inverse": 5 * size * n_items * min(ties.CHUNK, n_items),
                "sparse data, twice": 24 * nnz + 16 * (n_users + n_items),
            }
            parts = at_peak(gram_memory(n_users, n_items, nnz, size, weighted), solving)
            flops = float(n_items) ** 3
        else:
            larger = "more devices, or larger ones"
            layout = sweep_layout(n_items, on.count)
            own = layout.size // on.count
            panels = size * (2 * layout.size * layout.block + own * (layout.block + layout.chunk))
            parts = {"Gram matrix, inverse and weights, in one place": size * layout.size * own * on.on_host}
            if on.platform == "cpu":  # where the Gram matrix comes from the host
                parts["panels of the inverse"] = panels * on.on_host
                parts["Gram matrix on the host"] = size * n_items**2
                parts |= on.working()
            else:
                parts["panels of the inverse, or users made dense"] = max(panels, 5 * 2**26) * on.on_host
            # One bfloat16 pass for 0/1 data, where full precision takes six; on a CPU sparse products, far fewer flops.
            gram_flops = 0 if on.platform == "cpu" else 2.0 * n_users * layout.size**2 / 6
            flops = 2.0 * layout.size**3 + gram_flops
        return Needs(parts, flops, f"use {larger}, or fewer items (drop those with the fewest users)")

    def _advice(self, certificate: Certificate, train: Interactions) -> str:
        """What to change, in one sentence."""
        problem = self.problem(train)
        limits = np.finfo(self.dtype)
        eps, most = float(limits.eps), float(problem.gram_diagonal.max())
        least, largest = float(problem.penalty.min()), float(problem.penalty.max())
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
