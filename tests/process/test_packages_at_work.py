"""The packages that syncd is specified with are at work: without one of them,
what it is for fails and nothing takes its place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv, sync_env

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "{package}":
            raise RuntimeError("{package} is not here")

sys.meta_path.insert(0, Refuse())
from syncd.__main__ import main
main()
"""


def call(hub: SyncEnv, package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that can't import the package."""
    command = [
        sys.executable,
        "-c",
        WITHOUT.format(package=package),
        "-c",
        str(hub.config),
        *arguments,
    ]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
        timeout=60,
        check=False,
    )


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    """An App identity that has run once, and a change upstream."""
    with sync_env(tmp_path) as made:
        assert made.sync().code == 0
        made.repo.commit({"nginx/nginx.conf": "changed\n"})
        yield made


# `plan` with one of them at a push, and with the others in the root lane
@pytest.mark.parametrize(
    ("command", "package"),
    [
        ("sync", "requests"),
        ("sync", "sqlalchemy"),
        ("sync", "jwt"),
        ("sync", "cryptography"),
        ("plan", "requests"),
        pytest.param("plan", "sqlalchemy", marks=pytest.mark.root),
        pytest.param("plan", "jwt", marks=pytest.mark.root),
        pytest.param("plan", "cryptography", marks=pytest.mark.root),
    ],
)
def test_no_change_comes_without_the_package(hub: SyncEnv, package: str, command: str) -> None:
    before = hub.tree()
    done = call(hub, package, command)
    assert done.returncode != 0
    assert f"{package} is not here" in done.stderr
    assert hub.tree() == before


@pytest.mark.parametrize("package", ["requests", "sqlalchemy", "apscheduler"])
def test_no_daemon_runs_without_the_package(hub: SyncEnv, package: str) -> None:
    before = hub.tree()
    done = call(hub, package, "run")
    assert done.returncode != 0
    assert f"{package} is not here" in done.stderr
    assert hub.tree() == before


def test_no_configuration_is_read_without_pyyaml(hub: SyncEnv) -> None:
    hub.write_config(mode="0600")  # another than the one that was read before
    done = call(hub, "yaml", "sync")
    assert done.returncode != 0
    assert "yaml is not here" in done.stderr


def test_with_all_of_them_the_change_comes(hub: SyncEnv) -> None:
    assert call(hub, "none-of-them", "sync").returncode == 0
    assert hub.tree()["nginx.conf"] == b"changed\n"
