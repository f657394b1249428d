"""The figure of Steck, Ekanadham & Kallus (2024): the same scores, and whatever cosines one likes.

Simulates users with tastes in clusters of items, solves both objectives of the paper in closed form, and draws
item-item similarities as heat maps, items sorted by cluster and popularity. The generator is our own reading of the
paper's; the strengths are the paper's as they are remembered, and are not tuned. It checks that

- in the gauge with orthonormal items of the full-rank solution, reached from a random gauge in float32, all item-item
  cosines together are the identity;
- random gauges of the rank-k solution never take a cosine out of `cosine_range`, and come near both of its ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxrec import similarity
from jaxrec.closed_form.gram import gram_matrix
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.outcome import Outcome, rows
from jaxrec.models import ItemFactors

VERSION = 1


class Sizes(NamedTuple):
    """The scale of the simulation, and of the check with random gauges."""

    users: int
    items: int
    rank: int
    reg_product: float
    reg_factor: float
    gauges: int
    clusters: int = 5
    seed: int = 0


PAPER = Sizes(20_000, 1_000, 50, 10_000.0, 100.0, 10_000)
SCALES = {"smoke": Sizes(600, 60, 8, 300.0, 10.0, 200), "small": PAPER, "full": PAPER}


def run(data: None, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The figure, the gauge reports and the checks."""
    sizes = SCALES[scale]
    x, clusters = similarity.simulate_clusters(sizes.users, sizes.items, sizes.clusters, seed=sizes.seed)
    gram = gram_matrix(x, np.float64)
    everything = similarity.eigenpairs(x, sizes.items)
    first = type(everything)(everything.values[: sizes.rank], everything.vectors[:, : sizes.rank])
    product = similarity.closed_form_product(first, sizes.reg_product)
    factor = similarity.closed_form_factor(first, sizes.reg_factor)
    full = similarity.closed_form_product(everything, sizes.reg_product)
    say(f"{x.n_users:,} users x {x.n_items:,} items simulated, both objectives solved")

    rng = np.random.default_rng(sizes.seed)
    random_gauge = similarity.rescale(product, np.exp(2 * rng.normal(size=sizes.rank)))
    identity = identity_gauge(full, rng)
    checks = {"largest deviation from the identity": float(np.abs(identity - np.eye(sizes.items)).max())}
    checks |= ranges(product, sizes.gauges, rng)
    say(f"{sizes.gauges:,} random gauges compared with the ranges")

    root = (np.sqrt(everything.values) * everything.vectors).T.astype(np.float32)  # R'R = X'X
    reports = {
        f"first objective, reg {sizes.reg_product:g}": similarity.gauge_report(
            product, lambda a, b: similarity.product_objective(root, a, b, sizes.reg_product), gram
        ),
        f"second objective, reg {sizes.reg_factor:g}": similarity.gauge_report(
            factor, lambda a, b: similarity.factor_objective(root, a, b, sizes.reg_factor), gram
        ),
    }
    panels = {
        "truth: same cluster": (clusters[:, None] == clusters[None, :]).astype(float),
        "1st objective, B = V$_k$": vectors(product, "item_orthonormal"),
        "1st objective, A = B": vectors(product, "balanced"),
        "1st objective, A = V$_k$": vectors(product, "user_orthonormal"),
        "2nd objective (unique)": similarity.cosines(factor.decoder),
        "1st objective, random D": similarity.cosines(random_gauge.decoder),
        "1st objective, full rank, B = V": identity,
        "1st objective, reconstruction": similarity.reconstruction_cosine(product, gram),
        "2nd objective, reconstruction": similarity.reconstruction_cosine(factor, gram),
        "data (no model)": similarity.cosines(root.T.astype(np.float64)),
    }
    contrast = {name.replace("$_k$", "_k"): within_between(panel, clusters) for name, panel in panels.items()}
    title = f"Item-item similarities from {x.n_users:,} users, {x.n_items:,} items, k = {sizes.rank}"
    return Outcome(
        table=text(contrast, reports, checks),
        record={
            "simulated": x.summary(),
            "settings": sizes._asdict(),
            "checks": checks,
            "similarities": contrast,
            "reports": {name: report.record() for name, report in reports.items()},
        },
        plots={"cosines": partial(similarity.heat_maps, panels, clusters=clusters, title=title)},
    )


