"""Prompts: what is asked of a language model, in which form it is to answer, and how that answer is read.

The texts are our own. Those of a paper are put in their place by `Prompt.worded`; the form of the answer stays. What
the systems ask, and the forms of the answers, are from He et al. 2023 (arXiv 2308.10053, recommendation) and Zhu et al.
2025 (arXiv 2502.14137, the rest).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from jaxrec._checks import InputError, briefly, shown
from jaxrec._checks.doors import kind
from jaxrec.conversational.chat.protocol import ChatRequest, Message
from jaxrec.conversational.dialogue import Turn

Usage = Literal["rag", "rec"]
Method = Literal["fuzzy", "bm25", "both", "none"]

NONE = "NONE"  # the word of an answer that has no lines
SEPARATOR = "####"
LONGEST_LINE = 2000  # letters; a longer one is not in the form of an answer
_SEPARATED = re.compile(r"\s*#{3,6}\s*")  # models miscount the signs
_FIELD = re.compile(r"\{(\w+)\}")
_NUMBERED = re.compile(r"^(?:\d{1,3}\s*[.)]|[-*•])\s+")
_SCORE = re.compile(r"[-+]?\d(?!\d)")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read in an answer.

    Attributes:
      rows: what its lines say, in their order.
      n_unreadable: how many lines were not in the form that was asked for; they are left out.
    """

    rows: tuple[Any, ...]
    n_unreadable: int = 0

    @property
    def failed(self) -> bool:
        """Whether nothing could be read, though something was written."""
        return not self.rows and self.n_unreadable > 0


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A question to a language model with the reader of its answer.

    Attributes:
      stage: the step of the system that asks it.
      version: changes with the text.
      text: what the user's message says; fields stand in it in braces, as in "{conversation}".
      parse: from the text of an answer to what it says. It never fails: what cannot be read is counted.
      system: the message of the system before it; none if empty.
      usage: what the model shall do with retrieved titles, if there are some: "rag" may use them as it sees fit; "rec"
        shall take them for candidates.
    """

    stage: str
    version: str
    text: str
    parse: Callable[[str], Any]
    system: str = ""
    usage: Usage | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields in the text, each once."""
        return tuple(dict.fromkeys(_FIELD.findall(self.text)))

    def worded(self, text: str, version: str, system: str | None = None) -> Prompt:
        """The same question in other words: the fields and the form of the answer stay.

        Args:
          text: with the same fields in braces.
          version: a name for the wording.
          system: the message of the system; None keeps it.

        Raises:
          InputError: a field is missing, or one is not known.
        """
        changed = dataclasses.replace(
            self, text=text, version=version, system=self.system if system is None else system
        )
        wrong = set(changed.fields) ^ set(self.fields)
        if wrong - {"domain", "count"} or set(changed.fields) - set(self.fields):
            raise InputError(
                f"the text of the stage {self.stage} must have the fields {', '.join(self.fields)} in braces, "
                f"of which domain and count may be left out, got {', '.join(changed.fields) or 'none'}."
            )
        return changed

    def request(
        self, key: str, *, max_tokens: int = 512, temperature: float = 0.0, seed: int | None = None, **fields: Any
    ) -> ChatRequest:
        """The request for one sample; `fields` are what stands in the text in place of each field's name."""
        missing = [name for name in self.fields if name not in fields]
        if missing:
            raise InputError(f"the prompt of the stage {self.stage} lacks the field {missing[0]}.")
        asked = _FIELD.sub(lambda found: str(fields[found[1]]), self.text)
        messages = (Message("user", asked),)
        if self.system:
            messages = (Message("system", self.system), *messages)
        return ChatRequest(messages, key, self.stage, max_tokens, temperature, seed=seed)

    def fields_of(self, request: ChatRequest) -> dict[str, str]:
        """What stands in the fields of a request that `request` made: its inverse, up to where fields touch.

        Raises:
          InputError: the request is of another text.
        """
        seen: set[str] = set()
        pattern = ""
        for place, part in enumerate(_FIELD.split(self.text)):
            if place % 2 == 0:
                pattern += re.escape(part)
            else:
                pattern += f"(?P={part})" if part in seen else f"(?P<{part}>.*?)"
                seen.add(part)
        found = re.fullmatch(pattern, request.messages[-1].content, re.DOTALL)
        if found is None:
            raise InputError(
                f"the request {shown(request.key)} was not made by the prompt {self.stage} {self.version}."
            )
        return found.groupdict()


