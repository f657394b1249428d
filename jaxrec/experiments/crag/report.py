"""What the seeds come to: means with intervals, whether the variants stand in the order that is expected, pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from jaxrec.experiments.harness.outcome import panels, rows

Found = dict[str, list[dict[str, Any]]]
LEVEL = 0.95


def interval(values: Any) -> tuple[float, float]:
    """The mean over independent seeds, and half of its 95 % interval by Student's t; NaN for a single one."""
    numbers = np.asarray(values, np.float64)
    n = len(numbers)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1) * numbers.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(numbers.mean()), float(half)


def summary(found: Found, variants: Sequence[str], unaided: str, cutoffs: Sequence[int]) -> dict[str, Any]:
    """Means and half-widths: of each variant, of the steps from one to the next, of the gains by recency."""
    seeds = found["ablations"]
    result: dict[str, Any] = {"recall": {}, "steps": {}, "gain": {}, "errors": {}}
    for place, k in enumerate(cutoffs):
        for name in (*variants, unaided):
            result["recall"][f"{name} @{k}"] = interval([seed[name]["all"][place] for seed in seeds])
        for one, two in itertools.pairwise(variants):
            steps = [seed[two]["all"][place] - seed[one]["all"][place] for seed in seeds]
            result["steps"][f"{two} - {one} @{k}"] = (*interval(steps), float(np.mean(np.array(steps) >= 0)))
        for base in (variants[0], unaided):
            after, before = (
                np.array([seed[variants[-1]][group][place] - seed[base][group][place] for seed in seeds])
                for group in ("after", "before")
            )
            for group, gains in {"after": after, "before": before, "after - before": after - before}.items():
                result["gain"][f"over {base}, {group} @{k}"] = interval(gains)
    for name in found["errors"][0]:
        result["errors"][name] = _counted(found["errors"], name, len(cutoffs) - 1)
    for which in ("copies before", "copies"):
        result[which] = diagonal(confusion(seeds, which))
    return result


def _counted(seeds: list[dict[str, Any]], name: str, place: int) -> dict[str, Any]:
    totals: dict[str, int] = {}
    for seed in seeds:
        for what, count in seed[name]["counts"].items():
            totals[what] = totals.get(what, 0) + count
    lost = sum(seed[name]["lost"] for seed in seeds)
    return {"recall": interval([seed[name]["all"][place] for seed in seeds]), "lost": lost, "counts": totals}


def confusion(seeds: list[dict[str, Any]], which: str) -> np.ndarray:
    """[K, K] how often what was retrieved at a rank was recommended at another, over all seeds."""
    return np.sum([seed[which] for seed in seeds], axis=0)


def diagonal(counts: np.ndarray) -> float:
    """The share of all pairs of ranks that are equal."""
    return float(np.trace(counts) / max(1, counts.sum()))


def text(found: Found, variants: Sequence[str], unaided: str, cutoffs: Sequence[int]) -> str:
    """All of it in Markdown."""
    told = summary(found, variants, unaided, cutoffs)
    n = len(found["ablations"])
    lines = [
        f"Recall per sample of targets that were not named before, mean ± half of the 95 % interval over {n} seeds, "
        "each a world of its own. The simulated model is no language model: only the order means something.",
        "",
    ]
    header = ["", *(f"recall@{k}" for k in cutoffs)]
    lines += rows(
        header, [[name, *(_said(told["recall"][f"{name} @{k}"]) for k in cutoffs)] for name in (*variants, unaided)]
    )
    lines += ["", "Steps, paired by seed; in brackets the share of seeds in which the step is not down.", ""]
    lines += rows(
        header, [[step, *(_step(told["steps"][f"{step} @{k}"]) for k in cutoffs)] for step in _lines(told["steps"])]
    )
    lines += [
        "",
        "What all of CRAG gains over the model by itself (zero-shot), and over one that ranks anew without retrieval "
        "(K = 0), for samples with a target that is newer than what the model knows, and for the others.",
        "",
    ]
    lines += rows(
        header, [[gain, *(_said(told["gain"][f"{gain} @{k}"]) for k in cutoffs)] for gain in _lines(told["gain"])]
    )
    lines += [
        "",
        f"Of the retrieved items that are recommended, {told['copies before']:.0%} stand at the rank at which they "
        f"were retrieved (of the first 10) before the model ranks anew, {told['copies']:.0%} after it.",
        "",
        f"Errors of the model, all of CRAG: recall@{cutoffs[-1]}, titles and samples not accounted for, and what was "
        "counted.",
        "",
    ]
    wrong = []
    for name, each in told["errors"].items():
        counted = "; ".join(f"{count:,} {what}" for what, count in each["counts"].items())
        wrong.append([name, _said(each["recall"]), str(each["lost"]), counted])
    lines += rows(["errors", f"recall@{cutoffs[-1]}", "lost", "counted"], wrong)
    return "\n".join(lines) + "\n"


def _lines(figures: dict[str, Any]) -> list[str]:
    """What figures are of, without their cut-offs, each once."""
    return list(dict.fromkeys(name.rpartition(" @")[0] for name in figures))


def _said(figure: Sequence[float]) -> str:
    return f"{figure[0]:.3f} ± {figure[1]:.3f}"


def _step(figure: Sequence[float]) -> str:
    return f"{figure[0]:+.3f} ± {figure[1]:.3f} ({figure[2]:.0%})"


def curves(seeds: list[dict[str, Any]], variants: Sequence[str], cutoffs: Sequence[int], path: Any) -> None:
    """Draws recall over the number of retrieved items, a panel a cut-off."""
    with panels(path, (4.0 * len(cutoffs), 3.5), len(cutoffs), title="Simulated model, planted world") as axes:
        for place, (axis, k) in enumerate(zip(axes, cutoffs, strict=True)):
            for name in variants:
                retrieved = list(seeds[0][name])
                points = [interval([seed[name][one][place] for seed in seeds]) for one in retrieved]
                means, halves = np.array(points).T
                axis.errorbar([int(one) for one in retrieved], means, np.nan_to_num(halves), label=name, capsize=2)
            axis.set_ylim(
                max(axis.get_ylim()[0], 0.0), min(axis.get_ylim()[1], 1.0)
            )  # intervals of few seeds are wider
            axis.set_xlabel("items retrieved, K")
            axis.set_title(f"recall@{k}")
        axes[0].legend()


def confusions(seeds: list[dict[str, Any]], path: Any) -> None:
    """Draws how often an item retrieved at a rank is recommended at another, before the model ranks anew and after."""
    with panels(path, (8.0, 4.0), 2, title="Where retrieved items are recommended") as axes:
        for axis, which, title in zip(axes, ("copies before", "copies"), ("before", "after"), strict=True):
            counts = confusion(seeds, which)
            first, last = 0.5, len(counts) + 0.5  # ranks begin at 1
            axis.imshow(counts, extent=(first, last, last, first))
            axis.set_title(f"{title} ranking anew")
            axis.set_xlabel("rank recommended")
        axes[0].set_ylabel("rank retrieved")
