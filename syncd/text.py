"""Makes text of others safe to show: terminal control becomes an escape that a person can read.

Names, messages and outputs come from repositories, servers and hooks. An escape sequence in them
moves the cursor or changes the clipboard; a bidirectional override shows a name in another order.
Only the output layer (`syncd.output`, the log's handlers, the page) makes text visible, so that it
is done once. Our own styles pass: `styled` marks them with a number that is new in each process.
Pure: no I/O.
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
    """Return the text with every unprintable character escaped; line ends and tabs stay.

    Escaped are all of C0 and C1, DEL, line separators, bidirectional and other format characters,
    and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text
    )


def one_line(text: str) -> str:
    """Return the text as `visible`, with line ends and tabs escaped too: for a name."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def shortened(text: str, max_characters: int) -> str:
    """Return the text in one line of at most so many characters, with an ellipsis where it is
    cut.
    """
    shown = one_line(text)
    return shown if len(shown) <= max_characters else f"{shown[: max_characters - 1]}…"


def in_quotes(text: str) -> str:
    """Return a name in quotes for a message: escaped where unprintable, and cut to a readable
    length.
    """
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
    """Return the text in one of our styles, for `on_terminal`."""
    codes = [
        code
        for code, wanted in ((_COLOURS.get(fg or ""), fg), (_BOLD, bold), (_DIM, dim))
        if wanted and code
    ]
    if not codes:
        return text
    return f"\x1b[{_OURS};{';'.join(map(str, codes))}m{text}\x1b[{_OURS};0m"


def on_terminal(text: str) -> str:
    """Return the visible text, with our own styles as terminal sequences."""
    parts = _STYLE.split(text)  # text, codes, text, codes, ..., text
    return "".join(
        f"\x1b[{part}m" if number % 2 else visible(part) for number, part in enumerate(parts)
    )


def json_text(value: object) -> str:
    """Return JSON in ASCII without control characters, from which every name can be read back."""
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a sentence that suggests a close name, or `otherwise`."""
    close = closest(word, names)
    return f"; did you mean '{close}'?" if close is not None else otherwise


def closest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that is close to `word`, or None.

    A bounded number of names of a bounded length is compared.
    """
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
    "shortened",
    "styled",
    "visible",
]
