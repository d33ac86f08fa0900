"""A user logs in, is renewed and logs out, over real sockets: what is shown, what is kept and how,
and what GitHub may answer on the way.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.github.urls import web_origin
from syncd.identities import LoginIdentity
from syncd.simulator import faults
from syncd.simulator.faults import Answer
from syncd.simulator.oauth import Device
from tests.support.fast_clock import PassingClock
from tests.support.sync_env import CommandResult, SyncEnv, sync_env

CLIENT = "Iv23liAcmeOps"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    """A stand whose one job reads as a user of a GitHub App; nobody is logged in yet."""
    with sync_env(tmp_path, as_app=False) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        made.github.oauth.add_client(CLIENT)
        made.identities = {"me": {"login": {"client_id": CLIENT}, "api": made.served.url}}
        made.write()
        made.canary.spared.add(kept(made))  # the one file that a login is kept in
        yield made


def log_in(hub: SyncEnv, *options: str, polls: int = 1, login: str = "ada") -> CommandResult:
    """Somebody enters the code just before the nth time that we ask."""
    hub.github.call_before(
        "poll",
        hub.github.count("poll") + polls,
        lambda: [
            hub.github.oauth.approve(device.user_code, login)
            for device in hub.github.oauth.devices.values()
        ],
    )
    return hub.call("login", "me", *options)


def kept(hub: SyncEnv) -> Path:
    return hub.state / "logins" / "me.json"


def test_a_code_and_an_address_are_shown_and_the_tokens_are_kept_for_their_owner_alone(
    hub: SyncEnv,
) -> None:
    done = log_in(hub, polls=3)
    assert done.code == 0, done.err
    shown = re.search(
        (
            rf"Open {re.escape(hub.served.url)}/login/device in any browser and enter the code "
            r"(\w{4}-\w{4})"
        ),
        done.err,
    )
    assert (
        shown
        and "logged in to 127.0.0.1" in done.out
        and "as ada" in done.out
        and "syncd logout me" in done.out
    )
    assert (
        stat.S_IMODE(kept(hub).stat().st_mode) == 0o600
        and stat.S_IMODE(kept(hub).parent.stat().st_mode) == 0o700
    )
    secrets = [one.value for one in hub.github.accounts.credentials.values()] + list(
        hub.github.oauth.refreshes
    )
    assert not any(secret in done.out + done.err for secret in secrets)
    assert hub.sync().code == 0 and len(hub.tree()) == 2
    assert {one.credential for one in hub.github.requests} == {secrets[-2]}


@pytest.mark.docs
def test_the_page_shows_what_login_prints(hub: SyncEnv) -> None:
    page = (Path(__file__).parents[2] / "docs/authentication.md").read_text()
    [shown] = re.findall(r"^\$ syncd login me\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    done = log_in(hub)
    printed = (done.err + done.out).replace(hub.served.url, "https://github.com")
    printed = re.sub(r"logged in to \S+", "logged in to github.com", printed)
    printed = printed.replace(str(hub.state), "/var/lib/syncd")
    assert re.sub(r"\w{4}-\w{4}\n", "CODE\n", printed) == re.sub(r"\w{4}-\w{4}\n", "CODE\n", shown)


def test_it_is_asked_no_faster_than_github_allows_and_slower_when_it_says_so(
    hub: SyncEnv, clock: PassingClock
) -> None:
    log_in(hub, polls=4)
    assert clock.waits == [6.0] * 4 and hub.github.count("poll") == 4
    clock.waits.clear()
    hub.github.add_fault(
        "poll",
        lambda answer: Answer(200, answer.headers, b'{"error":"slow_down","interval":10}'),
        times=1,
        skip=1,
    )
    log_in(hub, polls=4)
    assert clock.waits == [6.0, 6.0, 14.0, 14.0]


def test_a_server_that_gives_no_new_interval_is_given_five_seconds_more(
    hub: SyncEnv, clock: PassingClock
) -> None:
    hub.github.add_fault(
        "poll", lambda answer: Answer(200, answer.headers, b"error=slow_down"), times=1
    )
    assert log_in(hub, polls=2).code == 0 and clock.waits == [6.0, 14.0]


def denied(hub: SyncEnv) -> None:
    hub.github.oauth.on_device = lambda device: setattr(device, "denied", True)


def expired_with(word: str) -> Callable[[SyncEnv], None]:
    def happen(hub: SyncEnv) -> None:
        hub.github.oauth.expired_word = word
        hub.github.oauth.on_device = lambda device: setattr(device, "expires", 0.0)

    return happen


def disabled_with(status: int) -> Callable[[SyncEnv], None]:
    def happen(hub: SyncEnv) -> None:
        hub.github.oauth.clients[CLIENT].device_flow = False
        hub.github.oauth.disabled_status = status

    return happen


def forgotten(hub: SyncEnv) -> None:
    hub.github.oauth.on_device = lambda device: hub.github.call_before(
        "poll", hub.github.count("poll") + 1, lambda: hub.github.oauth.devices.clear()
    )


def saying(word: str) -> Callable[[SyncEnv], None]:
    return lambda hub: (
        hub.github.add_fault(
            "poll",
            lambda answer: Answer(
                200,
                answer.headers,
                json.dumps({"error": word, "error_description": "so it is"}).encode(),
            ),
            times=99,
        ),
        None,
    )[1]


# what happens -> (what is said, what is to be done)
REFUSALS: dict[str, tuple[Callable[[SyncEnv], None], str, str]] = {
    "declined": (denied, "it was declined in the browser", "syncd login me"),
    "nobody came": (lambda hub: None, "the code was not entered in time", "syncd login me"),
    "expired": (
        expired_with("expired_token"),
        "the code was not entered in time",
        "syncd login me",
    ),
    "expired, by its other name": (
        expired_with("token_expired"),
        "the code was not entered in time",
        "syncd login me",
    ),
    "no device flow": (
        disabled_with(200),
        "does not allow the device flow",
        "tick Enable Device Flow",
    ),
    "no device flow, as HTTP 400": (
        disabled_with(400),
        "does not allow the device flow",
        "tick Enable Device Flow",
    ),
    "an unknown app": (
        lambda hub: hub.github.oauth.clients.clear(),
        "knows no app with the client id",
        "not the app id",
    ),
    "a forgotten code": (forgotten, "does not know the code", "syncd login me"),
    "another way of logging in": (
        saying("unsupported_grant_type"),
        "does not know this way",
        "Enterprise Server",
    ),
    "an app that is not one": (
        saying("incorrect_client_credentials"),
        "knows no app",
        "client_id:",
    ),
    "a word nobody knows": (saying("too_late\u001b[31m"), "too_late", "syncd login me"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_github_answers_instead_is_called_by_its_name_and_nothing_is_kept(
    hub: SyncEnv, name: str
) -> None:
    happen, said, hint = REFUSALS[name]
    happen(hub)
    done = hub.call("login", "me")
    assert done.code == 4 and said in done.err and hint in done.err and "\x1b" not in done.err, (
        done.err
    )
    assert not kept(hub).exists() and "Traceback" not in done.err
    assert hub.github.count("poll") <= 151, "no faster than once in six seconds"


@pytest.mark.parametrize("wrong", ["502", "reset"])
def test_a_hiccup_while_waiting_costs_no_new_code(hub: SyncEnv, wrong: str) -> None:
    hub.github.add_fault("poll", faults.status(502) if wrong == "502" else faults.reset(), times=9)
    assert log_in(hub, polls=12).code == 0 and hub.github.count("device") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in</html>",
        b"{}",
        b"[]",
        b'{"device_code": 7, "user_code": "A"}',
        b'{"device_code": "x"}',
        b"nonsense",
    ],
    ids=repr,
)
def test_an_answer_that_is_no_code_is_named(hub: SyncEnv, body: bytes) -> None:
    hub.github.add_fault("device", lambda answer: Answer(200, {}, body), times=9)
    done = hub.call("login", "me")
    assert done.code == 5 and "check api:" in done.err and "Traceback" not in done.err, done.err


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/login/device",
        "javascript:alert(1)",
        7,
        None,
        "{web}.evil.example/x",
        "{web}/login/device\u001b[2J",
    ],
)
def test_an_address_that_is_not_the_hosts_own_is_not_shown(hub: SyncEnv, address: Any) -> None:
    text = address.replace("{web}", hub.served.url) if isinstance(address, str) else address

    def elsewhere(answer: Answer) -> Answer:
        return Answer(
            200,
            answer.headers,
            json.dumps({**json.loads(answer.body), "verification_uri": text}).encode(),
        )

    hub.github.add_fault("device", elsewhere)
    done = log_in(hub)
    assert (
        done.code == 0
        and f"Open {hub.served.url}/login/device in" in done.err
        and "evil" not in done.err
        and "\x1b[2J" not in done.err
    )


def test_an_oauth_app_is_asked_for_its_scope_and_its_token_needs_no_renewing(hub: SyncEnv) -> None:
    hub.github.oauth.add_client(CLIENT, expiring=False, kind="gho")
    seen: list[Device] = []
    hub.github.oauth.on_device = seen.append
    done = log_in(hub)
    assert done.code == 0 and seen[-1].scope == "repo" and "renewed" not in done.out
    assert json.loads(kept(hub).read_text())["refresh"] is None
    assert hub.sync().code == 0
    log_in(hub, "--scope", "")
    assert seen[-1].scope == ""


def test_form_encoded_answers_are_understood(hub: SyncEnv) -> None:
    hub.github.add_fault(
        "device",
        lambda answer: Answer(
            200,
            {},
            "&".join(f"{key}={value}" for key, value in json.loads(answer.body).items()).encode(),
        ),
    )
    assert log_in(hub).code == 0


def test_nobody_logged_in_is_a_state_of_the_job_that_says_what_to_type_and_costs_no_request(
    hub: SyncEnv,
) -> None:
    done = hub.sync()
    assert done.code == 4 and done.job["error"] == {
        "kind": "auth",
        "id": "auth/not-logged-in",
        "message": "no user is logged in as me",
        "hint": "run: syncd login me",
    }
    assert hub.github.count() == 0
    assert "no user is logged in as me" in hub.call("status").out
    assert log_in(hub).code == 0
    assert hub.sync().code == 0 and hub.call("status").code == 0


def test_a_login_is_only_for_an_identity_that_is_one(hub: SyncEnv) -> None:
    hub.identities["bot"] = {"anonymous": True}
    hub.jobs["nginx"]["as"] = "me"
    hub.write()
    assert hub.call("login", "bot").code == 2 and "is no login" in hub.call("login", "bot").err
    assert (
        "did you mean 'bot'" in hub.call("login", "bots").err
        and hub.call("logout", "bot").code == 2
    )


# --- renewed --------------------------------------------------------------------------------------


def test_a_token_near_its_end_is_renewed_once_and_the_new_pair_is_kept(
    hub: SyncEnv, clock: PassingClock
) -> None:
    log_in(hub)
    before = json.loads(kept(hub).read_text())
    clock.advance(28_800 - 100)
    done = hub.sync()
    assert done.code == 0 and hub.github.count("refresh") == 1 and hub.github.count(status=401) == 0
    after = json.loads(kept(hub).read_text())
    assert (
        after["refresh"] != before["refresh"]
        and after["login"] == "ada"
        and stat.S_IMODE(kept(hub).stat().st_mode) == 0o600
    )
    assert sorted(os.listdir(kept(hub).parent)) == ["me.json", "me.lock"]
    assert hub.sync().code == 0 and hub.github.count("refresh") == 0


def test_a_token_that_was_revoked_is_renewed_and_the_run_goes_on(hub: SyncEnv) -> None:
    log_in(hub)

    def revoke() -> None:
        for one in hub.github.accounts.credentials.values():
            one.revoked = True

    hub.github.call_before("contents", 2, revoke)
    done = hub.sync()
    assert done.code == 0 and len(hub.tree()) == 2 and hub.github.count("refresh") == 1


def test_a_login_that_its_user_ended_says_so_and_asks_once(
    hub: SyncEnv, clock: PassingClock
) -> None:
    log_in(hub)
    for one in hub.github.accounts.credentials.values():
        one.revoked = True
    for pair in hub.github.oauth.refreshes.values():
        pair.expires = 0.0
    for number in range(5):
        hub.jobs[f"job{number}"] = {
            **hub.jobs["nginx"],
            "paths": [{"from": "nginx/", "to": f"{hub.folder}/d{number}/"}],
        }
    hub.write()
    done = hub.sync()
    assert done.code == 4 and {job["error"]["message"] for job in done.json["jobs"]} == {
        "the login of me is over: GitHub does not take its refresh token"
    }
    assert done.job["error"]["hint"] == "run: syncd login me" and hub.github.count("refresh") == 1
    assert log_in(hub).code == 0 and hub.sync().code == 0


def test_an_oauth_apps_token_that_was_revoked_says_so(hub: SyncEnv) -> None:
    hub.github.oauth.add_client(CLIENT, expiring=False, kind="gho")
    log_in(hub)
    for one in hub.github.accounts.credentials.values():
        one.revoked = True
    done = hub.sync()
    assert (
        done.code == 4
        and "the login of me is over" in done.job["error"]["message"]
        and hub.github.count() == 1
    )


def test_the_eleventh_login_elsewhere_ends_the_first_and_that_is_named(hub: SyncEnv) -> None:
    client = hub.github.oauth.add_client(CLIENT, expiring=False, kind="gho")
    log_in(hub)
    for _ in range(10):
        assert hub.sync().code == 0
        hub.github.oauth.issue(client, "ada", "repo", hub.github.now())
    done = hub.sync()
    assert done.code == 4 and "the login of me is over" in done.job["error"]["message"]


def test_a_pair_goes_to_no_other_host_and_no_other_app(hub: SyncEnv, tmp_path: Path) -> None:
    log_in(hub)
    hub.canary.spared.add(tmp_path / "other" / "token")
    with sync_env(tmp_path / "other", as_app=False) as other:
        hub.identities["me"]["api"] = other.served.url
        hub.write()
        done = hub.sync()
        assert (
            done.code == 4
            and "is for another host or app" in done.job["error"]["message"]
            and other.github.count() == 0
        )
    hub.identities["me"] = {"login": {"client_id": "Iv1.other"}, "api": hub.served.url}
    hub.write()
    assert hub.sync().code == 4 and hub.github.count() == 0


def test_a_renewal_whose_answer_was_lost_is_tried_again_and_named_when_it_was_the_last(
    hub: SyncEnv, clock: PassingClock
) -> None:
    log_in(hub)
    clock.advance(28_800)
    hub.github.add_fault("refresh", faults.reset(), times=1)
    done = hub.sync()
    assert (
        done.code == 4
        and "a renewal was cut off" in done.job["error"]["message"]
        and done.job["error"]["hint"] == "run: syncd login me"
    )
    assert log_in(hub).code == 0 and hub.sync().code == 0


def test_a_renewal_that_github_did_not_get_to_costs_nothing(
    hub: SyncEnv, clock: PassingClock
) -> None:
    log_in(hub)
    clock.advance(28_800)
    real, tries = hub.github.oauth.token, []

    def busy(fields: Any, now: float) -> dict[str, Any]:
        tries.append(now)
        if len(tries) <= 2:
            hub.github.faults[:] = []
            hub.github.add_fault("refresh", faults.status(503))
            return {"error": "busy"}
        return real(fields, now)

    hub.github.oauth.token = busy  # type: ignore[method-assign]
    assert hub.sync().code == 0 and len(tries) == 3


def test_a_kept_pair_that_others_can_read_is_not_used(hub: SyncEnv) -> None:
    log_in(hub)
    kept(hub).chmod(0o640)
    done = hub.sync()
    assert (
        done.code == 1
        and done.job["error"]["kind"] == "store"
        and "other users can read" in done.job["error"]["message"]
        and hub.github.count() == 0
    )
    assert (
        log_in(hub).code == 0
        and stat.S_IMODE(kept(hub).stat().st_mode) == 0o600
        and hub.sync().code == 0
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\0" * 16, b'{"format": 2}', b'{"format": 1, "api": 7}'],
    ids=repr,
)
def test_a_kept_pair_that_is_damaged_is_named_with_the_way_back(
    hub: SyncEnv, content: bytes
) -> None:
    log_in(hub)
    kept(hub).write_bytes(content)
    done = hub.sync()
    assert (
        done.code == 1
        and done.job["error"]["kind"] == "store"
        and "syncd login me" in done.job["error"]["hint"]
    )
    assert log_in(hub).code == 0 and hub.sync().code == 0


# --- leaving, looking -----------------------------------------------------------------------------


def test_logging_out_leaves_nothing_on_disk_and_says_what_is_left_to_do_on_the_web(
    hub: SyncEnv,
) -> None:
    log_in(hub)
    done = hub.call("logout", "me")
    assert done.code == 0 and f"{hub.served.url}/settings/applications" in done.out
    assert os.listdir(kept(hub).parent) == ["me.lock"]
    assert hub.sync().code == 4
    assert hub.call("logout", "me").out.startswith("no login was stored for")


def test_doctor_and_check_look_at_logins_that_no_job_uses(hub: SyncEnv) -> None:
    hub.identities["bot"] = {"anonymous": True, "api": hub.served.url}
    hub.jobs["nginx"]["as"] = "bot"
    hub.repo.private = False
    hub.write()
    for command in (("doctor",), ("check", "--online")):
        done = hub.call(*command)
        assert (
            done.code in (3, 4)
            and "no user is logged in as me" in done.out + done.err
            and "syncd login me" in done.out + done.err
        )
    log_in(hub)
    done = hub.call("doctor")
    assert (
        done.code == 0
        and "✓ login         me: logged in as ada" in done.out
        and "✓ expiry        me: the login ends on 2027-05-25" in done.out
    ), done.out
    assert hub.call("check", "--online").code == 0


def test_a_login_that_ends_within_two_weeks_is_said_in_status_and_doctor(
    hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(hub)
    assert hub.sync().code == 0
    assert "the login" not in hub.call("status").err
    end = json.loads(kept(hub).read_text())["refresh_expires_at"]
    value = json.loads(kept(hub).read_text())
    from datetime import UTC, datetime

    soon = datetime.now(UTC) + timedelta(days=9, hours=1)
    kept(hub).write_text(json.dumps({**value, "refresh_expires_at": soon.isoformat()}) + "\n")
    assert (
        end != soon
        and f"! me: the login ends on {soon:%Y-%m-%d}, in 9 days; run: syncd login me"
        in hub.call("status").err
    )
    assert json.loads(hub.call("status", "--json").out)["schema"] == "syncd.status/1"


@pytest.mark.parametrize(
    ("api", "web"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.octocorp.ghe.com", "https://octocorp.ghe.com"),
        ("https://ghe.example/api/v3", "https://ghe.example"),
        ("https://api.example/api/v3", "https://api.example"),
        ("https://ghe.example:8443/api/v3", "https://ghe.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/api/v3", "http://127.0.0.1:8080"),
    ],
)
def test_people_and_oauth_know_each_host_by_its_own_address(api: str, web: str) -> None:
    assert web_origin(api) == web


def test_what_a_login_is_shows_no_secret(hub: SyncEnv) -> None:
    log_in(hub)
    from syncd.store.oauth_tokens import OAuthTokenFile

    pair = OAuthTokenFile(hub.state, "me").load()
    assert pair is not None and pair.refresh is not None
    assert (
        pair.access.reveal() not in repr(pair)
        and pair.refresh.reveal() not in repr(pair)
        and isinstance(LoginIdentity("me").client_id, str)
    )
