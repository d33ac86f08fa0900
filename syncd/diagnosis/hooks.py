"""Checks that each hook's command is there, in the hook's own PATH and for the hook's own user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from syncd.diagnosis.finding import Finding, error, ok
from syncd.hooks.command_lookup import find_missing_commands, hooks_of
from syncd.models import Job

MAX_NAMED = 5  # jobs in one message


def check_hooks(jobs: Iterable[Job]) -> Iterator[Finding]:
    """Yield each hook that can't be started; a command of several jobs once."""
    jobs = list(jobs)
    names: dict[tuple[str, str, str], list[str]] = {}
    for job, key, found in find_missing_commands(jobs):
        names.setdefault((key, found.text, found.hint), []).append(job.name)
    for (key, text, hint), of in names.items():
        more = f" and {len(of) - MAX_NAMED} more" if len(of) > MAX_NAMED else ""
        message = f"{key} of {', '.join(of[:MAX_NAMED])}{more}: {text}"
        yield error("doctor/hook-command", "hook", message, hint)
    if not names and any(True for job in jobs for _ in hooks_of(job)):
        yield ok("doctor/hook", "hook", "every command is there")
