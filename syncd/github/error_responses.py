"""GitHub's refusals: read an answer that is not success and make the error of who acts next.

Source: the REST documentation ("Troubleshooting the REST API", "Rate limits for the REST API",
"Best practices"), and the texts that clients have recorded for each refusal; a table of them is
in tests/unit/github/test_protocol.py. Pure: the only input is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from syncd.errors import (
    AuthError,
    BadResponseError,
    NotFoundError,
    RateLimitedError,
    RemoteError,
    RemoteUnavailableError,
    SyncdError,
)
from syncd.github.bounds import ERROR_BYTES, load_json
from syncd.github.protocol import (
    MAX_WAIT_SECONDS,
    Request,
    Response,
    buffered,
    date_of,
    read_body,
    request_id,
    server_text,
)
from syncd.github.refusal_texts import FORBIDDEN, RATE_LIMIT_WORDS, UNAUTHORISED, UNKNOWN_APP

# "Rate limits for the REST API": wait at least one minute when the answer gives no time
DEFAULT_WAIT_SECONDS = 60.0


class TooLargeError(RemoteError):
    """The Contents API does not serve this file; the blobs endpoint may."""

    kind = "bad_response"


class ErrorBody(Struct, frozen=True):
    """An answer that is not success, read: what `failure` and handlers of single statuses use."""

    status: int
    message: str
    documentation: str
    codes: tuple[str, ...]
    headers: Mapping[str, str]
    is_web_page: bool = False
    block_reason: str = ""  # why GitHub blocked the repository, where the answer names a reason


def parse_error(response: Response) -> ErrorBody:
    """Read the body of a failed answer, whatever it is, and close the response."""
    body = read_body(buffered(response))
    try:
        found = load_json(body[:ERROR_BYTES], "error")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        is_web_page = body.lstrip()[:1] == b"<"
        return ErrorBody(response.status, "", "", (), response.headers, is_web_page)
    return ErrorBody(
        response.status,
        server_text(found.get("message")),
        server_text(found.get("documentation_url")),
        _codes(found.get("errors")),
        response.headers,
        block_reason=_block_reason(found.get("block")),
    )


def _codes(errors: object) -> tuple[str, ...]:
    """Return the `code` of each error in the `errors` field, which is an array, usually."""
    if not isinstance(errors, list):
        return ()
    codes = (error.get("code") for error in errors if isinstance(error, dict))
    return tuple(code for code in codes if isinstance(code, str))


def _block_reason(block: object) -> str:
    """Return the `block` object of a "Repository access blocked" answer in one line.

    For example `tos, https://github.com/tos`. Source: kulkansecurity/gitxray issue 9 (`tos`),
    PyGithub/PyGithub issue 1015 (`unavailable`).
    """
    if not isinstance(block, dict):
        return ""
    return ", ".join(
        filter(None, (server_text(block.get("reason")), server_text(block.get("html_url"))))
    )


def failure(request: Request, found: ErrorBody, now: datetime) -> SyncdError:
    """Return the error that a failed answer means.

    `now` is our clock; waits are counted on the server's.
    """
    limited = rate_limit_error(request, found, now)
    if limited is not None:
        return limited
    refused = _RefusedRequest(request, found)
    if found.status >= 500 or found.status == 408:
        return RemoteUnavailableError(
            refused.text,
            id="unavailable/server-error",
            status=found.status,
            request_id=refused.request_id,
            hint="GitHub has trouble; the next run tries again",
        )
    if found.is_web_page or found.status == 407:
        return _web_page(refused)
    match found.status:
        case 401:
            return _unauthorised(refused)
        case 403:
            return _forbidden(refused)
        case 404:
            return _not_found(refused)
        case 409 if not found.message or "empty" in found.message:
            return _empty_repository(refused)
        case 422 if request.route == "token":
            return _not_granted(refused)
        case 409 | 422:
            return refused.not_found()
        case 451:
            return _blocked(refused)
    return _unexpected(refused)


def rate_limit_error(request: Request, found: ErrorBody, now: datetime) -> RateLimitedError | None:
    """Return the limit that a 403 or 429 reports, or None when it is about permissions.

    Source: docs "Rate limits for the REST API"; go-github CheckResponse.
    """
    if found.status not in (403, 429):
        return None
    is_primary, wait = _wait_seconds(found, date_of(found.headers) or now)
    if wait is None:
        return None
    retry_at = now + timedelta(seconds=min(max(wait, 1.0), MAX_WAIT_SECONDS))
    which = "it asks to slow down (secondary limit)"
    if is_primary:
        which = "the hourly limit is used up"
    return RateLimitedError(
        f"GitHub refused the request for {request.subject}: {which}; "
        f"try again at {retry_at:%Y-%m-%dT%H:%M:%SZ}",
        id="rate_limited/hourly-limit" if is_primary else "rate_limited/secondary-limit",
        retry_at=retry_at,
        primary=is_primary,
        status=found.status,
        request_id=request_id(found.headers),
        hint="syncd waits by itself; see `syncd status` for the budget",
    )


def _wait_seconds(found: ErrorBody, server_now: datetime) -> tuple[bool, float | None]:
    """Return whether the primary limit is used up, and the wait; None when there is no limit."""
    headers, message = found.headers, found.message.lower()
    retry_after = _retry_after(headers.get("retry-after"), server_now)
    is_secondary = (
        "secondary rate limit" in message
        or "abuse detection" in message
        or found.documentation.endswith(("secondary-rate-limits", "#abuse-rate-limits"))
    )
    # An answer without any limit header is recognised by its words.
    has_limit_words = RATE_LIMIT_WORDS in message
    remaining = _number(headers.get("x-ratelimit-remaining"))
    is_primary = (remaining == 0 or has_limit_words) and not is_secondary
    if is_primary and (remaining == 0 or (remaining is None and "x-ratelimit-reset" in headers)):
        reset = _number(headers.get("x-ratelimit-reset"))
        wait = DEFAULT_WAIT_SECONDS if reset is None else reset - server_now.timestamp() + 1
        return is_primary, max(wait, retry_after or 0)
    if retry_after is not None:
        return is_primary, retry_after
    if is_secondary or has_limit_words or found.status == 429:
        return is_primary, DEFAULT_WAIT_SECONDS
    return is_primary, None


def _number(text: str | None) -> float | None:
    """Return the number in a header; the first one where a header came twice."""
    try:
        found = float((text or "").partition(",")[0])
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _retry_after(text: str | None, server_now: datetime) -> float | None:
    """Return the seconds in a Retry-After header.

    GitHub sends a number; HTTP also allows a date, which something in between may send.
    """
    found = _number(text)
    at = date_of({"date": text}) if found is None and text else None
    return (at - server_now).total_seconds() if at is not None else found


class _RefusedRequest:
    """A request and the refusal that answered it, with the facts that every error of it carries."""

    def __init__(self, request: Request, found: ErrorBody) -> None:
        self.request, self.found = request, found
        self.request_id = request_id(found.headers)
        quoted = f" ({found.message})" if found.message else ""
        self.text = f"GitHub answered {found.status} to the request for {request.subject}{quoted}"

    def auth(self, id: str, *, state: str, hint: str, text: str | None = None) -> AuthError:
        """Return an AuthError with this refusal's facts."""
        return AuthError(
            text or self.text,
            id=id,
            status=self.found.status,
            request_id=self.request_id,
            state=state,
            hint=hint,
        )

    def not_found(self) -> NotFoundError:
        """Return a NotFoundError with this refusal's facts."""
        return NotFoundError(
            self.text,
            id="not_found/at-github",
            status=self.found.status,
            request_id=self.request_id,
        )

    def bad_response(self, id: str, hint: str, text: str | None = None) -> BadResponseError:
        """Return a BadResponseError with this refusal's facts."""
        return BadResponseError(
            text or self.text,
            id=id,
            status=self.found.status,
            request_id=self.request_id,
            hint=hint,
        )


