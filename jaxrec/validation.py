"""What the arrays of a model must be, before anything computes with them: native code follows an index anywhere.

One table for every kind of model: the shape of each array in letters, of which each stands for one number throughout a
model: I items, U users, K features, M pairs, N entries, a scalar by ().
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.deep.network import Network
from jaxrec.factorization import UserItemFactors
from jaxrec.models import ItemFactors, ItemScores, ItemWeights, PairWeights, SparseItemWeights

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
    sizes: dict[str | int, int] = {"I": n_items, "I + 1": n_items + 1}
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
        wanted = tuple(sizes.get(letter, letter) for letter in shape)
        if array.ndim != len(shape) or any(
            isinstance(size, int) and size != has for size, has in zip(wanted, array.shape, strict=True)
        ):
            sizes_wanted = ", ".join(map(str, wanted))
            raise InputError(f"{where}: {name} has shape {array.shape} where ({sizes_wanted}) is wanted.")
        sizes |= dict(zip(shape, array.shape, strict=True))
        _check_numbers(array, name, where)
    if isinstance(model, SparseItemWeights):
        _checks.sparse_rows(where, model.indptr, model.indices, (n_items, n_items))
        if model.indptr[-1] != len(model.indices):
            raise InputError(f"{where}: indptr ends at {model.indptr[-1]} of {len(model.indices)} indices.")
    if isinstance(model, PairWeights) and model.pairs.size:
        if model.pairs.min() < 0 or model.pairs.max() >= n_items:
            raise InputError(f"{where}: pairs must hold items from 0 to {n_items - 1}.")


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
