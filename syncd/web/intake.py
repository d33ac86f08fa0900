"""How much of a request is taken in, and for how long: bounds on what anybody can make us hold who has proven nothing yet.

Promises: only the webhook's path takes a body of any size, of GitHub's largest at most, and only where its length is told beforehand; all
bodies together stay under a bound too; a request that is not whole some seconds after its first byte is closed, however it drips, and
sooner where many are waited for, so that who means well gets a place. waitress keeps what is larger than half a megabyte in a temporary file.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.utilities import Error

from syncd.github.webhook import LARGEST_BYTES

WHOLE_SECONDS = 10.0  # GitHub gives a delivery up after so long
CONNECTIONS = 100
CROWD = 60  # connections that are waited for, some of which could be waited for in vain
CROWDED_SECONDS = 1.0
QUIET_SECONDS = 60.0
LARGE_BYTES = 1 << 20
AT_ONCE_BYTES = 4 * LARGEST_BYTES  # of large bodies under way; who comes then is told to come again


class _Busy(Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


def channel_class(path: str | None, channels: Mapping[int, Any]) -> type[HTTPChannel]:
    """What waitress makes of each connection. `path` is the webhook's; `channels` are all that are open, among other things."""

    class Parser(HTTPRequestParser):  # type: ignore[misc]
        adj: Any

        def parse_header(self, header_plus: bytes) -> None:
            super().parse_header(header_plus)
            if path is None or self.command != "POST" or self.path != path or self.chunked:
                return
            self.adj = copy.copy(self.adj)
            self.adj.max_request_body_size = LARGEST_BYTES + 1  # waitress refuses what is as long as this
            if LARGE_BYTES < self.content_length <= LARGEST_BYTES and sum(map(_held, list(channels.values()))) > AT_ONCE_BYTES:  # this one counted
                self.error, self.completed = _Busy("other large deliveries are being taken in; deliver it again"), True
            if self.error is not None or self.content_length > LARGEST_BYTES:
                self.expect_continue = False  # else waitress would ask for it, and take it in all the same

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = Parser
        request: Any = None
        began: object = None  # the request that is coming in

        def __init__(self, *arguments: Any, **named: Any) -> None:
            self.since = time.monotonic()  # when it began to come in, or when the last one was whole
            super().__init__(*arguments, **named)

        def received(self, data: bytes) -> bool:
            taken: bool = super().received(data)
            if self.request is None or self.request is not self.began:
                self.began, self.since = self.request, time.monotonic()
            return taken

        def handle_close(self) -> None:
            request, self.request = self.request, None
            super().handle_close()
            if request is not None:
                request.close()

    return Channel


def close_overdue(channels: Mapping[int, Any]) -> bool:
    """Connections whose request should have been whole by now end at the next turn of the loop; in a crowd those too that only wait for one.

    True in a crowd: then the next turn should come soon.
    """
    now, waiting = time.monotonic(), [one for one in list(channels.values()) if hasattr(one, "since") and not one.requests]
    crowded = len(waiting) > CROWD
    for one in waiting:
        if (crowded or one.request is not None) and now - one.since > (CROWDED_SECONDS if crowded else WHOLE_SECONDS):
            one.will_close = True
    return crowded


class Seldom(logging.Filter):
    """What waitress says of each crowd is said once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, text = time.monotonic(), str(record.msg)
        if not text.startswith("total open connections"):
            return True
        if now - self._said.get(text, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._said[text] = now
        return True


def _held(channel: Any) -> int:
    """Bytes of large bodies that this connection has brought, or said that it will bring."""
    requests = [*getattr(channel, "requests", ()), *([channel.request] if getattr(channel, "request", None) is not None else [])]
    return sum(one.content_length for one in requests if one.content_length > LARGE_BYTES and one.error is None)


__all__ = ["CONNECTIONS", "Seldom", "channel_class", "close_overdue"]
