"""`syncd fleet`: from an empty database to agents that are in sync, as an operator types it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.fleet.controllers import save_controller
from syncd.fleet.reports import Presence, save_presence, save_report
from syncd.fleet.schema import VERSION
from syncd.models import RunReport, RunStatus
from tests.support.daemon import daemon
from tests.support.fleet import Fleet, FleetMachines, Publisher, job_of, machines, secret_file
from tests.support.sync_env import SyncEnv, sync_env

pytestmark = pytest.mark.postgresql

C1, C2 = "1" * 40, "2" * 40
NGINX = job_of()
FILES = {"nginx/nginx.conf": b"one\n"}


@pytest.fixture
def stand(fleet: Fleet, tmp_path: Path) -> Iterator[FleetMachines]:
    with sync_env(tmp_path / "controller") as env:
        yield machines(fleet, env)


@pytest.fixture
def publisher(stand: FleetMachines) -> Iterator[Publisher]:
    made = Publisher(stand.fleet, stand.signer)
    yield made
    made.close()


def test_init_makes_the_schema_with_a_login_that_owns_the_database(
    stand: FleetMachines, tmp_path: Path
) -> None:
    fleet = stand.fleet
    fleet.cluster.execute("DROP SCHEMA syncd CASCADE", fleet.name)
    owner = secret_file(tmp_path / "owner", fleet.address())
    assert stand.controller.call("fleet", "status").code == 1
    done = stand.controller.call("fleet", "init", "--database", owner, "--json")
    assert (done.code, done.json) == (0, {"schema": "syncd.fleet.init/1", "version": VERSION})
    said = stand.controller.call("fleet", "init", "--database", owner).out
    assert "IN ROLE syncd_agent" in said
    assert stand.controller.call("fleet", "status").out.startswith("The fleet has no job yet")


def test_grant_and_revoke_decide_what_an_agent_reads(
    stand: FleetMachines, publisher: Publisher
) -> None:
    publisher.publish(NGINX, FILES, C1)
    agent = stand.agent("web01")
    assert agent.sync().job["error"]["id"] == "not_found/fleet-job"
    done = stand.controller.call("fleet", "grant", "web01", "nginx", "--json")
    expected = {"agent": "web01", "agents": ["web01"], "jobs": ["nginx"], "labels": {}}
    assert done.json == {"schema": "syncd.fleet.grant/1", **expected, "login": True}
    assert agent.sync().job["status"] == "changed"
    done = stand.controller.call("fleet", "revoke", "web01", "--json")
    assert done.json["jobs"] == ["nginx"]
    assert agent.sync().job["error"]["id"] == "not_found/fleet-job"
    assert (agent.dest / "nginx.conf").read_bytes() == b"one\n"


def test_grant_names_a_job_that_is_not_there_and_a_login_that_is_missing(
    stand: FleetMachines,
) -> None:
    wrong = stand.controller.call("fleet", "grant", "web01", "ngixn")
    assert (wrong.code, "did you mean 'nginx'" in wrong.err) == (2, True)
    missing = stand.controller.call("fleet", "grant", "web'\"9", "nginx")
    assert missing.code == 0
    assert '→ CREATE ROLE "web\'""9" LOGIN' in missing.err
    wrong = stand.controller.call("fleet", "revoke", "web08")
    assert (wrong.code, "the fleet has no agent 'web08'" in wrong.err) == (2, True)


def test_status_and_agents_tell_who_has_the_commit(
    stand: FleetMachines, publisher: Publisher
) -> None:
    publisher.publish(NGINX, FILES, C1)
    for agent in ("web01", "web02"):
        publisher.grant(agent, NGINX)
    stand.agent("web01").sync()
    status = stand.controller.call("fleet", "status", "--json")
    (job,) = status.json["jobs"]
    assert (status.code, job["commit"], job["error"]) == (0, C1, None)
    assert {one["agent"]: one["state"] for one in job["agents"]} == {
        "web01": "in_sync",
        "web02": "never",
    }
    assert "1 of 2" in stand.controller.call("fleet", "status").out
    publisher.publish(NGINX, FILES, C2)
    agents = stand.controller.call("fleet", "agents", "--json").json["agents"]
    assert [one["jobs"][0]["state"] for one in agents] == ["behind", "never"]


def test_a_failing_agent_and_two_machines_of_one_name_end_with_3(
    stand: FleetMachines, publisher: Publisher
) -> None:
    publisher.publish(NGINX, FILES, C1)
    publisher.grant("web01", NGINX)
    agent = stand.agent("web01", validate="false")
    assert agent.sync().code == 1
    status = stand.controller.call("fleet", "status")
    assert (status.code, "failing on web01" in status.out) == (3, True)
    database = stand.fleet.database("web01")
    for host in ("one", "two", "one"):
        with database.begin() as connection:
            save_presence(connection, Presence(host, host, "1"))
    database.close()
    agents = stand.controller.call("fleet", "agents", "--json")
    assert (agents.code, agents.json["agents"][0]["twins"]) == (3, ["one", "two"])


def test_one_machine_after_another_is_no_twin(stand: FleetMachines) -> None:
    database = stand.fleet.database("web01")
    for boot in ("first", "second"):
        with database.begin() as connection:
            save_presence(connection, Presence(boot, "web01", "1"))
    database.close()
    agents = stand.controller.call("fleet", "agents", "--json")
    assert (agents.code, agents.json["agents"][0]["twins"]) == (0, [])


def test_a_report_of_a_job_that_was_taken_away_is_not_written(
    stand: FleetMachines, publisher: Publisher
) -> None:
    publisher.publish(NGINX, FILES, C1)
    database = stand.fleet.database("web01")
    report = RunReport("nginx", RunStatus.UNCHANGED, "acme/infra", "main", C1, C1)
    with database.begin() as connection:
        save_report(connection, Presence("x", "x", "1"), report)
    database.close()
    assert stand.controller.call("fleet", "status", "--json").json["jobs"][0]["agents"] == []


@pytest.mark.parametrize("command", ["sync", "plan", "verify", "status"])
def test_a_controller_mirrors_nothing_and_says_what_to_type(
    stand: FleetMachines, command: str
) -> None:
    done = stand.controller.call(command)
    assert (done.code, "syncd fleet status" in done.err) == (2, True)


def test_doctor_tells_of_the_database_the_key_and_each_job(
    stand: FleetMachines, publisher: Publisher
) -> None:
    publisher.publish(NGINX, FILES, C1)
    agent = stand.agent("web01")
    assert findings(stand.controller)["doctor/fleet-key"].endswith(stand.signer.public_key)
    assert "no job of this name" in findings(agent)["not_found/fleet-job"]
    publisher.grant("web01", NGINX)
    found = findings(agent)
    assert found["doctor/fleet"] == f"the database answers web01 (schema {VERSION})"
    assert found["doctor/fleet-job"].startswith("nginx: commit 1111111 of acme/infra, signed")


def findings(env: SyncEnv) -> dict[str, str]:
    """Id -> message of what doctor finds."""
    return {one["id"]: one["message"] for one in env.call("doctor", "--json").json["findings"]}


def test_an_agent_mirrors_no_other_ref(stand: FleetMachines, publisher: Publisher) -> None:
    publisher.publish(NGINX, FILES, C1)
    publisher.grant("web01", NGINX)
    done = stand.agent("web01").call("sync", "nginx", "--ref", "next")
    assert (done.code, "--ref" in done.err or "no other ref" in done.err + done.out) == (2, True)


def test_a_job_that_no_controller_has_is_shown_and_may_be_forgotten(
    stand: FleetMachines, publisher: Publisher
) -> None:
    publisher.publish(NGINX, FILES, C1)
    publisher.grant("web01", NGINX)
    agent = stand.agent("web01")
    assert agent.sync().code == 0
    early = stand.controller.call("fleet", "forget", "nginx")
    assert (early.code, "no controller runs" in early.err) == (2, True)
    with publisher.database.begin() as connection:
        save_controller(connection, "c1", "1", {"nginx": "a"})
        save_controller(connection, "c2", "1", {"nginx": "b"})
    assert "listed differently by c1, c2" in stand.controller.call("fleet", "status").out
    listed = stand.controller.call("fleet", "forget", "nginx")
    assert (listed.code, "in its configuration: c1, c2" in listed.err) == (2, True)
    with publisher.database.begin() as connection:
        for name in ("c1", "c2"):
            save_controller(connection, name, "1", {})
    assert "no controller has it → syncd" in stand.controller.call("fleet", "status").out
    assert stand.controller.call("fleet", "forget", "nginx").code == 0
    assert stand.controller.call("fleet", "status", "--json").json["jobs"] == []
    assert agent.sync().job["error"]["id"] == "not_found/fleet-job"
    assert (agent.dest / "nginx.conf").read_bytes() == b"one\n"
    (forgotten, granted) = stand.controller.call("fleet", "history", "nginx", "--json").json[
        "decisions"
    ]
    assert (forgotten["action"], forgotten["login"]) == ("forget", "c1")
    assert (granted["action"], granted["who"], granted["detail"]) == ("grant", "test", "web01")
    assert "forget" in stand.controller.call("fleet", "history", "-n", "1").out


def test_a_running_controller_says_what_it_lists(stand: FleetMachines) -> None:
    with daemon(stand.controller) as running:
        running.says("published")
        (job,) = stand.controller.call("fleet", "status", "--json").json["jobs"]
        assert job["controllers"] == ["c1"]
        assert running.ends() == 0
    (job,) = stand.controller.call("fleet", "status", "--json").json["jobs"]
    assert job["controllers"] is None
