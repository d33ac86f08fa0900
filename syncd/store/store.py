"""What we applied, what we are about to apply, and what we know of each job: one transaction per meaning.

The ledger is by absolute destination, so a file has one owner whatever the configuration says. Rows that don't match their seal
are left out: memory that is lost costs time, never files.
"""

from __future__ import annotations

import os
import pwd
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Table, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from syncd.engine.ports import AppliedSet, Head, Intent, JobState, Result
from syncd.errors import StoreError
from syncd.models import Change, Recorded, RunStatus, TreeEntry
from syncd.objects import is_object_id
from syncd.store import outbox, rows, runs, schema
from syncd.store.accepted import AcceptedHeads
from syncd.store.database import Database
from syncd.store.schema import is_whole, seal

T = TypeVar("T")

SETS_KEPT = 5
LISTINGS_KEPT = 200
LISTINGS_BYTES_KEPT = 64 << 20
FORGET_LISTINGS = """
DELETE FROM listing WHERE rowid NOT IN (
    SELECT rowid FROM (SELECT rowid, row_number() OVER latest AS place, sum(length(body)) OVER latest - length(body) AS newer FROM listing WINDOW latest AS (ORDER BY rowid DESC))
    WHERE place <= ? AND newer < ?)"""
FILE = "syncd.db"


class SqliteStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._accepted = AcceptedHeads(database.file.parent if database.file is not None else None)

    @classmethod
    def open(cls, state_dir: Path) -> SqliteStore:
        """The store in `state_dir`, made (0700, 0600) or migrated when needed. Raises StoreError naming who may open it."""
        try:
            os.makedirs(state_dir, mode=0o700, exist_ok=True)
            refuse_stranger(state_dir)
            os.chmod(state_dir, 0o700)
        except OSError as error:
            raise StoreError(f"can't use the state folder {state_dir}: {error.strerror}", hint="set state: to a folder this user owns, or run syncd as its owner") from error
        return cls(Database(state_dir / FILE))

    @classmethod
    def peek(cls, state_dir: Path) -> SqliteStore:
        """The store for a command that only looks: an empty one in memory where none was made yet."""
        if (state_dir / FILE).exists():
            return cls.open(state_dir)
        return cls(Database(None))

    @property
    def file(self) -> Path:
        """Where it is. Raises StoreError for one in memory."""
        if self._database.file is None:
            raise StoreError("this store has no file")
        return self._database.file

    def counter(self) -> int:
        """A number that every write changes."""
        return self._database.counter()

    @property
    def notes(self) -> list[str]:
        return self._database.notes

    def close(self) -> None:
        self._database.close()

    # --- states -------------------------------------------------------------------------------------------------------

    def state(self, job: str) -> JobState:
        found = self._database.read(lambda connection: _state(connection, job)) or JobState()
        accepted = self._accepted.read(job)
        return found if accepted is None else replace(found, trusted_for=accepted[0], trusted_commit=accepted[1])

    def vouch(self, job: str, state: JobState, begin: bool) -> None:
        if state.trusted_for is not None and state.trusted_commit is not None:
            self._accepted.keep(job, state.trusted_for, state.trusted_commit, begin)

    def applied_before(self, job: str, commit: str) -> bool:
        query = select(schema.run.c.id).where(schema.run.c.job == job, schema.run.c.commit == commit, schema.run.c.status == RunStatus.CHANGED.value).limit(1)
        return self._database.read(lambda connection: connection.execute(query).first()) is not None

    def states(self, jobs: Iterable[str]) -> dict[str, JobState]:
        """The states of those jobs that the store knows, read at one moment."""
        asked = set(jobs)

        def query(connection: Connection) -> dict[str, JobState]:
            return {row.name: _read_state(row.name, row) for row in connection.execute(select(schema.job)).all() if row.name in asked}

        return self._database.read(query)

    def file_counts(self) -> dict[str, int]:
        """Job -> how many destinations the ledger names."""
        counted = select(schema.file.c.job, func.count()).group_by(schema.file.c.job)
        return {job: count for job, count in self._database.read(lambda connection: connection.execute(counted).all()) if isinstance(job, str)}

    def jobs(self) -> list[str]:
        """Every job the store knows."""
        return [str(name) for (name,) in self._database.read(lambda connection: connection.execute(select(schema.job.c.name).order_by(schema.job.c.name)).all())]

    def change_state(self, job: str, change: Callable[[JobState], JobState]) -> JobState:
        """One read-modify-write of a job's state."""

        def work(connection: Connection) -> JobState:
            after = change(_state(connection, job) or JobState())
            _put_state(connection, job, after)
            return after

        return self._database.write(work)

    def tell(self, job: str, before: str | None, after: str | None, identity: str, bodies: Mapping[str, str], now: datetime) -> bool:
        """The job is told as `after` from now on, and these bodies, by endpoint, wait to be sent: one transaction.

        False, and nothing was written, when somebody else has told of it since it was told as `before`.
        """

        def work(connection: Connection) -> bool:
            state = _state(connection, job) or JobState()
            if state.told != before:
                return False
            _put_state(connection, job, replace(state, told=after))
            outbox.put(connection, job, identity, bodies, now.timestamp())
            return True

        return self._database.write(work)

    @property
    def outbox(self) -> outbox.Outbox:
        return outbox.Outbox(self._database)

    def look_after(self, jobs: Mapping[str, tuple[JobState, datetime]]) -> None:
        """Each of these jobs was found as it should be at that time, and the store says so: unless its state is another one by now."""

        def work(connection: Connection) -> None:
            found = connection.execute(select(schema.job).where(schema.job.c.name.in_(list(jobs)))).all()
            values = []
            for row in found:
                (expected, at), now = jobs[row.name], _read_state(row.name, row)
                if replace(now, last_run_at=None, last_success_at=None) == replace(expected, last_run_at=None, last_success_at=None):
                    text = rows.state_to_text(replace(now, last_run_at=at, last_success_at=at))
                    values.append({"name": row.name, "state": text, "seal": seal(row.name, text)})
            if values:
                statement = insert(schema.job)
                connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"state": statement.excluded.state, "seal": statement.excluded.seal}), values)

        if jobs:
            self._database.write(work)

    def forget(self, job: str) -> int:
        """Nothing is known of the job any more; its files stay. How many ledger rows went."""

        def work(connection: Connection) -> int:
            count = connection.execute(delete(schema.file).where(schema.file.c.job == job)).rowcount
            connection.execute(delete(schema.job).where(schema.job.c.name == job))
            for table in (schema.folder, schema.intent, schema.applied_set):
                connection.execute(delete(table).where(table.c.job == job))
            return count

        self._accepted.forget(job)
        return self._database.write(work)

    # --- the ledger ---------------------------------------------------------------------------------------------------

    def recorded(self, job: str) -> dict[str, Recorded]:
        query = select(schema.file.c.path, schema.file.c.row, schema.file.c.seal).where(schema.file.c.job == job)
        found = self._database.read(lambda connection: connection.execute(query).all())
        return {path: recorded for path, row, mark in found if (recorded := _recorded(job, path, row, mark)) is not None}

    def owners(self, paths: Iterable[str]) -> dict[str, str]:
        wanted = list(paths)

        def query(connection: Connection) -> dict[str, str]:
            found: dict[str, str] = {}
            for start in range(0, len(wanted), 500):
                chosen = select(schema.file).where(schema.file.c.path.in_(wanted[start : start + 500]))
                found.update((path, job) for path, job, row, mark in connection.execute(chosen) if _recorded(job, path, row, mark) is not None)
            return found

        return self._database.read(query) if wanted else {}

    def folders(self, job: str) -> frozenset[str]:
        query = select(schema.folder.c.path, schema.folder.c.seal).where(schema.folder.c.job == job)
        return frozenset(path for path, mark in self._database.read(lambda connection: connection.execute(query).all()) if is_whole(mark, job, path))

    # --- intent and record --------------------------------------------------------------------------------------------

    def intent(self, job: str) -> Intent | None:
        """The interrupted plan of the job. A damaged one is dropped, and the job marked unsettled: the next plan looks at everything."""
        found = self._database.read(lambda connection: connection.execute(select(schema.intent).where(schema.intent.c.job == job)).first())
        if found is None:
            return None
        try:
            if is_whole(found.seal, job, found.body):
                return rows.intent_from_text(found.body)
        except (ValueError, TypeError):
            pass
        self._database.write(lambda connection: connection.execute(delete(schema.intent).where(schema.intent.c.job == job)))
        self.change_state(job, lambda state: replace(state, settled=False))
        return None

    def intend(self, intent: Intent, state: JobState) -> None:
        body = rows.intent_to_text(intent)

        def work(connection: Connection) -> None:
            _put(connection, schema.intent, {"job": intent.job, "body": body, "seal": seal(intent.job, body)})
            now = _state(connection, intent.job) or JobState()
            known = replace(state, paused_until=now.paused_until, paused_reason=now.paused_reason, held=now.held, told=now.told)
            _put_state(connection, intent.job, replace(known, settled=False, hook_owed=state.hook_owed or intent.owes_hook))

        self._database.write(work)

    def record(self, job: str, result: Result) -> None:
        """The run is in the ledger and the history, and its intent is gone: one transaction."""

        def work(connection: Connection) -> None:
            if result.upserts:
                values = [{"path": path, "job": job, "row": (row := rows.recorded_to_text(recorded)), "seal": seal(job, path, row)} for path, recorded in result.upserts.items()]
                statement = insert(schema.file)
                connection.execute(
                    statement.on_conflict_do_update(index_elements=["path"], set_={"job": statement.excluded.job, "row": statement.excluded.row, "seal": statement.excluded.seal}), values
                )
            _delete_paths(connection, schema.file, job, result.removals)
            _delete_paths(connection, schema.folder, job, result.folders_removed)
            for folder in result.folders_made:
                _put(connection, schema.folder, {"path": folder, "job": job, "seal": seal(job, folder)})
            connection.execute(delete(schema.intent).where(schema.intent.c.job == job))
            now = _state(connection, job) or JobState()  # paused or resumed by hand, or told of, while the run went on
            _put_state(connection, job, replace(result.state, paused_until=now.paused_until, paused_reason=now.paused_reason, held=now.held or result.state.held, told=now.told))
            if result.applied and result.report.commit:
                self._keep_set(connection, job, result)
            if result.withdrawn:
                newest = select(schema.applied_set.c.id).where(schema.applied_set.c.job == job).order_by(schema.applied_set.c.id.desc()).limit(1).scalar_subquery()
                connection.execute(delete(schema.applied_set).where(schema.applied_set.c.id == newest, schema.applied_set.c.commit == result.withdrawn))
            runs.add(connection, result.report)

        self._database.write(work)

    def _keep_set(self, connection: Connection, job: str, result: Result) -> None:
        files = {}
        for path, row, mark in connection.execute(select(schema.file.c.path, schema.file.c.row, schema.file.c.seal).where(schema.file.c.job == job)):
            with suppress(ValueError, TypeError):
                if is_whole(mark, job, path, row) and (upstream := rows.upstream_of(row)) is not None:
                    files[path] = upstream
        body = rows.files_to_bytes(files)
        commit, at = result.report.commit or "", (result.state.last_run_at or datetime.now().astimezone()).isoformat()
        values = {"job": job, "commit": commit, "digest": result.state.applied_digest or "", "applied_at": at, "pinned": 0, "files": body, "seal": seal(job, commit, body)}
        table = schema.applied_set
        newest = connection.execute(select(table.c.id, table.c.commit, table.c.files).where(table.c.job == job).order_by(table.c.id.desc()).limit(1)).first()
        if newest is not None and newest.commit == commit:
            connection.execute(table.update().where(table.c.id == newest.id).values(**values))
        else:
            connection.execute(insert(table).values(**values))
        kept = [identity for (identity,) in connection.execute(select(table.c.id).where(table.c.job == job, table.c.pinned == 0).order_by(table.c.id.desc()).limit(SETS_KEPT))]
        connection.execute(delete(table).where(table.c.job == job, table.c.pinned == 0, table.c.id.not_in(kept)))

    def sets(self, job: str) -> list[AppliedSet]:
        """The last sets that stood whole, newest first. Damaged ones are left out."""
        table = schema.applied_set
        found = self._database.read(lambda connection: connection.execute(select(table).where(table.c.job == job).order_by(table.c.id.desc())).all())
        result = []
        for row in found:
            try:
                if is_whole(row.seal, job, row.commit, body=row.files):
                    result.append(AppliedSet(row.id, job, row.commit, row.digest, datetime.fromisoformat(row.applied_at), bool(row.pinned), rows.files_from_bytes(row.files)))
            except (ValueError, TypeError, zlib.error):
                continue
        return result

    def pin(self, set_id: int, pinned: bool = True) -> None:
        table = schema.applied_set
        self._database.write(lambda connection: connection.execute(table.update().where(table.c.id == set_id).values(pinned=int(pinned))))

    def blobs_in_use(self) -> set[str]:
        """Every blob that the ledger, a kept set or a way back names: what the cache must not evict."""
        used: set[str] = set()
        for job in self._database.read(_jobs_with_files):
            used.update(blob for row in self.recorded(job).values() for blob in (row.entry.blob, row.upstream.blob))
            for one in self.sets(job):
                used.update(entry.blob for entry in one.files.values())
            state = self.state(job)
            used.update(state.undo_keeps, [state.undo] if state.undo else [])
        return used

    # --- history ------------------------------------------------------------------------------------------------------

    def history(self, job: str | None = None, path: str | None = None, limit: int = 20) -> list[rows.PastRun]:
        return self._database.read(lambda connection: runs.history(connection, job, path, limit))

    def changes_since(self, job: str, since: datetime) -> tuple[Change, ...]:
        return self._database.read(lambda connection: runs.changes_since(connection, job, since))

    # --- heads, listings, budgets -------------------------------------------------------------------------------------

    def head(self, scope: str, repo: str, ref: str | None) -> Head | None:
        table = schema.head
        query = select(table).where(table.c.scope == scope, table.c.repo == repo, table.c.ref == (ref or ""))
        row = self._database.read(lambda connection: connection.execute(query).first())
        if row is None or not is_whole(row.seal, *_head_values(scope, repo, ref, row.commit, row.etag, row.form)) or not is_object_id(row.commit):
            return None
        return Head(row.commit, row.etag, row.form)

    def see(self, scope: str, repo: str, ref: str | None, head: Head) -> None:
        values = {"scope": scope, "repo": repo, "ref": ref or "", "commit": head.commit, "etag": head.etag, "form": head.form}
        values["seal"] = seal(*_head_values(scope, repo, ref, head.commit, head.etag, head.form))
        self._database.write(lambda connection: _put(connection, schema.head, values))

    def recall(self, tree: str) -> Mapping[str, TreeEntry] | None:
        row = self._database.read(lambda connection: connection.execute(select(schema.listing).where(schema.listing.c.tree == tree)).first())
        try:
            if row is None or not is_whole(row.seal, tree, body=row.body):
                return None
            return rows.listing_from_bytes(row.body)
        except (ValueError, TypeError, zlib.error):
            return None

    def keep(self, tree: str, entries: Mapping[str, TreeEntry]) -> None:
        body = rows.listing_to_bytes(entries)

        def work(connection: Connection) -> None:
            table = schema.listing
            connection.execute(delete(table).where(table.c.tree == tree))
            connection.execute(insert(table).values(tree=tree, body=body, seal=seal(tree, body)))
            connection.exec_driver_sql(FORGET_LISTINGS, (LISTINGS_KEPT, LISTINGS_BYTES_KEPT))

        self._database.write(work)

    def see_budget(self, identity: str, limit: int | None, remaining: int | None, reset_at: datetime | None) -> None:
        values = {"identity": identity, "limit": limit, "remaining": remaining, "reset_at": reset_at.isoformat() if reset_at else None}
        self._database.write(lambda connection: _put(connection, schema.budget, values))

    def budgets(self) -> dict[str, rows.BudgetRow]:
        found = self._database.read(lambda connection: connection.execute(select(schema.budget)).all())
        return {row.identity: read for row in found if (read := rows.budget_from_row(row.identity, row.limit, row.remaining, row.reset_at)) is not None}


