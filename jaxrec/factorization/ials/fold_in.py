"""Users and items that were not trained on: their exact factors, given the factors of the other side."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data import alignment
from jaxrec.data.interactions import Interactions
from jaxrec.factorization import ridge
from jaxrec.factorization.ials.model import UserItemFactors
from jaxrec.factorization.weights import WeightRule, Weights


@door
def fold_in(model: UserItemFactors, histories: Interactions, cell_weights: Weights | None = None) -> np.ndarray:
    """[B, K] the exact factors of users with these histories, given the item factors, seen in training or not.

    The whole history is needed, not only what is new in it. The model's scores are these times the item factors.

    Args:
      model: from a fit.
      histories: B users' histories, [B, I]; Interactions with ids of items are matched with the model's by these.
      cell_weights: of the histories; default by the rule of the fit's weights.

    Raises:
      InputError: another number of items, an empty history (it determines no factors), or weights without a rule.
    """
    found = alignment.align_items(histories, alignment.catalogue_of(model), "the model")
    alignment.warn_of_left_out(histories, found.unknown, found.n_entries, "the model", stacklevel=4)
    if cell_weights is not None and found.data is not histories:
        raise InputError(
            f"{histories.name} is of other items than the model, so that cell_weights are not of these; make them "
            "for histories.aligned_to(model)."
        )
    x = _histories(found.data, model.n_items, "items")
    if cell_weights is None:
        model.require_rule()
    made: Weights = model.fold.rule.on(x) if cell_weights is None else cell_weights
    made.require(x)
    return _folded(model.fold.rows(x, made), model.item_factors, model.item_gram)


@door
def fold_in_items(model: UserItemFactors, columns: Interactions, cell_weights: Weights | None = None) -> np.ndarray:
    """[J, K] the exact factors of new items, given the user factors of the fit.

    Args:
      model: from a fit.
      columns: J new items' users, [J, U], in the order of the users of the fit.
      cell_weights: of `columns`, with its `row` for the items and its `col` for the users; default by the rule of the
        fit's weights if that is the same for all items.

    Raises:
      InputError: another number of users, an item without users, or weights that say nothing of new items.
    """
    x = _histories(columns, len(model.user_factors), "users")
    made = _like_all_items(model, x) if cell_weights is None else cell_weights
    made.require(x)
    return _folded(model.fold.rows(x, made), model.user_factors, model.user_gram)


def _like_all_items(model: UserItemFactors, x: Interactions) -> Weights:
    rule: WeightRule | None = model.fold.rule
    parts = [] if rule is None else [np.asarray(part) for part in (rule.col, rule.slope, rule.offset)]
    if rule is None or any(np.ptp(part) > 0 for part in parts):
        raise InputError("the weights of this fit differ from item to item; pass those of the new items.")
    col, slope, offset = (float(part[0]) for part in parts)
    users = np.asarray(model.user_weights, np.float64)
    entries = np.full(x.n_items, slope), np.full(x.n_items, offset)
    return WeightRule(users, *entries, np.float64(col), np.float64(0), np.asarray(rule.saturation)).on(x)


def _histories(x: Interactions, wanted: int, what: str) -> Interactions:
    if x.n_items != wanted:
        raise InputError(f"the model has {wanted:,} {what}, and what is folded in {x.n_items:,}; they must agree.")
    if not x.user_counts.all():
        row = int(np.argmin(x.user_counts))
        raise InputError(f"row {row} of what is folded in is empty and determines no factors; leave it out.")
    return x


def _folded(rows: ridge.Regressions, factors: Any, gram: Any) -> np.ndarray:
    return ridge.solve_on_host(rows, np.ascontiguousarray(factors), np.asarray(gram)).factors
