"""One epoch of alternating least squares: jaxrec beside implicit and irspack, on one loss and from one start.

    python benchmarks/als.py --out FOLDER                                  # needs implicit and irspack
    python benchmarks/als.py --modes exact --ranks 128 --data ratings.npz --out FOLDER

Writes als.md and als.json to FOLDER. Each library has a process of its own, which sets everything up, does one epoch
(jaxrec may compile in it), and then one whenever it is told to: the libraries take turns, in another order each round,
and the ratio is the median over rounds of that within a round. The loss is weight ALPHA on positives, 1 elsewhere,
target 1, plain reg, which all three can be told; after every epoch it is computed of everyone's factors by the same
float64 function, and so is the time that reaches implicit's last loss. All have the same number of threads; BLAS calls
of implicit have one, as its manual asks. On a GPU run `--only jaxrec`, with ranks up to 1,024.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import scipy.sparse as sp
from harness import machine, peak_gb

ALPHA, REG, CG_STEPS, BLOCK, STD = 10.0, 1.0, 3, 128, 0.1
OWN_STEPS = 2  # of jaxrec: its steps are preconditioned, and two come further than three plain ones
SAME = 1e-5  # losses that differ by less, relatively, are the same
LIBRARIES = ("jaxrec", "implicit", "irspack")
MODES = ("cg", "exact", "block")


def jaxrec(x, start, mode, threads):
    """The sweeps of the library."""
    import jax

    from jaxrec import Interactions
    from jaxrec.factorization import conventions
    from jaxrec.factorization.ials import sweeps

    data = Interactions.from_csr(x)
    made = conventions.implicit(data, ALPHA, REG)
    rank = start[0].shape[1]
    own = {"cg": "cg", "exact": "cholesky", "block": "block"}[mode]
    method = made.method(rank=rank, mode=own, cg_steps=OWN_STEPS, block_size=min(BLOCK, rank))
    settings = method._settings(None)
    problem, _ = method.problem(data, made.cell_weights)
    sides = sweeps.sides(problem, rank, settings)
    state = sweeps.place(sweeps.IalsState(*start), sides, settings)

    def epoch():
        nonlocal state
        state, _ = jax.block_until_ready(sweeps.step(state, sides, problem.constant, settings))

    return epoch, lambda: sweeps.fetch(state, sides, settings)


def implicit(x, start, mode, threads):
    """What `implicit.als.AlternatingLeastSquares.fit` does in an iteration."""
    from implicit.cpu import _als

    users = (ALPHA * x).astype(np.float32)
    items = users.T.tocsr()
    p, v = (factors.copy() for factors in start)
    solve = _als.least_squares_cg if mode == "cg" else _als.least_squares
    options = {"num_threads": threads} | ({"cg_steps": CG_STEPS} if mode == "cg" else {})

    def epoch():
        solve(users, p, v, REG, **options)
        solve(items, v, p, REG, **options)

    return epoch, lambda: (p, v)


def irspack(x, start, mode, threads):
    """`irspack.IALSRecommender`'s trainer; its ORIGINAL loss with c = ALPHA - 1 and alpha0 = 1 is that of implicit."""
    from irspack.recommenders import ials

    rank = start[0].shape[1]
    solver = ials.str_to_solver_type({"cg": "CG", "exact": "CHOLESKY", "block": "IALSPP"}[mode])
    loss = ials.str_to_loss_type("ORIGINAL")
    numbers = rank, 1.0, REG, 0.0, STD, solver, CG_STEPS, min(BLOCK, rank)
    trainer = ials.IALSTrainer(x * (ALPHA - 1), *numbers, loss, 0, threads, CG_STEPS, 1)
    trainer.core_trainer.user, trainer.core_trainer.item = start
    return trainer.run_epoch, lambda: (trainer.core_trainer.user, trainer.core_trainer.item)


def work(library, folder, mode):
    """A process of one library: an epoch for each line it is sent, whose factors it writes."""
    x = sp.csr_matrix(sp.load_npz(folder / "data.npz"))
    saved = np.load(folder / "start.npz")
    begun = time.perf_counter()
    epoch, factors = globals()[library](x, (saved["p"], saved["v"]), mode, int(os.environ["OMP_NUM_THREADS"]))
    print(time.perf_counter() - begun, flush=True)
    for number, order in enumerate(sys.stdin):
        if order.strip() == "end":
            break
        begun = time.perf_counter()
        epoch()
        seconds = time.perf_counter() - begun
        p, v = (np.asarray(factor) for factor in factors())
        np.savez(folder / f"{library}-{number}.npz", p=p, v=v)
        print(seconds, flush=True)
    print(peak_gb(), flush=True)


