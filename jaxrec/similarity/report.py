"""Are the cosines of my embeddings determined by the objective? A report on factors, with or without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError, briefly
from jaxrec._checks.doors import door
from jaxrec.models import Fitted, ItemFactors
from jaxrec.runtime.memory import require_memory
from jaxrec.similarity.curvature import Curvature, principal_axes, rescaling_curvature, with_best_common_scale
from jaxrec.similarity.gauges import cosine_range, pair_of
from jaxrec.similarity.lists import CHOICES, item_vectors, similar_items, unit_rows

LISTS = 200  # items whose lists are compared


class ChoiceSummary(NamedTuple):
    """What cosines are like under one choice.

    Attributes:
      mean: over the sampled pairs of items.
      std: likewise.
      same_lists: mean share of an item's k most similar items that are the same under the factors as given.
    """

    mean: float
    std: float
    same_lists: float


@dataclasses.dataclass(frozen=True)
class GaugeReport:
    """What `gauge_report` found; `str` of it is a text to read, `record` the same in JSON's types.

    Attributes:
      n_items: I.
      rank: K.
      n_zero: items whose vector is zero; they have no cosine and are left out below.
      n_pairs: random pairs of items that were looked at.
      free: share of pairs whose cosine a rescaling of the dimensions can bring anywhere in (-1, 1).
      width: median over pairs of the length of the interval it can reach; 2 is everything.
      k: length of the lists compared.
      choices: by name.
      curvature: how firmly the objective holds the scales; None where none was given.
    """

    n_items: int
    rank: int
    n_zero: int
    n_pairs: int
    free: float
    width: float
    k: int
    choices: dict[str, ChoiceSummary]
    curvature: Curvature | None

    @property
    def verdict(self) -> str:
        """In one word: "arbitrary", "weak", "determined", "unfinished", or "unknown" without an objective."""
        return self.curvature.verdict if self.curvature else "unknown"

    def __str__(self) -> str:
        unknown = "unknown: give the objective; one that sees the scores alone leaves every rescaling free"
        zero = f", {self.n_zero:,} of them zero" if self.n_zero else ""
        lines = [
            f"cosines of {self.n_items:,} items in {self.rank} dimensions{zero}; {self.n_pairs:,} random pairs",
            f"verdict    {self.curvature or unknown}",
            f"rescaling  could bring {100 * self.free:.1f} % of the pairs anywhere between -1 and 1;"
            f" median width of the interval {self.width:.2f}",
            "",
            f"{'choice':<18}{'mean cosine':>12}{'std':>8}{f'same top {self.k}':>14}",
        ]
        lines += [
            f"{name.replace('_', ' '):<18}{c.mean:>12.3f}{c.std:>8.3f}{c.same_lists:>14.2f}"
            for name, c in self.choices.items()
        ]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """The report in JSON's own types."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "curvature"}
        values["choices"] = {name: c._asdict() for name, c in self.choices.items()}
        values["verdict"] = self.verdict
        if self.curvature:
            values["relative_curvature"] = self.curvature.relative.tolist()
        return values


@door
def gauge_report(
    factors: Any,
    objective: Callable[[Any, Any], Any] | None = None,
    data: Any = None,
    *,
    n_pairs: int = 1000,
    k: int = 10,
    seed: int = 0,
) -> GaugeReport:
    """Whether cosines of embeddings are determined by the objective, and how much the choice of a gauge changes them.

    Args:
      factors: ItemFactors, what `fit` returned, or a pair (user_factors [U, K], item_factors [I, K]).
      objective: (user_factors, item_factors) -> scalar, in JAX, its products at precision="highest": what the factors
        minimise. It is looked at along their principal axes, at the best common scale of the two sides. For
        parameters of another shape see `rescaling_curvature`.
      data: Interactions or their [I, I] Gram matrix; needed to compare reconstructions of ItemFactors.
      n_pairs: random pairs of items to look at.
      k: length of the lists of similar items to compare, for up to 200 random items.
      seed: of the draws.

    Raises:
      InputError: fewer than two items have a cosine, or an argument is of the wrong kind.

    Cost: 4 (N + I) K^2 flops and 200 lists under each of five choices; with an objective besides `rescaling_curvature`.
    """
    _checks.count("n_pairs", n_pairs, at_least=1)
    _checks.count("k", k, at_least=1)
    _checks.count("seed", seed)
    users, items = pair_of(factors)
    require_memory(8 * n_pairs * (8 + 8 * items.shape[1]), f"{n_pairs:,} pairs of items")
    known = np.flatnonzero(items.any(axis=1))
    if len(known) < 2:
        raise InputError(f"cosines need at least two items with nonzero factors, got {len(known)}.")
    rng = np.random.default_rng(seed)
    first = rng.integers(len(known), size=n_pairs)
    second = (first + rng.integers(1, len(known), size=n_pairs)) % len(known)
    first, second = known[first], known[second]
    low, high = cosine_range(items, first, second)
    asked = rng.choice(known, min(LISTS, len(known)), replace=False)
    k = min(k, len(known) - 1)
    given = similar_items(factors, asked, k, choice="as_given").items

    def summary(choice: str) -> ChoiceSummary:
        vectors = item_vectors(factors, choice, data)
        unit = unit_rows(vectors)
        values = np.sum(unit[first] * unit[second], axis=1)
        values = values[np.isfinite(values)]
        lists = similar_items((vectors, vectors), asked, k, choice="as_given").items
        same = [len(np.intersect1d(own, others)) / k for own, others in zip(given, lists, strict=True)]
        mean, std = (float(values.mean()), float(values.std())) if len(values) else (np.nan, np.nan)
        return ChoiceSummary(mean, std, float(np.mean(same)))

    known_scores = data is not None or not isinstance(factors, Fitted | ItemFactors)
    choices = [choice for choice in CHOICES if choice != "reconstruction" or known_scores]
    curvature = None
    if objective:
        value = objective(users, items)
        if not isinstance(value, jax.Array | np.generic | float) or np.shape(value) != ():
            raise InputError(f"the objective must return a number made by JAX, got {briefly(value)}.")
        pair = with_best_common_scale(lambda pair: objective(*pair), (users, items))
        curvature = rescaling_curvature(lambda pair: objective(*pair), pair, axes=principal_axes(users, items))
    return GaugeReport(
        n_items=len(items),
        rank=items.shape[1],
        n_zero=len(items) - len(known),
        n_pairs=n_pairs,
        free=float(np.mean((low == -1) & (high == 1))),
        width=float(np.median(high - low)),
        k=k,
        choices={choice: summary(choice) for choice in choices},
        curvature=curvature,
    )