def refuse_stranger(state_dir: Path) -> None:
    """Raises StoreError when this process is not the state's owner: files it made would lock the owner out."""
    owner = os.stat(state_dir).st_uid
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise StoreError(f"the state folder {state_dir} belongs to {name}, and this is not {name}", hint=f"run it as its owner: sudo -u {name} syncd …")


def _state(connection: Connection, job: str) -> JobState | None:
    row = connection.execute(select(schema.job).where(schema.job.c.name == job)).first()
    return None if row is None else _read_state(job, row)


def _read_state(job: str, row: Row[Any]) -> JobState:
    """What the row says; that nothing is known, for a damaged one."""
    try:
        if is_whole(row.seal, job, row.state):
            return rows.state_from_text(row.state)
    except (ValueError, TypeError):
        pass
    return JobState(settled=False)


def _recorded(job: str, path: Any, row: Any, mark: Any) -> Recorded | None:
    """The ledger's row, or None for one that the disk has damaged, or that a version wrote which meant something else by it."""
    try:
        return rows.recorded_from_text(row) if is_whole(mark, job, path, row) else None
    except (ValueError, TypeError):
        return None


def _head_values(scope: str, repo: str, ref: str | None, commit: Any, etag: Any, form: Any) -> tuple[Any, ...]:
    """What a head's seal is over; None and "" are told apart."""
    return scope, repo, ref or "", commit, *("-" if value is None else f"={value}" for value in (etag, form))


def _jobs_with_files(connection: Connection) -> list[str]:
    """Every job that the ledger or a set names, whether or not its own row can be read."""
    named = select(schema.file.c.job).union(select(schema.applied_set.c.job))
    return [job for (job,) in connection.execute(named) if isinstance(job, str)]


def _put_state(connection: Connection, job: str, state: JobState) -> None:
    text = rows.state_to_text(state)
    _put(connection, schema.job, {"name": job, "state": text, "seal": seal(job, text)})


def _put(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """One row by primary key, made or replaced."""
    keys = [column.name for column in table.primary_key.columns]
    statement = insert(table).values(**values)
    rest = {name: statement.excluded[name] for name in values if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest) if rest else statement.on_conflict_do_nothing())


def _delete_paths(connection: Connection, table: Table, job: str, paths: Iterable[str]) -> None:
    gone = list(paths)
    for start in range(0, len(gone), 500):
        connection.execute(delete(table).where(table.c.job == job, table.c.path.in_(gone[start : start + 500])))



