"""The store: jobs' states, their ledgers and applied sets, and what a run leaves there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct, field

from syncd.models import Action, Change, LedgerRow, RunReport, WantedFile
from syncd.ports.job_state import JobState
from syncd.ports.remote import Head, ListingCache


class Intent(Struct, frozen=True):
    """A plan, stored before it is applied.

    `actions` are those that change the disk; `folders` are the directories that will be made.
    `reload_after`: a reload is pending once an action took effect; `reload_was_pending`: one was
    pending before, whatever becomes of this intent.
    """

    id: str
    job: str
    commit: str
    digest: str
    actions: tuple[Action, ...]
    folders: tuple[str, ...]
    reload_after: bool
    started_at: datetime
    reload_was_pending: bool = False


class AppliedSet(Struct, frozen=True):
    """One set that was applied completely, for a rollback.

    `files` is destination -> what was there.
    """

    id: int
    job: str
    commit: str
    digest: str
    applied_at: datetime
    files: Mapping[str, WantedFile]


class OwnedRow(Struct, frozen=True):
    """A ledger row, the destination that it was written as, and the job that has it."""

    path: str
    job: str
    recorded: LedgerRow


class RunRecord(Struct, frozen=True):
    """What `Store.record` makes durable in one transaction, while it clears the job's intent.

    `applied`: the whole set of `report.commit` is in place, and is kept as one of the job's sets;
    `undone_commit`: the newest set, which is of this commit, is no set to go back to. `superseded`
    (path -> job) are rows that go, of whatever job, because the upserts have the same files under
    another path; `handed_over` (path -> job) are rows of this job that another one gets, and so are
    `directories_reassigned`, where None means no job. `ledger` is what `Store.load_ledger` gave the
    run, so that it need not be read again.
    """

    report: RunReport
    upserts: Mapping[str, LedgerRow] = field(default_factory=dict)
    removals: frozenset[str] = frozenset()
    directories_created: tuple[str, ...] = ()
    directories_removed: tuple[str, ...] = ()
    state: JobState = JobState()
    applied: bool = False
    undone_commit: str | None = None
    superseded: Mapping[str, str] = field(default_factory=dict)
    handed_over: Mapping[str, str] = field(default_factory=dict)
    directories_reassigned: Mapping[str, str | None] = field(default_factory=dict)
    ledger: Mapping[str, LedgerRow] = field(default_factory=dict)


class Store(ListingCache, Protocol):
    """Everything that syncd remembers of jobs."""

    def state(self, job: str) -> JobState:
        """Return the job's state; the default for a job that has none."""

    def save_accepted_commit(self, job: str, state: JobState, begin: bool) -> None:
        """Store the commit that the next head has to follow where a lost database does not lose it.

        Without `begin` only where one was stored so before.
        """

    def applied_before(self, job: str, commit: str) -> bool:
        """Return whether the history has a run of the job that applied the commit."""

    def load_ledger(self, job: str) -> dict[str, LedgerRow]:
        """Return the job's ledger: destination -> row.

        Damaged rows are left out: a row that is lost costs time, never files.
        """

    def owners(self, reals: Iterable[str]) -> dict[str, tuple[OwnedRow, ...]]:
        """Return real path -> the ledger rows of that file, for those that have one."""

    def folders(self, job: str) -> frozenset[str]:
        """Return the directories that syncd made for the job."""

    def folder_owners(self, paths: Iterable[str]) -> dict[str, str]:
        """Return directory -> the job that syncd made it for, for those of these that it made."""

    def intent(self, job: str) -> Intent | None:
        """Return the intent that the job's last run did not conclude; mostly None."""

    def begin_intent(self, intent: Intent, state: JobState) -> None:
        """Store the intent, and the reload that it will need, in one transaction."""

    def record(self, job: str, result: RunRecord) -> None:
        """Store a run's result in one transaction.

        A pause stays as it is, because a run does not decide it; but a run may hold the job.
        """

    def change_state(self, job: str, change: Callable[[JobState], JobState]) -> JobState:
        """Read, change and write the job's state in one transaction; return the state after it."""

    def changes_since(self, job: str, since: datetime) -> tuple[Change, ...]:
        """Return what the job's runs that began at or after `since` did, the oldest first."""

    def sets(self, job: str) -> Sequence[AppliedSet]:
        """Return the sets that a rollback can go back to, the newest first."""

    def head(self, scope: str, repo: str, ref: str | None) -> Head | None:
        """Return the head last seen under this (host, identity).

        It may be another than the applied one.
        """

    def save_head(self, scope: str, repo: str, ref: str | None, head: Head) -> None:
        """Store what `head` returns from now on."""


__all__ = ["AppliedSet", "Intent", "OwnedRow", "RunRecord", "Store"]
