"""The analyses of He et al. (2023) on recorded replies: accuracy, what repeated targets are worth, probes and bias.

Every run of the folder is scored by each of the rules, with and without titles that are none of the catalogue, and with
and without what the conversation has named. Where the folder has the authors' summaries, all their statistics are
compared.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec._checks import InputError
from jaxrec.conversational import bias, repetition
from jaxrec.conversational.comparison import compare
from jaxrec.conversational.protocols import CUT_OFFS, Scores
from jaxrec.conversational.readers.json_files import json_document
from jaxrec.conversational.recorded import Run, catalogue_of, layout, score
from jaxrec.conversational.replies import rank
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.outcome import Outcome, accuracy, panels, rows
from jaxrec.experiments.harness.replies import PreparedReplies

VERSION = 1
# By name whether titles that are none of the catalogue, and those named before, are left out.
SETTINGS = {
    "all titles": (False, False),
    "unseen": (False, True),
    "in vocabulary": (True, False),
    "in vocabulary, unseen": (True, True),
}
HEADLINE = "in vocabulary, unseen"
RULES = ("paper", "strict", "recorded")
SUMMARIES = "llmcrs_summaries.json.gz"
EQUAL = 1e-9
Found = dict[str, dict[Any, Any]]  # by run, then by (rules, titles) its figures, and by "about" what it is made of


def run(data: PreparedReplies, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """All runs of the folder; `scale` changes nothing but what they are."""
    loaded = lru_cache(maxsize=2)(data.load)
    found: Found = {}
    for name, digest in data.runs.items():
        about = {"run": name, "replies": digest[:12]}
        found[name] = {}
        for rules in RULES:
            for setting in SETTINGS:
                key = about | {"rules": rules, "titles": setting}
                found[name][rules, setting] = cells.get(key, partial(scored, loaded, name, rules, setting))
        found[name]["about"] = cells.get(about, partial(described, loaded, name))
        headline = found[name]["paper", HEADLINE]["recommendation"]["recall@5"]
        say(f"{name}: recall@5 of new targets, in vocabulary and unseen, {_cell(headline)}")
    pairs = {
        each: cells.get({"probe": each[0], "against": each[1], "replies": digests}, partial(paired, loaded, *each))
        for each in probes(list(data.runs))
        for digests in ["-".join(data.runs[name][:12] for name in each)]
    }
    summaries = {} if data.folder is None else published(data.folder, found, loaded)
    return Outcome(
        table=table(found, pairs, summaries),
        record={
            "runs": {
                name: {"about": each["about"], **{", ".join(key): each[key] for key in each if key != "about"}}
                for name, each in found.items()
            },
            "probes": {" against ".join(each): value for each, value in pairs.items()},
            "summaries": summaries,
        },
        plots={"recall": partial(write_plot, found)},
        figures={
            f"{name}, {setting}": {
                metric: tuple(value) for metric, value in each["paper", setting]["recommendation"].items() if value
            }
            for name, each in found.items()
            for setting in SETTINGS
        },
    )


def figures_of(scores: Scores) -> dict[str, dict[str, list[float] | None]]:
    """By condition and metric the mean and its standard error; None where there is no target.

    The standard error of a single target is given as 0, as JSON has no NaN.
    """
    return {
        condition: {
            metric: None if math.isnan(mean) else [mean, 0.0 if math.isnan(error) else error]
            for metric, (mean, error) in ((metric, scores[condition, metric]) for metric in report.mean)
        }
        for condition, report in scores.reports.items()
    }


def scored(load: Callable[[str], Run], name: str, rules: str, setting: str) -> dict[str, Any]:
    """A run by one of the rules and settings; nothing if the rules are "recorded" and the run has no matches."""
    run = load(name)
    if rules == "recorded" and run.matches is None:
        return {}
    return figures_of(score(run, *SETTINGS[setting], rules))  # pyright: ignore[reportArgumentType]


def described(load: Callable[[str], Run], name: str) -> dict[str, Any]:
    """What a run is made of, by strict rules and the paper's; what it exposes; and what repeating would be worth."""
    run = load(name)
    films = catalogue_of(run.films)
    place = {title: item for item, title in enumerate(films.titles)}
    strict, paper = rank(run.texts, films), rank(run.texts, catalogue_of(run.names), "paper")
    seen = [[place[title] for title in each if title in place] for each in run.seen]
    targets = [[place.get(title, -1) for title in each] for each in run.targets]
    popularity = np.bincount([item for each in (*seen, *targets) for item in each if item >= 0], minlength=len(films))
    shown = bias.exposure(strict.items, len(films), max(CUT_OFFS), popularity)
    return {
        "samples": len(run.samples),
        "failed": int(run.failed.sum()),
        **{
            f"{rules}: {what}": getattr(ranked, what)
            for rules, ranked in {"paper": paper, "strict": strict}.items()
            for what in ("n_titles", "n_unknown", "n_repeated", "n_empty")
        },
        "distinct": shown.n_distinct,
        "coverage": shown.coverage,
        "gini": shown.gini,
        "top share": shown.top_share,
        "popularity rank": None if math.isnan(shown.mean_popularity_rank) else shown.mean_popularity_rank,
        "most recommended": films.titles[int(shown.counts.argmax())],
        "its lists": int(shown.counts.max()),
        "repeating": {f"recall@{k}": repetition.expected_recall(targets, seen, k) for k in (1, 5)},
    }