class Process:
    """The other end of `work`."""

    def __init__(self, library, folder, mode, threads):
        blas = threads if library == "jaxrec" else 1
        pinned = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": blas, "MKL_NUM_THREADS": blas}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", library, str(folder), mode],
            env=os.environ | {name: str(number) for name, number in pinned.items()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.prepare = self.answer()

    def answer(self, order=None):
        """The number it answers with."""
        if order:
            print(order, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def compare(x, rank, mode, options):
    """The figures of all libraries on one problem."""
    from jaxrec import Interactions
    from jaxrec.factorization import conventions
    from jaxrec.factorization.ials import sweeps

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sp.save_npz(folder / "data.npz", sp.csr_matrix(x), compressed=False)
        p, v = (np.float32(STD / np.sqrt(rank)) * rng.standard_normal((n, rank), np.float32) for n in x.shape)
        np.savez(folder / "start.npz", p=p, v=v)
        libraries = [lib for lib in options.only if (lib, mode) != ("implicit", "block")]
        running = {library: Process(library, folder, mode, options.threads) for library in libraries}
        first = {library: process.answer("epoch") for library, process in running.items()}
        rounds = {library: [] for library in libraries}
        for number in range(options.rounds):
            for library in np.roll(libraries, number):
                rounds[library].append(running[library].answer("epoch"))
        peaks = {library: process.answer("end") for library, process in running.items()}
        for process in running.values():
            process.process.wait()
        data = Interactions.from_csr(x)
        made = conventions.implicit(data, ALPHA, REG)
        problem, _ = made.method().problem(data, made.cell_weights)
        losses = {}
        for library in libraries:
            saved = (np.load(folder / f"{library}-{number}.npz") for number in range(options.rounds + 1))
            losses[library] = [sweeps.loss_and_gradients(problem, each["p"], each["v"])[0] for each in saved]
    base = "implicit" if "implicit" in libraries else libraries[0]
    aim = losses[base][-1] * (1 + SAME)
    needed = {
        library: next((n for n, loss in enumerate(losses[library], 1) if loss <= aim), None) for library in losses
    }
    epochs = {library: statistics.median(rounds[library]) for library in libraries}
    ratios = {
        library: statistics.median(a / b for a, b in zip(rounds[library], rounds[base], strict=True))
        for library in libraries
    }
    return [
        {
            "library": library,
            "epoch": epochs[library],
            "ratio": ratios[library],
            "excess": losses[library][-1] / losses[base][-1] - 1,
            "epochs to the loss": needed[library],
            "ratio to the loss": needed[library] and ratios[library] * needed[library] / needed[base],
            "losses": losses[library],
            "first": first[library],
            "prepare": running[library].prepare,
            "peak GB": peaks[library],
            "rounds": rounds[library],
        }
        for library in libraries
    ]


def markdown(figures):
    """A table, a line for each library."""
    lines = [
        f"Seconds of an epoch, median of {figures['rounds']} rounds, {figures['machine']['threads']} threads; loss "
        f"after {figures['rounds'] + 1} epochs.",
        "",
        "| data | rank | solver | library | epoch | relative to implicit | loss relative to implicit's | epochs to "
        "implicit's loss | time to it, relative | set-up | peak memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in figures["runs"]:
        for row in one["libraries"]:
            lines.append(
                f"| {one['data']} | {one['rank']} | {one['mode']} | {row['library']} | {row['epoch']:.3f} s | "
                f"{row['ratio']:.2f} | {row['excess']:+.0e} | {row['epochs to the loss'] or '-'} | "
                f"{'-' if row['epochs to the loss'] is None else format(row['ratio to the loss'], '.2f')} | "
                f"{row['prepare']:.2f} s | "
                f"{row['peak GB']:.2f} GB |"
            )
    return "\n".join(lines) + "\n"


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], help="files of interactions besides the synthetic ones")
    parser.add_argument("--no-synthetic", action="store_true")
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["cg", "exact"])
    parser.add_argument("--only", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    import jaxrec as package
    from jaxrec.data import synthetic

    data = {} if options.no_synthetic else {"synthetic": synthetic(30_000, 5_000)}
    data |= {pathlib.Path(path).stem: package.load(path) for path in options.data}
    about = {"alpha": ALPHA, "reg": REG, "cg_steps": CG_STEPS, "own_cg_steps": OWN_STEPS, "block": BLOCK}
    figures = {"machine": machine(options.threads), "rounds": options.rounds, "loss": about, "runs": []}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, x in data.items():
        shape = f"{name}, {x.n_users:,} x {x.n_items:,}, {x.nnz:,}"
        for mode in options.modes:
            for rank in options.ranks:
                libraries = compare(x.binarised().to_csr(np.float32), rank, mode, options)
                figures["runs"].append({"data": shape, "mode": mode, "rank": rank, "libraries": libraries})
                (options.out / "als.json").write_text(json.dumps(figures, indent=1) + "\n")
                (options.out / "als.md").write_text(markdown(figures))
    print(markdown(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4])
    else:
        main()
