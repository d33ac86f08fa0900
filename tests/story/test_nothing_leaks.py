"""Places a credential could get to beside the outputs that every stand sweeps: children, core
files, tracebacks, proxies, addresses with tokens in them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.simulator import faults
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Link
from tests.support.raw_server import RawServer
from tests.support.secret_scan import forms
from tests.support.sync_env import CommandResult, SyncEnv, sync_env

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "ghp_" + "c4n4ry" * 6
# everything that a hook can see of itself and of whoever started it, down to the first process that
# is not syncd's
LOOK = """
import os, resource, sys
place, pid = sys.argv[1], os.getpid()
limits = open(os.path.join(place, "limits"), "w")
print("core", resource.getrlimit(resource.RLIMIT_CORE), file=limits)
for step in range(3):
    for name in ("cmdline",) if step else ("cmdline", "environ"):
        with open(f"/proc/{pid}/{name}", "rb") as found:
            with open(os.path.join(place, f"{name}-{step}"), "wb") as kept:
                kept.write(found.read())
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
for number in os.listdir("/proc/self/fd"):
    try:
        with open(os.path.join(place, "descriptors"), "a") as kept:
            print(os.readlink(f"/proc/self/fd/{number}"), file=kept)
    except OSError:
        pass
"""


def process(hub: SyncEnv, *arguments: str, environ: dict[str, str] | None = None) -> CommandResult:
    """A command in a process of its own, heard by the canary."""
    command = [sys.executable, "-m", "syncd", "-c", str(hub.config), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(hub.folder), **(environ or {})},
        timeout=120,
    )
    hub.canary.heard(f"stdout of {arguments}", done.stdout)
    hub.canary.heard(f"stderr of {arguments}", done.stderr)
    return CommandResult(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("key", ["validate", "on_change"])
def test_a_hook_sees_no_credential_in_its_environment_arguments_or_descriptors_and_leaves_no_core(
    tmp_path: Path, key: str
) -> None:
    with sync_env(tmp_path, as_app=False) as hub:
        seen = tmp_path / "seen"
        seen.mkdir()
        hub.github.accounts.add_personal_token(TOKEN)
        hub.canary.watch(TOKEN, "a token from the environment")
        hub.identities["ops"] = {"token": {"env": "BOT_TOKEN"}, "api": hub.served.url}
        hub.write_config(**{key: [sys.executable, "-c", LOOK, str(seen)]})
        done = process(hub, "sync", environ={"BOT_TOKEN": TOKEN})
        assert done.code == 0, done.err
        assert (seen / "limits").read_text() == "core (0, 0)\n"
        assert (
            b"SYNCD_COMMIT" in (seen / "environ-0").read_bytes()
            and b"BOT_TOKEN" not in (seen / "environ-0").read_bytes()
        )
        assert str(hub.state) not in (seen / "descriptors").read_text(), (
            "no file of the store is open in it"
        )
        assert (seen / "cmdline-2").read_bytes(), "the sweep has arguments to look at"


@pytest.mark.parametrize(
    "command",
    [
        ["sync"],
        ["sync", "--json"],
        ["plan", "--diff"],
        ["check", "--online"],
        ["doctor"],
        ["-vv", "sync"],
    ],
    ids=" ".join,
)
def test_a_bug_of_ours_in_the_middle_of_everything_shows_a_traceback_without_a_credential(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """The worst place: the frame that holds the header,
    with the header in the exception's own text.
    """

    def fall(_pool: object, *arguments: object, **_: object) -> None:
        raise RuntimeError(f"can't {arguments!r}")

    monkeypatch.setattr("urllib3.HTTPConnectionPool.urlopen", fall)
    hub.write_config(timeout="5s")
    done = hub.call(*command)
    assert done.code != 0 and "ghs_" not in done.out + done.err
    keys = (hub.folder / "app.pem").read_text().splitlines()[1:-1]
    assert not any(line in done.out + done.err for line in keys)


def test_an_address_that_a_server_echoes_with_everything_it_was_sent_is_masked(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.github.auth.credentials.FRESH_TOKEN_WAITS_SECONDS", (0.001,) * 4)

    def echo(answer: Answer) -> Answer:
        asked = hub.github.accounts.credentials
        shown = " ".join(
            [
                *asked,
                *(base64.b64encode(f"x-access-token:{one}".encode()).decode() for one in asked),
            ]
        )
        return faults.status(
            403,
            (
                f"refused {shown} at https://codeload.github.com/"
                f"x?token=SIGNED{hub.repo.head()[:8]}&"
                "y=1"
            ),
        )(answer)

    hub.github.add_fault("contents", echo, times=100)
    done = hub.sync()
    assert done.code == 4 and "***" in done.job["error"]["message"]
    assert "***" in hub.call("status").out and "***" in hub.call("history").out


def test_a_proxys_password_and_the_basic_form_of_it_are_in_no_output(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "canary-of-the-proxy"
    hub.canary.watch(password, "a proxy's password")
    hub.canary.watch(f"ada:{password}", "a proxy's login")
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://ada:{password}@127.0.0.1:1")
    hub.identities["ops"]["api"] = "https://ghe.invalid/api/v3"
    hub.write()
    for arguments in (("-vv", "sync"), ("sync", "--json"), ("doctor",), ("check", "--online")):
        assert hub.call(*arguments).code != 0


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"env: {TOKEN}",
        (
            "-----BEGIN RSA PRIVATE "
            "KEY-----\\nMIIEowIBAAKCAQEAcanarycanarycanarycanarycanarycanary\\n-----END RSA "
            "PRIVATE KEY-----"
        ),
    ],
)
def test_a_credential_written_where_its_place_belongs_is_refused_and_not_echoed(
    hub: SyncEnv, text: str
) -> None:
    hub.canary.spared.add(hub.config)
    hub.canary.watch(
        text.removeprefix("env: ").replace("\\n", "\n"), "a credential in the configuration"
    )
    hub.write()
    value = f'{{env: "{text.removeprefix("env: ")}"}}' if text.startswith("env: ") else f'"{text}"'
    hub.config.write_text(
        hub.config.read_text().replace(
            f"private_key: {hub.folder}/app.pem", f"private_key: {value}"
        )
    )
    assert text[:12].split(" ")[0] in hub.config.read_text()
    for arguments in (("check",), ("-vv", "sync"), ("sync", "--json"), ("doctor",), ("plan",)):
        done = hub.call(*arguments)
        assert done.code == 2, done
        assert "c4n4ry" not in done.out + done.err and "canarycanary" not in done.out + done.err, (
            done
        )


# --- a server that others point to ----------------------------------------------------------------


# it asks for a name and password
LURE = (
    b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nSet-Cookie: a=b\r\n'
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)
STATUSES = (301, 302, 303, 307, 308)
LURED = (
    "installation",
    "token",
    "head",
    "contents",
    "tree",
    "blob",
    "commit",
    "compare",
    "tarball",
    "codeload",
    "lfs",
    "lfs_object",
)


def needing(hub: SyncEnv, route: str) -> None:
    """The next run makes a request of this route."""
    if route == "installation":
        del hub.identities["ops"]["installation_id"]
    if route in ("commit", "compare"):
        hub.write_config(
            require={"verified": route == "commit", "fast_forward": route == "compare"}
        )
    if route == "compare":
        assert hub.sync().code == 0
    many: dict[str, object] = (
        {f"nginx/m{number:03d}": f"{number}\n" for number in range(120)}
        if route in ("tarball", "codeload")
        else {"nginx/deep/new": "new\n"}
    )
    if route == "blob":
        many["nginx/link"] = Link("nginx.conf")
    if route in ("lfs", "lfs_object"):
        content = b"large\n"
        oid = hashlib.sha256(content).hexdigest()
        hub.repo.lfs_objects[oid] = content
        many["nginx/large"] = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
        )
        hub.write_config(lfs="fetch")
    hub.repo.commit(many)
    hub.write()


@pytest.mark.parametrize(
    ("route", "status"), [(route, STATUSES[number % 5]) for number, route in enumerate(LURED)]
)
def test_a_server_that_a_redirect_a_netrc_or_a_proxy_points_to_is_never_shown_a_credential(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, route: str, status: int
) -> None:
    """Every kind of request is led there, whatever stands in the environment.

    Where content may come from another host, it is asked without our token.
    """
    home, netrc = Path(os.environ["HOME"]), "default login thief password canary-of-the-netrc\n"
    (home / ".netrc").write_text(netrc)
    (home / ".netrc").chmod(0o600)
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    needing(hub, route)
    with RawServer(LURE) as lure:
        for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{lure.netloc}")
        monkeypatch.setenv("NETRC", str(home / ".netrc"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(home / "none.pem"))
        hub.github.add_fault(
            route,
            lambda _answer: Answer(
                status, {"location": f"http://{lure.netloc}/here?a=b", "set-cookie": "c=d"}
            ),
            times=99,
        )
        done = hub.sync()
        assert hub.github.count(route) > 0, hub.github.routes()
        assert done.code in (0, 4, 5), done.job["error"]
        heard = "\n".join(lure.heard).encode("latin-1")
    assert hub.github.count("token") == 1 or route in ("token", "installation"), (
        "who never saw our token can't refuse it"
    )
    hub.github.tell()
    for value in (*hub.canary.values, "canary-of-the-netrc", "thief"):
        assert not any(form in heard for form in forms(value)), "a credential was sent"
    assert b"authorization" not in heard.lower() and b"cookie" not in heard.lower()
    assert bool(heard) == (route in ("tarball", "codeload", "lfs_object")), (
        "only content that is proven by its id may come from elsewhere"
    )
