"""The API version that syncd asks for, and hosts that do not know it.

Such a host is an older Enterprise Server, or GitHub once it has retired the version. It gets the
request once more without the version, and from then on never with it; every answer is checked as
usual. Source: docs "API Versions": 400 for a version that is not one, 410 for one that is over,
`Sunset` before.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.github.error_responses import parse_error
from syncd.github.protocol import API_VERSION, Request, Response, Transport, buffered, server_text

log = logging.getLogger(__name__)

HEADER = "X-GitHub-Api-Version"


class VersionedTransport:
    """Send the API version with each request, as long as the host accepts it."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._said, self._taken, self._warned = True, False, False

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the answer; send once more without the version where the host refuses it."""
        if HEADER not in request.headers:
            return self._inner.send(request, deadline)
        if not self._said:
            return self._inner.send(_without(request), deadline)
        answer = self._inner.send(request, deadline)
        if answer.status not in (400, 410):
            self._taken = self._taken or answer.status < 400
            self._warn(request, answer)
            return answer
        answer = buffered(answer)
        if (
            answer.status == 400
            and self._taken
            and "version" not in parse_error(answer).message.lower()
        ):
            return answer
        second = self._inner.send(_without(request), deadline)
        if second.status in (400, 410):
            second.close()
            return answer
        self._said = False
        log.warning(
            "%s does not know the API version %s; syncd asks without it",
            urlsplit(request.url).netloc,
            API_VERSION,
        )
        return second

    def _warn(self, request: Request, answer: Response) -> None:
        if "sunset" in answer.headers and not self._warned:
            self._warned = True
            log.warning(
                "%s will end the API version %s: %s; update syncd before that",
                urlsplit(request.url).netloc,
                API_VERSION,
                server_text(answer.headers["sunset"]),
            )


def _without(request: Request) -> Request:
    return replace(
        request, headers={name: value for name, value in request.headers.items() if name != HEADER}
    )
