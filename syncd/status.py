"""How everything stands at one moment, as one value: `status`, the status page, its JSON, readiness and the metrics are readings of it.

Promises: asks the store and nobody else, so it costs GitHub nothing and works with a daemon, beside one and without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.config.model import Config
from syncd.cron import parse_cron
from syncd.engine.hook_state import first_line
from syncd.errors import LockedError, MirrorError
from syncd.github.rate_limit import RateLimitStatus, SavedRateLimit, reserve_of
from syncd.identities import AppIdentity
from syncd.models import Job, RunReport, RunStatus
from syncd.ports import JobState
from syncd.schedule import turns_of
from syncd.store.facts import LimitKey, WebhookFacts
from syncd.store.lock import daemon_runs, is_held
from syncd.store.notification_queue import DeliveryStats
from syncd.store.store import SqliteStore
from syncd.stored_jobs import follow_renames

ORDER = ("failing", "drift", "paused", "never", "in_sync")  # the worst first
LOOKS = 3  # at the states, while a job is unfinished without a run
SPENDERS_SHOWN = 3
UNKNOWN = RateLimitStatus(None, None, None)
LIMITS_KEPT = timedelta(
    days=7
)  # a limit of an installation that is not used any more is shown no longer
INTERVALS = 3  # staler than so many, and a job is not ready


class WebhookStats(Struct, frozen=True):
    """What came to the webhook. `last_at` and `last_what` are of the last signed delivery; the times outlive the process, `counts` (by outcome) do not."""

    last_at: datetime | None = None
    last_what: str | None = None
    refused_at: datetime | None = None
    refused_why: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def trouble(self) -> str | None:
        """Why the newest delivery was refused; None where it was not."""
        return (
            self.refused_why
            if self.refused_at is not None
            and (self.last_at is None or self.last_at < self.refused_at)
            else None
        )


class ProcessStats(Struct, frozen=True):
    """What only the process knows that runs the jobs: a daemon since its start, or a one-shot of its one run.

    `runs` counts by (job, outcome), `seconds` is each job's last run, `requests` counts by (identity, HTTP status),
    `expiries` are tokens that live on, `skew_seconds` is GitHub's clock minus ours.
    """

    started_at: datetime
    runs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    requests: Mapping[tuple[str, int], int] = field(default_factory=dict)
    budgets: tuple[SavedRateLimit, ...] = ()
    expiries: Mapping[str, datetime] = field(default_factory=dict)
    next_runs: Mapping[str, datetime | None] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    skew_seconds: float | None = None
    reload_successful: bool = True
    heard: WebhookStats | None = None


class RunCounts:
    """Counts runs as they end. Safe to use from many threads."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._runs: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}

    def add(self, report: RunReport) -> None:
        with self._guard:
            self._runs[report.job, report.status.value] += 1
            if not isinstance(report.error, LockedError):
                self._seconds[report.job] = report.seconds

    def runs(self) -> dict[tuple[str, str], int]:
        with self._guard:
            return dict(self._runs)

    def seconds(self) -> dict[str, float]:
        with self._guard:
            return dict(self._seconds)


class JobSnapshot(Struct, frozen=True):
    """One job. `word` is its public state; `stale` says why it is not ready, and is None for one that is."""

    job: Job
    state: JobState
    word: str
    files: int
    next_run: datetime | None
    running: bool = False
    stale: str | None = None
    interval_seconds: float | None = None  # between the next two turns; None where there are none


class StatusSnapshot(Struct, frozen=True):
    """Everything, at one moment. `life` is None where nobody who runs jobs is asked."""

    at: datetime
    jobs: tuple[JobSnapshot, ...]
    budgets: tuple[SavedRateLimit, ...]
    life: ProcessStats | None = None
    spent: Mapping[LimitKey, Mapping[str, int]] = field(
        default_factory=dict
    )  # repository -> requests that this hour was charged for
    deliveries: tuple[DeliveryStats, ...] = ()
    heard: WebhookStats | None = None  # where a webhook is configured

    @property
    def stale(self) -> tuple[str, ...]:
        """Why we are not ready, one text a job; empty when we are."""
        return tuple(one.stale for one in self.jobs if one.stale is not None)