def _web_page(refused: _RefusedRequest) -> BadResponseError:
    return refused.bad_response(
        "bad_response/web-page",
        "check api: (an Enterprise Server's ends in /api/v3), and what is between this machine "
        "and GitHub",
        f"the request for {refused.request.subject} was answered {refused.found.status} with a web "
        "page, which does not come from GitHub's API",
    )


def _unexpected(refused: _RefusedRequest) -> BadResponseError:
    if refused.found.status == 410:
        return refused.bad_response(
            "bad_response/api-version-gone", "this API version is gone; update syncd"
        )
    return refused.bad_response("bad_response/unexpected-status", "nothing was changed")


def _unauthorised(refused: _RefusedRequest) -> AuthError:
    for known in UNAUTHORISED:
        if known.text in refused.found.message:
            return refused.auth(known.id, state=known.state, hint=known.hint)
    return refused.auth(
        "auth/bad-token",
        state="token",
        hint="the token is wrong, expired or revoked; make a new one",
    )


def _blocked(refused: _RefusedRequest) -> AuthError:
    """Return the error for a repository that GitHub itself blocked; no credential changes that."""
    why = " for legal reasons" if refused.found.status == 451 else ""
    if refused.found.block_reason:
        why = f" ({refused.found.block_reason})"
    return refused.auth(
        "auth/repository-blocked",
        state="blocked",
        hint=f"GitHub blocked this repository{why}; its owner has to ask GitHub Support. "
        "Until then: syncd pause JOB",
    )


