"""The table of bounds and the listener say the same:
a route or a key of `web:` without a row fails.
"""

from __future__ import annotations

import re
from pathlib import Path

from syncd.config.model import Web as WebConfig
from syncd.config.schema import WebModel
from syncd.redaction import Secret
from syncd.web import clients, failed_attempts, request_limits, server, views
from syncd.web.access import AccessControl, Names
from syncd.web.app import make_app
from syncd.web.failed_attempts import FailureLimits
from syncd.web.passwords import Passwords
from syncd.web.views import Views
from syncd.web.webhook import WebhookEndpoint
from tests.support.status_board import FixedBoard

ROOT = Path(__file__).resolve().parents[3]


def rows() -> dict[str, list[str]]:
    """The input of each row of the area "Web requests" -> its other cells."""
    text = (
        (ROOT / "docs/development/bounds.md")
        .read_text()
        .split("## Web requests")[1]
        .split("\n## ")[0]
    )
    cells = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return {first: rest for first, *rest in cells[1:]}


def test_every_route_of_the_listener_has_a_row_of_bounds() -> None:
    board = FixedBoard()
    hook = WebhookEndpoint("/github", lambda: Secret("x" * 16), board.push_trigger)
    passwords = Passwords(lambda: Secret("x" * 16), {})
    access = AccessControl(passwords, Names(False), FailureLimits())
    app = make_app(board, access, Views(lambda: 0), WebConfig("127.0.0.1:0", actions=True), hook)
    routes = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    assert routes == {
        "GET /",
        "GET /jobs/<name>",
        "GET /runs/<int:number>",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /api/v1/status",
        "GET /static/<path:filename>",
        "POST /github",
        "GET /login",
        "POST /login",
        "POST /logout",
        "POST /jobs/<name>/sync",
        "POST /jobs/<name>/pause",
        "POST /jobs/<name>/resume",
    }
    said = {first.strip("`") for first in rows()}
    assert routes - {"POST /github"} <= said and "POST` of the webhook's path" in said


def test_every_key_of_web_has_a_row_of_bounds() -> None:
    said = set(rows())
    assert [key for key in WebModel.model_fields if f"`web.{key}`" not in said] == []


def test_the_numbers_of_the_table_are_those_of_the_code() -> None:
    assert (
        request_limits.MAX_CONNECTIONS,
        clients.MAX_CONNECTIONS_PER_CLIENT,
        request_limits.CROWDED_CONNECTIONS,
        request_limits.MAX_UNREAD_CONNECTIONS,
    ) == (600, 20, 60, 100)
    assert (
        request_limits.REQUEST_TIMEOUT_SECONDS,
        request_limits.CLIENT_READ_TIMEOUT_SECONDS,
        request_limits.RESPONSE_TIMEOUT_SECONDS,
        request_limits.CROWDED_TIMEOUT_SECONDS,
    ) == (10, 10, 60, 1)
    assert (
        2 * request_limits.SEND_BUFFER_BYTES,
        request_limits.REQUEST_BUFFER_BYTES,
        server.MAX_HEADER_BYTES,
        server.MAX_REQUEST_BODY_BYTES,
    ) == (256 << 10, 128 << 10, 16 << 10, 64 << 10)
    assert (
        server.THREADS,
        views.MAX_CONCURRENT,
        views.MAX_CONCURRENT_PER_VIEW,
        views.CACHE_TIME_FACTOR,
        views.MAX_CACHE_SECONDS,
    ) == (
        8,
        5,
        2,
        4,
        5,
    )
    assert (views.MAX_PAGE_BYTES, views.MAX_UNREAD_BYTES, server.STALL_SECONDS) == (
        4 << 20,
        16 << 20,
        60,
    )
    assert (
        failed_attempts.CLIENT_BURST,
        failed_attempts.CLIENT_REFILL_SECONDS,
        failed_attempts.NEW_CLIENTS_BURST,
        failed_attempts.NEW_CLIENTS_REFILL_SECONDS,
    ) == (10, 6, 60, 0.2)
    assert (
        failed_attempts.FAILED_CLIENTS_BURST,
        failed_attempts.FAILED_CLIENTS_REFILL_SECONDS,
        failed_attempts.MAX_FAILED_CLIENTS,
        failed_attempts.MAX_KNOWN_CLIENTS,
    ) == (40, 0.5, 1024, 256)


def test_every_row_has_a_test_that_is_there() -> None:
    section = (ROOT / "docs/development/bounds.md").read_text().split("## Web requests")[1]
    listed = section.split("\nTests:\n")[1].split("\n\nNote")[0].split("\n## ")[0]
    items = [" ".join(item.split()) for item in listed.split("\n- ")[1:]]
    tests = dict(item.split(": `tests/", 1) for item in items)
    assert list(tests) == list(rows())
    for first, rest in tests.items():
        named = re.findall(r"`(tests/[a-z_/]+\.py)::(\w+)`", f"`tests/{rest}")
        assert named, f"{first} names no test"
        for file, name in named:
            assert f"def {name}(" in (ROOT / file).read_text(), f"{first}: {file}::{name}"
