"""What the arrays of a model must be, before anything computes with them: native code follows an index anywhere.

One table for every kind of model: the shape of each array in letters, of which each stands for one number throughout a
model: I items, U users, K features, M pairs, N entries, a scalar by ().
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError, briefly
from jaxrec._checks.doors import kind
from jaxrec.deep.network import Network
from jaxrec.factorization import UserItemFactors
from jaxrec.models import Fitted, ItemFactors, ItemScores, ItemWeights, PairWeights, SparseItemWeights

SHAPES: dict[type, dict[str, tuple[str | int, ...]]] = {
    ItemWeights: {"weights": ("I", "I"), "unexplained": ("I",)},
    ItemFactors: {"encoder": ("I", "K"), "decoder": ("I", "K")},
    ItemScores: {"scores": ("I",)},
    PairWeights: {"weights": ("I", "I"), "pairs": ("M", 2), "pair_weights": ("M", "I")},
    SparseItemWeights: {"indptr": ("I + 1",), "indices": ("N",), "values": ("N",), "offset": ("I",)},
    UserItemFactors: {
        "user_factors": ("U", "K"),
        "item_factors": ("I", "K"),
        "user_gram": ("K", "K"),
        "item_gram": ("K", "K"),
        "user_weights": ("U",),
        **{f"fold.{name}": () for name in ("reg", "reg_exponent", "one_targets", "col_sum")},
        **{f"fold.rule.{name}": ("I",) for name in ("col", "slope", "offset")},
        **{f"fold.rule.{name}": () for name in ("row_scale", "row_exponent", "saturation")},
    },
}
# What a model may lack: an array, or a part with all its arrays.
OPTIONAL = ("unexplained", "offset", "fold", "fold.rule")
INDICES = ("indptr", "indices", "pairs")
MAY_BE_INFINITE = ("unexplained", "fold.rule.saturation")
AT_ONCE = 2**22  # numbers
NOT_FITTED = "it is not fitted yet, so call its fit first"


def validate(model: Any, n_items: int, where: str) -> None:
    """Refuses a model whose arrays do not fit one another and its items, point outside, or hold NaN or infinity.

    Args:
      model: of a kind in `SHAPES` or a `Network`, its arrays NumPy's.
      n_items: I.
      where: the model's name, for messages.

    Raises:
      InputError: one sentence on the first thing that is wrong.

    Cost: all numbers are read once.
    """
    for name, array in _shaped(model, {"I": n_items}, where):
        _check_numbers(array, name, where)
    if isinstance(model, SparseItemWeights):
        _checks.sparse_rows(where, model.indptr, model.indices, (n_items, n_items))
        if model.indptr[-1] != len(model.indices):
            raise InputError(f"{where}: indptr ends at {model.indptr[-1]} of {len(model.indices)} indices.")
    if isinstance(model, PairWeights) and model.pairs.size:
        if model.pairs.min() < 0 or model.pairs.max() >= n_items:
            raise InputError(f"{where}: pairs must hold items from 0 to {n_items - 1}.")


def _shaped(model: Any, sizes: dict[str | int, int], where: str) -> Iterator[tuple[str, Any]]:
    """The arrays of a model by name, each once it has shown to fit the sizes known, or those before it."""
    network = isinstance(model, Network)
    shapes: dict[str, Any] = model.architecture.shapes if network else SHAPES[type(model)]
    if network and model.parameters.keys() != shapes.keys():
        odd = sorted(model.parameters.keys() ^ shapes.keys())[0]
        raise InputError(f"{where}: the network should not have, or lacks, the array {_checks.shown(odd)}.")
    for name, shape in shapes.items():
        array = model.parameters[name] if network else _named(model, name)
        if array is None:
            if not name.startswith(OPTIONAL):
                raise InputError(f"{where} lacks the array {name!r}.")
            continue
        if not hasattr(array, "dtype"):
            raise InputError(f"{where}: {name} must be an array, got {briefly(array)}.")
        wanted = tuple(sizes.get(letter, letter) for letter in shape)
        if array.ndim != len(shape) or not all(map(partial(_fits, sizes), shape, array.shape)):
            sizes_wanted = ", ".join(map(str, wanted))
            raise InputError(f"{where}: {name} has shape {array.shape} where ({sizes_wanted}) is wanted.")
        yield name, array


def _fits(sizes: dict[str | int, int], letter: str | int, size: int) -> bool:
    """Whether a size is what its letter stands for, which is settled where it is the first."""
    if letter == "I + 1":
        return _fits(sizes, "I", size - 1)
    return sizes.setdefault(letter, letter if isinstance(letter, int) else size) == size


@kind("Fitted")
def fitted(name: str, value: Any) -> Fitted:
    """What `fit` returned."""
    if isinstance(value, Fitted):
        return value
    if hasattr(value, "score") or hasattr(value, "score_host"):
        hint = "its model alone; give all of it"
    else:
        hint = f"{briefly(value)}; {NOT_FITTED}" if hasattr(value, "fit") else briefly(value)
    raise InputError(f"{name} must be what fit returned, got {hint}.")


@kind("Scorer | Fitted")
def scorer(name: str, value: Any) -> Any:
    """What `fit` returned, or anything that scores items; of a kind in `SHAPES` with arrays that fit one another."""
    model = value.model if isinstance(value, Fitted) else value
    scores = hasattr(model, "score") or hasattr(model, "score_host")
    if isinstance(model, type) or not (scores and hasattr(model, "n_items")):
        hint = f"{briefly(value)}; {NOT_FITTED}" if hasattr(value, "fit") else briefly(value)
        raise InputError(
            f"{name} must be what fit returned, or an object with n_items and score(history) or score_host(rows), got "
            f"{hint}."
        )
    if type(model) in SHAPES and not getattr(model, "padding", 0):
        for _ in _shaped(model, {}, f"the {name}"):
            pass
    else:
        _checks.count(f"n_items of the {name}", model.n_items, at_least=1)
    return value


def _named(model: Any, name: str) -> Any:
    for part in name.split("."):
        model = getattr(model, part) if dataclasses.is_dataclass(model) else None
    return model


def _check_numbers(array: np.ndarray, name: str, where: str) -> None:
    if name in INDICES:
        if array.dtype not in (np.int32, np.int64):
            raise InputError(f"{where}: {name} must be int32 or int64, got {array.dtype}.")
        return
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{where}: {name} must be floating-point numbers, got {array.dtype}.")
    if name in MAY_BE_INFINITE:
        return
    flat = array.reshape(-1, order="A") if array.flags.forc else array.ravel()
    for start in range(0, flat.size, AT_ONCE):  # a piece at a time: the answers of all would take a second copy's room
        if not np.isfinite(flat[start : start + AT_ONCE]).all():
            raise InputError(f"{where}: {name} holds NaN or infinity.")
