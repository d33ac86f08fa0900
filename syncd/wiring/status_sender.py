"""Sends commit statuses through the connections of the identities that may write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from syncd.errors import RateLimitedError, SyncdError
from syncd.github.commit_status import set_status
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


__all__ = ["SendStatus", "status_sender"]
