"""The fleet on a controller's listener: what the commands print, also while the database goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.apply_rules import Rollout
from syncd.clock import SystemClock
from syncd.config.load import load_config
from syncd.daemon.fleet_watch import FleetWatch
from syncd.web.server import Web
from syncd.wiring.fleet import FleetParts
from tests.story.test_web import ask
from tests.story.test_web_access import listening
from tests.support.fleet import Fleet, FleetMachines, Publisher, job_of, machines
from tests.support.status_board import FixedBoard
from tests.support.sync_env import sync_env

pytestmark = pytest.mark.postgresql

C1, C2 = "1" * 40, "2" * 40


@pytest.fixture
def stand(fleet: Fleet, tmp_path: Path) -> Iterator[FleetMachines]:
    with sync_env(tmp_path / "controller") as env:
        made = machines(fleet, env)
        with closing(Publisher(fleet, made.signer)) as publisher:
            publisher.publish(job_of(), {"nginx/a.conf": b"one\n"}, C1)
            for agent in ("web01", "web02"):
                publisher.grant(agent, job_of())
            assert made.agent("web01").sync().code == 0
            waves = job_of(rollout=Rollout((0.05,), 60.0))
            publisher.publish(waves, {"nginx/a.conf": b"two\n"}, C2)
        assert env.call("fleet", "halt", "nginx", "--reason", "CHG 7").code == 0
        yield made


@pytest.fixture
def web(stand: FleetMachines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr("syncd.daemon.fleet_watch.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("syncd.daemon.fleet_watch.WAIT_SECONDS", 30.0)
    config = load_config(stand.controller.config, {"HOME": str(stand.controller.folder)})
    parts = FleetParts(config, {}, SystemClock(), goes_on=False)
    watch = FleetWatch(SystemClock(), lambda: config, parts.read)
    with closing(parts), listening(board=FixedBoard(fleet_watch=watch)) as made:
        yield made


def test_the_api_is_what_the_commands_print_and_says_when_the_database_is_away(
    stand: FleetMachines, web: Web
) -> None:
    for path, command in (("/api/v1/fleet", "status"), ("/api/v1/fleet/agents", "agents")):
        answer = ask(web, path)
        printed = stand.controller.call("fleet", command, "--json")
        assert (answer.status, json.loads(answer.text)) == (200, printed.json)
    page = ask(web, "/fleet").text
    assert "1 of 1 job is halted" in page and "CHG 7" in page and "Wave 1 of 2" in page
    assert 'syncd_fleet_job_rollout{job="nginx",state="halted"} 1.0' in ask(web, "/metrics").text
    stand.fleet.cluster.execute(f"ALTER DATABASE {stand.fleet.name} ALLOW_CONNECTIONS false")
    stand.fleet.cluster.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{stand.fleet.name}' AND pid <> pg_backend_pid()"
    )
    away = ask(web, "/api/v1/fleet/agents")
    assert away.status == 503
    assert away.text.startswith("the fleet's database is away since ")
    page = ask(web, "/fleet?q=").text  # no view that is kept
    assert "but the fleet&#39;s database is away" in page and "Wave 1 of 2" in page
    assert "syncd_fleet_database_up 0.0" in ask(web, "/metrics").text
