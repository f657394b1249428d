"""The command `chat`: a conversation in the terminal, or with what a pipe says."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from rich.console import Console
from rich.text import Text
from tyro.conf import arg

from jaxrec._checks import InputError
from jaxrec.cli import show
from jaxrec.data import BUNDLED, Interactions, load
from jaxrec.linear import Ease
from jaxrec.runtime.files import write_text

ATTEMPTS = 2  # of a request: somebody waits for the answer
HELP = {
    "/why": "how the last answer came about: what was linked how, retrieved with which score, in which order",
    "/seen TITLE": "do not recommend this any more; /seen alone lists what is left out",
    "/save FILE": "write the conversation to a file, one message a line",
    "/help": "this",
    "/quit": "leave, as the end of the input does",
}


@dataclasses.dataclass(frozen=True)
class Chat:
    """Talk about films, and be recommended some: with a language model, or without.

    Attributes:
      data: who talks of what: a file or folder whose items have titles, or the name of a bundled data set.
      min_rating: keep only interactions with at least this rating.
      model: what the endpoint calls the language model; without one the answers are made of the data alone.
      base_url: the endpoint, one that speaks as OpenAI's does, up to /chat/completions.
      usage: rag lets the model use what was retrieved as it sees fit; rec has it choose from that.
      reg: L2 strength of EASE, in interactions per item.
      k: how many titles an answer has.
    """

    data: Annotated[str, arg(metavar="PATH|NAME")] = "redial"
    min_rating: Annotated[float | None, arg(metavar="NUMBER", help_behavior_hint="(default: 1 for redial)")] = None
    model: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: none)")] = None
    base_url: Annotated[str | None, arg(metavar="URL", help_behavior_hint="(default: OpenAI's)")] = None
    usage: Literal["rag", "rec"] = "rag"
    reg: float = 20.0
    k: Annotated[int, arg(aliases=("-k",))] = 5

    def __call__(self, out: Console) -> None:
        """Carries the command out."""
        if self.base_url is not None and self.model is None:
            raise InputError("--base-url needs --model NAME, as the endpoint calls the language model.")
        session = self._session(out)
        from jaxrec.conversational.session import GREETING

        out.print()
        _says(out, GREETING)
        for text in heard(out):
            command, _, rest = text.strip().partition(" ")
            if command == "/quit":
                break
            if command.startswith("/"):
                obey(out, session, command, rest.strip())
            elif text.strip():
                answer(out, session, text.strip())

    def _session(self, out: Console) -> Any:
        from jaxrec.conversational.catalogue import Catalogue
        from jaxrec.conversational.crag import Crag
        from jaxrec.conversational.session import Session

        train = self._train()
        catalogue = Catalogue.of(train, repeats="first")
        fitted = Ease(self.reg).fit(train)
        told = {"data": f"{train.name}: {show.size(train)}", "method": str(fitted.info.method)}
        show.lines(out, {**told, "model": self.model or "none: answers are made of the data alone"})
        crag = Crag(usage=self.usage, count=max(20, 4 * self.k))
        return Session(catalogue, fitted, train.item_counts, chat=self._chat(), crag=crag, k=self.k)

    def _train(self) -> Interactions:
        """What is learned from: of bundled data the training rows."""
        least = 1.0 if self.min_rating is None and self.data == "redial" else self.min_rating
        data = load(self.data, min_rating=least)
        if data.items.titles is None:
            raise InputError(
                f"{data.name}: the items have no titles to talk about; give data that have, such as redial, or a "
                "ratings.csv with a movies.csv (movieId, title) beside it."
            )
        if self.data in BUNDLED and data.user_split is not None:
            return data.rows(np.flatnonzero(data.user_split == 0))
        return data

    def _chat(self) -> Any:
        if self.model is None:
            return None
        from jaxrec.conversational.chat.http import OPENAI, HttpChat

        return HttpChat(self.model, OPENAI if self.base_url is None else self.base_url, attempts=ATTEMPTS)


def heard(out: Console) -> Iterator[str]:
    """What is typed, line by line, with a prompt; or what a pipe says. It ends with the input, or at Ctrl-D."""
    if not sys.stdin.isatty():
        reconfigure: Callable[..., None] | None = getattr(sys.stdin, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
        for line in sys.stdin:
            said = show.printable(line.rstrip("\n"))
            if said.strip():
                out.print(Text.assemble(("\nyou> ", "bold"), said), soft_wrap=True)
            yield said
        return
    while True:
        try:
            out.print()
            yield show.printable(input("you> "))
        except EOFError:
            out.print()
            return
        except UnicodeDecodeError:
            _says(out, "That was no text in UTF-8; say it again.")


def answer(out: Console, session: Any, text: str) -> None:
    """Prints the answer of a session to what was said."""
    if session.chat is not None and out.is_terminal:  # it takes seconds
        out.print(Text(f"asking {show.printable(session.chat.name)} ...", "dim"), soft_wrap=True)
    found = session.say(text)
    for error in found.trace.errors[:1]:
        out.print(Text(f"note: {show.printable(error)} /why says more."), soft_wrap=True)
    _says(out, found.text)
    for rank, (title, reason) in enumerate(zip(found.titles, found.reasons, strict=True), start=1):
        line = Text.assemble(f"{rank:>3}  ", (show.printable(title), "bold"))
        out.print(line.append(f"  {show.printable(reason)}" if reason else "", "dim"), soft_wrap=True)


def obey(out: Console, session: Any, command: str, rest: str) -> None:
    """Carries out a command of the conversation; what it cannot do is said, and the conversation goes on."""
    if command == "/why":
        for line in session.why() or ["Nothing was said yet."]:
            out.print(Text("  " + show.printable(line)), soft_wrap=True)
    elif command == "/seen":
        titles = session.has_seen(rest) if rest else [session.catalogue.titles[item] for item in sorted(session.seen)]
        nothing = "No title of the catalogue is in that." if rest else "Nothing is left out yet."
        for title in titles or [nothing]:
            out.print(Text("  " + show.printable(title)), soft_wrap=True)
    elif command == "/save" and rest:
        save(out, session, rest)
    else:
        if command != "/help":
            out.print(f"  {show.printable(command)} is no command, or lacks something:", soft_wrap=True)
        for name, what in HELP.items():
            out.print(f"  {name:<12} {what}", soft_wrap=True)


def save(out: Console, session: Any, path: str) -> None:
    """Writes the conversation to a file; one that is there is replaced only if this conversation wrote it."""
    name = show.printable(path)
    if os.path.isfile(path) and path not in session.saved:
        out.print(f"  not saved: there is a file {name} already; name another.", soft_wrap=True)
        return
    try:
        write_text(path, session.to_jsonl())
        session.saved.add(path)
        out.print(f"  saved to {name}", soft_wrap=True)
    except OSError as error:
        out.print(f"  not saved: {name}: {error.strerror or error}", soft_wrap=True)
    except InputError as error:
        out.print(f"  not saved: {show.printable(str(error))}", soft_wrap=True)


def _says(out: Console, text: str) -> None:
    out.print(Text.assemble(("jaxrec> ", "bold"), show.printable(text)), soft_wrap=True)
