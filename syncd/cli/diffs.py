"""Formats changed lines for a terminal.

The caller decides whether they may be shown at all.
"""

from __future__ import annotations

from syncd.diff import changed_lines
from syncd.text import styled

HIDDEN = "(not everyone may read it; --show-secrets shows the lines)"


def note(text: str) -> str:
    """Return an indented, dimmed note."""
    return styled(f"      {text}", dim=True)


def diff_lines(old: bytes | None, new: bytes | None, show_secrets: bool) -> list[str]:
    """Return the coloured lines of a unified diff.

    Returns one line of explanation for content that is binary, large, or not available (None).
    """
    lines = changed_lines(old, new, masked=not show_secrets)
    if isinstance(lines, str):
        return [note(f"({lines})")]
    return [styled(f"      {line}", fg={"+": "green", "-": "red"}.get(line[:1])) for line in lines]
