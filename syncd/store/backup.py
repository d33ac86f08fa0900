"""Copies the store into one file while it is in use, and puts such a copy in its place.

A backup is a tar file: `backup.json` says what it is and has the SHA-256 of each other member,
`syncd.db` is the database as it was at one moment, and `accepted/JOB` are the accepted commits,
which have to outlive the database. Secrets are not in it: a login's refresh token works once, so
that an old copy of it would end the login. Neither are blobs, which GitHub has, nor the trash,
which is content of the machine and no record of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection, delete

from syncd.cache_file import remove_cache
from syncd.errors import StoreError
from syncd.fastpath.check import NAME as SNAPSHOT
from syncd.fastpath.record import next_counter
from syncd.private_file import replace_private_file
from syncd.store.accepted_commits import DIRECTORY as ACCEPTED
from syncd.store.accepted_commits import AcceptedCommits
from syncd.store.access import check_process_is_owner, make_state_folder, set_access
from syncd.store.corruption import FAILURES, is_file_damaged, store_error
from syncd.store.foreign_store import copy_into
from syncd.store.location import opening_lock, refuse_network_filesystem
from syncd.store.lock import every_lock
from syncd.store.migrate import migrate, version_of
from syncd.store.schema import BACKOFF, HEARTBEAT, NOTIFICATION, VERSION
from syncd.store.sqlite import BUSY_SECONDS, disconnect, driver_of, open_store, transaction
from syncd.store.store import FILE_NAME

FORMAT = "syncd.backup/1"
SUMMARY, DATABASE = "backup.json", FILE_NAME
MAX_SUMMARY_BYTES = 16 << 20
# What the daemon of another time or machine noted: it runs no more, and has sent its messages.
FORGOTTEN_TABLES = (HEARTBEAT, BACKOFF, NOTIFICATION)


class Backup(Struct, frozen=True):
    """What a backup says of itself.

    `created_at` is RFC 3339 in UTC, `store` the schema's version.
    """

    created_at: str
    host: str
    syncd: str
    store: str
    jobs: int
    files: int
    accepted: tuple[str, ...] = ()


class Restored(Struct, frozen=True):
    """What was restored, and the name that the store before has now, if there was one."""

    backup: Backup
    former: str | None


class Origin(Struct, frozen=True):
    """When, where and by which version of syncd a backup is made."""

    now: datetime
    host: str
    version: str


def make_backup(state_dir: Path, origin: Origin) -> tuple[bytes, Backup]:
    """Return the content of a backup, and what it says of itself. Nothing in the state changes.

    Raises StoreError.
    """
    file = state_dir / DATABASE
    if not file.exists():
        raise StoreError(
            f"there is no store {file} yet",
            id="store/nothing-to-back-up",
            hint="the first syncd sync makes it",
        )
    database, counts = _copy_of(file)
    accepted = _accepted_commits(state_dir)
    backup = Backup(
        origin.now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        origin.host,
        origin.version,
        *counts,
        tuple(sorted(accepted)),
    )
    members = {DATABASE: database, **{f"{ACCEPTED}/{job}": raw for job, raw in accepted.items()}}
    return _packed(members, backup, origin.now), backup


def _copy_of(file: Path) -> tuple[bytes, tuple[str, int, int]]:
    """Return the database at one moment, its schema, and how many jobs and files it has."""
    with closing(sqlite3.connect(":memory:")) as memory:
        try:
            copy_into(memory, file)
            if memory.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise _damaged_store(file)
            ((version,),) = memory.execute("SELECT version_num FROM alembic_version").fetchall()
            ((jobs, files),) = memory.execute(
                "SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM file)"
            ).fetchall()
        except ValueError as error:  # not one row that says its version
            raise _damaged_store(file) from error
        except FAILURES as error:
            raise store_error(error, file) from error
        return memory.serialize(), (str(version), int(jobs), int(files))


def _damaged_store(file: Path) -> StoreError:
    return StoreError(
        f"the store {file} is damaged, and no backup was made of it",
        id="store/backup-of-damaged-store",
        hint="the next syncd sync sets it aside and creates a new one; then try again",
    )


def _accepted_commits(state_dir: Path) -> dict[str, bytes]:
    """Return the valid files of accepted commits, by job."""
    folder, known = state_dir / ACCEPTED, AcceptedCommits(state_dir, read_only=True)
    with suppress(FileNotFoundError):
        jobs = [name for name in os.listdir(folder) if known.load(name) is not None]
        return {job: (folder / job).read_bytes() for job in jobs}
    return {}


def _packed(members: Mapping[str, bytes], backup: Backup, now: datetime) -> bytes:
    """Return a tar file of the summary and the members."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    fields = {name: getattr(backup, name) for name in backup.__struct_fields__}
    summary = json.dumps({"schema": FORMAT, **fields, "sha256": sums}, indent=1).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {SUMMARY: summary, **members}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(now.timestamp())
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


# --- restoring ------------------------------------------------------------------------------------


