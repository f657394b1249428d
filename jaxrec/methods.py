"""The registry of methods: what the command line, the planner and the common tests go through."""

from __future__ import annotations

from typing import Any, Protocol

from jaxrec import _checks
from jaxrec.data import Interactions
from jaxrec.linear import Ease, Edlae, HigherOrder, Lae, Mrf, Popularity, Rlae
from jaxrec.memory import Plan
from jaxrec.models import Fitted


class Method(Protocol):
    """A frozen dataclass of hyper-parameters that can fit."""

    def fit(self, train: Interactions) -> Fitted:
        """The fitted model, and what is known about it."""
        ...

    def plan(self, n_users: int, n_items: int, nnz: int) -> Plan:
        """What a fit on data of this size takes."""
        ...


METHODS: dict[str, Any] = {
    "ease": Ease,
    "edlae": Edlae,
    "lae": Lae,
    "rlae": Rlae,
    "mrf": Mrf,
    "higher_order": HigherOrder,
    "popularity": Popularity,
}


def plan(n_users: int, n_items: int, nnz: int, method: Method | str = "ease") -> Plan:
    """What fitting `method` on data of this size takes in memory and time; allocates nothing.

    Args:
      n_users: U.
      n_items: I.
      nnz: number of interactions.
      method: a configured method such as `Ease(reg=500.0)`, or the name of one.
    """
    for name, value in {"n_users": n_users, "n_items": n_items, "nnz": nnz}.items():
        _checks.count(name, value, at_least=1)
    if isinstance(method, str):
        _checks.one_of("method", method, tuple(METHODS))
        return METHODS[method]().plan(n_users, n_items, nnz)
    return method.plan(n_users, n_items, nnz)
