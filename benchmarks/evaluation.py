"""Full-ranking evaluation of all users at 100: jaxrec, a plain NumPy loop, and irspack's evaluator.

    python benchmarks/evaluation.py            # needs irspack

The model is EASE, fitted before the clock starts. The plain loop only ranks: sparse rows times weights, seen items
masked, `argpartition`; jaxrec also orders the hundred, breaks ties, and computes recall, ndcg and precision with their
standard errors.
"""

import time

import numpy as np
import scipy.sparse as sp
from harness import main

REG, K = 200.0, 100


def split(path):
    """A random fifth of the interactions as targets: the same in every process."""
    from jaxrec import load
    from jaxrec.data.splits import random

    return random(load(path), test_fraction=0.2, seed=0)


def plain(path):
    """A thousand users at a time."""
    from jaxrec import Ease

    train, (fold_in, _), _ = split(path)
    weights = Ease(REG).fit(train).model.weights
    x = fold_in.to_csr()
    begun = time.perf_counter()
    for start in range(0, x.shape[0], 1000):
        rows = x[start : start + 1000]
        scores = rows @ weights
        scores[rows.nonzero()] = -np.inf
        np.argpartition(scores, -K, axis=1)[:, -K:]
    return {"total": time.perf_counter() - begun}


def jaxrec(path):
    """The library, as a user calls it."""
    from jaxrec import Ease, evaluate

    train, (fold_in, targets), _ = split(path)
    model = Ease(REG).fit(train).model
    begun = time.perf_counter()
    evaluate(model, fold_in, targets, f"recall@{K},ndcg@{K},precision@{K}")
    return {"total": time.perf_counter() - begun}


def irspack(path):
    """The evaluator of irspack on its EASE."""
    from irspack import DenseSLIMRecommender, Evaluator

    train, (_, targets), _ = split(path)
    model = DenseSLIMRecommender(sp.csr_matrix(train.to_csr()), reg=REG).learn()
    evaluator = Evaluator(sp.csr_matrix(targets.to_csr()), cutoff=K)
    begun = time.perf_counter()
    evaluator.get_score(model)
    return {"total": time.perf_counter() - begun}


def synthetic():
    """30,000 users x 5,000 items."""
    from jaxrec.data import synthetic

    return synthetic(30_000, 5_000)


if __name__ == "__main__":
    main(
        "Evaluation of all users @100",
        {"plain": plain, "jaxrec": jaxrec, "irspack": irspack},
        {"30,000 x 5,000": synthetic},
        baseline="plain",
    )