def restore_backup(state_dir: Path, group: str | None, file: Path, force: bool) -> Restored:
    """Put the store of the backup in the place of the present one, while no run uses it.

    The present one is kept under another name, and only replaced with `force`. An accepted commit
    that this machine knows stays. Raises StoreError, LockedError, NotOwnerError.
    """
    check_process_is_owner(state_dir)
    backup, members = read_backup(file)
    store = state_dir / DATABASE
    refuse_network_filesystem(store)
    try:
        make_state_folder(state_dir)
        set_access(state_dir, group)
        with every_lock(state_dir), opening_lock(store, BUSY_SECONDS):
            if store.exists() and not force:
                raise _store_exists(store)
            new = state_dir / f"{DATABASE}.new"
            _prepare(new, members[DATABASE], file)
            remove_cache(str(state_dir / SNAPSHOT))
            former = _set_aside(store)
            os.replace(new, store)
            _restore_accepted(state_dir, members)
    except OSError as error:
        raise StoreError(
            f"the store in {state_dir} can't be restored: {error.strerror}",
            id="store/not-restored",
            hint="check the disk of the state folder, and try again",
        ) from error
    return Restored(backup, former)


def _store_exists(store: Path) -> StoreError:
    return StoreError(
        f"{store} is there already, and stays as it is",
        id="store/restore-over-store",
        hint="to put the backup in its place: --force; the present one is kept under another name",
    )


def read_backup(file: Path) -> tuple[Backup, dict[str, bytes]]:
    """Return what a backup says of itself, and its checked members. Raises StoreError."""
    try:
        with tarfile.open(file, "r:") as archive:
            summary = json.loads(_member(archive, SUMMARY, MAX_SUMMARY_BYTES))
            if summary.pop("schema") != FORMAT:
                raise ValueError("it has another format")
            sums = summary.pop("sha256")
            members = {name: _member(archive, name, os.path.getsize(file)) for name in sums}
        for name, content in members.items():
            if hashlib.sha256(content).hexdigest() != sums[name]:
                raise ValueError(f"{name} is damaged")
        members[DATABASE]
        backup = Backup(**{**summary, "accepted": tuple(summary["accepted"])})
    except OSError as error:
        raise StoreError(
            f"the backup {file} can't be read: {error.strerror or error}",
            id="store/backup-not-readable",
            hint="name a file that `syncd backup FILE` wrote",
        ) from error
    except (tarfile.TarError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{file} is no backup that can be restored: {error}",
            id="store/not-a-backup",
            hint="name another file that `syncd backup FILE` wrote; nothing was changed",
        ) from error
    return backup, members


def _member(archive: tarfile.TarFile, name: str, max_bytes: int) -> bytes:
    """Return the content of a regular file in the archive. Raises KeyError, ValueError."""
    entry = archive.getmember(name)
    opened = archive.extractfile(entry) if entry.isreg() and entry.size <= max_bytes else None
    if opened is None:
        raise ValueError(f"{name} is no file, or too large")
    return opened.read()


def _prepare(new: Path, database: bytes, backup: Path) -> None:
    """Write the database to `new`, check it, and bring it to this version.

    Raises StoreError, OSError; `new` does not exist then.
    """
    try:
        replace_private_file(new, database)
        connection = open_store(str(new))
        try:
            _make_current(connection)
            if is_file_damaged(driver_of(connection)):
                raise StoreError(
                    f"the store in {backup} is damaged",
                    id="store/not-a-backup",
                    hint="name another file that `syncd backup FILE` wrote; nothing was changed",
                )
        finally:
            disconnect(connection)
        with open(new, "rb") as written:
            os.fsync(written.fileno())
    except FAILURES as error:
        _remove(new)
        raise store_error(error, backup) from error
    except BaseException:
        _remove(new)
        raise


def _make_current(connection: Connection) -> None:
    """Migrate the store, forget what concerns another daemon, and begin a new write counter."""
    connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    with transaction(connection):
        version = version_of(connection)
        if version != VERSION:
            migrate(connection, version)
        for table in FORGOTTEN_TABLES:
            connection.execute(delete(table))
        connection.exec_driver_sql(f"PRAGMA user_version = {next_counter(0)}")


def _remove(new: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)


def _set_aside(store: Path) -> str | None:
    """Rename the present store and its journal; return its new name, None where there is none."""
    if not store.exists():
        return None
    former = f"{store.name}.replaced-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    Path(f"{store}-shm").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        os.replace(f"{store}-wal", store.with_name(f"{former}-wal"))
    os.replace(store, store.with_name(former))
    return former


def _restore_accepted(state_dir: Path, members: Mapping[str, bytes]) -> None:
    """Write the accepted commit of each job that has none here."""
    known = AcceptedCommits(state_dir)
    folder = state_dir / ACCEPTED
    for name, content in members.items():
        above, _, job = name.rpartition("/")
        if above == ACCEPTED and job not in ("", ".", "..") and known.load(job) is None:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            replace_private_file(folder / job, content)


__all__ = ["Backup", "Origin", "Restored", "make_backup", "read_backup", "restore_backup"]
