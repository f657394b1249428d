"""The later stages of CRAG: retrieve, reflect on the context, recommend, and rank anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxrec.conversational import prompts
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.crag import trace as told
from jaxrec.conversational.crag.asking import Ask, Asking, readable
from jaxrec.conversational.crag.trace import Found, Suggestion, Trace
from jaxrec.conversational.dialogue import Sample
from jaxrec.conversational.prompts import Prompt, Usage
from jaxrec.conversational.replies import strict
from jaxrec.conversational.retrieval import retrieve


def retrieved(
    traces: Sequence[Trace], item_weights: Any, catalogue: Catalogue, k: int, least: int, among: Any
) -> list[Trace]:
    """The traces with the k items that go best with what each names, none of them seen.

    Args:
      traces: B traces.
      item_weights: what `retrieve` takes.
      catalogue: I titles.
      k: how many at most.
      least: the attitude that a name needs to count.
      among: the items that may be retrieved, or None.
    """
    if k == 0:
        return list(traces)
    spare = max((len(trace.seen) for trace in traces), default=0)  # of which some may be no start, such as the disliked
    items, scores = retrieve(item_weights, [trace.query(least) for trace in traces], k + spare, among=among)
    made = []
    for trace, row, values in zip(traces, items.tolist(), scores.tolist(), strict=True):
        fresh = [pair for pair in zip(row, values, strict=True) if pair[0] >= 0 and pair[0] not in trace.seen][:k]
        found = tuple(Found(item, catalogue.titles[item], score) for item, score in fresh)
        trace = dataclasses.replace(trace, found=found)
        made.append(trace if found else trace.noted(told.NOTHING_RETRIEVED))
    return made


def reflected(asking: Asking, samples: Sequence[Sample], traces: Sequence[Trace]) -> list[Trace]:
    """The traces in which only those retrieved items are used that the model says suit the conversation."""
    prompt = asking.wording.reflect
    replies, counted = asking.ask(samples, traces, _about(prompt, [trace.found for trace in traces]))
    for place, reply in enumerate(replies):
        if reply is None:
            continue
        trace, reading = counted[place], prompt.parse(reply.text)
        if not readable(reply, reading):
            counted[place] = trace.noted(told.NO_CONTEXT_ANSWER)
            continue
        verdicts = prompts.scores_of([each.title for each in trace.found], reading)
        found = tuple(
            dataclasses.replace(each, verdict=verdict, used=verdict == 1)
            for each, verdict in zip(trace.found, verdicts, strict=True)
        )
        notes = [told.FORGOTTEN_CONTEXT] * verdicts.count(None)
        notes += [told.NOTHING_KEPT] * (not any(each.used for each in found))
        counted[place] = dataclasses.replace(trace, found=found).noted(*notes)
    return counted


def recommended(
    asking: Asking, samples: Sequence[Sample], traces: Sequence[Trace], usage: Usage, count: int
) -> list[Trace]:
    """The traces with what the model recommends, told of the retrieved items that are used."""
    asks: list[Ask | None] = []
    for trace in traces:
        titles = prompts.lines(each.title for each in trace.used)
        prompt = getattr(asking.wording, usage) if trace.used else asking.wording.plain
        asks.append((prompt, {"count": count, "retrieved": titles}))
    replies, counted = asking.ask(samples, traces, asks)
    for place, reply in enumerate(replies):
        assert reply is not None
        texts = strict(reply.text).titles if reply.error is None else ()
        suggestions, notes = _suggested(texts, counted[place].seen, asking.catalogue)
        suggestions = suggestions[:count]
        if not suggestions:
            notes.append(told.NO_RECOMMENDATION)
        order = tuple(range(len(suggestions)))
        counted[place] = dataclasses.replace(counted[place], suggestions=suggestions, order=order).noted(*notes)
    return counted


def reranked(
    asking: Asking, samples: Sequence[Sample], traces: Sequence[Trace], *, drop_forgotten: bool
) -> list[Trace]:
    """The traces in the order of the scores that the model gives its recommendations; equal ones stay in order."""
    prompt = asking.wording.rerank
    replies, counted = asking.ask(samples, traces, _about(prompt, [trace.suggestions for trace in traces]))
    for place, reply in enumerate(replies):
        if reply is None:
            continue
        trace, reading = counted[place], prompt.parse(reply.text)
        scores = prompts.scores_of([each.title for each in trace.suggestions], reading)
        if not readable(reply, reading) or all(score is None for score in scores):
            counted[place] = trace.noted(told.NO_RANKS)
            continue
        scored = tuple(
            dataclasses.replace(each, score=score) for each, score in zip(trace.suggestions, scores, strict=True)
        )
        order = ordered(scores, drop_forgotten=drop_forgotten)
        notes = [told.LOST if drop_forgotten else told.FORGOTTEN_RANK] * scores.count(None)
        counted[place] = dataclasses.replace(trace, suggestions=scored, order=order).noted(*notes)
    return counted


def _about(prompt: Prompt, lists: Sequence[Sequence[Found | Suggestion]]) -> list[Ask | None]:
    """What is asked about the titles of each list; nothing about an empty one."""
    return [(prompt, {"titles": prompts.lines(each.title for each in titled)}) if titled else None for titled in lists]


def ordered(scores: Sequence[int | None], *, drop_forgotten: bool = False) -> tuple[int, ...]:
    """The places by falling score, equal ones in their order; those without a score last, or not at all."""
    given = [place for place, score in enumerate(scores) if score is not None]
    forgotten = [place for place, score in enumerate(scores) if score is None]
    given.sort(key=lambda place: -(scores[place] or 0))
    return tuple(given if drop_forgotten else given + forgotten)


def _suggested(
    texts: Sequence[str], seen: frozenset[int], catalogue: Catalogue
) -> tuple[tuple[Suggestion, ...], list[str]]:
    """What the model wrote, linked, without what was seen and what came before; and what is to be noted of it."""
    suggestions: dict[int | str, Suggestion] = {}
    notes = []
    for link in catalogue.match(texts):
        name: int | str = link.item if link.item >= 0 else link.text.casefold()
        if link.item in seen:
            notes.append(told.NAMED_BEFORE)
        elif name in suggestions:
            notes.append(told.REPEATED)
        else:
            suggestions[name] = Suggestion(link.text, link.item, link.title or link.text, link.how)
            notes += [told.OUTSIDE] * (link.item < 0)
    return tuple(suggestions.values()), notes
