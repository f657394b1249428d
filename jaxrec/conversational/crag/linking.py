"""The first stage of CRAG: what a conversation names, linked to the catalogue, judged where the matchers disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from jaxrec.conversational import prompts
from jaxrec.conversational.attitude import attitude
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.crag import trace as told
from jaxrec.conversational.crag.asking import Ask, Asking, readable
from jaxrec.conversational.crag.trace import Name, Trace
from jaxrec.conversational.dialogue import Sample
from jaxrec.conversational.links import Link
from jaxrec.conversational.replies import strict

Source = Literal["chat", "text", "data"]


def extracted(asking: Asking, samples: Sequence[Sample], traces: Sequence[Trace], source: Source) -> list[Trace]:
    """The traces with the names in each context.

    Args:
      asking: the chat model, the prompts and the catalogue.
      samples: B samples.
      traces: B traces, one for each.
      source: who finds the names: "chat" asks the model, and looks in the text where it does not answer; "text" looks
        in the text; "data" takes what the data say.
    """
    if source != "chat":
        find = of_data if source == "data" else of_text
        return [
            _with_names(trace, find(sample, asking.catalogue)) for sample, trace in zip(samples, traces, strict=True)
        ]
    prompt = asking.wording.extract
    asks: list[Ask | None] = [(prompt, {}) if sample.context else None for sample in samples]
    replies, counted = asking.ask(samples, traces, asks)
    for place, (sample, reply) in enumerate(zip(samples, replies, strict=True)):
        if reply is None:
            continue
        reading = prompt.parse(reply.text)
        if readable(reply, reading):
            links = asking.catalogue.match([title for title, _ in reading.rows])
            names = [_name(link, opinion) for link, (_, opinion) in zip(links, reading.rows, strict=True)]
            counted[place] = _with_names(counted[place], names)
        else:
            names = of_text(sample, asking.catalogue)
            counted[place] = _with_names(counted[place], names).noted(told.NO_EXTRACTION)
    return counted


def of_text(sample: Sample, catalogue: Catalogue) -> list[Name]:
    """What the catalogue finds in the words, with an attitude that the words around it tell."""
    return [
        _name(link, attitude(turn.text, link.start, link.stop) if turn.speaker == "seeker" else 0)
        for turn in sample.context
        for link in catalogue.link(turn.text)
        if link.item >= 0
    ]


def of_data(sample: Sample, catalogue: Catalogue) -> list[Name]:
    """What the data say that the context names."""
    mentions = [each for turn in sample.context for each in turn.mentions]
    items = catalogue.number([each.item for each in mentions], unknown="-1")
    links = [
        Link(each.item, int(item), catalogue.titles[item] if item >= 0 else "", "exact" if item >= 0 else "none", 0)
        for each, item in zip(mentions, items, strict=True)
    ]
    return [_name(link, each.attitude) for link, each in zip(links, mentions, strict=True)]


def judged(asking: Asking, samples: Sequence[Sample], traces: Sequence[Trace]) -> list[Trace]:
    """The traces after the model has said what is meant by the names on which the matchers disagree."""
    prompt = asking.wording.link
    doubtful = [[name for name in trace.names if not name.link.agreed] for trace in traces]
    asks: list[Ask | None] = [
        (prompt, {"candidates": _candidates(names, asking.catalogue)}) if names else None for names in doubtful
    ]
    replies, counted = asking.ask(samples, traces, asks)
    for place, reply in enumerate(replies):
        if reply is None:
            continue
        rows = prompt.parse(reply.text).rows if reply.error is None else ()
        said = {_plain(text): (title, method) for text, title, method in rows}
        names, notes = [], []
        for name in counted[place].names:
            answer = said.get(_plain(name.text))
            if not name.link.agreed and answer is None:
                notes.append(told.NO_LINK_ANSWER)
            elif not name.link.agreed and answer is not None:
                name = _corrected(name, *answer, asking.catalogue)
                if name.item < 0 and answer[0] is not None:
                    notes.append(told.UNKNOWN_LINK)
            names.append(name)
        trace = dataclasses.replace(counted[place], seen=_seen_by_data(samples[place], asking.catalogue))
        counted[place] = _with_names(trace, names).noted(*notes)
    return counted


def guessed(asking: Asking, samples: Sequence[Sample], traces: Sequence[Trace], least: int, count: int) -> list[Trace]:
    """The traces with titles that the model guesses the seeker may like, where no name can start a retrieval."""
    prompt = asking.wording.guess
    asks: list[Ask | None] = [None if trace.query(least) else (prompt, {"count": count}) for trace in traces]
    replies, counted = asking.ask(samples, traces, asks)
    for place, reply in enumerate(replies):
        if reply is None:
            continue
        titles = strict(reply.text).titles[:count] if reply.error is None else ()
        trace = counted[place]
        names = [_name(link, 0) for link in asking.catalogue.match(titles)]
        guesses = tuple(name for name in names if name.item not in trace.seen)
        counted[place] = dataclasses.replace(trace, guesses=guesses).noted(told.NO_NAMES)
    return counted


def begun(samples: Sequence[Sample], catalogue: Catalogue) -> list[Trace]:
    """A trace for each sample, which knows what the data say that it has seen."""
    return [Trace(sample.key, seen=_seen_by_data(sample, catalogue)) for sample in samples]


def _seen_by_data(sample: Sample, catalogue: Catalogue) -> frozenset[int]:
    items = catalogue.number(sample.seen, unknown="-1") if sample.seen else ()
    return frozenset(int(item) for item in items if item >= 0)


def _with_names(trace: Trace, names: Sequence[Name]) -> Trace:
    """The trace with these names, whose items are seen."""
    named = {name.item for name in names if name.item >= 0}
    return dataclasses.replace(trace, names=tuple(names), seen=trace.seen | named)


def _name(link: Link, opinion: int) -> Name:
    return Name(link.text, opinion, link, link.item, link.title)


def _candidates(names: Sequence[Name], catalogue: Catalogue) -> str:
    def title(item: int) -> str | None:
        return catalogue.titles[item] if item >= 0 else None

    return prompts.candidates((name.text, title(name.link.by_edit), title(name.link.by_words)) for name in names)


def _corrected(name: Name, title: str | None, method: str, catalogue: Catalogue) -> Name:
    """The name with the item that the model means: one of the two that it was shown, or another of this very title."""
    item = -1
    if title is not None:
        shown = [item for item in (name.link.by_edit, name.link.by_words) if item >= 0]
        same = [item for item in shown if _plain(catalogue.titles[item]) == _plain(title)]
        item = same[0] if same else int(catalogue.number([title], unknown="-1")[0])
    return dataclasses.replace(name, item=item, title=catalogue.titles[item] if item >= 0 else "", verdict=method)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
