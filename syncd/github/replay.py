"""GitHub's answers to the nothing-to-do check, for the full run that follows it.

The full run does not send the same requests again. Each answer serves one equal request. Only
successful answers are used; all of them are counted as requests of this command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from syncd.deadline import Deadline
from syncd.fastpath.check import Reply, request_key
from syncd.github.protocol import BufferedResponse, Request, Response, Transport
from syncd.github.rate_limit import RateLimits, RequestMetrics

REPOSITORY = re.compile(r"/repos/([^/]+/[^/]+)/")
SUCCESSFUL = (200, 201, 304)


class Replay:
    """A Transport in front of `inner`, which gets every request without an answer."""

    def __init__(self, replies: Sequence[Reply], inner: Transport, rate_limits: RateLimits) -> None:
        self._replies = {reply.key: reply for reply in replies if reply.status in SUCCESSFUL}
        self._inner, self._rate_limits = inner, rate_limits

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the answer that the check already has, or else the one of `inner`."""
        question = request_key(request.method, request.url, request.headers, request.body)
        reply = self._replies.pop(question, None) if self._replies else None
        if reply is None:
            return self._inner.send(request, deadline)
        self._rate_limits.get(request.installation).update_from_headers(reply.headers)
        return BufferedResponse(reply.status, reply.headers, request.url, reply.body)


def count_replies(replies: Sequence[Reply], request_metrics: RequestMetrics) -> None:
    """Count the answers as requests of this command.

    They count for their repository where its hourly limit was charged.
    """
    for reply in replies:
        found = REPOSITORY.search(reply.key[1])
        request_metrics.record(
            reply.identity, reply.status, found.group(1) if found else None, reply.installation
        )
