"""Small conversations, drawn or written down, for the tests of this folder."""

from __future__ import annotations

from jaxrec.conversational.dialogue import Dialogue, Mention, Turn


def turn(speaker, text, *titles, attitude=0):
    """A turn that names titles, of which it is not said where."""
    return Turn(speaker, text, tuple(Mention(title, attitude=attitude) for title in titles))


def dialogue(name, *turns, **opinions):
    """A dialogue of turns."""
    return Dialogue(name, turns, opinions)


WORDS = "ghost castle train love robot war song river".split()


def drawn(rng, n, titles):
    """Dialogues of a few turns whose words and titles are drawn, the seeker beginning."""
    made = []
    for number in range(n):
        turns = []
        for place in range(int(rng.integers(2, 6))):
            named = rng.choice(titles, int(rng.integers(0, 3)), replace=False)
            speaker, text = ("seeker", "recommender")[place % 2], " ".join(rng.choice(WORDS, 3))
            turns.append(turn(speaker, text, *map(str, named), attitude=int(rng.integers(-1, 2))))
        made.append(Dialogue(f"d{number}", tuple(turns)))
    return made
