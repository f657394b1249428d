"""Replies that were recorded: read, checked against the samples that they answer, and scored without asking anybody.

A folder holds `conversational/replies/MODEL.PROBE.jsonl.gz`, of which each line has `index` (of the sample), `prompt`,
`resp` (in the shape of OpenAI's replies, or the text alone), `gt_list` and `prev_list` (the names of the targets and of
what the conversation names), and may have `rec_list`, the authors' own matches. The samples are those of
`llmcrs_SET_test.jsonl.gz`, or `conversational/llmcrs_SET_test_PROBE.jsonl.gz` where a probe has its own, and their
names those of `conversational/llmcrs_SET_entities.json.gz`, as published with He et al. (2023, arXiv 2308.10053).
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError, shown
from jaxrec._checks.doors import door
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.dialogue import Sample
from jaxrec.conversational.protocols import DEFAULT, Failed, Scores, per_target
from jaxrec.conversational.readers import load_samples
from jaxrec.conversational.readers.json_files import json_document, json_lines
from jaxrec.conversational.readers.per_turn import entity_names
from jaxrec.conversational.readers.turns import field
from jaxrec.conversational.replies import PAPER_EDITS, rank

RecordedRules = Literal["paper", "strict", "recorded"]
ENDING = ".jsonl.gz"
TOLD = ("rec", "prev_entity")  # of a sample: the numbers of its targets and of what its context names
_SET = re.compile(r"llmcrs_(\w+?)_test\.jsonl\.gz")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the parts of a folder of recorded replies are.

    Attributes:
      outer: the folder with the test sets.
      inner: the folder with the entities, the probes' test sets and the replies.
    """

    outer: Path
    inner: Path

    @property
    def runs(self) -> list[str]:
        """The names of the runs, "MODEL.PROBE", sorted."""
        return sorted(path.name.removesuffix(ENDING) for path in (self.inner / "replies").glob(f"*{ENDING}"))

    @property
    def sets(self) -> list[str]:
        """The names of the test sets."""
        found = (_SET.fullmatch(path.name) for path in sorted(self.outer.glob(f"llmcrs_*_test{ENDING}")))
        return [each[1] for each in found if each]

    def replies(self, name: str) -> Path:
        """The file of a run."""
        return self.inner / "replies" / f"{name}{ENDING}"

    def test_set(self, name: str, probe: str = "") -> Path:
        """The file of a test set, that of the probe if it has its own."""
        own = self.inner / f"llmcrs_{name}_test_{probe}{ENDING}"
        return own if probe and own.is_file() else self.outer / f"llmcrs_{name}_test{ENDING}"

    def entities(self, name: str) -> Path:
        """The file of the names of entities."""
        return self.inner / f"llmcrs_{name}_entities.json.gz"

    def item_ids(self, name: str) -> Path:
        """The file of the numbers that are films."""
        return self.inner / f"llmcrs_{name}_item_ids.json.gz"


def layout(folder: str | os.PathLike) -> Layout:
    """The parts of a folder, which may be the one with `conversational` in it, or `conversational` itself.

    Raises:
      InputError: there are no replies in it.
    """
    folder = Path(folder)
    for found in (Layout(folder, folder / "conversational"), Layout(folder.resolve().parent, folder)):
        if (found.inner / "replies").is_dir():
            return found
    raise InputError(f"{folder} has no folder conversational/replies with recorded replies; name the one that has.")


@dataclasses.dataclass(frozen=True)
class Run:
    """The replies of one model to one form of the contexts.

    Attributes:
      name: "MODEL.PROBE".
      samples: N of them, whose targets are as in the file, one that has two numbers twice.
      targets: for each sample the names of its targets.
      seen: for each sample the names that its context has.
      texts: N replies; empty where the request failed.
      matches: for each sample the authors' matches, as (title, distance, name); None if the file has none.
      failed: [N] bool, of requests that failed, and of samples that the file lacks.
      names: of all entities, distinct, as text sorts them.
      films: of those that are films.
      dataset: the name of the test set.
    """

    name: str
    samples: list[Sample]
    targets: list[list[str]]
    seen: list[list[str]]
    texts: list[str]
    matches: list[list[tuple[str, int, str]]] | None
    failed: np.ndarray
    names: tuple[str, ...]
    films: tuple[str, ...]
    dataset: str = ""


