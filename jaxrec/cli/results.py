"""What the commands find out, and the JSON they write of it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from jaxrec import saving
from jaxrec._checks import InputError
from jaxrec.data import Catalogue, Interactions
from jaxrec.data.splits import Split
from jaxrec.evaluation.report import Report, evaluate
from jaxrec.fitting import Stopwatch
from jaxrec.methods import METHODS
from jaxrec.models import Fitted
from jaxrec.runtime.checkpoint import check_target as check_checkpoint
from jaxrec.runtime.files import check_file_target, write_json


def beside_popularity(fitted: Fitted, parts: Split, metrics: str, watch: Stopwatch) -> dict[str, Report]:
    """Reports of a model and of the popularity baseline, by name."""
    label = saving.describe_method(fitted.info.method)["name"]
    reports = {}
    with watch.stage("evaluate"):
        reports[label] = evaluate(fitted, *parts.test, metrics, label=label)
    if label != "popularity":
        with watch.stage("popularity"):
            baseline = METHODS["popularity"]().fit(parts.train)
            reports["popularity"] = evaluate(baseline, *parts.test, metrics, label="popularity")
    return reports


def in_terms_of(items: Catalogue, data: Interactions) -> Interactions:
    """The data with the items of a model as columns, matched by id; entries of other items go."""
    known = {str(name): i for i, name in enumerate(_ids(items))}
    column = np.array([known.get(str(name), -1) for name in _ids(data.items)], np.int32)
    if (column < 0).all():
        raise InputError(f"{data.name}: the model knows none of its items; give the data set the model was fitted on.")
    kept = data.keep(column[data.indices] >= 0)
    return dataclasses.replace(kept, indices=column[kept.indices], items=items)


def other_data(fitted: Fitted, data: Interactions) -> str | None:
    """A note, if the data go by another name than the data of the fit: equal ids need not be the same things."""
    name = fitted.info.data.get("name", "unknown data")
    return None if name == data.name else f"the model was fitted on {name} and this is {data.name} (--data)"


def named(items: Catalogue, item: int) -> dict[str, Any]:
    """Index, id and title of an item."""
    return {"item": item, "id": _ids(items)[item], "title": None if items.titles is None else items.titles[item]}


def split_summary(parts: Split) -> dict[str, Any]:
    """The sizes of the parts."""
    return {
        "train": parts.train.summary(),
        "test": {
            "users": parts.test.fold_in.n_users,
            "fold_in": parts.test.fold_in.nnz,
            "targets": parts.test.targets.nnz,
        },
    }


def records(reports: dict[str, Report]) -> dict[str, Any]:
    """Each report as JSON's own types."""
    return {label: json.loads(report.to_json()) for label, report in reports.items()}


def check_targets(json: str | None = None, model: str | None = None, checkpoint: str | None = None) -> None:
    """Refuses what could not be written in the end, before time is spent."""
    if json is not None:
        check_file_target(json)
    if model is not None:
        saving.check_model_target(model)
    if checkpoint is not None:
        check_checkpoint(checkpoint)


def write(path: str | None, record: dict[str, Any]) -> None:
    """Writes a record and the versions behind it as JSON, if a file was asked for."""
    if path is not None:
        write_json(path, {**record, "versions": saving.versions()})


def _ids(items: Catalogue) -> np.ndarray:
    return np.arange(items.n_items) if items.ids is None else items.ids
