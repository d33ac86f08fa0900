"""Read a status snapshot from the store.

Reading sends no request to GitHub. What only the process that runs the jobs knows comes in as
`ProcessStats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from syncd.config.model import Config
from syncd.cron import parse_cron
from syncd.engine.hook_result import first_line
from syncd.errors import MirrorError
from syncd.github.rate_limit import RateLimitStatus, SavedRateLimit
from syncd.identities import AppIdentity, FleetIdentity, Identity
from syncd.models import Job
from syncd.ports import JobState
from syncd.schedule import schedules_of
from syncd.status.model import (
    INTERVALS,
    JobSnapshot,
    ProcessStats,
    StatusSnapshot,
    WebhookStats,
)
from syncd.status.read_daemon import read_daemon_status
from syncd.status.render import ago, duration
from syncd.status.staleness import warnings_of
from syncd.status.systemd_timer import find_timer
from syncd.store.facts import DELIVERY_MISSED, PUSH_UNMATCHED, WebhookFacts
from syncd.store.lock import daemon_runs, is_held
from syncd.store.store import SqliteStore
from syncd.stored_jobs import follow_renames
from syncd.time_zones import time_zone

MAX_READS = 3  # of the states, while a job is unfinished and no run holds its lock
UNKNOWN_LIMIT = RateLimitStatus(None, None, None)
LIMIT_TTL = timedelta(days=7)  # the limit of an installation that is not used any more is hidden


def read_status(
    config: Config,
    store: SqliteStore,
    now: datetime,
    process: ProcessStats | None = None,
    names: Iterable[str] | None = None,
) -> StatusSnapshot:
    """Return the status of the named jobs (all by default), in the order of the configuration.

    Raises StoreError.
    """
    asked = config.jobs if names is None else {name: config.jobs[name] for name in names}
    states, files = _states(config, asked, store), store.file_counts()
    next_runs = process.next_runs if process is not None else {}
    next_runs = next_runs or _next_runs(config, store, states, now)
    webhook, staleness = _webhook_stats(config, store, process), store.facts.staleness()
    pages = {name: identity.web_url for name, identity in config.identities.items()}
    jobs = tuple(
        JobSnapshot(
            job,
            states[name],
            states[name].condition_at(now),
            files.get(name, 0),
            next_runs.get(name) if _resumes_by_itself(states[name], now) else None,
            process is not None and name in process.running,
            _stale_reason(job, states[name], now, process, config.timezone),
            _interval_seconds(job, config.timezone, now),
            _page_of(job, pages[job.identity]),
            warnings_of(job, staleness, webhook),
        )
        for name, job in asked.items()
    )
    return StatusSnapshot(
        now,
        jobs,
        _rate_limits(config, store, now, process),
        process,
        store.facts.usage(now),
        store.notifications.deliveries(_outboxes(config)),
        webhook,
        read_daemon_status(config, store, states, now),
        find_timer(),
    )


def _page_of(job: Job, web_url: str | None) -> str | None:
    """Return the address of the repository's page on its host."""
    return None if web_url is None else f"{web_url}/{job.repo}"


def _outboxes(config: Config) -> list[str]:
    """Return the receivers of notifications, and the identities that set statuses."""
    names = [endpoint.name for endpoint in config.endpoints()]
    reports = (job.report for job in config.jobs.values())
    reporters = {f"status:{one.identity}": None for one in reports if one.status}
    return [*names, *reporters]


# --- jobs -----------------------------------------------------------------------------------------


def _states(config: Config, names: Iterable[str], store: SqliteStore) -> dict[str, JobState]:
    """Return the state of each job. A job whose run is in progress counts as consistent.

    A run may end between reading its state and testing its lock, so the states are read again while
    a job is unfinished and no run holds its lock. If that is still so after MAX_READS, its run was
    interrupted or its reload is pending.
    """
    states: dict[str, JobState] = {}
    for attempt in range(MAX_READS):
        if attempt:
            store.refresh()
            with suppress(MirrorError):  # a run that ended may have stored the job's new name
                follow_renames(config.jobs, store)
        stored = store.states(names)
        states = {name: stored.get(name, JobState()) for name in names}
        unfinished = [
            name
            for name, one in states.items()
            if one.pending_reload is not None or not one.consistent or _waits_for_window(one)
        ]
        running = [name for name in unfinished if is_held(config.state, name)]
        states |= {name: _as_after_the_run(states[name]) for name in running}
        if len(running) == len(unfinished):
            break
    return states


def _waits_for_window(state: JobState) -> bool:
    """Return whether a health check is pending whose window is not open yet."""
    return state.pending_health is not None and state.pending_health.since is None


def _as_after_the_run(state: JobState) -> JobState:
    """Return the state of a job that runs now as it is when nothing goes wrong."""
    pending = None if _waits_for_window(state) else state.pending_health
    return replace(state, consistent=True, pending_reload=None, pending_health=pending)


def _next_runs(
    config: Config, store: SqliteStore, states: Mapping[str, JobState], now: datetime
) -> dict[str, datetime | None]:
    """Return when each job is due next.

    With a running daemon that is its schedule, after a back-off or a pause; without one, one
    interval after the last run.
    """
    if not daemon_runs(config.state):
        return {
            name: nth_run_after(config.jobs[name], config.timezone, state.last_run_at, 1)
            if state.last_run_at is not None
            else None
            for name, state in states.items()
        }
    backoffs, schedules = store.facts.backoffs(), schedules_of(config.jobs, config.timezone)
    found = {}
    for name, state in states.items():
        begins = now
        pause = state.pause
        if pause is not None and pause.until is not None and state.paused(now):
            begins = pause.until
        found[name] = schedules[name].next_after(max(begins, backoffs.get(name, now)))
    return found


