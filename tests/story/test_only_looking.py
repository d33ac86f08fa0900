"""Commands that only look: without a state they make none, and neither warn nor count."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv, signatures

LOOKING: dict[tuple[str, ...], int] = {  # -> exit code before anything was synced
    ("plan",): 0,
    ("plan", "--json"): 0,
    ("plan", "--diff"): 0,
    ("check",): 0,
    ("check", "--online"): 0,
    ("doctor",): 0,
    ("status",): 3,
    ("history",): 0,
    ("explain", "/etc/motd"): 1,
    ("verify",): 0,
    ("installations",): 0,
}


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_before_the_first_sync_looking_makes_nothing_and_warns_of_nothing(
    hub: SyncEnv, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = hub.folder / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    done = hub.call(*command)
    assert done.code == LOOKING[command] and not done.err
    assert not hub.state.exists() and not os.listdir(elsewhere) and not hub.tree()


def test_a_first_diff_shows_the_lines_without_a_state(hub: SyncEnv) -> None:
    assert "+one" in hub.call("plan", "--diff").out


@pytest.mark.parametrize("command", [("plan",), ("check", "--online"), ("doctor",)], ids=" ".join)
def test_what_looking_asked_for_is_not_written_down(hub: SyncEnv, command: tuple[str, ...]) -> None:
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
    before = signatures(hub.state)
    assert hub.call(*command).code == 0
    after = signatures(hub.state)
    changed = {
        Path(path).name
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }
    assert changed == set()
