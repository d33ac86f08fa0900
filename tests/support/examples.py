"""A configuration of docs/examples, moved below a folder of the test and to a simulated GitHub.

What is moved: every `to:`, the state, the identities (their App's key and API), and in hooks the
path after the staged folder. `on_change` writes its command to `reloads` instead: there is no
service to reload. A health check asks `service`, and notices go to the address in the variable
`HOOK_URL`. Everything else is taken as it is in the example.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from syncd.simulator.repository import File, Node
from tests.support.sync_env import CommandResult, SyncEnv, app_with_known_key, sync_env

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def files_of(example: str) -> dict[str, File]:
    """Return the files of an example's repository."""
    folder = EXAMPLES / example / "repository"
    return {
        str(path.relative_to(folder)): File(path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class MovedExample:
    """An example that runs below `root`; `commit` and `sync` are a day of its repository."""

    def __init__(self, env: SyncEnv, example: str, config: str, service: str = "") -> None:
        self.env, self.example, self.source = env, example, EXAMPLES / config
        self._service = service
        self.root, self.reloads = env.folder / "root", env.folder / "reloads"
        self._config = env.folder / "moved"
        self._config.mkdir(mode=0o700)
        parts = [self.source] if self.source.is_file() else sorted(self.source.glob("*.yaml"))
        for part in parts:
            self._move(part)
        self._repo = env.github.add_repo(self._repository, default_branch=self._branch)
        self.commit(files_of(example))
        env.github.accounts.install(12345, self._repository.partition("/")[0], 42)

    def commit(self, changes: Mapping[str, Node]) -> None:
        """Commit to the branch that the example follows, as somebody whose signature is known."""
        self._repo.commit(changes, verification="valid")

    def _move(self, part: Path) -> None:
        value = yaml.safe_load(part.read_text())
        for identity in value.get("github", {}).values():
            path = "/api/v3" if identity.get("api", "").endswith("/api/v3") else ""
            identity |= {"app_id": 12345, "private_key": str(self.env.folder / "app.pem")}
            identity["api"] = self.env.served.url + path
            identity.pop("ca_file", None)
            value["state"] = str(self.env.state)
        for receiver in value.get("notify", []):
            receiver["webhook"] = {"env": "HOOK_URL"}
        jobs: dict[str, dict[str, Any]] = value.get("jobs", {})
        repos = {
            job["repo"] for job in [value.get("defaults", {}), *jobs.values()] if "repo" in job
        }
        if repos:
            [self._repository] = repos
        for job in jobs.values():
            self._branch = job.get("ref", "main")
            self._move_job(job)
        (self._config / part.name).write_text(yaml.safe_dump(value, sort_keys=False))

    def _move_job(self, job: dict[str, Any]) -> None:
        for path in job["paths"]:
            path["to"] = f"{self.root}{path['to']}"
            Path(path["to"].rstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        if job.get("owner") == "root:root" and os.geteuid() != 0:
            del job["owner"]
        if "validate" in job:
            job["validate"] = self._staged(job["validate"])
        if "on_change" in job:
            line = f"echo {shlex.quote(job['on_change'])} >> {shlex.quote(str(self.reloads))}"
            job["on_change"] = {"shell": line}
        if "health" in job:
            job["health"]["command"] = [
                re.sub(r"^http://127\.0\.0\.1:\d+", self._service, word)
                for word in job["health"]["command"]
            ]

    def _staged(self, hook: Any) -> Any:
        if isinstance(hook, Mapping):
            return {name: self._staged(value) for name, value in hook.items()}
        if not isinstance(hook, str):
            return hook
        hook = hook.replace("{staged}/", "{staged}" + f"{self.root}/")
        hook = hook.replace('"$SYNCD_STAGED"/', f'"$SYNCD_STAGED"{self.root}/')
        return hook.replace("Include %s/", f"Include %s{self.root}/")

    def sync(self, *arguments: str) -> CommandResult:
        """Run `syncd sync` of the moved configuration."""
        self.env.github.forget_requests()
        return self.call("sync", "--json", *arguments)

    def call(self, *arguments: str) -> CommandResult:
        """Run a command with the moved configuration."""
        return self.env.call("-c", str(self._config), *arguments)

    def path(self, place: str) -> Path:
        """Return where a destination of the example is now."""
        return Path(f"{self.root}{place}")


@contextmanager
def moved_example(
    folder: Path, example: str, config: str, service: str = ""
) -> Iterator[MovedExample]:
    """Return the example below `folder`, with its repository on a simulator."""
    with sync_env(folder, {}) as env:
        app_with_known_key(env.github, 12345)
        yield MovedExample(env, example, config, service)
