"""PURE: text of others as it may be shown: what a terminal or a page would act on is an escape that a person can read.

Names, messages and outputs come from repositories, servers and hooks. An escape sequence in them moves the cursor or changes the
clipboard; a bidirectional override shows a name in another order. Only the output layer (`syncd.output`, the log's handlers, the page)
makes text visible, so that it is done once. Styles of our own pass: `styled` marks them with a number that is new in each process.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable

MAX_QUOTED_CHARACTERS = 160
MAX_WORD_CHARACTERS = (
    128  # characters of a word and of a name: comparing two costs up to the square of their length
)
MAX_COMPARED_NAMES = 500  # names, those of nearly the same length first
_OURS = os.urandom(8).hex()
_STYLE = re.compile(rf"\x1b\[{_OURS};([0-9;]+)m")
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}
_BOLD, _DIM = 1, 2


def visible(text: str) -> str:
    """Every character that can't be printed as an escape; line ends and tabs stay.

    That is all of C0 and C1, DEL, separators of lines, bidirectional and other format characters, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text
    )


def one_line(text: str) -> str:
    """As `visible`, and also line ends and tabs are escapes: for a name, which has to stay on its line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def in_quotes(text: str) -> str:
    """A name in quotes for a message, with everything escaped that can't be printed, and cut to a readable length."""
    text = (
        text if len(text) <= 1000 else text[:500] + text[-500:]
    )  # which are cut below: the rest costs time only
    shown = (
        ascii(text)
        if any(unicodedata.category(letter).startswith("C") for letter in text)
        else repr(text)
    )
    return shown if len(shown) <= MAX_QUOTED_CHARACTERS else f"{shown[:100]}...{shown[-50:]}"


def styled(text: str, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
    """The text in a style of ours, for `on_terminal`."""
    codes = [
        code
        for code, wanted in ((_COLOURS.get(fg or ""), fg), (_BOLD, bold), (_DIM, dim))
        if wanted and code
    ]
    if not codes:
        return text
    return f"\x1b[{_OURS};{';'.join(map(str, codes))}m{text}\x1b[{_OURS};0m"


def on_terminal(text: str) -> str:
    """The visible text, with the styles of ours as a terminal takes them."""
    parts = _STYLE.split(text)  # text, codes, text, codes, ..., text
    return "".join(
        f"\x1b[{part}m" if number % 2 else visible(part) for number, part in enumerate(parts)
    )


def json_text(value: object) -> str:
    """JSON in ASCII without a control character, from which every name can be read back."""
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about `word`: which of the names is close to it, or `otherwise` when none is."""
    close = closest(word, names)
    return f"; did you mean '{close}'?" if close is not None else otherwise


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that is close to `word`, if one is. Looks at a bounded number of names of a bounded length."""
    import difflib  # here, because it takes 6 ms to load and most runs have nothing to ask it
    import heapq

    if len(word) > MAX_WORD_CHARACTERS:
        return None
    short = (name for name in names if len(name) <= MAX_WORD_CHARACTERS)
    likely = heapq.nsmallest(MAX_COMPARED_NAMES, short, key=lambda name: abs(len(name) - len(word)))
    return next(iter(difflib.get_close_matches(word, likely, 1)), None)


__all__ = [
    "closest",
    "did_you_mean",
    "in_quotes",
    "json_text",
    "on_terminal",
    "one_line",
    "styled",
    "visible",
]