@kind("Prompt")
def given_prompt(name: str, value: object) -> Prompt:
    """A prompt."""
    if isinstance(value, Prompt):
        return value
    raise InputError(f"{name} must be a Prompt, such as RECOMMEND or what `worded` makes of it, got {briefly(value)}.")


def conversation(turns: Iterable[Turn], *, seeker: str = "User", recommender: str = "System") -> str:
    """A line for each turn that has words, "User: ..." or "System: ..."."""
    names = {"seeker": seeker, "recommender": recommender}
    return "\n".join(f"{names[turn.speaker]}: {line}" for turn in turns if (line := one_line(turn.text)))


def one_line(text: str) -> str:
    """A text without line breaks, and without spaces at its ends."""
    return " ".join(text.splitlines()).strip()


def lines(titles: Iterable[str]) -> str:
    """Titles as a prompt lists them: one a line."""
    return "\n".join(map(one_line, titles))


def candidates(rows: Iterable[tuple[str, str | None, str | None]]) -> str:
    """Names as `LINK` lists them, a line each: as extracted, the title found by letters, and by words (None: none)."""
    return "\n".join(SEPARATOR.join(one_line(part or NONE) for part in row) for row in rows)


def recommend(usage: Usage | None = None) -> Prompt:
    """The prompt that asks for recommendations.

    Args:
      usage: what the model shall do with titles that were retrieved: None if there are none; "rag" may use them as it
        sees fit; "rec" shall take them for candidates.
    """
    if usage is not None and usage not in RETRIEVED:
        raise InputError(f"usage must be one of rag, rec or None, got {shown(usage)}.")
    return RECOMMEND if usage is None else RETRIEVED[usage]


def scores_of(titles: Sequence[str], reading: Reading) -> list[int | None]:
    """The number that the rows (title, number) of `CONTEXT` or `RERANK` give each title, None where they give none.

    Titles are compared without case, quotation marks, spaces at the ends and the line's number. The first row counts.
    """
    given: dict[str, int] = {}
    for title, number in reading.rows:
        for form in (_plain(title), _plain(_NUMBERED.sub("", title))):
            given.setdefault(form, number)
    return [given.get(_plain(one_line(title))) for title in titles]


def _plain(title: str) -> str:
    return " ".join(title.strip().strip("\"'*").split()).casefold()


def _rows(text: str, read: Callable[[list[str]], Any]) -> Reading:
    """The rows of an answer of separated lines; `read` makes one of the parts of a line, or None of what is none."""
    rows, unreadable = [], 0
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.strip("`.'\"").upper() == NONE or line.startswith("```"):
            continue
        row = read(_SEPARATED.split(line)) if len(line) <= LONGEST_LINE else None
        if row is None:
            unreadable += 1
        else:
            rows.append(row)
    return Reading(tuple(rows), unreadable)


def _number(text: str, low: int, high: int) -> int | None:
    found = _SCORE.match(text.replace("\N{MINUS SIGN}", "-"))
    return int(found[0]) if found and low <= int(found[0]) <= high else None


def _scored(low: int, high: int) -> Callable[[str], Reading]:
    def read(parts: list[str]) -> tuple[str, int] | None:
        number = _number(parts[-1], low, high) if len(parts) == 2 and parts[0] else None
        return None if number is None else (parts[0], number)

    return lambda text: _rows(text, read)


