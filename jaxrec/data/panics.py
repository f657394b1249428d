"""Panics of Polars: what Rust writes to the terminal, past Python, when a damaged file makes it give up."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import polars as pl

RUST_PANIC = re.compile(rb"^\n?thread .* panicked at ", re.MULTILINE)
PANIC_SECONDS = 0.1  # in which the other threads of Polars panic as well
_one_reader = threading.RLock()


@contextlib.contextmanager
def without_panics() -> Iterator[None]:
    """Keeps from standard error what Rust writes there, past Python, when a damaged file makes Polars panic.

    Whatever else is written there meanwhile, by any thread, comes out at the end.
    """
    with _one_reader, contextlib.ExitStack() as stack:
        before = _standard_error()
        if before is None:
            yield
            return
        stack.callback(os.close, before)
        caught = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        os.dup2(caught.fileno(), 2)
        try:
            yield
        except pl.exceptions.PanicException:
            time.sleep(PANIC_SECONDS)
            raise
        finally:
            os.dup2(before, 2)
            caught.seek(0)
            written = caught.read()
            panic = RUST_PANIC.search(written)
            with contextlib.suppress(OSError):
                os.write(2, written[: panic.start()] if panic else written)


def _standard_error() -> int | None:
    """A second descriptor of standard error; None if it is closed, and number 2 may be any file opened since."""
    try:
        os.write(2, b"")  # refused by what is open for reading only
        if sys.__stderr__ is None or stat.S_IFMT(os.fstat(2).st_mode) not in (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFREG):
            return None
        return os.dup(2)
    except OSError:
        return None
