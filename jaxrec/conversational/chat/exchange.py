"""One exchange with a chat endpoint: a request goes out, and what comes back is a reply or a sentence on what is wrong.

No exception of the HTTP library leaves this file, nor hangs on one that does: it holds the request, and so the key.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import email.utils
import json
from typing import Any, Literal

import httpx
import tenacity

from jaxrec._checks import shown
from jaxrec.conversational.chat.endpoint import without
from jaxrec.conversational.chat.protocol import ChatReply

LISTING = 10.0  # seconds at most for the list of models, without which one can do
BUSY = frozenset({408, 409, 425, 429})  # statuses below 500 that a second attempt may not meet


Kind = Literal["busy", "broken", "silent", "key", "wrong", "request"]


class Failure(Exception):
    """What went wrong with a request.

    Attributes:
      sentence: for the user.
      kind: "busy", "broken" (the connection) or "silent" (there is none) if another attempt may do better; "key" if
        the key is refused, "wrong" if the endpoint or the model is, so that no request can do better; "request" if it
        is this one alone.
      wait: seconds that the endpoint asks to wait before another attempt, if it does.
    """

    def __init__(self, sentence: str, kind: Kind, wait: float | None = None):
        super().__init__(sentence)
        self.sentence, self.kind, self.wait = sentence, kind, wait

    @property
    def again(self) -> bool:
        """Whether another attempt may do better."""
        return self.kind in ("busy", "broken", "silent")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an exchange may take; see `HttpChat`."""

    timeout: float
    attempts: int
    first_wait: float
    longest_wait: float
    largest_reply: int


