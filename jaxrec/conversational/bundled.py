"""Conversations that ship with the library, or of a file."""

from __future__ import annotations

import os
from importlib import resources

from jaxrec import _checks
from jaxrec._checks.doors import door
from jaxrec.conversational.dialogue import Dialogue
from jaxrec.conversational.readers import load_dialogues

BUNDLED = ("redial",)


@door
def load(data: str | os.PathLike) -> list[Dialogue]:
    """The conversations of a bundled data set, or of a file.

    "redial" has the 1,342 test conversations of ReDial (Li et al., NeurIPS 2018; CC BY 4.0). Their titles are those of
    `jaxrec.load("redial")`, which says who talked of what in these (`user_split` 1) and in others (0), to learn from.
    What the seeker thinks of a film is known from a form that was filled in after the conversation: a recommender does
    not know it during the conversation.

    Args:
      data: the name of a bundled set, or a path; see `jaxrec.conversational.readers.load_dialogues`.

    Raises:
      InputError: there is neither such a set nor such a file, or as for `load_dialogues`.
    """
    if not isinstance(data, str) or os.path.exists(data) or os.sep in data or "." in data:
        return load_dialogues(data)
    _checks.one_of("data, if it is no file,", data, BUNDLED)
    folder = resources.files("jaxrec.data") / "bundled"
    with resources.as_file(folder / f"{data}.dialogues.jsonl.gz") as path:
        return load_dialogues(path)