def _forbidden(refused: _RefusedRequest) -> SyncdError:
    found = refused.found
    if "too_large" in found.codes:
        return TooLargeError(refused.text, status=403, request_id=refused.request_id)
    if "access blocked" in found.message:
        return _blocked(refused)
    if found.headers.get("x-github-sso") or "SAML enforcement" in found.message:
        return _single_sign_on(refused)
    needs = server_text(found.headers.get("x-accepted-github-permissions")) or "contents=read"
    for known in FORBIDDEN:
        if known.text in found.message:
            return refused.auth(
                known.id, state=known.state, hint=known.hint.replace("{needs}", needs)
            )
    return refused.auth(
        "auth/forbidden",
        state="permission",
        hint="check what the token or App may read; after many wrong tokens GitHub "
        "refuses right ones "
        "for a while too",
    )


def _single_sign_on(refused: _RefusedRequest) -> AuthError:
    header = refused.found.headers.get("x-github-sso") or ""
    where = server_text(header.partition("url=")[2].partition(";")[0])
    hint = "authorise the token for the organization's single sign-on"
    return refused.auth(
        "auth/single-sign-on", state="sso", hint=f"{hint}: {where}" if where else hint
    )


def _not_granted(refused: _RefusedRequest) -> AuthError:
    """Return the error for a token request that asks for more than was granted.

    State `grant`: a repository; `permission`: contents: read itself.
    """
    if "permissions requested" in refused.found.message:
        return refused.auth(
            "auth/contents-not-granted",
            state="permission",
            hint="grant the App contents: read in its settings, and let an owner of the account "
            "accept "
            "it",
        )
    return refused.auth(
        "auth/repository-not-granted",
        state="grant",
        hint="a repository of the jobs is not in the installation, or was renamed; see the App's "
        "page "
        "→ Configure, and repo:",
    )


def _empty_repository(refused: _RefusedRequest) -> NotFoundError:
    return NotFoundError(
        f"{refused.request.repo or refused.request.subject} is empty: it has no commit yet",
        id="not_found/empty-repository",
        status=409,
        request_id=refused.request_id,
        hint="push a first commit, or correct repo:",
    )


def _not_found(refused: _RefusedRequest) -> SyncdError:
    request = refused.request
    if UNKNOWN_APP in refused.found.message:
        return refused.auth(
            "auth/app-not-found",
            state="app",
            hint="this host knows no such App: check app_id or client_id, that private_key is that "
            "App's, and the host in api:",
        )
    if request.route == "token":
        return refused.auth(
            "auth/installation-not-found",
            state="installation",
            hint="the installation is gone, or installation_id is not one of this App (is it the "
            "app "
            "id?)",
        )
    if request.route == "installation":
        return refused.auth(
            "auth/app-not-installed",
            state="installation",
            hint="install it: the App's page → Install App; and check repo:",
            text=f"the App is not installed on {request.repo}, or there is no such repository",
        )
    if request.route in ("head", "repo") and "No commit found" not in refused.found.message:
        return refused.auth(
            "auth/repository-not-visible",
            state="hidden",
            hint="check repo:, and that the App or token has access to it",
            text=f"{request.repo} is not there, or this identity may not see it "
            "(GitHub answers 404 for both)",
        )
    return refused.not_found()


__all__ = ["ErrorBody", "TooLargeError", "failure", "parse_error", "rate_limit_error"]
