"""A failover to a standby that lost the last commits: nothing goes back, and nothing stays lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.fleet import notices
from syncd.fleet.link import Link
from tests.fleet.conftest import TEMPLATE
from tests.support.clock import FakeClock
from tests.support.daemon import daemon
from tests.support.fleet import Fleet, FleetMachines, Publisher, job_of, machines, made_fleet
from tests.support.postgresql import Cluster, cluster, standby
from tests.support.sync_env import sync_env

pytestmark = pytest.mark.postgresql

WRITER = "target_session_attrs=read-write"


class Pair(Cluster):
    """A primary and its standby under one address, as `fleet.database` names them."""

    second: Cluster

    def address(self, database: str = "postgres", login: str | None = None) -> str:
        hosts = f"{self.folder},{self.second.folder}"
        return f"postgresql://{login or self.user}@/{database}?host={hosts}&{WRITER}"


@pytest.fixture
def pair() -> Iterator[Pair]:
    with cluster() as first, standby(first) as second:
        made = Pair(first.folder, first.programs, first.user, first.process)
        made.second = second
        yield made


@pytest.fixture
def stand(pair: Pair, tmp_path: Path) -> Iterator[FleetMachines]:
    fleet = made_fleet(pair, "syncd")
    with sync_env(tmp_path / "controller") as env:
        yield machines(fleet, env)


def test_a_failover_that_lost_the_last_commits_loses_nothing(stand: FleetMachines) -> None:
    pair, repo, agent = stand.fleet.cluster, stand.controller.repo, stand.agent("web01")
    assert isinstance(pair, Pair)
    with daemon(stand.controller) as controller:
        controller.says("published")
        grant(stand)
        with daemon(agent) as running:
            running.says("nginx", lambda line: line.get("status") == "changed")
            pair.second.detach()
            pushed = repo.commit({"nginx/nginx.conf": "two\n"})
            running.says("nginx", lambda line: line.get("commit") == pushed)
            controller.send(signal.SIGSTOP)
            pair.kill()
            pair.second.promote()
            running.send(signal.SIGUSR1)
            running.says("went back")
            assert (agent.dest / "nginx.conf").read_text() == "two\n"
            controller.send(signal.SIGCONT)
            controller.says("published")
            running.says("nginx", lambda line: line.get("status") == "unchanged")
            latest = repo.commit({"nginx/nginx.conf": "three\n"})
            running.says("nginx", lambda line: line.get("commit") == latest)
            assert (agent.dest / "nginx.conf").read_text() == "three\n"
            assert (running.ends(), controller.ends()) == (0, 0)


def grant(stand: FleetMachines) -> None:
    publisher = Publisher(stand.fleet, stand.signer)
    publisher.grant("web01", job_of())
    publisher.close()


def test_notices_come_again_after_a_standby_is_promoted(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAX_WAIT_SECONDS", 0.1)
    with standby(server) as second:
        second_fleet = Fleet(second, TEMPLATE)
        link = Link(second_fleet.database("web01", connections=1), clock := FakeClock())
        heard = list[str | None]()
        made = notices.Notices(link, clock, heard.append)
        made.wait()
        assert made.works is False
        second.promote()
        clock.advance(notices.STANDBY_SECONDS)
        made.wait()
        second.execute("SELECT pg_notify('syncd', 'nginx')", TEMPLATE)
        made.wait()
        assert (heard, made.works) == ([None, "nginx"], True)
        link.database.close()


def test_a_job_that_the_database_lost_is_registered_again(fleet: Fleet, tmp_path: Path) -> None:
    with sync_env(tmp_path / "controller") as env:
        made = machines(fleet, env)
        with daemon(made.controller) as controller:
            controller.says("published")
            fleet.cluster.execute("DELETE FROM syncd.job", fleet.name)
            controller.says("published")
