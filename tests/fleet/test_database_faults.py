"""A database that hangs, is locked, takes no writes or is full: reads go on where they can, writes
fail as a whole, and everything goes on by itself afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from sqlalchemy import text  # noqa: E402

from syncd.errors import RemoteUnavailableError  # noqa: E402
from syncd.fleet.database import DatabaseLimits  # noqa: E402
from syncd.fleet.reports import Presence, save_report  # noqa: E402
from syncd.models import RunReport, RunStatus  # noqa: E402
from tests.support.fleet import Agent, Fleet, Publisher, job_of  # noqa: E402

pytestmark = pytest.mark.postgresql

C1, C2 = "1" * 40, "2" * 40
NGINX, FILES = job_of(), {"nginx/nginx.conf": b"one\n"}
SHORT = DatabaseLimits(lock_seconds=0.2, silent_seconds=0.5)
UNCHANGED = RunReport("nginx", RunStatus.UNCHANGED, "acme/infra", "main", C1, None)
PRESENCE = Presence("boot", "web01", "0.1.0")


@pytest.fixture
def agent(fleet: Fleet, controller: Publisher, tmp_path: Path) -> Iterator[Agent]:
    controller.publish(NGINX, FILES, C1)
    controller.grant("web01", NGINX)
    made = Agent(fleet, controller, tmp_path, limits=SHORT)
    yield made
    made.database.close()


def report(agent: Agent) -> None:
    with agent.link.begin() as connection:
        save_report(connection, PRESENCE, UNCHANGED)


def execute(agent: Agent, statement: str) -> None:
    with agent.link.begin() as connection:
        connection.execute(text(statement))


def error_of(work: object, *arguments: object) -> RemoteUnavailableError:
    with pytest.raises(RemoteUnavailableError) as found:
        work(*arguments)  # type: ignore[operator]
    return found.value


@contextmanager
def frozen(agent: Agent) -> Iterator[None]:
    """Do the block while the process that serves the agent's connection does nothing."""
    with agent.database.begin() as connection:
        process = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_connection_whose_server_process_is_frozen_is_left(agent: Agent) -> None:
    with frozen(agent):
        assert agent.resolve().commit == C1
    error = error_of(execute, agent, "SELECT pg_sleep(60)")
    assert "the server sent nothing for 0.5 seconds" in error.message
    assert agent.link.is_away


def test_a_lock_that_is_held_keeps_a_report_back_and_no_read(fleet: Fleet, agent: Agent) -> None:
    with psycopg.connect(fleet.address()) as holder:
        holder.execute("LOCK TABLE syncd.report")
        assert error_of(report, agent).id == "unavailable/fleet-busy"
        assert not agent.link.is_away
        assert agent.resolve().commit == C1
    report(agent)


def read_only(fleet: Fleet, value: str) -> None:
    fleet.cluster.execute(
        f"ALTER DATABASE {fleet.name} SET default_transaction_read_only = {value}"
    )


def test_an_agent_reads_a_database_that_takes_no_writes(fleet: Fleet, agent: Agent) -> None:
    read_only(fleet, "on")
    assert (agent.resolve().commit, agent.contents()) == (C1, FILES)
    error = error_of(report, agent)
    assert error.id == "unavailable/fleet-read-only"
    assert "target_session_attrs=read-write" in str(error.hint)
    assert not agent.link.is_away
    assert agent.resolve().commit == C1
    read_only(fleet, "off")
    with suppress(RemoteUnavailableError):
        report(agent)  # its session is read-only still, and ends
    report(agent)


def test_a_controller_publishes_again_when_the_database_takes_writes(
    fleet: Fleet, controller: Publisher, agent: Agent
) -> None:
    read_only(fleet, "on")
    controller.database.reconnect()
    error = error_of(controller.publish, NGINX, FILES, C2)
    assert error.id == "unavailable/fleet-read-only"
    read_only(fleet, "off")
    controller.publish(NGINX, FILES, C2)
    assert agent.resolve().commit == C2


@pytest.fixture
def full_disk(fleet: Fleet) -> Iterator[Path]:
    """The contents of the database are on a disk of 4 MiB, which `full_disk / "filled"` fills."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a file system")
    disk = Path(tempfile.mkdtemp(prefix="syncd-disk-", dir="/tmp"))
    shell = partial(subprocess.run, check=True, capture_output=True)
    shell(["mount", "-t", "tmpfs", "-o", "size=4M,mode=777", "none", disk])
    try:
        (disk / "space").mkdir()
        shutil.chown(disk / "space", fleet.cluster.user)
        fleet.cluster.execute(f"CREATE TABLESPACE small LOCATION '{disk}/space'")
        fleet.cluster.execute("ALTER TABLE syncd.blob SET TABLESPACE small", fleet.name)
        yield disk
        fleet.cluster.execute("ALTER TABLE syncd.blob SET TABLESPACE pg_default", fleet.name)
        fleet.cluster.execute("DROP TABLESPACE small")
    finally:
        shell(["umount", "--lazy", disk])
        disk.rmdir()


@pytest.mark.root
def test_a_full_disk_publishes_nothing_in_part(
    fleet: Fleet, controller: Publisher, agent: Agent, full_disk: Path
) -> None:
    random = Random(1)
    files = {f"nginx/{number}": random.randbytes(300_000) for number in range(12)}
    (full_disk / "filled").write_bytes(bytes(2 << 20))
    error = error_of(controller.publish, NGINX, files, C2)
    assert (error.id, "No space left" in error.message) == ("unavailable/fleet-full", True)
    assert (agent.resolve().commit, agent.contents()) == (C1, FILES)
    report(agent)
    (full_disk / "filled").unlink()
    fleet.cluster.execute("UPDATE syncd.job SET lease_until = NULL", fleet.name)  # it ended
    small = dict(list(files.items())[:6])
    controller.publish(NGINX, small, C2)
    assert (agent.resolve().commit, agent.contents(commit=C2)) == (C2, small)
