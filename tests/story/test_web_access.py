"""Every route of the listener with its guard: who gets what, over TCP and a unix socket."""

from __future__ import annotations

import base64
import http.client
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.security import check_password_hash, generate_password_hash

from syncd import __version__
from syncd.config.model import Web as WebConfig
from syncd.config.model import Webhook
from syncd.errors import ConfigError
from syncd.identities import SecretRef
from syncd.web import passwords, sessions
from syncd.web.server import Web
from tests.story.test_web import Answer, UnixConnection
from tests.support.fleet_looks import fleet
from tests.support.status_board import FixedBoard

PASSWORD, TOKEN, OWN = "correct horse battery", "t0ken" * 8, "octocat has a password"
ENVIRON = {
    "WEB": PASSWORD,
    "TOKEN": TOKEN,
    "HOOK": "hook" * 8,
    "HASH": generate_password_hash(OWN, "scrypt"),
}
HOOK = Webhook("/github", SecretRef("env", "HOOK"))
FORM = "application/x-www-form-urlencoded"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(autouse=True, scope="module")
def _each_hash_is_computed_once() -> Iterator[None]:
    """Scrypt takes a tenth of a second by intent, and the tables ask the same questions often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syncd.web.passwords.check_password_hash", cache(check_password_hash))
        yield


def basic(password: str, name: str = "anybody") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def listening(
    listen: str = "127.0.0.1:0",
    environ: Mapping[str, str] = ENVIRON,
    board: Any = None,
    **more: Any,
) -> Iterator[Web]:
    board = board or FixedBoard(fleet_watch=fleet())
    web = Web(WebConfig(listen, webhook=HOOK, **more), board, dict(environ))
    try:
        yield web
    finally:
        web.close()


def guarded(**more: Any) -> dict[str, Any]:
    return {
        "password": SecretRef("env", "WEB"),
        "users": {"octocat": SecretRef("env", "HASH")},
        "token": SecretRef("env", "TOKEN"),
        **more,
    }


def ask(
    web: Web,
    path: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    form: Mapping[str, str] | None = None,
) -> Answer:
    name = web.names[0]
    connection = (
        UnixConnection(name.removeprefix("unix:"))
        if name.startswith("unix:")
        else http.client.HTTPConnection(name.removeprefix("http://").rstrip("/"), timeout=60)
    )
    body = None if form is None else urlencode(form).encode()
    kind = {} if form is None else {"Content-Type": FORM}
    return Answer(connection, method, path, {**kind, **(headers or {})}, body)


def log_in(web: Web, user: str, password: str, **headers: str) -> Answer:
    form = {"user": user, "password": password, "next": "/metrics"}
    return ask(web, "/login", {**HTML, **headers}, "POST", form)


def cookie_of(answer: Answer) -> dict[str, str]:
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


# --- the table ------------------------------------------------------------------------------------

CASES: dict[str, dict[str, str]] = {
    "stranger": {},
    "wrong password": basic("wrong"),
    "password": basic(PASSWORD),
    "user": basic(OWN, "octocat"),
    "another's": basic(OWN, "anybody"),
    "token": bearer(TOKEN),
    "wrong token": bearer(PASSWORD),
    "foreign origin": {**basic(PASSWORD), "Origin": "https://evil.example"},
    "foreign host": {**basic(PASSWORD), "Host": "evil.example"},
}
PAGE = (401, 401, 200, 200, 401, 401, 401, 403, 200)
MACHINE = (401, 401, 200, 200, 401, 200, 401, 403, 200)
# with a password, of users too, and a token: the status for each of CASES
GUARDS = {
    "GET /": PAGE,
    "GET /jobs/nginx": PAGE,
    "GET /runs/1": (401, 401, 404, 404, 401, 401, 401, 403, 404),
    "GET /static/syncd.css": PAGE,
    "GET /healthz": MACHINE,
    "GET /readyz": MACHINE,
    "GET /metrics": MACHINE,
    "GET /api/v1/status": MACHINE,
    "GET /fleet": PAGE,
    "GET /api/v1/fleet": MACHINE,
    "GET /api/v1/fleet/agents": MACHINE,
    "GET /nothing": (401, 401, 404, 404, 401, 401, 401, 403, 404),
    "GET /api/nothing": (401, 401, 404, 404, 401, 404, 401, 403, 404),
    "POST /": (401, 401, 405, 405, 401, 401, 401, 403, 405),
    "GET /login": (401, 401, 401, 401, 401, 401, 401, 403, 401),
    "POST /login": (401, 401, 401, 401, 401, 401, 401, 403, 401),
    "POST /logout": (401, 401, 303, 303, 401, 401, 401, 403, 303),
    # tests/story/test_web_actions.py has the sessions
    "POST /jobs/nginx/sync": (401, 401, 403, 403, 401, 401, 401, 403, 403),
    "POST /jobs/nginx/pause": (401, 401, 403, 403, 401, 401, 401, 403, 403),
    "POST /jobs/nginx/resume": (401, 401, 403, 403, 401, 401, 401, 403, 403),
    "GET /jobs/nginx/sync": (401, 401, 405, 405, 401, 401, 401, 403, 405),
    "POST /github": (401, 401, 401, 401, 401, 401, 401, 401, 401),
}
# without a password: a stranger, a foreign origin, a foreign host; the last over a unix socket
OPEN = {
    "GET /": (200, 403, 421, 200),
    "GET /jobs/nginx": (200, 403, 421, 200),
    "GET /runs/1": (404, 403, 421, 404),
    "GET /static/syncd.css": (200, 403, 421, 200),
    "GET /healthz": (200, 403, 421, 200),
    "GET /readyz": (200, 403, 421, 200),
    "GET /metrics": (200, 403, 421, 200),
    "GET /api/v1/status": (200, 403, 421, 200),
    "GET /fleet": (200, 403, 421, 200),
    "GET /api/v1/fleet": (200, 403, 421, 200),
    "GET /api/v1/fleet/agents": (200, 403, 421, 200),
    "GET /nothing": (404, 403, 421, 404),
    "GET /api/nothing": (404, 403, 421, 404),
    "POST /": (405, 403, 421, 405),
    "GET /login": (404, 403, 421, 404),
    "POST /login": (404, 403, 421, 404),
    "POST /logout": (404, 403, 421, 404),
    "POST /jobs/nginx/sync": (404, 403, 421, 404),
    "POST /jobs/nginx/pause": (404, 403, 421, 404),
    "POST /jobs/nginx/resume": (404, 403, 421, 404),
    "GET /jobs/nginx/sync": (404, 403, 421, 404),
    "POST /github": (401, 401, 401, 401),
}


@pytest.fixture(params=["127.0.0.1:0", "unix:"])
def listen(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind: str = request.param
    return kind if kind != "unix:" else f"unix:{tmp_path}/web.sock"


def assert_says_nothing(answer: Answer) -> None:
    said = answer.text + repr(answer.headers)
    for fact in ("nginx", "acme", "aaaaaaa", __version__, os.uname().nodename, *ENVIRON.values()):
        assert fact not in said, fact


@pytest.mark.parametrize("route", GUARDS)
def test_every_route_with_its_guard(route: str, listen: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("syncd.web.failed_attempts.CLIENT_BURST", 100)
    method, _, path = route.partition(" ")
    with listening(listen, **guarded(actions=True)) as web:
        answers = [ask(web, path, headers, method) for headers in CASES.values()]
    assert tuple(answer.status for answer in answers) == GUARDS[route]
    for answer in answers:
        if answer.status != 200:
            assert_says_nothing(answer)
        if answer.status == 401 and route != "POST /github":
            offered = answer.headers.get("www-authenticate", "")
            assert offered.startswith("Basic ") or route == "GET /login"


@pytest.mark.parametrize("route", OPEN)
def test_every_route_without_a_password(route: str, listen: str) -> None:
    method, _, path = route.partition(" ")
    known, origin, host, unix_host = OPEN[route]
    with listening(listen, actions=True) as web:
        assert ask(web, path, {}, method).status == known
        foreign = ask(web, path, {"Origin": "https://evil.example"}, method)
        assert foreign.status == origin
        assert_says_nothing(foreign)
        other = ask(web, path, {"Host": "evil.example"}, method)
        assert other.status == (unix_host if listen.startswith("unix:") else host)


def of_parameters(rule: str) -> str:
    """The rule with a value in the place of each parameter."""
    values = {"<path:filename>": "syncd.css", "<job>": "nginx", "<name>": "nginx"}
    values["<int:number>"] = "1"
    for parameter, value in values.items():
        rule = rule.replace(parameter, value)
    return rule


def test_no_route_is_missing_in_the_table() -> None:
    with listening(**guarded(actions=True)) as web:
        rules = {
            f"{method} {of_parameters(rule.rule)}"
            for rule in web.app.url_map.iter_rules()
            for method in rule.methods or ()
            if method not in ("HEAD", "OPTIONS")
        }
    assert rules <= set(GUARDS) and set(GUARDS) == set(OPEN)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost:8480", "localhost:8480", 200),
        ("http://127.0.0.1:8480", "127.0.0.1:8480", 200),
        ("http://[::1]:8480", "[::1]:8480", 200),
        ("http://localhost", "127.0.0.1:8480", 200),
        ("http://localhost.evil.example", "127.0.0.1", 403),
        ("null", "127.0.0.1", 403),
        ("file://", "127.0.0.1", 403),
        ("http://127.0.0.1@evil.example", "127.0.0.1", 403),
        ("chrome-extension://localhost", "127.0.0.1", 403),
    ],
)
def test_pages_of_this_machine_may_ask_without_a_password(
    origin: str, host: str, status: int
) -> None:
    with listening() as web:
        assert ask(web, "/", {"Origin": origin, "Host": host}).status == status


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://status.example.com", "status.example.com", 200),
        ("https://status.example.com:8443", "status.example.com:8443", 200),
        ("https://STATUS.example.com:443", "status.example.com", 200),
        ("http://status.example.com", "status.example.com:80", 200),
        ("https://status.example.com:8443", "status.example.com", 403),
        ("http://localhost:3000", "localhost:8480", 403),
        ("https://example.com", "status.example.com", 403),
        ("null", "status.example.com", 403),
    ],
)
def test_with_a_password_only_the_same_origin_may_ask(origin: str, host: str, status: int) -> None:
    with listening(**guarded()) as web:
        headers = {**basic(PASSWORD), "Origin": origin, "Host": host}
        assert ask(web, "/", headers).status == status


def test_a_token_alone_guards_everything_and_opens_what_machines_ask() -> None:
    with listening(token=SecretRef("env", "TOKEN")) as web:
        assert ask(web, "/metrics", bearer(TOKEN)).status == 200
        for path in ("/", "/metrics", "/login"):
            refused = ask(web, path, HTML)
            assert (refused.status, refused.text) == (401, "a token is needed\n")
            assert refused.headers["www-authenticate"] == 'Bearer realm="syncd"'
        assert ask(web, "/", bearer(TOKEN)).status == 401


def test_wrong_tokens_count_like_wrong_passwords() -> None:
    with listening(**guarded()) as web:
        found = [ask(web, "/metrics", bearer(f"guess {number}")).status for number in range(20)]
        assert set(found) == {401, 429} and found.count(401) <= 12
        assert ask(web, "/metrics", bearer(TOKEN)).status == 429


# --- the form -------------------------------------------------------------------------------------


def test_a_browser_gets_a_form_with_status_401_and_others_get_basic() -> None:
    with listening(**guarded()) as web:
        page = ask(web, "/?all=1", HTML)
        assert page.status == 401 and "www-authenticate" not in page.headers
        assert '<form method="post" action="/login">' in page.text
        assert 'name="next" value="/?all=1"' in page.text and 'name="user"' in page.text
        assert_says_nothing(page)
        for accept in ("*/*", "application/json", "text/html;q=0"):
            plain = ask(web, "/", {"Accept": accept})
            assert (plain.status, plain.text) == (401, "a password is needed\n")
            assert plain.headers["www-authenticate"].startswith("Basic ")
    with listening(password=SecretRef("env", "WEB")) as web:
        assert 'name="user"' not in ask(web, "/", HTML).text


@pytest.mark.parametrize(("user", "password"), [("octocat", OWN), ("", PASSWORD)])
def test_the_form_begins_a_session_that_opens_every_path_until_the_logout(
    user: str, password: str
) -> None:
    with listening(**guarded()) as web:
        done = log_in(web, user, password)
        assert (done.status, done.headers["location"]) == (303, "/metrics")
        attributes = done.headers["set-cookie"].split("; ")[1:]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
        assert "Secure" not in attributes and password not in done.headers["set-cookie"]
        cookie = cookie_of(done)
        for path in ("/", "/metrics", "/api/v1/status", "/static/syncd.css"):
            assert ask(web, path, cookie).status == 200
        assert ask(web, "/login", {**HTML, **cookie}).headers["location"] == "/"
        left = ask(web, "/logout", cookie, "POST")
        assert (left.status, left.headers["location"]) == (303, "/")
        assert ask(web, "/", cookie).status == 401, "also a copy of the cookie is worth nothing"


@pytest.mark.parametrize(
    ("user", "password"), [("octocat", "wrong"), ("nobody", OWN), ("octocat", ""), ("", OWN)]
)
def test_a_wrong_login_gets_the_form_again_and_no_session(user: str, password: str) -> None:
    with listening(**guarded()) as web:
        found = log_in(web, user, password)
        assert found.status == 401 and "set-cookie" not in found.headers
        assert "The user name or the password is wrong." in found.text
        assert 'name="next" value="/metrics"' in found.text


def test_wrong_logins_are_slowed_down() -> None:
    with listening(**guarded()) as web:
        found = [log_in(web, "octocat", f"guess {number}") for number in range(14)]
        assert {answer.status for answer in found} == {401, 429}
        assert log_in(web, "octocat", OWN).status == 429
        assert int(found[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("following", "location"),
    [
        ("/jobs/nginx?a=b", "/jobs/nginx?a=b"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/a\r\nX: y", "/"),
        ("", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_a_login_leads_to_this_listener_alone(following: str, location: str) -> None:
    with listening(**guarded()) as web:
        form = {"user": "octocat", "password": OWN, "next": following}
        done = ask(web, "/login", HTML, "POST", form)
    assert (done.status, done.headers["location"]) == (303, location)


def test_a_session_ends_with_its_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LIFETIME", sessions.LIFETIME * -1)
    with listening(**guarded()) as web:
        assert ask(web, "/", cookie_of(log_in(web, "octocat", OWN))).status == 401


def test_a_session_ends_when_the_password_changes(tmp_path: Path) -> None:
    file = tmp_path / "octocat.hash"
    file.write_text(ENVIRON["HASH"] + "\n")
    file.chmod(0o600)
    with listening(users={"octocat": SecretRef("file", str(file))}) as web:
        cookie = cookie_of(log_in(web, "octocat", OWN))
        assert ask(web, "/", cookie).status == 200
        file.write_text(generate_password_hash("another password", "scrypt"))
        assert ask(web, "/", cookie).status == 401
        assert ask(web, "/", basic(OWN, "octocat")).status == 401
        assert ask(web, "/", basic("another password", "octocat")).status == 200


def test_a_cookie_of_another_listener_or_a_changed_one_opens_nothing() -> None:
    with listening(**guarded()) as first, listening(**guarded()) as second:
        cookie = cookie_of(log_in(first, "octocat", OWN))["Cookie"]
        value = cookie.partition("=")[2]
        name = cookie_of(log_in(second, "octocat", OWN))["Cookie"].partition("=")[0]
        assert ask(second, "/", {"Cookie": f"{name}={value}"}).status == 401
        assert ask(first, "/", {"Cookie": cookie[:-1]}).status == 401


def test_a_password_that_was_right_costs_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def check(expected: str, given: str) -> bool:
        asked.append(given)
        return given == OWN

    monkeypatch.setattr(passwords, "check_password_hash", check)
    with listening(**guarded()) as web:
        for _ in range(5):
            assert ask(web, "/", basic(OWN, "octocat")).status == 200
        assert asked == [OWN]
        assert ask(web, "/", basic("wrong", "nobody")).status == 401
        assert asked == [OWN, "wrong"], "an unknown user costs as much as a known one"


# --- web servers in front -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "proto", "secure"),
    [
        ((), "https", False),
        (("10.0.0.0/8",), "https", False),
        (("127.0.0.1/32",), "https", True),
        (("127.0.0.1/32",), "http", False),
        (("127.0.0.1/32",), "https, http", False),
    ],
)
def test_a_cookie_is_secure_if_a_trusted_proxy_says_https(
    trusted: tuple[str, ...], proto: str, secure: bool
) -> None:
    with listening(**guarded(trusted_proxies=trusted)) as web:
        done = log_in(web, "octocat", OWN, **{"X-Forwarded-Proto": proto})
    assert done.status == 303 and ("; Secure" in done.headers["set-cookie"]) == secure


@pytest.mark.parametrize(
    ("trusted", "status"), [((), 403), (("192.0.2.0/24",), 403), (("127.0.0.0/8",), 200)]
)
def test_a_forwarded_host_is_believed_from_trusted_proxies_alone(
    trusted: tuple[str, ...], status: int
) -> None:
    said = {"X-Forwarded-Host": "status.example.com", "Origin": "https://status.example.com"}
    with listening(**guarded(trusted_proxies=trusted)) as web:
        assert ask(web, "/", {**basic(PASSWORD), **said}).status == status


def test_a_unix_socket_is_trusted_by_its_word(tmp_path: Path) -> None:
    with listening(f"unix:{tmp_path}/web.sock", **guarded(trusted_proxies=("unix",))) as web:
        done = log_in(web, "octocat", OWN, **{"X-Forwarded-Proto": "https"})
        assert "; Secure" in done.headers["set-cookie"]
        for _ in range(20):
            ask(web, "/", {**basic("wrong"), "X-Forwarded-For": "203.0.113.5"})
        assert ask(web, "/", {**basic(PASSWORD), "X-Forwarded-For": "203.0.113.5"}).status == 429
        assert ask(web, "/", {**basic(PASSWORD), "X-Forwarded-For": "203.0.113.6"}).status == 200


@pytest.mark.parametrize("arrives_with_it", [True, False])
def test_below_a_prefix_every_link_and_redirect_has_it(arrives_with_it: bool) -> None:
    at = "/ops/syncd" if arrives_with_it else ""
    with listening(**guarded(prefix="/ops/syncd")) as web:
        form = ask(web, at + "/?all=1", HTML)
        assert 'action="/ops/syncd/login"' in form.text and 'value="/?all=1"' in form.text
        data = {"user": "octocat", "password": OWN, "next": "/metrics"}
        done = ask(web, f"{at}/login", HTML, "POST", data)
        assert done.headers["location"] == "/ops/syncd/metrics"
        assert "; Path=/ops/syncd" in done.headers["set-cookie"]
        cookie = cookie_of(done)
        page = ask(web, f"{at}/", cookie)
        links = re.findall(r'(?:href|src|action)="([^"]*)"', page.text)
        inner = [link for link in links if not link.startswith(("data:", "https://", "#"))]
        assert len(inner) >= 4
        assert all(link.startswith("/ops/syncd/") for link in inner), inner
        for link in inner:
            if link == "/ops/syncd/logout":  # a form's
                continue
            asked = link if arrives_with_it else link.removeprefix("/ops/syncd")
            assert ask(web, asked, cookie).status == 200, link
        left = ask(web, f"{at}/logout", cookie, "POST")
        assert left.headers["location"] == "/ops/syncd/"
        assert ask(web, f"{at}/github", {}, "POST").status == 401


def test_a_hash_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"web\.users\.octocat\.hash: this is no hash"):
        Web(
            WebConfig("127.0.0.1:0", users={"octocat": SecretRef("env", "WEB")}),
            FixedBoard(),
            ENVIRON,
        )
