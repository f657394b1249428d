"""What a run will cost, before it is asked, and a budget at which it stops."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from jaxrec import _checks
from jaxrec._checks import InputError, briefly
from jaxrec._checks.doors import door, kind
from jaxrec.conversational.chat import streams
from jaxrec.conversational.chat.protocol import ChatModel, ChatReply, ChatRequest
from jaxrec.conversational.chat.streams import Placed

LETTERS_A_TOKEN = 4.0  # of English; what tokenizers of today make of it
TOKENS_A_MESSAGE = 4  # for who speaks and where it ends


@dataclasses.dataclass(frozen=True)
class Prices:
    """What an endpoint asks for a million tokens, in a currency of the user's.

    Attributes:
      prompt: of requests.
      completion: of replies.
    """

    prompt: float
    completion: float

    def __post_init__(self):
        _checks.plain_numbers(self)
        for name in ("prompt", "completion"):
            _checks.nonnegative(name, getattr(self, name), "for a million tokens")

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@kind("Prices")
def given_prices(name: str, value: object) -> Prices:
    """Prices."""
    if isinstance(value, Prices):
        return value
    raise InputError(f"{name} must be Prices, such as Prices(prompt=2.5, completion=10), got {briefly(value)}.")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What requests will take; `str` of it is a sentence.

    Attributes:
      calls: how many.
      prompt_tokens: in all of them, estimated from their letters.
      completion_tokens: in all replies at most, each being as long as is allowed.
      price: at most; None if no prices are known.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    price: float | None = None

    def __str__(self) -> str:
        cost = "" if self.price is None else f", which cost at most {self.price:,.2f}"
        return (
            f"{self.calls:,} calls with about {self.prompt_tokens:,} tokens, and at most {self.completion_tokens:,} in "
            f"reply{cost}."
        )


def plan(requests: Sequence[ChatRequest], prices: Prices | None = None) -> Plan:
    """What these requests will take."""
    prompt = sum(map(estimated_tokens, requests))
    completion = sum(request.max_tokens for request in requests)
    return Plan(len(requests), prompt, completion, prices and prices.of(prompt, completion))


def estimated_tokens(request: ChatRequest) -> int:
    """How many tokens a request has, about: a quarter of its letters, and some for each message."""
    letters = sum(len(message.content) for message in request.messages)
    return round(letters / LETTERS_A_TOKEN) + TOKENS_A_MESSAGE * len(request.messages)


class BudgetedChat:
    """A chat model that is asked no more than a budget allows; what is left over is replied to with an error.

    A request is asked if it fits, were its reply as long as is allowed. What it then took is what the model says, or an
    estimate where it says nothing. A failed request takes a call and no tokens, a cached reply nothing.

    Put it inside of a recorder, `RecordingChat(BudgetedChat(chat, ...), path)`: what was recorded takes nothing.

    Attributes:
      spent: what was taken so far, as a `Plan`.
    """

    @door
    def __init__(
        self,
        chat: ChatModel,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        price: float | None = None,
        prices: Prices | None = None,
    ):
        """Sets what may be taken, at least one of them.

        Args:
          chat: the model to ask.
          calls: how many requests.
          tokens: how many in requests and replies.
          price: in the currency of `prices`.
          prices: needed for `price`.

        Raises:
          InputError: no limit, one of 0 or below, or a price without prices.
        """
        if calls is None and tokens is None and price is None:
            raise InputError("a budget needs a number of calls or of tokens, or a price.")
        for name, limit in (("calls", calls), ("tokens", tokens)):
            if limit is not None:
                _checks.count(name, limit, at_least=1)
        if price is not None:
            _checks.positive("price", price)
            if prices is None:
                raise InputError("a budget with a price needs prices, what a million tokens cost.")
        self.chat, self.calls, self.tokens, self.price, self.prices = chat, calls, tokens, price, prices
        self.spent = Plan(0, 0, 0, prices and 0.0)

    @property
    def name(self) -> str:
        """The model's."""
        return self.chat.name

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies, one for each request, in their order; what did not fit the budget is an error."""
        return streams.in_order(self.stream(requests))

    def stream(self, requests: Sequence[ChatRequest]) -> Iterator[Placed]:
        """The replies as they come."""
        requests = streams.listed(requests)
        left = list(range(len(requests)))
        while left and (n := self._n_that_fit([requests[place] for place in left])):
            asked, left = left[:n], left[n:]
            with contextlib.closing(streams.stream(self.chat, [requests[place] for place in asked])) as replies:
                for place, reply in replies:
                    self._take(requests[asked[place]], reply)
                    yield asked[place], reply
        for place in left:
            yield place, ChatReply("", error=f"not asked: the budget of {self._limits()} is used up.")

    def _n_that_fit(self, requests: Sequence[ChatRequest]) -> int:
        """How many of the first requests fit together, each with the longest reply."""
        total = self.spent
        for n, request in enumerate(requests):
            total = self._sum(total, 1, estimated_tokens(request), request.max_tokens)
            within = (
                self.calls is None or total.calls <= self.calls,
                self.tokens is None or total.prompt_tokens + total.completion_tokens <= self.tokens,
                self.price is None or (total.price or 0.0) <= self.price,
            )
            if not all(within):
                return n
        return len(requests)

    def _take(self, request: ChatRequest, reply: ChatReply) -> None:
        if reply.cached:
            return
        known = reply.prompt_tokens > 0 or reply.error is not None
        prompt = reply.prompt_tokens if known else estimated_tokens(request)
        completion = reply.completion_tokens if known else round(len(reply.text) / LETTERS_A_TOKEN)
        self.spent = self._sum(self.spent, 1, prompt, completion)

    def _sum(self, plan: Plan, calls: int, prompt: int, completion: int) -> Plan:
        total = Plan(plan.calls + calls, plan.prompt_tokens + prompt, plan.completion_tokens + completion)
        price = self.prices and self.prices.of(total.prompt_tokens, total.completion_tokens)
        return dataclasses.replace(total, price=price)

    def _limits(self) -> str:
        price = None if self.price is None else f"{self.price:g}"
        told = {"calls": self.calls, "tokens": self.tokens}
        parts = [f"{limit:,} {name}" for name, limit in told.items() if limit is not None]
        return " and ".join([*parts, *([f"price {price}"] if price else [])])
