"""docs/page-login.md: its configurations load, and its web servers lead to the page."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from werkzeug.security import generate_password_hash

from syncd.config.model import Web as WebConfig
from syncd.identities import SecretRef
from syncd.web.server import Web
from tests.support.status_board import FixedBoard
from tests.support.sync_env import SyncEnv

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).parents[2] / "docs/page-login.md").read_text()
PATH = f"{os.environ['PATH']}:/usr/sbin"
NGINX, CADDY = shutil.which("nginx", path=PATH), shutil.which("caddy", path=PATH)
PASSWORD = "correct horse battery"
HASH = generate_password_hash(PASSWORD, "scrypt")


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


CONFIGURATIONS = [one for one in examples("yaml") if one.startswith("web:")]


@pytest.mark.parametrize("number", range(3))
def test_each_configuration_loads(
    hub: SyncEnv, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(CONFIGURATIONS) == 3
    keys = hub.folder / "keys"
    keys.mkdir(0o700)
    for name, text in (("octocat.hash", HASH), ("hubot.hash", HASH), ("metrics.token", "t" * 32)):
        (keys / name).write_text(text)
        (keys / name).chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(keys))
    hub.extra.update(yaml.safe_load(CONFIGURATIONS[number].replace("/etc/syncd", str(keys))))
    hub.write()
    done = hub.call("check")
    assert done.code == 0, done.err


@contextmanager
def in_front(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as front:
        try:
            ends = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=60).close()
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < ends and front.poll() is None
                    time.sleep(0.05)
            yield
        finally:
            front.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def nginx(folder: Path, port: int, address: str) -> list[str]:
    (location,) = examples("nginx")
    places = "".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    root = "user root; " if os.geteuid() == 0 else ""
    server = location.replace("127.0.0.1:8480", address)
    (folder / "nginx.conf").write_text(
        f"{root}daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {places}\nserver {{ listen 127.0.0.1:{port}; {server} }} }}\n"
    )
    return [NGINX or "", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def caddy(folder: Path, port: int, address: str) -> list[str]:
    line = next(one for one in examples("text") if "reverse_proxy" in one)
    block = line.replace("127.0.0.1:8480", address)
    (folder / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n{block}}}\n"
    )
    return [CADDY or "", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(nginx, marks=pytest.mark.skipif(NGINX is None, reason="no nginx here")),
        pytest.param(caddy, marks=pytest.mark.skipif(CADDY is None, reason="no Caddy here")),
    ],
)
def test_a_web_server_in_front_leads_to_the_form_and_the_page(make: object, tmp_path: Path) -> None:
    assert callable(make)
    file, port = tmp_path / "octocat.hash", free_port()
    file.write_text(HASH)
    file.chmod(0o600)
    users = {"octocat": SecretRef("file", str(file))}
    config = WebConfig(
        "127.0.0.1:0", users=users, prefix="/syncd", trusted_proxies=("127.0.0.1/32",)
    )
    web = Web(config, FixedBoard(), {})
    try:
        address = web.names[0].removeprefix("http://").rstrip("/")
        with in_front(make(tmp_path, port, address), port):
            assert_leads_to_the_page(port)
    finally:
        web.close()


def assert_leads_to_the_page(port: int) -> None:
    form = asked(port, "GET", "/syncd/", {"Accept": "text/html"})
    assert form[0] == 401 and 'action="/syncd/login"' in form[2]
    own = {"Origin": f"http://127.0.0.1:{port}", "Accept": "text/html"}
    done = asked(port, "POST", "/syncd/login", own)
    assert (done[0], done[1]["Location"]) == (303, "/syncd/")
    cookie = {"Cookie": done[1]["Set-Cookie"].partition(";")[0]}
    page = asked(port, "GET", "/syncd/", cookie)
    assert page[0] == 200 and 'href="/syncd/metrics"' in page[2]
    foreign = {**own, "Origin": "https://evil.example"}
    assert asked(port, "POST", "/syncd/login", foreign)[0] == 403
    basic = base64.b64encode(f"octocat:{PASSWORD}".encode()).decode()
    assert asked(port, "GET", "/syncd/metrics", {"Authorization": f"Basic {basic}"})[0] == 200


def asked(
    port: int, method: str, path: str, headers: dict[str, str]
) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    form = urlencode({"user": "octocat", "password": PASSWORD}) if method == "POST" else None
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    connection.request(method, path, form, {**kind, **headers})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text
