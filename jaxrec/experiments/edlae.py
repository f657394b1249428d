"""Autoencoders that don't overfit towards the identity: the lines of the paper's Table 1, and its Figure 1.

After Steck (NeurIPS 2020). Linear autoencoders of full and of low rank, with the diagonal free, zero, or left out of
the loss, with and without dropout, every one in its exact form (low-rank EDLAE and zero diagonal: iterated), tuned on
held-out users. The paper's stochastic line is the same in expectation as denoising with a free diagonal, and so not
repeated. Figure 1 asks whether similar items get similar embeddings: of the ten items most similar to an item, itself
included, by the weights of the full-rank EDLAE, it takes the median of the pairwise cosines.

The loss of all these models but "L2 on U and V" sees only U V', so that cosines of rows of U or V depend on how the
product is divided between them (`jaxrec.similarity`). The figure takes the balanced choice, the table three.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxrec import similarity
from jaxrec.closed_form import spectral
from jaxrec.data import Interactions
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.contenders import edlae
from jaxrec.experiments.harness.datasets import Prepared
from jaxrec.experiments.harness.outcome import Outcome, figures, measured, panels, recorded, rows
from jaxrec.experiments.harness.trials import Contender, Scale, Trials, Tuned, options, power_of
from jaxrec.experiments.low_rank.forms import LowRankDlae, ZeroDiagonal
from jaxrec.linear import Ease, Lae, LowRankEdlae
from jaxrec.models import Fitted, ItemFactors
from jaxrec.solvers.lanczos import Eigenpairs

VERSION = 1
SIMILAR = 10  # items, the item itself included
GAUGES = ("balanced", "item_orthonormal", "user_orthonormal")
FIGURE = ("L2 on UV'", "zero diagonal", "EASE", "DLAE", "EDLAE")
EDGES = np.linspace(-1, 1, 41)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdlaeScale(Scale):
    """The scale with the steps of the fixed point of the low-rank EDLAE."""

    steps: int


SCALES = {
    "smoke": EdlaeScale(most=2, ranks=(8,), dropouts=(0.33,), steps=5),
    "small": EdlaeScale(most=5, ranks=(16, 64, 256), dropouts=(0.33, 0.67), steps=20),
    "full": EdlaeScale(
        most=12, ranks=(10, 50, 100, 200, 500, 1000), dropouts=(0.1, 0.25, 0.33, 0.5, 0.67, 0.75), steps=100
    ),
}


class SharedSpectrum:
    """The largest eigenpairs of X'X, found once: they serve every rank and strength of two of the lines."""

    def __init__(self, rank: int):
        self.pairs = functools.lru_cache(1)(lambda train: spectral.eigenpairs(train, rank))

    def first(self, train: Interactions, rank: int) -> Eigenpairs:
        """The pairs of the largest `rank` eigenvalues."""
        values, vectors = self.pairs(train)
        return Eigenpairs(values[:rank], vectors[:, :rank])


@dataclasses.dataclass(frozen=True)
class FromSpectrum:
    """A linear autoencoder without dropout whose diagonal counts, in closed form from the singular values of X.

    Attributes:
      spectrum: at least of this rank.
      closed_form: `spectral.closed_form_l2` or `spectral.closed_form_product`.
      rank: k.
      reg: in the unit of squared singular values.
    """

    spectrum: SharedSpectrum
    closed_form: Callable[[Eigenpairs, float], ItemFactors]
    rank: int
    reg: float

    def fit(self, train: Interactions) -> ItemFactors:
        """The factors, in float32."""
        model = self.closed_form(self.spectrum.first(train, self.rank), self.reg)
        return ItemFactors(*(np.asarray(part, np.float32) for part in (model.encoder, model.decoder)))


def contenders(rank: int | None, spectrum: SharedSpectrum, plan: EdlaeScale) -> dict[str, Contender]:
    """The lines of one rank, None for full rank.

    "zero diagonal" has no walk: it takes the strength of EASE, as the paper does.
    """
    dropouts = options("dropout", *plan.dropouts)
    if rank is None:
        return {
            "LAE": Contender(Lae, 7),
            "DLAE": Contender(Lae, 5, settings=dropouts),
            "EASE": Contender(Ease, 5),
            "EDLAE": edlae(plan.dropouts),
        }
    low_rank = partial(LowRankEdlae, rank, steps=plan.steps)
    return {
        "L2 on U and V": Contender(partial(FromSpectrum, spectrum, spectral.closed_form_l2, rank), 5),
        "L2 on UV'": Contender(partial(FromSpectrum, spectrum, spectral.closed_form_product, rank), 7),
        "DLAE": Contender(partial(LowRankDlae, rank), 5, settings=dropouts),
        "zero diagonal": Contender(partial(ZeroDiagonal, rank)),
        "EASE": Contender(partial(low_rank, dropout=0.0), 5),
        "EDLAE": Contender(low_rank, 5, settings=dropouts),
    }