def read(
    config: Config,
    store: SqliteStore,
    now: datetime,
    life: ProcessStats | None = None,
    names: Iterable[str] | None = None,
) -> StatusSnapshot:
    """How the named jobs stand (all of them by default), in the order of the configuration."""
    asked = config.jobs if names is None else {name: config.jobs[name] for name in names}
    states, files = _states(config, asked, store), store.file_counts()
    jobs = []
    following_turns = (
        _next_runs(config, store, states, now)
        if life is None or not life.next_runs
        else life.next_runs
    )
    for name, job in asked.items():
        state = states[name]
        following = following_turns.get(name) if _has_turns(state, now) else None
        reading = JobSnapshot(
            job,
            state,
            state_of(state, now),
            files.get(name, 0),
            following,
            life is not None and name in life.running,
        )
        jobs.append(
            replace(
                reading,
                stale=_stale(reading, now, life, config.timezone),
                interval_seconds=_interval_seconds(job, config.timezone, now),
            )
        )
    told = store.notifications.deliveries(endpoint.name for endpoint in config.endpoints())
    heard = (
        None
        if config.web is None or config.web.webhook is None
        else life.heard
        if life is not None and life.heard is not None
        else read_heard(store)
    )
    return StatusSnapshot(
        now,
        tuple(jobs),
        _budgets(config, store, now, life),
        life,
        store.facts.usage(now),
        told,
        heard,
    )


def state_of(state: JobState, now: datetime) -> str:
    """One of `in_sync`, `drift`, `failing`, `paused`, `never`."""
    if state.paused(now):
        return "paused"
    if state.failures or state.last_error_kind is not None:
        return "failing"
    if state.last_success_at is None:
        return "never"
    if state.drifted:
        return "drift"
    return "failing" if state.reload_pending or not state.consistent else "in_sync"


def as_object(readings: StatusSnapshot) -> dict[str, Any]:
    """The object of `status --json` and `/api/v1/status` (contract section 3, schema syncd.status/1)."""
    identities = [_identity(one, spent_of(one, readings)) for one in readings.budgets]
    told = [
        {
            "endpoint": one.endpoint,
            "host": one.host,
            "waiting": one.waiting,
            "sent": one.sent,
            "failed": one.failed,
            "dropped": one.dropped,
            "last_sent": rfc3339(one.last_sent_at),
            "last_failed": rfc3339(one.last_failed_at),
            "error": one.error,
        }
        for one in readings.deliveries
    ]
    jobs, heard = [_job(one, readings.at) for one in readings.jobs], readings.heard
    webhook = (
        None
        if heard is None
        else {
            "last_delivery": rfc3339(heard.last_at),
            "last_refused": rfc3339(heard.refused_at),
            "error": heard.trouble,
        }
    )
    return {
        "schema": "syncd.status/1",
        "jobs": jobs,
        "identities": identities,
        "notifications": told,
        "webhook": webhook,
    }


def delivery_trouble(one: DeliveryStats) -> str | None:
    """What is wrong with an endpoint's messages, in one line; None when nothing is."""
    if one.error is None and not one.waiting:
        return None
    where = f"{one.host} ({one.endpoint})" if one.host not in (None, "?") else one.endpoint
    waits = "1 message waits" if one.waiting == 1 else f"{one.waiting} messages wait"
    if one.error is None:
        return f"{waits} to be sent to {where}"
    return f"can't tell {where}: {one.error}" + (f"; {waits}" if one.waiting else "")


def spent_of(one: SavedRateLimit, readings: StatusSnapshot) -> Mapping[str, int]:
    """Repository -> requests of this hour that the limit was charged for."""
    return readings.spent.get((one.identity, one.installation), {})


def _identity(one: SavedRateLimit, requests: Mapping[str, int]) -> dict[str, Any]:
    budget = one.view
    return {
        "identity": one.identity,
        "installation": one.installation,
        "account": one.account,
        "limit": budget.limit,
        "remaining": budget.remaining,
        "reset": rfc3339(budget.reset_at),
        "reserve": reserve_of(budget.limit),
        "spent": [{"repo": repo, "requests": count} for repo, count in requests.items()],
    }


