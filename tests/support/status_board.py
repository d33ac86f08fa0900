"""Who runs the jobs, as far as the listener asks: readings of a real store, and what a daemon would add to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from syncd.config.load import load_config
from syncd.config.model import Config
from syncd.github.rate_limit import RateLimitStatus, SavedRateLimit
from syncd.github.webhook import Push
from syncd.models import Job, PathRule
from syncd.ports import JobState
from syncd.recent_runs import Diffs, RecentRun, recent
from syncd.status import JobSnapshot, ProcessStats, StatusSnapshot, read
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from tests.support.sync_env import SyncEnv

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@dataclass
class PushLog:
    """A bell that writes down what it hears. `followers` is how many jobs each push starts."""

    followers: int = 1
    rung: list[tuple[Push, str | None, str]] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    refused: list[str | None] = field(default_factory=list)

    def ring(self, push: Push, mark: str | None, what: str) -> int | None:
        known = mark is not None and mark in [before for _, before, _ in self.rung]
        self.rung.append((push, mark, what))
        return None if known else self.followers

    def pass_by(self, what: str) -> None:
        self.passed.append(what)

    def refuse(self, why: str | None) -> None:
        self.refused.append(why)


@dataclass
class StoreBoard:
    """`now` is what the clock says; the real one where it is None. `fails` is raised instead of an answer; `stuck` is what does not move."""

    config: Config
    life: ProcessStats = field(default_factory=lambda: ProcessStats(AT))
    now: datetime | None = None
    fails: Exception | None = None
    stuck: str | None = None
    bell: PushLog = field(default_factory=PushLog)
    diffs: Diffs = field(default_factory=Diffs)

    def frozen(self) -> str | None:
        return self.stuck

    def recent(self, show_diffs: bool) -> Sequence[RecentRun]:
        store = SqliteStore.open_readonly(self.config.state)
        try:
            return recent(store, BlobCache(self.config.state / "blobs"), show_diffs, self.diffs)
        finally:
            store.close()

    def readings(self) -> StatusSnapshot:
        if self.fails is not None:
            raise self.fails
        store = SqliteStore.open_readonly(self.config.state)
        try:
            return read(self.config, store, self.now or datetime.now(UTC), self.life)
        finally:
            store.close()


@dataclass
class FixedBoard:
    """One job in sync, and nothing behind it."""

    bell: PushLog = field(default_factory=PushLog)

    def frozen(self) -> str | None:
        return None

    def recent(self, show_diffs: bool) -> Sequence[RecentRun]:
        return ()

    def readings(self) -> StatusSnapshot:
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
