"""Clients that mean harm: what they cost the listener,
and that everybody else is still answered.
"""

from __future__ import annotations

import base64
import http.client
import logging
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from waitress.parser import HTTPRequestParser

from syncd.config.model import Web as WebConfig
from syncd.config.model import Webhook
from syncd.identities import SecretRef
from syncd.status import StatusSnapshot
from syncd.web import clients, request_limits, views
from syncd.web.server import Web
from tests.story.test_web import ask
from tests.support.push import SECRET, deliver, headers_of, push_event
from tests.support.status_board import FixedBoard

PASSWORD = "correct horse battery"
EVENT = push_event("acme/infra", "a" * 40)
LOCAL_HEAD = b"Host: localhost\r\n"


@contextmanager
def listening(
    board: FixedBoard,
    guarded: bool = False,
    proxies: tuple[str, ...] = ("127.0.0.1",),
    **environ: str,
) -> Iterator[Web]:
    known = {"WEB": PASSWORD, "HOOK": SECRET, **environ}
    password = SecretRef("env", "WEB") if guarded else None
    hook = Webhook("/github", SecretRef("env", "HOOK"))
    config = WebConfig("127.0.0.1:0", password, webhook=hook, trusted_proxies=proxies)
    web = Web(config, board, known)
    try:
        yield web
    finally:
        web.close()


def port_of(web: Web) -> int:
    return int(web.names[0].rstrip("/").rpartition(":")[2])


def connected(
    web: Web, receive_bytes: int | None = None, source: str = "127.0.0.1"
) -> socket.socket:
    one = socket.socket()
    if receive_bytes is not None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    one.settimeout(60)
    one.bind((source, 0))
    try:
        one.connect(("127.0.0.1", port_of(web)))
    except OSError:
        one.close()
        raise
    return one


def all_of(one: socket.socket) -> bytes:
    """What comes until the other side closes, in whichever way."""
    found = b""
    with suppress(ConnectionResetError):
        while chunk := one.recv(65536):
            found += chunk
    return found


# --- connections ----------------------------------------------------------------------------------


class Talkative(FixedBoard):
    """A board whose page has some megabytes."""

    def status_snapshot(self) -> StatusSnapshot:
        found = super().status_snapshot()
        return StatusSnapshot(found.at, found.jobs * 2000, found.rate_limits, found.process)


def test_answers_that_are_not_read_are_closed_and_silence_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_limits, "CLIENT_READ_TIMEOUT_SECONDS", 0.3, raising=False)
    with listening(Talkative()) as web:
        greedy = [connected(web, 4096) for _ in range(4)]
        for one in greedy:
            one.sendall((b"GET / HTTP/1.1\r\n" + LOCAL_HEAD + b"\r\n") * 200)
        for _ in range(3):
            assert ask(web, "/healthz").status == 200
            assert deliver(port_of(web), EVENT)[0] == 202
        while web.connections():
            threading.Event().wait(0.02)  # closed by the listener, without a byte read here
        assert all(len(all_of(one)) < 1_000_000 for one in greedy)
        for one in greedy:
            one.close()


def test_an_answer_that_is_read_by_drips_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "RESPONSE_TIMEOUT_SECONDS", 0.5, raising=False)
    with listening(Talkative()) as web, connected(web, 4096) as one:
        one.sendall(b"GET / HTTP/1.1\r\n" + LOCAL_HEAD + b"\r\n")
        found = 0
        with suppress(ConnectionResetError):
            while chunk := one.recv(64):
                found += len(chunk)
                threading.Event().wait(0.005)
        assert found < 1_000_000


