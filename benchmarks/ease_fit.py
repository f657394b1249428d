"""Fitting EASE: jaxrec against the same three steps written plainly with SciPy, and against irspack.

    python benchmarks/ease_fit.py              # needs irspack; `--only` picks data sets

`total` is Gram, inverse and weights. jaxrec also certifies its result, which the others do not: shown apart.
"""

import time

import numpy as np
import scipy.sparse as sp
from harness import main
from scipy.linalg.lapack import spotrf, spotri

REG = 200.0


def jaxrec(path):
    """The library, as a user calls it."""
    from jaxrec import Ease, load

    data = load(path)
    seconds = Ease(REG).fit(data).info.seconds
    return {"total": seconds["gram"] + seconds["solve"], **seconds}


def scipy(path):
    """Sparse Gram, in-place potrf + potri, one division."""
    x = sp.load_npz(path)
    begun = time.perf_counter()
    gram = (x.T @ x).toarray()
    middle = time.perf_counter()
    gram[np.diag_indices_from(gram)] += REG
    factor, _ = spotrf(gram.T, lower=0, overwrite_a=1)
    lower = spotri(factor, lower=0, overwrite_c=1)[0].T
    inverse = lower + np.tril(lower, -1).T
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    ended = time.perf_counter()
    return {"total": ended - begun, "gram": middle - begun, "solve": ended - middle}


def irspack(path):
    """The EASE of irspack."""
    from irspack import DenseSLIMRecommender

    x = sp.csr_matrix(sp.load_npz(path))
    begun = time.perf_counter()
    DenseSLIMRecommender(x, reg=REG).learn()
    return {"total": time.perf_counter() - begun}


def synthetic(n_items):
    """30,000 users; the density falls with the number of items."""
    from jaxrec.data import synthetic

    return synthetic(30_000, n_items)


if __name__ == "__main__":
    main(
        "EASE fit",
        {"scipy": scipy, "jaxrec": jaxrec, "irspack": irspack},
        {"30,000 x 5,000": lambda: synthetic(5_000), "30,000 x 10,000": lambda: synthetic(10_000)},
        baseline="scipy",
    )
