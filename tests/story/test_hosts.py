"""Every host that speaks this API, and what stands before it: Enterprise Server, data residency,
older versions, proxies; and two of them at once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.simulator.faults import Answer
from tests.support.proxy import Proxy
from tests.support.sync_env import SyncEnv, sync_env, tree_of
from tests.support.tls import over_tls

HOSTS = {
    "github.com": "https://api.github.com",
    "data residency": "https://api.octocorp.ghe.com",
    "Enterprise Server": "https://ghe.example/api/v3",
}


def through(
    hub: SyncEnv,
    proxy: Proxy,
    api: str,
    authority: Path,
    monkeypatch: pytest.MonkeyPatch,
    credentials: str = "",
) -> None:
    hub.identities["ops"] |= {"api": api, "ca_file": str(authority)}
    hub.write()
    monkeypatch.setenv("HTTPS_PROXY", f"http://{credentials}{proxy.netloc}")


@pytest.mark.parametrize("as_app", [True, False], ids=["App", "token"])
@pytest.mark.parametrize("name", HOSTS)
def test_a_host_is_reached_by_its_own_name_through_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, as_app: bool
) -> None:
    api, host = HOSTS[name], HOSTS[name].partition("//")[2].partition("/")[0]
    with (
        sync_env(tmp_path, as_app=as_app) as hub,
        over_tls(hub.github, host, tmp_path) as (port, authority),
        Proxy(port).running() as proxy,
    ):
        through(hub, proxy, api, authority, monkeypatch)
        if name == "Enterprise Server":
            hub.github.primary_limit, hub.github.etags, hub.github.plain_json = None, "hash", True
        done = hub.sync()
        assert done.code == 0 and len(hub.tree()) == 2, done.job["error"]
        assert {head.split()[1] for head in proxy.heard} == {f"{host}:443"} and not any(
            "uthorization" in head for head in proxy.heard
        )
        assert all(
            one.path.startswith("/api/v3/") == (name == "Enterprise Server")
            for one in hub.github.requests
        )
        assert hub.sync().job["status"] == "unchanged"


PASSWORD = "ada:s3cret/with@odd:letters"
WRITTEN = "ada:s3cret%2Fwith%40odd%3Aletters@"


def test_a_proxy_is_given_its_password_and_nobody_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        sync_env(tmp_path, as_app=False) as hub,
        over_tls(hub.github, "ghe.example", tmp_path) as (port, authority),
        Proxy(port, PASSWORD).running() as proxy,
    ):
        through(hub, proxy, "https://ghe.example/api/v3", authority, monkeypatch, WRITTEN)
        done = hub.call("-vv", "sync")
        assert done.code == 0 and len(hub.tree()) == 2
        assert not any("proxy-authorization" in one.headers for one in hub.github.requests)
        assert "s3cret" not in done.out + done.err


# what it is given, the status it refuses everybody with, what is said, what is to be done
NOES = {
    "no password": ("", None, "407", "user and password"),
    "a wrong one": ("ada:wr0ng-canary@", None, "407", "user and password"),
    "a rule": (WRITTEN, 403, "403", "allow this host"),
}


@pytest.mark.parametrize("name", NOES)
def test_a_proxy_that_says_no_is_named_at_once_and_github_hears_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    credentials, refuses, status, hint = NOES[name]
    with (
        sync_env(tmp_path, as_app=False) as hub,
        over_tls(hub.github, "ghe.example", tmp_path) as (port, authority),
        Proxy(port, PASSWORD, refuses).running() as proxy,
    ):
        through(hub, proxy, "https://ghe.example/api/v3", authority, monkeypatch, credentials)
        done = hub.sync()
        error = done.job["error"]
        assert (
            (done.code, error["kind"]) == (5, "unavailable")
            and status in error["message"]
            and hint in error["hint"]
        ), error
        assert (
            len(proxy.heard) == 1
            and hub.github.count() == 0
            and "canary" not in done.out + done.err
            and "s3cret" not in done.out + done.err
        )


def test_a_proxy_that_is_not_there_is_passing_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    with sync_env(tmp_path, as_app=False) as hub:
        hub.identities["ops"]["api"] = "https://ghe.example/api/v3"
        hub.write()
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        done = hub.sync()
        assert (
            (done.code, done.job["error"]["kind"]) == (5, "unavailable")
            and "HTTPS_PROXY" in done.job["error"]["hint"]
            and "0x" not in done.job["error"]["message"]
        )


def test_a_proxy_that_is_no_address_is_a_mistake_that_is_named_and_not_shown(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:canary#word@proxy.corp:3128")
    done = hub.sync()
    assert (
        done.code == 2
        and "proxy is no address" in done.err
        and "%XX" in done.err
        and "canary" not in done.err
    )


def test_a_proxy_of_a_kind_that_is_not_spoken_is_a_mistake_that_is_named(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://ada:canary-canary@proxy.corp:1080")
    done = hub.sync()
    assert (
        done.code == 2
        and "socks5" in done.err
        and "HTTPS_PROXY" in done.err
        and "canary" not in done.err
    )


def test_no_proxy_is_honoured_for_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    with sync_env(tmp_path, as_app=False) as hub, Proxy(1).running() as proxy:
        hub.identities["ops"]["api"] = "https://ghe.invalid/api/v3"
        hub.write()
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.netloc}")
        monkeypatch.setenv("NO_PROXY", "ghe.invalid")
        assert hub.sync().code == 5 and proxy.heard == []


@pytest.mark.parametrize("no_proxy", ["*.invalid", "a.example ghe.invalid", "a.example, *.invalid"])
def test_a_wildcard_and_a_list_with_spaces_keep_the_host_from_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    with sync_env(tmp_path, as_app=False) as hub, Proxy(1).running() as proxy:
        hub.identities["ops"]["api"] = "https://ghe.invalid/api/v3"
        hub.write()
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.netloc}")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert hub.sync().code == 5 and proxy.heard == []


@pytest.mark.parametrize("command", [("sync",), ("doctor",), ("check", "--online")], ids=" ".join)
def test_what_is_not_understood_in_no_proxy_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    with sync_env(tmp_path, as_app=False) as hub:
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "10.0.* other.example")
        done = hub.call(*command)
        assert (
            done.code == 0
            and (done.out + done.err).count("NO_PROXY: '10.0.*' is not understood") == 1
        ), done.err


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_app", [True, False], ids=["App", "token"])
def test_an_older_server_that_does_not_know_the_version_is_asked_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, as_app: bool
) -> None:
    with sync_env(tmp_path, as_app=as_app) as hub:
        hub.github.api_versions = ()
        done = hub.sync()
        assert done.code == 0 and len(hub.tree()) == 2
        assert hub.github.count(status=400) == 1 and "does not know the API version" in done.err
        assert not any("x-github-api-version" in one.headers for one in hub.github.requests[1:])


def test_a_version_that_is_retired_while_we_live_is_left_out(hub: SyncEnv) -> None:
    from syncd.simulator.faults import status

    hub.github.add_fault(
        "contents", status(410, "This API version is no longer supported"), times=1
    )
    assert hub.sync().code == 0 and len(hub.tree()) == 2


def test_a_server_that_answers_400_to_everything_is_asked_twice_and_named(tmp_path: Path) -> None:
    from syncd.simulator.faults import status

    with sync_env(tmp_path, as_app=False) as hub:
        hub.github.add_fault("*", status(400, "Bad Request"), times=99)
        done = hub.sync()
        assert (done.code, done.job["error"]["kind"]) == (
            5,
            "bad_response",
        ) and hub.github.count() == 2


def test_the_announced_end_of_a_version_is_told_once(hub: SyncEnv) -> None:
    def announced(answer: Answer) -> Answer:
        return Answer(
            answer.status,
            {**answer.headers, "sunset": "Fri, 10 Mar 2028 00:00:00 GMT"},
            answer.body,
        )

    hub.github.add_fault("*", announced, times=99)
    done = hub.sync()
    assert done.code == 0 and done.err.count("10 Mar 2028") == 1


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "meant"),
    [
        ("https://github.com", "https://api.github.com"),
        ("https://www.github.com/", "https://api.github.com"),
        ("https://api.github.com/api/v3", "https://api.github.com"),
        ("https://octocorp.ghe.com", "https://api.octocorp.ghe.com"),
        ("https://api.octocorp.ghe.com/api/v3", "https://api.octocorp.ghe.com"),
        ("https://octocorp.ghe.com/api/v3", "https://api.octocorp.ghe.com"),
    ],
)
def test_an_address_that_is_easily_mistaken_is_answered_with_the_right_one(
    hub: SyncEnv, api: str, meant: str
) -> None:
    hub.identities["ops"]["api"] = api
    hub.write()
    done = hub.call("check")
    assert done.code == 2 and f"is not where the API is; write {meant}" in done.err
    hub.identities["ops"]["api"] = meant
    hub.write()
    assert hub.call("check").code == 0


# --- two at once ----------------------------------------------------------------------------------


def test_two_tenants_with_the_same_names_on_two_hosts_never_read_each_others(
    tmp_path: Path,
) -> None:
    """The same repository, path, ref, App id and installation id:
    only the host and the key tell them apart.
    """
    one_files = {
        "nginx/nginx.conf": "of one\n",
        "nginx/shared": "shared\n",
        "nginx/only-one": "1\n",
    }
    other_files = {
        "nginx/nginx.conf": "of the other\n",
        "nginx/shared": "shared\n",
        "nginx/only-other": "2\n",
    }
    with (
        sync_env(tmp_path / "one", one_files) as one,
        sync_env(tmp_path / "other", other_files) as other,
    ):
        other.github.accounts.apps.clear()
        key = other.folder / "other.pem"
        key.write_text(other.github.accounts.add_app(12345))
        key.chmod(0o600)
        other.github.accounts.installations[42].app = other.github.accounts.apps["12345"]
        one.identities["rival"] = {**other.identities["ops"], "private_key": str(key)}
        one.jobs["nginx"]["as"] = "ops"
        one.jobs["theirs"] = {
            **one.jobs["nginx"],
            "as": "rival",
            "paths": [{"from": "nginx/", "to": f"{other.folder}/dest/"}],
        }
        one.write()
        for number in range(8):  # many jobs of both, side by side
            one.jobs[f"extra{number}"] = {
                **one.jobs["nginx"],
                "as": ("ops", "rival")[number % 2],
                "paths": [{"from": "nginx/", "to": f"{tmp_path}/extra{number}/"}],
            }
        one.extra["workers"] = "10"
        one.write()
        for round_number in range(3):
            other.github.forget_requests()
            done = one.sync()
            assert done.code == 0, done.err
            wanted, theirs = (
                {path.removeprefix("nginx/"): content.encode() for path, content in files.items()}
                for files in (one_files, other_files)
            )
            assert one.tree() == wanted and tree_of(other.dest) == theirs
            for number in range(8):
                assert tree_of(tmp_path / f"extra{number}") == (wanted, theirs)[number % 2]
            ours, foreign = (
                {asked.credential for asked in hub.github.requests} for hub in (one, other)
            )
            assert not ours & foreign, "no credential was seen by both hosts"
            assert all(
                value is None or value in hub.github.accounts.credentials or value.startswith("eyJ")
                for hub, seen in ((one, ours), (other, foreign))
                for value in seen
            )
            if round_number == 0:
                one_files["nginx/nginx.conf"] = other_files["nginx/only-one"] = "swapped\n"
                one.repo.commit({"nginx/nginx.conf": "swapped\n"})
                other.repo.commit({"nginx/only-one": "swapped\n"})
            else:
                assert round_number == 1 or done.json["requests"]["not_modified"] == 2
