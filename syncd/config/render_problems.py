"""Mistakes as a person reads them: the place, the text, the line itself and a caret under what is meant."""

from __future__ import annotations

from syncd.errors import ConfigError, Problem
from syncd.redaction import redact
from syncd.text import one_line

WIDEST = 160
SHOWN = 200  # more is another file than was meant


def render(error: ConfigError) -> str:
    lines = [line for problem in error.problems[:SHOWN] for line in _lines(problem)]
    more = len(error.problems) - SHOWN
    return "\n".join([*lines, f"and {more} more mistakes"] if more > 0 else lines)


def _lines(problem: Problem) -> list[str]:
    lines = [redact(str(problem))]
    if (
        problem.line and len(problem.source_line) <= WIDEST and problem.source_line.strip()
    ):  # a line too long to show is not searched for secrets
        source = redact(problem.source_line.replace("\t", " "))
        if problem.column - 1 <= len(source):
            before = one_line(source[: problem.column - 1])  # as wide as it will be shown
            lines += [f"    {source}", "    " + " " * len(before) + "^"]
    return lines
