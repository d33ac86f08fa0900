"""What a command imports is what it uses: start-up is most of what a run with nothing to do
costs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv, sync_env

ROOT = Path(__file__).resolve().parents[2]
WATCH = (
    "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), "
    "file=sys.stderr)); from syncd.__main__ import main; main()"
)
HEAVY = {
    "alembic",
    "apscheduler",
    "cryptography",
    "flask",
    "jwt",
    "pathspec",
    "pydantic",
    "requests",
    "urllib3",
    "sqlalchemy",
    "yaml",
    "click",
}
FLEET = {"psycopg", "syncd.fleet", "syncd.wiring.fleet", "syncd.daemon.fleet_controller"}


def modules(hub: SyncEnv, *arguments: str) -> set[str]:
    """Every module that one command has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, "-c", str(hub.config), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        assert made.sync().code == 0
        yield made


def test_a_sync_with_nothing_to_do_loads_few_modules_and_none_of_the_heavy_ones(
    hub: SyncEnv,
) -> None:
    loaded = modules(hub, "-q", "sync")
    assert not loaded & {*HEAVY, "msgspec"}
    assert len(loaded) <= 146, (
        f"{len(loaded)} modules; http.client alone is 99, ctypes 5, and what the interpreter "
        "itself needs is among them"
    )
    ours = {name for name in loaded if name.startswith("syncd")}
    few = {
        "cache_file",
        "core_dumps",
        "encoding",
        "fastpath",
        "fastpath.check",
        "fastpath.early_requests",
        "output",
        "owners",
        "fastpath.record",
        "file_lock",
        "private_file",
        "trusted_path",
        "unchanged",
    }
    assert ours == {"syncd", "syncd.__main__", *(f"syncd.{name}" for name in few)}


def test_a_sync_that_has_something_to_do_judges_no_configuration_again_and_migrates_nothing(
    hub: SyncEnv,
) -> None:
    hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
    loaded = modules(hub, "-q", "sync")
    assert not loaded & {
        "alembic",
        "apscheduler",
        "cryptography",
        "flask",
        "jwt",
        "pathspec",
        "pydantic",
        "yaml",
        *FLEET,
    }


def test_status_and_history_speak_to_nobody(hub: SyncEnv) -> None:
    for verb in ("status", "history"):
        assert not modules(hub, verb) & {
            "alembic",
            "apscheduler",
            "flask",
            "jwt",
            "requests",
            "urllib3",
        }


def test_the_version_costs_nothing_but_the_command_line(hub: SyncEnv) -> None:
    assert not modules(hub, "version") & (HEAVY - {"click"})


def test_the_daemon_of_one_machine_loads_nothing_of_a_fleet() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sys, syncd.cli.run; print(*sys.modules)"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert not set(found.stdout.split()) & FLEET
