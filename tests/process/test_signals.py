"""A real `syncd` process that waits for something of GitHub's, and a signal: it ends at once, says
so, and leaves everything as it was.

How long "at once" may take is generous here (a loaded machine), and still a small part of the wait
that the signal cuts short.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd.simulator import faults
from syncd.simulator.faults import FaultEffect
from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.sync_env import SyncEnv, signatures, sync_env

WAIT_SECONDS = 60.0  # of whatever the process waits for
AT_ONCE_SECONDS = 10.0
STILL_SECONDS = 0.25  # a process that is not in its wait by then would have ended, or soon does
MANY = {
    f"nginx/f{number:03d}": f"{number}\n" for number in range(150)
}  # enough for the archive to be asked for
# the same command with long pauses between tries, so that the pause is what the signal meets
SLOW_RETRIES = (
    "import syncd.github.attempts as a; a.BACKOFF_SECONDS = 3000.0; from syncd.cli.main import "
    "main; main()"
)


@dataclass(frozen=True)
class Wait:
    """`route` is the request that the process is told to wait at or after;
    `prepare` makes it so.
    """

    route: str
    act: Callable[[], FaultEffect]
    files: dict[str, str] | None = None
    slow_retries: bool = False
    jobs: int = 1
    extra: dict[str, str] | None = None


def hang() -> FaultEffect:
    return faults.hang(WAIT_SECONDS)


def drip() -> FaultEffect:
    return faults.drip(2.0)


def limit(status: int, headers: dict[str, str]) -> Callable[[], FaultEffect]:
    return lambda: faults.status(status, "You have exceeded a secondary rate limit", headers)


WAITS: dict[str, Wait] = {
    "the token's answer": Wait("token", hang),
    "the head's answer": Wait("head", hang),
    "a folder's listing": Wait("contents", hang),
    "the archive's host": Wait("codeload", hang, MANY),
    "a dripping listing": Wait("contents", drip),
    "a dripping archive": Wait("codeload", drip, MANY),
    "a pause between tries": Wait("head", lambda: faults.status(502), slow_retries=True),
    "a pause after a cut": Wait("contents", lambda: faults.cut(5), slow_retries=True),
    "the end of a limit": Wait("head", limit(429, {"retry-after": str(int(WAIT_SECONDS))})),
    "the token's limit": Wait("token", limit(403, {"retry-after": str(int(WAIT_SECONDS))})),
    "somebody else's token": Wait("token", hang, jobs=3),
    "a free place among the requests": Wait("head", hang, jobs=3, extra={"requests_at_once": "1"}),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGINT)
CASES = list(zip(WAITS, itertools.cycle(SIGNALS)))  # two of three by Ctrl-C


@dataclass
class Ended:
    code: int
    out: str
    err: str
    seconds: float


@contextmanager
def waiting(hub: SyncEnv, wait: Wait) -> Iterator[threading.Event]:
    """The event is set when the simulator is asked for what the process will wait for."""
    asked = threading.Event()
    hub.github.add_fault(wait.route, wait.act(), times=1000)
    hub.github.call_before(wait.route, hub.github.count(wait.route) + 1, asked.set)
    for number in range(1, wait.jobs):
        hub.repo.refs[f"refs/heads/other{number}"] = hub.repo.head()
        hub.jobs[f"other{number}"] = {
            **hub.jobs["nginx"],
            "paths": [{"from": "nginx/", "to": f"{hub.folder}/other{number}/"}],
            "ref": f"refs/heads/other{number}",
        }
    hub.extra.update(wait.extra or {})
    hub.write_config(timeout="1d")
    yield asked


def interrupted(
    hub: SyncEnv,
    arguments: list[str],
    asked: threading.Event,
    number: int,
    slow_retries: bool = False,
) -> Ended:
    """The process was sent the signal while it waited, and has ended."""
    start = [sys.executable, "-c", SLOW_RETRIES] if slow_retries else MODULE
    popen = subprocess.Popen if slow_retries else ForkedSyncd
    with popen(
        [*start, "-c", str(hub.config), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as process:
        try:
            assert asked.wait(30), "it never asked"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(STILL_SECONDS)
            began = time.monotonic()
            process.send_signal(number)
            out, err = process.communicate(timeout=WAIT_SECONDS / 2)
            hub.canary.heard("an interrupted process", out + err)
        finally:
            process.kill()
        seconds = time.monotonic() - began
        print(f"ended {seconds:.2f} s after {signal.Signals(number).name}")
        return Ended(process.returncode, out, err, seconds)


@pytest.mark.parametrize(
    ("name", "number"),
    CASES,
    ids=[f"{name}, {signal.Signals(number).name}" for name, number in CASES],
)
def test_a_signal_ends_every_wait_at_once_and_nothing_is_written(
    tmp_path: Path, name: str, number: int
) -> None:
    wait = WAITS[name]
    with (
        sync_env(
            tmp_path,
            {"nginx/nginx.conf": "one\n", "nginx/sites/a.conf": "a\n", **(wait.files or {})},
        ) as hub,
        waiting(hub, wait) as asked,
    ):
        before = signatures(hub.dest)
        ended = interrupted(hub, ["sync", "--json"], asked, number, wait.slow_retries)
        assert ended.code == 130, ended
        assert ended.seconds < AT_ONCE_SECONDS
        assert "Traceback" not in ended.err and "Exception" not in ended.err, ended.err
        report = json.loads(ended.out)
        assert report["exit"] == 130 and {job["status"] for job in report["jobs"]} == {"failed"}
        assert all("signal" in job["error"]["message"] for job in report["jobs"]), report
        row = hub.call("status", "--json").job
        assert (row["state"], row["error"], row["last_run"]) == ("never", None, None), (
            "who was stopped has not failed, and has still to run"
        )
        assert signatures(hub.dest) == before and not [
            place for place in tmp_path.iterdir() if place.name.startswith("other")
        ]


@pytest.mark.parametrize(
    ("command", "route"),
    [(["plan", "--json"], "head"), (["plan"], "tree"), (["check", "--online"], "head")],
    ids=str,
)
def test_commands_that_only_look_end_at_once_too(
    tmp_path: Path, command: list[str], route: str
) -> None:
    with sync_env(tmp_path) as hub, waiting(hub, Wait(route, hang)) as asked:
        ended = interrupted(hub, command, asked, signal.SIGINT)
        assert (ended.code, ended.seconds < AT_ONCE_SECONDS) == (130, True), ended
        assert "Traceback" not in ended.err and (
            "signal" in ended.out or "interrupted" in ended.err
        )


def test_the_lock_of_another_process_is_not_waited_for_and_is_free_after_a_signal(
    hub: SyncEnv,
) -> None:
    with waiting(hub, Wait("head", hang)) as asked:
        command = [*MODULE, "-c", str(hub.config), "sync"]
        with ForkedSyncd(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
            assert asked.wait(30)
            second = hub.call("sync", "--json")
            assert second.code == 11 and str(first.pid) in second.job["error"]["message"]
            first.send_signal(signal.SIGTERM)
            assert first.wait(AT_ONCE_SECONDS) == 130
    hub.github.faults.clear()
    assert hub.call("sync", "--json").code == 0


def test_an_interrupted_run_is_taken_up_by_the_next_one(tmp_path: Path) -> None:
    with sync_env(tmp_path, {"nginx/nginx.conf": "one\n", **MANY}) as hub:
        with waiting(hub, Wait("codeload", hang)) as asked:
            assert interrupted(hub, ["sync"], asked, signal.SIGTERM).code == 130
        hub.github.faults.clear()
        assert hub.sync().code == 0 and len(hub.tree()) == 151
