"""What a fit says about itself: a status, a certificate, and the error raised when a model must not be used."""

from __future__ import annotations

import dataclasses
import enum
import math

# Largest estimated relative errors with which a model leaves the library: of all of it, and of its worst item.
ERROR_LIMIT, WORST_LIMIT = 1e-2, 3e-2


class Status(enum.Enum):
    """How a fit ended."""

    OK = "ok"
    NOT_POSITIVE_DEFINITE = "not positive definite"
    NOT_FINITE = "not finite"
    RESIDUAL_TOO_LARGE = "residual too large"
    MULTIPLIER_OUT_OF_RANGE = "multiplier out of range"
    ILL_CONDITIONED = "ill-conditioned"
    DOES_NOT_FIT = "does not fit in memory"


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Evidence that a fitted model is the optimum of its stated objective, or that there is none.

    Attributes:
      status: `Status.OK`, or the first check that failed.
      residual: relative stationarity (KKT) residual: the norm of the objective's gradient at the answer over
        its norm at zero. 0 is exact; float32 answers on ordinary data sit between 1e-7 and 1e-4. Of a training by
        gradient steps: the norm of the gradient of a step at the end over that norm at the first step.
      limit: the largest residual with which a model leaves the library; infinity for a training, which is no proof.
      detail: the other figures the method checked, by name.
    """

    status: Status
    residual: float
    limit: float
    detail: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def exact(cls) -> Certificate:
        """The certificate of what is counted and not solved for: there is no error to speak of."""
        return cls(Status.OK, 0.0, 0.0)

    def __str__(self) -> str:
        figures = "".join(f", {name} {value:.3g}" for name, value in self.detail.items())
        if math.isinf(self.limit):
            shown = f"no proof of an optimum, gradient at the end {self.residual:.2g} of that at the start"
        else:
            shown = f"relative KKT residual {self.residual:.1e} (limit {self.limit:.0e})"
        return f"{self.status.value}: {shown}{figures}"


def last_checks(
    residual: float, limit: float, error: float, worst: float, limits: tuple[float, float] = (ERROR_LIMIT, WORST_LIMIT)
) -> Status:
    """The status of a model that passed all other checks: is its residual small enough, and are its estimated errors?

    Args:
      residual: relative.
      limit: of the residual; `RESIDUAL_TOO_LARGE` above.
      error: estimated relative error of the whole model.
      worst: of the item that is worst in it.
      limits: of these; `ILL_CONDITIONED` above.
    """
    if not residual <= limit:
        return Status.RESIDUAL_TOO_LARGE
    if not (error <= limits[0] and worst <= limits[1]):
        return Status.ILL_CONDITIONED
    return Status.OK


class NothingToLearn(UserWarning):
    """The optimum of a fit is that nothing is learned, since its regularization is so strong."""


class FitError(RuntimeError):
    """A fit ended without a usable model.

    Attributes:
      status: what went wrong, as a `Status`.
      advice: what to change, in one sentence.
    """

    def __init__(self, status: Status, advice: str):
        super().__init__(f"fit failed ({status.value}): {advice}")
        self.status = status
        self.advice = advice
