"""Where a credential may go: whatever the API's address is and whatever hosts an answer names, only
origins that the configuration names see one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.clock import SystemClock
from syncd.config.model import Config
from syncd.deadline import Deadline
from syncd.errors import BadResponseError, SyncdError
from syncd.github.auth.credentials import bearer
from syncd.github.auth.device_flow import OAuthClient, get_authenticated_user
from syncd.github.concurrency import ThreadPool
from syncd.github.lfs import LfsFetcher
from syncd.github.protocol import BufferedResponse, Request, Response, get, read_body
from syncd.github.scope import RepositoryScope
from syncd.github.transport import Network
from syncd.github.urls import may_send_credential, web_origin
from syncd.identities import SecretRef, TokenIdentity
from syncd.ports import Pointer
from syncd.redaction import Secret
from syncd.wiring import AppContext

TOKEN, REFRESH, JWT = "ghp_" + "t" * 36, "ghr_" + "r" * 36, "eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl"
SECRETS = (TOKEN, REFRESH, JWT, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode())
POINTER = Pointer("a" * 64, 3, "big.bin")


class StandIn:
    """Every server there is: it keeps what each origin was shown,
    and answers a request as `answer` says.
    """

    def __init__(self, answer: Callable[[Request], BufferedResponse]) -> None:
        self.answer, self.shown = answer, list[tuple[str, str]]()

    def exchange(
        self, _: Network, request: Request, credential: str | None, *__: object
    ) -> Response:
        parts = urlsplit(request.url)
        text = (
            f"{request.url}\n{dict(request.headers)}\n{credential}\n"
            f"{(request.body or b'').decode()}"
        )
        self.shown.append((f"{parts.scheme}://{parts.netloc.lower()}", text))
        return self.answer(request)

    def origins_with_a_secret(self) -> set[str]:
        return {origin for origin, text in self.shown if any(secret in text for secret in SECRETS)}


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`stand_in` is to be set; it takes the place of every connection."""
    place = SimpleNamespace(stand_in=None)
    monkeypatch.setattr(
        Network, "_exchange", lambda self, *arguments: place.stand_in.exchange(self, *arguments)
    )
    return place


def line_of(api: str, folder: Path) -> Any:
    identity = TokenIdentity("ops", api, None, SecretRef("env", "TOKEN"))
    config = Config(folder / "config.yaml", (), folder, {"ops": identity}, {})
    return AppContext(config, {"TOKEN": TOKEN}, SimpleNamespace(facts=None)).connection(identity)  # type: ignore[arg-type]


class NoBlobs:
    def partial_download(self, *_: object) -> Any:
        raise BadResponseError("nothing is kept here")


def questions(api: str, line: Any) -> Iterator[Callable[[], object]]:
    """Everything that goes with a credential: the API with a token and with a JWT, LFS,
    and a login's refresh token.
    """
    limit = Deadline(SystemClock(), 5)
    limit.may_retry = False
    head = get(api, "/repos/acme/infra/commits/HEAD", "head", "main", "acme/infra")
    yield lambda: read_body(line.transport.send(head, limit))
    yield lambda: LfsFetcher(
        RepositoryScope(line.transport, api, "acme/infra", limit, ThreadPool(1)),
        NoBlobs(),  # type: ignore[arg-type]
    ).fetch([POINTER])
    yield lambda: OAuthClient(line.plain, web_origin(api), "Iv1.abc", "me").refresh(
        Secret(REFRESH), limit
    )
    yield lambda: get_authenticated_user(line.plain, api, Secret(TOKEN), limit)
    yield lambda: line.plain.send(
        bearer(get(api, "/app", "app", "the App", None), Secret(JWT)), limit
    )


HOSTS = st.sampled_from(
    [
        "corp.test",
        "ghe.example",
        "github.com",
        "a.github.com",
        "ghe.com",
        "x.ghe.com",
        "codeload.github.com",
        "raw.githubusercontent.com",
        "uploads.github.com",
        "10.0.0.7",
    ]
)
PORTS = st.sampled_from(["", ":8443"])


@st.composite
def apis(draw: st.DrawFn) -> tuple[str, set[str]]:
    """An API's address, and the origins that may see its credentials,
    written down by hand for each shape.
    """
    host, port = draw(HOSTS), draw(PORTS)
    # GitHub documents other origins for api. and these hosts, which have rows of their own
    other = "corp.test" if host.endswith(("github.com", "ghe.com")) else host
    return draw(
        st.sampled_from(
            [
                ("https://api.github.com", {"https://api.github.com", "https://github.com"}),
                ("https://api.octo.ghe.com", {"https://api.octo.ghe.com", "https://octo.ghe.com"}),
                ("https://api.octo.ghe.com:8443", {"https://api.octo.ghe.com:8443"}),
                ("https://api.a.b.ghe.com", {"https://api.a.b.ghe.com"}),
                (f"https://{host}{port}/api/v3", {f"https://{host}{port}"}),
                (f"https://api.{other}{port}/api/v3", {f"https://api.{other}{port}"}),
                ("https://api.corp.test", {"https://api.corp.test"}),
                ("https://api.corp.test:8443", {"https://api.corp.test:8443"}),
                ("https://api.evilghe.com", {"https://api.evilghe.com"}),
                ("http://127.0.0.1:8480", {"http://127.0.0.1:8480"}),
            ]
        )
    )


