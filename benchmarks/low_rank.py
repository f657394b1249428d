"""Low-rank EDLAE over ranks: how far each form is above full rank, and what that costs in ndcg@100.

    python benchmarks/low_rank.py DATA --ranks 8 64 512 --out FOLDER       # needs matplotlib and optax

DATA is any file that `jaxrec.load` reads, split by strong generalization. Writes low_rank.md, low_rank.json and
low_rank.png to FOLDER. The excess is (J - J*) / (J(0) - J*) on the training users, J* the loss of full rank: 0 is full
rank, 1 no model. All forms start from one Gram matrix and one Cholesky factor; seconds are those of the form alone, up
to rank 256 the second time it runs (compiled). Above half of the items every truncated SVD is a whole one, so the form
that takes twenty of them is left out there. L-BFGS is the best of up to three runs (`--lbfgs-starts`): from the closed
form, from the fixed point, and from random factors.
"""

import argparse
import json
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from harness import machine

import jaxrec
from jaxrec import Edlae, ItemFactors, stats
from jaxrec.data.splits import strong_generalization
from jaxrec.linear import low_rank
from jaxrec.linear import low_rank_solvers as solvers

METRIC = "ndcg@100"
ONE_SHOTS = {"SVD of B* (a)": "full_rank", "free-diagonal beta (b)": "free_diagonal", "eigen beta (c)": "eigen"}
TIED_STEPS, ADMM_STEPS = 20, 20
TIED = f"tied diagonal, {TIED_STEPS} SVDs (d)"
WARM_UP_TO = 256
_tied = jax.jit(solvers.tied_diagonal, static_argnums=2)
_free = jax.jit(solvers.free_diagonal, static_argnums=1)
_eigen = jax.jit(solvers.eigen_factors, static_argnums=1)


def forms(problem, options):
    """Each form by name, as a function of the rank and a key to encoder and decoder."""

    def of(basis, w=None):
        if w is None:
            return low_rank._best_decoder(problem, basis)[:2]
        return problem.inverse.T @ basis, problem.target(w, problem.unexplained).transpose(basis)

    def one_shot(kind):
        return lambda rank, key: of(*low_rank._one_shot(problem, kind, rank, key))

    def tied(rank, key):
        w = low_rank._one_shot(problem, "free_diagonal", rank, key)[1]
        return of(*_tied(problem, w, rank, key, TIED_STEPS))

    def fixed_point(rank, key):
        start, _ = low_rank.closed_form_basis(problem, rank, key)
        return of(low_rank._fixed_point(problem, start, low_rank.STEPS["fixed_point"], low_rank.TOLERANCE)[0])

    def lbfgs(rank, key):
        scale = 1 / np.sqrt(problem.lower.shape[0])
        u, v = scale * jax.random.normal(key, (2, problem.lower.shape[0], rank))
        starts = [of(low_rank.closed_form_basis(problem, rank, key)[0]), fixed_point(rank, key)]
        starts.append((problem.inverse.T @ u, v))
        ends = [solvers.lbfgs(problem, *start, options.lbfgs_steps)[:2] for start in starts[: options.lbfgs_starts]]
        return min(ends, key=lambda end: float(low_rank._excess(problem, *end)))

    found = {name: one_shot(kind) for name, kind in ONE_SHOTS.items()}
    found |= {
        "eigen only (c')": lambda rank, key: _eigen(problem, rank, key),
        TIED: tied,
        "closed form: best of (a)-(c) + (e)": lambda rank, key: of(low_rank.closed_form_basis(problem, rank, key)[0]),
        "fixed point": fixed_point,
        "ADMM, best iterate": lambda rank, key: low_rank.admm(problem, rank, key, ADMM_STEPS, options.omega)[:2],
        "constraint dropped": lambda rank, key: _free(problem, rank, key),
    }
    return found, lbfgs


def run(options):
    """The figures of every form at every rank so far, after each rank."""
    data = jaxrec.load(options.data)
    split = strong_generalization(data)
    train, held_out = split.train, split.test
    gram = jnp.asarray(stats.gram(train))
    problem = jax.block_until_ready(low_rank.prepare(gram, options.dropout, options.reg))
    ndcg = jaxrec.evaluate(Edlae(options.reg, options.dropout).fit(train), *held_out, METRIC)
    about = {
        "data": train.summary(),
        "reg": options.reg,
        "dropout": options.dropout,
        "machine": machine(int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))),
        "full rank": {METRIC: ndcg.mean[METRIC], "standard error": ndcg.standard_error[METRIC]},
        "n_test_users": ndcg.n_users,
    }
    rows, key = [], jax.random.key(0)
    by_name, lbfgs = forms(problem, options)
    for rank in [*options.ranks, *([train.n_items] if options.all_items else [])]:
        chosen = by_name | ({"L-BFGS": lbfgs} if rank <= options.lbfgs_up_to else {})
        for name, form in chosen.items():
            if name == TIED and 2 * rank > train.n_items:
                continue
            if name != "L-BFGS" and rank <= WARM_UP_TO:
                jax.block_until_ready(form(rank, key))  # compiles
            begun = time.perf_counter()
            factors = jax.block_until_ready(form(rank, key))
            seconds = time.perf_counter() - begun
            excess = float(low_rank._excess(problem, *factors))
            report = jaxrec.evaluate(ItemFactors(*factors), *held_out, METRIC) if np.isfinite(excess) else None
            metric = report.mean[METRIC] if report else None
            rows.append({"rank": rank, "form": name, "excess": excess, METRIC: metric, "seconds": seconds})
            print(f"{rank:6} {name:38} {excess:10.6f} {metric or float('nan'):8.4f} {seconds:8.2f} s", flush=True)
        yield about | {"rows": rows}


