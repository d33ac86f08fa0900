"""Folds long lines between words on a terminal, so that a command in them stays whole.

A pipe or a file gets each text on one line.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

MIN_TEXT_WIDTH = 40  # columns that a text gets beside its indent, however narrow the terminal


def terminal_columns(err: bool = False) -> int | None:
    """Return the width of the terminal that stdout (or stderr) is; None where it is none."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return None
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        columns = 0
    return columns or shutil.get_terminal_size().columns


def fold(text: str, columns: int | None, indent: str, first_indent: str | None = None) -> list[str]:
    """Return the lines of the text, each with the indent, the first one with `first_indent`."""
    first = indent if first_indent is None else first_indent
    if columns is None:
        return [first + text]
    return textwrap.wrap(
        text,
        max(MIN_TEXT_WIDTH + len(indent), columns),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first]


__all__ = ["fold", "terminal_columns"]
