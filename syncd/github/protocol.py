"""Requests to GitHub and the parts of an answer that are not an error.

Refusals are read in error_responses.py. Source: the REST documentation ("Getting started with the
REST API", "Best practices"). Pure: no I/O beyond the body that a response already holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import quote

from msgspec import Struct, field

from syncd import __version__
from syncd.deadline import Deadline
from syncd.errors import (
    BadResponseError,
    RemoteUnavailableError,
    TimedOutError,
    UnsafePathError,
)
from syncd.github.attempts import Attempts
from syncd.github.bounds import (
    ERROR_BYTES,
    ERROR_TEXT,
    BeyondBoundError,
    Bound,
    bound_of,
    load_json,
)

API_VERSION = "2022-11-28"
USER_AGENT = f"syncd/{__version__}"
JSON = "application/vnd.github+json"
RAW = "application/vnd.github.raw+json"
OBJECT = "application/vnd.github.object+json"
SHA = "application/vnd.github.sha"

MAX_WAIT_SECONDS = 24 * 3600.0  # a damaged header must not stop a job for ever


class Request(Struct, frozen=True):
    """One request to send.

    `subject` names what is asked for, for messages. `allow_other_host` allows a redirect to
    another host, without our credential. `basic_auth`: the token goes as git's own endpoints take
    it, and not as the API does. `is_read_only`: a POST that changes nothing, and so is sent again,
    as it is, to where its answer redirects it (RFC 9110, 15.4.2 leaves that to the client).
    `attempts` counts all attempts at the same request. `kind` is the row of bounds.py that limits
    the answer, where it is not the one of `route`; `cap_bytes` is a lower limit for this answer's
    body. `installation` is the one whose hourly limit it spends; None: that of a token, or none.
    """

    method: str
    url: str
    route: str
    subject: str
    repo: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cap_bytes: int | None = None
    authorised: bool = True
    allow_other_host: bool = False
    basic_auth: bool = False
    is_read_only: bool = False
    attempts: Attempts | None = None
    installation: int | None = None
    kind: str | None = None

    @property
    def bound(self) -> Bound:
        """Return the limits of the answer. Raises KeyError for a route that has none."""
        return bound_of(self.kind or self.route)

    @property
    def max_body_bytes(self) -> int:
        """Return how many bytes the answer's decoded body may have."""
        most = self.bound.body_bytes
        return most if self.cap_bytes is None else min(most, self.cap_bytes)


class Response(Protocol):
    """An answer whose body is still on the way. `close` may be called at any time, and again."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    url: str

    def chunks(self) -> Iterator[bytes]:
        """Return the decoded body in pieces, at most `max_body_bytes` of the request.

        Raises RemoteUnavailableError when it ends early, BadResponseError past the limit.
        """

    def close(self) -> None:
        """End the answer; what is not read yet is discarded."""


class BufferedResponse:
    """An answer whose body is in memory, so that it can be read more than once."""

    def __init__(self, status: int, headers: Mapping[str, str], url: str, body: bytes) -> None:
        self.status, self.headers, self.url, self._body = status, headers, url, body

    def chunks(self) -> Iterator[bytes]:
        """Return the whole body as one piece."""
        yield self._body

    def close(self) -> None:
        """Do nothing: no connection is held."""


class Transport(Protocol):
    """What sends requests to GitHub. Transports of this shape wrap each other."""

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return GitHub's answer, of whatever status.

        Raises RemoteUnavailableError when there was none.
        """


def _headers(accept: str = JSON) -> dict[str, str]:
    return {"Accept": accept, "X-GitHub-Api-Version": API_VERSION, "User-Agent": USER_AGENT}


def get(
    api: str,
    path: str,
    route: str,
    subject: str,
    repo: str | None,
    accept: str = JSON,
    etags: str | None = None,
    cap_bytes: int | None = None,
    kind: str | None = None,
) -> Request:
    """Return a GET request to the API.

    `etags` is the value of If-None-Match. Nine parameters, because each is one field of the
    request, and most calls need only the first five.
    """
    headers = _headers(accept)
    if etags:
        headers["If-None-Match"] = etags
    return Request("GET", api + path, route, subject, repo, headers, cap_bytes=cap_bytes, kind=kind)


