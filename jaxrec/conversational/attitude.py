"""What somebody thinks of a film that a sentence names, as far as plain words tell: a rule, no model."""

from __future__ import annotations

import re

WINDOW = 8  # words before the name, and after it, that may speak of it
AROUND = 400  # letters on either side in which these words are looked for
STRONG_DISLIKE = frozenset("hate hated hates loathe loathed detest detested despise despised".split())
DISLIKE = frozenset("dislike disliked boring bored awful terrible horrible bad worst stupid overrated".split())
STRONG_LIKE = frozenset("love loved loves adore adored favorite favourite favorites favourites obsessed".split())
LIKE = frozenset("like liked likes enjoy enjoyed enjoys great good fan fantastic awesome amazing fun best".split())
NEGATIONS = frozenset("not never didn't don't doesn't wasn't isn't didnt dont doesnt wasnt isnt cannot can't".split())
SIDES = (STRONG_DISLIKE, -2), (DISLIKE, -1), (STRONG_LIKE, 2), (LIKE, 1)
_WORD = re.compile(r"[\w'\u2019]+")
_BOUNDARY = re.compile(r"[.!?;\n]|,?\s+\b(?:but|though|although|however|while)\b", re.IGNORECASE)


def attitude(text: str, start: int, stop: int) -> int:
    """What the words around `text[start:stop]` say: -2 to 2, 0 where they say nothing.

    The nearest word of liking or disliking in the same part of the sentence counts, before the name rather than behind
    it; a negation up to three words before it turns it around, into a weaker one. "But" and its like part a sentence.
    """
    first, last = max(0, start - AROUND), stop + AROUND
    begin = max((found.end() for found in _BOUNDARY.finditer(text, first, max(start, 0))), default=first)
    end = next((found.start() for found in _BOUNDARY.finditer(text, stop, last)), last)
    before = _words(text[begin:start])[-WINDOW:]
    behind = _words(text[stop:end])[:WINDOW]
    for words, places in ((before, range(len(before) - 1, -1, -1)), (behind, range(len(behind)))):
        for place in places:
            if strength := _strength(words, place):
                return strength
    return 0


def _words(text: str) -> list[str]:
    return [word.replace("\u2019", "'").casefold() for word in _WORD.findall(text)]


def _strength(words: list[str], place: int) -> int:
    strength = next((value for group, value in SIDES if words[place] in group), 0)
    if strength and NEGATIONS & set(words[max(0, place - 3) : place]):
        return -1 if strength > 0 else 1
    return strength
