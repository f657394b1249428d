"""Fold-in and targets brought into a model's numbering of items and into the same rows, before anything is ranked."""

from __future__ import annotations

from typing import NamedTuple

from jaxrec._checks import InputError
from jaxrec.data import alignment
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions


class Paired(NamedTuple):
    """Users to evaluate a model on, in its numbering of items, and what had to be left out for that.

    Attributes:
      fold_in: B x I histories, in the rows as given.
      targets: B x J entries to find, in the rows of the fold-in; items that the model does not know are numbered from I
        on, so that they count as missed.
      n_unknown_fold_in: entries left out of the fold-in, since the model does not know the item.
      n_unknown_targets: targets of items that the model does not know.
      n_unknown_users: users with targets who are left out, since the fold-in has no row of them.
    """

    fold_in: Interactions
    targets: Interactions
    n_unknown_fold_in: int = 0
    n_unknown_targets: int = 0
    n_unknown_users: int = 0


def paired(
    items: Catalogue | None, n_items: int, fold_in: Interactions, targets: Interactions, *, stacklevel: int = 3
) -> Paired:
    """Fold-in and targets for a model of these items, matched by id where both sides have ids, with one warning.

    Args:
      items: the model's catalogue; None where it carries none.
      n_items: I, the number of items it scores.
      fold_in: B x I' histories.
      targets: B' x I'' entries to find.
      stacklevel: of the warning, without the door of the public function.

    Raises:
      InputError: items or users have nothing in common; or there are no ids, and the shapes differ.
    """
    targets, n_users = alignment.align_users(targets, fold_in)
    shown = alignment.align_items(fold_in, items, "the model")
    numbering = shown.data.items if items is None or items.ids is None else items
    wanted = alignment.align_items(targets, numbering, "the model", keep_unknown=True)
    if shown.data.n_items != n_items or wanted.data.n_items - len(wanted.unknown) != n_items:
        raise InputError(
            f"model, fold_in and targets must have the same items, got {n_items}, {shown.data.n_items} and "
            f"{wanted.data.n_items} of them; evaluate on the split that the model was trained on."
        )
    if wanted.n_entries and wanted.n_entries == targets.nnz:
        raise InputError(
            f"{targets.name}: the model knows the item of no target; give targets of items it was fitted on."
        )
    names = " and ".join(dict.fromkeys((fold_in.name, targets.name)))
    left_out = (shown.unknown, shown.n_entries, "the model", n_users, wanted.n_entries)
    alignment.warn_of_left_out(fold_in, *left_out, name=names, stacklevel=stacklevel + 2)
    return Paired(shown.data, wanted.data, shown.n_entries, wanted.n_entries, n_users)
