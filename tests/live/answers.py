"""The answer to one question, and the table that questions are entered in."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from tests.live.api import Evidence
from tests.live.subject import Subject


class Answer(Struct, frozen=True):
    """`answer` is yes, no, other or not applicable; `text` says what was seen."""

    answer: str
    text: str


class Question(Struct, frozen=True):
    """One open point of the fact sheet's section 11 or 12. `writes`: only in a run that writes."""

    id: str
    section: str
    text: str
    ask: Callable[[Subject], Answer]
    writes: bool = False


class Result(Struct, frozen=True):
    """A question with its answer and the exchanges that led to it."""

    id: str
    section: str
    question: str
    answer: str
    text: str
    evidence: list[Evidence]


def yes_or_no(seen: bool, text: str) -> Answer:
    """Return yes or no, with what was seen."""
    return Answer("yes" if seen else "no", text)


Table = list[Question]


def asked(
    table: Table, section: str, id: str, text: str, writes: bool = False
) -> Callable[[Callable[[Subject], Answer]], Callable[[Subject], Answer]]:
    """Return a decorator that enters the function as a question. Five parts make a question."""

    def enter(ask: Callable[[Subject], Answer]) -> Callable[[Subject], Answer]:
        table.append(Question(id, section, text, ask, writes))
        return ask

    return enter
