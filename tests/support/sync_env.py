"""A stand for whole runs: the simulator over real sockets, a configuration, the command called in
this process, and trees to compare.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from syncd.cli.main import run
from syncd.simulator.github import GitHub
from syncd.simulator.repository import Repository
from syncd.simulator.server import ServerUrls, serve
from tests.support.fork_server import forked_supervisors
from tests.support.secret_scan import SecretScan, alive, listening

_KEYS: dict[int, tuple[str, str]] = {}


def app_with_known_key(github: GitHub, app_id: int) -> str:
    """An App whose key is made once per test process:
    making RSA keys is the slowest thing tests do.
    """
    if app_id not in _KEYS:
        private = github.accounts.add_app(app_id)
        _KEYS[app_id] = (private, github.accounts.apps[str(app_id)].public_keys[-1])
        return private
    from syncd.simulator.accounts import App

    private, public = _KEYS[app_id]
    app = App(app_id, f"Iv23li{app_id}", [public])
    github.accounts.apps[str(app_id)] = github.accounts.apps[app.client_id] = app
    return private


class WatchedGitHub(GitHub):
    """A simulator that tells the canary every credential it gave out or was shown,
    also those of requests that a test forgot.
    """

    def __init__(self, canary: SecretScan) -> None:
        super().__init__()
        self.canary = canary

    def forget_requests(self) -> None:
        self.tell()
        super().forget_requests()

    def tell(self) -> None:
        for value in list(self.accounts.credentials):
            self.canary.watch(value, "a token")
        for value in list(self.oauth.refreshes):
            self.canary.watch(value, "a refresh token")
        for device in list(self.oauth.devices.values()):
            self.canary.watch(device.code, "a device code")
        for one in list(self.requests):
            self.canary.watch(one.credential, "a credential that was sent")
            self.canary.watch(one.headers.get("x-storage"), "the key of a large file's storage")
            self.canary.watch(one.headers.get("proxy-authorization"), "a proxy's password")
        for repo in self.repos.values():
            for commit in repo.commits:
                self.canary.watch(f"SIGNED{commit[:8]}", "the token of an archive's address")


@dataclass
class CommandResult:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def job(self) -> Any:
        return self.json["jobs"][0]


@dataclass
class SyncEnv:
    """`folder/config.yaml` is the configuration, `dest` where jobs write,
    `sync` runs `syncd sync --json`.
    """

    folder: Path
    github: GitHub
    served: ServerUrls
    repo: Repository
    jobs: dict[str, Any] = field(default_factory=dict)
    identities: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    canary: SecretScan = field(default_factory=SecretScan)

    @property
    def dest(self) -> Path:
        return self.folder / "dest"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def write_config(self, **job: Any) -> None:
        """The configuration with the job `nginx` changed by what is given (None removes a key)."""
        self.jobs["nginx"] = {
            key: value for key, value in {**self.jobs["nginx"], **job}.items() if value is not None
        }
        self.write()

    def write(self) -> None:
        value = {
            "version": "1",
            "state": str(self.state),
            # an agent of a fleet has none
            **({"github": self.identities} if self.identities or not self.extra else {}),
            "jobs": self.jobs,
            **self.extra,
        }
        self.config.write_text(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False))

    def call(self, *arguments: str) -> CommandResult:
        """A command as a user types it, after `syncd -c CONFIG`."""
        out, err, where = io.StringIO(), io.StringIO(), " ".join(arguments)
        with listening(self.canary, where), redirect_stdout(out), redirect_stderr(err):
            code = run(["-c", str(self.config), *arguments])
        self.canary.heard(f"stdout of {where}", out.getvalue())
        self.canary.heard(f"stderr of {where}", err.getvalue())
        return CommandResult(code, out.getvalue(), err.getvalue())

    def sync(self, *arguments: str) -> CommandResult:
        self.github.forget_requests()
        return self.call("sync", "--json", *arguments)

    def plan(self, *arguments: str) -> CommandResult:
        return self.call("plan", "--json", *arguments)

    def tree(self) -> dict[str, Any]:
        return tree_of(self.dest)


def tree_of(folder: Path) -> dict[str, Any]:
    """Path -> bytes, or ("link", target), or ("exec", bytes);
    what a mirror looks like from outside.
    """
    found: dict[str, Any] = {}
    for place, names, files in os.walk(folder):
        for name in [
            *files,
            *(name for name in names if os.path.islink(os.path.join(place, name))),
        ]:
            path = os.path.join(place, name)
            relative = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[relative] = ("link", os.readlink(path))
            else:
                content = Path(path).read_bytes()
                found[relative] = ("exec", content) if os.stat(path).st_mode & 0o100 else content
    return found


def signatures(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Path -> (inode, mtime, ctime) of everything below."""
    found = {}
    for place, names, files in os.walk(folder):
        for name in [*names, *files]:
            stat = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def _secret_files(value: Any) -> Iterator[Path]:
    """Every file that a configuration's values name: where an operator keeps a secret."""
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _secret_files(inner)
    elif isinstance(value, str) and value.startswith("/"):
        yield Path(value)


@contextmanager
def sync_env(
    folder: Path,
    files: Mapping[str, Any] | None = None,
    as_app: bool = True,
    github: Callable[[SecretScan], WatchedGitHub] = WatchedGitHub,
) -> Iterator[SyncEnv]:
    """acme/infra with `files` on a simulator, one identity (App 12345 with installation 42,
    or a personal token), one job `nginx`.

    When it is taken down, no credential may be found in anything that was said, or that stands in
    its folder.
    """
    canary = SecretScan(spared={folder / "state/logins"})
    simulator = github(canary)
    repo = simulator.add_repo(
        "acme/infra",
        files if files is not None else {"nginx/nginx.conf": "one\n", "nginx/sites/a.conf": "a\n"},
    )
    (folder / "dest").mkdir(parents=True, exist_ok=True)
    with serve(simulator) as served, alive(canary), forked_supervisors():
        if as_app:
            key = folder / "app.pem"
            key.write_text(app_with_known_key(simulator, 12345))
            canary.watch(key.read_text(), "a private key")
            key.chmod(0o600)
            simulator.accounts.install(12345, "acme", 42)
            identity: dict[str, Any] = {
                "app_id": "12345",
                "installation_id": "42",
                "private_key": str(key),
                "api": served.url,
            }
        else:
            token = folder / "token"
            token.write_text("ghp_personal00000000000000000000000000")
            token.chmod(0o600)
            simulator.accounts.add_personal_token("ghp_personal00000000000000000000000000")
            identity = {"token": {"file": str(token)}, "api": served.url}
        made = SyncEnv(folder, simulator, served, repo, identities={"ops": identity}, canary=canary)
        made.jobs["nginx"] = {
            "repo": "acme/infra",
            "ref": "main",
            "every": "5m",
            "paths": [{"from": "nginx/", "to": f"{folder}/dest/"}],
        }
        made.write()
        yield made
    simulator.tell()
    canary.spared |= set(_secret_files([made.identities, made.extra]))
    leaks = canary.search(folder)
    assert not leaks, f"credentials leaked: {leaks}"
