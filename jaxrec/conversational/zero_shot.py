"""Language models as recommenders as they are, asked for a list and judged by it (He et al. 2023, arXiv 2308.10053)."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from jaxrec import _checks
from jaxrec._checks import InputError, shown
from jaxrec._checks.doors import door
from jaxrec.conversational import prompts, protocols, replies
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat import streams
from jaxrec.conversational.chat.protocol import ChatModel, ChatReply, ChatRequest
from jaxrec.conversational.dialogue import Sample
from jaxrec.conversational.prompts import Prompt
from jaxrec.conversational.protocols import Scores
from jaxrec.conversational.recorded import score_replies
from jaxrec.conversational.replies import Ranked, Rules
from jaxrec.runtime.progress import progress_bar

__all__ = ["Replies", "requests", "run", "score_replies"]


@dataclasses.dataclass(frozen=True, repr=False)
class Replies:
    """What a model replied to N samples, and all that figures need: each is computed without asking again.

    Attributes:
      model: what it is called.
      samples: the N samples.
      replies: one for each; a failed one has an error.
      catalogue: the items.
      rules: how titles are read and found, as in `replies.rank`.
      in_vocabulary: whether titles that are none of the catalogue are left out, as there.
    """

    model: str
    samples: tuple[Sample, ...]
    replies: tuple[ChatReply, ...]
    catalogue: Catalogue
    rules: Rules = "strict"
    in_vocabulary: bool = True

    def __repr__(self) -> str:
        return f"Replies of {self.model} to {len(self.samples):,} samples, {int(self.failed.sum()):,} failed"

    @functools.cached_property
    def ranked(self) -> Ranked:
        """The titles and items of each reply, best first, and what became of the titles."""
        texts = [reply.text for reply in self.replies]
        return replies.rank(texts, self.catalogue, self.rules, in_vocabulary=self.in_vocabulary)

    @functools.cached_property
    def targets(self) -> list[np.ndarray]:
        """The items that each sample wants; a title that is none of the catalogue has a number below -1 of its own."""
        return self._numbers(sample.targets for sample in self.samples)

    @functools.cached_property
    def seen(self) -> list[np.ndarray]:
        """The items that each sample's context names, numbered alike."""
        return self._numbers(sample.seen for sample in self.samples)

    @functools.cached_property
    def ranks(self) -> list[np.ndarray]:
        """For each sample the rank, from 1, at which its reply names each target; 0 where it does not."""
        found = []
        for items, wanted in zip(self.ranked.items, self.targets, strict=True):
            at = {item: place for place, item in reversed(list(enumerate(items.tolist(), 1)))}
            found.append(np.array([at.get(item, 0) if item >= 0 else 0 for item in wanted.tolist()], np.int32))
        return found

    @property
    def is_new(self) -> list[np.ndarray]:
        """For each sample whether each target is one that its context has not named."""
        return [~np.isin(wanted, old) for wanted, old in zip(self.targets, self.seen, strict=True)]

    @property
    def failed(self) -> np.ndarray:
        """[N] bool: whether the request failed."""
        return np.array([reply.error is not None for reply in self.replies], bool)

    @property
    def errors(self) -> dict[str, int]:
        """How often each error came, the commonest first."""
        return dict(collections.Counter(reply.error for reply in self.replies if reply.error).most_common())

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures should know of the replies, a sentence each."""
        unknown = sum(int((wanted < 0).sum()) for wanted in self.targets)
        counted = {
            "requests failed": int(self.failed.sum()),
            "replies were cut off at their longest": sum(each.finish_reason == "length" for each in self.replies),
            "replies have no titles": self.ranked.n_empty - int(self.failed.sum()),
            f"of {self.ranked.n_titles:,} titles are none of the catalogue": self.ranked.n_unknown,
            "titles name an item that their reply has named before": self.ranked.n_repeated,
            "targets are none of the catalogue, and so missed": unknown,
        }
        return [f"{count:,} {what}" for what, count in counted.items() if count]

    def read_by(self, rules: Rules, *, in_vocabulary: bool = True) -> Replies:
        """The same replies read by other rules."""
        return dataclasses.replace(self, rules=rules, in_vocabulary=in_vocabulary)

    def scores(
        self,
        protocol: Literal["per_target", "per_sample"] = "per_target",
        metrics: Any = protocols.DEFAULT,
        *,
        exclude_seen: bool = True,
        failed_as: protocols.Failed = "miss",
    ) -> Scores:
        """The figures: under each condition a mean with its standard error, and the core's `Report`.

        Args:
          protocol: "per_target", as He et al. have it, or "per_sample", as CRAG and Rank-GRPO have it.
          metrics: names with cut-offs.
          exclude_seen: take what the context names out of the rankings.
          failed_as: whether a failed request is a "miss" or to "leave out".
        """
        _checks.one_of("protocol", protocol, tuple(protocols.PROTOCOLS))
        return protocols.PROTOCOLS[protocol](
            self.ranked.items,
            self.targets,
            self.seen,
            metrics,
            exclude_seen=exclude_seen,
            failed=self.failed,
            failed_as=failed_as,
            label=self.model,
        )

    def _numbers(self, titles: Iterable[Sequence[str]]) -> list[np.ndarray]:
        lists = [list(each) for each in titles]
        flat = [title for each in lists for title in each]
        items = self.catalogue.number(flat, unknown="-1").astype(np.int64) if flat else np.empty(0, np.int64)
        places = self._strangers
        numbers = [places[title] if item < 0 else item for title, item in zip(flat, items.tolist(), strict=True)]
        return np.split(np.array(numbers, np.int64), np.cumsum([len(each) for each in lists])[:-1])

    @functools.cached_property
    def _strangers(self) -> dict[str, int]:
        """A number below -1 for each title of the samples, for those that are none of the catalogue."""
        titles = (title for sample in self.samples for title in (*sample.targets, *sample.seen))
        return {title: -2 - place for place, title in enumerate(dict.fromkeys(titles))}


@door
def requests(
    samples: Iterable[Sample],
    prompt: Prompt = prompts.RECOMMEND,
    *,
    domain: str = "movies",
    count: int = 20,
    max_tokens: int = 512,
    temperature: float = 0.0,
    seed: int | None = None,
) -> list[ChatRequest]:
    """The requests for samples, one each: what `run` asks, for `budget.plan` to look at before.

    Args:
      samples: N samples.
      prompt: what is asked, with the fields conversation, and perhaps domain and count.
      domain: what is recommended, in the plural.
      count: how many titles are asked for.
      max_tokens: the longest reply.
      temperature: 0 for the likeliest.
      seed: for models that sample.
    """
    _checks.count("count", count, at_least=1)
    _checks.count("max_tokens", max_tokens, at_least=1)
    _checks.nonnegative("temperature", temperature)
    settings = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "domain": domain, "count": count}
    return [
        prompt.request(sample.key, conversation=prompts.conversation(sample.context), **settings) for sample in samples
    ]


@door
def run(
    samples: Iterable[Sample],
    chat: ChatModel,
    catalogue: Any,
    prompt: Prompt = prompts.RECOMMEND,
    *,
    rules: Rules = "strict",
    in_vocabulary: bool = True,
    **settings: Any,
) -> Replies:
    """What a chat model recommends to N samples.

    A failed request is a reply with an error; no sample is dropped. Put the model into a `RecordingChat` for a run that
    goes on after a kill, and whose replies can be read again without a model.

    Args:
      samples: with keys that tell them apart, and each with targets.
      chat: any chat model; it gets all requests at once.
      catalogue: the items, or what `Catalogue.of` makes one of.
      prompt: what is asked.
      rules: how titles are read and found, as in `replies.rank`.
      in_vocabulary: whether titles that are none of the catalogue are left out, as there.
      **settings: of `requests`.

    Raises:
      InputError: no samples, whole dialogues in their place, a sample without targets, two of one key, no target that
        the catalogue knows; or the model's.

    Cost: a request a sample. Memory: all requests and replies.
    """
    asked, catalogue = tuple(samples), Catalogue.of(catalogue)
    _checks.one_of("rules", rules, tuple(replies.RULES))
    _check(asked, catalogue)
    questions = requests(asked, prompt, **settings)
    placed = []
    with (
        progress_bar(f"Asking {chat.name}", len(questions)) as advance,
        contextlib.closing(streams.stream(chat, questions)) as coming,
    ):
        for each in coming:
            placed.append(each)
            advance(1)
    return Replies(chat.name, asked, tuple(streams.in_order(placed)), catalogue, rules, in_vocabulary)


def _check(samples: Sequence[Sample], catalogue: Catalogue) -> None:
    if not samples:
        raise InputError("there are no samples to ask about.")
    bare = [sample.key for sample in samples if not sample.targets]
    if bare:
        raise InputError(f"{len(bare)} samples have no targets, such as {shown(bare[0])}; leave them out.")
    keys = collections.Counter(sample.key for sample in samples)
    (key, times), *_ = keys.most_common(1)
    if times > 1:
        raise InputError(f"samples must have keys that tell them apart, got {shown(key)} {times} times.")
    titles = list(dict.fromkeys(title for sample in samples for title in sample.targets))
    if (catalogue.number(titles, unknown="-1") < 0).all():
        raise InputError(
            f"none of the {len(titles):,} titles that the samples want is in the catalogue of {len(catalogue):,}, such "
            f"as {shown(titles[0])}; give the catalogue of these data."
        )
