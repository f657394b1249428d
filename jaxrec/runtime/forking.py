"""Children that were forked after JAX was used: they wait for ever for threads that stayed with the parent."""

from __future__ import annotations

import os

from jaxrec._checks import InputError

_forked_late = False


def require_usable() -> None:
    """Refuses to compute in a child that was forked from a process that had used JAX.

    Raises:
      InputError: that is so; says what to do instead.
    """
    if _forked_late:
        raise InputError(
            "this process was forked from one that had used JAX, whose threads do not come along, and would wait for "
            "them for ever; start it by 'spawn', as in multiprocessing.get_context('spawn') or joblib's default."
        )


def _used() -> bool:
    """Whether JAX has devices, and so threads, in this process; yes if this cannot be known."""
    try:
        from jax._src.xla_bridge import backends_are_initialized
    except ImportError:
        return True
    return backends_are_initialized()


def _in_child() -> None:
    global _forked_late
    _forked_late = _forked_late or _used()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
