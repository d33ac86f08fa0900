"""A push at GitHub's side and what the real daemon does about it: the webhook over real sockets,
in front of a real process.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_daemon_web import get, port_of
from tests.support.daemon import DEADLINE_SECONDS, Running, daemon
from tests.support.metrics import samples
from tests.support.push import SECRET, deliver, event_of
from tests.support.sync_env import SyncEnv, sync_env

NEXT = "the-next-secret-of-the-operator"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    """The job `nginx` of acme/infra@main once a day, a listener with a webhook,
    and the secret in a file.
    """
    with sync_env(tmp_path, as_app=False) as made:
        for secret in (SECRET, NEXT):
            made.canary.watch(secret, "the webhook's secret")
        write_secret(made, SECRET)
        made.extra["web"] = {
            "listen": "127.0.0.1:0",
            "webhook": {"path": "/github", "secret": str(tmp_path / "hook.secret")},
        }
        made.write_config(every="1d")
        yield made


def write_secret(hub: SyncEnv, secret: str) -> None:
    file = hub.folder / "hook.secret"
    file.write_text(f"{secret}\n")
    file.chmod(0o600)


def add_job(hub: SyncEnv, name: str, **more: Any) -> None:
    job = {
        "repo": "acme/infra",
        "ref": "main",
        "every": "1d",
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/{name}/"}],
        **more,
    }
    hub.jobs[name] = {key: value for key, value in job.items() if value is not None}
    hub.write()


def pushed(line: dict[str, Any]) -> bool:
    return line.get("trigger") == "push"


def settle(running: Running, count: int) -> None:
    """Every job's first run is over, and has written."""
    for _ in range(count):
        running.says("written", lambda line: not pushed(line))


