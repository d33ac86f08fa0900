"""Plain requests to GitHub for `make live`: no redirect, no retry, no cache, bounded in number.

What is kept of an answer for the report is its status, the headers listed here and GitHub's own
message. Bodies, addresses in answers and credentials are never kept.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import requests
from msgspec import Struct

from syncd.app_jwt import app_jwt
from syncd.github.protocol import USER_AGENT
from syncd.github.urls import is_loopback
from syncd.redaction import Secret, add_secret, redact
from tests.live.settings import Settings

TIMEOUT_SECONDS = 30
WAITS_SECONDS = (0, 1, 2, 3)  # octokit/auth-app.js waits the same way for a fresh token
JSON = "application/vnd.github+json"
STATELESS_HEADER = "X-GitHub-Stateless-S2S-Token"
KEPT_HEADERS = frozenset(
    (
        "cache-control",
        "content-length",
        "content-type",
        "date",
        "deprecation",
        "etag",
        "last-modified",
        "retry-after",
        "sunset",
        "vary",
        "x-accepted-github-permissions",
        "x-github-api-version-selected",
        "x-github-enterprise-version",
        "x-github-media-type",
        "x-github-request-id",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-resource",
        "x-ratelimit-used",
    )
)


class NotApplicable(Exception):
    """This server, or what the run may use, can't answer the question; the text says why."""


class Evidence(Struct, frozen=True):
    """One exchange as the report shows it."""

    request: str
    status: int
    headers: dict[str, str]
    message: str | None = None


class Reply(Struct, frozen=True):
    """A whole answer, for the question alone."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        """Return the ETag without quotes and weakness; empty where there is none."""
        return self.headers.get("etag", "").removeprefix("W/").strip('"')

    @property
    def json(self) -> Any:
        """Return the body as JSON; None for any other."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Api:
    """Sends requests and notes each one as evidence. `sleep` waits for so many seconds."""

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self.settings, self.request_count, self._sleep = settings, 0, sleep
        self.evidence: list[Evidence] = []
        self._session = requests.Session()
        self._session.trust_env = False  # no .netrc: it would replace the token
        self._session.verify = settings.ca_file or True
        if not is_loopback(urlsplit(settings.api).hostname or ""):
            self._session.proxies.update(getproxies())

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, path: str, token: str | None, accept: str = JSON, **headers: str) -> Reply:
        """Return the answer to a GET; a header's `_` is written as `-`."""
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("GET", path, _bearer(token) | {"Accept": accept} | wanted)

    def post(self, path: str, token: str, body: object, **headers: str) -> Reply:
        """Return the answer to a POST of `body` as JSON."""
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", path, _bearer(token) | {"Accept": JSON} | wanted, body)

    def delete(self, path: str, token: str) -> Reply:
        """Return the answer to a DELETE."""
        return self.send("DELETE", path, _bearer(token) | {"Accept": JSON})

    def send(
        self, method: str, path: str, headers: Mapping[str, str], body: object = None
    ) -> Reply:
        """Send one request; `path` follows the API's address, or is a whole address.

        Raises NotApplicable past the allowed number of requests, which does not count for what
        removes something, and when no answer came.
        """
        if self.request_count >= self.settings.max_requests and method != "DELETE":
            raise NotApplicable(f"the run's {self.settings.max_requests} requests are used up")
        self.request_count += 1
        url = path if "://" in path else self.settings.api + path
        data = None if body is None else json.dumps(body).encode()
        try:
            got = self._session.request(
                method,
                url,
                headers={"User-Agent": USER_AGENT} | dict(headers),
                data=data,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise NotApplicable(f"no answer: {type(error).__name__}") from error
        reply = Reply(
            got.status_code,
            {name.lower(): value for name, value in got.headers.items()},
            got.content,
        )
        self.evidence.append(_evidence(method, url, reply))
        return reply

    def statuses_until(self, path: str, token: str, wanted: int) -> list[int]:
        """Return the statuses of the same request, until the wanted one or the last wait."""
        statuses = []
        for seconds in WAITS_SECONDS:
            self._sleep(seconds)
            statuses.append(self.get(path, token).status)
            if statuses[-1] == wanted:
                break
        return statuses

    # --- credentials ------------------------------------------------------------------------------

    def jwt(self, issuer: str | None = None) -> str:
        """Return a JWT signed with the App's key, as syncd makes it."""
        issuer = issuer or self.settings.app_id
        made = app_jwt(issuer, self.settings.private_key, time.time())
        add_secret(Secret(made))
        return made

    def create_token(self, installation: str, body: object, stateless: bool | None = None) -> str:
        """Return a new installation token. Raises NotApplicable for a refusal."""
        wish = (
            {} if stateless is None else {STATELESS_HEADER: "enabled" if stateless else "disabled"}
        )
        path = f"/app/installations/{installation}/access_tokens"
        reply = self.post(path, self.jwt(), body, **wish)
        made = reply.json.get("token") if isinstance(reply.json, dict) else None
        if reply.status != 201 or not isinstance(made, str):
            raise NotApplicable(f"no installation token was created: status {reply.status}")
        add_secret(Secret(made))
        return made


def basic(token: str) -> dict[str, str]:
    """Return the header with which git's own endpoints take a token."""
    letters = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {"Authorization": f"Basic {letters}"}


def is_stateless(token: str) -> bool:
    """Return whether the token has the form of 2026, with a JWT in it."""
    return token.count(".") == 2


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _evidence(method: str, url: str, reply: Reply) -> Evidence:
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    said = reply.json if reply.status >= 400 else None
    message = said.get("message") if isinstance(said, dict) else None
    return Evidence(
        redact(f"{method} {parts.path}{query}"),
        reply.status,
        {
            name: redact(value)
            for name, value in sorted(reply.headers.items())
            if name in KEPT_HEADERS
        },
        redact(message)[:200] if isinstance(message, str) else None,
    )
