"""A status snapshot as JSON and as lines of text, for the command line and the status page.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from syncd.clock import rfc3339
from syncd.github.rate_limit import SavedRateLimit, reserved_requests
from syncd.ports import JobState
from syncd.status.daemon_status import DaemonStatus
from syncd.status.model import JobSnapshot, StatusSnapshot, WebhookStats
from syncd.status.remedy import remedy_of
from syncd.status.systemd_timer import SystemdTimer
from syncd.store.notification_queue import DeliveryStats

MAX_SHOWN_REPOSITORIES = 3


def status_json(snapshot: StatusSnapshot) -> dict[str, Any]:
    """Return the object of `status --json` and `/api/v1/status`.

    Source: contract section 3, schema syncd.status/1.
    """
    return {
        "schema": "syncd.status/1",
        "jobs": [job_json(one, snapshot.at) for one in snapshot.jobs],
        "identities": [
            _rate_limit_json(one, usage_of(one, snapshot)) for one in snapshot.rate_limits
        ],
        "notifications": [_delivery_json(one) for one in snapshot.deliveries],
        "webhook": None if snapshot.webhook is None else _webhook_json(snapshot.webhook),
        "daemon": None if snapshot.daemon is None else _daemon_json(snapshot.daemon),
        "timer": None if snapshot.timer is None else _timer_json(snapshot.timer),
    }


def job_json(one: JobSnapshot, now: datetime) -> dict[str, Any]:
    """Return the object of one job."""
    state = one.state
    error = None
    if state.last_error is not None:
        error = {
            "kind": state.last_error.kind,
            "id": state.last_error.id,
            "message": state.last_error.message,
            "hint": state.last_error.hint,
        }
    return {
        "job": one.job.name,
        "state": one.condition,
        "since": rfc3339(state.condition_since(now)),
        "commit": state.applied_commit,
        "last_run": rfc3339(state.last_run_at),
        "last_success": rfc3339(state.last_success_at),
        "next_run": rfc3339(one.next_run),
        "files": one.files,
        "drifted": state.drift_count,
        "reload_pending": state.pending_reload is not None,
        "paused": pause_reason(state, now),
        "waiting": None if state.waiting is None else state.waiting.to_json(),
        "error": error,
        "hint": remedy_of(one),
        "warnings": [
            {"reason": warning.reason, "text": warning.text, "hint": warning.hint}
            for warning in one.warnings
        ],
    }


def _rate_limit_json(one: SavedRateLimit, requests: Mapping[str, int]) -> dict[str, Any]:
    return {
        "identity": one.identity,
        "installation": one.installation,
        "account": one.account,
        "limit": one.view.limit,
        "remaining": one.view.remaining,
        "reset": rfc3339(one.view.reset_at),
        "reserve": reserved_requests(one.view.limit),
        "spent": [{"repo": repo, "requests": count} for repo, count in requests.items()],
    }


def _delivery_json(one: DeliveryStats) -> dict[str, Any]:
    return {
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


def _webhook_json(stats: WebhookStats) -> dict[str, Any]:
    return {
        "last_delivery": rfc3339(stats.last_at),
        "last_refused": rfc3339(stats.refused_at),
        "error": stats.problem,
        "unmatched": [
            {
                "repo": one.subject,
                "ref": one.detail,
                "pushes": one.count,
                "last": rfc3339(one.since),
            }
            for one in stats.unmatched
        ],
    }


def _daemon_json(one: DaemonStatus) -> dict[str, Any]:
    return {
        "alive": one.alive,
        "started": rfc3339(one.started_at),
        "last_heartbeat": rfc3339(one.last_heartbeat),
        "stopped": one.stopped,
        "overdue": list(one.overdue),
    }


def _timer_json(one: SystemdTimer) -> dict[str, Any]:
    return {"unit": one.unit, "enabled": one.enabled}


def delivery_problem(one: DeliveryStats) -> str | None:
    """Return what is wrong with the messages to an endpoint, in one line; None when nothing is."""
    if one.error is None and not one.waiting:
        return None
    where = f"{one.host} ({one.endpoint})" if one.host not in (None, "?") else one.endpoint
    waits = "1 message waits" if one.waiting == 1 else f"{one.waiting} messages wait"
    if one.error is None:
        return f"{waits} to be sent to {where}"
    return f"{where} can't be notified: {one.error}" + (f"; {waits}" if one.waiting else "")


def usage_of(one: SavedRateLimit, snapshot: StatusSnapshot) -> Mapping[str, int]:
    """Return the requests of this hour that count against the limit, by repository."""
    return snapshot.usage.get((one.identity, one.installation), {})


def rate_limit_line(one: SavedRateLimit, snapshot: StatusSnapshot) -> str | None:
    """Return one hourly limit as a line; None while its size is unknown and no request was
    counted.
    """
    limit, requests = one.view, list(usage_of(one, snapshot).items())
    if limit.limit is None and not requests:
        return None
    if limit.limit is None:
        left = "no hourly limit told"
    elif limit.reset_at is None or limit.reset_at <= snapshot.at or limit.remaining is None:
        left = f"{limit.limit:,} requests an hour"
    else:
        reset = f"{limit.reset_at:%H:%M} UTC"
        left = f"{limit.remaining:,} of {limit.limit:,} requests left until {reset}"
    shown = ", ".join(f"{repo} {count:,}" for repo, count in requests[:MAX_SHOWN_REPOSITORIES])
    hidden = len(requests) - MAX_SHOWN_REPOSITORIES
    more = f" and {hidden} more" if hidden > 0 else ""
    return f"{one.name}: {left}" + (f"; this hour spent: {shown}{more}" if shown else "")


def webhook_line(stats: WebhookStats, now: datetime) -> str:
    """Return when the last webhook delivery came, and whether a newer one was refused."""
    last = "no delivery yet"
    if stats.last_at is not None:
        event = f" ({stats.last_event})" if stats.last_event else ""
        last = f"last delivery {ago(stats.last_at, now)}{event}"
    if stats.problem is None:
        return last
    return f"{last}; refused {ago(stats.refused_at, now)}: {stats.problem}"


def pause_reason(state: JobState, now: datetime) -> str | None:
    """Return why the job is paused; None when it is not."""
    if state.held:
        return state.describe_pause()
    return None if state.pause is None or state.pause.is_over(now) else state.pause.reason


def ago(moment: datetime | None, now: datetime) -> str:
    """Return the age of a moment to its largest unit, such as `3m ago`; `never` for None."""
    if moment is None:
        return "never"
    return f"{duration((now - moment).total_seconds())} ago"


def duration(seconds: float) -> str:
    """Return a length of time to its largest unit: `12d`, `3h`, `5m`, `40s`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


__all__ = [
    "ago",
    "delivery_problem",
    "duration",
    "job_json",
    "pause_reason",
    "rate_limit_line",
    "rfc3339",
    "status_json",
    "usage_of",
    "webhook_line",
]