def _resumes_by_itself(state: JobState, now: datetime) -> bool:
    """Return whether the job will run without an operator: it is not paused, or only for a time."""
    if state.held:
        return False
    return state.pause is None or state.pause.until is not None


def nth_run_after(job: Job, timezone: str, moment: datetime, count: int) -> datetime | None:
    """Return the `count`-th scheduled run of the job after `moment`; None when there never is
    one.
    """
    if job.every_seconds:
        return moment + timedelta(seconds=count * job.every_seconds)
    if job.cron is None:
        return None
    cron, zone, found = parse_cron(job.cron), time_zone(timezone), moment
    for _ in range(count):
        following = cron.next_after(found.astimezone(zone))
        if following is None:
            return None
        found = following.astimezone(UTC)
    return found


def _interval_seconds(job: Job, timezone: str, now: datetime) -> float | None:
    if job.every_seconds:
        return job.every_seconds
    first = nth_run_after(job, timezone, now, 1)
    second = nth_run_after(job, timezone, first, 1) if first is not None else None
    return (second - first).total_seconds() if first is not None and second is not None else None


def _stale_reason(
    job: Job, state: JobState, now: datetime, process: ProcessStats | None, timezone: str
) -> str | None:
    """Return why the job is not ready: no success for three intervals.

    For a job that never succeeded, the intervals count from the start of the process. A job that is
    paused, or whose health is being checked, is never stale, nor is one before its reload may run.
    """
    since = state.last_success_at or (process.started_at if process is not None else None)
    pending = state.pending_reload
    planned_at = None if pending is None else pending.planned_at
    if state.condition_at(now) in ("paused", "checking") or since is None:
        return None
    if planned_at is not None and now < planned_at:
        return None
    ends = nth_run_after(job, timezone, since, INTERVALS)
    if ends is None or now <= ends:
        return None
    last = f"no success since syncd started {ago(since, now)}"
    if state.last_success_at is not None:
        last = f"last success {ago(since, now)}"
    every = _schedule_text(job)
    why = ""
    if state.last_error is not None and state.last_error.message:
        why = f": {first_line(state.last_error.message)}"
    return f"{job.name}: {last}, which is more than {INTERVALS} intervals ({every}){why}"


def _schedule_text(job: Job) -> str:
    return f"every {duration(job.every_seconds)}" if job.every_seconds else f"cron {job.cron}"


# --- rate limits ----------------------------------------------------------------------------------


def _rate_limits(
    config: Config, store: SqliteStore, now: datetime, process: ProcessStats | None
) -> tuple[SavedRateLimit, ...]:
    """Return every known limit in the order of the identities.

    An identity without a known limit has one entry without numbers.
    """
    known = _known_limits(store, now, process.rate_limits if process is not None else ())
    return tuple(
        one
        for name, identity in config.identities.items()
        if not isinstance(identity, FleetIdentity)
        for one in _limits_of(name, identity, known)
    )


def _known_limits(
    store: SqliteStore, now: datetime, observed: Iterable[SavedRateLimit]
) -> list[SavedRateLimit]:
    """Return the stored limits, replaced by those that the running process has observed."""
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
        if one.view.reset_at is None or now - one.view.reset_at < LIMIT_TTL
    }
    for one in observed:
        replaced = [
            key
            for key, row in known.items()
            if key[0] == one.identity and one.account is not None and row.account == one.account
        ]
        for key in replaced:
            del known[key]
        known[one.identity, one.installation] = one
    return list(known.values())


def _limits_of(
    name: str, identity: Identity, known: Iterable[SavedRateLimit]
) -> list[SavedRateLimit]:
    is_app = isinstance(identity, AppIdentity)
    own = [
        one for one in known if one.identity == name and (one.installation is not None) == is_app
    ]
    if own:
        return sorted(own, key=lambda one: (one.account or "", one.installation or 0))
    installation = identity.installation_id if isinstance(identity, AppIdentity) else None
    return [SavedRateLimit(name, installation, None, UNKNOWN_LIMIT)]


# --- webhook --------------------------------------------------------------------------------------


def save_webhook_stats(store: SqliteStore, stats: WebhookStats) -> None:
    """Save the last delivery, for commands beside the daemon and for the next daemon.

    Raises StoreError.
    """
    store.facts.save_webhook(
        WebhookFacts(stats.last_at, stats.last_event, stats.refused_at, stats.refused_reason)
    )
    store.facts.save_staleness(PUSH_UNMATCHED, stats.unmatched)
    store.facts.save_staleness(DELIVERY_MISSED, stats.missed)


def load_webhook_stats(store: SqliteStore) -> WebhookStats:
    """Return the deliveries that the last daemon has saved. Raises StoreError."""
    known, staleness = store.facts.webhook(), store.facts.staleness()
    return WebhookStats(
        known.last_at,
        known.last_what,
        known.refused_at,
        known.refused_why,
        unmatched=tuple(one for one in staleness if one.reason == PUSH_UNMATCHED),
        missed=tuple(one for one in staleness if one.reason == DELIVERY_MISSED),
    )


def _webhook_stats(
    config: Config, store: SqliteStore, process: ProcessStats | None
) -> WebhookStats | None:
    if config.web is None or config.web.webhook is None:
        return None
    if process is not None and process.webhook is not None:
        return process.webhook
    return load_webhook_stats(store)


__all__ = ["load_webhook_stats", "nth_run_after", "read_status", "save_webhook_stats"]
