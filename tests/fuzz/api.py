"""Classes of cases: every public function with arguments of the wrong kind, or out of range, in place of right ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse as sp
from fuzz.models import data
from fuzz.mutate import pick
from fuzz.room import Case

import jaxrec
from jaxrec import Interactions, Weights
from jaxrec._checks import shown
from jaxrec.data import from_frame, row_batches, splits, synthetic
from jaxrec.factorization import fold_in
from jaxrec.methods import METHODS

SMALL = {  # what makes a fit short
    **{"ials": {"rank": 3, "sweeps": 2}, "awmf": {"rank": 3, "sweeps": 2}, "pure-svd": {"rank": 3}},
    **{"elsa": {"rank": 3, "epochs": 2}, "low-rank-edlae": {"rank": 3, "steps": 2}, "item-knn": {}, "deql": {}},
    **{"ease": {"reg": 10.0}, "edlae": {}, "lae": {}, "rlae": {}, "dan": {}, "popularity": {}, "weighted-ease": {}},
}
FITTED = ("ease", "ials", "pure-svd", "popularity", "item-knn")


@functools.cache
def fitted(name: str) -> Any:
    return METHODS[name](**SMALL[name]).fit(data())


@functools.cache
def split() -> Any:
    return splits.per_user_random(data())


class Own:
    """A scorer of somebody else."""

    def __init__(self, shape: tuple[int, ...] = (), n_items: Any = 23, dtype: Any = np.float32):
        self.shape, self.n_items, self.dtype = shape, n_items, dtype

    def score_host(self, history: Any) -> np.ndarray:
        return np.ones(self.shape or history.shape, self.dtype)


class OnDevice:
    """Likewise, of JAX."""

    n_items = 23

    def __init__(self, more: int = 0):
        self.more = more

    def score(self, history: Any) -> Any:
        return jax.numpy.ones((history.rows.shape[0] + self.more, 23))


def anything() -> list[Callable[[], Any]]:
    """What a slip of the pen, or a habit from another library, hands over."""
    x, ease = data().to_csr(), fitted("ease")
    plain = [
        *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 10**400, -(10**400), 0.5, 1.0, -0.5, 1e30, 1e-300),
        *(float("nan"), float("inf"), 1j, Decimal("0.5"), Fraction(1, 3), "", "ease", "msweb", "x\0", "0.5", "\ud800"),
        *("ndcg@10", "NDCG@10", "recall", "item 1", "best", b"ease", (), [], {}, set(), [0, 1], [1.5], ["a"], [None]),
        *([[0, 1], [2]], [0, -1], [10**30], (1, 2), {"reg": [1.0]}, {"reg": 1.0}, {"reg": ["a"]}, {"x": [1]}, range(3)),
        *(np.float32(0.5), np.int64(3), np.bool_(True), np.array(3), np.arange(3), np.ones(3), np.ones((23, 23))),
        *(np.full(3, np.nan), np.array(["a"]), np.zeros(60, bool), np.zeros(0), np.array([None]), np.ones((2, 2, 2))),
        *(
            x,
            x.tocoo(),
            sp.csr_matrix(x),
            x.T.tocsr(),
            sp.csr_array((0, 23)),
            sp.csr_array(x * 1j),
            x.toarray(),
            x[:, :9],
        ),
        *(pd.DataFrame({"user": [1], "item": [2]}), pl.DataFrame({"user": [1]}), pd.Series([1, 2]), Path("/nowhere/x")),
        *(
            data(),
            data().items,
            split(),
            split().test,
            tuple(split().test),
            ease,
            ease.model,
            ease.info,
            ease.info.method,
        ),
        *(jaxrec.Ease, jaxrec.Ease(), jaxrec.Slim(), fitted("ials"), fitted("ials").model, fitted("pure-svd").model),
        *(Weights.uniform(data()), Weights.rank_one(np.ones(3), np.ones(2)), jaxrec.Catalogue(5), jaxrec.Catalogue(23)),
        *(jax.random.key(0), jax.random.PRNGKey(0), jax.random.split(jax.random.key(0)), jax.numpy.ones(3)),
        *(jax.devices(), jax.devices()[0], [jax.devices()[0]] * 2, "8xH100", object(), lambda *given: None, Own),
        *(Own(), Own((60, 23)), Own((60, 22)), Own((23,)), Own(dtype=complex), Own(dtype=object), Own(n_items="a")),
        *(Own(n_items=-1), OnDevice(), OnDevice(1), jaxrec.ItemWeights(np.ones((9, 23))), jaxrec.ItemWeights(None)),
        *(
            jaxrec.ItemWeights([[1.0]]),
            jaxrec.ItemFactors(np.ones((23, 2)), np.ones((23, 3))),
            jaxrec.ItemScores(np.ones(9)),
        ),
    ]
    return plain


@functools.cache
def calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Each public function by name, with arguments that suit it."""
    whole, parts, ease = data(), split(), fitted("ease")
    two = whole.rows(np.arange(2))
    users, items = np.nonzero(whole.to_csr().toarray())
    fits = {f"{name}.fit": (METHODS[name](**own).fit, {"train": whole}) for name, own in SMALL.items()}
    made = {f"{name}()": (method, SMALL.get(name, {})) for name, method in METHODS.items()}
    shape = {"n_users": 60, "n_items": 23, "nnz": 300}
    plans = {f"{name}.plan": (METHODS[name]().plan, shape) for name in METHODS}
    of_splits = {
        f"split {name}": (how, {"data": whole}) for name, how in splits.SPLITS.items() if name not in ("fixed", "time")
    }
    both = {"fold_in": parts.test.fold_in, "targets": parts.test.targets}
    top = jaxrec.recommend(ease, whole, 3)
    weights = {
        f"Weights.{name}": (getattr(Weights, name), {"x": whole, **more})
        for name, more in {
            **{"uniform": {}, "constant": {"alpha": 1.0}, "log": {"alpha": 1.0}, "ips": {"beta": 0.5}},
            **{"popularity_zeros": {}, "user_activity": {"beta": 0.5}, "on_entries": {"values": np.ones(whole.nnz)}},
        }.items()
    }
    own = Weights.constant(whole, 1.0)
    rows = {"users": users, "items": items}
    return {
        **fits,
        **made,
        **plans,
        **of_splits,
        **weights,
        "Weights.rank_one": (Weights.rank_one, {"row": np.ones(60), "col": np.ones(23)}),
        **{f"weights.{name}": (getattr(own, name), {"x": whole}) for name in ("require", "sparse", "on_pattern")},
        "weights.scaled": (own.scaled, {"factor": 2.0}),
        "weights.of_unseen": (own.of_unseen, {"histories": whole}),
        "Interactions.from_triples": (Interactions.from_triples, rows),
        "Interactions.from_csr": (Interactions.from_csr, {"matrix": whole.to_csr()}),
        "Interactions.from_lists": (Interactions.from_lists, {"lists": [[1, 2], [0]], "items": 23}),
        "data.rows": (whole.rows, {"users": np.arange(3)}),
        "data.keep": (whole.keep, {"mask": np.ones(whole.nnz, bool)}),
        "data.select_items": (whole.select_items, {"items": np.arange(3)}),
        "data.aligned_to": (whole.aligned_to, {"other": ease}),
        "data.user_index": (whole.user_index, {"user_id": 3}),
        "data.to_csr": (whole.to_csr, {"dtype": np.float64}),
        "items.find": (whole.items.find, {"name": "item 1"}),
        "items.take": (whole.items.take, {"items": np.arange(3)}),
        "items.label": (whole.items.label, {"item": 3}),
        "Catalogue": (jaxrec.Catalogue, {"n_items": 3}),
        "load": (jaxrec.load, {"source": "msweb"}),
        "from_frame": (from_frame, {"frame": pd.DataFrame({"user": [1, 2], "item": [2, 3]})}),
        "synthetic": (synthetic, {"n_users": 20, "n_items": 10, "n_clusters": 3, "mean_history": 4.0}),
        "split": (jaxrec.split, {"data": whole, "how": "random"}),
        "plan": (jaxrec.plan, {**shape, "method": "ease"}),
        "recommend": (jaxrec.recommend, {"model": ease, "histories": whole, "k": 3}),
        "evaluate": (jaxrec.evaluate, {"model": ease, **both, "metrics": "ndcg@5"}),
        "evaluate held out": (jaxrec.evaluate, {"model": ease, "fold_in": parts.test}),
        "evaluate_leave_user_out": (jaxrec.evaluate_leave_user_out, {"method": jaxrec.Ease(10.0), "data": whole}),
        "update": (jaxrec.update, {"fitted": ease, "train": whole, "added": two, "removed": [1, 2]}),
        "tune": (jaxrec.tune, {"methods": "ease", "data": whole, "grid": {"reg": [10.0]}, "metric": "ndcg@5"}),
        "save": (jaxrec.save, {"path": "model", "fitted": ease}),
        "load_model": (jaxrec.load_model, {"path": "no model"}),
        **{f"{name}.score_host": (fitted(name).model.score_host, {"history": whole.to_csr()}) for name in FITTED},
        **{f"{name}.score": (fitted(name).model.score, {"history": next(row_batches(whole, 8))}) for name in FITTED},
        "row_batches": (lambda **given: list(row_batches(**given)), {"data": whole, "batch_size": 8}),
        "report.to_json": (jaxrec.evaluate(ease, *parts.test).to_json, {}),
        "tuning.plot": (jaxrec.tune("ease", whole, {"reg": [1.0, 9.0]}, metric="ndcg@5").plot, {"path": "x.png"}),
        "ease.gram": (jaxrec.Ease().gram, {"train": whole}),
        "ials.cell_weights": (jaxrec.Ials().cell_weights, {"train": whole}),
        "fold_in": (fold_in, {"model": fitted("ials").model, "histories": whole}),
        "similar_items": (jaxrec.similar_items, {"factors": fitted("pure-svd"), "choice": "balanced", "k": 3}),
        "gauge_report": (jaxrec.gauge_report, {"factors": fitted("pure-svd"), "n_pairs": 10}),
        "top.titles": (top.titles, {}),
    }  # fmt: skip


def api(rng: np.random.Generator, folder: Path) -> Case:
    """A public function, one or two of whose arguments are drawn from everything."""
    name = pick(rng, sorted(calls()))
    function, right = calls()[name]
    kinds = inspect.signature(function).parameters.values()
    known = [p.name for p in kinds if p.kind is not p.VAR_KEYWORD] or sorted(right)
    given = dict(right)
    for key in rng.permutation(np.array(known, object))[: 0 if rng.random() < 0.03 else pick(rng, (1, 1, 1, 2))]:
        given[key] = pick(rng, anything())
    for path in {"path", "source", "checkpoint"} & given.keys():
        if isinstance(given[path], str) and given[path] != "msweb":
            given[path] = f"{folder}/{given[path]}"
    changed = [f"{key}={shown(value)[:80]}" for key, value in given.items() if value is not right.get(key)]
    return Case(lambda: function(**given), said=f"{name}({', '.join(changed)})")


CLASSES = {"api": api}
