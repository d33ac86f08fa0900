"""What an operator has in front of him: the machine, a configuration in /etc/syncd, a repository on
GitHub, and the commands that syncd names.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from syncd.simulator.github import GitHub
from syncd.simulator.repository import Repository
from syncd.simulator.server import ServerUrls, serve
from tests.support.sync_env import app_with_known_key
from tests.systemd.machine import Machine, until

FILES = {"nginx/nginx.conf": "one\n", "nginx/sites/a.conf": "a\n"}
UNITS = ("syncd.service", "syncd-root.service", "syncd-sync.timer", "syncd-sync.service")


@dataclass
class Site:
    machine: Machine
    github: GitHub
    served: ServerUrls
    repo: Repository
    private_key: str
    cursor: str = ""
    jobs: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """The configuration of `jobs`, as the App that reads acme/infra,
        with its key as a credential.
        """
        identity = {
            "app_id": "12345",
            "installation_id": "42",
            "private_key": {"credential": "app.pem"},
            "api": self.served.url,
        }
        value = {"version": "1", "github": {"ops": identity}, "jobs": self.jobs, **self.extra}
        self.machine.write("/etc/syncd/config.yaml", yaml.safe_dump(value, sort_keys=False))

    def key(self, folder: str = "/root") -> None:
        self.machine.write(f"{folder}/app.pem", self.private_key, 0o600)

    def syncd(self, *arguments: str, check: bool = True) -> Any:
        return self.machine.run("syncd", *arguments, check=check)

    def install(self, *options: str) -> list[str]:
        """As the operator does it: `init --systemd --install`, then each command that it names.

        Gives the commands back.
        """
        self.write()
        self.key()
        said = self.syncd("init", "--systemd", "--install", *options).stderr
        steps = [
            line.strip()
            for line in said.partition("next, as root:\n")[2].splitlines()
            if line.startswith("  ")
        ]
        assert steps, said
        for step in steps:
            self.machine.run("sh", "-c", f"cd /root && {step}")
        return steps

    def drop_in(self, unit: str, name: str, text: str) -> None:
        """A drop-in of the operator's own, in force from the next start on."""
        self.machine.write(f"/etc/systemd/system/{unit}.d/{name}.conf", text)
        self.machine.systemctl("daemon-reload")

    def forget_journal(self) -> None:
        self.cursor = (
            self.machine.run("journalctl", "-n0", "--show-cursor", "-q")
            .stdout.partition("cursor: ")[2]
            .strip()
        )

    def journal(self, unit: str | None = None) -> str:
        """What was logged since this test began, or since it was forgotten."""
        return self.machine.run(
            "journalctl",
            "--no-pager",
            "-o",
            "cat",
            f"--after-cursor={self.cursor}",
            *(("-u", unit) if unit else ()),
        ).stdout

    def status(self, unit: str = "syncd.service") -> dict[str, Any]:
        """`syncd status --json` as its user would ask."""
        user = self.machine.show(unit, "User") or "root"
        done = self.machine.run(
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--init-groups",
            "syncd",
            "status",
            "--json",
            check=False,
        )
        return {job["job"]: job for job in json.loads(done.stdout)["jobs"]} if done.stdout else {}

    def text(self, path: str) -> str | None:
        """A file inside, or None."""
        try:
            return self.machine.path(path).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def until_text(self, path: str, text: str) -> None:
        try:
            until(f"{path} is {text!r}", lambda: self.text(path) == text)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; it is {self.text(path)!r}\n{self.journal()[-4000:]}"
            ) from error


@contextmanager
def site(machine: Machine) -> Iterator[Site]:
    """One job `web` from nginx/ to /srv/web, nothing installed yet;
    nothing of it is left afterwards.
    """
    github = GitHub()
    repo = github.add_repo("acme/infra", FILES)
    private_key = app_with_known_key(github, 12345)
    github.accounts.install(12345, "acme", 42)
    serving = serve(github)
    started: list[ServerUrls] = []
    machine.in_network(lambda: started.append(serving.__enter__()))
    made = Site(machine, github, started[0], repo, private_key)
    made.forget_journal()
    made.jobs["web"] = {
        "repo": "acme/infra",
        "ref": "main",
        "every": "1s",
        "paths": [{"from": "nginx/", "to": "/srv/web/"}],
    }
    try:
        yield made
    finally:
        serving.__exit__(None, None, None)
        with contextlib.suppress(AssertionError):
            machine.systemctl("disable", "--now", *UNITS, check=False)
            machine.systemctl("reset-failed", check=False)
        machine.run(
            "sh",
            "-c",
            (
                "chattr -i -R /srv 2>/dev/null; rm -rf /etc/systemd/system/syncd* /etc/syncd "
                "/var/lib/syncd /srv/* /root/app.pem"
            ),
            check=False,
        )
        machine.systemctl("daemon-reload", check=False)
