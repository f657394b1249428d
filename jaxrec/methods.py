"""The registry of methods: what the command line, the planner and the common tests go through."""

from __future__ import annotations

from typing import Any, Protocol

from jaxrec import _checks
from jaxrec.data import Interactions
from jaxrec.deep import Autoencoder, MultDae, MultVae, RecVae
from jaxrec.factorization import Awmf, Ials, WeightedEase
from jaxrec.linear import (
    Dan,
    Deql,
    Ease,
    Edlae,
    Elsa,
    HigherOrder,
    ItemKnn,
    Lae,
    LowRankEdlae,
    Mrf,
    NonnegativeEase,
    Popularity,
    PureSvd,
    Rlae,
    Slim,
)
from jaxrec.models import Fitted
from jaxrec.runtime.memory import Plan


class Method(Protocol):
    """A frozen dataclass of hyper-parameters that can fit."""

    def fit(self, train: Interactions, devices: Any = None) -> Fitted:
        """The fitted model, and what is known about it; on a mesh, split over its devices."""
        ...

    def plan(self, n_users: int, n_items: int, nnz: int, devices: Any = None) -> Plan:
        """What a fit on data of this size takes, without a mesh or on these devices."""
        ...


METHODS: dict[str, Any] = {
    "ease": Ease,
    "edlae": Edlae,
    "lae": Lae,
    "rlae": Rlae,
    "low-rank-edlae": LowRankEdlae,
    "mrf": Mrf,
    "higher-order": HigherOrder,
    "popularity": Popularity,
    "ease-nonnegative": NonnegativeEase,
    "slim": Slim,
    "dan": Dan,
    "deql": Deql,
    "item-knn": ItemKnn,
    "pure-svd": PureSvd,
    "elsa": Elsa,
    "ials": Ials,
    "mult-vae": MultVae,
    "mult-dae": MultDae,
    "rec-vae": RecVae,
    "autoencoder": Autoencoder,
    "weighted-ease": WeightedEase,
    "awmf": Awmf,
}


def plan(n_users: int, n_items: int, nnz: int, method: Method | str = "ease", devices: Any = None) -> Plan:
    """What fitting `method` on data of this size takes in memory and time; allocates nothing.

    Args:
      n_users: U.
      n_items: I.
      nnz: number of interactions.
      method: a configured method such as `Ease(reg=500.0)`, or the name of one.
      devices: a mesh, a sequence of devices, or such as "8xH100" or "v5e", which need not be at hand; default what
        `fit` takes without a mesh.
    """
    for name, value in {"n_users": n_users, "n_items": n_items, "nnz": nnz}.items():
        _checks.count(name, value, at_least=1)
    if isinstance(method, str):
        _checks.one_of("method", method, tuple(METHODS))
    chosen: Method = METHODS[method]() if isinstance(method, str) else method
    return chosen.plan(n_users, n_items, nnz, devices)
