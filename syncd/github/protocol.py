"""PURE: builds requests and reads answers. Every status that is not success becomes the error of who acts next.

Source: the REST documentation ("Troubleshooting the REST API", "Rate limits for the REST API", "Best practices"), and the texts that
clients have recorded for each refusal; a table of them is in tests/unit/test_github_protocol.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import quote

from msgspec import Struct, field

from syncd import __version__
from syncd.deadline import Deadline
from syncd.errors import (
    AuthError,
    BadResponseError,
    NotFoundError,
    RateLimitedError,
    RemoteError,
    RemoteUnavailableError,
    SyncdError,
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
from syncd.github.error_texts import FORBIDDEN, RATE_LIMIT_WORDS, UNAUTHORISED, UNKNOWN_APP

API_VERSION = "2022-11-28"
USER_AGENT = f"syncd/{__version__}"
JSON = "application/vnd.github+json"
RAW = "application/vnd.github.raw+json"
OBJECT = "application/vnd.github.object+json"
SHA = "application/vnd.github.sha"

DEFAULT_WAIT_SECONDS = (
    60.0  # "Rate limits for the REST API": wait at least one minute when the answer gives no time
)
MAX_WAIT_SECONDS = 24 * 3600.0  # a damaged header must not put a job to sleep for ever


class TooLargeError(RemoteError):
    """The Contents API does not serve this file; the blobs endpoint may."""

    kind = "bad_response"


class Request(Struct, frozen=True):
    """One exchange to make. `subject` names what is asked for, for messages; `allow_other_host` allows a redirect to another host, without our credential.

    `basic`: the token goes as git's own endpoints take it, and not as the API does. `is_read_only`: a POST that changes nothing, and so
    is sent again, as it is, to where its answer redirects it (RFC 9110, 15.4.2 leaves that to the client). `attempts` counts all attempts at the
    question.
    `kind` is the row of bounds.py that limits the answer, where it is not the one of `route`; `cap_bytes` is a lower limit for this answer's body.
    `installation` is the one whose hourly limit it spends; None: that of a token, or none.
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
        """The limits of the answer. Raises KeyError for a route that has none."""
        return bound_of(self.kind or self.route)

    @property
    def max_body_bytes(self) -> int:
        """How many bytes the answer's decoded body may have."""
        most = self.bound.body_bytes
        return most if self.cap_bytes is None else min(most, self.cap_bytes)


class Response(Protocol):
    """An answer whose body is still on the way. `close` may be called at any time, and again."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    url: str

    def chunks(self) -> Iterator[bytes]:
        """The body, decoded, at most `max_body_bytes` of the request. Raises RemoteUnavailableError when it ends early, BadResponseError past the cap."""

    def close(self) -> None: ...


class BufferedResponse:
    """An answer whose body was read already, to be looked at again."""

    def __init__(self, status: int, headers: Mapping[str, str], url: str, body: bytes) -> None:
        self.status, self.headers, self.url, self._body = status, headers, url, body

    def chunks(self) -> Iterator[bytes]:
        yield self._body

    def close(self) -> None:
        """Nothing is held."""


class Transport(Protocol):
    def send(self, request: Request, deadline: Deadline) -> Response:
        """GitHub's answer, of whatever status. Raises RemoteUnavailableError when there was none."""


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
    headers = {"Accept": accept, "X-GitHub-Api-Version": API_VERSION, "User-Agent": USER_AGENT}
    if etags:
        headers["If-None-Match"] = etags
    return Request("GET", api + path, route, subject, repo, headers, cap_bytes=cap_bytes, kind=kind)


def post(api: str, path: str, route: str, subject: str, body: object) -> Request:
    headers = {
        "Accept": JSON,
        "X-GitHub-Api-Version": API_VERSION,
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
    }
    return Request("POST", api + path, route, subject, None, headers, json.dumps(body).encode())


def delete(api: str, path: str, route: str, subject: str) -> Request:
    return Request(
        "DELETE",
        api + path,
        route,
        subject,
        None,
        {"Accept": JSON, "X-GitHub-Api-Version": API_VERSION, "User-Agent": USER_AGENT},
    )


def repo_path(repo: str) -> str:
    owner, _, name = repo.partition("/")
    return f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}"


