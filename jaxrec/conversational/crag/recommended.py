"""What CRAG recommended for some samples: lists, what was counted on the way to them, figures."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Literal

import numpy as np

from jaxrec import _checks
from jaxrec.conversational import protocols
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.protocol import ChatReply
from jaxrec.conversational.crag.trace import Trace
from jaxrec.conversational.dialogue import Sample
from jaxrec.conversational.zero_shot import Replies


@dataclasses.dataclass(frozen=True, repr=False)
class Recommended:
    """What CRAG recommended for B samples, with the way to each list.

    Attributes:
      model: what the chat model is called.
      samples: the B samples.
      traces: one for each, in their order.
      catalogue: the items.
    """

    model: str
    samples: tuple[Sample, ...]
    traces: tuple[Trace, ...]
    catalogue: Catalogue

    def items(self, k: int) -> np.ndarray:
        """[B, k] int32 the items of the final lists, best first.

        -1 holds the rank of a title that is not in the catalogue, which hits nothing, and fills up short lists.
        """
        ranked = np.full((len(self.traces), k), -1, np.int32)
        for row, trace in enumerate(self.traces):
            listed = [each.item for each in trace.ranked][:k]
            ranked[row, : len(listed)] = listed
        return ranked

    def titles(self) -> list[list[str]]:
        """The final lists as titles, those that are not in the catalogue included."""
        return [[each.title for each in trace.ranked] for trace in self.traces]

    def scores(
        self, protocol: Literal["per_target", "per_sample"] = "per_sample", metrics: Any = protocols.DEFAULT
    ) -> protocols.Scores:
        """The figures, under each condition a mean with its standard error; an empty list is a miss.

        Args:
          protocol: "per_sample", as CRAG has it, or "per_target"; see `jaxrec.conversational.protocols`.
          metrics: names with cut-offs.
        """
        _checks.one_of("protocol", protocol, tuple(protocols.PROTOCOLS))
        asked = Replies(self.model, self.samples, (ChatReply(""),) * len(self.samples), self.catalogue)
        ranked = [[each.item for each in trace.ranked] for trace in self.traces]
        label = f"CRAG with {self.model}"
        return protocols.PROTOCOLS[protocol](ranked, asked.targets, asked.seen, metrics, exclude_seen=True, label=label)

    def counts(self) -> dict[str, int]:
        """How often each way round was taken, and how many requests were made and failed."""
        notes = collections.Counter(note for trace in self.traces for note in trace.notes)
        return {
            "requests": sum(trace.n_requests for trace in self.traces),
            "requests that failed": sum(len(trace.errors) for trace in self.traces),
            **{note: notes[note] for note in sorted(notes)},
        }

    def __repr__(self) -> str:
        lines = [f"{len(self.traces):,} samples"]
        return "\n".join([*lines, *(f"{count:,}: {what}" for what, count in self.counts().items())])
