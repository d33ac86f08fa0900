"""Builds the lines of `syncd status`: a row per job, the worst first, with reasons and remedy.

The daemon, the rate limits, the webhook and the notifications follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from syncd.cli.folding import fold
from syncd.cli.table import table, width
from syncd.status import (
    CONDITIONS,
    UNMATCHED_HINT,
    DaemonStatus,
    JobSnapshot,
    StatusSnapshot,
    ago,
    daemon_problem,
    delivery_problem,
    duration,
    rate_limit_line,
    reasons_of,
    remedy_of,
    unmatched_line,
    webhook_line,
)
from syncd.text import one_line, styled

COLOUR = {
    "failing": "red",
    "drift": "yellow",
    "paused": "cyan",
    "checking": "cyan",
    "never": "cyan",
    "waiting": "cyan",
    "in_sync": "green",
}
HEADING = ["STATE", "JOB", "SOURCE", "COMMIT", "SINCE", "LAST", "NEXT"]
LEAST_NEEDED = ("COMMIT", "SOURCE", "LAST")  # left out in this order on a narrow terminal


def status_lines(snapshot: StatusSnapshot, terminal_width: int | None) -> Iterator[str]:
    """Yield the lines. None for the width of a pipe: nothing is left out or wrapped."""
    jobs = sorted(snapshot.jobs, key=lambda one: CONDITIONS.index(one.condition))
    rows = [HEADING, *(_cells(one, snapshot) for one in jobs)]
    heading, *lines = table(_fitting(rows, terminal_width))
    yield styled(heading, bold=True)
    indent = " " * (max(width(row[0]) for row in rows) + 2)
    for one, line in zip(jobs, lines, strict=True):
        state = _words(one.condition)
        yield line.replace(state, styled(state, fg=COLOUR[one.condition]), 1)
        yield from _remarks(one, snapshot.at, indent, terminal_width)
    yield from _footer(snapshot, terminal_width)


def _cells(one: JobSnapshot, snapshot: StatusSnapshot) -> list[str]:
    now, state = snapshot.at, one.state
    since = state.condition_since(now)
    cells = [
        _words(one.condition),
        one.job.name,
        f"{one.job.repo}@{one.job.ref or 'HEAD'}",
        (state.applied_commit or "-")[:7],
        "-" if since is None else duration((now - since).total_seconds()),
        ago(state.last_run_at, now),
        _next_run(one, snapshot),
    ]
    return [one_line(cell) for cell in cells]


def _next_run(one: JobSnapshot, snapshot: StatusSnapshot) -> str:
    """Return when the job runs next, and what else starts it."""
    if one.running:
        return "running"
    overdue = snapshot.daemon.overdue if snapshot.daemon is not None else ()
    if one.job.name in overdue:
        return "overdue"
    if one.next_run is None:
        return "after resume" if one.condition == "paused" else "-"
    seconds = (one.next_run - snapshot.at).total_seconds()
    when = f"in {duration(seconds)}" if seconds > 0 else "due"
    return f"{when}, or on push" if one.job.on_push and snapshot.webhook is not None else when


def _words(condition: str) -> str:
    return condition.replace("_", " ")


def _fitting(rows: list[list[str]], terminal_width: int | None) -> list[list[str]]:
    """Return the rows without the columns that a narrow terminal has no room for."""
    names = list(HEADING)
    for left_out in LEAST_NEEDED:
        if terminal_width is None or width(max(table(rows), key=width)) <= terminal_width:
            break
        column = names.index(left_out)
        names.pop(column)
        rows = [[*row[:column], *row[column + 1 :]] for row in rows]
    return rows


def _remarks(
    one: JobSnapshot, now: datetime, indent: str, terminal_width: int | None
) -> Iterator[str]:
    for warning in one.warnings:
        yield from _wrapped([f"! {warning.text}", f"→ {warning.hint}"], indent, terminal_width)
    if one.condition == "in_sync":
        return
    for reason in reasons_of(one, now):
        lines = [line.removeprefix("    ") for line in reason.splitlines()]  # of a hook's output
        yield from _wrapped(lines, indent, terminal_width)
    remedy = remedy_of(one)
    if remedy is not None:
        yield from _wrapped([f"→ {remedy}"], indent, terminal_width)


def _wrapped(texts: Iterable[str], indent: str, terminal_width: int | None) -> Iterator[str]:
    """Yield the texts indented, and folded on a terminal: below the text, not below its sign."""
    for text in texts:
        below = indent + "  " * text.startswith(("→ ", "! "))
        yield from fold(text, terminal_width, below, indent)


def _footer(snapshot: StatusSnapshot, terminal_width: int | None) -> Iterator[str]:
    texts = []
    if snapshot.daemon is not None:
        texts += _daemon_lines(snapshot.daemon, snapshot.at)
    if snapshot.timer is not None and snapshot.timer.enabled:
        texts.append(f"timer: {snapshot.timer.unit} is enabled")
    limits = (rate_limit_line(one, snapshot) for one in snapshot.rate_limits)
    texts += [line for line in limits if line is not None]
    if snapshot.webhook is not None:
        texts.append(f"webhook: {webhook_line(snapshot.webhook, snapshot.at)}")
        unmatched = unmatched_line(snapshot.webhook, snapshot.at)
        texts += [f"webhook: {unmatched}", f"→ {UNMATCHED_HINT}"] if unmatched is not None else []
    problems = (delivery_problem(one) for one in snapshot.deliveries)
    texts += [f"notify: {problem}" for problem in problems if problem is not None]
    yield from _wrapped(texts, "", terminal_width)


def _daemon_lines(daemon: DaemonStatus, now: datetime) -> list[str]:
    problem = daemon_problem(daemon)
    if problem is not None:
        text, remedy = problem
        return [f"daemon: {text}; last heartbeat {ago(daemon.last_heartbeat, now)}", f"→ {remedy}"]
    if not daemon.alive:
        return [f"daemon: stopped {ago(daemon.last_heartbeat, now)}"]
    if daemon.started_at is None:
        return ["daemon: running"]
    lasts = duration((now - daemon.started_at).total_seconds())
    return [f"daemon: running for {lasts}, last heartbeat {ago(daemon.last_heartbeat, now)}"]


__all__ = ["status_lines"]
