"""The figure of arXiv 2403.05440 on simulated clusters: the same scores, and whatever cosines one likes.

    python benchmarks/cosine_figure.py --out FOLDER                      # needs matplotlib

Simulates users with tastes in clusters of items, solves both objectives of the paper in closed form, and writes
cosine_figure.png (item-item similarities as heat maps, items sorted by cluster and popularity), cosine_figure.md (the
gauge reports and what was checked) and cosine_figure.json. The generator is jaxrec's own reading of the paper's; `reg`
is the paper's as it is remembered, and is not tuned. It checks that

- in the gauge with orthonormal items of the full-rank solution, reached from a random gauge in float32, all item-item
  cosines are those of the identity;
- random gauges of the rank-k solution never take a cosine out of `cosine_range`, and come near both of its ends.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image  # comes with matplotlib

import jaxrec
from jaxrec import similarity as sim
from jaxrec import stats


def main() -> None:
    """Simulates, solves, checks, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--clusters", type=int, default=5)
    parser.add_argument("--rank", type=int, default=50)
    parser.add_argument("--reg-product", type=float, default=10_000.0, help="of the first objective")
    parser.add_argument("--reg-factor", type=float, default=100.0, help="of the second")
    parser.add_argument("--gauges", type=int, default=10_000, help="random gauges to check the ranges with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data, clusters = sim.simulate_clusters(options.users, options.items, options.clusters, seed=options.seed)
    gram = stats.gram(data, np.float64)
    everything = sim.eigenpairs(data, options.items)
    first = type(everything)(everything.values[: options.rank], everything.vectors[:, : options.rank])
    product = sim.closed_form_product(first, options.reg_product)
    factor = sim.closed_form_factor(first, options.reg_factor)
    full = sim.closed_form_product(everything, options.reg_product)

    rng = np.random.default_rng(options.seed)
    random_gauge = sim.rescale(product, np.exp(2 * rng.normal(size=options.rank)))
    identity = identity_gauge(full, rng)
    checks = {"largest deviation from the identity": float(np.abs(identity - np.eye(options.items)).max())}
    checks |= ranges(product, random_gauge, options.gauges, rng)

    root = (np.sqrt(everything.values) * everything.vectors).T.astype(np.float32)  # R'R = X'X
    reports = {
        f"first objective, reg {options.reg_product:g}": sim.gauge_report(
            product, lambda a, b: sim.product_objective(root, a, b, options.reg_product), gram
        ),
        f"second objective, reg {options.reg_factor:g}": sim.gauge_report(
            factor, lambda a, b: sim.factor_objective(root, a, b, options.reg_factor), gram
        ),
    }
    panels = {
        "truth: same cluster": (clusters[:, None] == clusters[None, :]).astype(float),
        "1st objective, B = V$_k$": vectors(product, "item_orthonormal"),
        "1st objective, A = B": vectors(product, "balanced"),
        "1st objective, A = V$_k$": vectors(product, "user_orthonormal"),
        "2nd objective (unique)": sim.cosines(factor.decoder),
        "1st objective, random D": sim.cosines(random_gauge.decoder),
        "1st objective, full rank, B = V": identity,
        "1st objective, reconstruction": sim.reconstruction_cosine(product, gram),
        "2nd objective, reconstruction": sim.reconstruction_cosine(factor, gram),
        "data (no model)": sim.cosines(root.T.astype(np.float64)),
    }
    title = f"Item-item similarities from {data.n_users:,} users, {data.n_items:,} items, k = {options.rank}"
    picture = options.out / "cosine_figure.png"
    sim.heat_maps(panels, picture, clusters=clusters, title=title)
    Image.open(picture).quantize(256).save(picture, optimize=True)  # a quarter of the size
    contrast = {name.replace("$_k$", "_k"): within_between(panel, clusters) for name, panel in panels.items()}
    write(options, data, reports, contrast, checks)


def vectors(model: jaxrec.ItemFactors, choice: str) -> np.ndarray:
    """[I, I] cosines under a choice."""
    return sim.cosines(sim.item_vectors(model, choice))


def identity_gauge(full: jaxrec.ItemFactors, rng: np.random.Generator) -> np.ndarray:
    """[I, I] cosines of the float32 full-rank solution, mixed at random, in the gauge with orthonormal items."""
    n = full.n_items
    mixed = sim.transform(full, np.linalg.qr(rng.normal(size=(n, n)))[0] * np.exp(rng.normal(size=n)))
    mixed = jaxrec.ItemFactors(mixed.encoder.astype(np.float32), mixed.decoder.astype(np.float32))
    return sim.cosines(sim.canonical_gauge(mixed, "item_orthonormal").decoder)


def ranges(
    model: jaxrec.ItemFactors, other: jaxrec.ItemFactors, n_gauges: int, rng: np.random.Generator
) -> dict[str, float]:
    """How cosines in random gauges compare with `cosine_range`, for pairs of items in few and in all dimensions.

    With 50 dimensions nearly every pair has products of both signs, and so the range (-1, 1), whose ends take scales
    that differ by many orders of magnitude. The first two dimensions alone leave many pairs a shorter one.
    """
    i, j = rng.integers(model.n_items, size=(2, 200))
    i, j = i[i != j], j[i != j]
    found = {}
    for name, items in (("all dimensions", model.decoder), ("two dimensions", model.decoder[:, :2])):
        low, high = sim.cosine_range(items, i, j)
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


def within_between(similarity: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Mean similarity of different items of one cluster and of two, and how well it tells these cases apart (AUC)."""
    i, j = np.triu_indices(len(clusters), 1)
    same, values = clusters[i] == clusters[j], similarity[i, j]
    order = np.argsort(values)
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    n_same, n_other = int(same.sum()), int((~same).sum())
    auc = (ranks[same].sum() - n_same * (n_same + 1) / 2) / (n_same * n_other)
    return {"within": float(values[same].mean()), "between": float(values[~same].mean()), "auc": float(auc)}


def write(
    options: argparse.Namespace,
    data: jaxrec.Interactions,
    reports: dict[str, sim.GaugeReport],
    contrast: dict[str, dict[str, float]],
    checks: dict[str, float],
) -> None:
    """The text and the record beside the picture."""
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    record = {
        "data": data.summary(),
        "settings": settings,
        "checks": checks,
        "similarities": contrast,
        "reports": {name: report.record() for name, report in reports.items()},
    }
    (options.out / "cosine_figure.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = [f"# Cosine similarities of items: {data.name}", "", "![](cosine_figure.png)", ""]
    lines += ["| similarity | within clusters | between | AUC of same cluster |", "|---|---|---|---|"]
    lines += [f"| {name} | {c['within']:.3f} | {c['between']:.3f} | {c['auc']:.3f} |" for name, c in contrast.items()]
    for name, report in reports.items():
        lines += ["", f"## Gauge report: {name}", "", "```text", str(report), "```"]
    lines += [
        "",
        "## Checks",
        "",
        "| check | value |",
        "|---|---|",
        *(f"| {name} | {value:.3g} |" for name, value in checks.items()),
    ]
    (options.out / "cosine_figure.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
