"""Choosing hyper-parameters: one Gram matrix, a whole grid of closed forms.

Each value takes an inverse (I^3 flops) and an evaluation. An eigendecomposition G = Q D Q' of X'X does not pay: it
gives diag(C) of any `reg` in I^2 flops, but scores need C itself, and Q (D + reg)^-1 Q' costs the I^3 flops of the
inverse again. Measured at I = 3,706 on one core: the decomposition takes 4.2 s, which is 7.7 inverses of 0.54 s, and
forming one C from it 0.49 to 0.60 s, 0.9 to 1.1 of an inverse. At best it would pay from some 80 values on, and where
the penalty is no multiple of the identity (dropout) it does not apply.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.closed_form.method import ClosedForm
from jaxrec.closed_form.without_user.structure import WithoutUser
from jaxrec.data.interactions import Interactions
from jaxrec.data.splits import SPLITS, Split, per_user_random, split
from jaxrec.evaluation import leave_user_out
from jaxrec.evaluation import metrics as _metrics
from jaxrec.evaluation.held_out import paired
from jaxrec.evaluation.report import Report, evaluate_paired
from jaxrec.methods import METHODS
from jaxrec.models import ItemFactors, ItemWeights, PairWeights, SparseItemWeights
from jaxrec.runtime import parallel
from jaxrec.runtime.plots import new_figure, write
from jaxrec.runtime.progress import progress_bar
from jaxrec.status import FitError

LEAVE_USER_OUT = "leave-user-out"
PROTOCOLS = (LEAVE_USER_OUT, *SPLITS)
RULES = ("best", "one-standard-error")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One point of the grid.

    Attributes:
      method: the configured method.
      report: its evaluation; None where the fit failed.
      size: the norm of the weights between different items, ||zd(B)||_F: the stronger the regularization, the smaller.
        NaN for a model without weights.
      seconds: of fit and evaluation.
      failed: why there is no report, else None.
    """

    method: Any
    report: Report | None
    size: float
    seconds: float
    failed: str | None = None


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What `tune` found; `str` of it is a table, `to_json` a record, `plot` a picture.

    Attributes:
      candidates: all points of the grid, in its order.
      metric: what they are compared by.
      protocol: how they were evaluated, and on whom.
      rule: how one was chosen.
      chosen: the method that was.
      grid: the values by field.
      seconds: wall-clock time of everything, and of the Gram matrices in it.
    """

    candidates: tuple[Candidate, ...]
    metric: str
    protocol: str
    rule: str
    chosen: Any
    grid: dict[str, tuple[float, ...]]
    seconds: dict[str, float]

    @property
    def best(self) -> Candidate:
        """The candidate with the highest mean."""
        return max((c for c in self.candidates if c.report), key=lambda c: c.report.mean[self.metric])  # pyright: ignore

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The settings, mean, standard error, size and mark of each candidate, as text."""
        marks = {id(self.best.method): "best"}
        marks[id(self.chosen)] = "chosen" if self.chosen is not self.best.method else "best, chosen"
        return [
            (
                self.settings(c.method),
                f"{c.report.mean[self.metric]:.5f}" if c.report else "-",
                f"{c.report.standard_error[self.metric]:.5f}" if c.report and self._has_error else "-",
                f"{c.size:.4g}" if math.isfinite(c.size) else "-",
                c.failed.partition(":")[0] if c.failed else marks.get(id(c.method), ""),
            )
            for c in self.candidates
        ]

    @property
    def _has_error(self) -> bool:
        return self.best.report is not None and math.isfinite(self.best.report.standard_error[self.metric])

    def settings(self, method: Any, without: str = "") -> str:
        """The method and its values of the grid, such as "Ease reg=100", but for the field `without`."""
        fields = (field for field in self.grid if field != without)
        return " ".join([type(method).__name__, *(f"{field}={getattr(method, field):g}" for field in fields)])

    def __str__(self) -> str:
        table = [("", self.metric, "std. error", "||B||", ""), *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = [f"{self.protocol}, rule {self.rule}: {len(self.candidates)} fits in {self.seconds['total']:.1f} s"]
        for name, *cells, mark in table:
            figures = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
            lines.append(f"{name:<{widths[0]}}  {figures}  {mark}".rstrip())
        return "\n".join(lines)

    def to_json(self) -> str:
        """The tuning as strictly valid JSON; what is undefined is null."""
        return json.dumps(self.record(), indent=2, ensure_ascii=False, allow_nan=False)

    def record(self) -> dict[str, Any]:
        """The tuning in JSON's own types."""
        return {
            "metric": self.metric,
            "protocol": self.protocol,
            "rule": self.rule,
            "grid": {field: list(values) for field, values in self.grid.items()},
            "chosen": _described(self.chosen),
            "best": _described(self.best.method),
            "candidates": [
                {
                    "method": _described(c.method),
                    "metrics": json.loads(c.report.to_json())["metrics"] if c.report else None,
                    "n_users": c.report.n_users if c.report else None,
                    "weights_norm": c.size if math.isfinite(c.size) else None,
                    "seconds": c.seconds,
                    "failed": c.failed,
                }
                for c in self.candidates
            ],
            "seconds": self.seconds,
        }

    @door
    def plot(self, path: str | os.PathLike) -> None:
        """Writes the curves with their standard errors to an image file; needs matplotlib.

        The first field of the grid with several values runs along the axis; each combination of the others is a line.

        Raises:
          InputError: matplotlib is not installed, or the file name has no known ending.
        """
        figure = new_figure(7.5, 4)
        field = next((name for name, values in self.grid.items() if len(values) > 1), next(iter(self.grid)))
        lines: dict[str, list[tuple[float, float, float]]] = {}
        for c in self.candidates:
            if c.report is not None:
                figures = (getattr(c.method, field), c.report.mean[self.metric], c.report.standard_error[self.metric])
                lines.setdefault(self.settings(c.method, without=field), []).append(figures)
        axes = figure.add_subplot()

        values = self.grid[field]
        if log := min(values) > 0 and max(values) >= 10 * min(values):
            axes.set_xscale("log")

        def beside(x: float, label: str) -> float:
            """Error bars of one value stand a little apart, so that they can be told from each other."""
            shift = (list(lines).index(label) - (len(lines) - 1) / 2) / 100
            return x * (max(values) / min(values)) ** shift if log else x + (max(values) - min(values)) * shift

        for label, points in lines.items():
            x, mean, error = zip(*sorted(points), strict=True)
            x = [beside(value, label) for value in x]
            axes.errorbar(x, mean, np.nan_to_num(error), marker="o", markersize=4, capsize=3, label=label)
        chosen = next(c.report for c in self.candidates if c.method is self.chosen)
        assert chosen is not None
        position = beside(getattr(self.chosen, field), self.settings(self.chosen, without=field))
        style = {"markersize": 11, "markerfacecolor": "none", "color": "black", "label": "chosen"}
        axes.plot(position, chosen.mean[self.metric], "o", **style)
        axes.set(xlabel=field, ylabel=f"{self.metric} (± standard error)", title=self.protocol)
        figure.legend(loc="outside right upper")
        write(figure, path)


@door
def tune(
    methods: Any,
    data: Interactions,
    grid: Mapping[str, Sequence[float]],
    *,
    protocol: str | Split = LEAVE_USER_OUT,
    metric: str = "ndcg@100",
    rule: str = "best",
    test_fraction: float = 0.2,
    seed: int = 0,
    devices: Any = None,
) -> Tuning:
    """The evaluation of every point of a grid of hyper-parameters, and the one to take.

    The Gram matrix is computed once for all closed forms on X'X and all their values; other methods fit as they do.

    Args:
      methods: a configured method such as `Ease()`, the name of one, or a sequence of such.
      data: U x I interactions. What is chosen on them must be reported on others.
      grid: values by field, such as {"reg": [10, 100, 1000]}; with several fields all combinations. Any field that is
        a number may vary.
      protocol: "leave-user-out" (exact, every user of `data` is a test user); or the name of a split, or a `Split`:
        the models are fitted on its training part, and evaluated on its validation users, or on its test part where
        it has no such users, which then must not be reported on.
      metric: by which candidates are compared.
      rule: "best", or "one-standard-error": of those within one standard error of the best, the most regularized one,
        that is the one with the smallest weights.
      test_fraction: of each history, with "leave-user-out".
      seed: of the draw, with "leave-user-out".
      devices: what to split every fit over, as in `Ease.fit`; not with "leave-user-out", which computes on the host.

    Raises:
      InputError: a field, protocol, metric or rule that does not exist; a value out of range; a rule by norms of
        weights for a model that has none; or no candidate could be fitted.

    Cost: one Gram matrix, and an inverse (I^3 flops) and an evaluation for each candidate; two I x I matrices.
    """
    _checks.one_of("rule", rule, RULES)
    if len(parsed := _metrics.parse(metric)) != 1:
        raise InputError(f"metric must be one name with its cut-off, got {_checks.shown(metric)}.")
    (wanted,) = parsed
    if rule != "best" and wanted.name == "coverage":
        raise InputError("coverage is one figure of all rankings, without a standard error; use rule='best'.")
    candidates = _candidates(methods, grid)
    if isinstance(protocol, str):
        _checks.one_of("protocol", protocol, PROTOCOLS)
    begun = time.perf_counter()
    mesh = None if devices is None else parallel.make_mesh(devices)
    if protocol == LEAVE_USER_OUT:
        if mesh is not None:
            raise InputError(f"{LEAVE_USER_OUT} computes on the host; leave out devices, or take another protocol.")
        for method in candidates:
            leave_user_out.check(method)
        train, name = data, f"{LEAVE_USER_OUT}, {data.name}"
        both = leave_user_out.of_users(data, per_user_random(data, test_fraction, seed).test)
    else:
        parts = split(data, protocol) if isinstance(protocol, str) else protocol
        train = parts.train
        both = paired(train.items, train.n_items, *(parts.validation or parts.test))
        whose = "validation" if parts.validation else "test"
        name = f"{protocol if isinstance(protocol, str) else 'split'}, {whose} users, {data.name}"
    grams, structure = {}, WithoutUser(train)
    seconds = {"gram": 0.0}

    def gram(method: ClosedForm) -> Any:
        """A copy of the Gram matrix, which the solver uses up."""
        key = (method.on_host, method.dtype)
        if key not in grams:
            start = time.perf_counter()
            grams[key] = method.gram(train, mesh)
            seconds["gram"] += time.perf_counter() - start
        return jnp.copy(grams[key]) if isinstance(grams[key], jax.Array) else grams[key].copy()

    def examine(method: Any) -> tuple[Report, float]:
        closed = isinstance(method, ClosedForm) and method.exact_updates
        if protocol == LEAVE_USER_OUT:
            without = leave_user_out.leave_user_out(method, train, gram(method) if closed else None, structure)
            return leave_user_out.evaluate(without, train, both, (wanted,)), getattr(without, "size", math.nan)
        if closed:
            fitted = method.fit_from_gram(train, gram(method), mesh)
        else:  # a method of one's own need not know devices
            fitted = method.fit(train) if mesh is None else method.fit(train, devices=mesh)
        return evaluate_paired(fitted, both, (wanted,)), _size(fitted.model)

    found = []
    with progress_bar("tuning", len(candidates)) as advance:
        for method in candidates:
            start = time.perf_counter()
            try:
                (report, size), failed = examine(method), None
            except FitError as error:
                report, size, failed = None, math.nan, str(error)
            if report is not None and rule != "best" and math.isnan(size):
                raise InputError(f"rule {rule!r} compares norms of weights, and {method} has none; use rule='best'.")
            found.append(Candidate(method, report, size, time.perf_counter() - start, failed))
            advance(1)
    if not any(c.report for c in found):
        raise InputError(f"none of the {len(found)} candidates could be fitted; the last one: {found[-1].failed}")
    seconds["total"] = time.perf_counter() - begun
    values = {field: tuple(dict.fromkeys(getattr(c, field) for c in candidates)) for field in grid}
    tuning = Tuning(tuple(found), str(wanted), name, rule, None, values, seconds)
    return dataclasses.replace(tuning, chosen=_choice(tuning))


def number_fields(method: Any) -> dict[str, type]:
    """The fields of a method, or of its class, that a grid may vary, and whether they are int or float."""
    types = {"int": int, "float": float}
    names = {field.name: getattr(field.type, "__name__", str(field.type)) for field in dataclasses.fields(method)}
    kinds = {name: kind.removesuffix(" | None") for name, kind in names.items()}
    return {name: types[kind] for name, kind in kinds.items() if kind in types}


def _candidates(methods: Any, grid: Mapping[str, Sequence[float]]) -> list[Any]:
    several = methods if isinstance(methods, list | tuple) else [methods]
    lists = [] if not isinstance(grid, Mapping) else list(grid.values())
    if not lists or not all(isinstance(values, list | tuple | range | np.ndarray) and len(values) for values in lists):
        raise InputError(
            f"grid must give at least one value of one field, as in {{'reg': [10, 100]}}, got {_checks.shown(grid)}."
        )
    if not several:
        raise InputError("methods must hold at least one method, such as Ease(), or the name of one.")
    candidates = []
    for method in several:
        if isinstance(method, str):
            _checks.one_of("method", method, tuple(METHODS))
            method = METHODS[method]()
        if isinstance(method, type) or not dataclasses.is_dataclass(method):
            raise InputError(
                f"a method must be configured, as in Ease(), or named, as in 'ease', got {_checks.shown(method)}."
            )
        known = number_fields(method)
        for field in grid:
            if field not in known:
                has = f"it has {', '.join(known)}" if known else "it has nothing to tune"
                raise InputError(f"{type(method).__name__} has no number {field!r} to tune; {has}.")
        for values in itertools.product(*grid.values()):
            point = {field: _as(known[field], field, value) for field, value in zip(grid, values, strict=True)}
            candidates.append(dataclasses.replace(method, **point))  # pyright: ignore[reportArgumentType]
    return candidates


def _as(kind: type, field: str, value: Any) -> Any:
    """The value of a grid as the field has it."""
    _checks.number(field, value)
    if kind is int and value != int(value):
        raise InputError(f"{field} must be a whole number, got {_checks.shown(value)}.")
    return kind(value)


def _choice(tuning: Tuning) -> Any:
    best = tuning.best
    assert best.report is not None
    if tuning.rule == "best":
        return best.method
    floor = best.report.mean[tuning.metric] - best.report.standard_error[tuning.metric]
    near = [c for c in tuning.candidates if c.report and c.report.mean[tuning.metric] >= floor and c.size <= best.size]
    return min(near, key=lambda c: c.size, default=best).method


def _size(model: Any) -> float:
    """||zd(B)||_F, with the weights of pairs where there are some; NaN for a model without weights."""
    if isinstance(model, SparseItemWeights):
        return float(np.linalg.norm(np.asarray(model.values)))  # none is on the diagonal
    if isinstance(model, ItemFactors):
        u, v = (np.asarray(part, np.float64) for part in (model.encoder, model.decoder))
        square = np.sum((u.T @ u) * (v.T @ v)) - np.sum(np.sum(u * v, axis=1) ** 2)
    elif isinstance(model, ItemWeights | PairWeights):
        weights = parallel.to_host(model.weights)
        square = np.einsum("ij,ij->j", weights, weights).sum() - (weights.diagonal() ** 2).sum()
        square += np.sum(np.asarray(model.pair_weights) ** 2) if isinstance(model, PairWeights) else 0
    else:
        return math.nan
    return math.sqrt(max(0.0, float(square)))


def _described(method: Any) -> dict[str, Any]:
    return {"name": type(method).__name__, "hyper_parameters": dataclasses.asdict(method)}
