"""What a command shows on a terminal while it works, and that a pipe gets nothing of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.simulator import faults
from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.running_terminal import Gate, on_terminal
from tests.support.sync_env import SyncEnv, sync_env

MANY = 200  # files, which come as one archive
CURSOR = re.compile(r"\x1b\[\?")


def contents(count: int) -> dict[str, str]:
    chance = random.Random(1)
    return {f"nginx/{number:04}.conf": chance.randbytes(500).hex() for number in range(count)}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, contents(MANY), as_app=False) as made:
        yield made


@pytest.fixture
def gate(hub: SyncEnv) -> Iterator[Gate]:
    """The archive comes to its half, and goes on when the gate is opened."""
    made = Gate()
    hub.github.add_fault("codeload", made.effect)
    yield made
    made.open()


def test_a_first_sync_shows_files_bytes_and_rate_and_leaves_only_its_result(
    hub: SyncEnv, gate: Gate
) -> None:
    with on_terminal("-c", str(hub.config), "sync") as command:
        line = command.wait_for_line("fetching [1-9]")
        assert re.fullmatch(
            r"nginx  fetching \d\d+ of 200 files  \d+\.\d KiB of 195\.3 KiB  \d+(\.\d)? (B|KiB)/s",
            line,
        )
        gate.open()
        assert command.end() == 0
        first, last = command.screen
    assert re.fullmatch(r"✓ nginx  [0-9a-f]{7} +\+200 +\d+\.\d s", first)
    assert last.startswith("1 in sync.")
    assert not CURSOR.search(command.text)


@pytest.mark.parametrize(("columns", "longest"), [(30, 29), (80, 79), (200, 79)])
def test_a_line_is_no_wider_than_the_window(
    hub: SyncEnv, gate: Gate, columns: int, longest: int
) -> None:
    hub.jobs = {"a-job-of-a-name-that-is-quite-long" * 2: hub.jobs["nginx"]}
    hub.write()
    with on_terminal("-c", str(hub.config), "sync", size=(columns, 24)) as command:
        line = command.wait_for_line("^a-job.*…$")
        assert len(line) == longest
        gate.open()
        assert command.end() == 0


def test_jobs_that_run_at_once_have_a_line_each(hub: SyncEnv, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hub.jobs["other"] = {
        **hub.jobs["nginx"],
        "paths": [{"from": "nginx/0001.conf", "to": f"{tmp_path}/one"}],
        "on_change": ["cat", str(fifo)],
    }
    hub.write()
    gate = Gate()
    hub.github.add_fault("codeload", gate.effect)
    with on_terminal("-c", str(hub.config), "sync") as command:
        wanted = (
            r"nginx  fetching [1-9].*\nother  running on_change  \d+ s  cat .*\n0 of 2 jobs done"
        )
        command.wait_for(lambda lines: re.search(wanted, "\n".join(lines)) is not None)
        gate.open()
        command.wait_for(
            lambda lines: (
                len(lines) == 3
                and lines[0].startswith("✓ nginx")
                and lines[2] == "1 of 2 jobs done"
            )
        )
        fifo.write_text("")
        assert command.end() == 0
    assert [line.split()[1] for line in command.screen] == ["nginx", "other", "in"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_a_clean_terminal(
    hub: SyncEnv, gate: Gate, number: signal.Signals
) -> None:
    with on_terminal("-c", str(hub.config), "sync") as command:
        command.wait_for_line("fetching [1-9]")
        command.interrupt(number)
        assert command.end() == 130
    assert not [line for line in command.screen if "fetching" in line]
    assert not CURSOR.search(command.text)


def test_a_wait_for_a_rate_limit_says_until_when(hub: SyncEnv) -> None:
    limited = faults.status(
        403, "You have exceeded a secondary rate limit", {"retry-after": "3600"}
    )
    hub.github.add_fault("head", limited, times=9)
    hub.write_config(timeout="2h")
    with on_terminal("-c", str(hub.config), "sync") as command:
        line = command.wait_for_line("waiting")
        assert re.fullmatch(
            r"nginx  waiting for GitHub's rate limit until \d\d:\d\d \(GitHub names it\)", line
        )
        command.interrupt()
        assert command.end() == 130


def test_a_hostile_command_is_shown_as_text(hub: SyncEnv, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hub.write_config(on_change=["sh", "-c", f": \x1b[2J\u202e; cat {fifo}"])
    with on_terminal("-c", str(hub.config), "sync") as command:
        assert r"\x1b[2J\u202e; cat" in command.wait_for_line("running on_change")
        fifo.write_text("")
        assert command.end() == 0
    assert "\x1b[2J" not in command.text and "\u202e" not in command.text


@pytest.mark.parametrize(
    ("options", "environ"),
    [([], {"TERM": "dumb"}), ([], {"TERM": ""}), (["-q"], {})],
    ids=["dumb", "no TERM", "quiet"],
)
def test_without_a_display_a_terminal_gets_the_result_alone(
    hub: SyncEnv, options: list[str], environ: dict[str, str]
) -> None:
    on_change = "sh -c 'sleep 1.2'"
    hub.write_config(on_change=on_change)
    with on_terminal(*options, "-c", str(hub.config), "sync", **environ) as command:
        assert command.end() == 0
    assert "on_change" not in command.text and "fetching" not in command.text
    assert len(command.screen) == (0 if options else 2)


ASK_FOR_RICH = """
import sys
from syncd.cli.main import run
code = run(sys.argv[1:])
loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "rich")
sys.exit(f"{code} {loaded}")
"""


def test_a_pipe_gets_nothing_and_does_not_load_rich(hub: SyncEnv) -> None:
    hub.write_config(on_change="sh -c 'sleep 1.2'")
    done = subprocess.run(
        [sys.executable, "-c", ASK_FOR_RICH, "-c", str(hub.config), "sync"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "0 []\n"
    assert len(done.stdout.splitlines()) == 2


def test_a_short_command_on_a_terminal_draws_nothing(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    with on_terminal("-c", str(hub.config), "sync") as command:
        assert command.end() == 0
    assert "\x1b[2K" not in command.text


@contextmanager
def silent_port() -> Iterator[int]:
    """A port whose queue of connections is full: who connects hears nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        queued = [socket.socket() for _ in range(4)]
        for one in queued:
            one.setblocking(False)
            one.connect_ex(address)
        yield address[1]
        for one in queued:
            one.close()


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return int(closed.getsockname()[1])


def first_warning(hub: SyncEnv, port: int, *options: str) -> dict[str, Any]:
    """The first line on stderr of a sync whose host is at that port; the run is ended then."""
    hub.identities["ops"]["api"] = f"http://127.0.0.1:{port}"
    hub.write()
    with ForkedSyncd(
        [*MODULE, *options, "-c", str(hub.config), "sync"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TZ": "UTC"},
    ) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        running.stderr.read()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_host_that_refuses_is_named_at_once_in_a_pipe(hub: SyncEnv) -> None:
    port = refused_port()
    said = first_warning(hub, port)
    assert said["level"] == "warning"
    assert re.fullmatch(
        rf"GitHub does not answer \(127\.0\.0\.1:{port}\): Connection refused; "
        r"trying again until \d\d:\d\d:\d\d",
        said["message"],
    )


def test_a_host_that_is_silent_is_named_before_its_connection_times_out(hub: SyncEnv) -> None:
    with silent_port() as port:
        said = first_warning(hub, port)
    assert re.fullmatch(
        rf"GitHub does not answer \(127\.0\.0\.1:{port}\): no connection yet; "
        r"trying again until \d\d:\d\d:\d\d",
        said["message"],
    )
