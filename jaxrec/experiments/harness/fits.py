"""Fits: one that a machine can afford is made, measured on held-out users, and kept in a cell."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxrec.data import Interactions
from jaxrec.data.splits import Split
from jaxrec.evaluation.report import evaluate
from jaxrec.experiments.harness.cells import Cells
from jaxrec.models import Fitted
from jaxrec.runtime.memory import GB
from jaxrec.status import FitError, NothingToLearn, Status

BEST_EPOCH = "best epoch"  # in the certificate of a training that stops early
# Fields of the models.
LEARNED = (
    *("parameters", "weights", "pair_weights", "values", "offset", "encoder", "decoder"),
    *("user_factors", "item_factors", "scores"),
)


class LeftOut(Exception):
    """A fit that this machine, or this scale, cannot afford: no result, and so no cell."""


def fit_and_measure(
    fit: Callable[[], Any],
    parts: Split,
    metrics: Sequence[str],
    also: Callable[[Any], dict[str, Any]] | None = None,
    *,
    keep_users: bool = False,
) -> dict[str, Any]:
    """The result of a fit: its metrics on validation users, if there are any, and on test users, and what it took.

    Args:
      fit: returns what a method's `fit` does, or a `Scorer`.
      parts: whom to measure on.
      metrics: of the test users; of the validation users the first.
      also: what else to record, from what `fit` returned.
      keep_users: records the first metric of every test user, for paired differences.

    Raises:
      LeftOut: it does not fit in memory; any other failure is recorded.
    """
    begun, cpu = time.perf_counter(), time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingToLearn)  # of a grid some settings are too strong; figures tell
            fitted = fit()
    except FitError as error:
        if error.status is Status.DOES_NOT_FIT:
            raise LeftOut(str(error)) from error
        return {"failed": str(error), "seconds": time.perf_counter() - begun}
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    found: dict[str, Any] = {"failed": None}
    if isinstance(fitted, Fitted):
        certificate = fitted.info.certificate
        found |= {"method": str(fitted.info.method), "residual": certificate.residual, "detail": certificate.detail}
        found["numbers"] = sum(
            np.size(leaf) for name in LEARNED for leaf in jax.tree.leaves(getattr(fitted.model, name, None))
        )
        if BEST_EPOCH in certificate.detail:
            found["best_epoch"] = int(certificate.detail[BEST_EPOCH])
    if parts.validation is not None:
        found["validation"] = evaluate(fitted, *parts.validation, metrics[0]).mean[metrics[0]]
    test = evaluate(fitted, *parts.test, metrics)
    found["test"] = {name: [test.mean[name], test.standard_error[name]] for name in metrics}
    if keep_users:
        users = test.per_user[metrics[0]].tolist()
        found["users"] = [round(value, 6) if math.isfinite(value) else None for value in users]
    return found | {"seconds": seconds, "cpu_seconds": cpu} | (also(fitted) if also else {})


def cached(cells: Cells, settings: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The cell for `settings`; what is left out here is not written, since another machine may do it."""
    try:
        return cells.get(settings, compute)
    except LeftOut as error:
        return {"failed": str(error), "seconds": math.nan}


def stops_early(method: Any) -> bool:
    """Whether its `fit` takes validation users, and ends a training by them."""
    return "validation" in inspect.signature(method.fit).parameters


def fit_within(method: Any, parts: Split, budget: float, whole: Interactions | None = None) -> Any:
    """What `method.fit` returns, if its plan, should it have one, is within memory and so many rough seconds.

    Args:
      method: one that stops early is given the validation users.
      parts: the first is learned from.
      budget: rough seconds.
      whole: what the plan is for; default what is learned from.

    Raises:
      LeftOut: it does not fit in memory, or takes longer.
    """
    planned = parts.train if whole is None else whole
    if hasattr(method, "plan"):
        plan = method.plan(planned.n_users, planned.n_items, planned.nnz)
        if not plan.fits:
            free = (plan.available or 0) / GB
            raise LeftOut(f"a fit needs {plan.total / GB:.1f} GB on the {plan.where}, where {free:.1f} GB are free")
        if plan.seconds is not None and plan.seconds > budget:
            raise LeftOut(f"a fit takes roughly {plan.seconds / 60:.0f} minutes, this scale has {budget / 60:.0f}")
    if stops_early(method):
        return method.fit(parts.train, validation=parts.validation)
    return method.fit(parts.train)