@st.composite
def elsewhere(draw: st.DrawFn, api: str) -> str:
    """An address that an answer names: the API's own, near misses of it, and others."""
    parts = urlsplit(api)
    own = parts.netloc
    near = [
        own,
        own.removeprefix("api."),
        f"api.{own}",
        own.partition(".")[2] or own,
        f"{own}.evil.example",
        "evil.example",
        own.partition(":")[0],
        f"{own.partition(':')[0]}:444",
    ]
    scheme = draw(st.sampled_from(["https", "https", "http", parts.scheme]))
    return (
        f"{scheme}://{draw(st.sampled_from(near) | HOSTS)}/"
        f"{draw(st.sampled_from(['x', 'login/oauth/access_token', '', f'?t={own}']))}"
    )


def answering(
    draw: Callable[[st.SearchStrategy[Any]], Any], api: str
) -> Callable[[Request], BufferedResponse]:
    def answer(request: Request) -> BufferedResponse:
        if draw(st.booleans()):
            status = draw(st.sampled_from([301, 302, 303, 307, 308]))
            return BufferedResponse(status, {"location": draw(elsewhere(api))}, request.url, b"")
        action = {"href": draw(elsewhere(api)), "header": {"X-Storage": "key"}}
        body = {
            "objects": [{"oid": POINTER.oid, "size": 3, "actions": {"download": action}}],
            "access_token": "ghu_" + "n" * 36,
        }
        return BufferedResponse(
            draw(st.sampled_from([200, 200, 401])), {}, request.url, json.dumps(body).encode()
        )

    return answer


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_answer_brings_a_credential_to_an_origin_that_is_not_allowed(
    servers: SimpleNamespace, tmp_path: Path, data: st.DataObject
) -> None:
    api, allowed = data.draw(apis())
    servers.stand_in = StandIn(answering(data.draw, api))
    line = line_of(api, tmp_path)
    for question in questions(api, line):
        try:
            question()
        except SyncdError:
            continue
    seen = servers.stand_in.origins_with_a_secret()
    assert seen <= allowed, f"{api}: {seen - allowed} saw a credential"
    assert (
        f"{urlsplit(api).scheme}://{urlsplit(api).netloc}" in seen
    )  # else this test would show nothing


def test_lfs_asks_no_host_that_the_configuration_does_not_name(
    servers: SimpleNamespace, tmp_path: Path
) -> None:
    servers.stand_in = StandIn(lambda request: BufferedResponse(404, {}, request.url, b"{}"))
    api = "https://api.corp.test"
    with pytest.raises(SyncdError):
        scope = RepositoryScope(
            line_of(api, tmp_path).transport,
            api,
            "acme/infra",
            Deadline(SystemClock(), 5),
            ThreadPool(1),
        )
        LfsFetcher(scope, NoBlobs()).fetch([POINTER])  # type: ignore[arg-type]
    assert [origin for origin, _ in servers.stand_in.shown] == ["https://api.corp.test"]


def test_a_request_that_was_made_for_another_origin_is_not_sent_with_a_credential(
    servers: SimpleNamespace, tmp_path: Path
) -> None:
    servers.stand_in = StandIn(lambda request: BufferedResponse(200, {}, request.url, b""))
    line = line_of("https://api.github.com", tmp_path)
    made = get("https://api.github.com.evil.example", "/x", "head", "main", "acme/infra")
    for send in (
        line.transport.send,
        lambda request, limit: line.plain.send(bearer(request, Secret(JWT)), limit),
    ):
        with pytest.raises(
            BadResponseError,
            match=r"its credential may not go to https://api\.github\.com\.evil\.example",
        ):
            send(made, Deadline(SystemClock(), 5))
    assert servers.stand_in.shown == []


@pytest.mark.parametrize(
    ("api", "url", "allowed"),
    [
        ("https://api.github.com", "https://github.com/login/oauth/access_token", True),
        ("https://api.github.com", "https://API.github.com:443/x", True),
        ("https://api.github.com", "https://codeload.github.com/x", False),
        ("https://api.github.com", "https://raw.githubusercontent.com/x", False),
        ("https://api.github.com", "https://uploads.github.com/x", False),
        ("https://api.github.com", "https://api.github.com@evil.example/x", False),
        ("https://api.github.com", "https://api.github.com:bad/x", False),
        ("https://api.octo.ghe.com", "https://octo.ghe.com/acme/infra.git/info/lfs", True),
        ("https://api.octo.ghe.com", "https://ghe.com/x", False),
        ("https://ghe.example/api/v3", "https://ghe.example/acme/infra.git/info/lfs", True),
        ("https://ghe.example/api/v3", "http://ghe.example/x", False),
        ("https://api.corp.test", "https://corp.test/acme/infra.git/info/lfs", False),
    ],
)
def test_origins_that_may_have_a_credential(api: str, url: str, allowed: bool) -> None:
    assert may_send_credential(api, url) is allowed
