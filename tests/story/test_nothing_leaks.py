"""Places a credential could get to beside the outputs that every stand sweeps: children, core files, tracebacks, proxies, addresses with tokens in them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.simulator import trouble
from syncd.simulator.trouble import Answer
from tests.support.stand import Result, Stand, stand

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "ghp_" + "c4n4ry" * 6
# everything that a hook can see of itself and of whoever started it, down to the first process that is not syncd's
LOOK = """
import os, resource, sys
place, pid = sys.argv[1], os.getpid()
print("core", resource.getrlimit(resource.RLIMIT_CORE), file=open(os.path.join(place, "limits"), "w"))
for step in range(3):
    for name in ("cmdline",) if step else ("cmdline", "environ"):
        with open(f"/proc/{pid}/{name}", "rb") as found, open(os.path.join(place, f"{name}-{step}"), "wb") as kept:
            kept.write(found.read())
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
for number in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink(f"/proc/self/fd/{number}"), file=open(os.path.join(place, "descriptors"), "a"))
    except OSError:
        pass
"""


def process(hub: Stand, *arguments: str, environ: dict[str, str] | None = None) -> Result:
    """A command in a process of its own, heard by the canary."""
    command = [sys.executable, "-m", "syncd", "-c", str(hub.config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PATH": os.environ["PATH"], "HOME": str(hub.folder), **(environ or {})}, timeout=120)
    hub.canary.heard(f"stdout of {arguments}", done.stdout)
    hub.canary.heard(f"stderr of {arguments}", done.stderr)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("key", ["validate", "on_change"])
def test_a_hook_sees_no_credential_in_its_environment_arguments_or_descriptors_and_leaves_no_core(tmp_path: Path, key: str) -> None:
    with stand(tmp_path, as_app=False) as hub:
        seen = tmp_path / "seen"
        seen.mkdir()
        hub.github.accounts.add_personal(TOKEN)
        hub.canary.watch(TOKEN, "a token from the environment")
        hub.identities["ops"] = {"token": {"env": "BOT_TOKEN"}, "api": hub.served.url}
        hub.write_config(**{key: [sys.executable, "-c", LOOK, str(seen)]})
        done = process(hub, "sync", environ={"BOT_TOKEN": TOKEN})
        assert done.code == 0, done.err
        assert (seen / "limits").read_text() == "core (0, 0)\n"
        assert b"SYNCD_COMMIT" in (seen / "environ-0").read_bytes() and b"BOT_TOKEN" not in (seen / "environ-0").read_bytes()
        assert str(hub.state) not in (seen / "descriptors").read_text(), "no file of the store is open in it"
        assert (seen / "cmdline-2").read_bytes(), "the sweep has arguments to look at"


@pytest.mark.parametrize("command", [["sync"], ["sync", "--json"], ["plan", "--diff"], ["check", "--online"], ["doctor"], ["-vv", "sync"]], ids=" ".join)
def test_a_bug_of_ours_in_the_middle_of_everything_shows_a_traceback_without_a_credential(hub: Stand, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """The worst place: the frame that holds the header, with the header in the exception's own text."""

    def fall(_session: object, request: object, **_: object) -> None:
        raise RuntimeError(f"can't {vars(request)} {getattr(request, 'headers', None)!r}")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", fall)
    hub.write_config(timeout="5s")
    done = hub.call(*command)
    assert done.code != 0 and "ghs_" not in done.out + done.err
    keys = (hub.folder / "app.pem").read_text().splitlines()[1:-1]
    assert not any(line in done.out + done.err for line in keys)


def test_an_address_that_a_server_echoes_with_everything_it_was_sent_is_masked(hub: Stand) -> None:
    def echo(answer: Answer) -> Answer:
        asked = hub.github.accounts.credentials
        shown = " ".join([*asked, *(base64.b64encode(f"x-access-token:{one}".encode()).decode() for one in asked)])
        return trouble.status(403, f"refused {shown} at https://codeload.github.com/x?token=SIGNED{hub.repo.head()[:8]}&y=1")(answer)

    hub.github.trouble("contents", echo, times=100)
    done = hub.sync()
    assert done.code == 4 and "***" in done.job["error"]["message"]
    assert "***" in hub.call("status").out and "***" in hub.call("history").out


def test_a_proxys_password_and_the_basic_form_of_it_are_in_no_output(hub: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    password = "canary-of-the-proxy"
    hub.canary.watch(password, "a proxy's password")
    hub.canary.watch(f"ada:{password}", "a proxy's login")
    monkeypatch.setattr("syncd.github.transport.BACKOFF_SECONDS", 0.001)
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://ada:{password}@127.0.0.1:1")
    hub.identities["ops"]["api"] = "https://ghe.invalid/api/v3"
    hub.write()
    for arguments in (("-vv", "sync"), ("sync", "--json"), ("doctor",), ("check", "--online")):
        assert hub.call(*arguments).code != 0


@pytest.mark.parametrize("text", [TOKEN, f"env: {TOKEN}", "-----BEGIN RSA PRIVATE KEY-----\\nMIIEowIBAAKCAQEAcanarycanarycanarycanarycanarycanary\\n-----END RSA PRIVATE KEY-----"])
def test_a_credential_written_where_its_place_belongs_is_refused_and_not_echoed(hub: Stand, text: str) -> None:
    hub.canary.spared.add(hub.config)
    hub.canary.watch(text.removeprefix("env: ").replace("\\n", "\n"), "a credential in the configuration")
    hub.write()
    value = f'{{env: "{text.removeprefix("env: ")}"}}' if text.startswith("env: ") else f'"{text}"'
    hub.config.write_text(hub.config.read_text().replace(f"private_key: {hub.folder}/app.pem", f"private_key: {value}"))
    assert text[:12].split(" ")[0] in hub.config.read_text()
    for arguments in (("check",), ("-vv", "sync"), ("sync", "--json"), ("doctor",), ("plan",)):
        done = hub.call(*arguments)
        assert done.code == 2, done
        assert "c4n4ry" not in done.out + done.err and "canarycanary" not in done.out + done.err, done