def quoted(path: str) -> str:
    """A repository path for a URL. `.` and `..` are refused: an HTTP library would resolve them to another endpoint."""
    if any(part in (".", "..") for part in path.split("/")):
        raise UnsafePathError(f"{path!r} can't be asked for: it has a . or .. in it", path=path)
    return quote(path, safe="/", errors="surrogateescape")


def read(response: Response) -> bytes:
    """The whole body. The response is closed."""
    try:
        return b"".join(response.chunks())
    finally:
        response.close()


def read_json(request: Request, response: Response) -> Any:
    """The body as JSON. Raises BadResponseError for HTML of a proxy, a cut answer, or anything else that is not JSON."""
    body = read(response)
    try:
        return load_json(body, request.kind or request.route)
    except BeyondBoundError as error:
        raise beyond(f"asked for {request.subject}", error, request_id(response.headers)) from error
    except ValueError as error:
        what = "a web page (a proxy or a sign-in page?)" if body.lstrip()[:1] == b"<" else "no JSON"
        raise BadResponseError(
            f"asked for {request.subject}, got {what}",
            status=response.status,
            request_id=request_id(response.headers),
            hint="nothing was changed; the next run asks again",
        ) from error


def beyond(asked: str, error: BeyondBoundError, identity: str | None = None) -> BadResponseError:
    """The error for an answer that has more of something than its kind may have."""
    return BadResponseError(
        f"{asked}: the answer has {error}",
        request_id=identity,
        hint="nothing was changed; check what stands between here and GitHub",
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    return one_line(headers.get("x-github-request-id")) or None


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """The server's own clock, from Date; aware UTC."""
    try:
        found = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def expiry_of(headers: Mapping[str, str]) -> datetime | None:
    """When a token that somebody made will end, aware; None where GitHub does not say. Source: recorded answers, `2025-02-04 16:42:10 UTC`."""
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


class ErrorBody(Struct, frozen=True):
    """An answer that is not success, read: what `failure` and those who handle single statuses look at. `page` is a web page's body."""

    status: int
    message: str
    documentation: str
    codes: tuple[str, ...]
    headers: Mapping[str, str]
    page: bool = False
    block: str = ""  # why GitHub blocked the repository, where the answer names a reason


def buffered(response: Response) -> BufferedResponse:
    """The answer with the beginning of its body, as much as an error may have. The response is closed."""
    kept, length = [], 0
    try:
        for chunk in response.chunks():
            kept.append(chunk)
            length += len(chunk)
            if length > ERROR_BYTES:
                break
    except (RemoteUnavailableError, BadResponseError) as error:
        if isinstance(error, TimedOutError):
            raise  # else the status has said what matters, and its text was cut
    finally:
        response.close()
    return BufferedResponse(response.status, response.headers, response.url, b"".join(kept))


def parse_error(response: Response) -> ErrorBody:
    """Reads the body of a failed answer, whatever it is. The response is closed."""
    body = read(buffered(response))
    try:
        found = load_json(body[:ERROR_BYTES], "error")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return ErrorBody(
            response.status, "", "", (), response.headers, page=body.lstrip()[:1] == b"<"
        )
    errors = found.get("errors")  # an array, usually
    codes = (
        [
            error["code"]
            for error in errors
            if isinstance(error, dict) and isinstance(error.get("code"), str)
        ]
        if isinstance(errors, list)
        else []
    )
    return ErrorBody(
        response.status,
        one_line(found.get("message")),
        one_line(found.get("documentation_url")),
        tuple(codes),
        response.headers,
        block=_block_reason(found.get("block")),
    )


def _block_reason(block: object) -> str:
    """The `block` object of a "Repository access blocked" answer in one line, as in `tos, https://github.com/tos`.

    Source: kulkansecurity/gitxray issue 9 (`tos`), PyGithub/PyGithub issue 1015 (`unavailable`).
    """
    if not isinstance(block, dict):
        return ""
    return ", ".join(filter(None, (one_line(block.get("reason")), one_line(block.get("html_url")))))


def one_line(value: object) -> str:
    """A server's text as it may be shown: one line, nothing that a terminal acts on or that can't be printed, not endless. Empty for what is no text."""
    text = re.sub(r"\s", " ", value[: 2 * ERROR_TEXT]) if isinstance(value, str) else ""
    if not text.isprintable():
        text = "".join(
            letter if letter.isprintable() else " " if ord(letter) < 0xA0 else "\ufffd"
            for letter in text
        )
    return text if len(text) <= ERROR_TEXT else text[:ERROR_TEXT] + "…"


def failure(request: Request, found: ErrorBody, now: datetime) -> SyncdError:
    """The error that a failed answer means. `now` is our clock; waits are counted on the server's."""
    limited = limit(request, found, now)
    if limited is not None:
        return limited
    identity = request_id(found.headers)
    said = f"asked for {request.subject}: GitHub answered {found.status}" + (
        f" ({found.message})" if found.message else ""
    )
    if found.status >= 500 or found.status == 408:
        return RemoteUnavailableError(
            said,
            status=found.status,
            request_id=identity,
            hint="GitHub has trouble; the next run tries again",
        )
    if found.page or found.status == 407:
        return BadResponseError(
            f"asked for {request.subject}: got {found.status} and a web page, which is not GitHub's API speaking",
            status=found.status,
            request_id=identity,
            hint="check api: (an Enterprise Server's ends in /api/v3), and what stands between here and GitHub",
        )
    match found.status:
        case 401:
            return _unauthorised(said, found, identity)
        case 403:
            return _forbidden(said, found, identity)
        case 404:
            return _not_found(request, said, found, identity)
        case 409 if not found.message or "empty" in found.message:
            return NotFoundError(
                f"{request.repo or request.subject} is empty: it has no commit yet",
                status=409,
                request_id=identity,
                hint="push a first commit, or correct repo:",
            )
        case 422 if request.route == "token":
            return _not_granted(said, found, identity)
        case 409 | 422:
            return NotFoundError(said, status=found.status, request_id=identity)
        case 451:
            return _blocked(said, found, identity)
        case 410:
            return BadResponseError(
                said, status=410, request_id=identity, hint="this API version is gone; update syncd"
            )
    return BadResponseError(
        said, status=found.status, request_id=identity, hint="nothing was changed"
    )


def limit(request: Request, found: ErrorBody, now: datetime) -> RateLimitedError | None:
    """The limit that a 403 or 429 speaks of, or None when it is about permissions. Source: docs "Rate limits for the REST API"; go-github CheckResponse."""
    if found.status not in (403, 429):
        return None
    headers, said = found.headers, found.message.lower()
    server = date_of(headers) or now
    retry_after = _retry_after(headers.get("retry-after"), server)
    secondary = (
        "secondary rate limit" in said
        or "abuse detection" in said
        or found.documentation.endswith(("secondary-rate-limits", "#abuse-rate-limits"))
    )
    # An answer without any limit header is known by its words: octokit/plugin-throttling.js issue 222.
    worded = RATE_LIMIT_WORDS in said
    remaining = _number(headers.get("x-ratelimit-remaining"))
    primary = (remaining == 0 or worded) and not secondary
    if primary and (remaining == 0 or (remaining is None and "x-ratelimit-reset" in headers)):
        reset = _number(headers.get("x-ratelimit-reset"))
        wait = reset - server.timestamp() + 1 if reset is not None else DEFAULT_WAIT_SECONDS
        wait = max(wait, retry_after or 0)
    elif retry_after is not None:
        wait = retry_after
    elif secondary or worded or found.status == 429:
        wait = DEFAULT_WAIT_SECONDS
    else:
        return None
    retry_at = now + timedelta(seconds=min(max(wait, 1.0), MAX_WAIT_SECONDS))
    which = (
        "the hourly limit is used up" if primary else "GitHub asks to slow down (secondary limit)"
    )
    return RateLimitedError(
        f"asked for {request.subject}: {which}; it makes sense again at {retry_at:%Y-%m-%dT%H:%M:%SZ}",
        retry_at=retry_at,
        primary=primary,
        status=found.status,
        request_id=request_id(headers),
        hint="syncd waits by itself; see `syncd status` for the budget",
    )


def _number(text: str | None) -> float | None:
    """The number in a header; the first one where a header came twice."""
    try:
        found = float((text or "").partition(",")[0])
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _retry_after(text: str | None, server: datetime) -> float | None:
    """Seconds. GitHub sends a number; a date is what HTTP allows beside it, and what something in between may send."""
    found = _number(text)
    at = date_of({"date": text}) if found is None and text else None
    return (at - server).total_seconds() if at is not None else found


def _unauthorised(said: str, found: ErrorBody, identity: str | None) -> AuthError:
    for text, state, hint in UNAUTHORISED:
        if text in found.message:
            return AuthError(said, status=401, request_id=identity, state=state, hint=hint)
    return AuthError(
        said,
        status=401,
        request_id=identity,
        state="token",
        hint="the token is wrong, expired or revoked; make a new one",
    )


def _blocked(said: str, found: ErrorBody, identity: str | None) -> AuthError:
    """A repository that GitHub itself blocked: no credential changes that."""
    why = (
        f" ({found.block})" if found.block else " for legal reasons" if found.status == 451 else ""
    )
    hint = f"GitHub blocked this repository{why}; its owner has to ask GitHub Support. Until then: syncd pause JOB"
    return AuthError(said, status=found.status, request_id=identity, state="blocked", hint=hint)


def _forbidden(said: str, found: ErrorBody, identity: str | None) -> SyncdError:
    if "too_large" in found.codes:
        return TooLargeError(said, status=403, request_id=identity)
    if "access blocked" in found.message:
        return _blocked(said, found, identity)
    sso = found.headers.get("x-github-sso")
    if sso or "SAML enforcement" in found.message:
        where = one_line((sso or "").partition("url=")[2].partition(";")[0])
        return AuthError(
            said,
            status=403,
            request_id=identity,
            state="sso",
            hint="authorise the token for the organization's single sign-on"
            + (f": {where}" if where else ""),
        )
    needs = one_line(found.headers.get("x-accepted-github-permissions")) or "contents=read"
    for text, state, hint in (
        *FORBIDDEN,
        (
            "suspended",
            "suspended",
            "the installation is suspended; an owner of the account can unsuspend it under Settings → Applications",
        ),
        (
            "IP allow list",
            "allow_list",
            "add this server's address to the organization's IP allow list",
        ),
        ("User-Agent", "proxy", "something between here and GitHub removes the User-Agent header"),
        (
            "Resource not accessible",
            "permission",
            f"the token lacks a permission ({needs}); grant it in the App's or token's settings",
        ),
    ):
        if text in found.message:
            return AuthError(said, status=403, request_id=identity, state=state, hint=hint)
    return AuthError(
        said,
        status=403,
        request_id=identity,
        state="permission",
        hint="check what the token or App may read; after many wrong tokens GitHub refuses right ones for a while too",
    )


def _not_granted(said: str, found: ErrorBody, identity: str | None) -> AuthError:
    """A mint that asks for more than was granted. `grant`: a repository; `permission`: contents: read itself."""
    if "permissions requested" in found.message:
        return AuthError(
            said,
            status=422,
            request_id=identity,
            state="permission",
            hint="grant the App contents: read in its settings, and let an owner of the account accept it",
        )
    return AuthError(
        said,
        status=422,
        request_id=identity,
        state="grant",
        hint="a repository of the jobs is not in the installation, or was renamed; see the App's page → Configure, and repo:",
    )


def _not_found(request: Request, said: str, found: ErrorBody, identity: str | None) -> SyncdError:
    if UNKNOWN_APP in found.message:
        return AuthError(
            said,
            status=404,
            request_id=identity,
            state="app",
            hint="this host knows no such App: check app_id or client_id, that private_key is that App's, and the host in api:",
        )
    if request.route == "token":
        return AuthError(
            said,
            status=404,
            request_id=identity,
            state="installation",
            hint="the installation is gone, or installation_id is not one of this App (is it the app id?)",
        )
    if request.route == "installation":
        return AuthError(
            f"the App is not installed on {request.repo}, or there is no such repository",
            status=404,
            request_id=identity,
            state="installation",
            hint="install it: the App's page → Install App; and check repo:",
        )
    if "No commit found" in found.message:
        return NotFoundError(said, status=404, request_id=identity)
    if request.route in ("head", "repo"):
        return AuthError(
            f"{request.repo} is not there, or this identity may not see it (GitHub answers 404 for both)",
            status=404,
            request_id=identity,
            state="hidden",
            hint="check repo:, and that the App or token has access to it",
        )
    return NotFoundError(said, status=404, request_id=identity)
