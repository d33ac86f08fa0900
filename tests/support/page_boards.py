"""What the status page may have to show, one board of values for each look. No store is behind it.

Text from outside (paths, messages, authors, lines, reasons) holds markup in every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from syncd.apply_rules import WaitingCommit
from syncd.github.rate_limit import RateLimitStatus, SavedRateLimit
from syncd.models import CommitSummary, Hook, Job, PathRule
from syncd.ports import Condition, JobState, LastError, Pause, PendingReload, Rejection
from syncd.recent_runs import LedgerSummary, RecentChange, RecentRun, RunSummary
from syncd.status import JobSnapshot, ProcessStats, StatusSnapshot
from syncd.status.daemon_status import DaemonStatus
from syncd.store.actions import OperatorAction, Person
from syncd.store.facts import LimitKey
from tests.support.status_board import ControlLog, PushLog

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
COMMIT, NEWER = "9d2e11b" + "0" * 33, "4c0ffee" + "0" * 33
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
OTHERS = CommitSummary(f"Raise the worker limit {MARKUP}", f"Ada {MARKUP}")
DIFF = (
    "@@ -1,3 +1,3 @@",
    " user www-data;",
    "-worker_processes 1;",
    f"+worker_processes auto; # {MARKUP}",
)


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def job(name: str, repo: str = "acme/infra", **more: Any) -> Job:
    paths = (
        PathRule(name, f"/etc/{name}", True),
        PathRule("motd", f"/srv/{MARKUP}/motd", False),
    )
    return Job(name, "ops", repo, "main", paths, **more)


def row(name: str, condition: str = "in_sync", job_more: dict[str, Any] = {}, **more: Any) -> Any:  # noqa: B006
    """One job of the overview, as it is since an hour."""
    state = {
        "applied_commit": COMMIT,
        "last_run_at": ago(minutes=3),
        "last_success_at": ago(minutes=3),
        "condition": Condition(condition, ago(hours=1)),
        **more,
    }
    return JobSnapshot(
        job(name, **job_more),
        JobState(**state),
        condition,
        7,
        NOW + timedelta(minutes=2),
        web_url="https://github.com/acme/infra",
    )


FAILED = row(
    "postgres",
    "failing",
    failures=3,
    last_success_at=ago(minutes=17),
    last_error=LastError(
        "hook",
        f"validate failed for 4c0ffee (exit 1)\n  syntax error in line 41 {MARKUP}",
        "hook/validate-failed",
        "fix it in acme/infra; the next commit is tried again. Last output: syncd history postgres",
    ),
    rejection=Rejection(NEWER, "d" * 64, "validate failed"),
)
DRIFTED = row("nginx", "drift", drift_count=2)
PAUSED = row("legacy", "paused", pause=Pause(f"change freeze {MARKUP} (octocat)"))
RELOAD = row(
    "haproxy",
    "failing",
    {"on_change": Hook("systemctl reload haproxy")},
    failures=4,
    pending_reload=PendingReload(NEWER, COMMIT, ago(minutes=14), 4, ago(minutes=2)),
    last_error=LastError(
        "hook", f"on_change failed (exit 1): systemctl reload haproxy\n  {MARKUP}", "hook/on-change"
    ),
)
WAITING = row("mail", "waiting", waiting=WaitingCommit(NEWER, NOW + timedelta(hours=9), "window"))
WELL = [row(name) for name in ("motd", "sshd", "prometheus")]
MANY = [
    row(f"web-{number:03}", "failing" if number in (17, 230) else "in_sync")
    for number in range(300)
]
DEAD = DaemonStatus(False, ago(days=12), ago(minutes=41), overdue=("motd", "sshd"))
ALIVE = DaemonStatus(True, ago(days=12), ago(seconds=2))


@dataclass
class LookBoard:
    """A source of the pages with these jobs."""

    jobs: Sequence[JobSnapshot]
    daemon: DaemonStatus = ALIVE
    push_trigger: PushLog = field(default_factory=PushLog)
    job_control: ControlLog = field(default_factory=ControlLog)
    fleet_watch: Any = None

    def stall_reason(self) -> str | None:
        return None

    def status_snapshot(self) -> StatusSnapshot:
        process = ProcessStats(ago(days=12), requests={("ops", 304): 940, ("ops", 200): 60})
        limits = (SavedRateLimit("ops", 42, "acme", RateLimitStatus(5000, 4786, ago(minutes=-41))),)
        usage: dict[LimitKey, dict[str, int]] = {("ops", 42): {"acme/infra": 214}}
        return StatusSnapshot(
            NOW, tuple(self.jobs), limits, process, usage, daemon=self.daemon, webhook=None
        )

    def recent_runs(self, show_diffs: bool) -> tuple[RecentRun, ...]:
        if not self.jobs:
            return ()
        name = self.jobs[0].job.name
        changes = (RecentChange("write", f"/etc/{name}/{MARKUP}.conf", DIFF),)
        return (
            RecentRun(name, ago(minutes=3), "changed", COMMIT, NEWER, None, changes),
            RecentRun(name, ago(hours=5), "failed", NEWER, COMMIT, f"timeout {MARKUP}", (), 3),
        )

    @property
    def run_history(self) -> LookHistory:
        return LookHistory()


class LookHistory:
    """Some runs and actions of every job."""

    def of_job(self, name: str) -> tuple[RunSummary, ...]:
        return tuple(
            RunSummary(
                90 - number,
                ago(hours=3 * number + 1),
                "push" if number % 3 else "schedule",
                "failed" if number % 7 == 4 else "changed",
                NEWER if number % 2 else COMMIT,
                COMMIT if number % 2 else NEWER,
                0.4 + (number * 7 % 11) / 5,
                0 if number % 7 == 4 else 1 + number % 4,
                f"validate failed {MARKUP}" if number % 7 == 4 else None,
                ago(hours=3 * number + 1),
                None if number % 7 == 4 else 2.0 + number * 5 % 13,
            )
            for number in range(24)
        )

    def actions_of(self, name: str) -> tuple[OperatorAction, ...]:
        person = Person("octocat", "192.0.2.7")
        return (
            OperatorAction(name, "sync", ago(seconds=20), person),
            OperatorAction(name, "pause", ago(hours=2), person, f"change freeze {MARKUP}"),
        )

    def ledger_of(self, name: str) -> LedgerSummary:
        return LedgerSummary(213, 4, 1_812_000, 1)

    def drift_of(self, name: str, show_diffs: bool) -> tuple[RecentChange, ...]:
        hidden = RecentChange("keep", f"/etc/{name}/key", (), "not every user may read it")
        return (RecentChange("keep", f"/etc/{name}/nginx.conf", DIFF), hidden)

    def commits(self, commits: Collection[str]) -> dict[str, CommitSummary]:
        known = {
            COMMIT: CommitSummary("Raise the worker limit", "Ada Lovelace"),
            NEWER: OTHERS,
        }
        return {commit: known[commit] for commit in commits if commit in known}

    def run(self, number: int, show_diffs: bool) -> RecentRun | None:
        changes = (RecentChange("write", f"/etc/nginx/{MARKUP}.conf", DIFF),)
        return RecentRun("nginx", ago(minutes=3), "changed", NEWER, COMMIT, None, changes)


# the looks of the overview, each with the sentence in its heading
LOOKS: dict[str, tuple[Callable[[], LookBoard], str]] = {
    "well": (lambda: LookBoard(WELL), "All 3 jobs are in sync"),
    "failing": (lambda: LookBoard([FAILED, *WELL]), "1 of 4 jobs is failing"),
    "drift": (lambda: LookBoard([DRIFTED, *WELL]), "1 of 4 jobs has drifted"),
    "paused": (lambda: LookBoard([PAUSED, *WELL]), "1 of 4 jobs is paused"),
    "reload": (lambda: LookBoard([RELOAD, WAITING, *WELL]), "1 of 5 jobs is failing, 1 waits"),
    "dead": (lambda: LookBoard(WELL, DEAD), "All 3 jobs are in sync, but the daemon is dead"),
    "empty": (lambda: LookBoard([]), "No job is configured"),
    "many": (lambda: LookBoard(MANY), "2 of 300 jobs are failing"),
}


def worst() -> LookBoard:
    """Everything that can be wrong at once."""
    return LookBoard([FAILED, DRIFTED, PAUSED, RELOAD, WAITING, *WELL])


__all__ = ["COMMIT", "LOOKS", "MARKUP", "NOW", "LookBoard", "worst"]
