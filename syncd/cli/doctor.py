"""`syncd doctor`: checks everything that a run depends on, and says what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from msgspec import Struct

from syncd.cli.common import Settings, emit, say_ignored
from syncd.cli.identities import expiring_tokens, identity_description
from syncd.cli.init import outdated_dropin
from syncd.cli.run_output import count_of
from syncd.config.model import Config
from syncd.config.secrets import check_secrets
from syncd.errors import ConfigError, SyncdError
from syncd.github.webhook import can_start_on_push
from syncd.hooks.command_lookup import missing_commands
from syncd.identities import LoginIdentity
from syncd.mirror.destination_checks import destination_warnings
from syncd.models import Trigger
from syncd.recent_runs import parse_time
from syncd.safe_open import check_path_is_trusted
from syncd.status import ago, load_webhook_stats, webhook_line
from syncd.store.access import refuse_reader
from syncd.store.schema import VERSION
from syncd.store.store import FILE_NAME
from syncd.text import styled
from syncd.wiring import AppContext

SKEW_SHOWN_SECONDS = 30.0
LOGIN_SECONDS = 60.0
MAX_NAMED = 5
MAX_PAST_RUNS = 100  # past runs
PUSH_TOLERANCE = timedelta(minutes=5)  # a turn may have been quicker than its push
MARKS = {"good": ("✓", "green"), "note": ("!", "yellow"), "bad": ("✕", "red")}


class Finding(Struct, frozen=True):
    """One line of the output. `exit_code` counts only if the mark is `bad`."""

    mark: str
    what: str
    text: str
    hint: str | None = None
    exit_code: int = 0


@click.command(name="doctor", short_help="Everything a run leans on: what is wrong and what to do.")
@click.pass_obj
def command(settings: Settings) -> int:
    """Check the configuration, the store, the clock, each identity, each job's repository and each
    destination. Say what is wrong and what to do about it. Asks GitHub once per repository; writes
    nothing but a login's renewed tokens.
    """
    config, mark = settings.load_with_positions()
    refuse_reader(config.state, group_may_read=False)
    say_ignored(settings, config)
    problems = check_secrets(config, settings.environ, mark)
    if problems:
        raise ConfigError(problems)
    app = AppContext.open(config, settings.environ, read_only=True)
    codes = []
    try:
        findings = [*_config(config), *_store(app), *_logins(app), *_online(app)]
        findings += [
            *_ending(app),
            *_destinations(config),
            *_hooks(config),
            *_service(settings),
            *_push(app),
        ]
        for finding in findings:
            sign, colour = MARKS[finding.mark]
            emit(settings, f"{styled(sign, fg=colour)} {finding.what:<13} {finding.text}")
            if finding.hint:
                emit(settings, f"    → {finding.hint}")
            codes += [finding.exit_code] if finding.mark == "bad" else []
    finally:
        app.close()
    if not codes:
        return 0
    return codes[0] if len(set(codes)) == 1 else 1


def _config(config: Config) -> Iterator[Finding]:
    jobs = len(config.jobs)
    yield Finding("good", "config", f"{config.path}, {jobs} job{'s' * (jobs != 1)}")


def _store(app: AppContext) -> Iterator[Finding]:
    file = app.config.state / FILE_NAME
    yield from _state_access(app.config.state)
    for note in app.store.notes:
        yield Finding("note", "store", note)
    if not file.exists():
        yield Finding("good", "store", f"{file}: none yet; the first sync makes it")
        return
    known = [name for name in app.store.jobs() if name not in app.config.jobs]
    yield Finding(
        "good", "store", f"{file}, schema {VERSION}, {os.stat(file).st_size / (1 << 20):.1f} MiB"
    )
    for name in known:
        count = len(app.store.load_ledger(name))
        if count:
            yield Finding(
                "note",
                "store",
                f"{name} is not configured any more; its {count} files stay",
                f"to forget them: syncd sync --forget {name}",
            )


def _state_access(state: Path) -> Iterator[Finding]:
    """Yield what lets another user replace the state folder, which a run refuses.

    It is only a note before there is one. Another user's state is theirs to check.
    """
    owner = state.stat().st_uid if state.exists() else None
    if owner in (None, os.geteuid()):
        try:
            check_path_is_trusted(state)
        except SyncdError as error:
            yield Finding(
                "note" if owner is None else "bad",
                "store",
                error.message,
                error.hint,
                error.exit_code,
            )


def _logins(app: AppContext) -> Iterator[Finding]:
    """Yield each login that may be unused by jobs, and whether its token can be renewed.

    A renewed pair of tokens is stored, because the old one is invalid.
    """
    for name, identity in app.config.identities.items():
        if isinstance(identity, LoginIdentity):
            try:
                app.connection(identity).credentials.token_for(
                    None, app.command_deadline(LOGIN_SECONDS)
                )
                pair = app.oauth_token_file(identity).load()
                yield Finding(
                    "good",
                    "login",
                    f"{name}: logged in as {pair.login if pair is not None else 'an unknown user'}",
                )
            except SyncdError as error:
                yield Finding(
                    "bad", "login", f"{name}: {error.message}", error.hint, error.exit_code
                )


def _ending(app: AppContext) -> Iterator[Finding]:
    expiries, now = app.token_expiries(), app.clock.now()
    said = set()
    for name, text, hint in expiring_tokens(app.config.identities, expiries, now):
        said.add(name)
        yield Finding("note", "expiry", f"{name}: {text}", hint)
    for name, at in expiries.items():
        if name not in said:
            is_login = isinstance(app.config.identities[name], LoginIdentity)
            what = "the login" if is_login else "the token"
            yield Finding("good", "expiry", f"{name}: {what} ends on {at:%Y-%m-%d}")


def _online(app: AppContext) -> Iterator[Finding]:
    """Yield each repository and ref once, then what the answers say of clock and rate limits."""
    asked: dict[tuple[str, str, str | None], Finding] = {}
    for job in app.config.jobs.values():
        key = (job.identity, job.repo.lower(), job.ref)
        if key not in asked:
            try:
                head = app.run_context(job).source.resolve(
                    job.repo, job.ref, None, app.deadline(job)
                )
                asked[key] = Finding(
                    "good",
                    "repository",
                    f"{job.repo}@{job.ref or 'HEAD'} is {head.commit[:7]}, read as {job.identity}"
                    f" ({identity_description(app.config.identities[job.identity])})",
                )
            except SyncdError as error:
                asked[key] = Finding(
                    "bad",
                    "repository",
                    f"{job.repo}@{job.ref or 'HEAD'} as {job.identity}: {error.message}",
                    error.hint,
                    error.exit_code,
                )
    yield from asked.values()
    skew = app.request_metrics.skew_seconds
    if skew is not None:
        off = abs(skew) > SKEW_SHOWN_SECONDS
        yield Finding(
            "note" if off else "good",
            "clock",
            f"{abs(skew):.1f} s from GitHub's",
            "set up NTP; syncd reckons with the difference meanwhile" if off else None,
        )
    for one in app.observed_limits():
        view = one.view
        if view.limit is not None and view.remaining is not None:
            low = view.remaining < view.limit // 10
            until = f" until {view.reset_at:%H:%M:%SZ}" if view.reset_at is not None else ""
            yield Finding(
                "note" if low else "good",
                "limit",
                f"{one.name}: {view.remaining:,} of {view.limit:,} requests left{until}",
            )


def _destinations(config: Config) -> Iterator[Finding]:
    for job in config.jobs.values():
        for rule in job.paths:
            found = list(destination_warnings(rule.to, rule.directory))
            for one in found:
                yield Finding(
                    "bad" if one.is_error else "note",
                    "destination",
                    f"{job.name}: {one.text}",
                    one.hint,
                    1,
                )
            if not any(one.is_error for one in found):
                yield Finding(
                    "good",
                    "destination",
                    f"{rule.to}{'/' if rule.directory else ''} ({job.name}) can be written",
                )


def _hooks(config: Config) -> Iterator[Finding]:
    """Yield each hook whose command does not exist; a command of several jobs once."""
    jobs: dict[tuple[str, str, str], list[str]] = {}
    for job, key, found in missing_commands(config.jobs.values()):
        jobs.setdefault((key, found.text, found.hint), []).append(job.name)
    for (key, text, hint), names in jobs.items():
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        yield Finding(
            "bad", "hook", f"{key} of {', '.join(names[:MAX_NAMED])}{more}: {text}", hint, 1
        )
    if not jobs and any(job.validate or job.on_change for job in config.jobs.values()):
        yield Finding("good", "hook", "every command is there")


def _service(settings: Settings) -> Iterator[Finding]:
    behind = outdated_dropin(settings)
    if behind is not None:
        yield Finding(
            "note",
            "service",
            f"{behind} was written for another configuration than this",
            "syncd init --systemd --install, then restart the service",
        )


def _push(app: AppContext) -> Iterator[Finding]:
    """Yield the webhook: its jobs, its last delivery, and whether it has missed a push since."""
    config = app.config
    jobs, hook = config.jobs.values(), config.web.webhook if config.web is not None else None
    if config.web is None or hook is None:
        if any(job.on_push and job.every_seconds for job in jobs):
            yield Finding(
                "good",
                "push",
                f"no {'web: listener' if config.web is None else 'web.webhook'}, so changes are"
                " found by the jobs' own schedules",
            )
        return
    left = [
        f"not {job.name} ({'a commit id' if job.on_push else 'on_push: false'})"
        for job in jobs
        if not can_start_on_push(job)
    ]
    text = "; ".join(
        [
            (
                f"{hook.path} on {config.web.listen} starts {len(jobs) - len(left)} of"
                f" {count_of(len(jobs), 'job')}"
            ),
            *left[:MAX_NAMED],
            *(["…"] if len(left) > MAX_NAMED else []),
        ]
    )
    yield Finding("good" if len(left) < len(jobs) else "note", "webhook", text)
    heard, now = load_webhook_stats(app.store), datetime.now(UTC)
    well = heard.last_at is not None and heard.problem is None
    hint = (
        "GitHub shows under Recent Deliveries of the webhook what it sent and was answered;"
        " meanwhile the jobs' own schedules find every change"
    )
    yield Finding(
        "good" if well else "note", "webhook", webhook_line(heard, now), None if well else hint
    )
    missed = _missed(app, heard.last_at) if heard.last_at is not None else None
    if missed is not None:
        yield Finding(
            "note",
            "webhook",
            missed,
            "is that repository's webhook, or the App's subscription to Push, there and active?"
            " Recent Deliveries tells",
        )


def _missed(app: AppContext, since: datetime) -> str | None:
    """Return the newest change that a scheduled run found well after the last delivery, in words.

    After a failed run the change may have been delivered before.
    """
    runs = [
        (run, at)
        for run in app.store.history(limit=MAX_PAST_RUNS)
        if (at := parse_time(run.started_at)) is not None and at.tzinfo is not None
    ]
    failed = {run.job for run, at in runs if run.error is not None and at >= since - PUSH_TOLERANCE}
    for run, at in runs:
        job = app.config.jobs.get(run.job)
        if (
            at <= since + PUSH_TOLERANCE
            or job is None
            or not can_start_on_push(job)
            or run.job in failed
            or run.trigger != Trigger.SCHEDULE
        ):
            continue
        if run.commit is not None and run.previous not in (None, run.commit):
            return (
                f"{run.job} found {run.commit[:7]} at its turn {ago(at, app.clock.now())}, and no"
                " delivery had told of it"
            )
    return None
