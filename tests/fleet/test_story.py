"""Whole runs of a fleet: a push at GitHub, a controller, and the bytes on agents' disks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from tests.process.test_daemon_web import port_of
from tests.support.daemon import daemon
from tests.support.fleet import Fleet, FleetMachines, Publisher, job_of, machines, secret_file
from tests.support.push import SECRET, deliver, event_of
from tests.support.sync_env import sync_env

pytestmark = pytest.mark.postgresql

FIRST = {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}


@pytest.fixture
def stand(fleet: Fleet, tmp_path: Path):
    with sync_env(tmp_path / "controller") as env:
        yield machines(fleet, env)


def grant(stand: FleetMachines, *agents: str) -> None:
    publisher = Publisher(stand.fleet, stand.signer)
    for agent in agents:
        publisher.grant(agent, job_of())
    publisher.close()


def test_a_push_arrives_on_two_agents_at_the_request_cost_of_one_server(
    stand: FleetMachines,
) -> None:
    agents = [stand.agent("web01"), stand.agent("web02")]
    with stand.published(), daemon(stand.controller) as controller:
        controller.says("published")
        grant(stand, "web01", "web02")
        first = stand.controller.github.routes()
        for agent in agents:
            assert agent.sync().job["status"] == "changed"
            assert agent.tree() == FIRST
        with stand.published():
            pushed = stand.controller.repo.commit({"nginx/nginx.conf": "two\n"})
        controller.says("published")
        for agent in agents:
            done = agent.sync()
            assert (done.job["commit"], done.code) == (pushed, 0)
            assert agent.tree() == {**FIRST, "nginx.conf": b"two\n"}
            assert done.json["requests"]["total"] == 0
        folder = {**stand.controller.jobs["nginx"]["paths"][0], "exclude": ["sites/"]}
        stand.controller.write_config(paths=[folder])
        with stand.published():
            controller.send(signal.SIGHUP)
        for agent in agents:
            done = agent.sync()
            assert (done.job["commit"], done.job["status"]) == (pushed, "changed")
            assert agent.tree() == {"nginx.conf": b"two\n"}
        assert controller.ends() == 0
    assert first["token"] == 1


def test_a_notice_starts_the_agents_daemon_and_drift_is_repaired_while_the_database_is_away(
    stand: FleetMachines,
) -> None:
    agent = stand.agent("web01")
    with daemon(stand.controller) as controller:
        controller.says("published")
        grant(stand, "web01")
        with daemon(agent) as running:
            running.says("nginx", lambda line: line.get("status") == "changed")
            pushed = stand.controller.repo.commit({"nginx/nginx.conf": "two\n"})
            controller.says("published")
            running.says("nginx", lambda line: line.get("commit") == pushed)
            assert agent.tree()["nginx.conf"] == b"two\n"
            cut(stand.fleet)
            (agent.dest / "nginx.conf").write_text("edited by hand\n")
            running.send(signal.SIGUSR1)
            running.says("nginx", lambda line: line.get("status") == "changed")
            assert agent.tree()["nginx.conf"] == b"two\n"
            assert running.ends() == 0
        assert controller.ends() == 0


def cut(fleet: Fleet) -> None:
    """Take the database away from everybody, as a failed server would."""
    fleet.cluster.execute(f"ALTER DATABASE {fleet.name} ALLOW_CONNECTIONS false")
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
    fleet.cluster.execute(f"{ended}'{fleet.name}'")


def test_a_push_webhook_of_a_controller_publishes_at_once(stand: FleetMachines) -> None:
    env = stand.controller
    env.canary.watch(SECRET, "the webhook's secret")
    hook = {"path": "/github", "secret": secret_file(env.folder / "hook.secret", SECRET)}
    env.extra["web"] = {"listen": "127.0.0.1:0", "webhook": hook}
    env.write_config(every="1d")
    with daemon(env) as controller:
        port = port_of(controller)
        controller.says("published")
        with stand.published():
            env.repo.commit({"nginx/nginx.conf": "two\n"})
            assert deliver(port, event_of(env.repo)) == (202, "1 job asks GitHub now\n")
        assert controller.ends() == 0


def test_the_heads_of_many_repositories_come_in_one_query(stand: FleetMachines) -> None:
    """Forty repositories, due every second, are more than REST may ask for."""
    env = stand.controller
    env.jobs.clear()
    for number in range(40):
        env.github.add_repo(f"acme/r{number}", {"nginx/a": f"{number}\n"})
        paths = [{"from": "nginx/", "to": f"{env.folder}/dest/{number}/"}]
        env.jobs[f"j{number}"] = {"repo": f"acme/r{number}", "every": "1s", "paths": paths}
    env.write()
    with daemon(env) as controller:
        for _ in range(40):
            controller.says("published")
        env.github.forget_requests()
        commit = env.github.repos["acme/r3"].commit({"nginx/a": "new\n"})
        controller.says(f"j3: published {commit[:7]}")
        env.github.repos["acme/r4"].commit({"nginx/a": "new\n"})
        controller.says("j4: published")
        asked = env.github.routes()
        assert controller.ends() == 0
    assert asked["graphql"] >= 1 and asked["head"] <= 20 * (asked["graphql"] + 1)