def probes(names: Sequence[str]) -> list[tuple[str, str]]:
    """The runs of a probe, each with that of the same model on whole contexts."""
    whole = {name.rpartition(".")[0]: name for name in names if name.endswith(".general")}
    models = ((name, whole.get(name.rpartition(".")[0])) for name in names if not name.endswith(".general"))
    return [(name, against) for name, against in models if against]


def paired(load: Callable[[str], Run], name: str, against: str) -> dict[str, Any]:
    """What a probe takes from recall@5, with its interval."""
    first, second = (score(load(each), *SETTINGS[HEADLINE]) for each in (name, against))
    found = compare(first, second, "recall@5")
    return {"mean": found.mean, "low": found.low, "high": found.high, "of": second["recommendation", "recall@5"][0]}


def published(folder: Path, found: Found, load: Callable[[str], Run]) -> dict[str, Any]:
    """By run and setting, how many of the authors' statistics are ours, from their lists and from the texts.

    Raises:
      InputError: the file of the authors' statistics is in another form.
    """
    path = layout(folder).inner / SUMMARIES
    try:
        return _compared(json_document(path), found, load) if path.is_file() else {}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        form = "{'MODEL/PROBE/SET/filtered_True_exclude_seen_False': CSV with condition, recall@1_mean, ...}"
        raise InputError(f"{path} is in no known form, which is {form}.") from None


def _compared(authors: dict[str, str], found: Found, load: Callable[[str], Run]) -> dict[str, Any]:
    summaries = {}
    for key, text in authors.items():
        model, probe, dataset, filters = key.split("/")
        name = f"{model}.{probe}"
        _, vocabulary, *_, seen = filters.split("_")
        setting = {wants: each for each, wants in SETTINGS.items()}[vocabulary == "True", seen == "True"]
        if name in found and load(name).dataset == dataset:
            theirs = list(csv.DictReader(io.StringIO(text)))
            same = {rules: _equal(found[name][rules, setting], theirs) for rules in ("recorded", "paper")}
            summaries[f"{name}, {setting}"] = {"statistics": 72, **same}
    return summaries


def _equal(ours: dict[str, Any], theirs: Sequence[dict[str, str]]) -> int:
    """How many means and standard errors differ by less than `EQUAL`."""
    return sum(
        abs(value[part] - float(row[f"{metric}_{kind}"])) < EQUAL
        for row in theirs
        for metric, value in ours.get(row["condition"], {}).items()
        if value
        for part, kind in enumerate(("mean", "se"))
    )


def _cell(value: Sequence[float] | None) -> str:
    return "-" if value is None else accuracy(*value)


