"""`syncd status` after real runs: since when a job is as it is, why, and what to type."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load_config
from syncd.status import read_status
from syncd.store.facts import Heartbeat
from syncd.store.lock import daemon_lock
from syncd.store.store import SqliteStore
from tests.support.sync_env import SyncEnv, sync_env


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, {"nginx/a.conf": "a\n"}, as_app=False) as made:
        yield made


def status(hub: SyncEnv) -> Any:
    return hub.call("status", "--json").job


def stored(hub: SyncEnv) -> tuple[str, str]:
    """The job's state and since when, as docs/store.md says to ask for it."""
    with closing(sqlite3.connect(hub.state / "syncd.db")) as connection:
        return connection.execute("SELECT state, state_since FROM job").fetchone()


def test_a_job_that_never_ran_says_how_to_run_it(hub: SyncEnv) -> None:
    found = status(hub)
    assert (found["state"], found["since"], found["hint"]) == ("never", None, "syncd sync nginx")


def test_in_sync_lasts_over_unchanged_runs_and_over_changes_with_a_reload(hub: SyncEnv) -> None:
    hub.write_config(on_change="true")
    assert hub.sync().job["status"] == "changed"
    first = stored(hub)
    assert first[0] == "in_sync"
    assert hub.sync().job["status"] == "unchanged"
    hub.repo.commit({"nginx/a.conf": "b\n"})
    assert hub.sync().job["status"] == "changed"
    assert stored(hub) == first
    assert status(hub)["hint"] is None


def test_failing_lasts_from_the_first_failure_and_names_its_remedy(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    hub.write_config(paths=[{"from": "ngnix/", "to": f"{hub.dest}/"}])
    failed = hub.sync().job["error"]
    first = stored(hub)
    assert first[0] == "failing"
    assert hub.sync().code == 1
    assert stored(hub) == first
    found = status(hub)
    assert found["error"] == failed
    assert found["hint"] == failed["hint"]
    assert found["error"]["id"].startswith("not_found/")


def test_a_failed_reload_is_failing_and_its_success_begins_a_new_time(hub: SyncEnv) -> None:
    hub.write_config(on_change="true")
    assert hub.sync().code == 0
    well = stored(hub)
    hub.write_config(on_change="false")
    hub.repo.commit({"nginx/a.conf": "b\n"})
    assert hub.sync().code == 1
    failing = stored(hub)
    assert failing[0] == "failing" and failing[1] > well[1]
    hub.write_config(on_change="true")
    assert hub.sync().code == 0
    again = stored(hub)
    assert again[0] == "in_sync" and again[1] > failing[1]


def test_paused_held_and_drift_have_their_commands(hub: SyncEnv) -> None:
    hub.write_config(drift="report")
    assert hub.sync().code == 0
    (hub.dest / "a.conf").write_text("edited\n")
    assert hub.sync().code == 0
    found = status(hub)
    assert (found["state"], found["hint"]) == ("drift", "syncd plan nginx --diff")
    assert hub.call("pause", "nginx", "--reason", "freeze").code == 0
    found = status(hub)
    assert (found["state"], found["hint"]) == ("paused", "syncd resume nginx")
    paused_at = stored(hub)[1]
    assert hub.call("resume", "nginx").code == 0
    assert stored(hub)[0] == "drift"
    assert stored(hub)[1] > paused_at


def test_a_pause_that_has_ended_says_since_when_the_job_is_well_again(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    assert hub.call("pause", "nginx", "--for", "1h").code == 0
    config = load_config(hub.config, {})
    store = SqliteStore.open_readonly(hub.state)
    try:
        later = datetime.now(UTC) + timedelta(hours=2)
        (one,) = read_status(config, store, later).jobs
        pause = one.state.pause
        assert pause is not None
        assert (one.condition, one.state.condition_since(later)) == ("in_sync", pause.until)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("every", "hours_later", "overdue"),
    [("5m", 0.05, ()), ("5m", 0.5, ("nginx",)), ("6h", 1.0, ()), ("6h", 14.0, ("nginx",))],
)
def test_a_job_that_its_daemon_does_not_run_is_overdue(
    hub: SyncEnv, every: str, hours_later: float, overdue: tuple[str, ...]
) -> None:
    hub.write_config(every=every)
    assert hub.sync().code == 0
    config = load_config(hub.config, {})
    store = SqliteStore.open(hub.state)
    now = datetime.now(UTC) + timedelta(hours=hours_later)
    started = datetime.now(UTC) - timedelta(days=1)
    try:
        store.facts.save_heartbeat(Heartbeat("web01", 7, started, now))
        with daemon_lock(hub.state):
            found = read_status(config, store, now).daemon
    finally:
        store.close()
    assert found is not None
    assert (found.alive, found.overdue) == (True, overdue)


def test_a_paused_job_is_never_overdue(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    assert hub.call("pause", "nginx").code == 0
    store = SqliteStore.open(hub.state)
    now = datetime.now(UTC) + timedelta(days=9)
    try:
        store.facts.save_heartbeat(Heartbeat("web01", 7, now - timedelta(days=9), now))
        found = read_status(load_config(hub.config, {}), store, now).daemon
    finally:
        store.close()
    assert found is not None and found.overdue == ()


def test_watch_needs_a_terminal(hub: SyncEnv) -> None:
    done = hub.call("status", "--watch")
    assert (done.code, done.out) == (2, "")
    assert "it needs a terminal" in done.err


def test_an_overdue_job_turns_the_exit_to_3_and_is_named(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    days_ago = datetime.now(UTC) - timedelta(days=3)
    with closing(sqlite3.connect(hub.state / "syncd.db")) as connection, connection:
        connection.execute("UPDATE job SET last_run_at = ?", (days_ago.isoformat(),))
    store = SqliteStore.open(hub.state)
    store.facts.save_heartbeat(Heartbeat("web01", 7, days_ago, days_ago))
    store.close()
    done = hub.call("status")
    assert done.code == 3
    assert "daemon: dead: it ended without being stopped; last heartbeat 3d ago" in done.out
    assert done.out.splitlines()[1].endswith("overdue")
