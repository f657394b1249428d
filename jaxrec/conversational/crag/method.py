"""CRAG: a language model recommends with what collaborative filtering knows (Zhu et al. 2025, arXiv 2502.14137)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.chat.protocol import ChatModel, chat_model
from jaxrec.conversational.crag import linking, recommending
from jaxrec.conversational.crag.asking import Asking, Wording
from jaxrec.conversational.crag.linking import Source
from jaxrec.conversational.crag.recommended import Recommended
from jaxrec.conversational.dialogue import Sample, given_samples
from jaxrec.conversational.prompts import Usage

# The paper's ablations: without both reflections, without ranking anew, all of it, and nothing retrieved.
ABLATIONS: dict[str, dict[str, Any]] = {
    "zero-shot": {"k": 0, "reflect": False, "rerank": False},
    "nR12": {"reflect": False, "rerank": False},
    "nR2": {"reflect": True, "rerank": False},
    "full": {"reflect": True, "rerank": True},
}


@dataclasses.dataclass(frozen=True)
class Crag:
    """The steps: link, judge links, retrieve, reflect, recommend, rank anew.

    Each step that cannot be done has its way round, which the trace notes. An answer that could not be had is a way
    round and an error; nothing is dropped without a word.

    Attributes:
      k: how many items are retrieved at most; the paper tries 0 to 35. At 0 the model recommends by itself.
      usage: "rag" lets the model use what was retrieved as it sees fit, which the paper does with GPT-4o; "rec" has it
        take them for candidates, which GPT-4 needs.
      count: how many titles are asked for.
      source: who finds the names in the context: "chat" asks the model; "text" looks them up in the words; "data" takes
        what the data say.
      judge: whether the model is asked for names on which the matchers of the catalogue disagree; else the catalogue's
        own rule decides.
      reflect: whether the model is asked which retrieved items suit the conversation; only these are used.
      rerank: whether the model scores what it recommended, and that decides the order.
      least: what the seeker must think of an item for it to count: 0, as in the released code, takes in what nothing is
        said of; 1 is what the text of the paper says.
      guesses: how many titles the model is asked to guess where the conversation names none; 0 does not ask.
      drop_forgotten: whether a recommended title to which the model gives no score disappears, as in the released code;
        else it goes behind the others, in the model's order.
      domain: what is recommended, in the plural, as prompts say it.
      max_tokens: the longest reply.
      wording: the prompts.
    """

    k: int = 20
    usage: Usage = "rag"
    count: int = 20
    source: Source = "chat"
    judge: bool = True
    reflect: bool = True
    rerank: bool = True
    least: int = 0
    guesses: int = 5
    drop_forgotten: bool = False
    domain: str = "movies"
    max_tokens: int = 1024
    wording: Wording = dataclasses.field(default=Wording(), repr=False)  # frozen; pages of text

    def __post_init__(self):
        _checks.plain_numbers(self)
        for name, least in (("k", 0), ("count", 1), ("guesses", 0), ("max_tokens", 1)):
            _checks.count(name, getattr(self, name), at_least=least)
        _checks.between("least", self.least, "[]", -2, 2)
        _checks.one_of("usage", self.usage, ("rag", "rec"))
        _checks.one_of("source", self.source, ("chat", "text", "data"))

    @classmethod
    def ablation(cls, name: str, **settings: Any) -> Crag:
        """The method as an ablation of the paper has it: "zero-shot" (K = 0), "nR12", "nR2" or "full"."""
        _checks.one_of("ablation", name, tuple(ABLATIONS))
        return cls(**{**settings, **ABLATIONS[name]})

    def run(
        self,
        samples: Iterable[Sample],
        chat: ChatModel,
        catalogue: Catalogue,
        item_weights: Any,
        *,
        among: Any = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> Recommended:
        """What is recommended for each sample, with the way to it.

        Args:
          samples: B samples, with keys that tell them apart.
          chat: any chat model; it gets all requests of a step at once.
          catalogue: I titles.
          item_weights: what `retrieve` takes, of the same I items: an `Ease` fit, its weights, or any fitted model.
          among: items that may be retrieved, the paper's catalogue Q; default all I.
          say: told which step comes next.

        Raises:
          InputError: no samples, whole dialogues in their place, two samples of one key, or a catalogue of other items
            than the weights.

        Cost: at most six requests a sample. Memory: the traces, and what `retrieve` says.
        """
        samples = list(given_samples("samples", samples))
        chat = chat_model("chat", chat)
        catalogue = Catalogue.of(catalogue)
        _check(samples, catalogue, item_weights, self.k)
        asking = Asking(chat, catalogue, self.wording, self.domain, self.max_tokens)
        say(f"{len(samples):,} samples: names")
        traces = linking.extracted(asking, samples, linking.begun(samples, catalogue), self.source)
        if self.judge:
            traces = linking.judged(asking, samples, traces)
        if self.k:
            if self.guesses:
                traces = linking.guessed(asking, samples, traces, self.least, self.guesses)
            say("retrieval")
            traces = recommending.retrieved(traces, item_weights, catalogue, self.k, self.least, among)
            if self.reflect:
                traces = recommending.reflected(asking, samples, traces)
        say("recommendations")
        traces = recommending.recommended(asking, samples, traces, self.usage, self.count)
        if self.rerank:
            say("ranks")
            traces = recommending.reranked(asking, samples, traces, drop_forgotten=self.drop_forgotten)
        return Recommended(chat.name, tuple(samples), tuple(traces), catalogue)


def _check(samples: Sequence[Sample], catalogue: Catalogue, item_weights: Any, k: int) -> None:
    if not samples:
        raise InputError("there are no samples to recommend for.")
    keys = [sample.key for sample in samples]
    if len(set(keys)) < len(keys):
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise InputError(f"samples must have keys that tell them apart, got {_checks.shown(twice)} more than once.")
    model = getattr(item_weights, "model", item_weights)
    n_items = getattr(model, "n_items", None) or (getattr(model, "shape", None) or (None,))[-1]
    if k and n_items is not None and n_items != len(catalogue):
        raise InputError(
            f"the catalogue has {len(catalogue)} titles and item_weights are of {n_items} items; make the catalogue of "
            "the data that the weights were fitted on."
        )
    _check_ids(catalogue.items.ids, getattr(getattr(getattr(item_weights, "info", None), "items", None), "ids", None))


def _check_ids(ids: Any, fitted: Any) -> None:
    """Refuses weights of items in another order, where both the catalogue and the data of the fit have ids."""
    if ids is None or fitted is None:
        return
    for item, (name, wanted) in enumerate(zip(ids.tolist(), fitted.tolist(), strict=True)):
        if str(name) != str(wanted):
            raise InputError(
                f"item {item} has the id {_checks.shown(name)} in the catalogue, and {_checks.shown(wanted)} in the "
                "data that item_weights were fitted on; make the catalogue of these data."
            )
