"""An error's stable id: in `--json`, and with -v on the line after the message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv, sync_env


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, {"nginx/a.conf": "a\n"}) as opened:
        yield opened


def test_a_failed_job_shows_the_id_of_its_error_with_v_and_in_json(hub: SyncEnv) -> None:
    hub.write_config(ref="no-such-branch")
    shown = hub.call("-v", "sync").out.splitlines()
    error = hub.sync("--json").job["error"]
    assert error["id"].startswith("not_found/")
    [number] = [number for number, line in enumerate(shown) if error["message"] in line]
    assert shown[number + 1] == f"    error id: {error['id']}"
    assert "error id:" not in hub.call("sync").out


def test_an_error_of_the_command_shows_its_id_with_v(hub: SyncEnv) -> None:
    loud, plain = hub.call("-v", "sync", "no-such-job"), hub.call("sync", "no-such-job")
    lines = loud.err.splitlines()
    [number] = [number for number, line in enumerate(lines) if "there is no job" in line]
    assert lines[number + 1] == "  error id: config/no-such-job"
    assert lines[number + 2].startswith("  the jobs are: ")
    assert "error id" not in plain.err and loud.code == plain.code == 2


def test_problems_of_the_configuration_are_followed_by_their_id_with_v(hub: SyncEnv) -> None:
    hub.config.write_text("version: 1\n")
    assert hub.call("-v", "check").err.splitlines()[-1] == "  error id: config/problems"
    assert "error id" not in hub.call("check").err
