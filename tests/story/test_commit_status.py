"""`report: {status: true}`: the result of a run is on the commit, written with a token of its own.

A status that can't be set delays nothing and fails nothing.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load_config
from syncd.models import RunReport, RunStatus
from syncd.notifications.sender import (
    WRITE_BURST,
    WRITE_INTERVAL_SECONDS,
    NotificationSender,
    next_write_at,
)
from syncd.simulator import faults
from syncd.store.store import FILE_NAME, SqliteStore
from tests.support.clock import FakeClock
from tests.support.sync_env import SyncEnv, app_with_known_key, sync_env


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    """An App for reading, and another one, `reporter`, that may only write statuses."""
    with sync_env(tmp_path) as made:
        key = made.folder / "reporter.pem"
        key.write_text(app_with_known_key(made.github, 777))
        key.chmod(0o600)
        installation = made.github.accounts.install(777, "acme", 7)
        installation.permissions = {"statuses": "write", "metadata": "read"}
        made.identities["reporter"] = {
            "app_id": "777",
            "private_key": str(key),
            "api": made.served.url,
        }
        made.write_config(**{"as": "ops", "report": {"status": True, "as": "reporter"}})
        yield made


def due_now(hub: SyncEnv) -> None:
    with closing(sqlite3.connect(hub.state / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE delivery SET paused_until = 0")


def statuses(hub: SyncEnv, commit: str | None = None) -> list[tuple[str, str]]:
    found = hub.repo.statuses.get(commit or hub.repo.head(), [])
    return [(one["state"], one["description"]) for one in found]


def test_an_applied_commit_gets_one_success_however_many_runs_see_it(hub: SyncEnv) -> None:
    for _ in range(3):
        assert hub.sync().code == 0
    assert statuses(hub) == [("success", "applied: 2 files")]
    [sent] = hub.repo.statuses[hub.repo.head()]
    import socket

    assert sent["context"] == f"syncd/{socket.gethostname()}/nginx"


def test_a_refused_commit_gets_its_reason_and_the_next_one_its_own_status(hub: SyncEnv) -> None:
    refuse = "import sys; sys.exit('bad' in open(sys.argv[1]).read())"
    hub.write_config(
        validate=[sys.executable, "-c", refuse, f"{{staged}}{hub.dest}/nginx.conf"],
        report={"status": True, "as": "reporter", "context": "deploy {job}"},
    )
    assert hub.sync().code == 0
    bad = hub.repo.commit({"nginx/nginx.conf": "bad\n"})
    for _ in range(2):
        hub.sync()
    [(state, description)] = statuses(hub, bad)
    assert state == "failure" and "validate" in description and len(description) <= 140
    good = hub.repo.commit({"nginx/nginx.conf": "good\n"})
    hub.sync()
    assert statuses(hub, good) == [("success", "applied: 2 files")]
    assert hub.repo.statuses[good][0]["context"] == "deploy nginx"


def test_a_pending_reload_is_pending_and_a_rollback_is_a_failure(hub: SyncEnv) -> None:
    first = hub.repo.head()
    assert hub.sync().code == 0
    hub.write_config(on_change="false")
    second = hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    [(state, description)] = statuses(hub, second)
    assert state == "failure" and "on_change" in description
    hub.write_config(on_change="true")
    hub.sync()
    assert statuses(hub, second)[-1][0] == "success"
    assert hub.call("rollback", "nginx").code == 0
    assert hub.sync().code == 0
    assert statuses(hub, first) == [("success", "applied: 2 files")]


def test_the_token_that_reads_never_writes_and_the_one_that_writes_never_reads(
    hub: SyncEnv,
) -> None:
    for content in ("two\n", "three\n"):
        hub.repo.commit({"nginx/nginx.conf": content})
        assert hub.call("sync").code == 0
    by_route: dict[str, set[str | None]] = {}
    for one in hub.github.requests:
        by_route.setdefault(one.route, set()).add(one.credential)
    writers = by_route.pop("status")
    del by_route["token"], by_route["installation"]
    assert writers and not writers & set().union(*by_route.values())
    accounts = hub.github.accounts
    for token in writers:
        assert dict(accounts.credentials[str(token)].permissions or {}) == {
            "statuses": "write",
            "metadata": "read",
        }


def test_one_app_may_do_both_with_two_tokens(hub: SyncEnv) -> None:
    hub.github.accounts.installations[42].permissions["statuses"] = "write"
    hub.write_config(report={"status": True, "as": "ops"})
    assert hub.sync().code == 0 and statuses(hub) == [("success", "applied: 2 files")]
    reading = {one.credential for one in hub.github.requests if one.route in ("head", "contents")}
    writing = {one.credential for one in hub.github.requests if one.route == "status"}
    assert len(reading) == len(writing) == 1 and reading != writing


@pytest.mark.parametrize(
    ("effect", "problem"),
    [
        (faults.status(500), "500"),
        (faults.status(422), "422"),
        (faults.reset(), "lost"),
    ],
)
def test_a_status_that_cant_be_set_fails_no_job_and_is_set_later(
    hub: SyncEnv, effect: Any, problem: str
) -> None:
    made = hub.github.add_fault("status", effect, times=1)
    for _ in range(3):
        assert hub.call("sync").code == 0
    print([(one.route, one.method, one.status) for one in hub.github.requests])
    assert hub.github.count("status") == 1, "one attempt in a pause"
    told = hub.call("status", "--json").json["notifications"]
    assert [one["endpoint"] for one in told] == ["status:reporter"] and told[0]["waiting"] == 1
    assert made.times == 0
    due_now(hub)
    assert hub.sync().code == 0 and hub.github.count("status", 201) == 1


def test_without_the_permission_the_message_names_it(hub: SyncEnv) -> None:
    hub.github.accounts.installations[7].permissions = {"metadata": "read"}
    assert hub.sync().code == 0 and statuses(hub) == []
    [told] = hub.call("status", "--json").json["notifications"]
    assert "permissions requested are not granted" in told["error"]


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ({"status": True}, "status: true needs 'as'"),
        ({"status": True, "as": "reportr"}, "there is no identity 'reportr' under github:"),
        ({"status": True, "as": "nobody"}, "'nobody' is anonymous"),
        ({"status": True, "as": "pat"}, "'pat' has one token, with which jobs read"),
        ({"status": True, "as": "reporter", "context": "{repo}"}, "is no context"),
    ],
)
def test_mistakes_in_report_are_named(hub: SyncEnv, report: Any, problem: str) -> None:
    token = hub.folder / "token"
    token.write_text("ghp_personal00000000000000000000000000")
    token.chmod(0o600)
    hub.identities |= {
        "nobody": {"anonymous": "true"},
        "pat": {"token": {"file": str(token)}, "api": hub.served.url},
    }
    hub.jobs["other"] = {
        **hub.jobs["nginx"],
        "as": "pat",
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/other/"}],
    }
    del hub.jobs["other"]["report"]
    hub.write_config(report=report)
    said = hub.call("check")
    assert said.code == 2 and problem in said.err


# --- limits ---------------------------------------------------------------------------------------


class Outbox:
    """A sender over a store, at a time that the test moves."""

    def __init__(self, hub: SyncEnv, store: SqliteStore) -> None:
        self.clock, self.sent = FakeClock(), []  # type: ignore[var-annotated]
        self.problem: tuple[str | None, float | None] = (None, None)
        self.attempts = 0
        config = load_config(hub.config, {"HOME": str(hub.folder)})
        self.sender = NotificationSender(
            config,
            store,
            self.clock,
            {},
            lambda address: None,
            self._send,
            lambda: 1.0,  # type: ignore[arg-type, return-value]
        )

    def _send(self, identity: str, body: str) -> tuple[str, str | None, float | None]:
        self.attempts += 1
        if self.problem[0] is None:
            self.sent.append((self.clock.now().timestamp(), json.loads(body)))
        return "api.github.com", *self.problem

    def applied(self, number: int) -> None:
        commit = name_of(number)
        self.sender.notify(
            RunReport(
                "nginx", RunStatus.FAILED, "acme/infra", "main", commit, None, error=_error(commit)
            )
        )

    def run(self, seconds: float, step: float = 1.0) -> None:
        for _ in range(int(seconds / step)):
            self.sender.send_due()
            self.clock.advance(step)


def name_of(number: int) -> str:
    """A commit id that begins with the number."""
    return f"{number:012x}".ljust(40, "0")


def _error(commit: str) -> Any:
    from syncd.errors import UntrustedError

    return UntrustedError("refused", commit=commit)


@pytest.fixture
def outbox(hub: SyncEnv) -> Iterator[Outbox]:
    hub.sync()
    store = SqliteStore.open(hub.state)
    yield Outbox(hub, store)
    store.close()


def test_the_limits_of_github_hold_for_many_commits(outbox: Outbox) -> None:
    for number in range(560):
        outbox.applied(number)
    outbox.run(2 * 3600, step=5.0)
    times = [at for at, _ in outbox.sent]
    assert len(times) == 560, "nothing is lost"
    for seconds, most in ((60, 80), (3600, 500)):
        assert max(sum(at <= one < at + seconds for one in times) for at in times) <= most


def test_a_github_that_is_down_for_a_day_gets_few_attempts_and_loses_nothing(
    outbox: Outbox,
) -> None:
    outbox.problem = ("answered 502", None)
    outbox.applied(1)
    outbox.run(23 * 3600, step=60.0)
    assert outbox.sent == [] and outbox.attempts < 40
    outbox.applied(2)
    outbox.problem = (None, None)
    outbox.run(2 * 3600, step=60.0)
    assert sorted(body["commit"] for _, body in outbox.sent) == [name_of(1), name_of(2)]


def test_statuses_of_one_commit_are_joined_while_they_wait(outbox: Outbox) -> None:
    outbox.problem = ("answered 403", 600.0)
    outbox.applied(1)
    outbox.run(10)
    outbox.sender.notify(
        RunReport(
            "nginx", RunStatus.CHANGED, "acme/infra", "main", name_of(1), None, reload_pending=True
        )
    )
    outbox.problem = (None, None)
    outbox.run(300)
    assert outbox.sent == [], "GitHub's own pause holds"
    outbox.run(400)
    assert [body["state"] for _, body in outbox.sent] == ["pending"]


@pytest.mark.parametrize(
    ("paused_until", "now", "expected"),
    [
        (None, 1000.0, 1000.0 - (WRITE_BURST - 1) * WRITE_INTERVAL_SECONDS),
        (1000.0 - 100.0, 1000.0, 900.0 + WRITE_INTERVAL_SECONDS),
        (1000.0, 1000.0, 1000.0 + WRITE_INTERVAL_SECONDS),
        (99999.0, 1000.0, 1000.0 + WRITE_INTERVAL_SECONDS),
    ],
)
def test_the_next_write_waits_once_a_burst_is_used_up(
    paused_until: float | None, now: float, expected: float
) -> None:
    assert next_write_at(paused_until, now) == pytest.approx(expected)
