"""What CRAG asks a chat model, for many samples at once: a request a sample and step, errors counted in the traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxrec.conversational import prompts
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat import streams
from jaxrec.conversational.chat.protocol import ChatModel, ChatReply
from jaxrec.conversational.crag.trace import Trace
from jaxrec.conversational.dialogue import Sample
from jaxrec.conversational.prompts import Prompt, Reading

Ask = tuple[Prompt, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Wording:
    """The prompts of the steps; one of them in other words is made by `Prompt.worded`.

    Attributes:
      extract: which titles does the conversation name?
      link: what is meant by names on which the matchers disagree?
      guess: which titles may a seeker like who names none?
      reflect: which of the retrieved titles suit the conversation?
      plain: what do you recommend?
      rag: the same, with retrieved titles that may be used.
      rec: the same, with retrieved titles as candidates.
      rerank: how well does each recommended title suit?
    """

    extract: Prompt = prompts.EXTRACT
    link: Prompt = prompts.LINK
    guess: Prompt = prompts.GUESS
    reflect: Prompt = prompts.CONTEXT
    plain: Prompt = prompts.RECOMMEND
    rag: Prompt = prompts.RETRIEVED["rag"]
    rec: Prompt = prompts.RETRIEVED["rec"]
    rerank: Prompt = prompts.RERANK


@dataclasses.dataclass(frozen=True)
class Asking:
    """A chat model with all that its requests need.

    Attributes:
      chat: the model.
      catalogue: I titles.
      wording: the prompts.
      domain: what is recommended, in the plural.
      max_tokens: the longest reply.
    """

    chat: ChatModel
    catalogue: Catalogue
    wording: Wording
    domain: str
    max_tokens: int

    def ask(
        self, samples: Sequence[Sample], traces: Sequence[Trace], asks: Sequence[Ask | None]
    ) -> tuple[list[ChatReply | None], list[Trace]]:
        """The replies, None where nothing was asked, and the traces with the requests counted.

        Args:
          samples: B samples.
          traces: B traces, one for each.
          asks: a prompt with its fields for each; those of the conversation and the domain are put in here.
        """
        places = [place for place, ask in enumerate(asks) if ask is not None]
        requests = []
        for place in places:
            prompt, fields = asks[place]  # pyright: ignore[reportGeneralTypeIssues]
            talk = prompts.conversation(samples[place].context)
            told = {"domain": self.domain, "conversation": talk, **fields}
            requests.append(prompt.request(samples[place].key, max_tokens=self.max_tokens, **told))
        replies: list[ChatReply | None] = [None] * len(samples)
        counted = list(traces)
        for place, reply in zip(places, streams.asked(self.chat, requests) if requests else [], strict=True):
            replies[place] = reply
            trace = counted[place]
            errors = trace.errors if reply.error is None else (*trace.errors, reply.error)
            counted[place] = dataclasses.replace(trace, n_requests=trace.n_requests + 1, errors=errors)
        return replies, counted


def readable(reply: ChatReply, reading: Reading) -> bool:
    """Whether an answer came that says something, if only that there is nothing."""
    return reply.error is None and bool(reply.text.strip()) and not reading.failed
