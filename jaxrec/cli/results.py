"""What the commands find out, and the JSON they write of it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from jaxrec import saving
from jaxrec.data import Catalogue, Interactions
from jaxrec.data.alignment import align_items
from jaxrec.data.provenance import trained_on
from jaxrec.data.splits import Split
from jaxrec.evaluation.held_out import paired
from jaxrec.evaluation.metrics import parse
from jaxrec.evaluation.report import Report, evaluate_paired
from jaxrec.fitting import Stopwatch
from jaxrec.methods import METHODS
from jaxrec.models import Fitted
from jaxrec.runtime.checkpoint import check_target as check_checkpoint
from jaxrec.runtime.files import check_file_target, write_json


def beside_popularity(
    fitted: Fitted, parts: Split, metrics: str, watch: Stopwatch, seen: bool | None = False
) -> dict[str, Report]:
    """Reports of a model and of the popularity baseline, by name, both of the items of the model.

    Args:
      fitted: the model.
      parts: what popularity is of, and who is tested on.
      metrics: what is measured.
      watch: takes the times.
      seen: whether the model was trained on the targets.
    """
    label, wanted = saving.describe_method(fitted.info.method)["name"], parse(metrics)
    reports = {}
    with watch.stage("evaluate"):
        both = paired(fitted.info.items, fitted.model.n_items, *parts.test)
        report = evaluate_paired(fitted, both, wanted, label=label)
        reports[label] = dataclasses.replace(report, trained_on_these=seen)
    if label != "popularity":
        with watch.stage("popularity"):
            train = align_items(parts.train, fitted.info.items, "the model").data
            baseline = METHODS["popularity"]().fit(train)
            reports["popularity"] = evaluate_paired(baseline, both, wanted, label="popularity")
    return reports


def of_the_model(fitted: Fitted, data: Interactions) -> bool:
    """Whether the data are those of the fit, as far as their name and their content tell."""
    trained = fitted.info.data
    known = {trained.get("fingerprint"), *(division["of"] for division in trained.get("divisions", ()))}
    return trained.get("name") == data.name or data.fingerprint in known


def other_data(fitted: Fitted, data: Interactions) -> str | None:
    """A note, if the data are others than those of the fit: equal ids need not be the same things."""
    if of_the_model(fitted, data):
        return None
    name = fitted.info.data.get("name", "unknown data")
    return f"the model was fitted on {name} and this is {data.name} (--data); items are matched by their ids"


def seen_in_training(fitted: Fitted, data: Interactions, parts: Split) -> bool | None:
    """Whether the model was trained on the targets, or may have been; None where nothing is known of it."""
    trained = fitted.info.data
    if trained.get("fingerprint") == parts.train.fingerprint:
        return False
    found = trained_on(trained, parts.test.targets)
    return True if found is None and of_the_model(fitted, data) else found


def named(items: Catalogue, item: int) -> dict[str, Any]:
    """Index, id and title of an item."""
    return {"item": item, "id": items.names[item], "title": None if items.titles is None else items.titles[item]}


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
