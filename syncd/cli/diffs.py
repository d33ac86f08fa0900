"""Lines that changed, for people. Whether they may be shown at all is the caller's to ask."""

from __future__ import annotations

import click

from syncd.cli.reports import printable
from syncd.engine.lines import changed_lines

HIDDEN = "(not everybody may read it; --show-secrets shows the lines)"


def note(text: str) -> str:
    return click.style(f"      {text}", dim=True)


def diff_lines(old: bytes | None, new: bytes | None) -> list[str]:
    """Coloured lines of a unified diff; one line of explanation for what is binary, large, or not there any more (None)."""
    lines = changed_lines(old, new)
    if isinstance(lines, str):
        return [note(f"({lines})")]
    return [click.style(f"      {printable(line)}", fg={"+": "green", "-": "red"}.get(line[:1])) for line in lines]
