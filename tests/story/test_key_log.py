"""`SSLKEYLOGFILE` has no say: no connection of syncd writes its keys to a file,
whoever makes the connection.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.fastpath import check as fastpath
from syncd.github.auth.device_flow import OAuthClient
from syncd.github.proxies import Proxies
from syncd.github.rate_limit import ConcurrencyLimit, RateLimits, RequestMetrics
from syncd.github.transport import Network
from syncd.notifications.http_post import post
from syncd.redaction import Secret
from syncd.wiring import http_sender
from tests.story.test_tls import point, served
from tests.support.raw_server import RawServer
from tests.support.sync_env import SyncEnv, sync_env

AUTHORITY = trustme.CA()
BIG = bytes(range(256)) * 300
SOURCE = Path(__file__).resolve().parents[2] / "syncd"


@pytest.fixture
def key_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the keys would be; the test authority is among the usual ones."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "usual.pem"))
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "usual.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    yield tmp_path / "keys.log"


def wire(body: bytes) -> RawServer:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost", "127.0.0.1").configure_cert(tls)
    return RawServer(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
        tls=tls,
    )


def test_a_sync_with_lfs_and_the_quick_check_after_it_write_no_keys(
    tmp_path: Path, key_log: Path
) -> None:
    with (
        sync_env(tmp_path / "stand", as_app=False) as hub,
        served(hub.github, AUTHORITY.issue_cert("localhost")) as api,
    ):
        in_sync_over_tls(hub, api)
        assert hub.github.count("lfs_object") == 1 and not key_log.exists()
        now = datetime.now(UTC).timestamp()
        found = fastpath.check(["-c", str(hub.config), "sync"], dict(os.environ), now)
        assert isinstance(found, fastpath.UpToDate) and not key_log.exists()


def in_sync_over_tls(hub: SyncEnv, api: str) -> None:
    hub.repo.commit({"nginx/data.bin": hub.repo.lfs_pointer(BIG)})
    point(hub, api, None)
    hub.write_config(lfs="fetch")
    done = hub.sync()
    assert done.code == 0 and hub.tree()["data.bin"] == BIG, done.err


def test_a_notification_writes_no_keys(tmp_path: Path, key_log: Path) -> None:
    with wire(b"ok") as receiver:
        address = receiver.url.replace("127.0.0.1", "localhost")
        assert (
            post(address, "{}", "syncd", http_sender(str(tmp_path / "usual.pem"), None)).error
            is None
        )
    assert not key_log.exists()


def test_a_login_writes_no_keys(key_log: Path) -> None:
    clock = SystemClock()
    network = Network(
        "me", clock, RequestMetrics(), RateLimits(clock), ConcurrencyLimit(1), Proxies({})
    )
    with wire(b'{"access_token": "ghu_new"}') as github:
        OAuthClient(network, github.url, "Iv1.abc", "me").refresh(
            Secret("ghr_old"), Deadline(clock, 10)
        )
    network.close()
    assert not key_log.exists()


def test_one_module_makes_the_tls_contexts_of_connections() -> None:
    makers = re.compile(
        r"create_default_context|_create_unverified_context|\bSSLContext\(|_create_stdlib_context"
    )
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if makers.search(path.read_text())
    }
    assert found == {"tls.py"}
