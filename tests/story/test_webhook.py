"""The webhook's door over real sockets: who is let in, what each delivery is answered,
and what nobody can make it hold.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from syncd.config.model import Web as WebConfig
from syncd.config.model import Webhook
from syncd.errors import ConfigError
from syncd.github.webhook import MAX_BODY_BYTES, Push, Rejection
from syncd.identities import SecretRef
from syncd.models import CommitSummary
from syncd.web import request_limits
from syncd.web.server import MAX_REQUEST_BODY_BYTES, Web
from tests.fuzz.harness import mutated
from tests.story.test_web import ask
from tests.support.push import SECRET, as_form, deliver, headers_of, push_event, signature
from tests.support.status_board import FixedBoard

HTTP_REQUESTS = int(os.environ.get("SYNCD_HTTP_REQUESTS", "200"))
FORGED = HTTP_REQUESTS
A = "a" * 40
EVENT = push_event("acme/infra", A)
KNOWN = {"HOOK": SECRET, "WEB": "correct horse battery"}


@contextmanager
def listening(
    board: FixedBoard,
    listen: str = "127.0.0.1:0",
    password: str | None = None,
    secret: SecretRef = SecretRef("env", "HOOK"),
) -> Iterator[Web]:
    web = Web(
        WebConfig(
            listen,
            SecretRef("env", password) if password else None,
            webhook=Webhook("/github", secret),
        ),
        board,
        KNOWN,
    )
    try:
        yield web
    finally:
        web.close()


@pytest.fixture
def board() -> FixedBoard:
    return FixedBoard()


def port_of(web: Web) -> int:
    return int(web.names[0].rstrip("/").rpartition(":")[2])


def post(web: Web, event: Any, kind: str = "push", **more: Any) -> tuple[int, str]:
    return deliver(port_of(web), event, kind, **more)


# --- what it answers ------------------------------------------------------------------------------


def test_a_signed_push_rings_once_and_its_repetition_does_not(board: FixedBoard) -> None:
    with listening(board) as web:
        assert (
            post(web, EVENT, guid="one")
            == (202, "1 job asks GitHub now\n")
            == post(web, EVENT, guid="another")
        ), "who sends his own need not make each one different"
        assert post(web, EVENT, guid="one") == (
            202,
            "this delivery came before; nothing was started\n",
        )
        assert post(web, {**EVENT, "before": "b" * 40}, guid="one")[1].startswith("1 job"), (
            "an id that somebody has used up takes nothing from the delivery that bears it"
        )
        assert (
            post(web, None, body=as_form(EVENT), content_type="application/x-www-form-urlencoded")[
                0
            ]
            == 202
        )
        board.push_trigger.followers = 0
        assert post(web, {**EVENT, "ref": "refs/heads/a\u202eb"}) == (
            202,
            "push of refs/heads/a\\u202eb in acme/infra: no job follows that\n",
        )
    assert board.push_trigger.received[0][0] == Push(
        "acme/infra",
        "refs/heads/main",
        A,
        False,
        "main",
        "github.com",
        1000,
        CommitSummary("x", ""),
    )


EVENTS = (
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "code_scanning_alert",
    "commit_comment",
    "create",
    "delete",
    "deployment",
    "fork",
    "github_app_authorization",
    "installation",
    "installation_repositories",
    "installation_target",
    "issue_comment",
    "issues",
    "meta",
    "public",
    "pull_request",
    "release",
    "repository",
    "status",
    "workflow_run",
    "something_new",
)


def test_a_ping_is_answered_and_every_other_event_is_taken_and_starts_nothing(
    board: FixedBoard,
) -> None:
    with listening(board) as web:
        assert post(
            web, {"zen": "Half measures are as bad as nothing at all.", "hook_id": 1}, "ping"
        ) == (200, "pong\n")
        for event in EVENTS:
            assert post(web, {**EVENT, "action": "created"}, event) == (
                202,
                f"nothing here waits for the event {event}\n",
            )
    assert board.push_trigger.received == [] and board.push_trigger.ignored_events == [
        "ping",
        *EVENTS,
    ]


def test_who_did_not_sign_is_refused_before_anything_is_read_and_the_log_says_it_once(
    board: FixedBoard, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(board) as web:
        assert post(web, EVENT, secret=None) == (401, f"refused: {Rejection.UNSIGNED.text}\n")
        for secret in ("another", SECRET + "x", SECRET.upper()):
            assert post(web, EVENT, secret=secret) == (
                401,
                (
                    "refused: its signature was not made with the secret that web.webhook.secret "
                    "names\n"
                ),
            )
        for body in (b"", b"{", b"\xff" * 1000):
            assert post(web, None, "ping", body=body, secret="another")[0] == 401, (
                "even what would be refused anyway"
            )
        body = json.dumps(EVENT).encode()
        sha1 = {
            name: value for name, value in headers_of(body).items() if name != "X-Hub-Signature-256"
        }
        assert (
            ask(web, "/github", "POST", body, **sha1).status == 401 and "X-Hub-Signature" in sha1
        ), "SHA-1 alone proves nothing"
        for given in (
            "",
            "sha256=",
            "sha1=" + "a" * 40,
            signature(body)[:-1],
            signature(body) + ", " + signature(body),
        ):
            answer = ask(
                web,
                "/github",
                "POST",
                body,
                **{
                    "X-Hub-Signature-256": given,
                    "X-GitHub-Event": "push",
                    "Content-Type": "application/json",
                },
            )
            assert answer.status == 401 and "www-authenticate" not in answer.headers, given
    assert (
        board.push_trigger.received == []
        and len(board.push_trigger.rejections) == 13
        and board.push_trigger.rejections[-5:] == [None] * 5
    ), "what does not even call itself GitHub is no news"
    said = [record.getMessage() for record in caplog.records if "delivery" in record.getMessage()]
    assert len(said) == 2 and SECRET not in "".join(said), said


@pytest.mark.parametrize(
    ("kind", "content_type", "body", "status"),
    [
        ("push", "application/json", b"{", 400),
        ("push", "application/json", b"[]", 400),
        ("push", "application/json", b"", 400),
        ("push", "application/json", b"[" * 50_000, 400),
        ("push", "application/x-www-form-urlencoded", b"payload=%7B", 400),
        ("push", "text/plain", b"{}", 415),
        ("push", "multipart/form-data; boundary=x", b"--x--", 415),
        ("", "application/json", b"{}", 400),
        ("Push", "application/json", b"{}", 400),
        ("x" * 100, "application/json", b"{}", 400),
        ("ping", "text/plain", b"\0", 200),
        ("issues", "x", b"", 202),
    ],
)
def test_what_is_signed_and_makes_no_sense_is_refused_with_its_reason(
    board: FixedBoard, kind: str, content_type: str, body: bytes, status: int
) -> None:
    with listening(board) as web:
        found, text = post(web, None, kind, body=body, content_type=content_type)
    assert (
        found == status
        and (status < 300 or text.startswith("refused: "))
        and board.push_trigger.received == []
    )


def test_only_a_post_is_a_delivery_and_its_path_is_exact(board: FixedBoard) -> None:
    with listening(board) as web:
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"):
            assert ask(web, "/github", method).status == 405
        for path in (
            "/github/",
            "/github//",
            "/x//github",
            "/githubx",
            "/GitHub",
            "/github/x",
            "/x/../github",
        ):
            assert post(web, EVENT, path=path)[0] == 404
        assert post(web, EVENT, path="/%67ithub?a=1")[0] == 202
    assert len(board.push_trigger.received) == 1


# --- whose guard is its signature -----------------------------------------------------------------


def test_the_pages_password_and_the_names_of_loopback_are_for_everything_else(
    board: FixedBoard,
) -> None:
    with listening(board, "0.0.0.0:0", "WEB") as web:
        assert (
            post(web, EVENT)[0] == 202
            and ask(web, "/").status == 401
            and ask(web, "/metrics").status == 401
        )
        assert ask(web, "/", password=KNOWN["WEB"]).status == 200
        assert ask(web, "/github", "POST", b"{}", password=KNOWN["WEB"]).status == 401, (
            "the password opens nothing there"
        )
    with listening(board) as web:
        body = json.dumps({**EVENT, "once": "more"}).encode()
        answer = ask(web, "/github", "POST", body, Host="hooks.example.com", **headers_of(body))
        assert answer.status == 202 and ask(web, "/", Host="hooks.example.com").status == 421
        assert "set-cookie" not in answer.headers and answer.headers[
            "content-security-policy"
        ].startswith("default-src 'none'")


def test_a_secret_that_can_not_be_read_is_said_here_and_not_to_the_sender(
    board: FixedBoard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "hook"
    with pytest.raises(ConfigError, match=r"web\.webhook\.secret"):
        Web(
            WebConfig("127.0.0.1:0", webhook=Webhook("/github", SecretRef("file", str(file)))),
            board,
            {},
        )
    file.write_text(SECRET)
    file.chmod(0o600)
    with listening(board, secret=SecretRef("file", str(file))) as web:
        assert post(web, EVENT)[0] == 202
        file.write_text("the-next-one-of-many\n")
        assert (
            post(web, {**EVENT, "a": 1})[0] == 401
            and post(web, {**EVENT, "a": 1}, secret="the-next-one-of-many")[0] == 202
        )
        file.chmod(0o644)
        status, text = post(web, {**EVENT, "a": 2}, secret="the-next-one-of-many")
        assert status == 503 and str(tmp_path) not in text
    assert (
        f"{file} can be read by others" in caplog.text
        and SECRET not in caplog.text
        and "the-next-one" not in caplog.text
    )


# --- what nobody can make it hold -----------------------------------------------------------------


def sent(web: Web, head: bytes, body: bytes = b"") -> bytes:
    """What comes back for these bytes, until the other side has closed."""
    with socket.create_connection(("127.0.0.1", port_of(web)), timeout=60) as raw:
        raw.sendall(head + body)
        found = b""
        while chunk := raw.recv(65536):
            found += chunk
        return found


def until_held(web: Web, size: int) -> None:
    """The listener has so many bytes of large bodies under way."""
    ends = time.monotonic() + 60
    while sum(request_limits._held(channel) for channel in list(web._map.values())) != size:
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_push_as_large_as_github_makes_them_is_taken_and_a_larger_one_refused_unread(
    board: FixedBoard,
) -> None:
    body = json.dumps({**EVENT, "filler": "x"}).encode()
    body = body.replace(
        b'"filler": "x"', b'"filler": "' + b"x" * (MAX_BODY_BYTES - len(body) + 1) + b'"'
    )
    assert len(body) == MAX_BODY_BYTES
    with listening(board) as web:
        assert (
            post(web, None, body=body)[0] == 202
            and board.push_trigger.received[0][0].repo == "acme/infra"
        )
        assert post(web, None, body=body, secret="another")[0] == 401
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        assert sent(web, head % (b"/github", MAX_BODY_BYTES + 1)).split()[1] == b"413"
        assert sent(web, head % (b"/", MAX_REQUEST_BODY_BYTES + 1)).split()[1] == b"413", (
            "anywhere else a body stays small"
        )
        assert (
            sent(
                web,
                (head % (b"/github", MAX_BODY_BYTES + 1)).replace(
                    b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"
                ),
            ).split()[1]
            == b"413"
        ), "nor is it asked for"
        chunked = b"POST /github HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (
            sent(
                web,
                chunked,
                b"%x\r\n%s\r\n" % (MAX_REQUEST_BODY_BYTES, b"x" * MAX_REQUEST_BODY_BYTES),
            ).split()[1]
            == b"413"
        ), "so does one whose length nobody told"


def test_many_large_bodies_at_once_are_not_taken_in_and_small_ones_pass_them_by(
    board: FixedBoard,
) -> None:
    head = (
        b"POST /github HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % MAX_BODY_BYTES
    )
    with listening(board) as web:
        waiting = [
            socket.create_connection(("127.0.0.1", port_of(web)), timeout=60)
            for _ in range(request_limits.MAX_CONCURRENT_BODY_BYTES // MAX_BODY_BYTES)
        ]
        try:
            for one in waiting:
                one.sendall(head + b"x")
            until_held(web, request_limits.MAX_CONCURRENT_BODY_BYTES)
            assert (
                sent(web, head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).split()[1]
                == b"503"
            )
            assert (
                sent(
                    web,
                    head.replace(
                        b"\r\n\r\n", b"\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
                    ),
                ).split()[1]
                == b"503"
            )
            assert post(web, EVENT)[0] == 202
            for one in waiting:
                one.setblocking(False)
                with pytest.raises(BlockingIOError):
                    one.recv(1)
        finally:
            for one in waiting:
                one.close()


def test_a_delivery_that_drips_in_is_ended_and_keeps_nobody_waiting(
    board: FixedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(board) as web:
        dripping = [
            socket.create_connection(("127.0.0.1", port_of(web)), timeout=60) for _ in range(40)
        ]
        over = threading.Event()

        def drip() -> None:
            while not over.wait(0.1):
                for one in dripping:
                    try:
                        one.send(b"x")
                    except OSError:
                        return

        for number, one in enumerate(dripping):
            one.sendall(
                b"POST /github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
                if number % 2
                else b"POST /github HTTP/1.1\r\nX: "
            )
        thread = threading.Thread(target=drip)
        thread.start()
        assert post(web, EVENT)[0] == 202
        monkeypatch.setattr(
            request_limits, "REQUEST_TIMEOUT_SECONDS", 0.3
        )  # for what is there already
        for one in dripping:
            with suppress(ConnectionResetError):
                assert one.recv(100) == b""
        over.set()
        thread.join()
        for one in dripping:
            one.close()
        monkeypatch.setattr(request_limits, "REQUEST_TIMEOUT_SECONDS", 10.0)
        assert post(web, {**EVENT, "after": "all"})[0] == 202


def test_forged_deliveries_start_nothing_and_fill_no_log(
    board: FixedBoard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = json.dumps(EVENT).encode()
    with listening(board) as web:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(web), timeout=60)
        for _ in range(FORGED):
            connection.request("POST", "/github", body, headers_of(body, secret="another"))
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:8]) == (401, b"refused:")
        connection.close()
    assert board.push_trigger.received == [] and len(board.push_trigger.rejections) == FORGED
    assert len([record for record in caplog.records if record.name == "syncd.web.webhook"]) <= 3, (
        "one a minute, and a machine may be slow"
    )


def test_header_tricks_do_not_reach_the_page_or_another_answer(board: FixedBoard) -> None:
    with listening(board) as web:
        for head in (
            (
                b"POST /github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
                b"Content-Length: 3\r\n\r\n{}"
            ),
            b"POST /github HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            (
                b"POST /github HTTP/1.1\r\nHost: localhost\r\nX-GitHub-Event: a\rb\r\n"
                b"Content-Length: 0\r\n\r\n"
            ),
            b"POST /github HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        ):
            assert sent(
                web, head.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close")
            ).split()[1] in (b"400", b"501")
        assert ask(web, "/healthz").status == 200 and board.push_trigger.received == []


def test_closing_in_the_middle_of_a_delivery_leaves_nothing_open(board: FixedBoard) -> None:
    with listening(board) as web:
        one = socket.create_connection(("127.0.0.1", port_of(web)), timeout=60)
        one.sendall(
            b"POST /github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
            + b"x" * 1_000_000
        )
        until_held(web, 2_000_000)
        one.close()
        until_held(web, 0)


def test_hundreds_of_connections_that_bring_nothing_give_way_to_a_delivery_that_does(
    board: FixedBoard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More than the listener takes, and none of them overdue by itself."""
    monkeypatch.setattr(request_limits, "MAX_CONNECTIONS", 100)
    monkeypatch.setattr(request_limits, "REQUEST_TIMEOUT_SECONDS", 1e9)
    monkeypatch.setattr(request_limits, "CROWDED_TIMEOUT_SECONDS", 0.5)
    begun = (
        b"",
        b"POST /github HTTP/1.1\r\nX: ",
        b"POST /github HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nx",
    )
    with listening(board) as web:
        crowd = [
            socket.create_connection(("127.0.0.1", port_of(web)), timeout=60)
            for _ in range(2 * request_limits.MAX_CONNECTIONS)
        ]
        for number, one in enumerate(crowd):
            one.sendall(begun[number % 3])
        assert post(web, EVENT)[0] == 202
        for one in crowd:
            one.close()
    assert [
        record.getMessage()
        for record in caplog.records
        if "connection limit" in record.getMessage() and record.levelno >= logging.WARNING
    ] in (
        [],
        [
            (
                "total open connections reached the connection limit, no longer accepting new "
                "connections"
            )
        ],
    ), "said once a minute, by whichever test was first"


