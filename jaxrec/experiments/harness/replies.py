"""Folders of recorded replies as what an experiment is run on, and a drawn one where there is none.

The room of conversations is imported when replies are read: the list of experiments does without its packages.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxrec.conversational.recorded import Layout, Run


@dataclasses.dataclass(frozen=True)
class Replies:
    """Recorded replies below the folder of data, whichever models and probes are there.

    Attributes:
      name: what they are called.
      files: the folder of replies, below that of the data; the first that exists is taken. None: they are drawn.
    """

    name: str
    files: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured on them."""
        return ("recall@1", "recall@5", "recall@10", "recall@20")

    def find(self, folder: Path) -> Path | str | None:
        """The folder of replies, or the name of drawn ones; None if there is none."""
        if not self.files:
            return self.name
        return next((path for file in self.files if (path := folder / file).is_dir()), None)

    def prepare(self, folder: Path) -> PreparedReplies:
        """The replies; they must be there."""
        return PreparedReplies(self, folder if self.files else None)

    def described(self) -> str:
        """How they are prepared, in words."""
        return "every run that is there" if self.files else "drawn; their figures mean nothing"


RECORDED = Replies("recorded_replies", ("conversational/replies", "replies"))
DRAWN = Replies("drawn_replies")


@dataclasses.dataclass(frozen=True)
class PreparedReplies:
    """Recorded replies ready for an experiment.

    Attributes:
      source: what they are called, and where they may be.
      folder: where they are; None if they are drawn.
    """

    source: Replies
    folder: Path | None

    @cached_property
    def runs(self) -> dict[str, str]:
        """By name of each run, SHA-256 of its file, in hexadecimal."""
        if self.folder is None:
            return dict.fromkeys(("model.general", "model.p2"), "drawn")
        where = _layout(self.folder)
        return {name: _digest(where.replies(name)) for name in where.runs}

    @property
    def fingerprint(self) -> str:
        """What all runs have in common: SHA-256 of the test sets and the names of their entities."""
        if self.folder is None:
            return "drawn"
        where = _layout(self.folder)
        files = [path for name in where.sets for path in (where.test_set(name), where.entities(name))]
        return hashlib.sha256("".join(_digest(path) for path in files if path.is_file()).encode()).hexdigest()

    def load(self, name: str) -> Run:
        """A run with its samples."""
        from jaxrec.conversational.recorded import load_run

        return drawn_run(name) if self.folder is None else load_run(self.folder, name)

    def summary(self) -> dict[str, Any]:
        """What is told of the data."""
        return {"name": self.source.name, "runs": self.runs, "said": self.said}

    @property
    def said(self) -> str:
        """The runs, in a line."""
        return f"{len(self.runs)} runs: {', '.join(self.runs)}"


def _layout(folder: Path) -> Layout:
    from jaxrec.conversational.recorded import layout

    return layout(folder)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def drawn_run(name: str, n_samples: int = 40, n_films: int = 60) -> Run:
    """Replies in which a target stands more often than chance has it, some with slips, to show that all works."""
    from jaxrec.conversational.dialogue import Sample, Turn
    from jaxrec.conversational.recorded import Run

    rng = np.random.default_rng(len(name))
    syllables = ("ba", "de", "fo", "gu", "ki", "lo", "mi", "nu", "po", "ra", "se", "ti")
    films = sorted({"".join(rng.choice(syllables, 3)).title() for _ in range(n_films)})
    samples, texts = [], []
    for number in range(n_samples):
        target, old, *others = rng.permutation(films)[:8]
        listed = [str(film) for film in ([target, *others] if rng.random() < 0.5 else others)]
        if rng.random() < 0.3:
            listed[0] = listed[0][:-1] + "x"
        texts.append("\n".join(f"{place}. {film}" for place, film in enumerate(rng.permutation(listed), start=1)))
        context = (Turn("seeker", f"I liked {old}."),)
        targets = (str(old if rng.random() < 0.2 else target),)
        samples.append(Sample(f"{number}:1", context, targets, (str(old),)))
    return Run(
        name=name,
        samples=samples,
        targets=[list(sample.targets) for sample in samples],
        seen=[list(sample.seen) for sample in samples],
        texts=texts,
        matches=None,
        failed=np.zeros(n_samples, bool),
        names=tuple(films),
        films=tuple(films),
    )
