"""`syncd backup`: copies the store into one file while syncd runs, and restores such a copy."""

from __future__ import annotations

import os
import posixpath
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

import click

from syncd import __version__
from syncd.cli.common import Settings, emit
from syncd.cli.trash import size_of
from syncd.clock import SystemClock
from syncd.config.model import Config
from syncd.config.protected import protected_paths
from syncd.errors import ConfigError, StoreError
from syncd.identities import LoginIdentity
from syncd.models import Job, PathRule
from syncd.output import echo
from syncd.policies import Publish
from syncd.protected_paths import canonical, identity_of
from syncd.safe_open import replace_file
from syncd.store.backup import Backup, Origin, Restored, make_backup, restore_backup
from syncd.store.schema import VERSION
from syncd.stored_jobs import real_path_of
from syncd.text import json_text, one_line

SCHEMA = "syncd.backup/1"
MODE = 0o600


@click.command(name="backup", short_help="A copy of the store in one file, and the way back.")
@click.argument("file", type=click.Path(dir_okay=False, readable=False, path_type=Path))
@click.option("--restore", is_flag=True, help="Put the backup FILE in the place of the store.")
@click.option(
    "--force",
    is_flag=True,
    help="Replace FILE; with --restore, the present store, which is kept under another name.",
)
@click.option("--json", "as_object", is_flag=True, help=f"Print one JSON object (schema {SCHEMA}).")
@click.pass_obj
def command(settings: Settings, file: Path, restore: bool, force: bool, as_object: bool) -> int:
    """Copy what syncd knows (ledger, history, pauses, accepted commits) into FILE, also while the
    daemon runs. FILE is private (0600) and holds no secret: no key, token or login.

    With --restore, put the copy back, on this machine or another one. Stop the daemon first.
    """
    config = settings.load() if restore else settings.load_read_only()
    if restore:
        done = restore_backup(config.state, config.state_group, file, force)
        shown, lines = _fields(file, done.backup, config), _restored(config, done)
        shown |= {"restored_to": str(config.state), "former_store": done.former}
    else:
        backup, size = _write(config, settings.environ, file, force)
        shown = _fields(file, backup, config) | {"size": size}
        lines = _written(config, file, backup, size)
    if as_object:
        echo(json_text(shown))
        return 0
    for line in lines:
        emit(settings, line)
    return 0


def _write(
    config: Config, environ: Mapping[str, str], file: Path, force: bool
) -> tuple[Backup, int]:
    """Write the backup; return what it says of itself, and its size in bytes."""
    _refuse_place(config, environ, os.path.abspath(file))
    if os.path.lexists(file) and not force:
        raise _file_exists(file)
    origin = Origin(SystemClock().now(), socket.gethostname(), __version__)
    content, backup = make_backup(config.state, origin)
    try:
        replace_file(file, content, MODE, overwrite=force, sync=True)
    except FileExistsError as error:
        raise _file_exists(file) from error
    except OSError as error:
        raise StoreError(
            f"the backup {file} can't be written: {error.strerror}",
            id="store/backup-not-written",
            hint="name a file in a folder that exists, has room, and that this user may write to",
        ) from error
    return backup, len(content)


def _file_exists(file: Path) -> ConfigError:
    return ConfigError(
        f"{file} is there already, and stays as it is",
        id="config/backup-exists",
        hint="name another file, or replace it with --force",
    )


def _refuse_place(config: Config, environ: Mapping[str, str], path: str) -> None:
    """Raise ConfigError where the path is syncd's own, or in a folder that a job writes to."""
    protected = protected_paths(config, environ)
    real = canonical(real_path_of(path), protected.identities, identity_of)
    place = protected.find(real)
    taken = None if place is None else place.what
    for job in config.jobs.values():
        for rule in job.paths:
            if taken is None and _is_in(job, rule, (path, real)):
                taken = f"in {rule.to}, which {job.name} mirrors"
    if taken is not None:
        raise ConfigError(
            f"{path} is {taken}: no backup is written there",
            id="config/backup-place",
            hint="name a file elsewhere",
        )


def _is_in(job: Job, rule: PathRule, paths: tuple[str, ...]) -> bool:
    """Return whether one of the spellings of a path is the rule's file, or below its folder."""
    folder = posixpath.dirname(rule.to) if job.publish is Publish.SYMLINK else rule.to
    for to in (folder, real_path_of(folder)):
        if any(path == to or (rule.directory and path.startswith(f"{to}/")) for path in paths):
            return True
    return False


def _logins(config: Config) -> list[str]:
    return [name for name, one in config.identities.items() if isinstance(one, LoginIdentity)]


def _fields(file: Path, backup: Backup, config: Config) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "file": str(file),
        "created_at": backup.created_at,
        "host": backup.host,
        "syncd": backup.syncd,
        "store": backup.store,
        "jobs": backup.jobs,
        "files": backup.files,
        "logins_left_out": _logins(config),
    }


def _written(config: Config, file: Path, backup: Backup, size: int) -> list[str]:
    lines = [
        f"✓ {one_line(str(file))} holds the store: {_counts(backup)}, {size_of(size)}",
        "  not in it: the configuration, keys and tokens, the trash, and cached contents",
    ]
    if logins := _logins(config):
        lines.append(f"  nor the logins ({', '.join(logins)}): after a restore, log in again")
    return [*lines, f"→ to restore it: syncd backup --restore {shlex.quote(str(file))}"]


def _restored(config: Config, done: Restored) -> list[str]:
    backup = done.backup
    migrated = "" if backup.store == VERSION else f", schema {backup.store} brought to {VERSION}"
    lines = [
        f"✓ the store is as it was at {backup.created_at} on {one_line(backup.host)}: "
        f"{_counts(backup)}{migrated}"
    ]
    if done.former is not None:
        lines.append(f"  the one before is kept as {config.state / done.former}")
    lines += [
        f"→ syncd login {name}" for name in _logins(config) if not _is_logged_in(config, name)
    ]
    return [*lines, "→ syncd plan"]


def _is_logged_in(config: Config, name: str) -> bool:
    from syncd.store.oauth_tokens import OAuthTokenFile

    return OAuthTokenFile(config.state, name).file.exists()


def _counts(backup: Backup) -> str:
    jobs = "1 job" if backup.jobs == 1 else f"{backup.jobs:,} jobs"
    return f"{jobs}, {'1 file' if backup.files == 1 else f'{backup.files:,} files'}"