def test_one_connection_asks_one_question(
    plain: FixedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, parse = list[bytes](), HTTPRequestParser.parse_header
    monkeypatch.setattr(
        HTTPRequestParser,
        "parse_header",
        lambda self, head: (heads.append(head), parse(self, head))[1],
    )
    request = b"GET /healthz HTTP/1.1\r\n" + LOCAL_HEAD + b"\r\n"
    with listening(plain) as web, connected(web) as one:
        one.sendall(request * 100)
        found = all_of(one)
    assert found.count(b"HTTP/1.1 200 OK") == 1 and b"Connection: close" in found
    assert len(heads) == 1, "what follows is not even read as a request"


def test_blank_lines_do_not_keep_a_connection_open(
    plain: FixedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "REQUEST_TIMEOUT_SECONDS", 0.3)
    with listening(plain) as web, connected(web) as one, suppress(OSError):
        for _ in range(200):  # ten seconds, if nothing ends it
            one.sendall(b"\r\n\r\n")
            threading.Event().wait(0.05)
        pytest.fail("still open")


def test_a_connection_that_brings_nothing_ends(
    plain: FixedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "REQUEST_TIMEOUT_SECONDS", 0.3)
    with listening(plain) as web, connected(web) as one:
        assert all_of(one) == b""


def test_one_address_has_a_share_of_the_connections_and_others_are_answered(
    plain: FixedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "is_local", lambda _address: False)
    with listening(plain) as web:
        crowd = []
        for _ in range(3 * clients.MAX_CONNECTIONS_PER_CLIENT):
            with suppress(ConnectionResetError):
                crowd.append(connected(web, source="127.0.0.2"))
        assert ask(web, "/healthz").status == 200
        open_now = Counter(one.client for one in web.connections())
        assert open_now["127.0.0.2"] == clients.MAX_CONNECTIONS_PER_CLIENT
        for one in crowd:
            one.close()


# --- guesses --------------------------------------------------------------------------------------


def guess(web: Web, password: str, client: str, path: str = "/") -> tuple[int, str | None]:
    basic = base64.b64encode(f"x:{password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port_of(web), timeout=60)
    connection.request(
        "GET", path, headers={"Authorization": f"Basic {basic}", "X-Forwarded-For": client}
    )
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.getheader("Retry-After")


def test_wrong_passwords_are_slowed_down_and_the_right_one_of_another_client_is_not(
    plain: FixedBoard,
) -> None:
    with listening(plain, guarded=True) as web:
        found = [guess(web, f"guess {number}", "203.0.113.5") for number in range(200)]
        statuses = Counter(status for status, _ in found)
        assert statuses.keys() == {401, 429} and statuses[401] <= 15
        assert all(int(wait or 0) >= 1 for status, wait in found if status == 429)
        assert guess(web, PASSWORD, "203.0.113.5")[0] == 429, "else a guess is not slowed down"
        assert guess(web, PASSWORD, "203.0.113.6") == (200, None)
        assert ask(web, "/").status == 401, "who gives no password has guessed nothing"


def test_guesses_from_many_addresses_are_slowed_down_and_a_known_client_is_let_in(
    plain: FixedBoard,
) -> None:
    with listening(plain, guarded=True) as web:
        assert guess(web, PASSWORD, "198.51.100.1")[0] == 200
        found = Counter(guess(web, "wrong", f"203.0.{n // 250}.{n % 250}")[0] for n in range(300))
        assert found[401] <= 100 and found[401] + found[429] == 300
        for _ in range(20):
            assert guess(web, PASSWORD, "198.51.100.1")[0] == 200


def test_an_address_said_by_others_than_the_trusted_proxies_is_not_believed(
    plain: FixedBoard,
) -> None:
    with listening(plain, guarded=True, proxies=("10.0.0.0/8", "unix")) as web:
        found = Counter(guess(web, "wrong", f"203.0.113.{number}")[0] for number in range(100))
        assert found[401] <= 15


def test_forged_deliveries_are_slowed_down_and_those_of_others_are_not(plain: FixedBoard) -> None:
    def send(secret: str, client: str, size: int = 0) -> int:
        body = b'{"x": "' + b"x" * size + b'"}'
        connection = http.client.HTTPConnection("127.0.0.1", port_of(web), timeout=60)
        headers = {**headers_of(body, "ping", secret=secret), "X-Forwarded-For": client}
        connection.request("POST", "/github", body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    with listening(plain) as web:
        found = Counter(send("not the secret at all", "203.0.113.5") for _ in range(200))
        assert found.keys() == {401, 429} and found[401] <= 30
        assert send(SECRET, "203.0.113.5") == 429
        assert send(SECRET, "140.82.115.1") == 200


def test_forgeries_from_many_addresses_refuse_no_delivery_of_another(plain: FixedBoard) -> None:
    def send(secret: str, client: str) -> int:
        body = b"{}"
        headers = {**headers_of(body, "ping", secret=secret), "X-Forwarded-For": client}
        return ask(web, "/github", "POST", body, **headers).status

    with listening(plain) as web:
        forged = {send("not the secret at all", f"203.0.113.{last}") for last in range(200)}
        assert forged == {401}
        assert {send(SECRET, f"140.82.115.{last}") for last in range(10)} == {200}


def test_a_delivery_that_is_slowed_down_is_refused_before_its_body(plain: FixedBoard) -> None:
    head = b"POST /github HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.5\r\n"
    with listening(plain) as web:
        for _ in range(60):
            with connected(web) as one:
                one.sendall(head + b"X-Hub-Signature-256: sha256=0\r\nContent-Length: 2\r\n\r\n{}")
                all_of(one)
        with connected(web) as one:
            one.sendall(head + b"Content-Length: 20000000\r\n\r\n")
            assert all_of(one).startswith(b"HTTP/1.1 429")


# --- views ----------------------------------------------------------------------------------------


class Stuck(FixedBoard):
    """A board whose readings do not come until they are let go; `asked` counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let_go = 0, threading.Event()

    def status_snapshot(self) -> StatusSnapshot:
        self.asked += 1
        assert self.let_go.wait(60)
        return super().status_snapshot()


def test_views_that_take_long_leave_threads_for_health_and_the_webhook() -> None:
    board = Stuck()
    with listening(board) as web:
        waiting = []
        for path in ("/", "/metrics", "/readyz", "/api/v1/status") * 10:
            one = connected(web)
            one.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\n" + LOCAL_HEAD + b"\r\n")
            waiting.append(one)
        try:
            for _ in range(3):
                assert ask(web, "/healthz").status == 200
                assert deliver(port_of(web), EVENT)[0] == 202
        finally:
            board.let_go.set()
        statuses = Counter(all_of(one)[9:12] for one in waiting)
        for one in waiting:
            one.close()
    assert statuses.keys() == {b"200", b"503"} and statuses[b"200"] <= 8
    assert board.asked <= 4, "who asks for the same page at once shares it"


def test_a_view_that_costs_much_is_shared_by_those_who_ask_soon_after() -> None:
    class Costly(FixedBoard):
        asked = 0

        def status_snapshot(self) -> StatusSnapshot:
            self.asked += 1
            sum(range(2_000_000))
            return super().status_snapshot()

    board, now = Costly(), [1000.0]
    web = Web(WebConfig("127.0.0.1:0"), board, {}, monotonic=lambda: now[0])
    try:
        first = ask(web, "/api/v1/status")
        assert (first.status, ask(web, "/api/v1/status").text, board.asked) == (200, first.text, 1)
        now[0] += views.MAX_CACHE_SECONDS
        assert (ask(web, "/api/v1/status").status, board.asked) == (200, 2)
    finally:
        web.close()


def test_a_page_that_is_too_large_is_not_sent(
    plain: FixedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_PAGE_BYTES", 100)
    with listening(plain) as web:
        found = ask(web, "/")
        assert (found.status, found.text) == (
            503,
            "this page is too large to be shown; on this machine: syncd status\n",
        )
        assert ask(web, "/readyz").status == 200


# --- what it says of this machine -----------------------------------------------------------------


def test_no_answer_names_the_file_of_a_secret(plain: FixedBoard, tmp_path: Path) -> None:
    file = tmp_path / "web.password"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    web = Web(WebConfig("127.0.0.1:0", SecretRef("file", str(file))), plain, {})
    try:
        file.unlink()
        found = ask(web, "/", password=PASSWORD)
        assert (
            found.status == 503
            and str(tmp_path) not in found.text
            and "web.password" not in found.text
        )
        assert "log" in found.text
    finally:
        web.close()


# --- the listener itself --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_whose_thread_died_is_started_again(
    plain: FixedBoard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with listening(plain) as web:
        assert web.stall_reason() is None
        died = threading.Event()

        def die(*_: Any, **__: Any) -> bool:
            monkeypatch.undo()
            died.set()
            raise SystemExit

        monkeypatch.setattr("syncd.web.server.close_overdue", die)
        web.wake()
        assert died.wait(60)
        for thread in threading.enumerate():
            if thread.name == "syncd-web":
                thread.join(60)
        assert web.stall_reason() is None and ask(web, "/healthz").status == 200
    assert "the listener's thread had ended and was started again" in caplog.text


def test_a_mistake_in_the_listeners_loop_does_not_end_it(
    plain: FixedBoard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(plain) as web:
        failed = threading.Event()

        def fail(*_: Any, **__: Any) -> bool:
            monkeypatch.undo()
            failed.set()
            raise ZeroDivisionError

        monkeypatch.setattr("syncd.web.server.close_overdue", fail)
        web.wake()
        assert failed.wait(60) and ask(web, "/healthz").status == 200
    assert "a bug in syncd, met by the listener" in caplog.text


def test_a_listener_that_answers_nobody_is_not_called_alive(plain: FixedBoard) -> None:
    now = [1000.0]
    asked, let_go = threading.Semaphore(0), threading.Event()

    class Hanging(FixedBoard):
        def stall_reason(self) -> str | None:
            asked.release()
            assert let_go.wait(60)
            return None

    web = Web(WebConfig("127.0.0.1:0"), Hanging(), {}, monotonic=lambda: now[0])
    try:
        held = [connected(web) for _ in range(40)]
        for one in held:
            one.sendall(b"GET /healthz HTTP/1.1\r\n" + LOCAL_HEAD + b"\r\n")
        for _ in range(8):
            assert asked.acquire(timeout=60)
        assert web.stall_reason() is None
        now[0] += 61
        assert "the listener has answered no request for 61 s" in (web.stall_reason() or "")
        let_go.set()
        for one in held:
            all_of(one)
            one.close()
        while web.stall_reason() is not None:  # a thread that is free answers
            threading.Event().wait(0.01)
    finally:
        let_go.set()
        web.close()


@pytest.fixture
def plain() -> FixedBoard:
    return FixedBoard()
