"""The command line: `python -m jaxrec COMMAND`, or `jaxrec COMMAND`.

Exit codes: 0 good, 1 failed (one sentence on standard error; `JAXREC_DEBUG=1` shows the traceback), 2 a command that
cannot be understood, 130 interrupted.
"""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Sequence

import jax
import tyro
from rich.console import Console

from jaxrec._checks import InputError
from jaxrec.cli.commands import Command, UsageError
from jaxrec.runtime import interrupts
from jaxrec.status import FitError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of one command, given as its words; default the words of the process."""
    # Titles are shown as they are, whatever brackets and colons they hold.
    out = Console(markup=False, emoji=False, highlight=False)
    err = Console(markup=False, emoji=False, highlight=False, stderr=True, soft_wrap=True)
    try:
        with interrupts.within_grace(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *where, **options: err.print(f"note: {message}")
            command = tyro.cli(
                Command,  # pyright: ignore[reportArgumentType]
                args=argv,
                prog="jaxrec",
                description="Exact solvers for recommender-system research.",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            )
            command(out)
        return 0
    except SystemExit as end:  # tyro's, after --help or a word it does not know
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        if argv is None and interrupts.is_command_line():
            interrupts.end()
        err.print("interrupted")
        return interrupts.CODE
    except (InputError, FitError, MemoryError, OSError, UsageError, jax.errors.JaxRuntimeError) as error:
        if os.environ.get("JAXREC_DEBUG"):
            traceback.print_exc()
        else:
            err.print(f"jaxrec: {_sentence(error)}")
        return 2 if isinstance(error, UsageError) else 1


def _sentence(error: Exception) -> str:
    """What to tell the user, on one line."""
    text = str(error).strip().partition("\n")[0]  # XLA adds pages of its own
    if isinstance(error, MemoryError):
        return f"out of memory{text and f' ({text})'}; `jaxrec plan` tells what a method needs."
    if isinstance(error, OSError) and error.strerror:
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}."
    return text or type(error).__name__
