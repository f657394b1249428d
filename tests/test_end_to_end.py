"""The whole way from file to metrics against an independent NumPy EASE and evaluator (tests/reference.py)."""

import os
import pathlib

import numpy as np
import pytest
import reference

import jaxrec

METRICS = ("recall", "calibrated_recall", "ndcg", "precision", "hit_rate", "mrr", "map")


def both(data: jaxrec.Interactions, split: str, reg: float, cutoffs: tuple[int, ...], digits: float) -> None:
    """Asserts that every printed metric, mean and standard error, agrees."""
    train, (fold_in, targets), _ = jaxrec.split(data, split)
    names = [f"{name}@{k}" for name in METRICS for k in cutoffs]
    report = jaxrec.evaluate(jaxrec.Ease(reg).fit(train), fold_in, targets, names)

    x = fold_in.to_csr(np.float64).toarray()
    scores = x @ reference.ease(train.to_csr(np.float64).toarray(), reg)
    wanted = [set(targets.rows(np.array([u])).indices.tolist()) for u in range(len(x))]
    seen = [set(np.flatnonzero(row).tolist()) for row in x]
    lists = [list(row) for row in reference.top_k(scores, max(cutoffs), seen)]
    for name in METRICS:
        for k in cutoffs:
            mean, error = reference.evaluate(lists, wanted, name, k)
            assert report.mean[f"{name}@{k}"] == pytest.approx(mean, abs=digits), name
            assert report.standard_error[f"{name}@{k}"] == pytest.approx(error, abs=digits), name


def test_msweb_on_its_own_split():
    data = jaxrec.load("msweb")
    users = np.flatnonzero(data.user_split == 1)[:600]
    both(data.rows(np.concatenate([np.flatnonzero(data.user_split == 0), users])), "fixed", 100.0, (1, 5, 20), 1e-4)


def test_random_split_of_synthetic_data():
    both(jaxrec.data.synthetic(400, 150, mean_history=12.0), "random", 20.0, (5, 100, 200), 2e-4)


@pytest.mark.timeout(600)
def test_movielens_1m():
    """All ratings as 1, random 80/20 by interaction: equal to four digits."""
    folder = os.environ.get("JAXREC_DATA", "")
    path = pathlib.Path(folder) / "ml1m.npz"
    if not folder or not path.exists():
        pytest.skip("MovieLens 1M may not be redistributed: set JAXREC_DATA to a folder with ml1m.npz")
    both(jaxrec.load(path), "random", 300.0, (20, 50, 100), 5e-5)
