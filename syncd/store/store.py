"""The store: what syncd has applied, is about to apply, and knows of each job.

Each method is one transaction.

The ledger is by absolute destination, so a file has one owner whatever the configuration says. Rows
that do not match their checksum are left out: losing them costs time, never files. The statements
are in the modules of the tables; this one combines them, and follows renamed jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace
from sqlalchemy import Connection

from syncd.errors import StoreError
from syncd.models import Change, LedgerRow, TreeEntry
from syncd.ports import AcceptedCommit, AppliedSet, Head, Intent, JobState, OwnedRow, RunRecord
from syncd.store import (
    actions,
    applied_sets,
    heads,
    history,
    intents,
    job_states,
    ledger,
    listings,
    new_runs,
    notification_queue,
    renames,
    run_records,
)
from syncd.store.accepted_commits import AcceptedCommits
from syncd.store.access import check_process_is_owner, make_state_folder, set_access
from syncd.store.database import Database
from syncd.store.facts import Facts
from syncd.store.job_states import read_state, write_state
from syncd.store.notification_queue import NewNotification, NotificationQueue
from syncd.store.read_ledgers import LedgerReader
from syncd.store.state_reader import StateReader

AdaptState = Callable[[str, str, JobState], JobState]

FILE_NAME = "syncd.db"


class SqliteStore:
    """The store in one SQLite database. Every method raises StoreError."""

    def __init__(self, database: Database, accepted: AcceptedCommits | None = None) -> None:
        self._database = database
        self._ledgers, self._states = LedgerReader(), StateReader()
        self._accepted = accepted or AcceptedCommits(
            database.file.parent if database.file is not None else None
        )
        self._former: Mapping[str, str] = {}  # configured job -> the name that its rows still have
        self._under_new_name: AdaptState = lambda _job, _old, state: state

    @classmethod
    def open(cls, state_dir: Path, group: str | None = None) -> SqliteStore:
        """Open the store in `state_dir`, creating or migrating it; private, or readable by `group`.

        Raises StoreError, which names the user who may open it.
        """
        try:
            check_process_is_owner(state_dir)
            make_state_folder(state_dir)
            set_access(state_dir, group)
        except OSError as error:
            raise StoreError(
                f"the state folder {state_dir} can't be used: {error.strerror}",
                id="store/state-folder",
                hint="set state: to a folder this user owns, or run syncd as its owner",
            ) from error
        return cls(Database(state_dir / FILE_NAME))

    @classmethod
    def open_readonly(cls, state_dir: Path) -> SqliteStore:
        """Open a copy in memory, for a command that must not change the state folder."""
        return cls(
            Database.copy_of(state_dir / FILE_NAME), AcceptedCommits(state_dir, read_only=True)
        )

    @classmethod
    def in_memory(cls) -> SqliteStore:
        """Return an empty store without a file, for a command that goes on without its own."""
        return cls(Database(None))

    def is_sound(self) -> bool:
        """Return whether pages, tables and indexes are as SQLite and this version expect them."""
        return self._database.is_sound()

    def refresh(self) -> None:
        """Read the file again, where this is a copy of it."""
        self._database.refresh_copy()

    @property
    def file(self) -> Path:
        """The file of the store. Raises StoreError for one in memory."""
        if self._database.file is None:
            raise StoreError("this store has no file")
        return self._database.file

    def counter(self) -> int:
        """Return a number that every write changes."""
        return self._database.counter()

    @property
    def notes(self) -> list[str]:
        """What was repaired while the store was open, as sentences for the operator."""
        return self._database.notes

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def follow_renames(self, renamed: Mapping[str, str], under_new_name: AdaptState) -> None:
        """Use what is stored for the job on the right for the configured job on the left.

        `under_new_name(job, old, state)` returns the stored state as it applies to the configured
        job.
        """
        self._former, self._under_new_name = dict(renamed), under_new_name

    def former_name(self, job: str) -> str | None:
        """Return the name that the job is stored under, where that is another one."""
        return self._former.get(job)

    def rename(self, job: str) -> None:
        """Store everything that is stored under the job's former name under its own."""
        old = self._former.get(job)
        if old is None:
            return
        accepted = self._accepted.load(old)
        if accepted is not None:
            self._accepted.save(job, *accepted, begin=True)

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

    # --- states -----------------------------------------------------------------------------------

    def state(self, job: str) -> JobState:
        """Return the state of the job; an empty one for a job that is not stored."""
        stored = self._stored(job)
        state = self._database.read(lambda connection: read_state(connection, stored)) or JobState()
        state = state if stored == job else self._under_new_name(job, stored, state)
        accepted = self._accepted.load(stored)
        if accepted is None:
            return state
        history_key, commit = accepted
        return replace(state, accepted=AcceptedCommit(commit, history_key))

    def save_accepted_commit(self, job: str, state: JobState, begin: bool) -> None:
        """Save the accepted commit also outside the database, so that it survives a lost database.

        Without `begin`, only where one was saved so before.
        """
        accepted = state.accepted
        if accepted is not None:
            self._accepted.save(self._stored(job), accepted.history, accepted.commit, begin)

    def applied_before(self, job: str, commit: str) -> bool:
        """Return whether the history has a run of the job that applied the commit."""
        stored = self._stored(job)
        return self._database.read(
            lambda connection: history.has_commit(connection, stored, commit)
        )

    def states(self, jobs: Iterable[str]) -> dict[str, JobState]:
        """Return the states of those jobs that are stored, read at one moment."""
        names = {self._stored(name): name for name in jobs}
        found = self._database.read(self._states.states)
        return {names[stored]: state for stored, state in found.items() if stored in names}

    def file_counts(self) -> dict[str, int]:
        """Return how many destinations the ledger has for each job."""
        found = dict(self._database.read(self._states.file_counts))
        return found | {job: found[old] for job, old in self._former.items() if old in found}

    def jobs(self) -> list[str]:
        """Return each stored job, by the name that it is stored under."""
        return self._database.read(job_states.job_names)

    def knows(self, job: str) -> bool:
        """Return whether anything is stored of the job under its own name."""
        return self._database.read(lambda connection: job_states.is_stored(connection, job))

    def change_state(
        self,
        job: str,
        change: Callable[[JobState], JobState],
        action: actions.OperatorAction | None = None,
    ) -> JobState:
        """Read, change and write the job's state in one transaction; return the new state.

        `action` is recorded in the same transaction.
        """
        job = self._stored(job)

        def work(connection: Connection) -> JobState:
            after = change(read_state(connection, job) or JobState())
            write_state(connection, job, after)
            if action is not None:
                actions.add(connection, job, action)
            return after

        return self._database.write(work)

    def queue_notifications(
        self, job: str, before: str | None, after: str | None, *notifications: NewNotification
    ) -> bool:
        """Record that the job is notified as `after`, and queue the notifications: all or nothing.

        Returns False, having written nothing, when another process has notified since the state was
        `before`.
        """
        job = self._stored(job)

        def work(connection: Connection) -> bool:
            state = read_state(connection, job) or JobState()
            if state.notified_as != before:
                return False
            write_state(connection, job, replace(state, notified_as=after))
            for notification in notifications:
                notification_queue.put(connection, job, notification)
            return True

        return self._database.write(work)

    @property
    def notifications(self) -> NotificationQueue:
        """The notifications that wait to be sent."""
        return NotificationQueue(self._database)

    def mark_checked(self, jobs: Mapping[str, tuple[JobState, datetime]]) -> None:
        """Record that each job was unchanged at that time, unless its state has changed since."""

        if jobs:
            self._database.write(lambda connection: job_states.mark_all_checked(connection, jobs))

    def forget(self, job: str) -> int:
        """Delete everything stored of the job; its files stay. Return the number of ledger rows."""

        def work(connection: Connection) -> int:
            self._ledgers.note_write()
            return renames.forget(connection, job)

        self._accepted.delete(job)
        return self._database.write(work)

    # --- the ledger -------------------------------------------------------------------------------

    def load_ledger(self, job: str) -> dict[str, LedgerRow]:
        """Return the job's ledger by destination, without damaged rows."""
        job = self._stored(job)
        return self._database.read(lambda connection: self._ledgers.read(connection, job))

    def require_rehash(self, job: str, paths: Sequence[str]) -> int:
        """Make the next run of the job read these files, whatever lstat says; return the number of
        rows.
        """
        job = self._stored(job)

        def work(connection: Connection) -> int:
            self._ledgers.note_write()
            state = read_state(connection, job)
            # Else a run that knows the job as unchanged would not read the files.
            if state is not None:
                write_state(connection, job, replace(state, consistent=False))
            return ledger.require_rehash(connection, job, paths)

        return self._database.write(work)

    def owners(self, reals: Iterable[str]) -> dict[str, tuple[OwnedRow, ...]]:
        """Return the ledger rows of each real path that has some."""
        wanted, configured = list(reals), {old: job for job, old in self._former.items()}
        if not wanted:
            return {}
        found = self._database.read(lambda connection: ledger.owners(connection, wanted))
        return {
            real: tuple(replace(row, job=configured.get(row.job, row.job)) for row in rows)
            for real, rows in found.items()
        }

    def folders(self, job: str) -> frozenset[str]:
        """Return the directories that syncd made for the job."""
        job = self._stored(job)
        return self._database.read(lambda connection: ledger.directories(connection, job))

    def folder_owners(self, paths: Iterable[str]) -> dict[str, str]:
        """Return the job that syncd made each directory for, for those that it made."""
        wanted = list(paths)
        if not wanted:
            return {}
        return self._database.read(lambda connection: ledger.directory_owners(connection, wanted))

    # --- intent and record ------------------------------------------------------------------------

    def intent(self, job: str) -> Intent | None:
        """Return the interrupted intent of the job.

        A damaged one is deleted, and the job marked as inconsistent: the next plan reads
        everything.
        """
        job = self._stored(job)
        is_stored, found = self._database.read(
            lambda connection: (intents.exists(connection, job), intents.read(connection, job))
        )
        if found is not None or not is_stored:
            return found
        self._database.write(lambda connection: intents.remove(connection, job))
        self.change_state(job, lambda state: replace(state, consistent=False))
        return None

    def begin_intent(self, intent: Intent, state: JobState) -> None:
        """Save the intent and the state in one transaction."""
        self._database.write(lambda connection: run_records.begin_intent(connection, intent, state))

    def record(self, job: str, result: RunRecord) -> None:
        """Record the run in ledger and history, and delete its intent, in one transaction.

        Whether the job is paused stays as it was, except that a run may hold the job.
        """
        self._database.write(
            lambda connection: run_records.record_run(connection, job, result, self._ledgers)
        )

    # --- applied sets -----------------------------------------------------------------------------

    def sets(self, job: str) -> list[AppliedSet]:
        """Return the sets that a rollback can return to, newest first, without damaged ones."""
        job = self._stored(job)
        return self._database.read(lambda connection: applied_sets.load(connection, job))

    def blobs_in_use(self) -> set[str]:
        """Return each blob that the ledger, an applied set or an undo needs: the cache keeps it."""
        used: set[str] = set()
        for job in self._database.read(ledger.jobs_with_files):
            used.update(
                blob
                for row in self.load_ledger(job).values()
                for blob in (row.entry.blob, row.upstream.blob)
            )
            for applied in self.sets(job):
                used.update(entry.blob for entry in applied.files.values())
            undo = self.state(job).undo
            if undo is not None:
                used.update(undo.content_blobs, [undo.blob])
        return used

    # --- history ----------------------------------------------------------------------------------

    def changed_paths(self, name: str) -> list[str]:
        """Return each destination in the history whose last name is this one, in any case."""
        return self._database.read(lambda connection: history.changed_paths(connection, name))

    def runs_of(self, job: str, limit: int) -> list[tuple[history.PastRun, int]]:
        """Return past runs of the job, newest first, each with how many changes it has."""
        stored = self._stored(job)
        return self._database.read(lambda connection: history.runs_of(connection, stored, limit))

    def run_of(self, number: int) -> history.PastRun | None:
        """Return the run with this id and its changes; None where there is none."""
        return self._database.read(lambda connection: history.run_of(connection, number))

    def history(
        self,
        job: str | None = None,
        path: str | None = None,
        limit: int = 20,
        spellings: Sequence[str] = (),
    ) -> list[history.PastRun]:
        """Return past runs, newest first.

        With `path`, only those that changed it under that name or one of `spellings`, with only
        those changes.
        """
        stored = self._stored(job) if job is not None else None
        return self._database.read(
            lambda connection: history.history(
                connection, stored, [path, *spellings] if path is not None else [], limit
            )
        )

    def add_action(self, action: actions.OperatorAction) -> None:
        """Record what a person did with a job; nothing else of the job changes."""
        stored = self._stored(action.job)
        self._database.write(lambda connection: actions.add(connection, stored, action))

    def actions_of(self, job: str | None, limit: int) -> list[actions.OperatorAction]:
        """Return what people did on the page with the job, or with all jobs, newest first."""
        stored = self._stored(job) if job is not None else None
        return self._database.read(lambda connection: actions.actions_of(connection, stored, limit))

    def end_of_history(self) -> new_runs.Position:
        """Return the position after every run that is recorded now."""
        return self._database.read(new_runs.end_of_history)

    def runs_after(self, position: new_runs.Position) -> list[new_runs.NewRun]:
        """Return the runs that were recorded after the position, by when they began."""
        return self._database.read(lambda connection: new_runs.runs_after(connection, position))

    def changes_since(self, job: str, since: datetime) -> tuple[Change, ...]:
        """Return what the job's runs since then did, oldest first."""
        return self._database.read(
            lambda connection: history.changes_since(connection, self._stored(job), since)
        )

    # --- heads, listings, facts -------------------------------------------------------------------

    def head(self, scope: str, repo: str, ref: str | None) -> Head | None:
        """Return the head last seen by this host and identity, which may not be the applied one."""
        return self._database.read(lambda connection: heads.load(connection, scope, repo, ref))

    def save_head(self, scope: str, repo: str, ref: str | None, head: Head) -> None:
        """Save the head of the ref, unsynced: without it, the next run asks again."""
        self._database.write(
            lambda connection: heads.save(connection, scope, repo, ref, head), synced=False
        )

    def load_listing(self, tree: str) -> Mapping[str, TreeEntry] | None:
        """Return what the tree holds, if it is stored."""
        return self._database.read(lambda connection: listings.load(connection, tree))

    def save_listing(self, tree: str, entries: Mapping[str, TreeEntry]) -> None:
        """Store what the tree holds, unsynced: without it, the next run asks again."""
        self._database.write(
            lambda connection: listings.save(connection, tree, entries), synced=False
        )

    @property
    def facts(self) -> Facts:
        """Facts that may be lost: they decide nothing about files."""
        return Facts(self._database)