def test_a_delivery_is_answered_beside_hundreds_of_slow_senders_before_any_of_them_is_closed(
    board: FixedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "CROWDED_TIMEOUT_SECONDS", 1e9)
    with listening(board) as web, ExitStack() as held:
        for _ in range(250):
            one = socket.create_connection(("127.0.0.1", port_of(web)), timeout=60)
            held.enter_context(one)
            one.sendall(b"POST /github HTTP/1.1\r\nContent-Length: 60000\r\n\r\nx")
        assert post(web, EVENT)[0] == 202
        assert len(web.connections()) >= 250
        assert sys.getswitchinterval() < 0.001, "threads give way to the loop"
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_whatever_bytes_come_in_the_listener_answers_in_http_or_not_at_all_and_lives(
    board: FixedBoard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Mutated requests (SYNCD_HTTP_REQUESTS of them), each over a connection of its own: no answer
    of 500, and only what is signed rings.
    """
    body, form = json.dumps(EVENT).encode(), as_form(EVENT)
    seeds = []
    for one, kind, content in (
        (body, "push", "application/json"),
        (form, "push", "application/x-www-form-urlencoded"),
        (b"{}", "ping", "application/json"),
    ):
        head = "".join(
            f"{name}: {value}\r\n"
            for name, value in headers_of(one, kind, content_type=content).items()
        )
        seeds.append(
            (
                f"POST /github HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(one)}\r\n"
                "\r\n"
            ).encode()
            + one
        )
    seeds += [
        b"POST /github HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic eDp4\r\n\r\n",
        seeds[2] * 2,
    ]
    seen: Counter[int] = Counter()
    with listening(board, f"unix:{tmp_path}/web.sock") as web:  # so many ports no machine has
        for number, data in enumerate(mutated(seeds, HTTP_REQUESTS)):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.settimeout(60)
                raw.connect(f"{tmp_path}/web.sock")
                with suppress(OSError):  # it may have said enough before we have
                    raw.sendall(data)
                    raw.shutdown(socket.SHUT_WR)
                found = b""
                with suppress(ConnectionResetError):
                    while chunk := raw.recv(65536):
                        found += chunk
            assert found == b"" or (found.startswith(b"HTTP/1.") and found[9:12].isdigit()), (
                number,
                data,
                found,
            )
            seen[int(found[9:12] or b"0")] += 1
        assert ask(web, "/healthz").status == 200
    assert 500 not in seen and {200, 202, 400, 401} <= set(seen), seen
    assert (
        all(
            (push.repo, push.ref) == ("acme/infra", "refs/heads/main")
            for push, _, _ in board.push_trigger.received
        )
        and board.push_trigger.received
    )
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], (
        "no traceback"
    )
    print(
        f"{sum(seen.values())} requests:",
        *(f"{count} x {status or 'no answer'}" for status, count in seen.most_common()),
    )
