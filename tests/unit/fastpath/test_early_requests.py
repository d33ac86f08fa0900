"""Requests that begin before the full program is loaded: what is a response, and who gets it."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from syncd.errors import StoppedError
from syncd.fastpath import early_requests
from syncd.fastpath.early_requests import EarlyRequests, Reply, request_key

BODY = b'{"sha": "1"}'


@contextmanager
def server(response: bytes) -> Iterator[dict[str, Any]]:
    """A server that answers one request with these bytes; yields the request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, suppress(ConnectionError):  # who has enough hangs up
                connection.recv(65536)
                connection.sendall(response)

        thread = threading.Thread(target=answer)
        thread.start()
        port = listening.getsockname()[1]
        request = {"to": ["http", "127.0.0.1", port, None], "method": "GET", "target": "/x"}
        request |= {"url": f"http://127.0.0.1:{port}/x", "headers": {}, "body": None}
        yield {**request, "identity": "a", "installation": None}
        thread.join()


def sent(response: bytes) -> Reply:
    connections: dict[str, Any] = {}
    with server(response) as request:
        try:
            return early_requests._send(connections, request)
        finally:
            for connection in connections.values():
                connection.close()


def packed(body: bytes, encoding: str = "gzip") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def test_a_packed_response_is_unpacked() -> None:
    reply = sent(packed(gzip.compress(BODY)))
    assert reply.body == BODY and "content-encoding" not in reply.headers


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        packed(gzip.compress(BODY)[:-1]),
        packed(gzip.compress(BODY) + gzip.compress(BODY)),
        packed(gzip.compress(b"x" * 2000)),
        packed(b"not packed"),
        packed(gzip.compress(BODY), "br"),
    ],
    ids=[
        "cut off",
        "without its body",
        "too long",
        "packed and cut off",
        "packed twice",
        "packed and too long",
        "not packed",
        "packed otherwise",
    ],
)
def test_a_response_that_is_not_whole_is_no_response(
    response: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_requests, "MAX_BODY_BYTES", 1000)
    with pytest.raises(ValueError, match=r"cut|longer|damaged"):
        sent(response)


@pytest.mark.parametrize(
    ("answer", "folder", "tree"),
    [
        ({"sha": "1", "entries": [{"type": "file", "name": "a", "sha": "2"}]}, "", None),
        ({"sha": "1", "entries": []}, "", None),
        ({"sha": "1", "entries": [{"type": "dir", "name": "a", "sha": "2"}]}, "", "1"),
        ({"sha": "1", "entries": [{"type": "file", "name": "a", "sha": "2"}] * 1000}, "", "1"),
        ({"sha": "1", "entries": [{"type": "dir", "name": "a", "sha": "2"}]}, "a", "2"),
        ({"sha": "1", "entries": [{"type": "dir", "name": "a", "sha": "2"}]}, "b", None),
        ({"sha": "1", "entries": [{"type": "file", "name": "a", "sha": "2"}]}, "a", None),
    ],
)
def test_which_tree_the_full_run_has_to_read(answer: Any, folder: str, tree: str | None) -> None:
    assert early_requests._tree_to_read(answer, folder) == tree


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b"{}", b"not JSON", b"[" * 100_000, b'{"entries": [1]}', b"\xff"]
)
def test_a_listing_that_makes_no_sense_is_left_to_the_full_run(body: bytes) -> None:
    key = request_key("GET", "http://x/", {}, None)
    request = {"folders": [""], "tree": {}, "headers": {}, "installation": None}
    with pytest.raises((ValueError, KeyError, TypeError)):
        early_requests._followers(request, Reply(key, "a", None, 200, {}, body), "/nowhere")


def no_deadline() -> None:
    pass


def test_a_response_is_taken_once_and_by_its_identity() -> None:
    early, key = EarlyRequests({}, 0.0), request_key("GET", "http://x/", {}, None)
    early._keep(reply := Reply(key, "a", None, 200, {}, b""))
    assert early.take("b", key, no_deadline) is None
    assert early.take("a", key, no_deadline) is reply
    assert early.take("a", key, no_deadline) is None


def test_who_waits_for_a_response_can_be_stopped() -> None:
    early, key = EarlyRequests({}, 0.0), request_key("GET", "http://x/", {}, None)
    early._pending.add(key)

    def stopped() -> None:
        raise StoppedError("a signal")

    with pytest.raises(StoppedError):
        early.take("a", key, stopped)


def test_each_response_is_told_once_also_the_first_ones() -> None:
    early, told = EarlyRequests({}, 0.0), list[Reply]()
    key = request_key("GET", "http://x/", {}, None)
    early._keep(Reply(key, "a", None, 200, {}, b"1"))
    early.on_reply(told.append)
    early._keep(Reply(key, "a", None, 200, {}, b"2"))
    assert [reply.body for reply in told] == [b"1", b"2"]
