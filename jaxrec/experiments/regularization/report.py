"""What the experiment on depth found: its sentences and tables, its record, its two plots."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec.experiments.harness.outcome import accuracy, panels, rows
from jaxrec.experiments.harness.trials import Tuned, over_seeds
from jaxrec.experiments.regularization.networks import Setting

ROUNDING = 1e-5  # of loss / bound: the outputs are of float32
LEAST = 1e-7  # that a plot shows of loss / bound - 1
MARKERS = "os^Dv"
FULL = "full"  # the rank of a reference that has none


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A training and its cell."""

    setting: Setting
    result: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Loss / the loss of the best linear network of this width; NaN if the training failed."""
        return math.nan if self.result["failed"] else self.result["ratio"]

    @property
    def record(self) -> dict[str, Any]:
        """The training for JSON."""
        return dataclasses.asdict(self.setting) | self.result

    def __str__(self) -> str:
        failed, words = self.result["failed"], self.setting.described
        return f"{words}: failed ({failed})" if failed else f"{words}: {self.ratio:.6f} of the linear optimum"


def trained(found: Sequence[TrainingResult]) -> list[TrainingResult]:
    """The trainings that did not fail."""
    return [each for each in found if not each.result["failed"]]


def broken(found: Sequence[TrainingResult]) -> list[TrainingResult]:
    """The trainings below the bound by more than rounding: there must be none."""
    return [each for each in trained(found) if not each.ratio >= 1 - ROUNDING]


def markdown(
    found: Sequence[TrainingResult],
    supervised: Sequence[TrainingResult],
    references: Sequence[Tuned],
    metric: str,
    epochs: int,
    batch_size: int,
) -> str:
    """The sentences and all tables."""
    parts = [
        verdict(found),
        f"Trainings of {epochs} epochs in batches of {batch_size} users, from histories to themselves. Loss / bound "
        "is the squared error on training users, without noise, over that of the best linear autoencoder of the "
        f"same width K (mean over seeds, and their range); {metric} is that of test users, with its standard error. "
        "Depth counts hidden layers, of which the last is K wide.",
        "\n".join(of_settings(found, metric)),
        "Linear models beside them, of the same test users. The optimum is the bound, as a network in closed form; "
        "EDLAE is tuned at full rank, and has the same strength and dropout at the other ranks.",
        "\n".join(of_references(references, metric)),
        contrasted(supervised),
        "\n".join(by_depth(supervised)),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(found: Sequence[TrainingResult]) -> str:
    """Whether the bound held, in a sentence made of the numbers."""
    done = trained(found)
    failed = f" {len(found) - len(done)} did not converge at all and are left out." if len(done) < len(found) else ""
    if wrong := broken(found):
        return f"**BELOW THE BOUND**, which cannot be: {'; '.join(map(str, wrong))}.{failed}"
    least = min(done, key=lambda each: each.ratio)
    text = f"None of {len(done)} trainings is below the linear bound: "
    text += f"the smallest loss / bound is {least.ratio:.6f} ({least.setting.described})."
    curved = [each for each in done if each.setting.activation != "linear"]
    if curved and least not in curved:
        least = min(curved, key=lambda each: each.ratio)
        text += f" Of a nonlinear network it is {least.ratio:.6f} ({least.setting.described})."
    return text + failed


def of_settings(found: Sequence[TrainingResult], metric: str) -> list[str]:
    """One line a setting, over its seeds."""
    groups: dict[Setting, list[TrainingResult]] = {}
    for each in found:
        groups.setdefault(dataclasses.replace(each.setting, seed=0), []).append(each)
    lines = []
    for one, members in groups.items():
        words = [str(one.depth), one.activation, str(one.width), str(one.hidden or "-"), one.optimizer]
        words += [f"{one.dropout:g}", str(len(members))]
        if done := trained(members):
            ratios = [each.ratio for each in done]
            spread = f" ({min(ratios):.4f} to {max(ratios):.4f})" if len(done) > 1 else ""
            tested = accuracy(*over_seeds([each.result for each in done], metric))
            seconds = np.median([each.result["seconds"] for each in done])
            lines.append([*words, f"{np.mean(ratios):.4f}{spread}", tested, f"{seconds:.0f}"])
        else:
            lines.append([*words, f"failed: {members[0].result['failed']}", "-", "-"])
    header = ["depth", "activation", "K", "other layers", "optimizer", "dropout", "seeds", "loss / bound", metric, "s"]
    return rows(header, lines)


def of_references(references: Sequence[Tuned], metric: str) -> list[str]:
    """The linear models."""
    lines = []
    for each in references:
        ratio, (rank, *chosen) = each.result.get("ratio"), each.settings.items()
        words = ", ".join(f"{name} {value:.3g}" for name, value in chosen) or "-"
        ratio = "-" if ratio is None else f"{ratio:.7f}"
        lines.append([each.name, rank[1], words, ratio, accuracy(*each.test(metric))])
    return rows(["", "rank", "settings", "loss / bound", metric], lines)


def contrasted(supervised: Sequence[TrainingResult]) -> str:
    """What became of the bound with another target, in sentences made of the numbers."""
    done = trained(supervised)
    if not done:
        return "No supervised network could be trained."
    linear, floor = (done[0].result[name] for name in ("linear", "floor"))
    text = (
        "The contrast: the same networks from some items, drawn at random, to the others; training loss over that of "
        "the best linear map of their width, which is no bound here. None can be below the best matrix of that rank, "
        f"at {floor / linear:.4f} of it."
    )
    below = [each for each in done if each.ratio < 1 - ROUNDING]
    if below:
        least = min(below, key=lambda each: each.ratio)
        text += f" Below the best linear map: {len(below)} of {len(done)} networks, "
        return f"{text}the lowest with {least.ratio:.4f} of its loss ({least.setting.described})."
    return f"{text} None of {len(done)} trainings came below the best linear map."


def by_depth(found: Sequence[TrainingResult]) -> list[str]:
    """Loss / linear optimum: a line an activation, a column a depth."""
    depths = sorted({each.setting.depth for each in found})
    ratios = {(each.setting.activation, each.setting.depth): each.ratio for each in found}
    names = dict.fromkeys(each.setting.activation for each in found)
    return rows(
        ["", *(f"depth {depth}" for depth in depths)],
        [[name, *(f"{ratios.get((name, depth), math.nan):.4f}" for depth in depths)] for name in names],
    )


def record(
    found: Sequence[TrainingResult], supervised: Sequence[TrainingResult], references: Sequence[Tuned]
) -> dict[str, Any]:
    """Everything for JSON."""
    done = trained(found)
    return {
        "smallest_ratio": min((each.ratio for each in done), default=None),
        "below_the_bound": len(broken(found)),
        "trainings": [each.record for each in found],
        "references": [{"line": each.name, **each.settings, **each.result} for each in references],
        "supervised": [each.record for each in supervised],
    }


def by_depth_alone(found: Sequence[TrainingResult]) -> dict[str, list[TrainingResult]]:
    """By activation, the trainings that are like the first one but for their depth."""
    first = found[0].setting
    hidden = next((each.setting.hidden for each in found if each.setting.depth > 1), 0)
    groups: dict[str, list[TrainingResult]] = {}
    for each in found:
        one = each.setting
        like = dataclasses.replace(
            first, depth=one.depth, activation=one.activation, hidden=hidden if one.depth > 1 else 0
        )
        if one == like:
            groups.setdefault(one.activation, []).append(each)
    return groups


def write_depth(found: Sequence[TrainingResult], supervised: Sequence[TrainingResult], name: str, path: Any) -> None:
    """How far above the bound, by depth; and beside it the supervised networks, for which it is none.

    Lines join the trainings that differ in depth alone; small marks are other widths, optimizers, seeds.
    """
    found, supervised = trained(found), trained(supervised)
    plain = by_depth_alone(found)
    widths = list(dict.fromkeys(each.setting.width for each in found))
    names = list(dict.fromkeys(each.setting.activation for each in [*found, *supervised]))
    with panels(path, (12, 5), 2, title=name) as (left, right):
        for index, activation in enumerate(names):
            shift, color = 0.12 * (index - (len(names) - 1) / 2), f"C{index}"
            own = sorted(plain.get(activation, []), key=lambda each: each.setting.depth)
            depths = np.array([each.setting.depth for each in own])
            left.plot(depths + shift, [max(each.ratio - 1, LEAST) for each in own], color=color, alpha=0.6)
            for each in (each for each in found if each.setting.activation == activation):
                one = each.setting
                style = {"marker": MARKERS[widths.index(one.width) % len(MARKERS)], "color": color}
                style |= {"markersize": 8 if each in own else 5, "markerfacecolor": "none" if one.dropout else color}
                left.plot(one.depth + shift, max(each.ratio - 1, LEAST), linestyle="none", **style)
            own = [each for each in supervised if each.setting.activation == activation]
            right.plot([each.setting.depth for each in own], [each.ratio for each in own], color=color, marker="o")
            left.plot([], [], color=color, marker="o", label=activation)
        for width, marker in zip(widths, MARKERS, strict=False):
            left.plot([], [], color="0.4", marker=marker, linestyle="none", label=f"K = {width}")
        if any(each.setting.dropout for each in found):
            left.plot([], [], color="0.4", marker="o", linestyle="none", markerfacecolor="none", label="with dropout")
        left.set(yscale="log", ylabel="training loss / linear optimum - 1", title="target: the input itself")
        if supervised:
            floor = supervised[0].result["floor"] / supervised[0].result["linear"]
            right.axhline(1, color="black", label="best linear map")
            right.axhline(floor, color="black", linestyle=":", label="best matrix of this rank")
        right.set(ylabel="training loss / linear optimum", title="target: other items")
        for axes in (left, right):
            axes.set_xlabel("hidden layers")
            axes.xaxis.get_major_locator().set_params(integer=True)
        left.figure.legend(loc="outside right center", fontsize="small")


def write_accuracy(
    found: Sequence[TrainingResult], references: Sequence[Tuned], metric: str, name: str, path: Any
) -> None:
    """Accuracy on test users over training loss, a panel a width; linear models as star and lines."""
    found = trained(found)
    widths = sorted({each.setting.width for each in found})
    names = list(dict.fromkeys(each.setting.activation for each in found))
    tested = {(each.name, each.settings["rank"]): each.test(metric) for each in references}
    points: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    with panels(path, (2.6 + 3.4 * len(widths), 4.6), len(widths), title=name, sharey=True) as by_width:
        for axes, width in zip(by_width, widths, strict=True):
            for each in (each for each in found if each.setting.width == width):
                one, color = each.setting, f"C{names.index(each.setting.activation)}"
                fill = "none" if one.dropout else color
                label = f"{one.activation}{', dropout' if one.dropout else ''}"
                point = (each.ratio, each.result["test"][metric][0])
                points[label] = axes.plot(*point, marker="o", linestyle="none", color=color, markerfacecolor=fill)[0]
            optimum, style = (
                tested["linear optimum", str(width)],
                {"marker": "*", "markersize": 13, "linestyle": "none"},
            )
            lines["linear optimum"] = axes.errorbar(1.0, *optimum, color="black", **style)
            lines["EDLAE, rank K"] = axes.axhline(tested["EDLAE", str(width)][0], color="black", linestyle="--")
            lines["EDLAE, full rank"] = axes.axhline(tested["EDLAE", FULL][0], color="black", linestyle=":")
            axes.set(xlabel="training loss / linear optimum", title=f"K = {width}")
            axes.locator_params(axis="x", nbins=5)
        by_width[0].set_ylabel(f"{metric} of test users")
        ordered = sorted(points.items(), key=lambda each: (len(each[0].split()), names.index(each[0].split(",")[0])))
        labels = dict(ordered) | lines
        legend = {"loc": "outside right center", "fontsize": "small"}
        by_width[0].figure.legend(list(labels.values()), list(labels), **legend)
