"""Broken set-ups, one a row: `syncd doctor` or `syncd check --online` names the cause and what to
type.

Each row has every line that is not good news, literally; paths, addresses, ports and commits are
replaced by words.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from syncd.mirror.destination_facts import DestinationFacts, Space, destination_facts
from syncd.simulator import faults
from syncd.simulator.faults import Answer
from syncd.status import WebhookStats, save_webhook_stats
from syncd.status.systemd_timer import SystemdTimer
from syncd.store.facts import Heartbeat
from syncd.store.lock import daemon_lock
from syncd.store.migrate import APPLICATION_ID_BASE
from syncd.store.schema import VERSION
from syncd.store.store import SqliteStore
from tests.support.own_mounts import in_own_mounts
from tests.support.sync_env import CommandResult, SyncEnv, app_with_known_key, sync_env
from tests.support.tls import over_tls

Break = Callable[[SyncEnv, pytest.MonkeyPatch, ExitStack], None]


class Setup(NamedTuple):
    """One row: what breaks the set-up, the command,
    its exit code and its lines that are not good news.
    """

    change: Break
    command: str
    code: int
    lines: tuple[str, ...]


SETUPS: dict[str, Setup] = {}


def broken(name: str, command: str, code: int, *lines: str) -> Callable[[Break], Break]:
    """Register a row of the table."""

    def register(change: Break) -> Break:
        SETUPS[name] = Setup(change, command, code, lines)
        return change

    return register


# --- who we are -----------------------------------------------------------------------------------


@broken(
    "the key of another App",
    "doctor",
    4,
    (
        "✕ app           ops (App 12345, key FINGERPRINT): GitHub answered 401 to the request for "
        "the App itself (A JSON web token could not be decoded)"
    ),
    "    → the private key does not belong to this App; download a new one in the App's settings",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    key = app_with_known_key(hub.github, 777)
    Path(hub.identities["ops"]["private_key"]).write_text(key)


@broken(
    "a key that is a public key",
    "check --online",
    2,
    (
        "BASE/config.yaml:7:18: github.ops.private_key: this is a public key or a certificate; the "
        "private key is needed; download a private key in the App's settings, and give that file "
        "as "
        "it is"
    ),
    "        private_key: BASE/app.pem",
    "                     ^",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    Path(hub.identities["ops"]["private_key"]).write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n")


@broken(
    "no key file",
    "doctor",
    2,
    "✕ secret        github.ops.private_key: BASE/app.pem can't be read: No such file or directory",
    "    → check the path and who may read it",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    Path(hub.identities["ops"]["private_key"]).unlink()


@broken(
    "a key that all may read",
    "doctor",
    2,
    "✕ secret        github.ops.private_key: BASE/app.pem can be read by others (mode 0644)",
    "    → chmod 600 BASE/app.pem",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    Path(hub.identities["ops"]["private_key"]).chmod(0o644)


@broken(
    "a key that all may write",
    "doctor",
    2,
    "✕ secret        github.ops.private_key: BASE/app.pem can be written by others (mode 0602)",
    "    → chmod 600 BASE/app.pem",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    Path(hub.identities["ops"]["private_key"]).chmod(0o602)


@broken(
    "an App id that nobody has",
    "doctor",
    4,
    (
        "✕ app           ops (App 777, key FINGERPRINT): GitHub answered 404 to the request for "
        "the App itself (Integration not found)"
    ),
    (
        "    → this host knows no such App: check app_id or client_id, that private_key is that "
        "App's, and the host in api:"
    ),
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.identities["ops"]["app_id"] = "777"


@broken(
    "a client id that nobody has",
    "check --online",
    4,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    (
        "✕ app           ops (App Iv23liNobody, key FINGERPRINT): GitHub answered 401 to the "
        "request for the App itself ('Issuer' claim ('iss') must be an Integer)"
    ),
    "    → no App has this app_id or client_id; check it for stray characters",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    del hub.identities["ops"]["app_id"]
    hub.identities["ops"]["client_id"] = "Iv23liNobody"


@broken(
    "an installation id of another App",
    "doctor",
    4,
    "✕ installation  ops: App acme-ops has no installation 99; it has 42 (acme)",
    "    → correct installation_id:, or leave it out",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.identities["ops"]["installation_id"] = "99"


@broken(
    "not installed in the account",
    "doctor",
    4,
    "! installation  ops: App acme-ops is not installed in other",
    "    → install it there: API/apps/acme-ops/installations/new",
    (
        "✕ repository    other/infra@main as ops: the App is not installed on other/infra, or "
        "there "
        "is no such repository"
    ),
    "    → install it: the App's page → Install App; and check repo:",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    del hub.identities["ops"]["installation_id"]
    hub.jobs["nginx"]["repo"] = "other/infra"


@broken(
    "a suspended installation",
    "doctor",
    4,
    "✕ installation  ops: installation 42 in acme is suspended",
    "    → an owner of the account can unsuspend it under Settings → Applications",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.accounts.installations[42].suspended = True


@broken(
    "no permission to read contents",
    "doctor",
    4,
    "✕ permission    ops: installation 42 in acme may not read contents; it has metadata: read",
    "    → an owner of acme has to accept the App's new permission",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.accounts.installations[42].permissions = {"metadata": "read"}


@broken(
    "more permissions than needed",
    "doctor",
    0,
    (
        "! permission    ops: installation 42 in acme has more than syncd needs: contents: write, "
        "issues: write"
    ),
    (
        "    → leave the App contents: read and metadata: read alone; syncd's own tokens are "
        "narrowed "
        "to that, but a stolen key has all of it"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    granted = {"contents": "write", "issues": "write", "metadata": "read"}
    hub.github.accounts.installations[42].permissions = granted


@broken(
    "nobody is logged in",
    "check --online",
    3,
    "BASE/config.yaml: 1 job, 2 identities: good. State: BASE/state",
    "✕ login         me: no user is logged in as me",
    "    → run: syncd login me",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["as"] = "ops"
    hub.identities["me"] = {"login": {"client_id": "Iv23liMe"}, "api": hub.served.url}


@broken(
    "a token that was revoked",
    "doctor",
    4,
    (
        "✕ repository    acme/infra@main as ops: GitHub answered 401 to the request for 'main' of "
        "acme/infra (Bad credentials)"
    ),
    "    → the token is wrong, expired or revoked; make a new one",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    token = hub.folder / "bot.token"
    token.write_text("ghp_revoked000000000000000000000000000")
    token.chmod(0o600)
    hub.identities["ops"] = {"token": {"file": str(token)}, "api": hub.served.url}


# --- where it is asked ----------------------------------------------------------------------------


@broken(
    "a host that does not answer",
    "doctor",
    5,
    (
        "✕ app           ops (App 12345, key FINGERPRINT): the request for the App itself failed: "
        "127.0.0.1:9 can't be reached: Failed to establish a new connection: Connection refused"
    ),
    "    → check the network, DNS and any proxy; the next run tries again",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.identities["ops"]["api"] = "http://127.0.0.1:9"


@broken(
    "a proxy that does not answer",
    "doctor",
    5,
    (
        "✕ app           ops (App 12345, key FINGERPRINT): the request for the App itself failed: "
        "the proxy failed: Failed to establish a new connection: Connection refused"
    ),
    "    → check HTTPS_PROXY and its credentials",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.identities["ops"]["api"] = "https://ghe.example/api/v3"
    patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


@broken(
    "a proxy of another kind",
    "check --online",
    2,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    "syncd: the environment's https proxy is one of kind 'socks5', which syncd does not support",
    "  set HTTPS_PROXY to an http:// or https:// proxy, or unset it",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.identities["ops"]["api"] = "https://ghe.example/api/v3"
    patch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")


@broken(
    "an authority that is no certificate",
    "doctor",
    2,
    (
        "✕ secret        github.ops.ca_file: BASE/ca.pem holds no certificate that can be read; it "
        "must be PEM, beginning with -----BEGIN CERTIFICATE-----"
    ),
    "    → correct github.ops.ca_file",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    (hub.folder / "ca.pem").write_text("nothing\n")
    hub.identities["ops"]["ca_file"] = str(hub.folder / "ca.pem")


@broken(
    "a certificate of an unknown authority",
    "doctor",
    5,
    (
        "✕ app           ops (App 12345, key FINGERPRINT): the request for the App itself failed: "
        "localhost:PORT: its certificate can't be trusted: self-signed certificate"
    ),
    (
        "    → for a private authority set ca_file: in the identity; else something may answer in "
        "its "
        "place"
    ),
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    port, _ = later.enter_context(over_tls(hub.github, "localhost", hub.folder))
    hub.identities["ops"]["api"] = f"https://localhost:{port}/api/v3"


@broken(
    "a clock that is ten minutes slow",
    "doctor",
    0,
    "! clock         600 s behind GitHub's",
    "    → set up NTP: timedatectl set-ntp true; syncd reckons with the difference meanwhile",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.clock_offset = 600.0


@broken(
    "a rate limit that is used up",
    "doctor",
    5,
    (
        "✕ repository    acme/infra@main as ops: GitHub refused the request for 'main' of "
        "acme/infra: the hourly limit is used up; try again at TIME"
    ),
    "    → syncd waits by itself; see `syncd status` for the budget",
    "! limit         ops (acme): 0 of 5,000 requests left until TIME",
    "    → raise every: of the jobs; syncd status shows which repository spends how much",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.add_fault("head", used_up, times=100)


@broken(
    "GitHub has an outage",
    "check --online",
    5,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    (
        "✕ app           ops (App 12345, key FINGERPRINT): GitHub answered 502 to the request for "
        "the App itself (Server Error)"
    ),
    "    → GitHub has trouble; the next run tries again",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.add_fault("*", faults.status(502), times=100)


@broken(
    "a captive portal answers",
    "doctor",
    5,
    (
        "✕ app           ops (App 12345, key FINGERPRINT): GitHub answered the request for the "
        "App itself with a web page (a proxy or a sign-in page?)"
    ),
    "    → nothing was changed; the next run asks again",
    "! repository    nginx: not checked, as ops can't be used",
    "    → once that is mended, run syncd doctor again",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.add_fault("*", faults.html(), times=100)


# --- what is asked for ----------------------------------------------------------------------------


@broken(
    "a repository that is misspelled",
    "check --online",
    4,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    (
        "✕ repository    acme/infar@main as ops: GitHub answered 422 to the request for a token "
        "of installation 42 for acme/infar (There is at least one repository that does not exist "
        "or is not accessible to the parent installation.)"
    ),
    (
        "    → a repository of the jobs is not in the installation, or was renamed; see the App's "
        "page → Configure, and repo:"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["repo"] = "acme/infar"


@broken(
    "a repository that is not in the installation",
    "doctor",
    4,
    (
        "✕ repository    acme/infra@main as ops: GitHub answered 422 to the request for a token "
        "of installation 42 for acme/infra (There is at least one repository that does not exist "
        "or is not accessible to the parent installation.)"
    ),
    (
        "    → a repository of the jobs is not in the installation, or was renamed; see the App's "
        "page → Configure, and repo:"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.accounts.installations[42].repositories = ["other"]


@broken(
    "a repository that was renamed",
    "doctor",
    0,
    "! repository    acme/infra has another name on GitHub now: acme/platform",
    "    → write repo: acme/platform",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.github.rename("acme/infra", "acme/platform")


@broken(
    "a ref that is misspelled",
    "check --online",
    1,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    (
        "✕ repository    acme/infra@mian as ops: there is no branch, tag or commit 'mian' in "
        "acme/infra"
    ),
    (
        "    → did you mean 'main'? correct ref:, or create it upstream; the files stay as they "
        "are until then"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["ref"] = "mian"


@broken(
    "a branch that was deleted",
    "doctor",
    1,
    (
        "✕ repository    acme/infra@production as ops: there is no branch, tag or commit "
        "'production' in acme/infra"
    ),
    "    → correct ref:, or create it upstream; the files stay as they are until then",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.repo.refs["refs/heads/production"] = hub.repo.head()
    hub.write_config(ref="production")
    assert hub.sync().code == 0
    del hub.repo.refs["refs/heads/production"]


@broken(
    "a name that is a branch and a tag",
    "check --online",
    2,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    (
        "✕ repository    acme/infra@main as ops: ref: main is both a branch and a tag of "
        "acme/infra: refs/heads/main and refs/tags/main"
    ),
    (
        "    → write the one to follow, ref: refs/heads/main or ref: refs/tags/main; the files "
        "stay as they are until then"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.repo.refs["refs/tags/main"] = hub.repo.head()


@broken(
    "a listed folder that is misspelled",
    "check --online",
    1,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    "✕ path          nginx: there is no folder 'ngnix' in acme/infra at COMMIT",
    (
        "    → did you mean nginx/? correct from:, or take it out of the job; its files stay until "
        "then"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["paths"] = [{"from": "ngnix/", "to": f"{hub.dest}/"}]


@broken(
    "a listed file in another case",
    "doctor",
    1,
    "✕ path          nginx: 'nginx/Nginx.conf' is not in acme/infra at COMMIT",
    (
        "    → did you mean nginx/nginx.conf? correct from:, or take it out of the job; its file "
        "stays until then"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    listed = {"from": "nginx/Nginx.conf", "to": f"{hub.dest}/nginx.conf"}
    hub.jobs["nginx"]["paths"] = [listed]


@broken(
    "a folder without its slash",
    "doctor",
    1,
    "✕ path          nginx: 'nginx' is a folder in acme/infra at COMMIT",
    "    → write it with a trailing slash, from: nginx/, and give to: one too",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["paths"] = [{"from": "nginx", "to": f"{hub.dest}/nginx"}]


@broken(
    "two wrong paths of one job",
    "check --online",
    1,
    "BASE/config.yaml: 1 job, 1 identity: good. State: BASE/state",
    "✕ path          nginx: there is no folder 'ngnix' in acme/infra at COMMIT",
    (
        "    → did you mean nginx/? correct from:, or take it out of the job; its files stay until "
        "then"
    ),
    "✕ path          nginx: 'motd' is not in acme/infra at COMMIT",
    (
        "    → was it moved or removed upstream? correct from:, or take it out of the job; its "
        "file stays until then"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["paths"] = [
        {"from": "ngnix/", "to": f"{hub.dest}/a/"},
        {"from": "nginx/", "to": f"{hub.dest}/b/"},
        {"from": "motd", "to": f"{hub.dest}/motd"},
    ]


@broken(
    "a folder that was emptied upstream",
    "doctor",
    1,
    "✕ path          nginx: there is no folder 'nginx' in acme/infra at COMMIT",
    (
        "    → was it moved, emptied or removed upstream? correct from:, or take it out of the "
        "job; its files stay until then"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.repo.commit({"nginx/nginx.conf": None, "nginx/sites/a.conf": None, "README": "x\n"})


@broken(
    "an include that selects nothing",
    "doctor",
    1,
    "✕ path          nginx: include and exclude leave no file of nginx/",
    "    → correct include: and exclude:; they are relative to from:",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["paths"][0]["include"] = ["nginx/*.conf"]


@broken(
    "more files than the limit",
    "doctor",
    6,
    "✕ path          nginx: the job lists 2 files, more than limits.files: 1; nothing was changed",
    "    → if that is right, set limits: {files: 2} or more",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["limits"] = {"files": 1}


# --- the configuration itself ---------------------------------------------------------------------


@broken(
    "a time zone that nobody has",
    "check",
    2,
    (
        "BASE/config.yaml:17:11: timezone: 'Europe/Atlantis' is not a time zone; write it like "
        "UTC or Europe/Berlin"
    ),
    "    timezone: Europe/Atlantis",
    "              ^",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.extra["timezone"] = "Europe/Atlantis"


@broken(
    "a hook with words of a shell",
    "check",
    2,
    (
        "BASE/config.yaml:17:15: jobs.nginx.validate: '&&' means something to a shell alone, and "
        "no shell runs this text: put it in quotes to pass it as written, or write {shell: 'nginx "
        "-t && true'}"
    ),
    "        validate: nginx -t && true",
    "                  ^",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["validate"] = "nginx -t && true"


@broken(
    "a secret of the webhook that is missing",
    "doctor",
    2,
    "✕ secret        web.webhook.secret: BASE/hook.secret can't be read: No such file or directory",
    "    → check the path and who may read it",
    "! webhook       no delivery yet",
    (
        "    → GitHub shows under Recent Deliveries of the webhook what it sent and was answered; "
        "meanwhile the jobs' own schedules find every change"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    webhook(hub).unlink()


@broken(
    "a secret of the webhook that can be guessed",
    "doctor",
    2,
    "✕ secret        web.webhook.secret: it is shorter than 16 characters and can be guessed",
    "    → make another: openssl rand -hex 32",
    "! webhook       no delivery yet",
    (
        "    → GitHub shows under Recent Deliveries of the webhook what it sent and was answered; "
        "meanwhile the jobs' own schedules find every change"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    webhook(hub).write_text("hunter2")


# --- hooks ----------------------------------------------------------------------------------------


@broken(
    "a hook whose command is not in its PATH",
    "doctor",
    1,
    (
        "✕ hook          on_change of nginx: there is no command 'ngnix-reload' in "
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ),
    "    → install it, or write its whole path; a hook has this PATH, whatever yours is",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["on_change"] = "ngnix-reload now"


@broken(
    "a hook that is not executable",
    "doctor",
    1,
    "✕ hook          on_change of nginx: BASE/reload.sh can't be executed",
    "    → chmod +x BASE/reload.sh, and see its folders",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["on_change"] = script(hub, 0o644)


@broken(
    "a hook with Windows line ends",
    "doctor",
    1,
    "✕ hook          on_change of nginx: BASE/reload.sh has Windows line ends",
    "    → sed -i 's/\\r$//' BASE/reload.sh",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["on_change"] = script(hub, 0o755, "#!/bin/sh\r\ntrue\r\n")


@broken(
    "a hook that its user may not execute",
    "doctor",
    1,
    "✕ hook          on_change of nginx: BASE/reload.sh can't be executed by nobody",
    "    → chmod +x BASE/reload.sh, and see its folders",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"] |= {"on_change": script(hub, 0o700), "hook_user": "nobody"}


@broken(
    "a hook_user that nobody is",
    "doctor",
    1,
    "✕ hook          on_change of nginx: this machine knows no user nobody-here",
    "    → create it, or correct hook_user:",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"] |= {"on_change": "true", "hook_user": "nobody-here"}


@broken(
    "a reload that is pending",
    "doctor",
    0,
    "! reload        nginx: on_change is pending for 0s: `false`",
    "    → the next run tries it again; at once: syncd sync nginx",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.write_config(on_change="false")
    assert hub.sync().code == 1


# --- the disk -------------------------------------------------------------------------------------


@broken(
    "a full disk",
    "doctor",
    1,
    (
        "✕ space         1000 B are free at BASE, and 16.0 KiB are still to be written, with a "
        "margin of 1.0 MiB"
    ),
    "    → free some space: df -h BASE",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    space(patch, Space(1, 1000, 10_000, 1 << 30))


@broken(
    "no inodes",
    "doctor",
    1,
    "✕ space         inodes at BASE: 1 free, 4 needed for the files that are still to be written",
    "    → remove some files: df -i BASE",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    space(patch, Space(1, 1 << 29, 1, 1 << 30))


@broken(
    "a disk that is nearly full",
    "doctor",
    0,
    "! space         only 5.0 MiB are free at BASE; 16.0 KiB are still to be written",
    "    → free some space: df -h BASE",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    space(patch, Space(1, 5 << 20, None, 1 << 30))


@broken(
    "a read-only mount",
    "doctor",
    1,
    "✕ destination   nginx: BASE/dest is on ext4, mounted at /srv, and is read-only here",
    (
        "    → mount -o remount,rw /srv; in a unit: syncd init --systemd --install, then: "
        "systemctl restart syncd"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    place(patch, file_system="ext4", mount="/srv", read_only=True)


@broken(
    "a read-only sandbox of the daemon",
    "doctor",
    1,
    (
        "✕ destination   nginx: BASE/dest is read-only for the running daemon (pid PID), whose "
        "unit lacks ReadWritePaths=BASE/dest"
    ),
    "    → syncd init --systemd --install, then: systemctl restart syncd",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    alive(hub, later)
    patch.setattr("syncd.diagnosis.destinations.is_read_only_for", lambda pid, path: True)


@broken(
    "a destination in memory",
    "doctor",
    0,
    (
        "! destination   nginx: BASE/dest is on tmpfs, mounted at /run: its files are gone at the "
        "next start of the machine"
    ),
    "    → fine if that is meant: the next sync writes them again; else correct to:",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    place(patch, file_system="tmpfs", mount="/run")


@broken(
    "a destination in /proc",
    "doctor",
    1,
    (
        "✕ destination   nginx: /proc/sys/nginx is on proc, mounted at /proc: the kernel's own "
        "view, which keeps no files"
    ),
    "    → correct to: of nginx; it has to be a folder on a disk",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hub.jobs["nginx"]["paths"] = [{"from": "nginx/", "to": "/proc/sys/nginx/"}]


@broken(
    "a destination on vfat",
    "doctor",
    0,
    (
        "! destination   nginx: BASE/dest is on vfat, mounted at /boot/efi: it keeps no modes and "
        "owners, and a sync fails where they differ"
    ),
    "    → mount /boot/efi with the uid, gid and umask that the job asks for",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    place(patch, file_system="vfat", mount="/boot/efi")


@broken(
    "a destination in a container's own layer",
    "doctor",
    0,
    (
        "! destination   nginx: BASE/dest is on overlay, mounted at /: in a container its files "
        "are gone with the container"
    ),
    "    → mount a volume at BASE/dest, if they are to stay",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    place(patch, file_system="overlay", mount="/")


@broken(
    "a destination on FUSE",
    "doctor",
    0,
    (
        "! destination   nginx: BASE/dest is on fuse.sshfs, mounted at /mnt: a FUSE file system "
        "may not keep modes and owners"
    ),
    "    → after the first sync: syncd verify",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    place(patch, file_system="fuse.sshfs", mount="/mnt")


@broken(
    "a destination on a network file system",
    "doctor",
    0,
    (
        "! destination   nginx: BASE/dest is on nfs4, mounted at /mnt: a network file system, "
        "which other machines may write too"
    ),
    "    → let one machine alone mirror to it; the state folder has to be on a local disk",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    place(patch, file_system="nfs4", mount="/mnt")


@broken(
    "a bind-mounted file below the destination",
    "doctor",
    0,
    "! destination   nginx: BASE/dest/nginx.conf is a mount of its own: syncd can't replace it",
    (
        "    → mount the folder instead of the file, or exclude it from the job; umount "
        "BASE/dest/nginx.conf"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    place(patch, file_system="ext4", mount="/", mounted_files=(f"{hub.dest}/nginx.conf",))


@broken(
    "a destination that is a link",
    "doctor",
    1,
    "✕ destination   nginx: BASE/link is a link to BASE/dest",
    "    → write to: BASE/dest/ instead; syncd writes through no link",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    (hub.folder / "link").symlink_to(hub.dest)
    hub.jobs["nginx"]["paths"] = [{"from": "nginx/", "to": f"{hub.folder}/link/"}]


@broken(
    "a link above the destination that leads nowhere",
    "doctor",
    1,
    "✕ destination   nginx: BASE/link is a link to BASE/gone, which does not exist",
    "    → make what it leads to (mkdir -p BASE/gone), mount it, or correct the link",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    (hub.folder / "link").symlink_to(hub.folder / "gone")
    hub.jobs["nginx"]["paths"] = [{"from": "nginx/", "to": f"{hub.folder}/link/www/"}]


@broken(
    "a folder above the destination that all may write",
    "doctor",
    0,
    "! destination   nginx: BASE/open is writable by all users",
    "    → chmod o-w BASE/open",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    (hub.folder / "open").mkdir()
    (hub.folder / "open").chmod(0o777)
    hub.jobs["nginx"]["paths"] = [{"from": "nginx/", "to": f"{hub.folder}/open/www/"}]


@broken(
    "a disk that does not answer",
    "doctor",
    1,
    "✕ destination   the check did not end within 0.2 s",
    "    → is a network mount or a disk that it looks at hanging? df and dmesg tell",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    hangs = Event()
    later.callback(hangs.set)
    patch.setattr("syncd.diagnosis.runner.LIMIT_SECONDS", 0.2)
    patch.setattr("syncd.diagnosis.destinations.destination_facts", lambda folder: hangs.wait())


# --- the store and the daemon ---------------------------------------------------------------------


@broken(
    "a store of a later version",
    "doctor",
    1,
    (
        "✕ store         the store was written by a newer syncd (schema 0777, this one knows "
        f"{VERSION}); it was not touched"
    ),
    (
        "    → install that version again, or move the state folder away: files stay, and equal "
        "ones are adopted"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    later_version = f"PRAGMA application_id = {APPLICATION_ID_BASE + 777}"
    sql(hub, f"UPDATE alembic_version SET version_num = '0777'; {later_version}")


@broken(
    "a store that is no database",
    "doctor",
    1,
    (
        "✕ store         the store BASE/state/syncd.db is damaged (file is not a database); the "
        "next run sets it aside and creates a new one: nothing is removed"
    ),
    "    → run: syncd sync, which keeps files that are equal; why it is damaged: dmesg | tail",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    assert hub.sync().code == 0
    (hub.state / "syncd.db").write_bytes(b"no database" * 1000)


@broken(
    "a store without one of its tables",
    "doctor",
    1,
    "✕ store         the store BASE/state/syncd.db is damaged",
    "    → run: syncd sync, which keeps files that are equal; why it is damaged: dmesg | tail",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    sql(hub, "DROP TABLE delivery")


@broken(
    "a state folder that another user can replace",
    "doctor",
    0,
    (
        "! store         BASE/open/state can't be used as root: in BASE/open (owner: root, mode "
        "0777) another user can replace state"
    ),
    "    → sudo chown root BASE/open && sudo chmod go-w BASE/open, or use a folder elsewhere",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    (hub.folder / "open").mkdir()
    (hub.folder / "open").chmod(0o777)
    hub.extra["state"] = f"{hub.folder}/open/state"


@broken(
    "files of a job that is gone",
    "doctor",
    0,
    "! store         nginx is not configured any more; its 2 files stay",
    "    → to forget them: syncd sync --forget nginx",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    assert hub.sync().code == 0
    other = {**hub.jobs.pop("nginx"), "paths": [{"from": "nginx/", "to": f"{hub.folder}/new/"}]}
    hub.jobs["other"] = other


@broken(
    "a daemon that was killed",
    "doctor",
    1,
    "✕ daemon        has died, or hangs: last heartbeat 3h ago",
    "    → systemctl restart syncd; why it ended: journalctl -u syncd -n 50",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    beat(hub, timedelta(hours=3), pid=4321)


@broken(
    "a daemon that was stopped",
    "doctor",
    0,
    "! daemon        was stopped 3h ago: nothing runs the jobs",
    "    → systemctl start syncd, or let a timer run: syncd sync",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    beat(hub, timedelta(hours=3), pid=None)


@broken(
    "a daemon that hangs",
    "doctor",
    1,
    "✕ daemon        has died, or hangs: last heartbeat 3h ago",
    "    → systemctl restart syncd; why it ended: journalctl -u syncd -n 50",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    beat(hub, timedelta(hours=3), pid=os.getpid())
    later.enter_context(daemon_lock(hub.state))


@broken(
    "a daemon whose job is overdue",
    "doctor",
    0,
    "! daemon        runs, and these jobs are overdue: nginx",
    "    → raise workers:, if all are busy; what it does now: journalctl -u syncd -n 50",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    ran = datetime.now(UTC) - timedelta(hours=2)
    alive(hub, later)
    with closing(SqliteStore.open(hub.state)) as store:
        store.change_state("nginx", lambda state: replace(state, last_run_at=ran))


@broken(
    "a timer that is not enabled",
    "doctor",
    0,
    "! timer         syncd-sync.timer is installed and not enabled",
    "    → systemctl enable --now syncd-sync.timer",
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    found = SystemdTimer("syncd-sync.timer", False)
    patch.setattr("syncd.status.read.find_timer", lambda: found)


# --- the webhook ----------------------------------------------------------------------------------


@broken(
    "a webhook with another secret",
    "doctor",
    0,
    (
        "! webhook       last delivery 2d ago (push); refused 3m ago: its signature was not made "
        "with web.webhook.secret"
    ),
    (
        "    → give GitHub's webhook and web.webhook.secret the same secret; Recent Deliveries of "
        "the webhook can then send it again"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    webhook(hub)
    now = datetime.now(UTC)
    refused = "its signature was not made with web.webhook.secret"
    heard = WebhookStats(now - timedelta(days=2), "push", now - timedelta(minutes=3), refused)
    store = SqliteStore.open(hub.state)
    save_webhook_stats(store, heard)
    store.close()


@broken(
    "a webhook that GitHub never called",
    "doctor",
    0,
    "! webhook       no delivery yet",
    (
        "    → GitHub shows under Recent Deliveries of the webhook what it sent and was answered; "
        "meanwhile the jobs' own schedules find every change"
    ),
)
def _(hub: SyncEnv, patch: pytest.MonkeyPatch, later: ExitStack) -> None:
    webhook(hub)


# --- helpers --------------------------------------------------------------------------------------


def webhook(hub: SyncEnv) -> Path:
    """Configure a webhook; return the file of its secret."""
    secret = hub.folder / "hook.secret"
    secret.write_text("a-secret-of-the-webhook")
    secret.chmod(0o600)
    hook = {"path": "/github", "secret": str(secret)}
    hub.extra["web"] = {"listen": "127.0.0.1:8480", "webhook": hook}
    return secret


def script(hub: SyncEnv, mode: int, text: str = "#!/bin/sh\ntrue\n") -> str:
    """Make a script for a hook; return its path."""
    made = hub.folder / "reload.sh"
    made.write_text(text)
    made.chmod(mode)
    return str(made)


def space(patch: pytest.MonkeyPatch, found: Space) -> None:
    """Let every file system have this much space."""
    patch.setattr("syncd.diagnosis.space.space_at", lambda path: found)


def place(patch: pytest.MonkeyPatch, **changed: object) -> None:
    """Let every destination be on this file system."""

    def found(folder: str) -> DestinationFacts:
        return replace(destination_facts(folder), **changed)

    patch.setattr("syncd.diagnosis.destinations.destination_facts", found)


def beat(hub: SyncEnv, age: timedelta, pid: int | None) -> None:
    """Save a heartbeat of this age."""
    assert hub.sync().code == 0
    at = datetime.now(UTC) - age
    store = SqliteStore.open(hub.state)
    store.facts.save_heartbeat(Heartbeat("host", pid, at - timedelta(days=1), at))
    store.close()


def alive(hub: SyncEnv, later: ExitStack) -> None:
    """Let a daemon run: it holds the lock, and its heartbeat is recent."""
    beat(hub, timedelta(seconds=5), os.getpid())
    later.enter_context(daemon_lock(hub.state))


def sql(hub: SyncEnv, statement: str) -> None:
    """Change the store behind syncd's back."""
    assert hub.sync().code == 0
    with closing(sqlite3.connect(hub.state / "syncd.db")) as database, database:
        database.executescript(statement)


