"""What we applied, what we are about to apply, and what we know of each job: one transaction per meaning.

The ledger is by absolute destination, so a file has one owner whatever the configuration says. Rows that don't match their seal
are left out: memory that is lost costs time, never files.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeVar

from msgspec.structs import replace

from syncd.engine.ports import AppliedSet, Head, Intent, JobState, OwnedRow, Result
from syncd.errors import StoreError
from syncd.models import Change, Recorded, RunStatus, TreeEntry
from syncd.objects import is_object_id
from syncd.store import ledger, outbox, renames, rows, runs
from syncd.store.accepted import AcceptedHeads
from syncd.store.access import make_state_folder, refuse_stranger, set_access
from syncd.store.database import Database
from syncd.store.schema import is_whole, seal, whole_rows
from syncd.store.sql import put

T = TypeVar("T")
AdaptState = Callable[[str, str, JobState], JobState]

SETS_KEPT = 5
LISTINGS_KEPT = 200
LISTINGS_BYTES_KEPT = 64 << 20
FORGET_LISTINGS = """
DELETE FROM listing WHERE rowid NOT IN (
    SELECT rowid FROM (SELECT rowid, row_number() OVER latest AS place, sum(length(body)) OVER latest - length(body) AS newer FROM listing WINDOW latest AS (ORDER BY rowid DESC))
    WHERE place <= ? AND newer < ?)"""
FILE = "syncd.db"


class SqliteStore:
    def __init__(self, database: Database, accepted: AcceptedHeads | None = None) -> None:
        self._database = database
        self._accepted = accepted or AcceptedHeads(database.file.parent if database.file is not None else None)
        self._former: Mapping[str, str] = {}  # configured job -> the name that its rows still have
        self._under_new_name: AdaptState = lambda _job, _old, state: state

    @classmethod
    def open(cls, state_dir: Path, group: str | None = None) -> SqliteStore:
        """The store in `state_dir`, made or migrated when needed; private, or for `group` to read. Raises StoreError naming who may open it."""
        try:
            refuse_stranger(state_dir)
            make_state_folder(state_dir)
            set_access(state_dir, group)
        except OSError as error:
            raise StoreError(f"can't use the state folder {state_dir}: {error.strerror}", hint="set state: to a folder this user owns, or run syncd as its owner") from error
        return cls(Database(state_dir / FILE))

    @classmethod
    def peek(cls, state_dir: Path) -> SqliteStore:
        """The store for a command that only looks: a copy in memory, so that nothing in the state folder changes."""
        return cls(Database.copy_of(state_dir / FILE), AcceptedHeads(state_dir, only_read=True))

    def look_again(self) -> None:
        """Read what the file holds now, where this is a copy of it. Raises StoreError."""
        self._database.copy_again()

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
        kept = self._accepted.read(old)
        if kept is not None:
            self._accepted.keep(job, *kept, begin=True)

        def work(connection: Connection) -> None:
            renames.rename(connection, old, job)
            state = _state(connection, job)
            if state is not None:
                _put_state(connection, job, self._under_new_name(job, old, state))

        self._database.write(work)
        self._accepted.forget(old)
        self._former = {name: former for name, former in self._former.items() if name != job}

    def _stored(self, job: str) -> str:
        return self._former.get(job, job)

    # --- states -------------------------------------------------------------------------------------------------------

    def state(self, job: str) -> JobState:
        name, job = job, self._stored(job)
        found = self._database.read(lambda connection: _state(connection, job)) or JobState()
        found = found if name == job else self._under_new_name(name, job, found)
        accepted = self._accepted.read(job)
        return found if accepted is None else replace(found, trusted_for=accepted[0], trusted_commit=accepted[1])

    def vouch(self, job: str, state: JobState, begin: bool) -> None:
        if state.trusted_for is not None and state.trusted_commit is not None:
            self._accepted.keep(self._stored(job), state.trusted_for, state.trusted_commit, begin)

    def applied_before(self, job: str, commit: str) -> bool:
        query = 'SELECT 1 FROM run WHERE job = ? AND "commit" = ? AND status = ? LIMIT 1'
        return self._database.read(lambda connection: connection.execute(query, (self._stored(job), commit, RunStatus.CHANGED.value)).fetchone()) is not None

    def states(self, jobs: Iterable[str]) -> dict[str, JobState]:
        """The states of those jobs that the store knows, read at one moment."""
        asked = {self._stored(name): name for name in jobs}

        def query(connection: Connection) -> dict[str, JobState]:
            return {asked[name]: _read_state(name, text, mark) for name, text, mark in connection.execute("SELECT name, state, seal FROM job").fetchall() if name in asked}

        return self._database.read(query)

    def file_counts(self) -> dict[str, int]:
        """Job -> how many destinations the ledger names."""
        counted = self._database.read(lambda connection: connection.execute("SELECT job, count(*) FROM file GROUP BY job").fetchall())
        found = {job: count for job, count in counted if isinstance(job, str)}
        return found | {job: found[old] for job, old in self._former.items() if old in found}

    def jobs(self) -> list[str]:
        """Every job the store knows, by the name that it is stored under."""
        query = "SELECT name FROM job UNION SELECT job FROM file ORDER BY 1"
        found = self._database.read(lambda connection: connection.execute(query).fetchall())
        return [name for (name,) in found if isinstance(name, str)]

    def knows(self, job: str) -> bool:
        """Whether anything is stored of the job under its own name."""
        query = "SELECT 1 FROM job WHERE name = ?"
        found = self._database.read(lambda connection: connection.execute(query, (job,)).fetchone())
        return found is not None

    def change_state(self, job: str, change: Callable[[JobState], JobState]) -> JobState:
        """One read-modify-write of a job's state."""
        job = self._stored(job)

        def work(connection: Connection) -> JobState:
            after = change(_state(connection, job) or JobState())
            _put_state(connection, job, after)
            return after

        return self._database.write(work)

    def tell(self, job: str, before: str | None, after: str | None, identity: str, bodies: Mapping[str, str], now: datetime) -> bool:
        """The job is told as `after` from now on, and these bodies, by endpoint, wait to be sent: one transaction.

        False, and nothing was written, when somebody else has told of it since it was told as `before`.
        """

        job = self._stored(job)

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
            values = []
            for name, state, mark in connection.execute("SELECT name, state, seal FROM job").fetchall():
                if name not in jobs:
                    continue
                (expected, at), now = jobs[name], _read_state(name, state, mark)
                if replace(now, last_run_at=None, last_success_at=None) == replace(expected, last_run_at=None, last_success_at=None):
                    text = rows.state_to_text(replace(now, last_run_at=at, last_success_at=at))
                    values.append({"name": name, "state": text, "seal": seal(name, text)})
            put(connection, "job", ("name",), values)

        if jobs:
            self._database.write(work)

    def forget(self, job: str) -> int:
        """Nothing is known of the job any more; its files stay. How many ledger rows went."""

        def work(connection: Connection) -> int:
            count = connection.execute("DELETE FROM file WHERE job = ?", (job,)).rowcount
            connection.execute("DELETE FROM job WHERE name = ?", (job,))
            for table in ("folder", "intent", "applied_set"):
                connection.execute(f"DELETE FROM {table} WHERE job = ?", (job,))
            return count

        self._accepted.forget(job)
        return self._database.write(work)

    # --- the ledger ---------------------------------------------------------------------------------------------------

    def recorded(self, job: str) -> dict[str, Recorded]:
        job = self._stored(job)
        found = self._database.read(lambda connection: connection.execute("SELECT path, row, seal FROM file WHERE job = ?", (job,)).fetchall())
        return dict(rows.ledger(whole_rows(job, found)))

    def distrust(self, job: str, paths: Sequence[str]) -> int:
        """The next run of the job reads these files again, whatever their times say; how many rows."""
        job = self._stored(job)

        def work(connection: Connection) -> int:
            state = _state(connection, job)
            if state is not None:  # else a run that remembers what it looked at would not look again
                _put_state(connection, job, replace(state, settled=False))
            return ledger.distrust(connection, job, paths)

        return self._database.write(work)

    def owners(self, reals: Iterable[str]) -> dict[str, tuple[OwnedRow, ...]]:
        wanted, configured = list(reals), {old: job for job, old in self._former.items()}
        if not wanted:
            return {}
        found = self._database.read(lambda connection: ledger.owners(connection, wanted))
        return {real: tuple(replace(row, job=configured.get(row.job, row.job)) for row in group) for real, group in found.items()}

    def folders(self, job: str) -> frozenset[str]:
        job = self._stored(job)
        found = self._database.read(lambda connection: connection.execute("SELECT path, seal FROM folder WHERE job = ?", (job,)).fetchall())
        return frozenset(path for path, mark in found if is_whole(mark, job, path))

    def folder_owners(self, paths: Iterable[str]) -> dict[str, str]:
        wanted = list(paths)
        return self._database.read(lambda connection: ledger.folder_owners(connection, wanted)) if wanted else {}

    # --- intent and record --------------------------------------------------------------------------------------------

    def intent(self, job: str) -> Intent | None:
        """The interrupted plan of the job. A damaged one is dropped, and the job marked unsettled: the next plan looks at everything."""
        job = self._stored(job)
        found = self._database.read(lambda connection: connection.execute("SELECT body, seal FROM intent WHERE job = ?", (job,)).fetchone())
        if found is None:
            return None
        body, mark = found
        try:
            if is_whole(mark, job, body):
                return rows.intent_from_text(body)
        except (ValueError, TypeError):
            pass
        self._database.write(lambda connection: connection.execute("DELETE FROM intent WHERE job = ?", (job,)))
        self.change_state(job, lambda state: replace(state, settled=False))
        return None

    def intend(self, intent: Intent, state: JobState) -> None:
        body = rows.intent_to_text(intent)

        def work(connection: Connection) -> None:
            put(connection, "intent", ("job",), [{"job": intent.job, "body": body, "seal": seal(intent.job, body)}])
            now = _state(connection, intent.job) or JobState()
            known = replace(state, paused_until=now.paused_until, paused_reason=now.paused_reason, held=now.held, told=now.told)
            _put_state(connection, intent.job, replace(known, settled=False, hook_owed=state.hook_owed or intent.owes_hook))

        self._database.write(work)

    def record(self, job: str, result: Result) -> None:
        """The run is in the ledger and the history, and its intent is gone: one transaction."""

        def work(connection: Connection) -> None:
            connection.executemany("DELETE FROM file WHERE path = ? AND job = ?", result.superseded.items())
            put(connection, "file", ("path",), (ledger.file_row(job, path, row) for path, row in result.upserts.items()))
            connection.executemany("DELETE FROM file WHERE job = ? AND path = ?", ((job, path) for path in result.removals))
            connection.executemany("DELETE FROM folder WHERE job = ? AND path = ?", ((job, path) for path in result.folders_removed))
            ledger.hand_over(connection, job, result)
            put(connection, "folder", ("path",), ({"path": path, "job": job, "seal": seal(job, path)} for path in result.folders_made))
            connection.execute("DELETE FROM intent WHERE job = ?", (job,))
            now = _state(connection, job) or JobState()  # paused or resumed by hand, or told of, while the run went on
            _put_state(connection, job, replace(result.state, paused_until=now.paused_until, paused_reason=now.paused_reason, held=now.held or result.state.held, told=now.told))
            if result.applied and result.report.commit:
                self._keep_set(connection, job, result)
            if result.withdrawn:
                connection.execute('DELETE FROM applied_set WHERE id = (SELECT max(id) FROM applied_set WHERE job = ?) AND "commit" = ?', (job, result.withdrawn))
            runs.add(connection, result.report)

        self._database.write(work)

    def _keep_set(self, connection: Connection, job: str, result: Result) -> None:
        found = connection.execute("SELECT path, row, seal FROM file WHERE job = ?", (job,)).fetchall()
        body = rows.set_to_bytes(whole_rows(job, found))
        commit, at = result.report.commit or "", (result.state.last_run_at or datetime.now().astimezone()).isoformat()
        values = (job, commit, result.state.applied_digest or "", at, 0, body, seal(job, commit, body=body))
        newest = connection.execute('SELECT id, "commit" FROM applied_set WHERE job = ? ORDER BY id DESC LIMIT 1', (job,)).fetchone()
        taken = newest[0] if newest is not None and newest[1] == commit else None  # the same commit once more takes its own place
        columns = 'id, job, "commit", digest, applied_at, pinned, files, seal'
        connection.execute(f"INSERT OR REPLACE INTO applied_set ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (taken, *values))
        kept = "SELECT id FROM applied_set WHERE job = ? AND pinned = 0 ORDER BY id DESC LIMIT ?"
        connection.execute(f"DELETE FROM applied_set WHERE job = ? AND pinned = 0 AND id NOT IN ({kept})", (job, job, SETS_KEPT))

    def sets(self, job: str) -> list[AppliedSet]:
        """The last sets that stood whole, newest first. Damaged ones are left out."""
        job = self._stored(job)
        query = 'SELECT id, "commit", digest, applied_at, pinned, files, seal FROM applied_set WHERE job = ? ORDER BY id DESC'
        result = []
        for identity, commit, digest, at, pinned, files, mark in self._database.read(lambda connection: connection.execute(query, (job,)).fetchall()):
            try:
                if is_whole(mark, job, commit, body=files):
                    result.append(AppliedSet(identity, job, commit, digest, datetime.fromisoformat(at), bool(pinned), rows.files_from_bytes(files)))
            except (ValueError, TypeError, zlib.error):
                continue
        return result

    def pin(self, set_id: int, pinned: bool = True) -> None:
        self._database.write(lambda connection: connection.execute("UPDATE applied_set SET pinned = ? WHERE id = ?", (int(pinned), set_id)))

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

    def changed_paths(self, name: str) -> list[str]:
        """Every destination in the history whose last name is this one, in whatever case."""
        return self._database.read(lambda connection: runs.changed_paths(connection, name))

    def history(self, job: str | None = None, path: str | None = None, limit: int = 20, spellings: Sequence[str] = ()) -> list[rows.PastRun]:
        """Past runs, newest first. With `path`, those that changed it under that name or one of `spellings`, with only those changes."""
        stored = self._stored(job) if job is not None else None
        return self._database.read(lambda connection: runs.history(connection, stored, [path, *spellings] if path is not None else [], limit))

    def changes_since(self, job: str, since: datetime) -> tuple[Change, ...]:
        return self._database.read(lambda connection: runs.changes_since(connection, self._stored(job), since))

    # --- heads, listings, budgets -------------------------------------------------------------------------------------

    def head(self, scope: str, repo: str, ref: str | None) -> Head | None:
        query = 'SELECT "commit", etag, form, checked_at, seal FROM head WHERE scope = ? AND repo = ? AND ref = ?'
        row = self._database.read(lambda connection: connection.execute(query, (scope, repo, ref or "")).fetchone())
        if row is None:
            return None
        commit, etag, form, checked, mark = row
        if not is_whole(mark, *_head_values(scope, repo, ref, commit, etag, form)) or not is_object_id(commit):
            return None
        return Head(commit, etag, form, checked_at=checked if isinstance(checked, float) else None)

    def see(self, scope: str, repo: str, ref: str | None, head: Head) -> None:
        values = {"scope": scope, "repo": repo, "ref": ref or "", "commit": head.commit, "etag": head.etag, "form": head.form, "checked_at": head.checked_at}
        values["seal"] = seal(*_head_values(scope, repo, ref, head.commit, head.etag, head.form))
        self._database.write(lambda connection: put(connection, "head", ("scope", "repo", "ref"), [values]))

    def recall(self, tree: str) -> Mapping[str, TreeEntry] | None:
        row = self._database.read(lambda connection: connection.execute("SELECT body, seal FROM listing WHERE tree = ?", (tree,)).fetchone())
        try:
            if row is None or not is_whole(row[1], tree, body=row[0]):
                return None
            return rows.listing_from_bytes(row[0])
        except (ValueError, TypeError, zlib.error):
            return None

    def keep(self, tree: str, entries: Mapping[str, TreeEntry]) -> None:
        body = rows.listing_to_bytes(entries)

        def work(connection: Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO listing (tree, body, seal) VALUES (?, ?, ?)", (tree, body, seal(tree, body=body)))
            connection.execute(FORGET_LISTINGS, (LISTINGS_KEPT, LISTINGS_BYTES_KEPT))

        self._database.write(work)

    def see_budget(
        self, identity: str, installation: int | None, account: str | None, limit: int | None,
        remaining: int | None, reset_at: datetime | None,
    ) -> None:  # fmt: skip
        """Keep one hourly limit; those of other installations of the account are over."""
        key = {"identity": identity, "installation": installation or 0}
        reset = reset_at.isoformat() if reset_at else None
        values = {**key, "account": account, "limit": limit, "remaining": remaining, "reset_at": reset}

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM budget WHERE identity = ? AND account = ?", (identity, account))
            put(connection, "budget", tuple(key), [values])

        self._database.write(work)

    def budgets(self) -> list[rows.BudgetRow]:
        query = 'SELECT identity, installation, account, "limit", remaining, reset_at FROM budget'
        found = self._database.read(lambda connection: connection.execute(query).fetchall())
        return [read for row in found if (read := rows.budget_from_row(*row)) is not None]


def _state(connection: Connection, job: str) -> JobState | None:
    row = connection.execute("SELECT state, seal FROM job WHERE name = ?", (job,)).fetchone()
    return None if row is None else _read_state(job, *row)


def _read_state(job: str, text: Any, mark: Any) -> JobState:
    """What the row says; that nothing is known, for a damaged one."""
    try:
        if is_whole(mark, job, text):
            return rows.state_from_text(text)
    except (ValueError, TypeError):
        pass
    return JobState(settled=False)


def _head_values(scope: str, repo: str, ref: str | None, commit: Any, etag: Any, form: Any) -> tuple[Any, ...]:
    """What a head's seal is over; None and "" are told apart."""
    return scope, repo, ref or "", commit, *("-" if value is None else f"={value}" for value in (etag, form))


def _jobs_with_files(connection: Connection) -> list[str]:
    """Every job that the ledger or a set names, whether or not its own row can be read."""
    return [job for (job,) in connection.execute("SELECT job FROM file UNION SELECT job FROM applied_set").fetchall() if isinstance(job, str)]


def _put_state(connection: Connection, job: str, state: JobState) -> None:
    text = rows.state_to_text(state)
    put(connection, "job", ("name",), [{"name": job, "state": text, "seal": seal(job, text)}])
