"""Prints findings: a sign, the subject, the cause, and under it what to do."""

from __future__ import annotations

import shutil
import sys
import textwrap

from syncd.diagnosis.finding import Finding, Level
from syncd.output import echo
from syncd.text import styled

SIGNS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.ERROR: ("✕", "red")}
SUBJECT_WIDTH = 13
INDENT = " " * (SUBJECT_WIDTH + 3)
ARROW = "    → "
MIN_WIDTH = 60


def show_finding(one: Finding, err: bool = False) -> None:
    """Print the finding. Lines are wrapped on a terminal only."""
    sign, colour = SIGNS[one.level]
    first, *more = _wrapped(one.message, len(INDENT), err)
    echo(f"{styled(sign, fg=colour)} {one.subject:<{SUBJECT_WIDTH}} {first}", err=err)
    lines = [INDENT + line for line in more]
    if one.hint:
        first, *more = _wrapped(one.hint, len(ARROW), err)
        lines += [ARROW + first, *(" " * len(ARROW) + line for line in more)]
    for line in lines:
        echo(line, err=err)


def _wrapped(text: str, indent: int, err: bool) -> list[str]:
    """Return the lines of the text beside an indent; one line where there is no terminal."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return [text]
    width = max(MIN_WIDTH, shutil.get_terminal_size().columns) - indent
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
