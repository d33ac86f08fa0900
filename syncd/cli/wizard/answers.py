"""The answers to the wizard's questions, and the configuration that they make.

Pure but for `problems`, which looks at this machine's own places, as `check` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from syncd.config.convert import to_config
from syncd.config.cross_checks import check_config
from syncd.config.folder import Folder
from syncd.config.model import Config
from syncd.config.protected import protected_paths
from syncd.config.schema import ConfigModel
from syncd.config.yaml_reader import Key
from syncd.errors import Problem

GITHUB = "https://api.github.com"
IDENTITY_NAMES = {"app": "ops", "token": "bot", "login": "me", "public": "public"}


class Answers(Struct):
    """What was answered so far. An answer stays as the default when its question comes again.

    `app` is an App id or a client id; `about` and `account` are what GitHub says of the identity
    and of the installation. `ref` is empty for the default branch, `on_change` for no command;
    with `shell` a shell runs it.
    """

    place: Path
    host: str = "github.com"
    api: str = GITHUB
    ca_file: str = ""
    kind: str = "app"
    app: str = ""
    key_file: str = ""
    token_file: str = ""
    client_id: str = ""
    about: str = ""
    installation: int | None = None
    account: str = ""
    repo: str = ""
    ref: str = ""
    source: str = ""
    to: str = ""
    every: str = "5m"
    on_change: str = ""
    shell: bool = False

    @property
    def identity_name(self) -> str:
        """Return the name of the identity in the configuration."""
        return IDENTITY_NAMES[self.kind]

    @property
    def job_name(self) -> str:
        """Return the repository's own name, as a job's."""
        return re.sub(r"[^A-Za-z0-9_-]", "-", self.repo.partition("/")[2]).strip("-_") or "first"

    def identity(self) -> dict[str, Any]:
        """Return the identity as the configuration has it, all scalars as text."""
        found: dict[str, Any] = {"anonymous": True}
        if self.kind == "app":
            found = {"app_id" if self.app.isdigit() else "client_id": self.app}
            if self.installation:
                found["installation_id"] = str(self.installation)
            found["private_key"] = {"file": self.key_file}
        elif self.kind == "token":
            found = {"token": {"file": self.token_file}}
        elif self.kind == "login":
            found = {"login": {"client_id": self.client_id}}
        if self.api != GITHUB:
            found["api"] = self.api
        if self.ca_file:
            found["ca_file"] = self.ca_file
        return found

    def job(self) -> dict[str, Any]:
        """Return the job as the configuration has it."""
        schedule = schedule_key(self.every)
        found: dict[str, Any] = {"repo": self.repo}
        if self.ref:
            found["ref"] = self.ref
        found |= {"paths": [{"from": self.source, "to": self.to}], schedule: self.every}
        if self.on_change:
            found["on_change"] = {"shell": self.on_change} if self.shell else self.on_change
        return found

    def config(self, environ: Mapping[str, str]) -> Config:
        """Return the configuration as it will be loaded. Needs every answer to be valid."""
        value = {
            "version": "1",
            "github": {self.identity_name: self.identity()},
            "jobs": {self.job_name: self.job()},
        }
        folder = Folder((self.place,), (), ())
        return to_config(ConfigModel.model_validate(value), self.place, folder, environ, "")

    def problems(self, environ: Mapping[str, str]) -> list[str]:
        """Return what is wrong between the answers, such as a destination that is syncd's own."""
        config = self.config(environ)

        def problem(key: Key, text: str) -> Problem:
            """Return the problem without a position: nothing is written yet."""
            return Problem(str(self.place), 0, 0, "", text)

        return [one.text for one in check_config(config, problem, protected_paths(config, environ))]

    def text(self) -> str:
        """Return the configuration as commented YAML."""
        lines = [
            "# syncd's configuration. Every key, with its default: docs/configuration.md;",
            "# every mistake, with its place: syncd check",
            "version: 1",
            "",
            "github:",
            _line(f"  {self.identity_name}:", self.about),
            *_block(self.identity(), "    ", {"installation_id": self.account}),
            "",
            "jobs:",
            f"  {self.job_name}:",
            *_block(self.job(), "    ", {}),
        ]
        if not self.ref:
            lines.append("    # ref: main             # without it: the default branch")
        return "\n".join([*lines, *OTHER_KEYS]) + "\n"


OTHER_KEYS = (
    "    # drift: restore       # local edits: restore | report | keep",
    "    # validate: COMMAND    # may refuse a commit; {staged} has the new files",
)


def schedule_key(text: str) -> str:
    """Return which key a schedule belongs to: `cron` for five fields or @daily, else `every`."""
    return "cron" if text.startswith("@") or len(text.split()) > 3 else "every"


def _block(value: Mapping[str, Any], margin: str, remarks: Mapping[str, str]) -> list[str]:
    found = []
    for key, one in value.items():
        if isinstance(one, list):
            found += [f"{margin}{key}:", *(f"{margin}  - {flow(item)}" for item in one)]
        else:
            found.append(_line(f"{margin}{key}: {flow(one)}", remarks.get(key, "")))
    return found


def _line(text: str, remark: str) -> str:
    return f"{text:<32} # {remark}" if remark and remark.isprintable() else text


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(one)}" for key, one in value.items()) + "}"
    return scalar(str(value))


def scalar(text: str) -> str:
    """Return the text as a YAML scalar, quoted if needed."""
    if re.fullmatch(r"[A-Za-z0-9_/][A-Za-z0-9_./@+-]*|https?://[A-Za-z0-9_./:-]+", text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in '\\"':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
