"""The registry of methods: what the command line, the planner and the common tests go through."""

from __future__ import annotations

from typing import Any

from jaxrec import _checks, deep, factorization, linear
from jaxrec._checks import InputError, briefly
from jaxrec._checks.doors import door, kind
from jaxrec.fitting import Method
from jaxrec.runtime.memory import Plan

_SHOWN = [vars(room)[name] for room in (linear, factorization, deep) for name in room.__all__]
_OWN = [one for one in _SHOWN if isinstance(one, type) and issubclass(one, Method) and "name" in vars(one)]
# Every method that a room shows, by the name it has itself.
METHODS: dict[str, type[Method]] = {method.name: method for method in _OWN}


@kind("Method | str")
def _configured(name: str, value: Any) -> Method | str:
    """A configured method, or the name of one."""
    if isinstance(value, Method):
        return value
    if not isinstance(value, str):
        raise InputError(
            f"{name} must be a configured method such as Ease(), or a name such as 'ease', got {briefly(value)}."
        )
    _checks.one_of(name, value, tuple(METHODS))
    return value


@door
def plan(n_users: int, n_items: int, nnz: int, method: Method | str = "ease", devices: Any = None) -> Plan:
    """What fitting `method` on data of this size takes in memory and time; allocates nothing.

    Args:
      n_users: U.
      n_items: I.
      nnz: number of interactions.
      method: a configured method such as `Ease(reg=500.0)`, or the name of one.
      devices: a sequence of devices or a mesh; or such as "8xH100" or "v5e", which need not be at hand; default what
        `fit` takes without devices.
    """
    chosen = METHODS[method]() if isinstance(method, str) else method
    return chosen.plan(n_users, n_items, nnz, devices)
