"""Two systems on the same samples: the difference of a metric, with an interval."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import stats

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.conversational.protocols import CONDITIONS, Scores


@dataclasses.dataclass(frozen=True)
class Difference:
    """A metric of a first system less that of a second.

    Attributes:
      mean: over the rows that both have.
      standard_error: of it, samples being what varies by chance; NaN for a single one.
      low: lower end of the interval.
      high: upper end.
      level: the share of such intervals that hold the true difference, for many samples.
      n_rows: how many rows both have: targets or samples, by the protocol.
      n_samples: how many samples these are of.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    level: float
    n_rows: int
    n_samples: int

    def __str__(self) -> str:
        return (
            f"{self.mean:+.4f} ({100 * self.level:g} % interval {self.low:+.4f} to {self.high:+.4f}; {self.n_rows:,} "
            f"rows of {self.n_samples:,} samples)"
        )


def compare(
    first: Scores, second: Scores, metric: str, condition: str = "recommendation", *, level: float = 0.95
) -> Difference:
    """The paired difference of two systems that answered the same samples.

    With d_i the difference in row i, and the n rows in C samples: the mean of d, its standard error
    sqrt(C / (C - 1) sum over samples of (sum over their rows of d_i - mean)^2) / n, and mean -+ t times that, by
    Student's t with C - 1 degrees of freedom. Targets of a sample are found together or not, so that rows would count
    them for more than they are; where each sample is a row, this is the usual standard error.

    Args:
      first: by the same protocol as `second`, on the same samples in the same order.
      second: likewise.
      metric: name with cut-off, of those measured.
      condition: "recommendation", "discussion" or "all".
      level: of the interval.

    Raises:
      InputError: the two are not of the same rows, the metric was not measured, or no row is in both.
    """
    _checks.one_of("condition", condition, CONDITIONS)
    _checks.fraction("level", level)
    for name, scores in {"first": first, "second": second}.items():
        if not isinstance(scores, Scores):
            raise InputError(f"{name} must be Scores, what a protocol returns, got {_checks.briefly(scores)}.")
    if first.protocol != second.protocol or not np.array_equal(first.sample, second.sample):
        raise InputError("both must be of one protocol and the same samples, in the same order; score them alike.")
    of_rows = []
    for scores in (first, second):
        _checks.one_of("metric", metric, tuple(scores.reports[condition].per_user))
        of_rows.append(scores.reports[condition].per_user[metric])
    difference = of_rows[0] - of_rows[1]
    there = ~np.isnan(difference)
    if not there.any():
        raise InputError(f"no row of {condition} is in the figures of both, so there is nothing to compare.")
    difference, samples = difference[there], first.sample[there]
    mean = float(difference.mean())
    _, places = np.unique(samples, return_inverse=True)
    sums = np.bincount(places, difference - mean)
    n_samples = len(sums)
    error = math.nan
    if n_samples > 1:
        error = math.sqrt(n_samples / (n_samples - 1) * float(sums @ sums)) / len(difference)
    reach = float(stats.t.ppf((1 + level) / 2, n_samples - 1)) * error if n_samples > 1 else math.nan
    return Difference(mean, error, mean - reach, mean + reach, level, len(difference), n_samples)
