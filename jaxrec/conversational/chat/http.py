"""`HttpChat`: a language model behind any endpoint that speaks as OpenAI's does."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from jaxrec import _checks
from jaxrec._checks import InputError, shown
from jaxrec.conversational.chat import background, endpoint
from jaxrec.conversational.chat.exchange import Exchange, Failure, Limits
from jaxrec.conversational.chat.protocol import ChatReply, ChatRequest
from jaxrec.conversational.chat.streams import Placed, in_order, listed

OPENAI = "https://api.openai.com/v1"
FEWEST_FAILED = 3  # requests in a row, before the rest is not asked
_VARIABLE = re.compile("[A-Z_][A-Z0-9_]{0,63}")


@dataclasses.dataclass(frozen=True)
class HttpChat:
    """A language model behind an endpoint with /chat/completions: OpenAI's, vLLM's, llama.cpp's, Ollama's and others'.

    The first call finds out whether there is such an endpoint and whether it has the model, and raises if not; so does
    a missing key. After that whatever fails is a reply with an error. A request is tried again, after waits that double
    and vary at random, where the endpoint is busy (429, 5xx; it may say how long in Retry-After), where the connection
    breaks, and where the answer is damaged; not where the endpoint says that the request is wrong. Once as many
    requests in a row as are asked together, and three at least, have failed for good, the rest is not asked.

    The key is read from the environment at each call. It is in no file, log, message or `repr`, and cut out of a reply
    that repeats it. Redirections are not followed. Calls may come from any thread.

    Attributes:
      model: what the endpoint calls the model.
      base_url: the address up to "/chat/completions".
      key_from: the environment variable that holds the key. None: send none; neither does a local endpoint need one.
      at_once: how many requests are under way together.
      timeout: seconds that one attempt may take from its beginning to the last byte.
      attempts: how many there are for a request.
      first_wait: seconds, about, before the second attempt.
      longest_wait: the most seconds before any; an endpoint that asks for more is given up.
      largest_reply: bytes; an answer with more is an error.
      extra: fields added to the body of every request, such as {"top_p": 0.9}; one that is None is taken out of it.
      check_model: whether a model that the endpoint does not list is refused.
    """

    model: str
    base_url: str = OPENAI
    _: dataclasses.KW_ONLY
    key_from: str | None = "OPENAI_API_KEY"
    at_once: int = 8
    timeout: float = 120.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    largest_reply: int = 2**22
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    check_model: bool = True
    _met: list[bool] = dataclasses.field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self):
        _checks.plain_numbers(self)
        for name in ("model", "base_url"):
            if not isinstance(value := getattr(self, name), str) or not value.strip():
                raise InputError(f"{name} must be a text that is not empty, got {_checks.briefly(value)}.")
        # A key given here by mistake is no such name, and so neither kept nor shown.
        if self.key_from is not None and not (isinstance(self.key_from, str) and _VARIABLE.fullmatch(self.key_from)):
            raise InputError("key_from must be the name, in capitals, of an environment variable, not the key itself.")
        for name in ("at_once", "attempts", "largest_reply"):
            _checks.count(name, getattr(self, name), at_least=1)
        for name in ("timeout", "first_wait", "longest_wait"):
            _checks.positive(name, getattr(self, name), "seconds")
        object.__setattr__(self, "base_url", endpoint.checked_url(self.base_url))
        try:
            object.__setattr__(self, "extra", json.loads(json.dumps(dict(self.extra), allow_nan=False)))
        except (TypeError, ValueError):
            raise InputError("extra must be a dictionary of what JSON can hold.") from None

    @property
    def name(self) -> str:
        """The model's, and with it what `extra` makes different in all its replies."""
        return f"{self.model} {json.dumps(self.extra, sort_keys=True)}" if self.extra else self.model

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies, one for each request, in their order.

        Raises:
          InputError: at the first call, that there is no such endpoint or model; a key is missing.
        """
        return in_order(self.stream(requests))

    def stream(self, requests: Sequence[ChatRequest]) -> Iterator[Placed]:
        """The replies as they come, with the places of their requests; who stops early has the rest cancelled."""
        asked = listed(requests)
        if asked:
            yield from background.results(lambda put: self._ask_all(asked, put))

    async def _ask_all(self, requests: list[ChatRequest], put: Callable[[Placed], None]) -> None:
        key = endpoint.key_for(self.base_url, self.key_from)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        limits = Limits(self.timeout, self.attempts, self.first_wait, self.longest_wait, self.largest_reply)
        client = httpx.AsyncClient(
            headers=headers,
            timeout=self.timeout,
            limits=httpx.Limits(max_connections=self.at_once),
            trust_env=not endpoint.is_local(self.base_url),  # proxies
        )
        pending = iter(enumerate(requests))
        async with client:
            exchange = Exchange(client, self.base_url, limits, key)
            if not self._met:
                lists_models = await self._meet(exchange)
                place, first = next(pending)
                put((place, await self._first(exchange, first, lists_models)))
            failed = [0]  # in a row
            workers = (self._work(exchange, pending, put, failed) for _ in range(min(self.at_once, len(requests))))
            await asyncio.gather(*workers)

    async def _meet(self, exchange: Exchange) -> bool:
        """Refuses an endpoint that is none, and a model that it does not list; says whether it lists any."""
        try:
            models = await exchange.models()
        except Failure as failure:
            raise InputError(failure.sentence) from None
        if not self.check_model or not models:
            return bool(models)
        if not any(name in (self.model, f"{self.model}:latest") or name.endswith(f"/{self.model}") for name in models):
            near = difflib.get_close_matches(self.model, models, n=5, cutoff=0.0)
            raise InputError(
                f"{self.base_url} has no model {shown(self.model)}; it has {', '.join(map(shown, near))}"
                f"{' and others' if len(models) > len(near) else ''} (check_model=False asks all the same)."
            )
        return True

    async def _first(self, exchange: Exchange, request: ChatRequest, lists_models: bool) -> ChatReply:
        """The reply to the first request of all, before any other is asked."""
        try:
            reply = await exchange.reply(self._body(request))
        except Failure as failure:
            if failure.kind in ("silent", "key", "wrong") or (failure.kind == "broken" and not lists_models):
                raise InputError(failure.sentence) from None
            return ChatReply("", error=failure.sentence)
        self._met.append(True)
        return reply

    async def _work(
        self,
        exchange: Exchange,
        pending: Iterator[tuple[int, ChatRequest]],
        put: Callable[[Placed], None],
        failed: list[int],
    ) -> None:
        """Takes requests one after the other, beside others who do, until there are no more."""
        for place, request in pending:
            if failed[0] >= max(self.at_once, FEWEST_FAILED):
                put((place, ChatReply("", error=f"not asked: {failed[0]} requests in a row failed before.")))
                continue
            try:
                reply, failed[0] = await exchange.reply(self._body(request)), 0
            except Failure as failure:
                failed[0] += failure.kind != "request"
                reply = ChatReply("", error=failure.sentence)
            put((place, reply))

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dataclasses.asdict(message) for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stop": list(request.stop) or None,
            "seed": request.seed,
            **self.extra,
        }
        return {name: value for name, value in body.items() if value is not None}
