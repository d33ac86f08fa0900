"""Asks one question at a time on the terminal, until the answer is a good one.

`<` or `back` raises GoBack. What is shown of a repository or a server is text: names are escaped
here, and the output layer escapes the rest. Knows nothing of what is asked.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from msgspec import Struct

from syncd.errors import SyncdError
from syncd.output import echo, read_line
from syncd.text import did_you_mean, one_line, styled

T = TypeVar("T")

BACK = ("<", "back")
MAX_SHOWN = 12  # names of a list that are shown at once
MAX_WIDTH = 100


class GoBack(Exception):
    """The user wants the question before this one."""


class Mistake(ValueError):
    """An answer that can't be used: why, and what to do."""

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint

    @classmethod
    def of(cls, error: SyncdError, subject: str = "") -> Mistake:
        """Return the mistake that an error of ours shows; `subject: ` at its start is left out."""
        return cls(error.message.removeprefix(f"{subject}: "), error.hint)


class Choice(Struct, frozen=True):
    """One answer to choose from: what it is called, and what is said of it."""

    value: str
    text: str = ""


def say(text: str) -> None:
    """Print a text."""
    echo(text, err=True)


def ok(text: str) -> None:
    """Print something that was checked and is right."""
    _marked(styled("✓", fg="green"), one_line(text))


def bad(text: str, hint: str | None = None) -> None:
    """Print what is wrong, and what to do."""
    _marked(styled("✕", fg="red"), text)
    if hint:
        _marked(styled("→", dim=True), hint, indent=4)


def warn(text: str, hint: str | None = None) -> None:
    """Print something to know that prevents nothing."""
    _marked(styled("!", fg="yellow"), text)
    if hint:
        _marked(styled("→", dim=True), hint, indent=4)


def _marked(mark: str, text: str, indent: int = 2) -> None:
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns) - indent - 3
    lines = textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False)
    margin = "\n" + " " * (indent + 2)
    echo(" " * indent + f"{mark} " + margin.join(lines), err=True)


def ask(question: str, judge: Callable[[str], T], default: str = "", shown: str = "") -> T:
    """Ask until `judge` accepts the answer, and return its result; it refuses with ValueError.

    Enter gives `default`, which is shown in brackets (as `shown`, where given). Raises GoBack.
    """
    inside = one_line(shown or default)
    line = f"{question} [{inside}]: " if inside else f"{question}: "
    while True:
        text = _answer(line) or default
        try:
            return judge(text)
        except ValueError as error:
            bad(str(error), getattr(error, "hint", None))


def _answer(line: str) -> str:
    """Return what was typed, without spaces around it. Raises GoBack."""
    while True:
        text = read_line(line).strip()
        if text.lower() in BACK:
            raise GoBack
        if text.isprintable():
            return text
        bad("the answer has a character in it that can't be printed; type it again")


def confirm(question: str, default: bool) -> bool:
    """Ask a question that is answered with yes or no."""
    meaning = {"y": True, "yes": True, "n": False, "no": False}

    def judge(text: str) -> bool:
        """Return the answer. Raises Mistake."""
        if text.lower() not in meaning:
            raise Mistake(f"'{text}' is neither yes nor no")
        return meaning[text.lower()]

    return ask(question, judge, "yes" if default else "no")


def choose(question: str, choices: Sequence[Choice], default: str) -> str:
    """Ask for one of a few answers, by its number or its name, and return its name."""
    width = max(len(choice.value) for choice in choices)
    for number, choice in enumerate(choices, 1):
        say(f"  {number}  {one_line(choice.value):<{width}}  {one_line(choice.text)}".rstrip())
    names = [choice.value for choice in choices]

    def judge(text: str) -> str:
        """Return the name. Raises Mistake."""
        found = _by_number(text, names) or _by_name(text, names)
        if found is None:
            raise Mistake(f"'{text}' is not one of {', '.join(names)}" + did_you_mean(text, names))
        return found

    return ask(question, judge, default)


def pick(
    question: str, names: Sequence[str], typed: Callable[[str], str | None], default: str = ""
) -> str:
    """Ask for one of many names: by its number, by a part that only it has, or typed in full.

    `typed` returns what a full name means, and refuses it with ValueError. None is for a text that
    is no full name: then it is looked for in the names of the list. `default` may be any name.
    """
    found: str | list[str] = list(names)
    while not isinstance(found, str):
        _show(found)
        judge = partial(_picked, shown=found, names=names, typed=typed)
        found = ask(question, judge, default)
    return found


def _picked(
    text: str, shown: Sequence[str], names: Sequence[str], typed: Callable[[str], str | None]
) -> str | list[str]:
    """Return the name, or the names that are left. Raises Mistake."""
    meant = _by_number(text, shown[:MAX_SHOWN]) or _by_name(text, names) or text
    found = typed(meant) if meant else None
    if found is not None:
        return found
    left = [name for name in names if text and text.casefold() in name.casefold()]
    if not left:
        raise Mistake(_no_such(text, names))
    return left if len(left) > 1 else typed(left[0]) or left[0]


def _no_such(text: str, names: Sequence[str]) -> str:
    if not text:
        return "type a name, or the number of one" if names else "type a name"
    return f"'{text}' is not in the list" + did_you_mean(text, names)


def _by_number(text: str, names: Sequence[str]) -> str | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return names[number - 1] if 0 < number <= len(names) else None


def _by_name(text: str, names: Sequence[str]) -> str | None:
    same = [name for name in names if name == text]
    like = [name for name in names if name.casefold() == text.casefold()]
    return next(iter(same or like), None)


def _show(names: Sequence[str]) -> None:
    for number, name in enumerate(names[:MAX_SHOWN], 1):
        say(f"  {number:>2}  {one_line(name)}")
    if len(names) > MAX_SHOWN:
        more = len(names) - MAX_SHOWN
        say(styled(f"      and {more} more: type a part of the name to see fewer", dim=True))
