"""Lines that changed, for people. Whether they may be shown at all is the caller's to ask."""

from __future__ import annotations

from syncd.diff import changed_lines
from syncd.text import styled

HIDDEN = "(not everybody may read it; --show-secrets shows the lines)"


def note(text: str) -> str:
    return styled(f"      {text}", dim=True)


def diff_lines(old: bytes | None, new: bytes | None, show_secrets: bool) -> list[str]:
    """Coloured lines of a unified diff; one line of explanation for what is binary, large, or not there any more (None)."""
    lines = changed_lines(old, new, masked=not show_secrets)
    if isinstance(lines, str):
        return [note(f"({lines})")]
    return [styled(f"      {line}", fg={"+": "green", "-": "red"}.get(line[:1])) for line in lines]
