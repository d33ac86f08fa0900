"""Waves of a rollout, and what operators decide: who may read which commit when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from sqlalchemy import text

from syncd.apply_rules import Rollout
from syncd.fleet import waves
from syncd.fleet.overview import FleetReading, read_fleet
from syncd.fleet.rollout import StepKind, in_order
from tests.support.fleet import AGENTS, Fleet, FleetMachines, Publisher, job_of, machines
from tests.support.sync_env import SyncEnv, sync_env

pytestmark = pytest.mark.postgresql

C1, C2, C3 = "1" * 40, "2" * 40, "3" * 40
NGINX = job_of(rollout=Rollout((0.05,), 0.0))
ONE, TWO, BAD = ({"nginx/nginx.conf": text} for text in (b"one\n", b"two\n", b"bad\n"))
CANARY, OTHER = in_order("nginx", AGENTS)


@pytest.fixture
def stand(fleet: Fleet, tmp_path: Path) -> Iterator[FleetMachines]:
    with sync_env(tmp_path / "controller") as env:
        yield machines(fleet, env)


@pytest.fixture
def publisher(stand: FleetMachines) -> Iterator[Publisher]:
    """The controller's part; the first commit is on every agent."""
    made = Publisher(stand.fleet, stand.signer)
    made.publish(job_of(), ONE, C1)
    for agent in AGENTS:
        made.grant(agent, NGINX)
    yield made
    made.close()


@pytest.fixture
def agents(stand: FleetMachines, publisher: Publisher) -> dict[str, SyncEnv]:
    script = "! grep -q bad {staged}"
    made = {}
    for name in AGENTS:
        agent = stand.agent(name)
        staged = f"{{staged}}{agent.dest}/nginx.conf"
        agent.write_config(validate={"shell": script.replace("{staged}", staged)})
        assert agent.sync().job["commit"] == C1
        made[name] = agent
    return made


def commits(agents: dict[str, SyncEnv]) -> dict[str, str]:
    """The commit that each agent has after a run."""
    return {name: agent.sync().job["commit"] for name, agent in agents.items()}


def advance(publisher: Publisher) -> list[StepKind]:
    with publisher.database.begin() as connection:
        return [step.kind for _, step in waves.advance(connection, "c1")]


