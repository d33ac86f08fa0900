"""Every way in which GitHub says "not now" or "not you", over real sockets and through the whole
command: what it is called, what is waited, and how many requests it costs.

Time is the run's own: a wait is over at once, counted as passed on both sides.

Source of the rows: REST docs, "Rate limits for the REST API" and "Troubleshooting the REST API";
texts as clients have recorded them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.simulator.faults import Answer, FaultEffect
from tests.support.sync_env import SyncEnv, sync_env

PRIMARY = "API rate limit exceeded for installation ID 42."
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)
ABUSE = "You have triggered an abuse detection mechanism. Please retry your request again later."
ALLOW_LIST = (
    "Although you appear to have the correct authorization credentials, the `acme` organization "
    "has an IP allow list enabled, and your IP address is not permitted to access this resource."
)
LIFETIME = (
    "The 'NixOS' organization forbids access via a fine-grained personal access tokens if the "
    "token's lifetime is greater than 90 days. Please adjust your token's lifetime at the "
    "following URL: https://github.com/settings/personal-access-tokens/12885303"
)
CLASSIC = (
    "`ORGANIZATION` forbids access via a personal access token (classic). "
    "Please use a GitHub App, OAuth App, or a personal access token with fine-grained permissions."
)
IAT = (
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was "
    "issued"
)
EXP = (
    "'Expiration time' claim ('exp') must be a numeric value representing the future time at "
    "which the assertion expires"
)
FAR = "'Expiration time' claim ('exp') is too far in the future"
NO_REPOSITORY = (
    "There is at least one repository that does not exist or is not accessible to the parent "
    "installation."
)
REST_DOCS = "https://docs.github.com/rest"
FRESH = [1.0, 2.0, 3.0, 3.0]  # what a token just issued is given to become known everywhere


class PassingClock:
    """Stands still unless somebody waits; a wait is over at once.

    Whoever asks for the time sees it passed.
    """

    def __init__(self) -> None:
        self.began, self.seconds, self.waits = (
            datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
            0.0,
            list[float](),
        )
        self._guard = threading.Lock()

    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        with self._guard:
            self.waits.append(round(seconds, 3))
            self.seconds += seconds
        return stop.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@dataclass(frozen=True)
class Row:
    """`waits` are what a run waits when GitHub goes on saying so, `requests` how often it then
    asks; `once` the waits when it says so once (None: it gives up at once, too).

    Each wait may have up to a second of jitter on top.
    """

    route: str
    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    documentation: str = REST_DOCS
    kind: str = "auth"
    waits: list[float] = field(default_factory=list)
    requests: int = 1
    once: list[float] | None = None
    hint: str = ""
    mints: int = 1


def limited(
    status: int,
    message: str = "",
    headers: dict[str, str] | None = None,
    documentation: str = REST_DOCS,
    wait: float = 60,
    doubling: bool = False,
) -> Row:
    """Waited out twice, then told."""
    return Row(
        "head",
        status,
        message,
        headers or {},
        documentation,
        "rate_limited",
        [wait, wait * (2 if doubling else 1)],
        3,
        [wait],
        "syncd waits by itself",
    )


def used_up(seconds: int) -> dict[str, str]:
    """The headers of an hourly limit that ends so many seconds after each answer."""
    return {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{seconds:+d}"}


LEFT = {"x-ratelimit-remaining": "4990"}
NO_LIMITS = {
    f"x-ratelimit-{name}": "" for name in ("limit", "remaining", "used", "reset", "resource")
}
NEEDS = {**LEFT, "x-accepted-github-permissions": "contents=read"}
LIMITS: dict[str, Row] = {
    **{
        f"{status}, nothing remaining": limited(status, PRIMARY, used_up(100), wait=101)
        for status in (403, 429)
    },
    "nothing remaining, and a longer Retry-After": limited(
        403, PRIMARY, {**used_up(100), "retry-after": "150"}, wait=150
    ),
    "nothing remaining, a reset that is past": limited(403, PRIMARY, used_up(-30), wait=1),
    "nothing remaining, no reset": limited(
        403, PRIMARY, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": ""}, wait=60
    ),
    **{
        f"{status}, Retry-After": limited(
            status, SECONDARY, {**LEFT, "retry-after": "7"}, wait=7, doubling=True
        )
        for status in (403, 429)
    },
    "Retry-After and no text": limited(
        403, "", {**LEFT, "retry-after": "7"}, wait=7, doubling=True
    ),
    "Retry-After, nothing remaining, a secondary text": limited(
        403, SECONDARY, {**used_up(3000), "retry-after": "7"}, wait=7, doubling=True
    ),
    **{
        f"{status}, secondary, no header": limited(status, SECONDARY, LEFT, doubling=True)
        for status in (403, 429)
    },
    "403, abuse, no header": limited(403, ABUSE, LEFT, doubling=True),
    "429 and nothing else": limited(429, "", LEFT, doubling=True),
    **{
        f"{status}, primary, no header at all": limited(status, PRIMARY, NO_LIMITS)
        for status in (403, 429)
    },
    "403, the documentation's address": limited(
        403, "", LEFT, "https://docs.github.com/rest/overview/secondary-rate-limits", doubling=True
    ),
    "403, the old documentation's address": limited(
        403, "", LEFT, "https://developer.github.com/v3/#abuse-rate-limits", doubling=True
    ),
}
PERMISSIONS: dict[str, Row] = {
    "403, something remaining": Row(
        "head", 403, "Forbidden", LEFT, hint="check what the token or App may read"
    ),
    "403, not accessible": Row(
        "head", 403, "Resource not accessible by personal access token", NEEDS, hint="contents=read"
    ),
    "403, allow list": Row("head", 403, ALLOW_LIST, LEFT, hint="IP allow list"),
    "403, single sign-on": Row(
        "head",
        403,
        "Resource protected by organization SAML enforcement.",
        {**LEFT, "x-github-sso": "required; url=https://github.com/orgs/acme/sso?a=1"},
        hint="https://github.com/orgs/acme/sso",
    ),
    "403 after several 401": Row(
        "head",
        403,
        "",
        LEFT,
        hint="after many wrong tokens GitHub refuses right ones for a while too",
    ),
    "401": Row("head", 401, "Bad credentials", LEFT, hint="wrong, expired or revoked"),
    "404": Row("head", 404, "Not Found", LEFT, hint="has access to it"),
    "403, blocked": Row(
        "head", 403, "Repository access blocked", LEFT, hint="GitHub blocked this repository"
    ),
    "403, lifetime": Row("head", 403, LIFETIME, LEFT, hint="expires sooner"),
    "403, classic": Row(
        "head", 403, CLASSIC, LEFT, hint="a fine-grained token instead of the classic one"
    ),
    "403, suspended user": Row(
        "head", 403, "Sorry. Your account was suspended.", LEFT, hint="GitHub suspended the user"
    ),
    "451": Row("head", 451, "Repository access blocked", LEFT, hint="legal"),
    "409, an empty repository": Row(
        "head", 409, "Git Repository is empty.", LEFT, kind="not_found", hint="push a first commit"
    ),
}
APP: dict[str, Row] = {
    "401, iat": Row("token", 401, IAT, requests=2, once=[], hint="NTP", mints=2),
    "401, exp": Row("token", 401, EXP, requests=2, once=[], hint="NTP", mints=2),
    "401, exp too far": Row("token", 401, FAR, requests=2, once=[], hint="NTP", mints=2),
    "401, not decoded": Row(
        "token", 401, "A JSON web token could not be decoded", hint="does not belong to this App"
    ),
    "401, no public key": Row(
        "token", 401, "Integration must generate a public key", hint="app_id"
    ),
    "401, issuer": Row(
        "token", 401, "'Issuer' claim ('iss') must be an Integer", hint="stray characters"
    ),
    "401, no issuer": Row(
        "token", 401, "Missing 'issuer' claim ('iss') in assertion", hint="app_id or client_id"
    ),
    "403, suspended": Row("token", 403, "This installation has been suspended", hint="unsuspend"),
    "404, no such App": Row(
        "token", 404, "Integration not found", hint="this host knows no such App"
    ),
    "404, on a mint": Row("token", 404, "Not Found", hint="installation_id"),
    "422, permissions": Row(
        "token",
        422,
        "The permissions requested are not granted to this installation.",
        hint="contents: read",
    ),
    "422, repository": Row("token", 422, NO_REPOSITORY, hint="not in the installation"),
    "403, a limit on a mint": Row(
        "token",
        403,
        SECONDARY,
        {"retry-after": "9"},
        kind="rate_limited",
        waits=[9, 18],
        requests=3,
        once=[9],
        hint="waits by itself",
        mints=3,
    ),
    # a token just issued may be unknown to some server yet: tried again for ten seconds, then
    # replaced once
    "401, bad credentials": Row(
        "head",
        401,
        "Bad credentials",
        LEFT,
        waits=FRESH * 2,
        requests=10,
        once=FRESH[:1],
        hint="wrong, expired or revoked",
        mints=2,
    ),
    "401, the anonymous limit beside it": Row(
        "head",
        401,
        "Bad credentials",
        {"x-ratelimit-limit": "60"},
        waits=FRESH * 2,
        requests=10,
        once=FRESH[:1],
        hint="wrong",
        mints=2,
    ),
    "403, not accessible": Row(
        "head",
        403,
        "Resource not accessible by integration",
        NEEDS,
        waits=FRESH,
        requests=5,
        once=FRESH[:1],
        hint="contents=read",
    ),
    "403, suspended meanwhile": Row(
        "head", 403, "This installation has been suspended", LEFT, hint="unsuspend"
    ),
    "403, allow list": Row("head", 403, ALLOW_LIST, LEFT, hint="IP allow list"),
    "404, hidden": Row(
        "head",
        404,
        "Not Found",
        LEFT,
        waits=FRESH,
        requests=5,
        once=FRESH[:1],
        hint="has access to it",
    ),
    "404, no such ref": Row(
        "head", 404, "No commit found for the ref main", LEFT, kind="not_found", hint=""
    ),
    "403, blocked": Row(
        "head", 403, "Repository access blocked", LEFT, hint="GitHub blocked this repository"
    ),
}
EXITS = {"auth": 4, "rate_limited": 5, "not_found": 1}
ROWS = [("token", name, row) for name, row in {**LIMITS, **PERMISSIONS}.items()] + [
    ("app", name, row) for name, row in APP.items()
]


def saying(row: Row, clock: PassingClock) -> FaultEffect:
    body = json.dumps(
        {"message": row.message, "documentation_url": row.documentation, "status": str(row.status)}
    ).encode()

    def act(answer: Answer) -> Answer:
        headers = (
            dict(answer.headers) | {"content-type": "application/json; charset=utf-8"} | row.headers
        )
        reset = headers.get("x-ratelimit-reset", "")
        if reset[:1] in ("+", "-"):
            headers["x-ratelimit-reset"] = str(int(clock.now().timestamp()) + int(reset))
        return replace(
            answer,
            status=row.status,
            headers={name: value for name, value in headers.items() if value},
            body=body,
        )

    return act


@pytest.fixture
def stood(tmp_path: Path, clock: PassingClock) -> Iterator[Callable[[str], SyncEnv]]:
    with (
        sync_env(tmp_path / "token", as_app=False) as by_token,
        sync_env(tmp_path / "app") as by_app,
    ):
        for hub in (by_token, by_app):
            hub.github._real_now = lambda: clock.now().timestamp()
            hub.write_config(
                ref="refs/heads/main"
            )  # which is asked for in one request; a short name would have a check of its own
        yield lambda identity: by_token if identity == "token" else by_app


def close_to(waits: list[float], expected: list[float]) -> bool:
    return len(waits) == len(expected) and all(
        want <= wait <= want + 1.001 for wait, want in zip(waits, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("identity", "name", "row"), ROWS, ids=[f"{identity}: {name}" for identity, name, _ in ROWS]
)
def test_what_lasts_is_called_by_its_name_and_costs_no_more_than_it_must(
    stood: Callable[[str], SyncEnv], clock: PassingClock, identity: str, name: str, row: Row
) -> None:
    hub = stood(identity)
    hub.github.add_fault(row.route, saying(row, clock), times=10_000)
    done = hub.sync()
    error = done.job["error"]
    assert (done.code, error["kind"]) == (EXITS[row.kind], row.kind), error
    assert row.hint in (error["hint"] or ""), error["hint"]
    assert close_to(clock.waits, row.waits), clock.waits
    assert hub.github.count(row.route) == row.requests, hub.github.routes()
    assert identity == "token" or hub.github.count("token") == row.mints
    assert hub.tree() == {}


@pytest.mark.parametrize(
    ("identity", "name", "row"),
    [one for one in ROWS if one[2].once is not None],
    ids=[f"{one[0]}: {one[1]}" for one in ROWS if one[2].once is not None],
)
def test_what_passes_is_gone_through_with_one_more_request(
    stood: Callable[[str], SyncEnv], clock: PassingClock, identity: str, name: str, row: Row
) -> None:
    hub = stood(identity)
    hub.github.add_fault(row.route, saying(row, clock), times=1)
    done = hub.sync()
    assert done.code == 0 and len(hub.tree()) == 2
    assert row.once is not None and close_to(clock.waits, row.once), clock.waits
    assert hub.github.count(row.route) == 2 and hub.github.count("token") <= 2


@pytest.mark.parametrize("name", LIMITS)
def test_what_would_outlast_the_run_ends_it_at_once_and_says_until_when(
    stood: Callable[[str], SyncEnv], clock: PassingClock, name: str
) -> None:
    hub, row = stood("token"), LIMITS[name]
    hub.write_config(timeout="1s")
    hub.github.add_fault("head", saying(row, clock), times=10_000)
    done = hub.sync()
    until = (clock.began + timedelta(seconds=row.waits[0])).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (done.code, done.job["error"]["kind"]) == (
        5,
        "rate_limited",
    ) and f"try again at {until}" in done.job["error"]["message"], done.job["error"]
    assert hub.github.count("head") == 1 and clock.waits == []


def test_many_jobs_under_one_limit_run_into_it_once(
    stood: Callable[[str], SyncEnv], clock: PassingClock
) -> None:
    hub, row = stood("token"), LIMITS["403, Retry-After"]
    for number in range(20):
        hub.repo.refs[f"refs/heads/b{number}"] = hub.repo.head()
        hub.jobs[f"job{number}"] = {
            **hub.jobs["nginx"],
            "ref": f"b{number}",
            "paths": [{"from": "nginx/", "to": f"{hub.folder}/d{number}/"}],
            "timeout": "5s",
        }
    hub.extra["requests_at_once"] = hub.extra["workers"] = "1"
    hub.write_config(timeout="5s")
    hub.github.add_fault("head", saying(row, clock), times=10_000)
    done = hub.sync()
    assert (done.code, hub.github.count()) == (5, 1)
    assert {job["error"]["kind"] for job in done.json["jobs"]} == {"rate_limited"}
