"""Makes the sender of notifications and commit statuses, for the commands that run jobs."""

from __future__ import annotations

from collections.abc import Mapping

from syncd.notifications.sender import NotificationSender
from syncd.wiring import AppContext, senders, status_sender, summariser


def notification_sender(app: AppContext, environ: Mapping[str, str]) -> NotificationSender:
    """Return a sender with the real network, which has not been started."""
    return NotificationSender(
        app.config,
        app.store,
        app.clock,
        environ,
        senders(environ),
        status_sender(app),
        summariser(app),
    )


__all__ = ["notification_sender"]