def used_up(answer: Answer) -> Answer:
    """Answer as GitHub does when the hourly limit is reached."""
    reset = str(int(datetime(2099, 1, 1, tzinfo=UTC).timestamp()))
    headers = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0"}
    refusal = faults.status(
        403,
        "API rate limit exceeded for installation ID 42.",
        {**headers, "x-ratelimit-reset": reset},
    )
    return refusal(answer)


def plain(hub: SyncEnv, text: str) -> str:
    """Return the output with words for what is different in each run."""
    for found, word in (
        (hub.served.url, "API"),
        (str(hub.folder), "BASE"),
        (hub.repo.head()[:7], "COMMIT"),
        (f"pid {os.getpid()}", "pid PID"),
    ):
        text = text.replace(found, word)
    for pattern, word in PATTERNS.items():
        text = re.sub(pattern, word, text)
    return text


PATTERNS = {
    r"SHA256:[A-Za-z0-9+/]{43}=": "FINGERPRINT",
    r"request id [A-Z0-9:]+": "request id ID",
    r"localhost:\d+": "localhost:PORT",
    r"(\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\dZ|\d\d:\d\d UTC": "TIME",
    r"(clock +)(599|600)\.\d s": r"\g<1>600 s",
}


def not_well(hub: SyncEnv, done: CommandResult) -> list[str]:
    """Return every line of the output that is not good news."""
    lines = plain(hub, done.out + done.err).splitlines()
    return [line for line in lines if not line.startswith(("✓ ", "{"))]


