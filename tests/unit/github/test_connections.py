"""Servers that do not end, over real sockets: each is left at a limit, its socket is closed,
and its place is free again.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trustme

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.errors import BadResponseError, RemoteUnavailableError, TimedOutError
from syncd.github.bounds import BOUNDS, Bound
from syncd.github.protocol import Request, get, read_body
from syncd.github.proxies import Proxies
from syncd.github.rate_limit import ConcurrencyLimit, RateLimits, RequestMetrics
from syncd.github.transport import Network
from syncd.github.urls import address_kind, check_peer
from tests.support.raw_server import RawServer

GUARD_SECONDS = 20.0  # of a test that hangs where it should not
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Endless:
    """Answers each request with `first`, then `again` without end.

    `closed` is set when the client has closed its socket.
    """

    def __init__(self, first: bytes, again: bytes = b"", pause: float = 0.0) -> None:
        self.first, self.again, self.pause = first, again, pause
        self.closed, self._stop = threading.Event(), threading.Event()
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while self._read_head(client):
                client.sendall(self.first)
                while self.again:
                    client.sendall(self.again)
                    if self.pause and self._stop.wait(self.pause):
                        return
        self.closed.set()

    @staticmethod
    def _read_head(client: socket.socket) -> bool:
        told = b""
        while b"\r\n\r\n" not in told:
            piece = client.recv(4096)
            if not piece:
                return False
            told += piece
        return True

    def __enter__(self) -> Endless:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def network(gate: ConcurrencyLimit | None = None, **more: Any) -> Iterator[Network]:
    clock = SystemClock()
    made = Network(
        "ops",
        clock,
        RequestMetrics(),
        RateLimits(clock),
        gate or ConcurrencyLimit(1),
        more.pop("proxies", Proxies({})),
        **more,
    )
    try:
        yield made
    finally:
        made.close()


def deadline(seconds: float = GUARD_SECONDS) -> Deadline:
    return Deadline(SystemClock(), seconds)


def head(url: str) -> Request:
    return get(url, "/x", "head", "main of acme/infra", "acme/infra", cap_bytes=4096)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
WITHOUT_END = {
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", r"100 Continue more than 8 times"),
    "100 Continue with headers": (
        b"",
        b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 60_000 + b"\r\n\r\n",
        r"100 Continue more than 8 times|goes on beyond",
    ),
    "a header line": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000, r"can't be reached|goes on beyond"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 100, r"goes on beyond"),
    "chunk extensions": (
        CHUNKED,
        b"1;" + b"e" * 60_000 + b"\r\nx\r\n",
        r"goes on beyond|longer than",
    ),
    "empty gzip members": (GZIP, gzip.compress(b"") * 100, r"goes on beyond"),
    "a body": (GZIP.replace(b"gzip", b"identity"), b"x" * 1000, r"longer than"),
}


@pytest.mark.parametrize("name", WITHOUT_END)
def test_what_a_server_says_without_end_is_left_at_a_limit(name: str) -> None:
    first, again, words = WITHOUT_END[name]
    gate = ConcurrencyLimit(1)
    with Endless(first, again) as server, network(gate) as net:
        with pytest.raises((BadResponseError, RemoteUnavailableError), match=words) as caught:
            read_body(net.send(head(server.url), deadline()))
        assert not isinstance(caught.value, TimedOutError)
        assert server.closed.wait(GUARD_SECONDS), "the socket was left open"
        gate.acquire(deadline())


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n",
        CHUNKED + b"0\r\nX: ",
    ],
    ids=["status line", "headers", "body", "trailers"],
)
def test_a_dripping_answer_ends_with_the_runs_time_and_its_socket_is_closed(first: bytes) -> None:
    gate = ConcurrencyLimit(1)
    with Endless(first, b"x", pause=0.02) as server, network(gate) as net:
        with pytest.raises(TimedOutError):
            read_body(net.send(head(server.url), deadline(0.3)))
        assert server.closed.wait(GUARD_SECONDS), "the socket was left open"
        gate.acquire(deadline())


def test_a_handshake_that_drips_ends_with_the_runs_time_and_its_socket_is_closed() -> None:
    """The first bytes of a record of TLS, and then a byte now and then."""
    gate = ConcurrencyLimit(1)
    server = Endless(b"")
    server._read_head = lambda client: bool(client.recv(64))  # type: ignore[method-assign]
    server.first, server.again, server.pause = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"x", 0.02
    with server, network(gate) as net:
        with pytest.raises(TimedOutError):
            net.send(head(server.url.replace("http:", "https:")), deadline(0.3))
        assert server.closed.wait(GUARD_SECONDS), "the socket was left open"
        gate.acquire(deadline())


def test_an_answer_has_a_time_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOUNDS, "head", Bound(1 << 20, 10, 5, 0.2, ""))
    with (
        Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", b"x", pause=0.02) as server,
        network() as net,
    ):
        with pytest.raises(RemoteUnavailableError, match="took too long as a whole") as caught:
            read_body(net.send(head(server.url), deadline()))
        assert not isinstance(caught.value, TimedOutError)
        assert server.closed.wait(GUARD_SECONDS)


def test_a_request_that_was_given_up_keeps_its_place_until_its_thread_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end, gate = threading.Event(), ConcurrencyLimit(1)

    def resolve(*_: object, **__: object) -> None:
        may_end.wait(
            GUARD_SECONDS
        )  # a name server that does not answer, which no socket of ours ends
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    with network(gate) as net:
        with pytest.raises(TimedOutError):
            net.send(head("http://ghe.example"), deadline(0.05))
        with pytest.raises(TimedOutError):
            gate.acquire(deadline(0.1))
        may_end.set()
        gate.acquire(deadline())


def test_answers_without_a_body_keep_their_connection() -> None:
    with Endless(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n') as server, network() as net:
        for _ in range(20):
            net.send(head(server.url), deadline()).close()
        assert server.connections == 1
    with Endless(OK) as server, network() as net:
        assert [read_body(net.send(head(server.url), deadline())) for _ in range(20)] == [
            b"ok"
        ] * 20
        assert server.connections == 1


# --- who answers ----------------------------------------------------------------------------------


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Host -> the address that it has."""
    known, real = dict[str, str](), socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **more: Any) -> Any:
        return real(known.get(host, host), *arguments, **more)

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    return known