def post(api: str, path: str, route: str, subject: str, body: object) -> Request:
    """Return a POST request to the API, with `body` as JSON."""
    headers = {**_headers(), "Content-Type": "application/json"}
    return Request("POST", api + path, route, subject, None, headers, json.dumps(body).encode())


def delete(api: str, path: str, route: str, subject: str) -> Request:
    """Return a DELETE request to the API."""
    return Request("DELETE", api + path, route, subject, None, _headers())


def repo_path(repo: str) -> str:
    """Return the API path of a repository `owner/name`."""
    owner, _, name = repo.partition("/")
    return f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}"


def quote_path(path: str) -> str:
    """Return a repository path as part of a URL.

    Raises UnsafePathError for `.` and `..`: an HTTP library would resolve them to another
    endpoint.
    """
    if any(part in (".", "..") for part in path.split("/")):
        raise UnsafePathError(f"{path!r} can't be requested: it has a . or .. in it", path=path)
    return quote(path, safe="/", errors="surrogateescape")


def read_body(response: Response) -> bytes:
    """Read the whole body and close the response."""
    try:
        return b"".join(response.chunks())
    finally:
        response.close()


def read_json(request: Request, response: Response) -> Any:
    """Read the body as JSON and close the response.

    Raises BadResponseError for HTML of a proxy, a cut answer, or anything else that is not JSON.
    """
    body = read_body(response)
    try:
        return load_json(body, request.kind or request.route)
    except BeyondBoundError as error:
        raise beyond_bound_error(request.subject, error, request_id(response.headers)) from error
    except ValueError as error:
        got = (
            "a web page (a proxy or a sign-in page?)"
            if body.lstrip()[:1] == b"<"
            else "something that is not JSON"
        )
        raise BadResponseError(
            f"GitHub answered the request for {request.subject} with {got}",
            id="bad_response/not-json",
            status=response.status,
            request_id=request_id(response.headers),
            hint="nothing was changed; the next run asks again",
        ) from error


def beyond_bound_error(
    subject: str, error: BeyondBoundError, github_id: str | None = None
) -> BadResponseError:
    """Return the error for an answer that has more of something than its kind may have.

    `github_id` is GitHub's id of the request.
    """
    return BadResponseError(
        f"the answer for {subject} has {error}",
        id="bad_response/too-large",
        request_id=github_id,
        hint="nothing was changed; check what is between this machine and GitHub",
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return GitHub's id of the request, or None."""
    return server_text(headers.get("x-github-request-id")) or None


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """Return the server's time from the Date header, as aware UTC; None where there is none."""
    try:
        found = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def expiry_of(headers: Mapping[str, str]) -> datetime | None:
    """Return when a user-made token ends, as an aware time; None where GitHub does not say.

    Source: recorded answers, `2025-02-04 16:42:10 UTC`.
    """
    text = headers.get("github-authentication-token-expiration", "").strip()
    if not text:
        return None  # as in most answers: strptime's first call costs 8 ms
    for form in ("%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S %z"):
        try:
            found = datetime.strptime(text, form)
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def buffered(response: Response) -> BufferedResponse:
    """Return the answer with the beginning of its body, as much as an error may have.

    The response is closed.
    """
    kept, length = [], 0
    try:
        for chunk in response.chunks():
            kept.append(chunk)
            length += len(chunk)
            if length > ERROR_BYTES:
                break
    except (RemoteUnavailableError, BadResponseError) as error:
        if isinstance(error, TimedOutError):
            raise  # otherwise the status is what matters, and only its text was cut
    finally:
        response.close()
    return BufferedResponse(response.status, response.headers, response.url, b"".join(kept))


def server_text(value: object) -> str:
    """Return a server's text in one line of bounded length, for messages.

    It holds nothing that a terminal acts on or that can't be printed. Empty for what is no text.
    """
    text = re.sub(r"\s", " ", value[: 2 * ERROR_TEXT]) if isinstance(value, str) else ""
    if not text.isprintable():
        text = "".join(map(_printable, text))
    return text if len(text) <= ERROR_TEXT else text[:ERROR_TEXT] + "…"


def _printable(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if ord(letter) < 0xA0 else "\ufffd"