def _extracted(text: str) -> Reading:
    """Rows (title, attitude), each title once; the last attitude counts."""
    read = _scored(-2, 2)(text)
    found = {_NUMBERED.sub("", title): attitude for title, attitude in read.rows}
    return dataclasses.replace(read, rows=tuple(found.items()))


def _linked(text: str) -> Reading:
    """Rows (name as extracted, title or None, method)."""

    def read(parts: list[str]) -> tuple[str, str | None, Method] | None:
        method = METHODS.get(parts[-1].strip("`*. ").lower())
        if len(parts) != 3 or not all(parts) or method is None:
            return None
        return parts[0], None if parts[1].upper() == NONE else parts[1], method

    return _rows(text, read)


def _titles(text: str) -> Reading:
    """Rows of titles: the lines, without their numbers."""
    found = (_NUMBERED.sub("", line.strip()).strip() for line in text.splitlines())
    return Reading(tuple(filter(None, found)))


METHODS: dict[str, Method] = {"fuzzy": "fuzzy", "bm25": "bm25", "both": "both", "none": "none"}

_TASK = (
    "You recommend {domain}. A conversation between a user and you follows. Name {count} {domain} that suit this user, "
    "the best first, numbered, one a line with nothing but its title. Write nothing before or after the list.\n\n"
)
_OTHERS = "{conversation}\n\nPeople who like what this user mentions also like the following; "
_OPEN = "\n{retrieved}\n\nSystem: "

RECOMMEND = Prompt("recommend", "1", _TASK + "{conversation}\nSystem: ", _titles)
GUESS = dataclasses.replace(RECOMMEND, stage="guess")  # for a conversation that names none
RETRIEVED: dict[str, Prompt] = {
    "rag": Prompt("recommend", "1-rag", f"{_TASK}{_OTHERS}use of it what helps you:{_OPEN}", _titles, usage="rag"),
    "rec": Prompt("recommend", "1-rec", f"{_TASK}{_OTHERS}take these for candidates:{_OPEN}", _titles, usage="rec"),
}
EXTRACT = Prompt(
    "extract",
    "1",
    "Which {domain} does the following conversation name? Answer with a line for each, its title, four number signs "
    "and what the speaker thinks of it: -2 hates it, -1 dislikes it, 0 says nothing of it, 1 likes it, 2 loves it. "
    "Write the title as it is known, with the year in parentheses if you are sure of it, as in\nTitle (1999)####1\n"
    f"If there are none, answer {NONE}. Write nothing else.\n\n{{conversation}}",
    _extracted,
)
LINK = Prompt(
    "link",
    "1",
    "Names of {domain} were found in a conversation and looked up in a catalogue, by their letters (fuzzy) and by "
    "their words (bm25). Each line below holds a name, what was found by letters and what was found by words, with "
    "four number signs between them. Answer each line with the name, four number signs, the title that is meant, four "
    "number signs and where it is from: fuzzy, bm25, both, or none if neither is right; the title is then the right "
    f"one, or {NONE}. Write nothing else.\n\nConversation:\n{{conversation}}\n\nNames:\n{{candidates}}",
    _linked,
)
CONTEXT = Prompt(
    "reflect",
    "1",
    "Here are a conversation and {domain} that were retrieved for it. Which of these could be recommended next? Answer "
    "each title with a line of the title, four number signs, and 1 if it suits the conversation, 0 if it does not. "
    "Write nothing else.\n\nConversation:\n{conversation}\n\nRetrieved:\n{titles}",
    _scored(0, 1),
)
RERANK = Prompt(
    "rerank",
    "1",
    "Here are a conversation and {domain} that shall be recommended next. How well does each suit the user? Answer "
    "each title with a line of the title, four number signs, and a number: -2 not at all, -1 badly, 0 neither, 1 well, "
    "2 very well. Write nothing else.\n\nConversation:\n{conversation}\n\nRecommended:\n{titles}",
    _scored(-2, 2),
)
PROMPTS = (RECOMMEND, GUESS, *RETRIEVED.values(), EXTRACT, LINK, CONTEXT, RERANK)