def vectors(model: ItemFactors, choice: str) -> np.ndarray:
    """[I, I] cosines under a choice."""
    return similarity.cosines(similarity.item_vectors(model, choice))


def identity_gauge(full: ItemFactors, rng: np.random.Generator) -> np.ndarray:
    """[I, I] cosines of the float32 full-rank solution, mixed at random, in the gauge with orthonormal items."""
    n = full.n_items
    mixed = similarity.transform(full, np.linalg.qr(rng.normal(size=(n, n)))[0] * np.exp(rng.normal(size=n)))
    mixed = ItemFactors(mixed.encoder.astype(np.float32), mixed.decoder.astype(np.float32))
    return similarity.cosines(similarity.canonical_gauge(mixed, "item_orthonormal").decoder)


def ranges(model: ItemFactors, n_gauges: int, rng: np.random.Generator) -> dict[str, float]:
    """How cosines in random gauges compare with `cosine_range`, for pairs of items in few and in all dimensions.

    With 50 dimensions nearly every pair has products of both signs, and so the range (-1, 1), whose ends take scales
    that differ by many orders of magnitude. The first two dimensions alone leave many pairs a shorter one.
    """
    i, j = rng.integers(model.n_items, size=(2, 200))
    i, j = i[i != j], j[i != j]
    found = {}
    for name, items in (("all dimensions", model.decoder), ("two dimensions", model.decoder[:, :2])):
        low, high = similarity.cosine_range(items, i, j)
        smallest, largest = np.full(len(i), np.inf), np.full(len(i), -np.inf)
        left, right = items[i], items[j]
        for _ in range(n_gauges):
            scale = np.exp(rng.choice([1.0, 4.0, 16.0]) * rng.normal(size=items.shape[1]))
            one, two = left / scale, right / scale
            cosine = np.sum(one * two, axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
            smallest, largest = np.minimum(smallest, cosine), np.maximum(largest, cosine)
        found[f"{name}: pairs with the range (-1, 1)"] = float(np.mean((low == -1) & (high == 1)))
        found[f"{name}: furthest outside the range"] = float(max((low - smallest).max(), (largest - high).max()))
        found[f"{name}: furthest of the smallest cosine from the lower end"] = float((smallest - low).max())
        found[f"{name}: furthest of the largest cosine from the upper end"] = float((high - largest).max())
    return found


def within_between(similarities: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Mean similarity of different items of one cluster and of two, and how well it tells these cases apart (AUC)."""
    i, j = np.triu_indices(len(clusters), 1)
    same, values = clusters[i] == clusters[j], similarities[i, j]
    order = np.argsort(values)
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    n_same, n_other = int(same.sum()), int((~same).sum())
    auc = (ranks[same].sum() - n_same * (n_same + 1) / 2) / (n_same * n_other)
    return {"within": float(values[same].mean()), "between": float(values[~same].mean()), "auc": float(auc)}


def text(contrast: dict[str, dict[str, float]], reports: dict[str, Any], checks: dict[str, float]) -> str:
    """All of it in Markdown."""
    figures = [[name, *(f"{c[key]:.3f}" for key in ("within", "between", "auc"))] for name, c in contrast.items()]
    lines = rows(["similarity", "within clusters", "between", "AUC of same cluster"], figures)
    for name, report in reports.items():
        lines += ["", f"Gauge report: {name}", "", "```text", str(report), "```"]
    lines += ["", *rows(["check", "value"], [[name, f"{value:.3g}"] for name, value in checks.items()])]
    return "\n".join(lines) + "\n"
