"""Renders mistakes in the configuration for a terminal.

Each has its position, its text, the line itself and a caret under what is meant.
"""

from __future__ import annotations

from syncd.errors import ConfigError, Problem
from syncd.redaction import redact
from syncd.text import one_line

MAX_LINE_CHARACTERS = 160
MAX_SHOWN = 200  # more is another file than was meant


def render(error: ConfigError) -> str:
    """Return the text for all problems of the error, without secrets."""
    lines = [line for problem in error.problems[:MAX_SHOWN] for line in _lines(problem)]
    more = len(error.problems) - MAX_SHOWN
    return "\n".join([*lines, f"and {more} more mistakes"] if more > 0 else lines)


def _lines(problem: Problem) -> list[str]:
    lines = [redact(str(problem))]
    if (
        problem.line
        and len(problem.source_line) <= MAX_LINE_CHARACTERS
        and problem.source_line.strip()
    ):  # a line too long to show is not searched for secrets
        source = redact(problem.source_line.replace("\t", " "))
        if problem.column - 1 <= len(source):
            before = one_line(source[: problem.column - 1])  # as wide as it will be shown
            lines += [f"    {source}", "    " + " " * len(before) + "^"]
    return lines