def redirected(port: int, lfs: bool = False) -> Callable[[str, Network], bytes]:
    def ask(api: str, net: Network) -> bytes:
        if lfs:
            return read_body(
                net.send(
                    Request(
                        "GET",
                        f"https://storage.test:{port}/x",
                        "lfs_object",
                        "big.bin",
                        authorised=False,
                        allow_other_host=True,
                    ),
                    deadline(),
                )
            )
        return read_body(
            net.send(
                Request("GET", f"{api}/x", "tarball", "the archive", allow_other_host=True),
                deadline(),
            )
        )

    return ask


@pytest.mark.parametrize("lfs", [False, True], ids=["redirect", "LFS"])
def test_a_name_that_a_server_gave_does_not_lead_to_this_machine(
    names: dict[str, str], lfs: bool
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("storage.test").configure_cert(tls)
    names["storage.test"] = "127.0.0.1"
    with RawServer(b"", tls=tls) as inside:
        port = int(inside.netloc.rpartition(":")[2])
        moved = (
            f"HTTP/1.1 302 Found\r\nLocation: https://storage.test:{port}/x\r\n"
            "Connection: close\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        # the API is far away, behind a proxy
        with (
            RawServer(moved) as proxy,
            network(proxies=Proxies({"http": proxy.url}), api="http://ghe.example") as net,
            pytest.raises(
                BadResponseError,
                match=r"leads to storage\.test, which is at the loopback address 127\.0\.0\.1",
            ),
        ):
            redirected(port, lfs)("http://ghe.example", net)
    assert inside.heard == []


def test_an_api_on_this_machine_may_lead_to_this_machine(names: dict[str, str]) -> None:
    names["localhost"] = "127.0.0.1"
    with RawServer(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as storage:
        port = storage.netloc.rpartition(":")[2]
        moved = (
            f"HTTP/1.1 302 Found\r\nLocation: http://localhost:{port}/x\r\nConnection: close\r\n"
            "Content-Length: 0\r\n\r\n"
        ).encode()
        with RawServer(moved) as api, network(api=api.url) as net:
            assert (
                read_body(
                    net.send(
                        Request(
                            "GET", f"{api.url}/x", "tarball", "the archive", allow_other_host=True
                        ),
                        deadline(),
                    )
                )
                == b"ok"
            )


@pytest.mark.parametrize(
    ("peer", "kind"),
    [
        ("140.82.121.6", "public"),
        ("2606:50c0:8000::154", "public"),
        ("127.0.0.1", "loopback"),
        ("127.8.8.8", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a00:1", "private"),
        ("64:ff9b::8c52:7906", "public"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("10.0.0.7", "private"),
        ("172.16.3.4", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00:ec2::254", "private"),
        ("0.0.0.0", "none"),
        ("::", "none"),
        ("224.0.0.1", "none"),
    ],
)
def test_kinds_of_addresses(peer: str, kind: str) -> None:
    assert address_kind(peer) == kind


@pytest.mark.parametrize(
    ("peer", "own", "allowed"),
    [
        ("140.82.121.6", {"public"}, True),
        ("140.82.121.6", {"private"}, True),
        ("10.0.0.7", {"private"}, True),
        ("10.0.0.7", {"public"}, False),
        ("10.0.0.7", set(), True),
        ("127.0.0.1", set(), False),
        ("169.254.169.254", set(), False),
        ("169.254.169.254", {"private"}, False),
        ("127.0.0.1", {"loopback"}, True),
        ("127.0.0.1", {"public", "private"}, False),
        ("0.0.0.0", {"public"}, False),
    ],
)
def test_which_addresses_a_host_named_by_an_answer_may_have(
    peer: str, own: set[str], allowed: bool
) -> None:
    if allowed:
        check_peer(peer, own, "storage.test", "big.bin")
        return
    with pytest.raises(BadResponseError, match=r"storage\.test"):
        check_peer(peer, own, "storage.test", "big.bin")
