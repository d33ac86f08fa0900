"""How much of a request is taken in, and for how long: bounds on what anybody can make us hold who has proven nothing yet.

Promises: only the webhook's path takes a body of any size, of GitHub's largest at most, and only where its length is told beforehand; all
bodies together stay under a bound too; a request that is not whole some seconds after its first byte is closed, however it drips. waitress
keeps what is larger than half a megabyte in a temporary file.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.utilities import Error

from syncd.github.webhook import LARGEST_BYTES

WHOLE_SECONDS = 10.0  # GitHub gives a delivery up after so long
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

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = Parser
        request: Any = None
        began: tuple[object, float] | None = None

        def received(self, data: bytes) -> bool:
            taken: bool = super().received(data)
            request = self.request
            if request is None:
                self.began = None
            elif self.began is None or self.began[0] is not request:
                self.began = request, time.monotonic()
            return taken

        def handle_close(self) -> None:
            request, self.request, self.began = self.request, None, None
            super().handle_close()
            if request is not None:
                request.close()

    return Channel


def close_overdue(channels: Mapping[int, Any]) -> None:
    """Connections whose request should have been whole by now end at the next turn of the loop."""
    now = time.monotonic()
    for one in list(channels.values()):
        began = getattr(one, "began", None)
        if began is not None and now - began[1] > WHOLE_SECONDS and not one.requests:
            one.will_close = True


def _held(channel: Any) -> int:
    """Bytes of large bodies that this connection has brought, or said that it will bring."""
    requests = [*getattr(channel, "requests", ()), *([channel.request] if getattr(channel, "request", None) is not None else [])]
    return sum(one.content_length for one in requests if one.content_length > LARGE_BYTES and one.error is None)


__all__ = ["channel_class", "close_overdue"]
