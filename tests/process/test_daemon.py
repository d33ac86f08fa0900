"""`syncd run` from outside: it follows its repositories, hears its signals,
and stops when it is told to.
"""

from __future__ import annotations

import signal
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.config.load import load_config
from syncd.schedule import schedules_of
from tests.support.daemon import daemon
from tests.support.sync_env import SyncEnv, sync_env


@pytest.fixture
def hub(tmp_path: Path) -> SyncEnv:
    with sync_env(tmp_path, as_app=False) as made:
        yield made  # type: ignore[misc]


def test_it_brings_jobs_in_step_follows_a_push_and_stops_with_0(hub: SyncEnv) -> None:
    hub.write_config(every="1s")
    with daemon(hub) as running:
        assert running.says("2 written")["job"] == "nginx"
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
        line = running.says("1 written")
        assert line["commit"] == hub.repo.head() and line["level"] == "info"
        assert running.ends() == 0
        assert running.lines[-1]["message"] == "stopped"
    assert hub.tree() == {"nginx.conf": b"two\n", "sites/a.conf": b"a\n"}
    assert hub.call("status").code == 0


def test_a_quiet_turn_says_nothing_and_costs_one_request_answered_304(hub: SyncEnv) -> None:
    hub.write_config(every="1s")
    with daemon(hub) as running:
        running.says("2 written")
        for number in range(3):
            seen = len(hub.github.requests)
            while len(hub.github.requests) == seen:
                assert running.process.poll() is None
                time.sleep(0.02)
            assert hub.github.requests[-1].status == 304, number
        assert running.ends() == 0
        after = [line["message"] for line in running.lines if "written" not in line["message"]]
        quiet = [
            text for text in after if "stopped by a signal" not in text
        ]  # said of a run that the signal met
        assert [text.partition(":")[0] for text in quiet] == ["ready", "stopping", "stopped"]


def test_a_wrong_configuration_is_refused_as_a_whole_and_the_old_one_stays(hub: SyncEnv) -> None:
    hub.write_config(every="1s")
    with daemon(hub) as running:
        running.says("2 written")
        good = hub.config.read_text()
        hub.config.write_text(good.replace("1s", "1 parsec") + "nonsense: 1\n")
        running.send(signal.SIGHUP)
        said = running.says("not reloaded")["message"]
        assert "parsec" in said and "nonsense" in said and f"{hub.config}:" in said, (
            "every mistake with its place"
        )
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
        running.says("1 written")
        hub.config.write_text(good)
        running.send(signal.SIGHUP)
        running.says("reloaded: 0 jobs added, 0 removed, 0 changed, 1 untouched")
        assert running.ends() == 0


def test_sigusr1_starts_every_job_now(hub: SyncEnv) -> None:
    hub.write_config(every="1d")
    with daemon(hub) as running:
        running.says("2 written")
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
        running.send(signal.SIGUSR1)
        assert running.says("1 written")["trigger"] == "operator"
        assert running.ends(signal.SIGINT) == 0


def test_the_service_manager_hears_ready_reloading_and_stopping(
    hub: SyncEnv, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        heard: list[str] = []

        def hears(word: str) -> str:
            while True:
                heard.append(manager.recv(4096).decode())
                if word in heard[-1].split("\n"):
                    return heard[-1]

        with daemon(
            hub, environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        ) as running:
            assert "STATUS=1 jobs" in hears("READY=1")
            hears("WATCHDOG=1")
            running.send(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in hears("RELOADING=1")
            hears("READY=1")
            running.send(signal.SIGTERM)
            hears("STOPPING=1")
            assert running.ends(None) == 0


def test_a_second_daemon_on_the_same_state_is_refused(hub: SyncEnv) -> None:
    with daemon(hub) as running:
        second = hub.call("run")
        assert second.code == 11 and f"(pid {running.process.pid}) runs already" in second.err
        assert running.ends() == 0
    with daemon(hub) as running:
        assert running.ends() == 0, "the lock went with the process"


def test_a_configuration_that_is_wrong_at_the_start_is_said_and_nothing_is_made(
    hub: SyncEnv,
) -> None:
    hub.config.write_text(hub.config.read_text() + "nonsense: 1\n")
    refused = hub.call("run")
    assert refused.code == 2 and "nonsense" in refused.err and not hub.state.exists()


def test_status_says_when_the_daemon_comes_next_and_that_a_held_job_does_not(hub: SyncEnv) -> None:
    hub.write_config(every="1h")
    with daemon(hub) as running:
        running.says("2 written")
        schedules = schedules_of(load_config(hub.config, {}).jobs, "UTC")
        before = schedules["nginx"].next_after(datetime.now(UTC))
        told = datetime.fromisoformat(hub.call("status", "--json").job["next_run"])
        assert before is not None and told in (
            before.replace(microsecond=0),
            schedules["nginx"].next_after(before).replace(microsecond=0),
        )  # type: ignore[union-attr]
        assert (
            hub.call("pause", "nginx").code == 0
            and hub.call("status", "--json").job["next_run"] is None
        )
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
        running.send(signal.SIGUSR1)
        running.says("paused")
        assert hub.call("resume", "nginx").code == 0
        assert running.says("1 written")["trigger"] == "start", "it is noticed within seconds"
        assert running.ends() == 0
    row = hub.call("status", "--json").job
    assert datetime.fromisoformat(row["next_run"]) == datetime.fromisoformat(
        row["last_run"]
    ) + timedelta(hours=1), "without a daemon: as the schedule says after the last run"
