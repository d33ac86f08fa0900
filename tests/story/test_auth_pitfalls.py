"""The known ways in which a client of this API goes wrong about who it is and whom it asks, one
scenario each, over real sockets: the number is the trap's place in the list that we keep of them.

What is told at length elsewhere is told here in one line.

1-15 are about Apps, keys, clocks and tokens; 47-56 about moves, hosts, users, versions and what
must not be shown.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from syncd.simulator import faults
from syncd.simulator.faults import Answer
from tests.support.fast_clock import PassingClock
from tests.support.sync_env import CommandResult, SyncEnv, sync_env

CLIENT = "Iv23liAcmeOps"
Scenario = Callable[[SyncEnv, PassingClock, pytest.MonkeyPatch], None]
TRAPS: dict[str, Scenario] = {}


def trap(name: str) -> Callable[[Scenario], Scenario]:
    def told(scenario: Scenario) -> Scenario:
        TRAPS[name] = scenario
        return scenario

    return told


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        yield made


def claims(hub: SyncEnv) -> list[dict[str, Any]]:
    """What was signed, in the order it was sent."""
    tokens = [
        one.credential
        for one in hub.github.requests
        if one.route in ("token", "installation", "app") and one.credential
    ]
    return [
        jwt.decode(
            token, options={"verify_signature": False, "verify_exp": False, "verify_iat": False}
        )
        for token in tokens
    ]


def synced(hub: SyncEnv, files: int = 2) -> CommandResult:
    done = hub.sync()
    assert done.code == 0 and len(hub.tree()) == files, done.err or done.job["error"]
    return done


@trap("1: no margin against a clock that is a little off")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    for offset in (-59, -1, 1, 59, 400):
        hub.github.clock_offset = offset
        hub.repo.commit({"nginx/nginx.conf": f"{offset}\n"})
        synced(hub)
        assert hub.github.count("token") == 1 and hub.github.count(status=401) == 0, offset


@trap("2: GET /user as a test of an installation's token")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(hub)
    for command in (("doctor",), ("check", "--online"), ("installations",), ("plan",)):
        assert hub.call(*command).code == 0
    assert not [one.path for one in hub.github.requests if one.path.startswith("/user")]


@trap("3: a token is used until it has ended")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.github.accounts.token_seconds = 2
    synced(hub)
    hub.github.accounts.token_seconds = 3600
    hub.github.call_before(
        "contents",
        hub.github.count("contents") + 1,
        lambda: [setattr(one, "expires", 0.0) for one in hub.github.accounts.credentials.values()],
    )
    hub.repo.commit({"nginx/new": "x"})
    synced(hub, 3)


@trap("4: everything that is not 200 is an error")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(hub)
    hub.github.rename("acme/infra", "acme/platform")
    hub.github.accounts.installations[42].repositories = None
    synced(hub)
    assert {200, 201, 301} <= {one.status for one in hub.github.requests} | {200}
    assert synced(hub).json["requests"]["not_modified"] == 1


@trap("5: times with a fraction in the assertion")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.seconds = 0.75
    synced(hub)
    [signed] = claims(hub)
    assert type(signed["iat"]) is int and type(signed["exp"]) is int


@trap("6: the assertion's times in a local time zone")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        synced(hub)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    [signed] = claims(hub)
    assert signed["iat"] == int(clock.now().timestamp()) - 60 and hub.github.count("token") == 1


@trap("7: the issuer as a number")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(hub)
    del hub.identities["ops"]["app_id"]
    hub.identities["ops"]["client_id"] = "Iv23li12345"
    hub.write()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.call("sync")
    assert [signed["iss"] for signed in claims(hub)] == ["12345", "Iv23li12345"] and hub.tree()[
        "nginx.conf"
    ] == b"two\n"


@trap("8: a key with escaped line ends in the environment")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Path(hub.identities["ops"]["private_key"]).read_text()
    hub.identities["ops"]["private_key"] = {"env": "APP_KEY"}
    hub.write()
    for text in (key.replace("\n", "\\n"), key.replace("\n", "\r\n"), key.rstrip("\n")):
        monkeypatch.setenv("APP_KEY", text)
        synced(hub)


@trap("9: the local clock is trusted for the ends of tokens and limits")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.github.clock_offset = 7200
    reset = int(clock.now().timestamp()) + 7200 + 40
    hub.github.add_fault(
        "head",
        faults.status(
            403,
            "API rate limit exceeded",
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)},
        ),
    )
    synced(hub)
    assert len(clock.waits) == 1 and 40 <= clock.waits[0] <= 43, clock.waits


@trap("10: an assertion that is kept while the clock moves")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub.identities["ops"]["installation_id"]
    hub.write()
    hub.github.call_before(
        "token", 1, lambda: setattr(clock, "asleep", 7200.0)
    )  # asleep between being signed and being read
    synced(hub)
    signed = claims(hub)
    assert signed[-1]["iat"] - signed[0]["iat"] >= 7200 and hub.github.count("token") == 2


@trap("11: a token's first refusal is taken for a misconfiguration")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    for status in (401, 403):
        hub.github.accounts.lag_seconds, hub.github.accounts.lag_status = 5.0, status
        hub.repo.commit({"nginx/nginx.conf": f"{status}\n"})
        synced(hub)
        assert hub.github.count("token") == 1


@trap("12: wrong credentials are tried again and again")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        hub.jobs[f"job{number}"] = {
            **hub.jobs["nginx"],
            "ref": f"b{number}",
            "paths": [{"from": "nginx/", "to": f"{hub.folder}/d{number}/"}],
        }
    hub.write()
    hub.github.accounts.apps["12345"].public_keys.clear()
    assert hub.sync().code == 4 and hub.github.count() == 1


@trap("13: tokens have a length or a form")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    minted = hub.github.accounts.create_installation_token
    for number, value in enumerate(
        [
            "ghs_" + "a" * 36,
            "ghs_12345_" + "aB3-_" * 60 + ".x-y_z" * 40,
            "x",
            "v2/other+form=~!",
            "g" * 4000,
        ]
    ):

        def mint(*arguments: Any, value: str = value) -> Any:
            made, chosen, permissions = minted(*arguments)
            made.value = value
            hub.github.accounts.credentials[value] = made
            return made, chosen, permissions

        monkeypatch.setattr(hub.github.accounts, "create_installation_token", mint)
        hub.repo.commit({"nginx/nginx.conf": f"{number}\n"})
        synced(hub)
        assert {one.credential for one in hub.github.requests if one.route == "contents"} == {value}


@trap("14: one token for an installation, whatever it is for")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.github.add_repo("acme/web", {"nginx/f": "x"})
    hub.identities["other"] = dict(hub.identities["ops"])
    hub.jobs["nginx"]["as"] = "ops"
    hub.jobs["web"] = {
        **hub.jobs["nginx"],
        "as": "other",
        "repo": "acme/web",
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/web/"}],
    }
    hub.write()
    assert hub.sync().code == 0
    reach = {one.value: one.repository_ids for one in hub.github.accounts.credentials.values()}
    assert len(reach) == 2 and all(len(ids or ()) == 1 for ids in reach.values())
    for one in hub.github.requests:
        if one.route in ("head", "contents", "tree") and one.credential:
            assert reach[one.credential] == {
                hub.github.repos["acme/web" if "/web/" in one.path else "acme/infra"].id
            }


@trap("15: repositories with their owner's name in a mint")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[Any] = []
    minted = hub.github.accounts.create_installation_token
    monkeypatch.setattr(
        hub.github.accounts,
        "create_installation_token",
        lambda app, number, body, *more: (bodies.append(body), minted(app, number, body, *more))[1],
    )
    synced(hub)
    assert bodies == [{"permissions": {"contents": "read"}, "repositories": ["infra"]}]


@trap("47: a POST that is redirected becomes a GET; a transfer changes the installation")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    there = f"{hub.served.url}/app/installations/42/access_tokens"
    for status in (301, 302, 307, 308):
        hub.github.add_fault(
            "token", lambda answer, status=status: Answer(status, {"location": there})
        )
        hub.repo.commit({"nginx/nginx.conf": f"{status}\n"})
        done = hub.sync()
        assert done.code == (0 if status > 303 else 5) and {
            one.method for one in hub.github.requests if one.route == "token"
        } == {"POST"}
        hub.github.faults.clear()
    del hub.identities["ops"]["installation_id"]
    hub.write()
    hub.github.rename("acme/infra", "umbrella/infra")
    hub.github.accounts.install(12345, "umbrella", 77)
    synced(hub)
    assert any("/installations/77/access_tokens" in one.path for one in hub.github.requests)


@trap("48: ~/.netrc takes the token's place")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = Path(os.environ["HOME"]) / ".netrc"
    netrc.write_text(
        "machine 127.0.0.1 login thief password canary-of-netrc\n"
        "default login thief password canary-of-netrc\n"
    )
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    synced(hub)
    stolen = base64.b64encode(b"thief:canary-of-netrc").decode()
    assert not any(
        stolen in str(one.headers) or "canary-of-netrc" in str(one.headers)
        for one in hub.github.requests
    )


@trap("49: a page of HTML where JSON was expected")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    for route in ("token", "head", "contents"):
        for status in (502, 503):
            hub.github.add_fault(route, faults.html(status))
            hub.repo.commit({"nginx/nginx.conf": f"{route} {status}\n"})
            synced(hub)
    hub.github.add_fault("head", faults.html(502), times=99)
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (
        5,
        "unavailable",
    ) and "Traceback" not in done.err


def as_user(hub: SyncEnv, expiring: bool = True, kind: str = "ghu") -> None:
    hub.canary.spared.add(hub.state / "logins" / "me.json")
    hub.github.oauth.add_client(CLIENT, expiring=expiring, kind=kind)
    hub.identities = {"me": {"login": {"client_id": CLIENT}, "api": hub.served.url}}
    hub.write()
    hub.github.call_before(
        "poll",
        1,
        lambda: [
            hub.github.oauth.approve(device.user_code)
            for device in hub.github.oauth.devices.values()
        ],
    )
    assert hub.call("login", "me").code == 0


@trap("50: a refresh token is used twice")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(hub)
    for number in range(12):
        hub.jobs[f"job{number}"] = {
            **hub.jobs["nginx"],
            "paths": [{"from": "nginx/", "to": f"{hub.folder}/d{number}/"}],
        }
    hub.write()
    for _turn in range(3):
        clock.advance(28_800)
        assert hub.sync().code == 0 and hub.github.count("refresh") == 1
    assert not any(one.reused_at for one in hub.github.oauth.refreshes.values())


@trap("51: HTTP 200 of the device flow is taken for success")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.github.oauth.add_client(CLIENT)
    hub.identities = {"me": {"login": {"client_id": CLIENT}, "api": hub.served.url}}
    hub.write()
    hub.github.oauth.on_device = lambda device: setattr(device, "denied", True)
    done = hub.call("login", "me")
    assert (
        done.code == 4
        and "declined" in done.err
        and not (hub.state / "logins" / "me.json").exists()
    )


@trap("52: one OAuth login for each server")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(hub, expiring=False, kind="gho")
    for _server in range(10):
        hub.github.oauth.issue(hub.github.oauth.clients[CLIENT], "ada", "repo", hub.github.now())
    done = hub.sync()
    assert (
        done.code == 4
        and "the login of me is over" in done.job["error"]["message"]
        and hub.github.count() == 1
    )


@trap("53: /api/v3 where it does not belong, or is missing; limits that are not there")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.identities["ops"]["api"] = "https://octocorp.ghe.com/api/v3"
    hub.write()
    assert "write https://api.octocorp.ghe.com" in hub.call("check").err
    hub.identities["ops"]["api"] = f"{hub.served.url}/api/v3"
    hub.write()
    hub.github.primary_limit = None
    synced(hub)
    assert {
        "identity": "ops",
        "limit": None,
        "remaining": None,
        "reset": None,
    }.items() <= json.loads(hub.call("status", "--json").out)["identities"][0].items()
    hub.github.add_fault(
        "*", faults.html(404), times=99
    )  # the server's own pages answer where the API is not
    done = hub.sync()
    assert done.code == 5 and "ends in /api/v3" in done.job["error"]["hint"]


@trap("54: a version that the server does not know")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.github.api_versions = ()
    synced(hub)
    assert hub.github.count(status=400) == 1


@trap("55: an address with a credential in it is logged")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repo.commit({f"nginx/f{number:03d}": f"{number}" for number in range(130)})
    hub.github.add_fault("codeload", faults.status(503), times=1)
    done = hub.call("-vv", "sync")
    assert done.code == 0 and hub.github.count("codeload") >= 1
    assert "SIGNED" not in done.out + done.err and not any(
        b"SIGNED" in file.read_bytes() for file in hub.state.rglob("*") if file.is_file()
    )


@trap("56: a permission that is misspelt and one that is not granted look the same")
def _(hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub.github.accounts.installations[42].permissions["contents"]
    done = hub.sync()
    assert (
        done.code == 4
        and "contents: read" in done.job["error"]["hint"]
        and hub.github.count("token") == 1
    )


@pytest.mark.parametrize("name", TRAPS)
def test_a_known_trap_is_stepped_over(
    hub: SyncEnv, clock: PassingClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    TRAPS[name](hub, clock, monkeypatch)


def test_no_trap_of_these_is_left_out() -> None:
    assert {int(name.partition(":")[0]) for name in TRAPS} == {*range(1, 16), *range(47, 57)}
