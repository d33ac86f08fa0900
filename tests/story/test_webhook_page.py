"""docs/webhook.md: each of its examples is run, the web server's too where there is one."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from syncd.config.model import Web as WebConfig
from syncd.config.model import Webhook
from syncd.github.webhook import Rejection
from syncd.identities import SecretRef
from syncd.web.server import Web
from tests.support.push import SECRET, deliver, push_event
from tests.support.status_board import FixedBoard
from tests.support.sync_env import SyncEnv

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).parents[2] / "docs/webhook.md").read_text()
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


def example(language: str) -> str:
    (found,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def board() -> FixedBoard:
    return FixedBoard()


@pytest.fixture
def web(board: FixedBoard, tmp_path: Path) -> Iterator[Web]:
    file = tmp_path / "hook.secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    web = Web(
        WebConfig("127.0.0.1:0", webhook=Webhook("/github", SecretRef("file", str(file)))),
        board,
        {},
    )
    try:
        yield web
    finally:
        web.close()


def address(web: Web) -> str:
    return web.names[0].removeprefix("http://").rstrip("/")


def test_the_configuration_is_one(hub: SyncEnv) -> None:
    (hub.folder / "hook.secret").write_text(SECRET)
    (hub.folder / "hook.secret").chmod(0o600)
    hub.extra.update(yaml.safe_load(example("yaml").replace("/etc/syncd", str(hub.folder))))
    hub.write()
    done = hub.call("check")
    assert done.code == 0, done.err
    said = hub.call("doctor").out
    assert (
        "✓ webhook       /github on 127.0.0.1:8480 starts 1 of 1 job" in said
        and "! webhook       no delivery yet" in said
        and "Recent Deliveries" in said
    )


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")),
    reason="the example needs curl and openssl",
)
def test_the_delivery_by_hand_is_taken(web: Web, board: FixedBoard, tmp_path: Path) -> None:
    script = (
        example("sh").replace("/etc/syncd", str(tmp_path)).replace("127.0.0.1:8480", address(web))
    )
    done = subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "1 job asks GitHub now\n" and [
        (push.repo, push.ref) for push, _, _ in board.push_trigger.received
    ] == [("acme/infra", "refs/heads/main")]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_the_web_server_in_front_passes_on_what_is_signed_and_nothing_else(
    web: Web, board: FixedBoard, tmp_path: Path
) -> None:
    assert NGINX is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    server = (
        f"server {{ listen 127.0.0.1:{port}; "
        f"{example('nginx').replace('127.0.0.1:8480', address(web))} }}"
    )
    (tmp_path / "nginx.conf").write_text(
        f"{'user root; ' if os.geteuid() == 0 else ''}daemon off; pid {tmp_path}/pid; error_log "
        f"stderr; events {{}}\nhttp {{ access_log off; {places}\n{server} }}\n"
    )
    with subprocess.Popen(
        [NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"],
        stderr=subprocess.PIPE,
    ) as front:
        try:
            ends = time.monotonic() + 60
            while True:
                try:
                    assert deliver(port, {}, "ping") == (200, "pong\n")
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < ends and front.poll() is None
                    time.sleep(0.05)
            large = {**push_event("acme/infra", "a" * 40), "filler": "x" * (3 << 20)}
            assert (
                deliver(port, large)[0] == 202
                and deliver(port, large, secret="another")[0] == 401
                and deliver(port, {}, path="/")[0] in (404, 405)
            )
        finally:
            front.terminate()
    assert len(board.push_trigger.received) == 1


def test_every_refusal_is_on_the_page() -> None:
    for refusal in Rejection:
        assert re.search(
            rf"^\| {refusal.status} \| .*`refused: {re.escape(refusal.text[:24])}",
            PAGE,
            re.MULTILINE,
        ), refusal
