"""Composition root: a configuration becomes real objects, with a network, a disk, a database and a
clock.

Nothing below this package reads the environment or asks the system for the time.
"""

from syncd.wiring.app_context import AppContext
from syncd.wiring.connections import ConnectionOptions, IdentityConnection
from syncd.wiring.http_sender import http_sender, senders
from syncd.wiring.job_owner import look_up_owner, resolve_owner
from syncd.wiring.status_sender import SendStatus, status_sender, summariser

__all__ = [
    "AppContext",
    "ConnectionOptions",
    "IdentityConnection",
    "SendStatus",
    "http_sender",
    "look_up_owner",
    "resolve_owner",
    "senders",
    "status_sender",
    "summariser",
]
