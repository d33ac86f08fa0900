"""Completes names of jobs and identities, mirrored paths, and entries of the trash, in a shell.

A shell is waiting: where anything is wrong there is nothing to complete, and nothing is said.
Modules that read the configuration and the store are loaded when a name is completed.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

from syncd.cli.common import Settings
from syncd.errors import SyncdError
from syncd.text import visible

if TYPE_CHECKING:
    from syncd.config.model import Config
    from syncd.mirror.trash import TrashEntry

T = TypeVar("T")


def complete_job(
    context: click.Context, parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the jobs that begin so, without those that are typed already."""
    taken = context.params.get(parameter.name or "") or () if parameter.nargs == -1 else ()
    names = _read(context, lambda config: [(job.name, job.repo) for job in config.jobs.values()])
    return [CompletionItem(name, help=repo) for name, repo in _begin(names, typed, taken)]


def complete_identity(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the identities that begin so."""
    return _identities(context, typed, ())


def complete_login(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the identities that are logins and begin so."""
    from syncd.identities import LoginIdentity

    return _identities(context, typed, (LoginIdentity,))


def complete_path(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the mirrored files that begin so, and what jobs list that is not mirrored yet."""
    found = _read(context, _mirrored_paths)
    return [CompletionItem(path) for path in found if path.startswith(typed)]


def complete_entry(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the ids and the paths of the trash that begin so."""
    entries = _read(context, _trash_entries)
    paths = {entry.path: entry for entry in entries if visible(entry.path) == entry.path}
    found = [CompletionItem(path) for path in paths if typed and path.startswith(typed)]
    return [*_ids(entries, typed), *found]


def complete_id(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the ids of the trash that begin so."""
    return _ids(_read(context, _trash_entries), typed)


def _identities(
    context: click.Context, typed: str, kinds: tuple[type, ...]
) -> list[CompletionItem]:
    def described(config: Config) -> list[tuple[str, str]]:
        from syncd.status.identities import identity_description

        return [
            (name, identity_description(identity))
            for name, identity in config.identities.items()
            if not kinds or isinstance(identity, kinds)
        ]

    names = _read(context, described)
    return [CompletionItem(name, help=text) for name, text in _begin(names, typed)]


def _begin(
    names: Iterable[tuple[str, str]], typed: str, taken: Iterable[str] = ()
) -> list[tuple[str, str]]:
    skipped = set(taken)
    return [(name, text) for name, text in names if name.startswith(typed) and name not in skipped]


def _ids(entries: list[TrashEntry], typed: str) -> list[CompletionItem]:
    from syncd.cli.trash_entries import short_ids

    names = short_ids(entry.id for entry in entries)
    return [
        CompletionItem(names[entry.id], help=visible(entry.path))
        for entry in entries
        if entry.id.startswith(typed.lower())
    ]


def _trash_entries(config: Config) -> list[TrashEntry]:
    """Return the entries, the newest first."""
    from syncd.cli.trash_entries import trash_of

    return trash_of(config).entries()[::-1]


def _mirrored_paths(config: Config) -> list[str]:
    """Return the destinations of all jobs, as recorded and as listed, in order."""
    from syncd.store.access import check_process_may_read
    from syncd.stored_jobs import open_store

    listed = [rule.to + "/" * rule.directory for job in config.jobs.values() for rule in job.paths]
    recorded: list[str] = []
    try:
        check_process_may_read(config.state, group_may_read=True)
        store = open_store(config, read_only=True)
    except SyncdError:
        return sorted(listed)
    try:
        for job in config.jobs:
            recorded += store.load_ledger(job)
    finally:
        store.close()
    recorded.sort()
    unwritten = {path for path in listed if not _is_begun(recorded, path)}
    return sorted(path for path in {*recorded, *unwritten} if visible(path) == path)


def _is_begun(paths: list[str], start: str) -> bool:
    """Return whether one of the sorted paths begins so."""
    place = bisect_left(paths, start)
    return place < len(paths) and paths[place].startswith(start)


def _read(context: click.Context, wanted: Callable[[Config], list[T]]) -> list[T]:
    """Return what is wanted of the configuration; nothing where anything is wrong."""
    from syncd.config.load import find_config, load_with_positions

    settings = context.find_object(Settings)
    if settings is None:
        return []
    logging.disable()
    try:
        file = find_config(settings.config, settings.environ)
        return wanted(load_with_positions(file, settings.environ)[0])
    except (SyncdError, OSError):
        return []


__all__ = [
    "complete_entry",
    "complete_id",
    "complete_identity",
    "complete_job",
    "complete_login",
    "complete_path",
]
