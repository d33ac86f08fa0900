"""Completes ids and paths of the trash's entries in a shell."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

from syncd.errors import SyncdError
from syncd.mirror.trash import TrashEntry
from syncd.text import visible


def complete_entry(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the ids and the paths that begin so."""
    entries = _entries(context)
    paths = {entry.path: entry for entry in entries if visible(entry.path) == entry.path}
    found = [CompletionItem(path) for path in paths if typed and path.startswith(typed)]
    return [*_ids(entries, typed), *found]


def complete_id(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the ids that begin so."""
    return _ids(_entries(context), typed)


def _ids(entries: list[TrashEntry], typed: str) -> list[CompletionItem]:
    from syncd.cli.trash_entries import short_ids

    names = short_ids(entry.id for entry in entries)
    return [
        CompletionItem(names[entry.id], help=visible(entry.path))
        for entry in entries
        if entry.id.startswith(typed.lower())
    ]


def _entries(context: click.Context) -> list[TrashEntry]:
    """Return the entries, the newest first; none where anything is wrong: a shell is waiting."""
    from syncd.cli.trash_entries import trash_of
    from syncd.config.load import find_config, load_with_positions

    typed = context.find_root().params.get("config")
    try:
        config = load_with_positions(find_config(typed, os.environ), os.environ)[0]
        return trash_of(config).entries()[::-1]
    except (SyncdError, OSError):
        return []
