"""GitHub's answers to the nothing-to-do check, for the full run that follows it.

The full run does not send the same requests again. Each answer serves one equal request. Only
successful answers are used; all of them are counted as requests of this command.
"""

from __future__ import annotations

import re

from syncd.deadline import Deadline
from syncd.fastpath.early_requests import EarlyRequests, Reply, request_key
from syncd.github.protocol import BufferedResponse, Request, Response, Transport
from syncd.github.rate_limit import RateLimits, RequestMetrics

REPOSITORY = re.compile(r"/repos/([^/]+/[^/]+)/")
SUCCESSFUL = (200, 201, 304)


class Replay:
    """A Transport in front of `inner`, which gets every request without an answer."""

    def __init__(
        self, identity: str, early: EarlyRequests, inner: Transport, rate_limits: RateLimits
    ) -> None:
        self._identity, self._early = identity, early
        self._inner, self._rate_limits = inner, rate_limits

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the answer that the check already has or waits for, or else the one of
        `inner`.
        """
        question = request_key(request.method, request.url, request.headers, request.body)
        reply = self._early.take(self._identity, question, deadline.check)
        if reply is None or reply.status not in SUCCESSFUL:
            return self._inner.send(request, deadline)
        self._rate_limits.get(request.installation).update_from_headers(reply.headers)
        return BufferedResponse(reply.status, reply.headers, request.url, reply.body)


def count_reply(reply: Reply, request_metrics: RequestMetrics) -> None:
    """Count the answer as a request of this command.

    It counts for its repository where its hourly limit was charged.
    """
    found = REPOSITORY.search(reply.key[1])
    request_metrics.record(
        reply.identity, reply.status, found.group(1) if found else None, reply.installation
    )
