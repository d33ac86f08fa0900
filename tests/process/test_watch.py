"""`syncd watch` beside a daemon: events come as they happen, and it ends with Ctrl-C or with the
daemon.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.store.lock import daemon_lock
from tests.support.daemon import DEADLINE_SECONDS, daemon
from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.sync_env import SyncEnv, signatures, sync_env

STOPPED = "the daemon has stopped → start it: systemctl start syncd\n"
KILLED = (
    "the daemon ended without being stopped → start it: systemctl start syncd; why it ended: "
    "journalctl -u syncd\n"
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        made.write_config(every="1s")
        yield made


@contextmanager
def watching(hub: SyncEnv, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`syncd watch`, which has read the store for the first time."""
    command = [*MODULE, "-c", str(hub.config), "watch", *arguments]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(hub.folder),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with ForkedSyncd(
        command, text=True, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "watching the job nginx until Ctrl-C\n"
            yield process
        finally:
            process.kill()


def test_events_come_one_a_line_and_the_watch_ends_with_the_daemon(hub: SyncEnv) -> None:
    with daemon(hub) as running:
        running.says("2 written")
        with watching(hub) as watch:
            hub.repo.commit({"nginx/nginx.conf": "two\n"})
            lines = [watch.stdout.readline() for _ in range(2)]
            assert [line[20:] for line in lines] == [
                "  nginx  started\n",
                f"  nginx  changed: 1 written at {hub.repo.head()[:7]} (schedule)\n",
            ]
            assert running.ends() == 0
            rest = watch.communicate(timeout=DEADLINE_SECONDS)
            assert (rest[1], watch.returncode) == (STOPPED, 0)


def test_a_daemon_that_was_killed_ends_the_watch_with_1(hub: SyncEnv) -> None:
    with daemon(hub) as running:
        running.says("2 written")
        with watching(hub) as watch:
            running.ends(signal.SIGKILL)
            rest = watch.communicate(timeout=DEADLINE_SECONDS)
            assert (rest[1], watch.returncode) == (KILLED, 1)


def test_json_is_one_object_a_line_and_ctrl_c_ends_it_with_130(hub: SyncEnv) -> None:
    with daemon(hub) as running:
        running.says("2 written")
        with watching(hub, "nginx", "--json") as watch:
            assert hub.call("pause", "nginx", "--reason", "by hand").code == 0
            found = json.loads(watch.stdout.readline())
            assert (found["schema"], found["event"]) == ("syncd.event/1", "paused")
            assert (found["text"], found["hint"]) == ("by hand", "syncd resume nginx")
            watch.send_signal(signal.SIGINT)
            rest = watch.communicate(timeout=DEADLINE_SECONDS)
            assert (rest[1], watch.returncode) == ("\ninterrupted\n", 130)
        assert running.ends() == 0


def test_without_a_daemon_it_says_what_to_type(hub: SyncEnv) -> None:
    done = hub.call("watch")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "syncd: no daemon is running\n  start it: systemctl start syncd; past runs: syncd history\n"
    )
    assert not hub.state.exists()


def test_an_unknown_job_is_refused(hub: SyncEnv) -> None:
    done = hub.call("watch", "ngix")
    assert done.code == 2 and "did you mean 'nginx'" in done.err


def test_a_watch_writes_nothing(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    with daemon_lock(hub.state):
        before = signatures(hub.state)
        with watching(hub) as watch:
            watch.send_signal(signal.SIGINT)
            watch.communicate(timeout=DEADLINE_SECONDS)
        assert signatures(hub.state) == before
