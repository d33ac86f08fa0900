"""`syncd trash`: what was overwritten, and the way back."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import click

from syncd.cli.common import Settings, emit, say
from syncd.cli.completions import complete_entry, complete_id
from syncd.cli.table import table, width
from syncd.cli.trash_entries import below, find_by_id, find_entry, short_ids, trash_of, why
from syncd.cli.trash_restore import restore_entry
from syncd.config.value_types import duration
from syncd.diff import readable_by_all
from syncd.errors import ConfigError, MirrorError
from syncd.mirror.restore import check_whole
from syncd.mirror.trash import Trash, TrashEntry
from syncd.output import confirm, echo, echo_bytes
from syncd.store.access import check_process_is_owner
from syncd.text import json_text, one_line

CHUNK_BYTES = 1 << 20
HEADING = ("ID", "REPLACED", "FILE", "SIZE", "JOB", "WHY")


@click.group(name="trash", short_help="What was overwritten, and the way back.")
def command() -> None:
    """Show, restore and remove what syncd replaced without having written it.

    Only the owner of the state may use the trash; root may look.
    """


@command.command(name="list", short_help="What there is, the newest first.")
@click.argument("path", required=False, shell_complete=complete_entry)
@click.option(
    "--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.trash/1)."
)
@click.pass_obj
def list_command(settings: Settings, path: str | None, as_object: bool) -> int:
    """Show what is in the trash, the newest first: of everything, of one file, or of all that is
    below a folder.
    """
    trash = trash_of(settings.load_read_only())
    entries = trash.entries()
    chosen = entries if path is None else below(entries, path)
    chosen = chosen[::-1]
    if as_object:
        echo(json_text({"schema": "syncd.trash/1", "entries": [_row(one) for one in chosen]}))
        return 0
    if not chosen:
        nothing = "The trash is empty." if path is None else f"Nothing of {one_line(path)}."
        emit(settings, nothing)
        return 0
    names = short_ids(trash.ids())
    for line in _lines(chosen, names):
        emit(settings, line)
    emit(settings, f"→ syncd trash restore {names[chosen[0].id]}")
    return 0


def _row(entry: TrashEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "path": entry.path,
        "job": entry.job or None,
        "replaced_at": f"{entry.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "kind": entry.kind.value,
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "blob": entry.content,
        "why": why(entry) or None,
    }


def _lines(entries: Sequence[TrashEntry], names: dict[str, str]) -> list[str]:
    """Return the table, or on a terminal that is too narrow for it two lines for each entry."""
    rows = [
        (
            names[entry.id],
            f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z",
            one_line(entry.path),
            size_of(entry.size),
            entry.job or "-",
            why(entry) or "-",
        )
        for entry in entries
    ]
    lines = table([HEADING, *rows])
    if not sys.stdout.isatty() or max(map(width, lines)) <= shutil.get_terminal_size().columns:
        return lines
    short = table([(row[0], row[1], *row[3:]) for row in (HEADING, *rows)])
    indent = " " * (max(len(row[0]) for row in rows) + 2)
    files = [f"{indent}{row[2]}" for row in (HEADING, *rows)]
    return [line for pair in zip(short, files, strict=True) for line in pair]


def size_of(size_bytes: int) -> str:
    """Return a size for people, as `512 B` or `5 KB`."""
    size, unit = float(size_bytes), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"


@command.command(name="show", short_help="Print what one entry holds.")
@click.argument("entry", metavar="ID|PATH", shell_complete=complete_entry)
@click.option("--show-secrets", is_flag=True, help="Also of a file that not everyone may read.")
@click.pass_obj
def show(settings: Settings, entry: str, show_secrets: bool) -> int:
    """Print the content of an entry: of a path, the one that was replaced last."""
    trash = trash_of(settings.load_read_only())
    found = _found(settings, trash, entry)
    if not show_secrets and not readable_by_all(found.mode):
        raise MirrorError(
            f"{found.path} had mode {found.mode:04o}: not everyone may read it",
            id="mirror/trash-not-shown",
            path=found.path,
            hint=f"to show it: syncd trash show {found.id} --show-secrets",
        )
    check_whole(trash, found)
    echo_bytes(_chunks(trash, found))
    return 0


def _chunks(trash: Trash, entry: TrashEntry) -> Iterator[bytes]:
    with open(trash.content_of(entry), "rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            yield chunk


def _found(settings: Settings, trash: Trash, word: str) -> TrashEntry:
    """Return the entry, and say where a path has several. Raises MirrorError."""
    entry, others = find_entry(trash.entries(), word)
    if others:
        name = short_ids(trash.ids())[entry.id]
        say(settings, f"{name} is the newest of {others + 1} entries of {one_line(entry.path)}")
        say(settings, f"  the others → syncd trash list {one_line(shlex.quote(word))}")
    return entry


@command.command(name="restore", short_help="Put an entry back.")
@click.argument("entry", metavar="ID|PATH", shell_complete=complete_entry)
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Write it there instead of to its own path.",
)
@click.pass_obj
def restore(settings: Settings, entry: str, to: str | None) -> int:
    """Write an entry back to its path, with its mode and owner: of a path, the one that was
    replaced last. What is there now goes into the trash first. Exit 11 while the job runs.
    """
    config = settings.load()
    check_process_is_owner(config.state)
    found = _found(settings, trash_of(config), entry)
    for line in restore_entry(config, settings.environ, found, to):
        emit(settings, line)
    return 0


@command.command(name="purge", short_help="Remove entries for good.")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_id)
@click.option(
    "--older-than",
    metavar="7d",
    help="All that were replaced longer ago than this (like 12h or 7d).",
)
@click.option("--all", "everything", is_flag=True, help="All entries.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(
    settings: Settings, ids: tuple[str, ...], older_than: str | None, everything: bool, yes: bool
) -> int:
    """Remove the named entries, the old ones, or all. It cannot be undone, so it asks first."""
    if sum((bool(ids), older_than is not None, everything)) != 1:
        raise click.UsageError("say which: ids, --older-than 7d, or --all")
    config = settings.load()
    check_process_is_owner(config.state)
    trash = trash_of(config)
    entries = trash.entries()
    if ids:
        chosen = list({one.id: one for one in (find_by_id(entries, id) for id in ids)}.values())
    else:
        chosen = entries if older_than is None else _older(entries, older_than)
    if not chosen:
        emit(settings, "Nothing to remove.")
        return 0
    what = f"{_entries(len(chosen))}, {size_of(sum(one.size for one in chosen))}"
    if not yes and not _agreed(f"Remove {what} for good?"):
        emit(settings, "Nothing was removed.")
        return 0
    _remove(trash, chosen)
    emit(settings, f"Removed {what}.")
    return 0


def _remove(trash: Trash, entries: Sequence[TrashEntry]) -> None:
    """Remove the entries. Raises MirrorError."""
    try:
        trash.remove(entries)
    except OSError as error:
        raise MirrorError(
            f"the entries can't be removed from {trash.directory}: {error.strerror or error}",
            id="mirror/purge-failed",
            path=str(trash.directory),
            hint="the state folder must be on a disk that syncd may write to",
        ) from error


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number:,} entries"


def _older(entries: Sequence[TrashEntry], age: str) -> list[TrashEntry]:
    """Return the entries whose shown time is that long ago. Raises BadParameter."""
    try:
        before = datetime.now(UTC) - timedelta(seconds=duration(age))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"'{age}' is not a duration; write it like 30s, 5m, 1h30m or 1d",
            param_hint="--older-than",
        ) from error
    return [entry for entry in entries if entry.at <= before]


def _agreed(question: str) -> bool:
    """Ask on a terminal. Raises ConfigError where there is none."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "trash purge asks before it removes anything, and there is no terminal to ask on",
            id="config/purge-needs-yes",
            hint="say it with --yes",
        )
    return confirm(question)
