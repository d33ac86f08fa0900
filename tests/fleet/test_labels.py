"""Agents that jobs choose by labels: who gives labels, and who gets which job by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from sqlalchemy import select  # noqa: E402

from syncd.apply_rules import Rollout  # noqa: E402
from syncd.fleet import grants, leases, waves  # noqa: E402
from syncd.fleet.overview import fleet_jobs  # noqa: E402
from syncd.fleet.reports import Presence, save_presence, save_report, save_unlisted  # noqa: E402
from syncd.fleet.schema import JOB  # noqa: E402
from syncd.models import RunReport, RunStatus  # noqa: E402
from tests.support.fleet import Fleet, FleetMachines, Publisher, job_of, machines  # noqa: E402
from tests.support.sync_env import sync_env  # noqa: E402

pytestmark = pytest.mark.postgresql

C1, C2 = "1" * 40, "2" * 40
FILES = {"nginx/nginx.conf": b"one\n"}
WEB = job_of(where=(("tier", "web"),))


@pytest.fixture
def stand(fleet: Fleet, tmp_path: Path) -> Iterator[FleetMachines]:
    with sync_env(tmp_path / "controller") as env:
        made = machines(fleet, env)
        env.write_config(where={"tier": "web"}, every="1d")
        yield made


@pytest.fixture
def publisher(stand: FleetMachines) -> Iterator[Publisher]:
    made = Publisher(stand.fleet, stand.signer)
    made.publish(WEB, FILES, C1)
    yield made
    made.close()


def visible(fleet: Fleet, login: str) -> list[str]:
    """The jobs that a login of an agent may read."""
    with psycopg.connect(fleet.address(login)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM syncd.job ORDER BY name")]


def test_one_line_gives_every_agent_of_a_tier_the_jobs_of_it(
    stand: FleetMachines, publisher: Publisher
) -> None:
    done = stand.controller.call("fleet", "grant", "web*", "--label", "tier=web", "--json")
    agents = ["web01", "web02"]
    expected = {"agent": "web*", "agents": agents, "jobs": [], "labels": {"tier": "web"}}
    assert done.json == {"schema": "syncd.fleet.grant/1", **expected, "login": True}
    agent = stand.agent("web01", where={"tier": "web"})
    agent.extra["fleet"]["labels"] = {"tier": "web"}
    agent.write()
    assert agent.sync().job["status"] == "changed"
    status = stand.controller.call("fleet", "status", "--json").json["jobs"][0]
    assert (status["where"], len(status["agents"])) == ({"tier": "web"}, 2)
    assert "tier=web" in stand.controller.call("fleet", "agents").out
    done = stand.controller.call("fleet", "revoke", "web01", "--label", "tier=web")
    assert (done.code, done.out) == (0, "web01 lost tier=web.\n")
    assert agent.sync().job["error"]["id"] == "not_found/fleet-job"
    assert (agent.dest / "nginx.conf").read_bytes() == b"one\n"


def test_a_label_that_only_the_agent_claims_gives_nothing_and_is_shown(
    stand: FleetMachines, publisher: Publisher
) -> None:
    agent = stand.agent("web01")
    agent.extra["fleet"]["labels"] = {"tier": "web"}
    agent.write()
    assert agent.sync().job["error"]["id"] == "not_found/fleet-job"
    database = stand.fleet.database("web01")
    with database.begin() as connection:
        save_presence(connection, Presence("boot", "web01", "1", {"tier": "web"}))
    database.close()
    assert visible(stand.fleet, "web01") == []
    shown = stand.controller.call("fleet", "agents", "--json").json["agents"][0]
    assert (shown["labels"], shown["asked_labels"]) == ({}, {"tier": "web"})
    assert "it asks for tier=web" in stand.controller.call("fleet", "agents").out


def test_a_pattern_means_logins_of_agents_and_no_others(
    fleet: Fleet, controller: Publisher
) -> None:
    with controller.database.begin() as connection:
        everything = grants.agents_of(connection, "*")  # the cluster has logins of other tests
        assert grants.agents_of(connection, "web*") == ["web01", "web02"]
        assert grants.agents_of(connection, "web0[2-9]") == ["web02"]
        assert grants.agents_of(connection, "web09") == ["web09"]
    assert {"web01", "web02"} <= set(everything)
    assert not {"c1", fleet.cluster.user} & set(everything)


def test_a_job_whose_where_no_agent_has_is_said(stand: FleetMachines, publisher: Publisher) -> None:
    assert "no agent has the labels tier=web" in stand.controller.call("fleet", "status").out
    findings = stand.controller.call("doctor", "--json").json["findings"]
    (found,) = [one for one in findings if one["id"] == "doctor/fleet-no-agent"]
    assert found["hint"] == "syncd fleet grant AGENT --label tier=web"


def test_a_changed_where_takes_the_job_from_the_agents_that_it_no_longer_chooses(
    fleet: Fleet, controller: Publisher
) -> None:
    controller.publish(WEB, FILES, C1)
    with controller.database.begin() as connection:
        grants.grant_labels(connection, ["web01"], {"tier": "web", "zone": "a"}, "me")
        grants.grant_labels(connection, ["web02"], {"tier": "db"}, "me")
    assert [visible(fleet, one) for one in ("web01", "web02")] == [["nginx"], []]
    with controller.database.begin() as connection:
        leases.register(connection, {"nginx": job_of(where=(("tier", "db"),))})
    assert [visible(fleet, one) for one in ("web01", "web02")] == [[], ["nginx"]]
    with controller.database.begin() as connection:
        leases.register(connection, {"nginx": job_of()})
    assert [visible(fleet, one) for one in ("web01", "web02")] == [[], []]


def test_waves_count_the_agents_that_the_job_chooses(fleet: Fleet, controller: Publisher) -> None:
    with controller.database.begin() as connection:
        leases.register(connection, {"nginx": WEB})
        grants.grant_labels(connection, ["web02"], {"tier": "web"}, "me")
        grants.grant_labels(connection, ["web01"], {"tier": "db"}, "me")
    rollout = job_of(where=WEB.where, rollout=Rollout((0.05,), 0.0))
    controller.publish(rollout, FILES, C1)
    with controller.database.begin() as connection:
        assert waves.rollouts(connection)["nginx"].agents == ("web02",)


def test_an_agent_leaves_out_the_jobs_that_are_for_others(stand: FleetMachines) -> None:
    agent = stand.agent("web01", where={"tier": "db"})
    agent.extra["fleet"]["labels"] = {"tier": "web"}
    agent.write()
    done = agent.call("sync", "nginx")
    assert (done.code, "not for this machine" in done.err) == (2, True)


def test_an_agent_whose_configuration_has_not_the_job_is_not_counted_until_it_has(
    fleet: Fleet, controller: Publisher
) -> None:
    controller.publish(WEB, FILES, C1)
    report = RunReport("nginx", RunStatus.UNCHANGED, "acme/infra", "main", C1, C1)
    with controller.database.begin() as connection:
        grants.grant_labels(connection, ["web01", "web02"], {"tier": "web"}, "me")
        (job_id,) = connection.execute(select(JOB.c.id)).scalars()
        assert waves.granted_agents(connection, job_id) == ["web01", "web02"]
    agent = fleet.database("web02")
    with agent.begin() as connection:
        save_unlisted(connection, {"sshd"})
    with controller.database.begin() as connection:
        assert waves.granted_agents(connection, job_id) == ["web01"]
        (shown,) = fleet_jobs(connection)
        assert [one.agent for one in shown.agents] == ["web01"]
    with agent.begin() as connection:
        save_report(connection, Presence("boot", "web02", "1"), report)
        save_unlisted(connection, {"nginx"})
    agent.close()
    with controller.database.begin() as connection:
        assert waves.granted_agents(connection, job_id) == ["web01", "web02"]