@door
def load_run(folder: str | os.PathLike, name: str) -> Run:
    """A recorded run with the samples that it answers.

    Args:
      folder: with `conversational` in it, or that folder itself.
      name: "MODEL.PROBE", of the file `replies/MODEL.PROBE.jsonl.gz`.

    Raises:
      InputError: a file is missing or damaged, a sample has no targets, or the replies are to other samples.
    """
    where = layout(folder)
    path = where.replies(name)
    if not path.is_file():
        raise InputError(
            f"there is no run {name!r} in {where.inner / 'replies'}, only {', '.join(where.runs) or 'none'}."
        )
    records = _records(path)
    if not where.sets:
        raise InputError(f"{where.outer} has no llmcrs_SET_test{ENDING}, the samples that the replies are to.")
    problems = []
    for each in where.sets:
        try:
            return _run(name, path, records, where, each)
        except _OtherSamples as other:
            problems.append(f"{each} ({other})")
    raise InputError(f"{path} has replies to other samples than those of {', '.join(problems)}; give it the right set.")


class _OtherSamples(Exception):
    """The replies are to other samples."""


def _records(path: Path) -> dict[int, dict[str, Any]]:
    """The records of a file by the index of their sample."""
    records: dict[int, dict[str, Any]] = {}
    for number, record in json_lines(path):
        at = f"{path}: line {number}"
        index = field(record, "index", int, at)
        if index in records or index < 0:
            raise InputError(f"{at}: the index {index} {'is there twice' if index in records else 'is below 0'}.")
        for name in ("gt_list", "prev_list"):
            field(record, name, list, at)
        records[index] = record
    if not records:
        raise InputError(f"{path} holds no replies.")
    return records


def _run(name: str, path: Path, records: dict[int, dict[str, Any]], where: Layout, dataset: str) -> Run:
    probe = name.rpartition(".")[2]
    samples, numbers, names = _test_set(where.test_set(dataset, probe), where.entities(dataset))
    if max(records) >= len(samples):
        raise _OtherSamples(f"it has {len(samples)} samples, and there is a reply to number {max(records)}")
    targets = [[names[number] for number in each] for each, _ in numbers]
    seen = [[names[number] for number in each] for _, each in numbers]
    for index, record in records.items():
        if record["gt_list"] != targets[index] or set(map(str, record["prev_list"])) != set(seen[index]):
            raise _OtherSamples(f"sample {index} has other targets or another context")
    texts, failed = ["" for _ in samples], np.ones(len(samples), bool)
    for index, record in records.items():
        found = _text(record.get("resp"), f"{path}: the reply to sample {index}")
        texts[index], failed[index] = found or "", found is None
    matches = None
    if all(isinstance(record.get("rec_list"), list) for record in records.values()):
        matches = [_matches(records.get(index, {}).get("rec_list", []), path) for index in range(len(samples))]
    films = {names[number] for number in _item_ids(where.item_ids(dataset), names)}
    # What is left of some entities is no name: "http://dbpedia.org/resource/(film)".
    everything, films = (tuple(sorted(each - {""})) for each in (set(names.values()), films))
    return Run(name, samples, targets, seen, texts, matches, failed, everything, films, dataset)


def _item_ids(path: Path, names: Mapping[int, str]) -> list[int]:
    """The numbers that are films; all, where no file says which."""
    if not path.is_file():
        return list(names)
    listed = json_document(path)
    if not isinstance(listed, list) or not all(type(number) is int for number in listed):
        raise InputError(f"{path} must be a list of the numbers of entities that are films.")
    found = [number for number in listed if number in names]
    if not found:
        raise InputError(f"{path} has no number of an entity that the replies' data know.")
    return found


@lru_cache(maxsize=4)
def _read_test_set(path: Path, entities: Path, stamps: tuple) -> tuple[list[Sample], list[Any], dict[int, str]]:
    samples = load_samples(path, entities=entities)
    numbers = [tuple(field(record, name, list, str(path)) for name in TOLD) for _, record in json_lines(path)]
    return samples, numbers, entity_names(json_document(entities), str(entities))


def _test_set(path: Path, entities: Path) -> tuple[list[Sample], list[Any], dict[int, str]]:
    """The samples of a file, the numbers of their targets and of what is seen, and the names of all numbers."""
    for needed in (path, entities):
        if not needed.is_file():
            raise InputError(f"there is no file {needed}, which the replies need.")
    stamps = tuple((each.stat().st_mtime_ns, each.stat().st_size) for each in (path, entities))
    return _read_test_set(path, entities, stamps)