def budget_line(one: SavedRateLimit, readings: StatusSnapshot) -> str | None:
    """One hourly limit for a reader; None while GitHub has said nothing of it and nothing was spent."""
    budget, requests = one.view, list(spent_of(one, readings).items())
    if budget.limit is None and not requests:
        return None
    if budget.limit is None:
        left = "no hourly limit told"
    elif budget.reset_at is None or budget.reset_at <= readings.at or budget.remaining is None:
        left = f"{budget.limit:,} requests an hour"
    else:
        left = f"{budget.remaining:,} of {budget.limit:,} requests left until {budget.reset_at:%H:%M} UTC"
    shown = ", ".join(f"{repo} {count:,}" for repo, count in requests[:SPENDERS_SHOWN])
    more = f" and {len(requests) - SPENDERS_SHOWN} more" if len(requests) > SPENDERS_SHOWN else ""
    return f"{one.name}: {left}" + (f"; this hour spent: {shown}{more}" if shown else "")


def _job(one: JobSnapshot, now: datetime) -> dict[str, Any]:
    state = one.state
    return {
        "job": one.job.name,
        "state": one.word,
        "commit": state.applied_commit,
        "last_run": rfc3339(state.last_run_at),
        "last_success": rfc3339(state.last_success_at),
        "next_run": rfc3339(one.next_run),
        "files": one.files,
        "drifted": state.drifted,
        "reload_pending": state.reload_pending,
        "paused": paused_text(state, now),
        "error": None
        if state.last_error_kind is None
        else {"kind": state.last_error_kind, "message": state.last_error},
    }


def paused_text(state: JobState, now: datetime) -> str | None:
    """Why the job is left alone; None when it is not."""
    if not state.paused(now):
        return None
    return "held after a rollback" if state.held else state.paused_reason


def rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(moment: datetime | None, now: datetime) -> str:
    """`3m ago`, to the largest unit; `never` for None."""
    if moment is None:
        return "never"
    return f"{span((now - moment).total_seconds())} ago"


def span(seconds: float) -> str:
    """A length of time to its largest unit: `12d`, `3h`, `5m`, `40s`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


# --- one job ----------------------------------------------------------------------------------------------------------


def _states(config: Config, names: Iterable[str], store: SqliteStore) -> dict[str, JobState]:
    """The state of each job. A job whose run is under way counts as settled.

    A run may end between the look at its state and the look at its lock, so a job that is unfinished
    without a run is looked at again. After LOOKS times, its run was interrupted or its reload is pending.
    """
    states: dict[str, JobState] = {}
    for look in range(LOOKS):
        if look:
            store.refresh()
            with suppress(
                MirrorError
            ):  # a run that ended may have stored the job under its new name
                follow_renames(config.jobs, store)
        stored = store.states(names)
        states = {name: stored.get(name, JobState()) for name in names}
        unfinished = [
            name for name, one in states.items() if one.reload_pending or not one.consistent
        ]
        running = [name for name in unfinished if is_held(config.state, name)]
        states |= {
            name: replace(states[name], consistent=True, reload_pending=False) for name in running
        }
        if len(running) == len(unfinished):
            break
    return states


def write_heard(store: SqliteStore, heard: WebhookStats) -> None:
    """`status` and `doctor` beside the daemon, and the next daemon, know when the webhook was heard of last. Raises StoreError."""
    store.facts.save_webhook(
        WebhookFacts(heard.last_at, heard.last_what, heard.refused_at, heard.refused_why)
    )


def read_heard(store: SqliteStore) -> WebhookStats:
    """What the last daemon heard. Raises StoreError."""
    known = store.facts.webhook()
    return WebhookStats(known.last_at, known.last_what, known.refused_at, known.refused_why)


def heard_line(heard: WebhookStats, now: datetime) -> str:
    """When GitHub was heard of last through the webhook, in words."""
    last = (
        f"last delivery {ago(heard.last_at, now)}{f' ({heard.last_what})' if heard.last_what else ''}"
        if heard.last_at is not None
        else "no delivery yet"
    )
    trouble = (
        f"; refused {ago(heard.refused_at, now)}: {heard.trouble}"
        if heard.trouble is not None
        else ""
    )
    return last + trouble


def _next_runs(
    config: Config, store: SqliteStore, states: Mapping[str, JobState], now: datetime
) -> dict[str, datetime | None]:
    """When each of these jobs is due next: by the running daemon's turns; without one by its own schedule, after its last run."""
    daemon = daemon_runs(config.state)
    holds, turns = (
        (store.facts.backoffs(), turns_of(config.jobs, config.timezone)) if daemon else ({}, {})
    )
    found: dict[str, datetime | None] = {}
    for name, state in states.items():
        if daemon:
            begins = (
                state.paused_until if state.paused(now) and state.paused_until is not None else now
            )
            found[name] = turns[name].next_after(max(begins, holds.get(name, now)))
        else:
            found[name] = (
                turns_after(config.jobs[name], config.timezone, state.last_run_at, 1)
                if state.last_run_at is not None
                else None
            )
    return found


