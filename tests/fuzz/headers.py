"""Fuzzing of status, headers, error bodies and addresses:
python -m tests.fuzz.headers -max_total_time=60

The input is an answer: a line with the status, header lines, an empty line, the body. Whatever it
is: an error with a name, a wait that ends, a budget that makes sense, and no address but one that
the credential's rules allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.github"):
    from syncd.errors import BadResponseError, RateLimitedError, SyncdError
    from syncd.github.error_responses import failure, parse_error
    from syncd.github.protocol import BufferedResponse, get, post, read_json
    from syncd.github.proxies import Proxies
    from syncd.github.rate_limit import RateLimit
    from syncd.github.refs import parse_commit_id
    from syncd.github.urls import check_redirect, redirect_url, same_origin

from syncd.github.request import Answer
from tests.support.clock import FakeClock

API = "https://api.github.com"
HEAD = get(
    API, "/repos/acme/infra/commits/heads%2Fmain", "head", "main of acme/infra", "acme/infra"
)
MINT = post(API, "/app/installations/42/access_tokens", "token", "a token", {})
YEAR = timedelta(days=366)


def one(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    status = int(first) if first.isdigit() and first.isascii() and len(first) < 4 else 403
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    clock = FakeClock()
    for request in (HEAD, MINT):
        error = failure(
            request, parse_error(BufferedResponse(status, headers, request.url, body)), clock.now()
        )
        if (
            error.kind == "internal"
            or not error.message.isprintable()
            or (error.hint and not error.hint.isprintable())
            or len(error.message) > 3000
        ):
            raise AssertionError(f"a poor message: {error.message!r} {error.hint!r}")
        if (
            isinstance(error, RateLimitedError)
            and not clock.now() < error.retry_at < clock.now() + YEAR
        ):
            raise AssertionError(f"a wait without end: {error.retry_at}")
    budget = RateLimit(clock)
    budget.update_from_headers(headers, refused=status == 403)
    budget.status()
    try:
        parse_commit_id(HEAD, Answer(200, headers, body))
        read_json(HEAD, BufferedResponse(200, headers, HEAD.url, body))
    except SyncdError:
        pass
    _address(headers.get("location", ""))
    Proxies(
        {"https": "http://proxy.test:3128"}, tuple(headers.get("no-proxy", "").split(","))
    ).for_url(HEAD.url)


def _address(location: str) -> None:
    try:
        found = redirect_url(HEAD.url, location, "main")
    except BadResponseError:
        return
    if same_origin(found, HEAD.url):
        if not found.lower().startswith(
            (
                "https://api.github.com/",
                "https://api.github.com:443/",
                "https://api.github.com?",
                "https://api.github.com",
            )
        ):
            raise AssertionError(f"another origin with our credential: {found!r}")
        return
    for allowed in (False, True):
        try:
            check_redirect(HEAD.url, found, "main", allowed)
        except BadResponseError:
            continue
        if not allowed or not found.startswith("https://") or "@" in urlsplit(found).netloc:
            raise AssertionError(f"followed to {found!r}")


def seeds() -> Iterator[bytes]:
    limited = (
        "x-ratelimit-limit: 5000\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1790000000\n"
        "date: Mon, 23 Nov 2026 12:00:00 GMT"
    )
    for status, headers, message in [
        (403, limited, "API rate limit exceeded"),
        (429, "retry-after: 60", "You have exceeded a secondary rate limit"),
        (403, "retry-after: Mon, 23 Nov 2026 12:00:00 GMT", ""),
        (
            403,
            "x-github-sso: required; url=https://github.com/orgs/acme/sso?a=1",
            "Resource protected by organization SAML enforcement.",
        ),
        (
            403,
            "x-accepted-github-permissions: contents=read",
            "Resource not accessible by integration",
        ),
        (401, "x-ratelimit-limit: 60", "Bad credentials"),
        (422, "", "The permissions requested are not granted to this installation."),
        (
            302,
            "location: https://codeload.github.com/acme/infra/legacy.tar.gz/1f3ac90?token=AB",
            "",
        ),
        (301, "location: //evil.example/x\nno-proxy: 10.0.0.0/8,.corp,*", ""),
        (302, "location: https://user@[::ffff:127.0.0.1]:8443/%2e%2e/x", ""),
    ]:
        yield (
            f"{status}\n{headers}\nx-github-request-id: AB:12\n\n"
            f'{{"message": "{message}", "documentation_url": "https://docs.github.com/rest", '
            '"errors": [{"code": "x"}]}'
        ).encode()
    yield b'200\netag: "' + b"a" * 40 + b'"\n\n' + b"a" * 40
    yield b"502\ncontent-type: text/html\n\n<!DOCTYPE html>"


WORDS = [
    "location: ",
    "retry-after: ",
    "x-ratelimit-reset: ",
    "x-ratelimit-remaining: ",
    "date: ",
    "x-github-sso: ",
    "https://",
    "http://",
    "file:",
    "//",
    "@",
    "[::1]",
    "169.254.169.254",
    "nan",
    "inf",
    "1e999",
    "message",
    "errors",
]

if __name__ == "__main__":
    fuzz(one, seeds(), WORDS)