def table(figures, value, digits):
    """A Markdown table, one row a form and one column a rank."""
    ranks = sorted({row["rank"] for row in figures["rows"]})
    names = list(dict.fromkeys(row["form"] for row in figures["rows"]))
    cells = {(row["form"], row["rank"]): row[value] for row in figures["rows"]}
    lines = ["| form | " + " | ".join(f"k = {rank}" for rank in ranks) + " |", "|---" * (len(ranks) + 1) + "|"]
    for name in names:
        values = [cells.get((name, rank)) for rank in ranks]
        lines.append(f"| {name} | " + " | ".join("-" if v is None else f"{v:.{digits}f}" for v in values) + " |")
    return "\n".join(lines)


def gap_to_lbfgs(figures):
    """How far the closed form and the fixed point are above L-BFGS, as a share of its excess, by rank."""
    excess = {(row["form"], row["rank"]): row["excess"] for row in figures["rows"]}
    lines = []
    for (form, rank), judge in excess.items():
        if form == "L-BFGS":
            closed = excess[("closed form: best of (a)-(c) + (e)", rank)] / judge - 1
            fixed = excess[("fixed point", rank)] / judge - 1
            lines.append(f"| {rank} | {closed:+.2%} | {fixed:+.2%} |")
    return "\n".join(["| k | closed form | fixed point |", "|---|---|---|", *lines])


def markdown(figures):
    """The whole record, as a page."""
    data, full = figures["data"], figures["full rank"]
    return f"""# Low-rank EDLAE on {data["name"]}

{data["n_users"]:,} training users x {data["n_items"]:,} items; reg {figures["reg"]:g}, dropout {figures["dropout"]:g}.
Full rank: {METRIC} {full[METRIC]:.4f} (standard error {full["standard error"]:.4f}, {figures["n_test_users"]} users).

Excess (J - J*) / (J(0) - J*):

{table(figures, "excess", 5)}

{METRIC}:

{table(figures, METRIC, 4)}

Seconds, after one Gram matrix and one Cholesky factor ({figures["machine"]["cpu"]}):

{table(figures, "seconds", 2)}

Above L-BFGS, relative to its excess:

{gap_to_lbfgs(figures)}
"""


def plot(figures, path):
    """Excess and metric over the rank, a line a form."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = ["constraint dropped", *ONE_SHOTS, "closed form: best of (a)-(c) + (e)", "ADMM, best iterate"]
    shown += ["fixed point", "L-BFGS"]
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    for index, name in enumerate(shown):
        rows = [row for row in figures["rows"] if row["form"] == name]
        style = {"color": f"C{index}", "marker": "x" if name == "L-BFGS" else ".", "label": name}
        style["linestyle"] = "none" if name == "L-BFGS" else "-"
        for axis, value in zip(axes, ("excess", METRIC), strict=True):
            real = [row for row in rows if row[value] is not None and row["excess"] < 2]
            drawn = [(row["rank"], row[value]) for row in real if row[value] > 1e-6]  # 0 at full rank
            axis.plot(*np.array(drawn).reshape(-1, 2).T, **style)
    full = figures["full rank"]
    axes[1].axhline(full[METRIC], color="black", linestyle="--", label="full rank")
    band = full[METRIC] + np.array([-1, 1]) * full["standard error"]
    axes[1].axhspan(*band, color="black", alpha=0.08)
    axes[0].set(xscale="log", yscale="log", xlabel="rank k", ylabel="(J - J*) / (J(0) - J*)", ylim=(1e-6, 2))
    axes[1].set(xscale="log", xlabel="rank k", ylabel=METRIC)
    axes[1].legend(fontsize=8)
    figure.suptitle(f"Low-rank EDLAE on {figures['data']['name']}")
    figure.savefig(path, dpi=150)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="Low-rank EDLAE over ranks")
    parser.add_argument("data")
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16, 32, 64, 128, 200, 400, 800])
    parser.add_argument("--all-items", action="store_true", help="also k = I")
    parser.add_argument("--reg", type=float, default=100.0)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--omega", type=float, default=500.0)
    parser.add_argument("--lbfgs-up-to", type=int, default=256, help="largest rank at which L-BFGS runs")
    parser.add_argument("--lbfgs-steps", type=int, default=200)
    parser.add_argument("--lbfgs-starts", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for figures in run(options):
        (options.out / "low_rank.json").write_text(json.dumps(figures, indent=1) + "\n")
        (options.out / "low_rank.md").write_text(markdown(figures))
        plot(figures, options.out / "low_rank.png")
    print((options.out / "low_rank.md").read_text())


if __name__ == "__main__":
    main()