@dataclasses.dataclass(frozen=True)
class Exchange:
    """The way to one endpoint.

    Attributes:
      client: the connections.
      url: the address of the endpoint.
      limits: see there.
      key: what the client sends as key, to keep it out of all that is shown; never shown itself.
    """

    client: httpx.AsyncClient
    url: str
    limits: Limits
    key: str | None = dataclasses.field(default=None, repr=False)

    async def reply(self, body: dict[str, Any]) -> ChatReply:
        """The reply to the body of a chat request, after as many attempts as it takes.

        Raises:
          Failure: the last attempt's.
        """
        limits = self.limits
        doubling = tenacity.wait_exponential(multiplier=limits.first_wait, max=limits.longest_wait)
        backoff = doubling + tenacity.wait_random(0, limits.first_wait)

        def wait(state: tenacity.RetryCallState) -> float:
            failure = state.outcome.exception() if state.outcome else None
            asked = failure.wait if isinstance(failure, Failure) else None
            return min(backoff(state), limits.longest_wait) if asked is None else asked

        attempts = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(limits.attempts),
            wait=wait,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Failure) and error.again),
            reraise=True,
        )
        return await attempts(self._attempt, body)

    async def models(self) -> list[str] | None:
        """The names of the models that the endpoint lists, None if it has no list that can be read.

        Raises:
          Failure: it cannot be reached, or refuses the key.
        """
        try:
            answer = await self._json("GET", "/models", None, min(self.limits.timeout, LISTING))
            return [without(self.key, str(each["id"])) for each in answer["data"]]
        except (LookupError, TypeError):
            return None
        except Failure as failure:
            if failure.kind in ("silent", "key"):
                raise
            return None

    async def _attempt(self, body: dict[str, Any]) -> ChatReply:
        return self._read(await self._json("POST", "/chat/completions", body, self.limits.timeout))

    async def _json(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> Any:
        """What the endpoint answers with status 200 within so many seconds, as JSON."""
        status, headers, content = await self._received(method, path, body, timeout)
        if status != 200:
            raise self._refusal(status, headers, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            pass
        if content.lstrip()[:1] == b"<":
            raise Failure(f"{self.url} answers with a web page; it is no OpenAI-compatible endpoint.", "wrong")
        raise Failure(f"{self.url} answered with damaged JSON ({len(content)} bytes).", "busy")

    async def _received(self, method: str, path: str, body: Any, timeout: float) -> tuple[int, httpx.Headers, bytes]:
        content = None if body is None else json.dumps(body).encode()
        kept = bytearray()
        try:
            async with asyncio.timeout(timeout):
                async with self.client.stream(method, self.url + path, content=content) as response:
                    async for piece in response.aiter_bytes():
                        kept += piece
                        if len(kept) > self.limits.largest_reply:
                            break
            if len(kept) <= self.limits.largest_reply:
                return response.status_code, response.headers, bytes(kept)
            failure = Failure(f"{self.url} answered with more than {self.limits.largest_reply:,} bytes.", "request")
        except (TimeoutError, httpx.TimeoutException):
            failure = Failure(f"{self.url} did not answer within {timeout:g} seconds.", "busy")
        except httpx.ConnectError as error:
            why = without(self.key, str(error)) or "no connection"
            failure = Failure(f"there is no endpoint at {self.url}: {why}.", "silent")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            kind = "broken" if isinstance(error, httpx.HTTPError | OSError) else "request"
            failure = Failure(f"the connection to {self.url} broke ({type(error).__name__}).", kind)
        raise failure  # here, where no exception of the library is being handled

    def _refusal(self, status: int, headers: httpx.Headers, content: bytes) -> Failure:
        """What a status other than 200 means."""
        said, at = self._said(content), f"{self.url} answered with status {status}"
        if status in (401, 403):
            why = "does not accept the key" if self.key else "wants a key, so name its environment variable by key_from"
            return Failure(f"{self.url} {why} (status {status}).", "key")
        if status in BUSY or status >= 500:
            wait = _seconds(headers.get("retry-after"))
            if wait is not None and wait > self.limits.longest_wait:
                return Failure(f"{at} and asks to wait {wait:.0f} seconds, more than longest_wait.", "request")
            return Failure(f"{at}{said}.", "request" if "insufficient_quota" in said else "busy", wait)
        if status == 404:
            hint = "" if self.url.endswith("/v1") else "; most addresses end in /v1"
            return Failure(f"{self.url} has no such model, or no /chat/completions (status 404{said}){hint}.", "wrong")
        if 300 <= status < 400 or status == 405:
            return Failure(f"{at}; it is no OpenAI-compatible endpoint, or another address is right.", "wrong")
        return Failure(f"{at}{said}.", "request")

    def _read(self, answer: Any) -> ChatReply:
        """The reply in an answer."""
        if isinstance(answer, dict) and answer.get("error") and not answer.get("choices"):
            raise Failure(f"{self.url} answered with an error{self._said(json.dumps(answer).encode())}.", "request")
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"]
            finish = choice.get("finish_reason")
        except (LookupError, TypeError, AttributeError):
            text = finish = choice = None
        if choice is None or not isinstance(text, str | None):
            raise Failure(f"{self.url} answered in no known form; it is no OpenAI-compatible endpoint.", "wrong")
        usage = answer.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return ChatReply(
            text=without(self.key, text or ""),
            finish_reason=without(self.key, finish if isinstance(finish, str) else ""),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            model=without(self.key, str(answer.get("model") or "")),
        )

    def _said(self, content: bytes) -> str:
        """What an endpoint says of an error, in parentheses' place; empty if it says nothing that can be read."""
        try:
            answer = json.loads(content)
            told = answer.get("error", answer)
            told = told.get("message") or told.get("code") or "" if isinstance(told, dict) else told
            code = answer["error"].get("code") if isinstance(answer.get("error"), dict) else None
        except (ValueError, AttributeError, RecursionError):
            return ""
        parts = [without(self.key, str(each)) for each in (told, code) if each]
        return f": {shown('; '.join(dict.fromkeys(parts)))}" if parts else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def _seconds(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which is a number or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header)) if float(header) < float("inf") else None
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(header)
        now = datetime.datetime.now(datetime.UTC)
        return max(0.0, (until.replace(tzinfo=until.tzinfo or datetime.UTC) - now).total_seconds())
    except (ValueError, OverflowError):
        return None
