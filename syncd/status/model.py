"""Values of a status snapshot: jobs, rate limits, webhook deliveries and the counters of the
running process.

Pure: no I/O. `syncd.status.read` fills them from the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from threading import Lock

from msgspec import Struct, field

from syncd.errors import LockedError
from syncd.github.rate_limit import SavedRateLimit
from syncd.models import Job, RunReport, RunStatus
from syncd.ports import JobState
from syncd.status.daemon_status import DaemonStatus
from syncd.status.systemd_timer import SystemdTimer
from syncd.store.facts import LimitKey, Staleness
from syncd.store.notification_queue import DeliveryStats

CONDITIONS = (
    "failing",
    "drift",
    "paused",
    "checking",
    "never",
    "waiting",
    "in_sync",
)  # the worst first
RUN_OUTCOMES = tuple(status.value for status in RunStatus)
DELIVERY_OUTCOMES = ("asked", "ignored", "repeated", "refused", "unmatched", "missed")
INTERVALS = 3  # a job without a success for more intervals than this is not ready


class WebhookStats(Struct, frozen=True):
    """Deliveries to the webhook. `last_at` and `last_event` describe the last signed delivery.

    `counts` (by outcome) starts at zero with each process; the store keeps the other fields.
    `unmatched` are pushes that no job follows, one per repository, the last one at the end;
    `missed` are commits of jobs that no delivery has announced.
    """

    last_at: datetime | None = None
    last_event: str | None = None
    refused_at: datetime | None = None
    refused_reason: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    unmatched: tuple[Staleness, ...] = ()
    missed: tuple[Staleness, ...] = ()

    @property
    def problem(self) -> str | None:
        """Return why the newest delivery was refused; None when it was accepted."""
        if self.refused_at is None or (
            self.last_at is not None and self.last_at >= self.refused_at
        ):
            return None
        return self.refused_reason


class ProcessStats(Struct, frozen=True):
    """Facts that only the process that runs the jobs knows: a daemon since its start, or a
    one-shot.

    `runs` counts by (job, outcome), `seconds` is the duration of each job's last run, `requests`
    counts by (identity, HTTP status), `expiries` are the ends of tokens that syncd does not renew
    itself, and `skew_seconds` is GitHub's clock minus ours.
    """

    started_at: datetime
    runs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    requests: Mapping[tuple[str, int], int] = field(default_factory=dict)
    rate_limits: tuple[SavedRateLimit, ...] = ()
    expiries: Mapping[str, datetime] = field(default_factory=dict)
    next_runs: Mapping[str, datetime | None] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    skew_seconds: float | None = None
    reload_successful: bool = True
    webhook: WebhookStats | None = None


class RunCounts:
    """Counters of finished runs. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}

    def add(self, report: RunReport) -> None:
        """Count one finished run. A run that found its job locked has no duration."""
        with self._lock:
            self._runs[report.job, report.status.value] += 1
            if not isinstance(report.error, LockedError):
                self._seconds[report.job] = report.seconds

    def runs(self) -> dict[tuple[str, str], int]:
        """Return the number of runs by (job, outcome)."""
        with self._lock:
            return dict(self._runs)

    def seconds(self) -> dict[str, float]:
        """Return the duration of each job's last run."""
        with self._lock:
            return dict(self._seconds)


class JobWarning(Struct, frozen=True):
    """Why changes of a job come late though no run fails: a stable name, a text and the remedy."""

    reason: str
    text: str
    hint: str


class JobSnapshot(Struct, frozen=True):
    """Status of one job.

    `condition` is one of `CONDITIONS`. `stale` says why the job is not ready; it is None for a
    ready job. `interval_seconds` is the time between the next two scheduled runs; None when none
    are scheduled. `web_url` is the address of the repository's page on its host.
    """

    job: Job
    state: JobState
    condition: str
    files: int
    next_run: datetime | None
    running: bool = False
    stale: str | None = None
    interval_seconds: float | None = None
    web_url: str | None = None
    warnings: tuple[JobWarning, ...] = ()


class StatusSnapshot(Struct, frozen=True):
    """Status of every job at one moment.

    `process` is None when no process that runs jobs is asked. `usage` maps each rate limit to the
    requests per repository of this hour. `webhook` is None when no webhook is configured, `daemon`
    where none has ever run, `timer` where no unit is installed.
    """

    at: datetime
    jobs: tuple[JobSnapshot, ...]
    rate_limits: tuple[SavedRateLimit, ...]
    process: ProcessStats | None = None
    usage: Mapping[LimitKey, Mapping[str, int]] = field(default_factory=dict)
    deliveries: tuple[DeliveryStats, ...] = ()
    webhook: WebhookStats | None = None
    daemon: DaemonStatus | None = None
    timer: SystemdTimer | None = None

    @property
    def stale(self) -> tuple[str, ...]:
        """Return why syncd is not ready, one text per job; empty when it is ready."""
        return tuple(one.stale for one in self.jobs if one.stale is not None)


__all__ = [
    "CONDITIONS",
    "DELIVERY_OUTCOMES",
    "INTERVALS",
    "RUN_OUTCOMES",
    "JobSnapshot",
    "JobWarning",
    "ProcessStats",
    "RunCounts",
    "StatusSnapshot",
    "WebhookStats",
]
