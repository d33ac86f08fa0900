"""Controllers that freeze or die, and a database that is killed: each push arrives once, whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from sqlalchemy import text

from syncd.simulator.faults import hang
from syncd.simulator.github import GitHub
from tests.support.daemon import daemon
from tests.support.fleet import Fleet, FleetMachines, Publisher, job_of, machines
from tests.support.sync_env import sync_env

pytestmark = pytest.mark.postgresql


@pytest.fixture
def stand(fleet: Fleet, tmp_path: Path) -> Iterator[FleetMachines]:
    with sync_env(tmp_path / "controller") as env:
        yield machines(fleet, env)


def revisions(fleet: Fleet) -> list[tuple[str, str]]:
    """(commit, controller) of each revision, in order."""
    database = fleet.database()
    query = text("SELECT commit_sha, worker FROM syncd.revision ORDER BY sequence")
    with database.begin() as connection:
        found = [(row.commit_sha, row.worker) for row in connection.execute(query)]
    database.close()
    return found


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_a_controller_that_stops_in_a_poll_is_replaced_and_publishes_nothing_late(
    stand: FleetMachines, number: signal.Signals
) -> None:
    github, repo = stand.controller.github, stand.controller.repo
    initial = repo.head()
    with daemon(stand.controller) as first:
        first.says("published")
        with stopped_before_its_next_answer(github, lambda: first.send(number)):
            pushed = repo.commit({"nginx/nginx.conf": "two\n"})
        with stand.published(), daemon(stand.another_controller("c2")) as second:
            second.says("published")
            if number == signal.SIGSTOP:
                first.send(signal.SIGCONT)
                first.says("the lease was not renewed in time")
            with stand.published():
                latest = repo.commit({"nginx/nginx.conf": "three\n"})
            assert second.ends() == 0
    commits = [commit for commit, _ in revisions(stand.fleet)]
    assert commits == [initial, pushed, latest]
    assert revisions(stand.fleet)[1] == (pushed, "c2")


def test_a_controller_that_ends_in_a_poll_gives_the_job_back_as_due_and_not_as_failed(
    stand: FleetMachines,
) -> None:
    github = stand.controller.github
    with daemon(stand.controller) as running:
        running.says("published")
        asked = threading.Event()
        github.add_fault("contents", hang(60.0))
        github.call_before("contents", github.count("contents") + 1, asked.set)
        stand.controller.repo.commit({"nginx/nginx.conf": "two\n"})
        assert asked.wait(60), "the controller did not fetch anything"
        assert running.ends() == 0
    database = stand.fleet.database()
    query = "SELECT worker, failures, error_id, next_at <= now() AS due FROM syncd.job"
    with database.begin() as connection:
        assert connection.execute(text(query)).all() == [(None, 0, None, True)]
    database.close()


@contextmanager
def stopped_before_its_next_answer(github: GitHub, stop: Callable[[], None]) -> Iterator[None]:
    """Do the block; then a controller that fetches what is new is stopped in the middle of it."""
    stopped = threading.Event()

    def act() -> None:
        stop()
        stopped.set()

    github.call_before("contents", github.count("contents") + 1, act)
    yield
    assert stopped.wait(60), "the controller did not fetch anything"


def test_a_killed_database_comes_back_and_nothing_is_lost(stand: FleetMachines) -> None:
    agent, repo = stand.agent("web01"), stand.controller.repo
    with daemon(stand.controller) as controller:
        controller.says("published")
        publisher = Publisher(stand.fleet, stand.signer)
        publisher.grant("web01", job_of())
        publisher.close()
        with daemon(agent) as running:
            running.says("nginx", lambda line: line.get("status") == "changed")
            stand.fleet.cluster.kill()
            pushed = repo.commit({"nginx/nginx.conf": "two\n"})
            (agent.dest / "nginx.conf").write_text("edited by hand\n")
            running.send(signal.SIGUSR1)
            running.says("nginx", lambda line: line.get("status") == "changed")
            assert (agent.dest / "nginx.conf").read_text() == "one\n"
            stand.fleet.cluster.start()
            controller.says("published")
            running.says("nginx", lambda line: line.get("commit") == pushed)
            assert (agent.dest / "nginx.conf").read_text() == "two\n"
            assert running.ends() == 0
        assert controller.ends() == 0
