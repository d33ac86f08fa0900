"""`installations` lists what each identity reaches; and a token that somebody made says when it
ends, which is told two weeks ahead.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.simulator import faults
from tests.support.sync_env import SyncEnv, sync_env

DAY = 86_400.0


def test_an_apps_installations_are_listed_with_what_they_may_and_reach_and_no_token_is_left(
    hub: SyncEnv,
) -> None:
    hub.github.add_repo("acme/web", {"f": "x"})
    hub.github.add_repo("umbrella/site", {"f": "x"})
    hub.github.accounts.install(12345, "umbrella", 77, ["site"])
    hub.github.accounts.install(12345, "asleep", 78).suspended = True
    hub.github.accounts.install(12345, "blind", 79).permissions.pop("contents")
    done = hub.call("installations", "ops")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "ops: App acme-ops (12345) on "
        + hub.served.url.removeprefix("http://")
        + ", 4 installations",
        "  42  acme: all repositories, contents: read",
        "    acme/infra  (of a job)",
        "    acme/web",
        "  77  umbrella: selected repositories, contents: read",
        "    umbrella/site",
        "  78  asleep: all repositories, contents: read  SUSPENDED",
        "    → an owner of the account can unsuspend it under Settings → Applications",
        "  79  blind: all repositories",
        (
            "    → it may not read contents: grant the App contents: read, and let an owner of the "
            "account accept it"
        ),
        (
            "    ✕ GitHub answered 422 to the request for a token of installation 79 (The "
            "permissions requested are not granted to this installation.)"
        ),
    ]
    assert all(
        one.revoked
        for one in hub.github.accounts.credentials.values()
        if one.kind == "installation"
    )
    assert not hub.state.exists()


def test_a_repository_of_a_job_that_is_in_no_installation_is_named(hub: SyncEnv) -> None:
    hub.github.accounts.installations[42].repositories = ["other"]
    done = hub.call("installations")
    assert done.code == 0 and "✕ acme/infra (of a job) is in none of them" in done.out


def test_more_than_a_page_of_installations_and_repositories_is_listed_whole(hub: SyncEnv) -> None:
    for number in range(130):
        hub.github.add_repo(f"acme/r{number:03d}", {})
    for number in range(120):
        hub.github.accounts.install(12345, f"org{number}", 1000 + number).suspended = True
    done = hub.call("installations", "ops")
    assert (
        done.code == 0
        and "121 installations" in done.out
        and done.out.count("acme/r") == 130
        and done.out.count("SUSPENDED") == 120
    )


def test_an_app_that_is_installed_nowhere_says_where_to_install_it(hub: SyncEnv) -> None:
    hub.github.accounts.installations.clear()
    done = hub.call("installations")
    assert (
        done.code == 0
        and "0 installations" in done.out
        and "/apps/acme-ops/installations/new" in done.out
    )


def test_a_wrong_key_and_a_host_in_trouble_have_their_exits(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    hub.github.add_fault("app", faults.status(502), times=99)
    assert hub.call("installations").code == 5
    hub.github.faults.clear()
    hub.github.accounts.apps["12345"].public_keys.clear()
    done = hub.call("installations")
    assert done.code == 4 and "✕ ops (App 12345)" in done.err and "private key" in done.err
    hub.identities["public"] = {"anonymous": True, "api": hub.served.url}
    hub.jobs["nginx"]["as"] = "ops"
    hub.write()
    done = hub.call("installations")
    assert done.code == 3 and "public: anonymous; the public repositories of" in done.out


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"slug": 7}', b"<html>"], ids=repr)
def test_an_answer_that_makes_no_sense_is_named(hub: SyncEnv, body: bytes) -> None:
    hub.github.add_fault("app", lambda answer: type(answer)(200, {}, body), times=9)
    done = hub.call("installations")
    assert done.code == 5 and "Traceback" not in done.err


def test_an_unknown_name_is_a_mistake_with_a_suggestion(hub: SyncEnv) -> None:
    done = hub.call("installations", "opps")
    assert done.code == 2 and "did you mean 'ops'" in done.err


@pytest.fixture
def by_token(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        yield made


def test_a_token_says_whose_it_is(by_token: SyncEnv) -> None:
    done = by_token.call("installations")
    assert (
        done.code == 0
        and "ops: token of ada on 127.0.0.1" in done.out
        and "check --online" in done.out
    )


def test_a_users_login_lists_the_installations_that_its_user_reaches(by_token: SyncEnv) -> None:
    from tests.support.sync_env import app_with_known_key

    app_with_known_key(by_token.github, 12345)
    by_token.github.accounts.install(12345, "acme", 42)
    by_token.canary.spared.add(by_token.state / "logins" / "me.json")
    by_token.github.oauth.add_client("Iv23li12345")
    by_token.github.oauth.interval = 0
    by_token.identities = {
        "me": {"login": {"client_id": "Iv23li12345"}, "api": by_token.served.url}
    }
    by_token.write()
    by_token.github.oauth.on_device = lambda device: setattr(device, "login", "ada")
    assert by_token.call("installations").code == 4
    by_token.github.add_fault(
        "device",
        lambda answer: type(answer)(
            200, answer.headers, json.dumps({**json.loads(answer.body), "interval": 0.01}).encode()
        ),
    )
    assert by_token.call("login", "me").code == 0
    done = by_token.call("installations", "me")
    assert (
        done.code == 0
        and "me: login of ada" in done.out
        and "42  acme: all repositories" in done.out
        and "acme/infra  (of a job)" in done.out
    ), done.err


# --- when a token ends ----------------------------------------------------------------------------


def rows(hub: SyncEnv, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{hub.state}/syncd.db?mode=ro", uri=True)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def ends_in(hub: SyncEnv, days: float) -> str:
    at = time.time() + days * DAY
    for one in hub.github.accounts.credentials.values():
        one.expires = at
    return f"{datetime.fromtimestamp(int(at), UTC):%Y-%m-%d}"


def test_a_token_that_ends_within_two_weeks_is_told_by_status_and_doctor(by_token: SyncEnv) -> None:
    day = ends_in(by_token, 9.5)
    assert by_token.sync().code == 0
    warned = (
        f"! ops: the token ends on {day}, in 9 days; make a new one and put it in the old one's "
        "place; no restart is needed"
    )
    assert warned in by_token.call("status").err and warned in by_token.call("status", "--json").err
    assert f"! expiry        ops: the token ends on {day}, in 9 days" in by_token.call("doctor").out
    ends_in(by_token, 15)
    by_token.repo.commit({"nginx/nginx.conf": "two\n"})
    assert by_token.sync().code == 0 and "ends" not in by_token.call("status").err
    assert "✓ expiry        ops: the token ends on" in by_token.call("doctor").out


def test_a_token_that_was_replaced_by_one_that_does_not_end_is_no_matter_any_more(
    by_token: SyncEnv,
) -> None:
    ends_in(by_token, 0.5)
    by_token.sync()
    assert "in less than a day" in by_token.call("status").err
    by_token.github.accounts.add_personal_token("ghp_endless000000000000000000000000000")
    (by_token.folder / "token").write_text("ghp_endless000000000000000000000000000")
    by_token.repo.commit({"nginx/nginx.conf": "two\n"})
    by_token.sync()
    assert "ends" not in by_token.call("status").err and rows(by_token, "token_expiry") == []


def test_the_end_is_a_value_of_the_workshop_for_whoever_shows_it(by_token: SyncEnv) -> None:
    from syncd.config.load import load_config
    from syncd.wiring import AppContext

    day = ends_in(by_token, 40)
    by_token.sync()
    app = AppContext.open(load_config(by_token.config, {}), {})
    try:
        assert f"{app.token_expiries()['ops']:%Y-%m-%d}" == day
    finally:
        app.close()