def table(found: Found, pairs: dict[tuple[str, str], Any], summaries: dict[str, Any]) -> str:
    """All of it in Markdown."""
    recall = [f"recall@{k}" for k in CUT_OFFS]
    lines = ["By target, with standard errors. New targets, by the paper's rules:", ""]
    lines += rows(
        ["run", "titles", *recall],
        [
            [name, setting, *(_cell(each["paper", setting]["recommendation"][metric]) for metric in recall)]
            for name, each in found.items()
            for setting in SETTINGS
        ],
    )
    lines += ["", "All targets, in vocabulary, those named before too; and what repeating them would be worth:", ""]
    lines += rows(
        ["run", "recall@1", "recall@5", "of repeating: recall@1", "recall@5"],
        [
            [
                name,
                *(_cell(each["paper", "in vocabulary"]["all"][metric]) for metric in recall[:2]),
                *(f"{each['about']['repeating'][metric]:.3f}" for metric in recall[:2]),
            ]
            for name, each in found.items()
        ],
    )
    lines += [
        "",
        "Strict rules beside the paper's: recall@5 of new targets, in vocabulary and unseen, and the titles:",
        "",
    ]
    lines += rows(
        ["run", "paper", "strict", "titles (paper, strict)", "no film", "repeated", "empty replies", "failed"],
        [
            [
                name,
                *(_cell(each[rules, HEADLINE]["recommendation"]["recall@5"]) for rules in ("paper", "strict")),
                *(
                    ", ".join(f"{each['about'][f'{rules}: {what}']:,}" for rules in ("paper", "strict"))
                    for what in ("n_titles", "n_unknown", "n_repeated", "n_empty")
                ),
                str(each["about"]["failed"]),
            ]
            for name, each in found.items()
        ],
    )
    lines += ["", "What is recommended to all together, by strict rules, in the top 20:", ""]
    lines += rows(
        ["run", "distinct films", "coverage", "Gini", "share of the first 10", "most recommended"],
        [
            [
                name,
                f"{about['distinct']:,}",
                f"{100 * about['coverage']:.1f} %",
                f"{about['gini']:.3f}",
                f"{100 * about['top share']:.1f} %",
                f"{about['most recommended']} ({about['its lists']} lists)",
            ]
            for name, about in ((name, each["about"]) for name, each in found.items())
        ],
    )
    if pairs:
        lines += ["", "Probes: the paired difference of recall@5 of new targets, with a 95 % interval:", ""]
        text = "{mean:+.4f} ({low:+.4f} to {high:+.4f})"
        lines += rows(
            ["run", "against", "difference", "of"],
            [[name, other, text.format(**each), f"{each['of']:.4f}"] for (name, other), each in pairs.items()],
        )
    if summaries:
        lines += ["", f"The authors' summaries: statistics that ours equal to {EQUAL:g}, of 72 each:", ""]
        lines += rows(
            ["run and titles", "from their lists", "from the texts"],
            [[name, str(each["recorded"]), str(each["paper"])] for name, each in summaries.items()],
        )
    return "\n".join(lines) + "\n"


def write_plot(found: Found, path: Any) -> None:
    """Recall@5 of every run, of new targets and of those named before."""
    with panels(path, (7, 1.5 + 0.4 * len(found))) as (axes,):
        for shift, condition in ((-0.15, "recommendation"), (0.15, "discussion")):
            values = [each["paper", "in vocabulary"][condition]["recall@5"] for each in found.values()]
            there = [(place, value) for place, value in enumerate(values) if value is not None]
            axes.errorbar(
                [value[0] for _, value in there],
                [place + shift for place, _ in there],
                xerr=[value[1] for _, value in there],
                fmt="o",
                capsize=3,
                label={"recommendation": "new targets", "discussion": "named before"}[condition],
            )
        axes.set_yticks(range(len(found)), list(found))
        axes.set(xlabel="recall@5 (± standard error), in vocabulary")
        axes.legend(fontsize="small")
