"""Checks that something runs the jobs: the daemon, a timer, and the reloads that are pending."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from syncd.config.model import Config
from syncd.diagnosis.finding import Finding, error, ok, warning
from syncd.engine.hook_result import shown_command
from syncd.ports import PendingReload
from syncd.status import JobSnapshot, StatusSnapshot, ago, duration, read_status
from syncd.status.daemon_status import DaemonStatus
from syncd.store.store import SqliteStore

MAX_NAMED = 5  # jobs in one message


def check_daemon(config: Config, store: SqliteStore, now: datetime) -> Iterator[Finding]:
    """Yield the findings about the daemon, the timer and pending reloads, from the store alone."""
    yield from judge_runs(read_status(config, store, now))


def judge_runs(found: StatusSnapshot) -> Iterator[Finding]:
    """Yield what runs the jobs, what is overdue and which reloads are pending. Pure."""
    if found.daemon is not None:
        yield judge_daemon(found.daemon, found.at)
        if found.daemon.alive and found.daemon.overdue:
            yield _overdue(found.daemon)
    if found.timer is not None and found.timer.enabled:
        yield ok("doctor/timer", "timer", f"{found.timer.unit} is enabled")
    elif found.timer is not None and (found.daemon is None or not found.daemon.alive):
        yield warning(
            "doctor/timer-disabled",
            "timer",
            f"{found.timer.unit} is installed and not enabled",
            f"systemctl enable --now {found.timer.unit}",
        )
    elif found.daemon is None:
        yield ok("doctor/no-daemon", "daemon", "none has run yet; syncd sync works without one")
    for job in found.jobs:
        pending = job.state.pending_reload
        if pending is not None and not pending.is_put_off(found.at):
            yield _pending(job, pending, found.at)


def judge_daemon(daemon: DaemonStatus, now: datetime) -> Finding:
    """Return the finding about a daemon that runs, or has run. Pure."""
    last = f"last heartbeat {ago(daemon.last_heartbeat, now)}"
    if daemon.alive:
        return ok("doctor/daemon", "daemon", f"runs, {last}")
    if daemon.stopped:
        return warning(
            "doctor/daemon-stopped",
            "daemon",
            f"was stopped {ago(daemon.last_heartbeat, now)}: nothing runs the jobs",
            f"systemctl start {daemon.service}, or let a timer run: syncd sync",
        )
    restart = f"systemctl restart {daemon.service}; why it ended: {_journal(daemon)}"
    return error("doctor/daemon-dead", "daemon", f"has died, or hangs: {last}", restart)


def _journal(daemon: DaemonStatus) -> str:
    return f"journalctl -u {daemon.service} -n 50"


def _overdue(daemon: DaemonStatus) -> Finding:
    jobs = daemon.overdue
    more = f" and {len(jobs) - MAX_NAMED} more" if len(jobs) > MAX_NAMED else ""
    return warning(
        "doctor/jobs-overdue",
        "daemon",
        f"runs, and these jobs are overdue: {', '.join(jobs[:MAX_NAMED])}{more}",
        f"raise workers:, if all are busy; what it does now: {_journal(daemon)}",
    )


def _pending(one: JobSnapshot, reload: PendingReload, now: datetime) -> Finding:
    hook = one.job.on_change
    command = f": `{shown_command(hook)}`" if hook is not None else ""
    waits = f" for {duration((now - reload.since).total_seconds())}" if reload.since else ""
    return warning(
        "doctor/reload-pending",
        "reload",
        f"{one.job.name}: on_change is pending{waits}{command}",
        f"the next run tries it again; at once: syncd sync {one.job.name}",
    )


__all__ = ["check_daemon", "judge_daemon", "judge_runs"]
