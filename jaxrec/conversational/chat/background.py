"""Work with many connections beside the caller, who is given each result as it comes, and may stop at any time."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from jaxrec._checks import InputError

_DONE = object()


def results(work: Callable[[Callable[[Any], None]], Coroutine[Any, Any, None]]) -> Iterator[Any]:
    """What a coroutine puts forth, as it comes.

    The coroutine runs in a thread with an event loop of its own, so that it works within another loop too, such as a
    notebook's; no process is forked. Who leaves the iterator early, by Ctrl-C too, cancels the coroutine.

    Args:
      work: from a function that takes a result to the coroutine.

    Raises:
      InputError: the coroutine's; it comes without the frames of the thread, which may hold a key.
    """
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    begun = threading.Event()
    running: list[Any] = []

    async def followed() -> None:
        running.extend((asyncio.get_running_loop(), asyncio.current_task()))
        begun.set()
        await work(found.put)

    def run() -> None:
        end: Any = None
        try:
            asyncio.run(followed())
        except asyncio.CancelledError:
            pass
        except InputError as error:
            end = InputError(str(error))
        except BaseException as error:
            end = error
        begun.set()
        found.put((_DONE, end))

    thread = threading.Thread(target=run, name="jaxrec-chat", daemon=True)
    thread.start()
    try:
        while True:
            result = _next(found)
            if isinstance(result, tuple) and result[0] is _DONE:
                if result[1] is not None:
                    raise result[1]
                return
            yield result
    finally:
        begun.wait()
        with contextlib.suppress(RuntimeError, ValueError):  # the loop is over by itself
            loop, task = running
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _next(found: queue.SimpleQueue[Any]) -> Any:
    """What a queue gives next. After a query of Polars Ctrl-C ends no wait without a limit, but one with a limit."""
    while True:
        with contextlib.suppress(queue.Empty):
            return found.get(timeout=60.0)