def until(true: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < ends, what
        time.sleep(0.02)


def test_a_signed_push_starts_the_jobs_that_follow_it_and_no_other_and_is_applied_in_one_round(
    hub: SyncEnv,
) -> None:
    other = hub.github.add_repo("acme/other", {"nginx/nginx.conf": "other\n"})
    hub.repo.tag("v1", hub.repo.head())
    add_job(hub, "twin", repo="ACME/Infra", ref=None)
    add_job(hub, "deaf", on_push=False)
    add_job(hub, "pinned", ref=hub.repo.head())
    add_job(hub, "tagged", ref="v1")
    add_job(hub, "elsewhere", repo="acme/other")
    add_job(hub, "formerly", repo="acme/old", ref="main")
    hub.github.renamed["acme/old"] = "acme/infra"
    with daemon(hub) as running:
        port = port_of(running)
        settle(running, 7)
        hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
        other.commit({"nginx/nginx.conf": "unseen\n"}, "x")
        hub.github.forget_requests()
        assert deliver(port, event_of(hub.repo)) == (202, "3 jobs ask GitHub now\n")
        assert {running.says("written", pushed)["job"] for _ in range(3)} == {
            "nginx",
            "twin",
            "formerly",
        }
        assert {
            (hub.folder / name / "nginx.conf").read_text() for name in ("dest", "twin", "formerly")
        } == {"two\n"}
        assert {
            (hub.folder / name / "nginx.conf").read_text() for name in ("deaf", "pinned", "tagged")
        } == {"one\n"} and (hub.folder / "elsewhere/nginx.conf").read_text() == "other\n"
        assert hub.github.count("head", 200) == 3, (
            "one for the branch, one for the default branch, one by the old name"
        )
        hub.repo.tag("v1", hub.repo.head(), annotated=True)
        event = event_of(hub.repo, "refs/tags/v1", after=hub.repo.refs["refs/tags/v1"])
        assert deliver(port, event) == (202, "1 job asks GitHub now\n")
        assert running.says("written", pushed)["job"] == "tagged"
        assert deliver(port, event_of(hub.repo, "refs/heads/side")) == (
            202,
            "push of refs/heads/side in acme/infra: no job follows that\n",
        )
        assert deliver(port, event_of(hub.repo, deleted=True, after="0" * 40)) == (
            202,
            "push of refs/heads/main in acme/infra: a deletion starts nothing\n",
        )
        assert hub.call("pause", "elsewhere", "--reason", "moving").code == 0
        hub.github.forget_requests()
        assert deliver(port, event_of(other)) == (
            202,
            "push of refs/heads/main in acme/other: nothing was started; "
            "1 job is paused and skipped\n",
        )
        assert hub.call("pause", "twin").code == 0
        assert deliver(port, event_of(hub.repo, before="b" * 40)) == (
            202,
            "2 jobs ask GitHub now; 1 job is paused and skipped\n",
        )
        assert {
            one.path for one in hub.github.requests if "/repos/acme/other" in one.path
        } == set() and (hub.folder / "elsewhere/nginx.conf").read_text() == "other\n"
        assert running.ends() == 0


def test_what_is_not_signed_by_us_starts_nothing_and_all_of_it_is_told_where_people_look(
    hub: SyncEnv,
) -> None:
    assert hub.call("sync").code == 0
    assert "webhook: no delivery yet" in hub.call("status").out
    with daemon(hub) as running:
        port = port_of(running)
        hub.github.forget_requests()
        event = event_of(hub.repo)
        for secret in (None, "another", SECRET[:-1], ""):
            assert deliver(port, event, secret=secret)[0] == 401
        running.says(
            "a delivery to the webhook was refused: its signature was not made with the secret"
        )
        assert hub.github.requests == []
        write_secret(hub, NEXT)
        assert deliver(port, event)[0] == 401 and deliver(port, event, secret=NEXT) == (
            202,
            "1 job asks GitHub now\n",
        )
        until(lambda: hub.github.count("head") == 1, "the job has asked")
        assert deliver(port, {"zen": "Keep it logically awesome."}, "ping", secret=NEXT) == (
            200,
            "pong\n",
        )
        assert json.loads(get(port, "/api/v1/status")[1])["webhook"]["error"] is None and re.search(
            r"<li>last delivery \d+s ago \(ping\)</li>", get(port, "/")[1]
        )
        assert (
            samples(get(port, "/metrics")[1])['syncd_webhook_deliveries_total{outcome="refused"}']
            == 5
        )
        assert deliver(port, event)[0] == 401
        assert running.ends() == 0
    said, found = hub.call("status").out, hub.call("status", "--json").json["webhook"]
    assert (
        "ago (ping); refused" in said
        and found["last_delivery"] <= found["last_refused"]
        and found["error"].startswith("its signature was not made")
    )
    doctor = hub.call("doctor")
    assert (
        doctor.code == 0
        and "! webhook       last delivery" in doctor.out
        and "its signature was not made" in doctor.out
        and "Recent Deliveries" in doctor.out
    )


def test_a_replayed_delivery_costs_nothing_a_flood_of_new_ones_little_and_a_reload_moves_the_door(
    hub: SyncEnv,
) -> None:
    with daemon(hub) as running:
        port = port_of(running)
        settle(running, 1)
        hub.github.forget_requests()
        event = event_of(hub.repo)
        assert deliver(port, event, guid="one")[1].startswith("1 job asks")
        until(lambda: hub.github.count("head") == 1, "the job has asked")
        with ThreadPoolExecutor(4) as pool:
            answers = set(pool.map(lambda _: deliver(port, event, guid="one"), range(100)))
            assert (
                answers == {(202, "this delivery came before; nothing was started\n")}
                and hub.github.count("head") == 1
            )
            began = time.monotonic()
            answers = set(
                pool.map(lambda number: deliver(port, {**event, "number": number}), range(300))
            )
        took = time.monotonic() - began
        assert answers == {(202, "1 job asks GitHub now\n")}
        assert hub.github.count("head") <= 3 + took / 5 and {
            one.status for one in hub.github.requests
        } == {304}, hub.github.routes()
        metrics = get(port, "/metrics")[1]
        found = samples(metrics)
        assert found['syncd_webhook_deliveries_total{outcome="repeated"}'] == 100
        assert found['syncd_webhook_deliveries_total{outcome="asked"}'] == 301
        hub.extra["web"]["webhook"]["path"] = "/hooks/github"
        hub.write()
        running.send(signal.SIGHUP)
        running.says("reloaded: ")
        port = port_of(running)
        assert deliver(port, {}, "ping")[0] == 404 and deliver(
            port, {}, "ping", path="/hooks/github"
        ) == (200, "pong\n")
        assert running.ends() == 0
