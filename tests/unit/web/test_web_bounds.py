"""The table of bounds and the listener say the same: a route or a key of `web:` without a row fails."""

from __future__ import annotations

import re
from pathlib import Path

from syncd.config.schema import WebModel
from syncd.redaction import Secret
from syncd.web import clients, failed_attempts, request_limits, server, views
from syncd.web.app import AccessControl, make_app
from syncd.web.failed_attempts import FailureLimits
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
    app = make_app(board, AccessControl(None, True, FailureLimits()), Views(lambda: 0), True, hook)
    routes = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    assert routes == {
        "GET /",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /api/v1/status",
        "GET /static/<path:filename>",
        "POST /github",
    }
    said = {first.strip("`") for first in rows()}
    assert routes - {"POST /github"} <= said and "POST` of the webhook's path" in said


def test_every_key_of_web_has_a_row_of_bounds() -> None:
    said = set(rows())
    assert [key for key in WebModel.model_fields if f"`web.{key}`" not in said] == []


def test_the_numbers_of_the_table_are_those_of_the_code() -> None:
    assert (request_limits.CONNECTIONS, clients.CONNECTIONS_EACH, request_limits.CROWD) == (
        100,
        20,
        60,
    )
    assert (
        request_limits.WHOLE_SECONDS,
        request_limits.UNREAD_SECONDS,
        request_limits.ANSWER_SECONDS,
        request_limits.CROWDED_SECONDS,
    ) == (10, 10, 60, 1)
    assert (
        2 * request_limits.SENDING_BYTES,
        request_limits.INCOMING_BYTES,
        server.LARGEST_HEAD,
        server.LARGEST_BODY,
    ) == (256 << 10, 128 << 10, 16 << 10, 64 << 10)
    assert (server.THREADS, views.AT_ONCE, views.EACH_AT_ONCE, views.SHARE, views.KEPT_SECONDS) == (
        8,
        5,
        2,
        4,
        5,
    )
    assert (views.LARGEST_BYTES, views.UNREAD_BYTES, server.FROZEN_SECONDS) == (
        4 << 20,
        16 << 20,
        60,
    )
    assert (
        failed_attempts.EACH_AT_ONCE,
        failed_attempts.EACH_SECONDS,
        failed_attempts.NEW_AT_ONCE,
        failed_attempts.NEW_SECONDS,
    ) == (10, 6, 60, 0.2)
    assert (
        failed_attempts.ALL_AT_ONCE,
        failed_attempts.ALL_SECONDS,
        failed_attempts.REMEMBERED,
        failed_attempts.KNOWN,
    ) == (40, 0.5, 1024, 256)


def test_every_test_of_the_table_is_there() -> None:
    for first, cells in rows().items():
        named = re.findall(r"`(tests/[a-z_/]+\.py)::(\w+)`", cells[-1])
        assert named, f"{first} names no test"
        for file, name in named:
            assert f"def {name}(" in (ROOT / file).read_text(), f"{first}: {file}::{name}"