def run(data: Prepared, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The table and the figure on one data set."""
    plan = SCALES[scale]
    trials = Trials(data, cells, plan, say)
    train = trials.parts.train
    ranks = [rank for rank in plan.ranks if 2 * rank <= train.n_items]
    spectrum = SharedSpectrum(max(ranks))
    lines: dict[str, Tuned] = {}
    starts: dict[str, int] = {}
    for rank in (None, *ranks):
        for kind, contender in contenders(rank, spectrum, plan).items():
            name = kind if rank is None else f"{kind}, rank {rank}"
            if contender.start is not None:
                contender = dataclasses.replace(contender, start=starts.get(kind, contender.start))
            else:
                contender = dataclasses.replace(contender, settings=options("reg", lines["EASE"].settings["reg"]))
            line = lines[name] = trials.tune(name, contender)
            if rank is not None:  # the next rank begins where this one ended
                starts[kind] = power_of(line.settings["reg"])
    shown = [line for kind in FIGURE if (line := lines[f"{kind}, rank {ranks[-1]}"]).fitted]
    settings = {"figure": 1, "judge": lines["EDLAE"].described, **{line.name: line.described for line in shown}}
    found = cells.get(settings, partial(cosines, lines["EDLAE"], shown, train))
    text = [
        "Settings chosen on held-out users; test users, with standard errors over users. LAE, L2: the diagonal "
        "of the weights counts; DLAE: with dropout; EASE: it is left out of the loss; EDLAE: with dropout; zero "
        "diagonal: it is 0, which with full rank is EASE, with low rank another constraint (EASE's strength).",
        "",
        *measured(list(lines.values()), trials.metrics),
        "",
        f"Median over items of the median pairwise cosine within the {SIMILAR} most similar items (their quartiles), "
        "rows of the encoder U and of the decoder V, by how UV' is divided between them.",
        "",
        *cosine_table(found),
    ]
    return Outcome(
        table="\n".join(text) + "\n",
        record={"lines": recorded(list(lines.values())), "cosines": found},
        plots={"cosines": partial(write_plot, found, train.name)},
        figures=figures(list(lines.values())),
    )


def cosines(judge: Tuned, shown: Sequence[Tuned], train: Interactions) -> dict[str, Any]:
    """Figure 1: quartiles for every model, gauge and side, and histograms of the balanced gauge."""
    similar = most_similar(np.asarray(judge.method.fit(train).model.to_host().weights), min(SIMILAR, train.n_items))
    models = {}
    for line in shown:
        fitted = line.method.fit(train)
        factors = fitted.model if isinstance(fitted, Fitted) else fitted
        of_gauges: dict[str, Any] = {}
        for gauge in GAUGES:
            parts = similarity.canonical_gauge(ItemFactors(*map(np.asarray, (factors.encoder, factors.decoder))), gauge)
            sides = {side: neighbourhood_cosines(getattr(parts, side), similar) for side in ("encoder", "decoder")}
            of_gauges[gauge] = {
                side: {
                    "quartiles": np.nanquantile(values, (0.25, 0.5, 0.75)).tolist(),
                    "histogram": np.histogram(values[np.isfinite(values)], EDGES)[0].tolist(),
                    "items without": int(np.sum(~np.isfinite(values))),
                }
                for side, values in sides.items()
            }
        models[line.name] = of_gauges
    return {"models": models, "edges": EDGES.tolist()}


def most_similar(weights: np.ndarray, count: int, at_once: int = 1024) -> np.ndarray:
    """[I, count] for each column of the weights [I, I] the item itself and those with the largest weights."""
    found = []
    for start in range(0, len(weights), at_once):
        columns = weights[:, start : start + at_once].copy()
        np.einsum("ii->i", columns[start : start + at_once])[:] = np.inf
        found.append(np.argpartition(-columns, count - 1, axis=0)[:count].T)
    return np.concatenate(found)


def neighbourhood_cosines(vectors: np.ndarray, similar: np.ndarray, at_once: int = 256) -> np.ndarray:
    """[I] the median cosine over all pairs of the items of each row of `similar`; NaN if one has no direction."""
    with np.errstate(invalid="ignore"):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    i, j = np.triu_indices(similar.shape[1], 1)
    found = []
    for start in range(0, len(similar), at_once):
        near = unit[similar[start : start + at_once]]
        found.append(np.median(np.einsum("bik,bjk->bij", near, near)[:, i, j], axis=1))
    return np.concatenate(found)


def cosine_table(found: dict[str, Any]) -> list[str]:
    """The quartiles in Markdown."""
    lines = []
    for name, of_gauges in found["models"].items():
        for gauge, sides in of_gauges.items():
            values = ["{1:.2f} ({0:.2f} to {2:.2f})".format(*sides[side]["quartiles"]) for side in sides]
            lines.append([name, gauge.replace("_", " "), *values])
    return rows(["", "gauge", "encoder U", "decoder V"], lines)


def write_plot(found: dict[str, Any], name: str, path: Any) -> None:
    """The histograms of the balanced gauge: without dropout on the left, with it on the right."""
    edges = np.array(found["edges"])
    with panels(path, (10, 4.5), 2, title=name, sharey=True) as both:
        for model, of_gauges in found["models"].items():
            kind = 0 if model.startswith(("L2", "DLAE")) else 1 if model.startswith("zero") else 2
            axes = both[int(model.startswith(("DLAE", "EDLAE")))]
            for side, style in (("encoder", "-"), ("decoder", "--")):
                counts = np.array(of_gauges["balanced"][side]["histogram"], float)
                density = counts / max(1.0, counts.sum()) / np.diff(edges)
                label = f"{side}, diagonal {('free', 'zero', 'left out of the loss')[kind]}"
                axes.stairs(density, edges, label=label, color=f"C{kind}", linestyle=style, linewidth=1.5)
        for axes, title in zip(both, ("without dropout", "with dropout"), strict=True):
            axes.set(xlabel="median cosine of the most similar items", title=title)
        both[0].set_ylabel("density over items")
        handles = both[0].get_legend_handles_labels()
        both[0].figure.legend(*handles, fontsize="small", loc="outside lower center", ncols=3)
