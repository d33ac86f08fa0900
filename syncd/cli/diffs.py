"""Lines that changed, for people. Whether they may be shown at all is the caller's to ask: `readable_by_all`."""

from __future__ import annotations

import difflib

import click

from syncd.cli.reports import printable

DIFF_LIMIT = 256 << 10
HIDDEN = "(not everybody may read it; --show-secrets shows the lines)"


def readable_by_all(mode: int) -> bool:
    return bool(mode & 0o004)


def note(text: str) -> str:
    return click.style(f"      {text}", dim=True)


def diff_lines(old: bytes | None, new: bytes | None) -> list[str]:
    """Coloured lines of a unified diff; one line of explanation for what is binary, large, or not there any more (None)."""
    if old is None or new is None:
        return [note("(the bytes are not kept any more)")]
    if b"\0" in old + new or max(len(old), len(new)) > DIFF_LIMIT:
        return [note("(binary or large)")]
    before, after = old.decode("utf-8", "replace").splitlines(), new.decode("utf-8", "replace").splitlines()
    lines = list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]
    return [click.style(f"      {printable(line)}", fg={"+": "green", "-": "red"}.get(line[:1])) for line in lines]
