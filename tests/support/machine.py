"""A machine in a temporary folder: /etc, /usr, /var, /run and a home,
with a syncd that is configured, installed and started there.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config import protected
from syncd.config.program import Program
from tests.support.sync_env import SyncEnv, sync_env

MADE = (
    "etc/syncd",
    "etc/keys",
    "etc/ssl",
    "etc/python3",
    "etc/systemd/system",
    "var/lib/syncd",
    "run",
    "usr/bin",
    "usr/lib/python3/site-packages/syncd",
    "opt/venv/bin",
    "home/ops",
    "elsewhere",
)


class Machine(SyncEnv):
    """`root` stands for `/`.

    The configuration is in its etc/syncd, the state in its var/lib/syncd; `late` is a link to a
    folder where nothing is protected, which a test lets lead to `root` later on.
    """

    @property
    def root(self) -> Path:
        return self.folder / "m"

    @property
    def config(self) -> Path:
        return self.root / "etc/syncd/config.yaml"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/syncd"

    def mirror(self, to: str, **rule: Any) -> None:
        """The job mirrors the whole repository to this folder of the machine."""
        self.write_config(paths=[{"from": "/", "to": f"{self.root}/{to}", **rule}])

    def relink(self) -> None:
        """`late` leads to the machine's root from now on."""
        (self.root / "late").unlink()
        (self.root / "late").symlink_to(self.root)


@contextmanager
def machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str] | None = None
) -> Iterator[Machine]:
    """A machine with every kind of file that a commit must not change."""
    with sync_env(folder, files or {"motd": "hello\n"}, as_app=False) as hub:
        made = Machine(**{one.name: getattr(hub, one.name) for one in dataclasses.fields(hub)})
        for name in MADE:
            (made.root / name).mkdir(parents=True)
        for name in ("web", "hook", "notify"):
            (made.root / "etc/keys" / name).write_text(
                "http://127.0.0.1:9/a-secret-of-sixteen-letters"
            )
            (made.root / "etc/keys" / name).chmod(0o600)
        (made.root / "etc/ssl/ghe.pem").write_text("no certificate\n")
        (made.root / "usr/lib/python3/sitecustomize.py").symlink_to(
            made.root / "etc/python3/sitecustomize.py"
        )
        (made.root / "usr/bin/python3.11").write_text("")
        (made.root / "usr/bin/python3").symlink_to("python3.11")
        (made.root / "usr/bin/syncd").write_text("#!python\n")
        (made.root / "late").symlink_to(made.root / "elsewhere")
        (folder / "token").rename(made.root / "etc/keys/bot.token")
        made.identities["ops"]["token"]["file"] = f"{made.root}/etc/keys/bot.token"
        made.identities["ghe"] = {
            "token": {"credential": "app.pem"},
            "api": "https://ghe.example/api/v3",
            "ca_file": f"{made.root}/etc/ssl/ghe.pem",
        }
        made.jobs["nginx"]["as"] = "ops"
        made.extra.update(
            web={
                "listen": "127.0.0.1:0",
                "password": f"{made.root}/etc/keys/web",
                "webhook": {"path": "/github", "secret": f"{made.root}/etc/keys/hook"},
            },
            notify=[{"webhook": f"{made.root}/etc/keys/notify", "when": ["drift"]}],
        )
        monkeypatch.setenv("HOME", str(made.root / "home/ops"))
        monkeypatch.setenv("PATH", f"{made.root}/usr/bin:{os.environ['PATH']}")
        monkeypatch.setattr(protected, "SYSTEM", protected.SystemPlaces(root=str(made.root)))
        monkeypatch.setattr(protected, "this_program", lambda: installed(made.root))
        yield made


def installed(root: Path) -> Program:
    """syncd as a system package with a virtual environment beside it."""
    return Program(
        package=f"{root}/usr/lib/python3/site-packages/syncd",
        command=f"{root}/usr/bin/syncd",
        interpreters=(f"{root}/usr/bin/python3",),
        import_folders=(f"{root}/usr/lib/python3", f"{root}/usr/lib/python3/site-packages"),
        linked=(f"{root}/usr/lib/python3/sitecustomize.py",),
        environment=f"{root}/opt/venv",
        started_in=f"{root}/usr/bin",
    )


def excluded(message: str) -> list[str]:
    """The exclude line that a message gives, as the configuration would have it."""
    found = re.search(r"exclude: (\[.*?\])(?:$|\s*\n|$)", message, re.MULTILINE)
    assert found is not None, message
    return [str(one) for one in yaml.safe_load(found.group(1))]
