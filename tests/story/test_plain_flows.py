"""The plain Python of docs/apps-and-oauth.md: it is the page's text, and it works as it says.

The mistakes that the page names are made here too, and refused in the words that it quotes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jwt
import pytest
import requests

from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.sync_env import SyncEnv, sync_env

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/examples/python"
PAGE = ROOT / "docs/apps-and-oauth.md"
CLIENT = "Iv23liAcmeOps"
REPO, FILE = "acme/infra", "nginx/nginx.conf"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        yield made


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def app_reader(hub: SyncEnv) -> Any:
    key = (hub.folder / "app.pem").read_text()
    return imported("app_flow").AppReader(hub.served.url, "12345", key, REPO)


def refusal(call: Any) -> str:
    with pytest.raises(SystemExit) as stopped:
        call()
    return str(stopped.value)


@pytest.mark.docs
@pytest.mark.parametrize("name", ["app_flow", "device_flow"])
def test_the_page_shows_the_file_as_it_is(name: str) -> None:
    shown = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert (FOLDER / f"{name}.py").read_text() in shown


# --- the App --------------------------------------------------------------------------------------


def test_the_app_flow_prints_a_file_of_a_private_repository(hub: SyncEnv) -> None:
    key = str(hub.folder / "app.pem")
    done = run("app_flow", hub.served.url, "12345", key, REPO, FILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")
    assert [(one.method, one.route, one.status) for one in hub.github.requests] == [
        ("GET", "installation", 200),
        ("POST", "token", 201),
        ("GET", "head", 200),
        ("GET", "contents", 200),
    ]


def test_the_app_flow_reads_from_the_stand_in_of_the_demo(tmp_path: Path) -> None:
    """The page shows this call, with the address and the key of another run."""
    call = r"^\$ python3 (app_flow)\.py (http://127\S+) (\d+) (/tmp/\S+) (\S+) (\S+)\n(.*?)^```$"
    [shown] = re.findall(call, PAGE.read_text(), re.MULTILINE | re.DOTALL)
    name, _, app_id, _, repo, path, output = shown
    command = [*MODULE, "demo", "--serve"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with ForkedSyncd(command, stdout=subprocess.PIPE, text=True, env=env) as stand_in:
        try:
            assert stand_in.stdout is not None
            identity = next(line for line in stand_in.stdout if "api:" in line)
            [key] = re.findall(r"private_key: ([^,]+)", identity)
            [api] = re.findall(r'api: "([^"]+)"', identity)
            done = run(name, api, app_id, key, repo, path)
        finally:
            stand_in.terminate()
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


def test_the_app_flow_asks_for_one_token_an_hour_and_learns_by_304_that_nothing_changed(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = app_reader(hub)
    commit = reader.head("main")
    assert reader.head("main", commit) == commit == hub.repo.head()
    assert hub.github.count("token") == 1 and hub.github.count(status=304) == 1
    late = time.monotonic() + 3600 - 299
    monkeypatch.setattr(time, "monotonic", lambda: late)
    assert reader.head("main", commit) == commit and hub.github.count("token") == 2


@pytest.mark.parametrize("offset", [-59, 0, 59])
def test_the_app_flow_bears_a_clock_that_is_a_minute_off(hub: SyncEnv, offset: int) -> None:
    hub.github.clock_offset = offset
    assert app_reader(hub).head("main") == hub.repo.head()


def test_a_repository_that_the_app_may_not_read_is_reported_as_absent(hub: SyncEnv) -> None:
    hub.github.accounts.installations[42].repositories = ["other"]
    assert "/installation: 404" in refusal(lambda: app_reader(hub).head("main"))


# offset of GitHub's clock, seconds from now to iat and exp -> what GitHub says
NAIVE_CLAIMS: list[tuple[float, float, float, str]] = [
    (-10, 0, 600, "'Expiration time' claim ('exp') is too far in the future"),
    (-10, 0, 540, "'Issued at' claim ('iat') must be an Integer representing the time"),
    (0, -60, 660, "'Expiration time' claim ('exp') is too far in the future"),
    (0, -60, -1, "'Expiration time' claim ('exp') must be a numeric value"),
    (0, -60.5, 540, "'Issued at' claim ('iat') must be an Integer representing the time"),
]


@pytest.mark.parametrize(("offset", "issued", "expires", "text"), NAIVE_CLAIMS)
def test_a_naive_jwt_is_refused_in_the_words_of_the_page(
    hub: SyncEnv,
    monkeypatch: pytest.MonkeyPatch,
    offset: float,
    issued: float,
    expires: float,
    text: str,
) -> None:
    hub.github.clock_offset = offset
    reader = app_reader(hub)

    def naive() -> str:
        now = int(time.time())
        claims = {"iat": now + issued, "exp": now + expires, "iss": "12345"}
        return jwt.encode(claims, reader.key, algorithm="RS256")

    monkeypatch.setattr(reader, "sign_jwt", naive)
    said = refusal(lambda: reader.head("main"))
    assert ": 401 " in said and text in said
    assert text in " ".join(PAGE.read_text().split())


def test_get_user_refuses_an_installation_token_and_the_page_names_what_to_ask_instead(
    hub: SyncEnv,
) -> None:
    reader = app_reader(hub)
    said = refusal(lambda: reader.call("GET", "/user", reader.installation_token()))
    assert "/user: 403 " in said and "Resource not accessible by integration" in said
    listed = reader.call("GET", "/installation/repositories", reader.token).json()
    assert [one["full_name"] for one in listed["repositories"]] == [REPO]
    assert "GET /installation/repositories" in PAGE.read_text()


def test_a_token_that_is_kept_past_its_hour_is_refused(hub: SyncEnv) -> None:
    reader = app_reader(hub)
    reader.installation_token()
    hub.github.clock_offset = 3601
    assert "Bad credentials" in refusal(lambda: reader.head("main"))


def test_an_archive_is_fetched_from_another_host_without_the_token(hub: SyncEnv) -> None:
    reader = app_reader(hub)
    reader.call("GET", f"/repos/{REPO}/tarball/main", reader.installation_token())
    asked = {one.route: one.headers.get("authorization") for one in hub.github.requests}
    assert asked["codeload"] is None and asked["tarball"] == f"Bearer {reader.token}"


def test_urllib_sends_the_token_along_to_the_other_host(hub: SyncEnv) -> None:
    token = app_reader(hub).installation_token()
    url = f"{hub.served.url}/repos/{REPO}/tarball/main"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked) as answer:
        answer.read()
    codeload = [one for one in hub.github.requests if one.route == "codeload"]
    assert [one.headers.get("authorization") for one in codeload] == [f"Bearer {token}"]


def test_netrc_replaces_the_token_where_the_environment_is_trusted(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = hub.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    reader = app_reader(hub)
    assert reader.head("main") == hub.repo.head()
    reader.session.trust_env = True
    assert "Bad credentials" in refusal(lambda: reader.head("main"))
    assert hub.github.requests[-1].headers["authorization"].startswith("Basic ")


# --- the device flow ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expiring", "said"),
    [
        ("ghu", True, ["logged in as ada", "refreshed as ada"]),
        ("gho", False, ["logged in as ada"]),
    ],
)
def test_the_device_flow_logs_in_and_refreshes_what_ends(
    hub: SyncEnv, kind: str, expiring: bool, said: list[str]
) -> None:
    hub.github.oauth.add_client(CLIENT, expiring=expiring, kind=kind)
    hub.github.oauth.interval = 0
    approve_at_poll(hub, 3)
    done = run("device_flow", hub.served.url, hub.served.url, CLIENT, "repo")
    first, *rest = done.stdout.splitlines()
    shown = rf"Open {re.escape(hub.served.url)}/login/device and enter \w{{4}}-\w{{4}}"
    assert re.fullmatch(shown, first) and rest == said and done.stderr == ""
    assert hub.github.count("poll") == 3 and hub.github.count("refresh") == int(expiring)


def test_the_device_flow_polls_more_slowly_when_github_says_so(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.github.oauth.add_client(CLIENT)
    waits = list[float]()

    def wait_too_little_once(seconds: float) -> None:
        waits.append(seconds)
        hub.github.clock_offset += 1 if len(waits) == 2 else seconds

    monkeypatch.setattr(time, "sleep", wait_too_little_once)
    approve_at_poll(hub, 3)
    login = imported("device_flow").DeviceLogin(hub.served.url, hub.served.url, CLIENT)
    login.wait(login.start(""))
    assert waits == [5, 5, 10] and login.user() == "ada"


def test_a_refresh_token_that_is_used_twice_ends_the_login(hub: SyncEnv) -> None:
    hub.github.oauth.add_client(CLIENT)
    login = imported("device_flow").DeviceLogin(hub.served.url, hub.served.url, CLIENT)
    login.tokens = hub.github.oauth.issue(hub.github.oauth.clients[CLIENT], "ada", "", time.time())
    before = dict(login.tokens)
    login.refresh()
    login.tokens = before
    with pytest.raises(requests.HTTPError, match="401"):
        login.user()
    assert refusal(login.refresh) == "log in again: bad_refresh_token"


@pytest.mark.parametrize("error", ["access_denied", "expired_token"])
def test_a_login_that_ends_without_tokens_says_why(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    hub.github.oauth.add_client(CLIENT)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    login = imported("device_flow").DeviceLogin(hub.served.url, hub.served.url, CLIENT)
    device = login.start("")
    if error == "access_denied":
        hub.github.oauth.deny(device["user_code"])
    else:
        hub.github.clock_offset = 901
    assert refusal(lambda: login.wait(device)) == f"not logged in: {error}"


def approve_at_poll(hub: SyncEnv, nth: int) -> None:
    """Let the user enter the code just before the nth poll."""

    def approve() -> None:
        for device in hub.github.oauth.devices.values():
            hub.github.oauth.approve(device.user_code, "ada")

    hub.github.call_before("poll", nth, approve)