AS_ROOT = (
    "a hook_user that nobody is",
    "a hook that its user may not execute",
    "a state folder that another user can replace",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.root if one in AS_ROOT else ()) for one in SETUPS],
)
def test_cause_and_remedy_of_each_broken_setup_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    setup = SETUPS[name]
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    if name != "a destination in memory":  # as the tests' own folder may be
        monkeypatch.setattr("syncd.diagnosis.destinations.MEMORY", frozenset())
    with ExitStack() as later, sync_env(tmp_path) as hub:
        setup.change(hub, monkeypatch, later)
        hub.write()
        done = hub.call(*setup.command.split())
        assert not_well(hub, done) == list(setup.lines)
        assert done.code == setup.code


def test_the_table_has_at_least_thirty_setups_each_with_a_remedy() -> None:
    assert len(SETUPS) >= 30
    assert {setup.command for setup in SETUPS.values()} == {"doctor", "check", "check --online"}


# --- mounts of the kernel -------------------------------------------------------------------------

BIND = "mount --bind BASE/dest BASE/dest"
MOUNTS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "a read-only bind mount": (
        f"{BIND}; mount -o remount,ro,bind BASE/dest",
        1,
        (
            "✕ destination   nginx: BASE/dest can't be written to",
            (
                "✕ destination   nginx: BASE/dest is on TYPE, mounted at BASE/dest, and is "
                "read-only here"
            ),
        ),
    ),
    "a tmpfs": (
        "mount -t tmpfs none BASE/dest",
        0,
        (
            (
                "! destination   nginx: BASE/dest is on tmpfs, mounted at BASE/dest: its files are "
                "gone at the next start of the machine"
            ),
        ),
    ),
    "a tmpfs that is too small": (
        "mount -t tmpfs -o size=8k none BASE/dest",
        1,
        (
            (
                "! destination   nginx: BASE/dest is on tmpfs, mounted at BASE/dest: its files are "
                "gone at the next start of the machine"
            ),
            (
                "✕ space         8.0 KiB are free at BASE/dest, and 8.0 KiB are still to be "
                "written, with a margin of 81 B"
            ),
        ),
    ),
    "a tmpfs without inodes": (
        "mount -t tmpfs -o size=64m,nr_inodes=2 none BASE/dest",
        1,
        (
            (
                "! destination   nginx: BASE/dest is on tmpfs, mounted at BASE/dest: its files are "
                "gone at the next start of the machine"
            ),
            (
                "✕ space         inodes at BASE/dest: 1 free, 2 needed for the files that are "
                "still to be written"
            ),
        ),
    ),
    "a file that is bind-mounted": (
        "touch BASE/dest/nginx.conf; mount --bind BASE/config.yaml BASE/dest/nginx.conf",
        0,
        (
            (
                "! destination   nginx: BASE/dest/nginx.conf is a mount of its own: syncd can't "
                "replace it"
            ),
        ),
    ),
}


@pytest.mark.root
@pytest.mark.parametrize(("mount", "code", "lines"), MOUNTS.values(), ids=MOUNTS)
def test_mounts_of_a_destination_are_named(
    hub: SyncEnv, mount: str, code: int, lines: tuple[str, ...]
) -> None:
    done = in_own_mounts(hub, mount, "doctor")
    text = re.sub(
        r"on \w+, mounted at BASE/dest, and",
        "on TYPE, mounted at BASE/dest, and",
        plain(hub, done.out + done.err),
    )
    found = [line for line in text.splitlines() if line.startswith(("!", "✕"))]
    if "tmpfs" not in mount:  # the tests' own folder may be in memory
        found = [line for line in found if "is on tmpfs, mounted" not in line]
    assert (done.code, found) == (code, list(lines))
