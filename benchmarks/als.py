"""One epoch of alternating least squares: jaxrec beside implicit and irspack on one and the same loss.

    python benchmarks/als.py --mode cg --rank 64         # needs implicit and irspack
    python benchmarks/als.py --mode exact --rank 128 --data ratings.npz

`total` is the median epoch after the first, `first` the first one, which compiles where there is something to compile;
`loss` is that of the factors after all epochs, computed alike for everyone: weight ALPHA on positives, 1 elsewhere,
target 1, plain reg. On a GPU run `--only-jaxrec`, with ranks up to 1,024.
"""

import argparse
import os
import statistics
import sys
import time
import warnings

import scipy.sparse as sp
from harness import main

ALPHA, REG, EPOCHS = 10.0, 1.0, 6
MODES, RANKS = ("cg", "exact", "block"), (16, 64, 128, 192, 256, 512, 1024)


def measured(path, epoch, factors):
    """Times `epoch()`, then states the loss of what `factors()` returns."""
    from jaxrec import conventions, load
    from jaxrec.factorization import symmetric_sweeps

    seconds = []
    for _ in range(EPOCHS):
        begun = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - begun)
    x = load(path)
    made = conventions.implicit(x, ALPHA, REG)
    problem, _ = made.method().problem(x, made.weights)
    loss = symmetric_sweeps.loss_and_gradients(problem, *factors())[0]
    return {"total": statistics.median(seconds[1:]), "first": seconds[0], "loss": loss}


def jaxrec(path, mode, rank):
    """The sweeps of the library."""
    import jax

    from jaxrec import conventions, load
    from jaxrec.factorization import symmetric_sweeps as sweeps

    x = load(path)
    made = conventions.implicit(x, ALPHA, REG)
    method = made.method(rank=rank, mode="cholesky" if mode == "exact" else mode)
    how = method._how(None)
    problem, _ = method.problem(x, made.weights)
    sides = sweeps.sides(problem, rank, how)
    state = sweeps.place(sweeps.init(jax.random.key(0), *x.shape, rank, method.init_std), sides, how)

    def epoch():
        nonlocal state
        state, _ = jax.block_until_ready(sweeps.step(state, sides, problem.constant, how))

    return measured(path, epoch, lambda: sweeps.fetch(state, sides, how))


def implicit(path, mode, rank):
    """`implicit.als`, whose modes are CG with 3 steps and Cholesky."""
    from implicit.cpu.als import AlternatingLeastSquares

    x = sp.csr_matrix(sp.load_npz(path))
    threads = int(os.environ["OMP_NUM_THREADS"])
    model = AlternatingLeastSquares(
        rank, alpha=ALPHA, regularization=REG, use_cg=mode == "cg", iterations=1, num_threads=threads, random_state=0
    )
    warnings.simplefilter("ignore")
    return measured(path, lambda: model.fit(x, show_progress=False), lambda: (model.user_factors, model.item_factors))


def irspack(path, mode, rank):
    """`irspack.IALSRecommender`'s trainer; its ORIGINAL loss with c = ALPHA - 1 and alpha0 = 1 is that of implicit."""
    from irspack.recommenders import ials

    x = sp.csr_matrix(sp.load_npz(path)) * (ALPHA - 1)
    solver = {"cg": "CG", "exact": "CHOLESKY", "block": "IALSPP"}[mode]
    threads = int(os.environ["OMP_NUM_THREADS"])
    loss = ials.str_to_loss_type("ORIGINAL")
    trainer = ials.IALSTrainer(
        x, rank, 1.0, REG, 0.0, 0.1, ials.str_to_solver_type(solver), 3, min(128, rank), loss, 0, threads, 5, 7
    )
    return measured(path, trainer.run_epoch, lambda: (trainer.core_trainer.user, trainer.core_trainer.item))


def contenders(modes, ranks):
    """All of them, by names that say everything, since a name is all that reaches the worker."""
    libraries = (jaxrec, implicit, irspack)
    return {
        f"{library.__name__} {mode} {rank}": lambda path, run=library, mode=mode, rank=rank: run(path, mode, rank)
        for library in libraries
        for mode in modes
        for rank in ranks
        if (library, mode) != (implicit, "block")
    }


def datasets(path):
    """The synthetic data, or a file."""
    from jaxrec.data import synthetic

    if path is None:
        return {"30,000 x 5,000": lambda: synthetic(30_000, 5_000)}
    from jaxrec import load

    return {os.path.basename(path): lambda: load(path).binarised()}


if __name__ == "__main__":
    if "--worker" in sys.argv:
        main("ALS", contenders(MODES, RANKS), {}, baseline="")
    else:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--mode", choices=MODES, default="cg")
        parser.add_argument("--rank", type=int, choices=RANKS, default=64)
        parser.add_argument("--data", help="a file of interactions in place of the synthetic ones")
        parser.add_argument("--only-jaxrec", action="store_true")
        own, rest = parser.parse_known_args()
        sys.argv[1:] = rest
        chosen = contenders([own.mode], [own.rank])
        if own.only_jaxrec:
            chosen = {name: run for name, run in chosen.items() if name.startswith("jaxrec")}
        reference = "jaxrec" if own.only_jaxrec or own.mode == "block" else "implicit"
        main(f"ALS, {own.mode}, rank {own.rank}", chosen, datasets(own.data), f"{reference} {own.mode} {own.rank}")
