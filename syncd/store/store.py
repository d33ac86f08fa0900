"""What we applied, what we are about to apply, and what we know of each job: one transaction per
meaning.

The ledger is by absolute destination, so a file has one owner whatever the configuration says. Rows
that don't match their seal are left out: memory that is lost costs time, never files.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace
from sqlalchemy import Connection, Select, delete, func, select, union, update

from syncd.errors import StoreError
from syncd.git_objects import is_object_id
from syncd.models import Change, LedgerRow, TreeEntry
from syncd.ports import AppliedSet, Head, Intent, JobState, OwnedRow, RunRecord
from syncd.store import (
    history,
    intents,
    ledger,
    listings,
    notification_queue,
    renames,
    serialization,
)
from syncd.store.accepted_commits import AcceptedCommits
from syncd.store.access import make_state_folder, refuse_stranger, set_access
from syncd.store.checksum import checksum, matches
from syncd.store.database import Database
from syncd.store.facts import Facts
from syncd.store.job_states import read_state, read_states, write_state
from syncd.store.read_ledgers import ReadLedgers, after
from syncd.store.schema import APPLIED_SET, DIRECTORY, FILE, HEAD, INTENT, JOB
from syncd.store.sqlite import upsert

T = TypeVar("T")
AdaptState = Callable[[str, str, JobState], JobState]

SETS_KEPT = 5
FILE_NAME = "syncd.db"


class SqliteStore:
    def __init__(self, database: Database, accepted: AcceptedCommits | None = None) -> None:
        self._database = database
        self._ledgers = ReadLedgers()
        self._accepted = accepted or AcceptedCommits(
            database.file.parent if database.file is not None else None
        )
        self._former: Mapping[str, str] = {}  # configured job -> the name that its rows still have
        self._under_new_name: AdaptState = lambda _job, _old, state: state

    @classmethod
    def open(cls, state_dir: Path, group: str | None = None) -> SqliteStore:
        """The store in `state_dir`, made or migrated when needed; private, or for `group` to read.

        Raises StoreError naming who may open it.
        """
        try:
            refuse_stranger(state_dir)
            make_state_folder(state_dir)
            set_access(state_dir, group)
        except OSError as error:
            raise StoreError(
                f"can't use the state folder {state_dir}: {error.strerror}",
                hint="set state: to a folder this user owns, or run syncd as its owner",
            ) from error
        return cls(Database(state_dir / FILE_NAME))

    @classmethod
    def open_readonly(cls, state_dir: Path) -> SqliteStore:
        """The store for a command that only looks: a copy in memory, so that nothing in the state
        folder changes.
        """
        return cls(
            Database.copy_of(state_dir / FILE_NAME), AcceptedCommits(state_dir, read_only=True)
        )

    def refresh(self) -> None:
        """Read what the file holds now, where this is a copy of it. Raises StoreError."""
        self._database.refresh_copy()

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

    def follow_renames(self, renamed: Mapping[str, str], under_new_name: AdaptState) -> None:
        """From now on each job on the left is known by what is stored for the job on the right.

        `under_new_name(job, old, state)` gives the stored state as it is for the configured job.
        """
        self._former, self._under_new_name = dict(renamed), under_new_name

    def former_name(self, job: str) -> str | None:
        """The name that the job is stored under, where that is another one."""
        return self._former.get(job)

    def rename(self, job: str) -> None:
        """Everything stored under the job's former name is stored under its own."""
        old = self._former.get(job)
        if old is None:
            return
        kept = self._accepted.load(old)
        if kept is not None:
            self._accepted.save(job, *kept, begin=True)

        def work(connection: Connection) -> None:
            self._ledgers.note_write()
            renames.rename(connection, old, job)
            state = read_state(connection, job)
            if state is not None:
                write_state(connection, job, self._under_new_name(job, old, state))

        self._database.write(work)
        self._accepted.delete(old)
        self._former = {name: former for name, former in self._former.items() if name != job}

    def _stored(self, job: str) -> str:
        return self._former.get(job, job)

    # --- states ----------------------------------------------------------------------------------

    def state(self, job: str) -> JobState:
        name, job = job, self._stored(job)
        found = self._database.read(lambda connection: read_state(connection, job)) or JobState()
        found = found if name == job else self._under_new_name(name, job, found)
        accepted = self._accepted.load(job)
        return (
            found
            if accepted is None
            else replace(found, accepted_history=accepted[0], accepted_commit=accepted[1])
        )

    def save_accepted_commit(self, job: str, state: JobState, begin: bool) -> None:
        if state.accepted_history is not None and state.accepted_commit is not None:
            self._accepted.save(
                self._stored(job), state.accepted_history, state.accepted_commit, begin
            )

    def applied_before(self, job: str, commit: str) -> bool:
        stored = self._stored(job)
        return self._database.read(
            lambda connection: history.has_commit(connection, stored, commit)
        )

    def states(self, jobs: Iterable[str]) -> dict[str, JobState]:
        """The states of those jobs that the store knows, read at one moment."""
        asked = {self._stored(name): name for name in jobs}
        found = self._database.read(read_states)
        return {asked[stored]: state for stored, state in found.items() if stored in asked}

    def file_counts(self) -> dict[str, int]:
        """Job -> how many destinations the ledger names."""
        query = select(FILE.c.job, func.count()).group_by(FILE.c.job)
        counted = self._database.read(lambda connection: connection.execute(query).all())
        found = {job: count for job, count in counted if isinstance(job, str)}
        return found | {job: found[old] for job, old in self._former.items() if old in found}

    def jobs(self) -> list[str]:
        """Every job the store knows, by the name that it is stored under."""
        query = union(select(JOB.c.name), select(FILE.c.job))
        found = self._database.read(lambda connection: connection.execute(query).scalars().all())
        return sorted(name for name in found if isinstance(name, str))

    def knows(self, job: str) -> bool:
        """Whether anything is stored of the job under its own name."""
        query = select(JOB.c.name).where(JOB.c.name == job)
        return self._database.read(lambda connection: connection.execute(query).first()) is not None

    def change_state(self, job: str, change: Callable[[JobState], JobState]) -> JobState:
        """One read-modify-write of a job's state."""
        job = self._stored(job)

        def work(connection: Connection) -> JobState:
            after = change(read_state(connection, job) or JobState())
            write_state(connection, job, after)
            return after

        return self._database.write(work)

    def queue_notifications(
        self,
        job: str,
        before: str | None,
        after: str | None,
        identity: str,
        bodies: Mapping[str, str],
        now: datetime,
    ) -> bool:
        """The job is told as `after` from now on, and these bodies, by endpoint, wait to be sent:
        one transaction.

        False, and nothing was written, when somebody else has told of it since it was told as
        `before`.
        """

        job = self._stored(job)

        def work(connection: Connection) -> bool:
            state = read_state(connection, job) or JobState()
            if state.notified_as != before:
                return False
            write_state(connection, job, replace(state, notified_as=after))
            notification_queue.put(connection, job, identity, bodies, now.timestamp())
            return True

        return self._database.write(work)

    @property
    def notifications(self) -> notification_queue.NotificationQueue:
        return notification_queue.NotificationQueue(self._database)

    def mark_checked(self, jobs: Mapping[str, tuple[JobState, datetime]]) -> None:
        """Each of these jobs was found as it should be at that time, and the store says so: unless
        its state is another one by now.
        """

        def work(connection: Connection) -> None:
            for name, now in read_states(connection).items():
                if name in jobs:
                    expected, at = jobs[name]
                    if _without_times(now) == _without_times(expected):
                        times = {"last_run_at": at.isoformat(), "last_success_at": at.isoformat()}
                        connection.execute(update(JOB).where(JOB.c.name == name).values(times))

        if jobs:
            self._database.write(work)

    def forget(self, job: str) -> int:
        """Nothing is known of the job any more; its files stay. How many ledger rows went."""

        def work(connection: Connection) -> int:
            self._ledgers.note_write()
            count = connection.execute(delete(FILE).where(FILE.c.job == job)).rowcount
            connection.execute(delete(JOB).where(JOB.c.name == job))
            intents.remove(connection, job)
            for table in (DIRECTORY, APPLIED_SET):
                connection.execute(delete(table).where(table.c.job == job))
            return count

        self._accepted.delete(job)
        return self._database.write(work)

    # --- the ledger ------------------------------------------------------------------------------

    def load_ledger(self, job: str) -> dict[str, LedgerRow]:
        job = self._stored(job)
        return self._database.read(lambda connection: self._ledgers.read(connection, job))

    def require_rehash(self, job: str, paths: Sequence[str]) -> int:
        """The next run of the job reads these files again, whatever their times say; how many
        rows.
        """
        job = self._stored(job)

        def work(connection: Connection) -> int:
            self._ledgers.note_write()
            state = read_state(connection, job)
            if (
                state is not None
            ):  # else a run that remembers what it looked at would not look again
                write_state(connection, job, replace(state, consistent=False))
            return ledger.require_rehash(connection, job, paths)

        return self._database.write(work)

    def owners(self, reals: Iterable[str]) -> dict[str, tuple[OwnedRow, ...]]:
        wanted, configured = list(reals), {old: job for job, old in self._former.items()}
        if not wanted:
            return {}
        found = self._database.read(lambda connection: ledger.owners(connection, wanted))
        return {
            real: tuple(replace(row, job=configured.get(row.job, row.job)) for row in group)
            for real, group in found.items()
        }

    def folders(self, job: str) -> frozenset[str]:
        job = self._stored(job)
        query = select(*DIRECTORY.c["path", "checksum"]).where(DIRECTORY.c.job == job)
        found = self._database.read(lambda connection: connection.execute(query).all())
        return frozenset(path for path, mark in found if matches(mark, job, path))

    def folder_owners(self, paths: Iterable[str]) -> dict[str, str]:
        wanted = list(paths)
        return (
            self._database.read(lambda connection: ledger.directory_owners(connection, wanted))
            if wanted
            else {}
        )

    # --- intent and record -----------------------------------------------------------------------

    def intent(self, job: str) -> Intent | None:
        """The interrupted plan of the job.

        A damaged one is dropped, and the job marked unsettled: the next plan looks at everything.
        """
        job = self._stored(job)
        query = select(INTENT.c.job).where(INTENT.c.job == job)
        stored, found = self._database.read(
            lambda connection: (connection.execute(query).first(), intents.read(connection, job))
        )
        if stored is None or found is not None:
            return found
        self._database.write(lambda connection: intents.remove(connection, job))
        self.change_state(job, lambda state: replace(state, consistent=False))
        return None

    def begin_intent(self, intent: Intent, state: JobState) -> None:
        def work(connection: Connection) -> None:
            intents.write(connection, intent)
            now = read_state(connection, intent.job) or JobState()
            known = replace(
                state,
                paused_until=now.paused_until,
                paused_reason=now.paused_reason,
                held=now.held,
                notified_as=now.notified_as,
            )
            write_state(
                connection,
                intent.job,
                replace(
                    known,
                    consistent=False,
                    reload_pending=state.reload_pending or intent.reload_after,
                ),
            )

        self._database.write(work)

    def record(self, job: str, result: RunRecord) -> None:
        """The run is in the ledger and the history, and its intent is gone: one transaction."""

        def work(connection: Connection) -> None:
            report, is_current = (
                result.report,
                self._ledgers.is_current(connection, job, result.ledger),
            )
            self._ledgers.note_write()
            ledger.remove(connection, result.superseded.items())
            ledger.put(connection, job, report.repo, report.commit, result.upserts)
            ledger.remove(connection, ((path, job) for path in result.removals))
            for path in result.directories_removed:
                connection.execute(
                    delete(DIRECTORY).where(DIRECTORY.c.path == path, DIRECTORY.c.job == job)
                )
            ledger.hand_over(connection, job, result)
            ledger.put_directories(connection, job, result.directories_created)
            intents.remove(connection, job)
            now = (
                read_state(connection, job) or JobState()
            )  # paused or resumed by hand, or told of, while the run went on
            write_state(
                connection,
                job,
                replace(
                    result.state,
                    paused_until=now.paused_until,
                    paused_reason=now.paused_reason,
                    held=now.held or result.state.held,
                    notified_as=now.notified_as,
                ),
            )
            if result.applied and result.report.commit:
                files = (
                    after(result.ledger, job, result)
                    if is_current
                    else ledger.of_job(connection, job)
                )
                self._keep_set(connection, job, result, files)
            if result.withdrawn:
                newest = (
                    select(func.max(APPLIED_SET.c.id))
                    .where(APPLIED_SET.c.job == job)
                    .scalar_subquery()
                )
                mistaken = (
                    APPLIED_SET.c.id == newest,
                    APPLIED_SET.c.commit_sha == result.withdrawn,
                )
                connection.execute(delete(APPLIED_SET).where(*mistaken))
            history.add(connection, result.report)

        self._database.write(work)

    def _keep_set(
        self, connection: Connection, job: str, result: RunRecord, files: Mapping[str, LedgerRow]
    ) -> None:
        body = serialization.set_to_bytes(files)
        commit = result.report.commit or ""
        at = result.state.last_run_at or datetime.now().astimezone()
        mine = APPLIED_SET.c.job == job
        latest = (
            select(*APPLIED_SET.c["id", "commit_sha"]).where(mine).order_by(APPLIED_SET.c.id.desc())
        )
        newest = connection.execute(latest.limit(1)).first()
        values: dict[str, Any] = {
            "job": job,
            "commit_sha": commit,
            "config_digest": result.state.applied_config_digest or "",
            "applied_at": at.isoformat(),
            "pinned": 0,
            "files": body,
            "checksum": checksum(job, commit, body=body),
        }
        if (
            newest is not None and newest[1] == commit
        ):  # the same commit once more takes its own place
            connection.execute(
                update(APPLIED_SET).where(APPLIED_SET.c.id == newest[0]).values(values)
            )
        else:
            connection.execute(APPLIED_SET.insert().values(values))
        kept = select(APPLIED_SET.c.id).where(mine, APPLIED_SET.c.pinned == 0)
        kept = kept.order_by(APPLIED_SET.c.id.desc()).limit(SETS_KEPT)
        connection.execute(
            delete(APPLIED_SET).where(
                mine, APPLIED_SET.c.pinned == 0, APPLIED_SET.c.id.not_in(kept)
            )
        )

    def sets(self, job: str) -> list[AppliedSet]:
        """The last sets that stood whole, newest first. Damaged ones are left out."""
        job = self._stored(job)
        columns = APPLIED_SET.c[
            "id", "commit_sha", "config_digest", "applied_at", "pinned", "files", "checksum"
        ]
        query = select(*columns).where(APPLIED_SET.c.job == job).order_by(APPLIED_SET.c.id.desc())
        result = []
        for identity, commit, digest, at, pinned, files, mark in self._read_all(query):
            try:
                if matches(mark, job, commit, body=files):
                    kept = serialization.files_from_bytes(files)
                    when = datetime.fromisoformat(at)
                    result.append(
                        AppliedSet(identity, job, commit, digest, when, bool(pinned), kept)
                    )
            except (ValueError, TypeError, zlib.error):
                continue
        return result

    def _read_all(self, query: Select[Any]) -> Sequence[Any]:
        return self._database.read(lambda connection: connection.execute(query).all())

    def pin(self, set_id: int, pinned: bool = True) -> None:
        change = update(APPLIED_SET).where(APPLIED_SET.c.id == set_id).values(pinned=int(pinned))
        self._database.write(lambda connection: connection.execute(change))

    def blobs_in_use(self) -> set[str]:
        """Every blob that the ledger, a kept set or a way back names: what the cache must not
        evict.
        """
        used: set[str] = set()
        for job in self._database.read(_jobs_with_files):
            used.update(
                blob
                for row in self.load_ledger(job).values()
                for blob in (row.entry.blob, row.upstream.blob)
            )
            for one in self.sets(job):
                used.update(entry.blob for entry in one.files.values())
            state = self.state(job)
            used.update(state.undo_blobs, [state.undo] if state.undo else [])
        return used

    # --- history ---------------------------------------------------------------------------------

    def changed_paths(self, name: str) -> list[str]:
        """Every destination in the history whose last name is this one, in whatever case."""
        return self._database.read(lambda connection: history.changed_paths(connection, name))

    def history(
        self,
        job: str | None = None,
        path: str | None = None,
        limit: int = 20,
        spellings: Sequence[str] = (),
    ) -> list[serialization.PastRun]:
        """Past runs, newest first.

        With `path`, those that changed it under that name or one of `spellings`, with only those
        changes.
        """
        stored = self._stored(job) if job is not None else None
        return self._database.read(
            lambda connection: history.history(
                connection, stored, [path, *spellings] if path is not None else [], limit
            )
        )

    def changes_since(self, job: str, since: datetime) -> tuple[Change, ...]:
        return self._database.read(
            lambda connection: history.changes_since(connection, self._stored(job), since)
        )

    # --- heads, listings, facts ------------------------------------------------------------------

    def head(self, scope: str, repo: str, ref: str | None) -> Head | None:
        columns = HEAD.c["commit_sha", "etag", "form", "checked_at", "checksum"]
        found = self._read_all(
            select(*columns).where(
                HEAD.c.scope == scope, HEAD.c.repo == repo, HEAD.c.ref == (ref or "")
            )
        )
        for commit, etag, form, checked, mark in found:
            if matches(mark, scope, repo, ref or "", commit, etag, form) and is_object_id(commit):
                return Head(
                    commit, etag, form, checked_at=checked if isinstance(checked, float) else None
                )
        return None

    def save_head(self, scope: str, repo: str, ref: str | None, head: Head) -> None:
        key = {"scope": scope, "repo": repo, "ref": ref or ""}
        values = {"commit_sha": head.commit, "etag": head.etag, "form": head.form}
        mark = checksum(*key.values(), *values.values())
        row = {**key, **values, "checked_at": head.checked_at, "checksum": mark}
        self._database.write(lambda connection: upsert(connection, HEAD, [row]))

    def load_listing(self, tree: str) -> Mapping[str, TreeEntry] | None:
        return self._database.read(lambda connection: listings.load(connection, tree))

    def save_listing(self, tree: str, entries: Mapping[str, TreeEntry]) -> None:
        self._database.write(lambda connection: listings.save(connection, tree, entries))

    @property
    def facts(self) -> Facts:
        """What was noticed and may be lost."""
        return Facts(self._database)


def _without_times(state: JobState) -> JobState:
    return replace(state, last_run_at=None, last_success_at=None)


def _jobs_with_files(connection: Connection) -> list[str]:
    """Every job that the ledger or a set names, whether or not its own row can be read."""
    query = union(select(FILE.c.job), select(APPLIED_SET.c.job))
    return [job for job in connection.execute(query).scalars() if isinstance(job, str)]
