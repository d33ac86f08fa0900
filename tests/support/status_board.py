"""Who runs the jobs, as far as the listener asks: readings of a real store,
and what a daemon would add to them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from syncd.config.load import load_config
from syncd.config.model import Config
from syncd.github.rate_limit import RateLimitStatus, SavedRateLimit
from syncd.github.webhook import Push, PushOutcome
from syncd.models import CommitSummary, Job, PathRule
from syncd.ports import JobState
from syncd.recent_runs import DiffCache, LedgerSummary, RecentRun, RunHistory, read_recent_runs
from syncd.status import JobSnapshot, ProcessStats, StatusSnapshot, read_status
from syncd.store.actions import Person
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from tests.support.sync_env import SyncEnv

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@dataclass
class PushLog:
    """A push_trigger that writes down what it hears.

    `followers` is how many jobs each push starts.
    """

    followers: int = 1
    received: list[tuple[Push, str | None, str]] = field(default_factory=list)
    ignored_events: list[str] = field(default_factory=list)
    rejections: list[str | None] = field(default_factory=list)

    def push_received(self, push: Push, delivery_key: str | None, what: str) -> PushOutcome | None:
        known = delivery_key is not None and delivery_key in [
            before for _, before, _ in self.received
        ]
        self.received.append((push, delivery_key, what))
        return None if known else PushOutcome(self.followers)

    def ignored(self, what: str) -> None:
        self.ignored_events.append(what)

    def rejected(self, why: str | None) -> None:
        self.rejections.append(why)


@dataclass
class ControlLog:
    """A job_control that writes down what it does to the only job, nginx."""

    done: list[tuple[object, ...]] = field(default_factory=list)
    problem: str | None = None

    def has(self, job: str) -> bool:
        return job == "nginx"

    def sync_now(self, job: str, by: Person) -> str | None:
        self.done.append(("sync", job, by))
        return self.problem

    def pause(self, job: str, by: Person, reason: str, seconds: float | None) -> None:
        self.done.append(("pause", job, by, reason, seconds))

    def resume(self, job: str, by: Person) -> str | None:
        self.done.append(("resume", job, by))
        return self.problem


@dataclass
class StoreBoard:
    """`now` is what the clock says; the real one where it is None.

    `fails` is raised instead of an answer; `stuck` is what does not move.
    """

    config: Config
    process: ProcessStats = field(default_factory=lambda: ProcessStats(AT))
    now: datetime | None = None
    fails: Exception | None = None
    stuck: str | None = None
    push_trigger: PushLog = field(default_factory=PushLog)
    job_control: ControlLog = field(default_factory=ControlLog)
    fleet_watch: Any = None
    diffs: DiffCache = field(default_factory=DiffCache)

    def stall_reason(self) -> str | None:
        return self.stuck

    def recent_runs(self, show_diffs: bool) -> Sequence[RecentRun]:
        store = SqliteStore.open_readonly(self.config.state)
        try:
            return read_recent_runs(
                store, BlobCache(self.config.state / "blobs"), show_diffs, self.diffs
            )
        finally:
            store.close()

    @property
    def run_history(self) -> RunHistory:
        store = SqliteStore.open_readonly(self.config.state)
        return RunHistory(store, BlobCache(self.config.state / "blobs"), self.diffs)

    def status_snapshot(self) -> StatusSnapshot:
        if self.fails is not None:
            raise self.fails
        store = SqliteStore.open_readonly(self.config.state)
        try:
            return read_status(self.config, store, self.now or datetime.now(UTC), self.process)
        finally:
            store.close()


class NoRuns:
    """The history of a job that never ran."""

    def of_job(self, job: str) -> tuple[()]:
        return ()

    def actions_of(self, job: str) -> tuple[()]:
        return ()

    def ledger_of(self, job: str) -> LedgerSummary:
        return LedgerSummary(7, 1, 4096)

    def drift_of(self, job: str, show_diffs: bool) -> tuple[()]:
        return ()

    def commits(self, commits: Collection[str]) -> dict[str, CommitSummary]:
        return {}

    def run(self, number: int, show_diffs: bool) -> None:
        return None


@dataclass
class FixedBoard:
    """One job in sync, and nothing behind it."""

    push_trigger: PushLog = field(default_factory=PushLog)
    job_control: ControlLog = field(default_factory=ControlLog)
    fleet_watch: Any = None

    def stall_reason(self) -> str | None:
        return None

    def recent_runs(self, show_diffs: bool) -> Sequence[RecentRun]:
        return ()

    @property
    def run_history(self) -> Any:
        return NoRuns()

    def status_snapshot(self) -> StatusSnapshot:
        job = Job("nginx", "ops", "acme/infra", "main", (PathRule("nginx", "/etc/nginx", True),))
        state = JobState(applied_commit="a" * 40, last_run_at=AT, last_success_at=AT)
        return StatusSnapshot(
            AT,
            (JobSnapshot(job, state, "in_sync", 7, None),),
            (SavedRateLimit("ops", 42, "acme", RateLimitStatus(5000, 4786, AT)),),
            ProcessStats(AT),
        )


def board_of(hub: SyncEnv, **more: Any) -> StoreBoard:
    return StoreBoard(load_config(hub.config, {"HOME": str(hub.folder)}), **more)