def _text(resp: Any, where: str) -> str | None:
    """The text of a reply; None if the request failed."""
    if resp is None or (isinstance(resp, dict) and "error" in resp):
        return None
    if isinstance(resp, str):
        return resp
    choices = field(resp, "choices", list, where)
    if not choices:
        return None
    content = field(field(choices[0], "message", dict, where), "content", str, where, "")
    return content


def _matches(listed: Sequence[Any], path: Path) -> list[tuple[str, int, str]]:
    where = f"{path}: rec_list"
    kinds = {"movie_name": str, "min_edit_distance": int, "nearest_movie": str}
    return [tuple(field(each, name, kind, where) for name, kind in kinds.items()) for each in listed]  # pyright: ignore[reportReturnType]


@door
def score_replies(
    folder: str | os.PathLike,
    name: str,
    in_vocabulary: bool = True,
    exclude_seen: bool = False,
    rules: RecordedRules = "paper",
    *,
    failed_as: Failed = "miss",
) -> Scores:
    """What a recorded run is worth, by target: `table["recommendation", "recall@5"]` is a mean and its standard error.

    Conditions are recommendation (targets that the conversation has not named, by name), discussion and all; metrics
    are recall, ndcg and mrr at 1, 5, 10 and 20.

    Args:
      folder: see `load_run`.
      name: "MODEL.PROBE".
      in_vocabulary: leave out titles that are none of the catalogue.
      exclude_seen: leave out titles that the conversation has named.
      rules: "paper" reads the titles and takes the nearest of all entities' names, see `replies.rank`; "strict" reads
        them as a reader would, and knows films only; "recorded" takes the authors' matches as they are.
      failed_as: what becomes of failed requests, and of samples that the file has no reply to; they are counted.

    Raises:
      InputError: as for `load_run`; or there are no recorded matches.
    """
    return score(load_run(folder, name), in_vocabulary, exclude_seen, rules, failed_as=failed_as)


def score(
    run: Run,
    in_vocabulary: bool = True,
    exclude_seen: bool = False,
    rules: RecordedRules = "paper",
    *,
    failed_as: Failed = "miss",
) -> Scores:
    """As `score_replies`, of a run that is there already."""
    _checks.one_of("rules", rules, ("paper", "strict", "recorded"))
    catalogue = catalogue_of(run.films if rules == "strict" else run.names)
    if rules == "recorded":
        ranked = _recorded(run, catalogue, in_vocabulary)
    else:
        ranked = rank(run.texts, catalogue, rules, in_vocabulary=in_vocabulary).items
    ranked = [items[:0] if no else items for items, no in zip(ranked, run.failed, strict=True)]
    # What is no film has a number of its own below -1, so that it can have been named before.
    numbers = {title: item for item, title in enumerate(catalogue.titles)}
    named = {title for each in (*run.targets, *run.seen) for title in each}
    numbers |= {title: -2 - place for place, title in enumerate(sorted(named - numbers.keys()))}
    targets, seen = (
        [np.array([numbers[title] for title in each], np.int64) for each in lists] for lists in (run.targets, run.seen)
    )
    return per_target(
        ranked,
        targets,
        seen,
        DEFAULT,
        exclude_seen=exclude_seen,
        failed=run.failed,
        failed_as=failed_as,
        label=run.name,
    )


@lru_cache(maxsize=4)
def catalogue_of(names: tuple[str, ...]) -> Catalogue:
    """The catalogue of the names of a run, made once, so that what it has looked up serves all runs."""
    return Catalogue(names)


def _recorded(run: Run, catalogue: Catalogue, in_vocabulary: bool) -> list[np.ndarray]:
    if run.matches is None:
        raise InputError(f"{run.name} has no recorded matches (rec_list); score it by rules='paper' or 'strict'.")
    place = {name: item for item, name in enumerate(catalogue.titles)} | {"": -1}
    ranked = []
    for each in run.matches:
        kept = [name for _, distance, name in each if distance <= PAPER_EDITS or not in_vocabulary]
        if unknown := [name for name in kept if name not in place]:
            raise InputError(f"{run.name}: the recorded match {shown(unknown[0])} is the name of no entity.")
        ranked.append(np.array([place[name] for name in kept], np.int64))
    return ranked
