"""The door of every public function: what it is given is what its signature says, or is refused in one sentence.

A kind is what stands in a signature, such as "Interactions" or "int | None". What is taken for one is written once, by
`kind`, where its class is; `door` has a function take nothing else. A relation between arguments, and a range, is for
the function itself, as are arguments that a signature leaves open ("Any").
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError, briefly

Function = TypeVar("Function", bound=Callable[..., Any])
Taken = Callable[[str, Any], Any]
KINDS: dict[str, Taken] = {"int": _checks.whole, "float": _checks.number, "bool": _checks.truth}


def kind(*written: str) -> Callable[[Taken], Taken]:
    """A decorator for a function from the name of an argument and its value to what is taken for it.

    Args:
      *written: what stands in signatures, each by itself; with " | None" behind it None is taken, too. Where that says
        nothing, with the name of the argument: "gram: Any".
    """

    def registered(taken: Taken) -> Taken:
        KINDS.update(dict.fromkeys(written, taken))
        return taken

    return registered


def kind_of(written: str) -> Taken | None:
    """What is taken for an annotation; None where the function itself has to look."""
    if written in KINDS:
        return KINDS[written]
    if written.endswith(" | None"):
        inner = kind_of(written.removesuffix(" | None"))
        return inner and (lambda name, value: None if value is None else inner(name, value))
    if written.startswith("Literal["):
        choices = ast.literal_eval(f"({written[len('Literal[') : -1]},)")
        return functools.partial(_choice, choices)
    return KINDS["Callback"] if written.startswith("Callable[") else None


def door(function: Function) -> Function:
    """A decorator: the function is called with what `kind_of` each annotation takes for its arguments.

    Cost: some microseconds a call.
    """
    names = list(inspect.signature(function).parameters)

    @functools.cache
    def kinds() -> dict[str, Taken]:  # of the first call: by then all rooms have said what theirs are
        written = {name: str(one) for name, one in function.__annotations__.items() if name != "return"}
        found = {name: KINDS.get(f"{name}: {one}") or kind_of(one) for name, one in written.items()}
        return {name: taken for name, taken in found.items() if taken is not None}

    @functools.wraps(function)
    def entered(*args: Any, **named: Any) -> Any:
        taken = kinds()
        given = [taken[name](name, value) if name in taken else value for name, value in zip(names, args, strict=False)]
        named = {name: taken[name](name, value) if name in taken else value for name, value in named.items()}
        return function(*given, *args[len(names) :], **named)

    return entered  # pyright: ignore[reportReturnType]


def _choice(choices: tuple[Any, ...], name: str, value: Any) -> Any:
    _checks.one_of(name, value, choices)
    return value


@kind("str")
def text(name: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, got {briefly(value)}.")
    return value


@kind("str | int")
def an_id(name: str, value: Any) -> str | int:
    """The id of a user or an item."""
    return value if isinstance(value, str) else _checks.whole(f"{name}, if it is no text,", value)


@kind("str | os.PathLike")
def path(name: str, value: Any) -> str | os.PathLike:
    """A path."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise InputError(f"{name} must be a path, got {briefly(value)}.")
    if "\0" in os.fspath(value):
        raise InputError(f"{name} must be a path, which holds no zero letter, got {briefly(value)}.")
    return value


@kind("Callback")
def function(name: str, value: Any) -> Callable[..., Any]:
    """What can be called."""
    if not callable(value):
        raise InputError(f"{name} must be a function, got {briefly(value)}.")
    return value


@kind("PRNGKeyArray")
def key(name: str, value: Any) -> Any:
    """One random key of JAX, of either style."""
    if isinstance(value, jax.Array | np.ndarray):
        typed = jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)
        if value.shape == () if typed else (value.dtype == np.uint32 and value.shape == jax.random.PRNGKey(0).shape):
            return value
    raise InputError(f"{name} must be a random key, such as jax.random.key(0), got {briefly(value)}.")


@kind("DTypeLike")
def number_type(name: str, value: Any) -> np.dtype:
    """A type of real numbers."""
    known = isinstance(value, str | np.dtype) or (isinstance(value, type) and value in (bool, int, float))
    if known or (isinstance(value, type) and issubclass(value, np.generic)):
        with contextlib.suppress(TypeError, ValueError):  # a text that names no type
            if (dtype := np.dtype(value)).kind in "biuf":
                return dtype
    raise InputError(f"{name} must be a type of real numbers, such as 'float32', got {briefly(value)}.")


@kind("Iterable[Sequence[int]]")
def several(name: str, value: Any) -> list[Any]:
    """A list of what can be gone through."""
    if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0:
        return list(value)
    raise InputError(f"{name} must be a list of lists, got {briefly(value)}.")
