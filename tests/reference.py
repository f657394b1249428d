"""Naive float64 NumPy references, written from the papers' equations and never from the kernels."""

from __future__ import annotations

import numpy as np


def dense(data) -> np.ndarray:
    """[U, I] float64 the matrix of some Interactions."""
    return data.to_csr(np.float64).toarray()


def abstract_batch(rows: int, width: int):
    """A `RowBatch` of shapes without numbers, to trace and lower with."""
    import jax
    import jax.numpy as jnp

    from jaxrec.data import RowBatch

    shapes = ((rows,), jnp.int32), ((rows, width), jnp.int32), ((rows, width), jnp.float32)
    return jax.eval_shape(lambda: RowBatch(*(jnp.zeros(*shape) for shape in shapes)))


def gram(x: np.ndarray) -> np.ndarray:
    """X'X by its definition: co-occurrence of every pair of items, summed over users."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for row in np.asarray(x, np.float64):
        total += np.outer(row, row)
    return total


def ease_columnwise(x: np.ndarray, reg: float) -> np.ndarray:
    """EASE as I separate ridge regressions, each of one item on all others (no closed form, no multipliers)."""
    x = np.asarray(x, np.float64)
    n = x.shape[1]
    weights = np.zeros((n, n))
    for j in range(n):
        others = np.arange(n) != j
        features = x[:, others]
        weights[others, j] = np.linalg.solve(features.T @ features + reg * np.eye(n - 1), features.T @ x[:, j])
    return weights


def ease(x: np.ndarray, reg: float) -> np.ndarray:
    """EASE by Steck 2019: B_ij = -C_ij / C_jj with C = (X'X + reg I)^-1, zero diagonal."""
    x = np.asarray(x, np.float64)
    inverse = np.linalg.inv(x.T @ x + reg * np.eye(x.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def weighted_full_rank(x: np.ndarray, w: np.ndarray, reg: float, free: bool = False) -> np.ndarray:
    """The B that minimises sum W (X - X B)^2 + reg ||B||^2, item by item; its diagonal is 0, or free."""
    n = x.shape[1]
    columns = []
    for j in range(n):
        others = np.full(n, True) if free else np.arange(n) != j
        features = x[:, others]
        left = features.T @ (w[:, [j]] * features) + reg * np.eye(len(features.T))
        columns.append(np.zeros(n))
        columns[-1][others] = np.linalg.solve(left, features.T @ (w[:, j] * x[:, j]))
    return np.array(columns).T


def top_k(scores: np.ndarray, k: int, seen: list[set[int]]) -> list[list[int]]:
    """Item lists by a full sort: score descending, then item index ascending; a user's seen items left out."""
    lists = []
    for row, known in zip(scores, seen, strict=True):
        candidates = [i for i in range(len(row)) if i not in known]
        lists.append(sorted(candidates, key=lambda i: (-row[i], i))[:k])
    return lists


def evaluate(lists: list[list[int]], targets: list[set[int]], name: str, k: int) -> tuple[float, float]:
    """Mean and standard error over users with targets of one metric, from its formula, user by user."""
    values = []
    for ranked, wanted in zip(lists, targets, strict=True):
        if not wanted:
            continue
        hits = [item in wanted for item in ranked[:k]]
        dcg = sum(1 / np.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
        ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, len(wanted))))
        precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        first = next((rank for rank, hit in enumerate(hits) if hit), None)
        values.append(
            {
                "recall": sum(hits) / len(wanted),
                "calibrated_recall": sum(hits) / min(k, len(wanted)),
                "ndcg": dcg / ideal,
                "precision": sum(hits) / k,
                "hit_rate": float(any(hits)),
                "mrr": 0.0 if first is None else 1 / (first + 1),
                "map": sum(precisions) / min(k, len(wanted)),
            }[name]
        )
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def factorization_loss(kind: str, x: np.ndarray, a: np.ndarray, b: np.ndarray, reg: float) -> float:
    """Equations 1 ("product") and 2 ("factor") of Steck, Ekanadham & Kallus 2024."""
    fit = np.linalg.norm(x - x @ a @ b.T) ** 2
    if kind == "product":
        return fit + reg * np.linalg.norm(a @ b.T) ** 2
    return fit + reg * (np.linalg.norm(x @ a) ** 2 + np.linalg.norm(b) ** 2)


def unweighted_als(x: np.ndarray, rank: int, reg: float, seed: int, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
    """User factors P and item factors Q of min ||X - PQ'||^2 + reg (||P||^2 + ||Q||^2), each side in turn by ridge."""
    q = np.random.default_rng(seed).normal(size=(x.shape[1], rank))
    for _ in range(sweeps):
        p = x @ q @ np.linalg.inv(q.T @ q + reg * np.eye(rank))
        q = x.T @ p @ np.linalg.inv(p.T @ p + reg * np.eye(rank))
    return p, q


def cosine(p: np.ndarray, q: np.ndarray) -> float:
    """The cosine of the angle between two vectors."""
    return p @ q / np.sqrt((p @ p) * (q @ q))


def cosines(rows: np.ndarray) -> np.ndarray:
    """Those of all pairs of rows."""
    return np.array([[cosine(p, q) for q in rows] for p in rows])
