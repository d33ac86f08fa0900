"""Checks the webhook: which jobs it starts, its last delivery, and whether it missed a push."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from syncd.config.model import Config, Web, Webhook
from syncd.diagnosis.finding import Finding, ok, warning
from syncd.github.webhook import can_start_on_push
from syncd.models import Job, Trigger
from syncd.recent_runs import parse_time
from syncd.status import WebhookStats, ago, load_webhook_stats, webhook_line
from syncd.store.history import PastRun
from syncd.store.store import SqliteStore

MAX_NAMED = 5  # jobs in one message
MAX_PAST_RUNS = 100
PUSH_TOLERANCE = timedelta(minutes=5)  # a scheduled run may be quicker than the delivery
DELIVERY_HINT = (
    "GitHub shows under Recent Deliveries of the webhook what it sent and was answered;"
    " meanwhile the jobs' own schedules find every change"
)
SIGNATURE_HINT = (
    "give GitHub's webhook and web.webhook.secret the same secret; Recent Deliveries of the webhook"
    " can then send it again"
)
MISSED_HINT = (
    "is that repository's webhook, or the App's subscription to Push, there and active? Recent"
    " Deliveries tells"
)


def check_webhook(config: Config, store: SqliteStore, now: datetime) -> Iterator[Finding]:
    """Yield the findings about the webhook, from the store alone."""
    if config.web is None or config.web.webhook is None:
        yield from _none(config)
        return
    yield _starts(config.web, config.web.webhook, config.jobs)
    heard = load_webhook_stats(store)
    yield judge_deliveries(heard, now)
    if heard.last_at is not None:
        runs = store.history(limit=MAX_PAST_RUNS)
        missed = missed_push(config.jobs, runs, heard.last_at)
        if missed is not None:
            run, at = missed
            yield warning(
                "doctor/push-missed",
                "webhook",
                f"{run.job} found {(run.commit or '')[:7]} by its schedule {ago(at, now)}, and no"
                " delivery announced it",
                MISSED_HINT,
            )


def _none(config: Config) -> Iterator[Finding]:
    if any(job.on_push and job.every_seconds for job in config.jobs.values()):
        what = "no web: listener" if config.web is None else "no web.webhook"
        text = f"{what}, so changes are found by the jobs' own schedules"
        yield ok("doctor/push", "push", text)


def _starts(web: Web, hook: Webhook, jobs: Mapping[str, Job]) -> Finding:
    left = [
        f"not {job.name} ({'a commit id' if job.on_push else 'on_push: false'})"
        for job in jobs.values()
        if not can_start_on_push(job)
    ]
    count = f"{len(jobs)} job{'s' * (len(jobs) != 1)}"
    started = f"{hook.path} on {web.listen} starts {len(jobs) - len(left)} of {count}"
    more = ["…"] if len(left) > MAX_NAMED else []
    text = "; ".join([started, *left[:MAX_NAMED], *more])
    if len(left) < len(jobs):
        return ok("doctor/webhook", "webhook", text)
    return warning("doctor/webhook-starts-nothing", "webhook", text, "set on_push: true in a job")


def judge_deliveries(heard: WebhookStats, now: datetime) -> Finding:
    """Return the finding about the last delivery. Pure."""
    line = webhook_line(heard, now)
    if heard.problem is not None:
        hint = SIGNATURE_HINT if "signature" in heard.problem else DELIVERY_HINT
        return warning("doctor/delivery-refused", "webhook", line, hint)
    if heard.last_at is None:
        return warning("doctor/no-delivery", "webhook", line, DELIVERY_HINT)
    return ok("doctor/delivery", "webhook", line)


def missed_push(
    jobs: Mapping[str, Job], history: Iterable[PastRun], since: datetime
) -> tuple[PastRun, datetime] | None:
    """Return the newest change that a scheduled run found well after the last delivery, or None.

    After a failed run the change may have been delivered before. Pure.
    """
    runs = [
        (run, at)
        for run in history
        if (at := parse_time(run.started_at)) is not None and at.tzinfo is not None
    ]
    failed = {run.job for run, at in runs if run.error is not None and at >= since - PUSH_TOLERANCE}
    for run, at in runs:
        job = jobs.get(run.job)
        is_late = at > since + PUSH_TOLERANCE and run.trigger == Trigger.SCHEDULE
        if job is None or not is_late or not can_start_on_push(job) or run.job in failed:
            continue
        if run.commit is not None and run.previous not in (None, run.commit):
            return run, at
    return None


__all__ = ["check_webhook", "judge_deliveries", "missed_push"]
