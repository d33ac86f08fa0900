"""What the outbox asks of GitHub: commit statuses, and who made a commit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from syncd.errors import RateLimitedError, SyncdError
from syncd.github.commit_status import set_status
from syncd.models import CommitSummary, Job
from syncd.wiring.app_context import AppContext

TIMEOUT_SECONDS = 30.0

SendStatus: TypeAlias = Callable[[str, str], tuple[str, str | None, float | None]]
"""Identity, body of the outbox -> host, error or None, seconds to wait before the next one."""


def status_sender(app: AppContext) -> SendStatus:
    """Return a function that sets one status. It never raises for GitHub or the network."""

    def send(name: str, body: str) -> tuple[str, str | None, float | None]:
        identity = app.config.identities.get(name)
        if identity is None:
            return "?", f"there is no identity {name} any more", None
        host = urlsplit(identity.api).netloc
        try:
            transport = app.connections.status_transport(identity)
            deadline = app.command_deadline(TIMEOUT_SECONDS)
            set_status(transport, identity.api, json.loads(body), deadline)
        except RateLimitedError as error:
            wait = (error.retry_at - app.clock.now()).total_seconds()
            return host, error.message, max(0.0, wait)
        except SyncdError as error:
            return host, error.message, None
        return host, None, None

    return send


def summariser(app: AppContext) -> Callable[[Job, str], CommitSummary | None]:
    """Return a function that says who made a commit; None where GitHub does not say now.

    The store is asked first, and keeps the answer for the status page.
    """

    def summarise(job: Job, commit: str) -> CommitSummary | None:
        try:
            facts = app.store.facts
            known = facts.commit_summaries([commit]).get(commit)
            if known is not None:
                return known
            source = app.source(app.config.identities[job.identity])
            deadline = app.command_deadline(TIMEOUT_SECONDS)
            found = source.commit_summary(job.repo, commit, deadline)
            facts.save_commit_summary(commit, found, app.clock.now())
            return found
        except (SyncdError, KeyError):
            return None

    return summarise


__all__ = ["SendStatus", "status_sender", "summariser"]
