"""The shortcut of repeating: recommend what the conversation has named already.

Targets are named before in a tenth of ReDial's and a sixth of INSPIRED's cases, so that this scores where repeated
targets count, and never where they do not (He et al. 2023, arXiv 2308.10053).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.conversational.dialogue import Sample
from jaxrec.conversational.protocols import CONDITIONS, item_lists


def newest_first(sample: Sample) -> list[str]:
    """The titles that a context names, the one mentioned last first; those whose turn is not known come last."""
    mentioned = [each.item for turn in sample.context for each in turn.mentions]
    return list(dict.fromkeys([*reversed(mentioned), *sample.seen]))


def expected_recall(targets: Sequence[Any], seen: Sequence[Any], k: int, condition: str = "all") -> float:
    """Recall@k by target, on an average over the orders of what was named before: min(k, m) / m if it is one of m.

    Args:
      targets: for each of N samples its items to find.
      seen: for each sample the items named before, which can be recommended.
      k: ranks that count.
      condition: "recommendation" (0 by definition), "discussion" or "all".

    Returns:
      The mean over targets; NaN without any.

    Raises:
      InputError: something is no item, or the two are of other samples.
    """
    _checks.count("k", k, at_least=1)
    _checks.one_of("condition", condition, CONDITIONS)
    values, wanted_by, named_by = [], item_lists("targets", targets), item_lists("seen", seen)
    if len(wanted_by) != len(named_by):
        raise InputError(f"targets and seen must be of the same samples, got {len(wanted_by)} and {len(named_by)}.")
    for wanted, named in zip(wanted_by, named_by, strict=True):
        old = set(named.tolist())
        for target in wanted.tolist():
            repeated = target in old
            if condition == "all" or repeated == (condition == "discussion"):
                values.append(min(k, len(old)) / len(old) if repeated else 0.0)
    return float(np.mean(values)) if values else float("nan")