def test_a_commit_reaches_the_canary_first_and_the_others_after_it_is_healthy(
    publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    publisher.publish(NGINX, TWO, C2)
    assert advance(publisher) == []
    (rollout,) = rollouts(publisher)
    assert (rollout.wave, rollout.waves, rollout.agents, rollout.healthy) == (1, 2, (CANARY,), ())
    assert rollout.waits_for == "1 of 1 have not reported healthy"
    assert commits(agents) == {CANARY: C2, OTHER: C1}
    assert [(one.healthy, one.waits_for) for one in rollouts(publisher)] == [((CANARY,), None)]
    assert advance(publisher) == [StepKind.RELEASE]
    assert rollouts(publisher) == []
    assert commits(agents) == {CANARY: C2, OTHER: C2}
    assert advance(publisher) == []


def rollouts(publisher: Publisher) -> list[waves.RolloutState]:
    with publisher.database.begin() as connection:
        return list(waves.rollouts(connection).values())


def test_a_commit_that_fails_on_the_canary_never_reaches_the_others(
    stand: FleetMachines, publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    publisher.publish(NGINX, BAD, C2)
    assert agents[CANARY].sync().job["error"]["id"] == "hook/commit-rejected"
    assert advance(publisher) == [StepKind.STOP]
    assert agents[OTHER].sync().job["commit"] == C1
    assert advance(publisher) == []
    status = stand.controller.call("fleet", "status")
    assert status.code == 3
    assert f"rollout stopped: {CANARY}: validate (hook/commit-rejected)" in status.out
    failing, again = (reading(publisher, agents[CANARY]) for _ in range(2))
    assert failing.decisions["nginx"][0].action == "stop"
    first, last = (one.jobs[0].agents[AGENTS.index(CANARY)] for one in (failing, again))
    assert first.since == last.since < first.reported_at < last.reported_at
    publisher.publish(NGINX, TWO, C3)  # the fix has a rollout of its own
    assert commits(agents) == {CANARY: C3, OTHER: C1}
    assert advance(publisher) == [StepKind.RELEASE]
    assert commits(agents) == {CANARY: C3, OTHER: C3}


def reading(publisher: Publisher, agent: SyncEnv) -> FleetReading:
    """The fleet after another run of the agent."""
    agent.sync()
    with publisher.database.begin() as connection:
        return read_fleet(connection)


def test_promote_releases_a_rollout_that_waits_or_stopped(
    stand: FleetMachines, publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    publisher.publish(NGINX, TWO, C2)
    done = stand.controller.call("fleet", "promote", "nginx", "--json")
    expected = {"action": "promote", "job": "nginx", "commit": C2}
    assert done.json == {"schema": "syncd.fleet.decision/1", **expected}
    assert commits(agents) == {CANARY: C2, OTHER: C2}
    again = stand.controller.call("fleet", "promote", "nginx")
    assert (again.code, "every agent may have the last commit" in again.err) == (2, True)


def test_resume_lets_a_stopped_rollout_go_on_when_its_agents_report_healthy(
    stand: FleetMachines, publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    publisher.publish(NGINX, BAD, C2)
    agents[CANARY].sync()
    assert advance(publisher) == [StepKind.STOP]
    agents[CANARY].write_config(validate=None)  # the check was wrong
    assert stand.controller.call("fleet", "resume", "nginx").code == 0
    assert advance(publisher) == []
    assert agents[CANARY].sync().job["commit"] == C2
    assert advance(publisher) == [StepKind.RELEASE]


def test_a_halted_job_is_neither_polled_nor_released(
    stand: FleetMachines, publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    publisher.publish(NGINX, TWO, C2)
    assert stand.controller.call("fleet", "halt", "nginx", "--reason", "CHG 7").code == 0
    commits(agents)
    assert advance(publisher) == []
    with publisher.database.begin() as connection:
        waves.make_due(connection, ["nginx"])
        assert waves_claim(connection) == 0
    (job,) = stand.controller.call("fleet", "status", "--json").json["jobs"]
    assert (job["halted"]["reason"], job["rollout"]["wave"]) == ("CHG 7", 1)
    assert stand.controller.call("fleet", "resume", "nginx").code == 0
    with publisher.database.begin() as connection:
        assert waves_claim(connection) == 1


def waves_claim(connection: object) -> int:
    from syncd.fleet import leases

    return len(leases.claim(connection, "c1", ["nginx"], 60.0, 5))  # type: ignore[arg-type]


def test_a_rollback_of_the_fleet_is_newer_reaches_every_agent_and_halts_the_job(
    stand: FleetMachines, publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    publisher.publish(job_of(), TWO, C2)
    assert commits(agents) == {CANARY: C2, OTHER: C2}
    lease = publisher.claim(job_of())  # a controller that is about to publish is fenced
    done = stand.controller.call("fleet", "rollback", "nginx", "--json")
    assert (done.code, done.json["commit"]) == (0, C1)
    assert commits(agents) == {CANARY: C1, OTHER: C1}
    with publisher.database.begin() as connection:
        assert waves_claim(connection) == 0
        assert not waves_release(connection, lease)
    assert stand.controller.call("fleet", "rollback", "nginx", "--to", C2[:7]).code == 0
    assert commits(agents) == {CANARY: C2, OTHER: C2}
    unknown = stand.controller.call("fleet", "rollback", "nginx", "--to", "abcdef")
    assert (unknown.code, "it has 2222222, 1111111" in unknown.err) == (2, True)


def waves_release(connection: object, lease: object) -> bool:
    from syncd.fleet import leases

    return leases.release(connection, lease, None)  # type: ignore[arg-type]


def test_every_decision_is_recorded_with_who_made_it(
    stand: FleetMachines, publisher: Publisher
) -> None:
    stand.controller.call("fleet", "halt", "nginx", "--reason", "CHG 7")
    stand.controller.call("fleet", "resume", "nginx")
    database = stand.fleet.database()
    with database.begin() as connection:
        query = text("SELECT login, action, detail FROM syncd.decision WHERE who != 'test'")
        found = [tuple(row) for row in connection.execute(query)]
    database.close()
    assert found == [("c1", "halt", "CHG 7"), ("c1", "resume", "")]


def test_a_released_revision_is_kept_however_many_rollouts_stopped_after_it(
    publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    from syncd.fleet.retention import forget_old

    for number in range(7):
        publisher.publish(NGINX, TWO, f"{number}a" * 20)
    with publisher.database.begin() as connection:
        forget_old(connection)
    assert agents[OTHER].sync().job["commit"] == C1


BOTH = {"nginx/nginx.conf": b"one\n", "nginx/x.conf": b"bad\n"}


def test_another_listing_of_the_same_commit_is_planned_validated_and_not_tried_twice(
    publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    agent, plain = agents[CANARY], job_of()
    judged = agent.folder / "judged"
    check = f"touch {judged}; ! grep -q bad {{staged}}{agent.dest}/nginx.conf"
    agent.write_config(validate={"shell": check})
    publisher.publish(plain, BOTH, C1)  # as after a change of the controllers' exclude:
    assert (agent.sync().job["status"], set(agent.tree())) == ("changed", {"nginx.conf", "x.conf"})
    publisher.publish(plain, ONE, C1)
    assert (agent.sync().job["status"], set(agent.tree())) == ("changed", {"nginx.conf"})
    publisher.publish(plain, BAD, C1)
    assert agent.sync().job["error"]["id"] == "hook/commit-rejected"
    judged.unlink()
    assert agent.sync().job["error"]["id"] == "hook/commit-rejected"
    assert not judged.exists()
    publisher.publish(plain, ONE, C1)
    assert agent.sync().job["status"] == "unchanged"


def test_a_wave_is_healthy_when_it_has_the_new_listing_of_the_same_commit(
    stand: FleetMachines, publisher: Publisher, agents: dict[str, SyncEnv]
) -> None:
    publisher.publish(NGINX, TWO, C1)
    assert agents[OTHER].sync().job["commit"] == C1
    assert advance(publisher) == []
    (job,) = stand.controller.call("fleet", "status", "--json").json["jobs"]
    assert {one["state"] for one in job["agents"]} == {"behind"}
    assert agents[CANARY].sync().job["status"] == "changed"
    assert advance(publisher) == [StepKind.RELEASE]
    assert agents[OTHER].sync().job["status"] == "changed"
    (job,) = stand.controller.call("fleet", "status", "--json").json["jobs"]
    assert {one["state"] for one in job["agents"]} == {"in_sync"}