def _has_turns(state: JobState, now: datetime) -> bool:
    """Is there a time at which the job goes on by itself?"""
    return not state.paused(now) or not (state.held or state.paused_until is None)


def turns_after(job: Job, timezone: str, moment: datetime, count: int) -> datetime | None:
    """When so many turns of the job have passed since `moment`; None when there never will be."""
    if job.every_seconds:
        return moment + timedelta(seconds=count * job.every_seconds)
    if job.cron is None:
        return None
    cron, zone, found = parse_cron(job.cron), ZoneInfo(timezone), moment
    for _ in range(count):
        following = cron.next_after(found.astimezone(zone))
        if following is None:
            return None
        found = following.astimezone(UTC)
    return found


def _interval_seconds(job: Job, timezone: str, now: datetime) -> float | None:
    if job.every_seconds:
        return job.every_seconds
    first = turns_after(job, timezone, now, 1)
    second = turns_after(job, timezone, first, 1) if first is not None else None
    return (second - first).total_seconds() if first is not None and second is not None else None


def _stale(one: JobSnapshot, now: datetime, life: ProcessStats | None, timezone: str) -> str | None:
    """Why the job is not ready: no success for three intervals, counted from our start for one that never had any.

    A paused job is as somebody wanted it.
    """
    since = one.state.last_success_at or (life.started_at if life is not None else None)
    if one.word == "paused" or since is None:
        return None
    ends = turns_after(one.job, timezone, since, INTERVALS)
    if ends is None or now <= ends:
        return None
    last = (
        f"last success {ago(one.state.last_success_at, now)}"
        if one.state.last_success_at is not None
        else f"no success since syncd started {ago(since, now)}"
    )
    why = f": {first_line(one.state.last_error)}" if one.state.last_error else ""
    return f"{one.job.name}: {last}, which is more than {INTERVALS} intervals ({_interval(one.job)}){why}"


def _interval(job: Job) -> str:
    return f"every {span(job.every_seconds)}" if job.every_seconds else f"cron {job.cron}"


def _budgets(
    config: Config, store: SqliteStore, now: datetime, life: ProcessStats | None
) -> tuple[SavedRateLimit, ...]:
    """Every limit that is known, in the order of the identities; one without numbers for an identity of which none is."""
    rows = (
        SavedRateLimit(
            row.identity,
            row.installation,
            row.account,
            RateLimitStatus(row.limit, row.remaining, row.reset_at),
        )
        for row in store.facts.limits()
    )
    known = {
        (one.identity, one.installation): one
        for one in rows
        if one.view.reset_at is None or now - one.view.reset_at < LIMITS_KEPT
    }
    for one in life.budgets if life is not None else ():
        replaced = [
            key
            for key, row in known.items()
            if key[0] == one.identity and one.account is not None and row.account == one.account
        ]
        for key in replaced:
            del known[key]
        known[one.identity, one.installation] = one
    found: list[SavedRateLimit] = []
    for name, identity in config.identities.items():
        as_app = isinstance(identity, AppIdentity)
        own = [
            one
            for one in known.values()
            if one.identity == name and (one.installation is not None) == as_app
        ]
        found += sorted(own, key=lambda one: (one.account or "", one.installation or 0)) or [
            SavedRateLimit(
                name,
                identity.installation_id if isinstance(identity, AppIdentity) else None,
                None,
                UNKNOWN,
            )
        ]
    return tuple(found)


OUTCOMES = tuple(status.value for status in RunStatus)
HEARD_OUTCOMES = ("asked", "ignored", "repeated", "refused")

__all__ = [
    "HEARD_OUTCOMES",
    "INTERVALS",
    "ORDER",
    "OUTCOMES",
    "JobSnapshot",
    "ProcessStats",
    "RunCounts",
    "StatusSnapshot",
    "WebhookStats",
    "ago",
    "as_object",
    "delivery_trouble",
    "heard_line",
    "paused_text",
    "read",
    "read_heard",
    "rfc3339",
    "span",
    "state_of",
    "turns_after",
    "write_heard",
]
