"""Ctrl-C on the command line: one line and exit code 130, at any time and within two seconds.

Python raises KeyboardInterrupt only between its own steps, and inside of a callback it is lost. Thus a thread listens
to what the operating system says of a signal, and ends the process where the exception has not done so in time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

GRACE = 1.5  # seconds for the exception to clean up
CODE = 130
_main_thread = threading.main_thread


def is_command_line() -> bool:
    """Whether this process is `jaxrec ...` or `python -m jaxrec ...`."""
    words = sys.orig_argv[1:]
    module = any(pair == ("-m", "jaxrec") for pair in itertools.pairwise(words))
    return module or os.path.basename(sys.argv[0] if sys.argv else "") in ("jaxrec", "jaxrec.exe")


def end() -> NoReturn:
    """Ends the process as interrupted, at once: threads that still compute make the usual end crash."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(CODE)


def end_while_importing() -> None:
    """Makes Ctrl-C end this process, if it is the command line, until `within_grace` takes over: nothing is begun."""
    if is_command_line() and threading.current_thread() is _main_thread():
        signal.signal(signal.SIGINT, lambda *_: end())


@contextlib.contextmanager
def within_grace() -> Iterator[None]:
    """A context in which Ctrl-C raises KeyboardInterrupt, and ends the process if that is not over within `GRACE`."""
    if not (is_command_line() and threading.current_thread() is _main_thread()):
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    over = threading.Event()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def listen() -> Any:
        while (heard := os.read(read, 1)) and heard[0] != signal.SIGINT:
            pass
        if heard and not over.wait(GRACE):
            end()

    threading.Thread(target=listen, name="interrupts", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(-1)
        os.close(write)
        signal.signal(signal.SIGINT, previous)
