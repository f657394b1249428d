"""Every step of CRAG on conversations in a planted world, with a simulated language model: no figure is of a real one.

Each seed draws its own world, conversations and model, so that the seeds are independent and their spread is an
interval. The model knows genre and popularity of the films up to its cut-off year, and not the tastes that people
share, which is what the interactions hold; asked whether a title suits, it judges by both. Targets are drawn by both.
The shares of errors and the world are ours: what is looked at is the order of the variants, not their size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.simulated import SimulatedChat
from jaxrec.conversational.crag import Crag, Recommended, rank_confusion
from jaxrec.conversational.crag import trace as told
from jaxrec.conversational.dialogue import Sample, samples
from jaxrec.conversational.planted import World
from jaxrec.data.interactions import Interactions
from jaxrec.evaluation import metrics
from jaxrec.experiments.crag import report
from jaxrec.experiments.harness.cells import Cells
from jaxrec.experiments.harness.outcome import Outcome
from jaxrec.linear import Ease

VERSION = 1
CUTOFFS = (5, 10, 20)
VARIANTS = ("zero-shot", "nR12", "nR2", "full")
UNAIDED = "full, K = 0"  # nothing retrieved, but ranked anew: what retrieval itself gains is measured from here
CUT_OFF = 2015  # the last year of which the model knows films
REG = 20.0
COUNT = 20  # titles asked for
# What the simulated model does wrong, each in turn and all at once.
ERRORS: dict[str, dict[str, float]] = {
    "none": {},
    "10 % typos": {"typos": 0.1},
    "10 % outside of the catalogue": {"unknown": 0.1},
    "no numbers": {"unnumbered": 1.0},
    "10 % empty replies": {"empty": 0.1},
    "10 % failed requests": {"failing": 0.1},
    "all of these": {"typos": 0.1, "unknown": 0.1, "unnumbered": 0.5, "empty": 0.1, "failing": 0.1},
}


class Sizes(NamedTuple):
    """The scale of the simulation.

    Attributes:
      seeds: how many worlds.
      dialogues: conversations in each.
      users: whose interactions retrieval learns from.
      items: films.
      retrieved: the K that are tried.
    """

    seeds: int
    dialogues: int
    users: int
    items: int
    retrieved: tuple[int, ...]


SCALES = {
    "smoke": Sizes(2, 20, 150, 120, (0, 10)),
    "small": Sizes(20, 100, 600, 300, (0, 5, 10, 15, 20, 25, 30, 35)),
    "full": Sizes(100, 200, 600, 300, (0, 5, 10, 15, 20, 25, 30, 35)),
}


class Planted:
    """A world with what was learned in it, and the samples to recommend for.

    Attributes:
      world: what is true.
      catalogue: its titles.
      fitted: EASE on its people's interactions.
      samples: turns of its conversations, with targets that were not named before.
      targets: the items to find, a row for each sample.
      after: for each sample, whether a target is newer than what the model knows.
    """

    def __init__(self, seed: int, sizes: Sizes):
        self.seed = seed
        self.world = World.drawn(seed, n_items=sizes.items)
        self.catalogue = Catalogue(self.world.titles)
        self.fitted = Ease(REG).fit(self.world.interactions(sizes.users, seed))
        self.samples: list[Sample] = list(samples(self.world.dialogues(sizes.dialogues, seed)))
        rows = [[self.world.number[title] for title in each.targets] for each in self.samples]
        self.targets = Interactions.from_lists(rows, sizes.items)
        self.after = np.array([bool((self.world.year[row] > CUT_OFF).any()) for row in rows])

    def recommended(self, crag: Crag, **errors: float) -> Recommended:
        """What a variant recommends with a model that errs so often."""
        chat = SimulatedChat(self.world, self.seed, CUT_OFF, **errors)  # pyright: ignore[reportArgumentType]
        return crag.run(self.samples, chat, self.catalogue, self.fitted)

    def recalls(self, found: Recommended) -> np.ndarray:
        """[len(CUTOFFS), B] recall of each sample."""
        hits = metrics.hits(found.items(COUNT), self.targets)
        return np.stack([metrics.recall(hits, self.targets.user_counts, k) for k in CUTOFFS])


def run(data: None, scale: str, cells: Cells, say: Callable[[str], None]) -> Outcome:
    """The ablations, the curve over K, the gain by recency, the copies, and the errors."""
    sizes = SCALES[scale]
    found: dict[str, list[dict[str, Any]]] = {"ablations": [], "errors": [], "retrieved": []}
    for seed in range(sizes.seeds):
        worlds: list[Planted] = []  # drawn when the first cell of the seed is computed

        def planted(seed: int = seed, worlds: list[Planted] = worlds) -> Planted:
            if not worlds:
                worlds.append(Planted(seed, sizes))
            return worlds[0]

        for part, compute in {"ablations": ablations, "errors": errors, "retrieved": curve}.items():
            cell = partial(lambda compute, planted: compute(planted(), sizes), compute, planted)
            found[part].append(cells.get({"part": part, "seed": seed}, cell))
        say(f"seed {seed + 1} of {sizes.seeds}")
    return Outcome(
        table=report.text(found, VARIANTS, UNAIDED, CUTOFFS),
        record={
            "settings": {**sizes._asdict(), "cut_off": CUT_OFF, "reg": REG, "count": COUNT, "errors": ERRORS},
            "summary": report.summary(found, VARIANTS, UNAIDED, CUTOFFS),
            "seeds": found,
        },
        plots={
            "retrieved": partial(report.curves, found["retrieved"], VARIANTS[1:], CUTOFFS),
            "copies": partial(report.confusions, found["ablations"]),
        },
    )


def ablations(planted: Planted, sizes: Sizes) -> dict[str, Any]:
    """Mean recalls of each variant, also of samples before and after the cut-off; of the full one, copied ranks too."""
    result: dict[str, Any] = {"n": len(planted.samples), "n_after": int(planted.after.sum())}
    for name in (*VARIANTS, UNAIDED):
        found = planted.recommended(Crag(k=0) if name == UNAIDED else Crag.ablation(name))
        recalls = planted.recalls(found)
        result[name] = {
            "all": recalls.mean(axis=1).tolist(),
            "after": recalls[:, planted.after].mean(axis=1).tolist(),
            "before": recalls[:, ~planted.after].mean(axis=1).tolist(),
            "counts": found.counts(),
        }
        if name == "full":
            result["copies before"] = rank_confusion(found.traces, 10, before=True).tolist()
            result["copies"] = rank_confusion(found.traces, 10).tolist()
    return result


def errors(planted: Planted, sizes: Sizes) -> dict[str, Any]:
    """Mean recalls of the full method under each kind of error, what was counted, and what was lost: nothing."""
    result = {}
    for name, shares in ERRORS.items():
        found = planted.recommended(Crag(), **shares)
        result[name] = {
            "all": planted.recalls(found).mean(axis=1).tolist(),
            "counts": found.counts(),
            "lost": lost(found),
        }
    return result


def lost(found: Recommended) -> int:
    """How many titles and samples are not accounted for.

    Every list has as many titles as were asked for, but for those that were left out, which are noted; one without any
    is noted; and the order is a permutation of what was recommended.
    """
    missing = 0
    for trace in found.traces:
        left_out = sum(note in (told.NAMED_BEFORE, told.REPEATED) for note in trace.notes)
        empty = told.NO_RECOMMENDATION in trace.notes
        missing += abs((0 if empty else COUNT) - len(trace.suggestions) - left_out)
        missing += sorted(trace.order) != list(range(len(trace.suggestions)))
    return missing


def curve(planted: Planted, sizes: Sizes) -> dict[str, Any]:
    """Mean recalls of each variant by how many items are retrieved."""
    return {
        name: {
            str(k): planted.recalls(planted.recommended(Crag.ablation(name, k=k))).mean(axis=1).tolist()
            for k in sizes.retrieved
        }
        for name in VARIANTS[1:]
    }
