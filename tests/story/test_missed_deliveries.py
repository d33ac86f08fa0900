"""Pushes that GitHub could not deliver to an App's webhook: the daemon reads GitHub's list of
deliveries, over real sockets, and starts the jobs of their repositories.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.cli.run import CatchUpService
from syncd.clock import SystemClock
from syncd.config.load import load_config
from syncd.daemon.catch_up import SILENCE, CatchUp
from syncd.daemon.daemon import Daemon
from syncd.github import deliveries
from syncd.github.webhook import Push
from syncd.simulator import faults
from syncd.web.metrics import exposition
from tests.support.metrics import samples
from tests.support.push import SECRET
from tests.support.sync_env import SyncEnv, sync_env

APP = 12345


class Later(SystemClock):
    """The real clock, and how much later a test wants it to be."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def monotonic(self) -> float:
        return super().monotonic() + self.by.total_seconds()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    """Jobs of two repositories that run once a day and have run, and a webhook of their App."""
    with sync_env(tmp_path) as made:
        secret = tmp_path / "hook.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        made.canary.watch(SECRET, "the webhook's secret")
        made.extra["web"] = {
            "listen": "127.0.0.1:0",
            "webhook": {"path": "/github", "secret": str(secret)},
        }
        other = made.github.add_repo("acme/other", {"nginx/nginx.conf": "one\n"})
        made.write_config(every="1d")
        for name, repo in (("twin", "acme/Infra"), ("deaf", "acme/infra"), ("other", "acme/other")):
            paths = [{"from": "nginx/", "to": f"{tmp_path}/{name}/"}]
            made.jobs[name] = {"repo": repo, "ref": "main", "every": "1d", "paths": paths}
        made.jobs["deaf"]["on_push"] = False
        made.write()
        assert made.call("sync").code == 0
        for repo in (made.repo, other):
            made.github.add_delivery(APP, repo)
        yield made


@contextmanager
def daemon(hub: SyncEnv, clock: Later | None = None) -> Iterator[tuple[Daemon, CatchUp]]:
    """A daemon that has started and whose threads a test replaces."""
    made = Daemon(lambda: load_config(hub.config, os.environ), os.environ, clock=clock)
    made.prepare(load_config(hub.config, os.environ))
    try:
        yield made, CatchUp(made.app, made.push_trigger, made.clock)
    finally:
        made.app.close()


def started(running: Daemon) -> set[str]:
    """Run what is queued, and return the names of these jobs."""
    names = set()
    while (wanted := running.queue.pop()) is not None:
        names.add(wanted.job)
        running.runner.run(wanted)
    return names


def look(hub: SyncEnv) -> set[str]:
    """The jobs that a daemon starts right after its own start."""
    with daemon(hub) as (running, catch_up):
        catch_up.run_if_due()
        return started(running)


def test_pushes_missed_while_the_daemon_was_down_cost_one_request_per_page(
    hub: SyncEnv, caplog: pytest.LogCaptureFixture
) -> None:
    hub.github.add_delivery(APP, hub.repo, 502)
    assert look(hub) == set(), "a first look only notes which delivery is the newest"
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    for _ in range(250):
        hub.github.add_delivery(APP, hub.repo, 502)
    hub.github.add_delivery(APP, hub.github.repos["acme/other"])
    hub.github.forget_requests()
    with daemon(hub) as (running, catch_up), caplog.at_level(logging.WARNING):
        catch_up.run_if_due()
        assert hub.github.routes() == {"deliveries": 3, "token": 1}
        assert started(running) == {"nginx", "twin"}
        metrics = samples(exposition(running.status_snapshot()))
    assert (hub.dest / "nginx.conf").read_text() == "two\n"
    assert hub.github.count("token") == 1, "the runs use the token that gave the number"
    assert (
        "250 pushes of the App of ops did not reach the webhook, the last one with "
        "502 Invalid HTTP Response: 502; 2 jobs ask GitHub now"
    ) in caplog.text
    assert metrics['syncd_webhook_deliveries_total{outcome="missed"}'] == 250
    assert metrics['syncd_github_requests_total{code="200",identity="ops"}'] >= 3
    hub.github.forget_requests()
    assert look(hub) == set() and hub.github.routes() == {"deliveries": 1}


def fails(hub: SyncEnv, name: str, code: int = 502, guid: str | None = None) -> None:
    hub.github.add_delivery(APP, hub.github.repos[name], code, guid)


def delivered_at_last(hub: SyncEnv) -> None:
    fails(hub, "acme/infra", guid="g")
    fails(hub, "acme/infra", 202, "g")


def renamed(hub: SyncEnv) -> None:
    hub.github.rename("acme/infra", "acme/web")
    fails(hub, "acme/web")


def while_paused(hub: SyncEnv) -> None:
    fails(hub, "acme/infra")
    assert hub.call("pause", "twin").code == 0


MISSED: dict[str, tuple[Callable[[SyncEnv], None], set[str]]] = {
    "delivered again": (delivered_at_last, set()),
    "not connected": (lambda hub: fails(hub, "acme/other", 0), {"other"}),
    "a renamed repository": (renamed, {"nginx", "twin"}),
    "a paused job": (while_paused, {"nginx"}),
}


@pytest.mark.parametrize("case", MISSED)
def test_each_job_of_a_repository_starts_whose_push_no_attempt_delivered(
    hub: SyncEnv, case: str
) -> None:
    happens, expected = MISSED[case]
    assert look(hub) == set()
    happens(hub)
    assert look(hub) == expected
    assert look(hub) == set(), "once"


def test_the_list_is_read_again_when_pushes_fall_silent(hub: SyncEnv) -> None:
    clock = Later()
    with daemon(hub, clock) as (running, catch_up):

        def requests_after(passed: timedelta) -> int:
            hub.github.forget_requests()
            clock.by += passed
            hub.github.clock_offset = clock.by.total_seconds()
            catch_up.run_if_due()
            return hub.github.count("deliveries")

        assert [requests_after(passed) for passed in (timedelta(), SILENCE / 2, SILENCE / 2)] == [
            1,
            0,
            1,
        ]
        clock.by += SILENCE / 2
        running.push_trigger.ignored("a push of another repository")
        assert requests_after(SILENCE / 2) == 0, "deliveries arrive"
        fails(hub, "acme/infra", 0)
        assert requests_after(SILENCE / 2) == 1 and started(running) == {"nginx", "twin"}


def test_a_list_that_can_not_be_read_fails_nothing_and_is_read_a_minute_later(
    hub: SyncEnv, caplog: pytest.LogCaptureFixture
) -> None:
    assert look(hub) == set()
    fails(hub, "acme/infra")
    clock = Later()
    fault = hub.github.add_fault("deliveries", faults.status(404), times=100)
    with daemon(hub, clock) as (running, catch_up), caplog.at_level(logging.WARNING):
        catch_up.run_if_due()
        assert started(running) == set()
        assert "which deliveries of the App of ops were missed; scheduled runs find" in caplog.text
        hub.github.faults.remove(fault)
        catch_up.run_if_due()
        assert started(running) == set(), "not before its time"
        clock.by = timedelta(seconds=61)
        running.push_trigger.ignored("a delivery that arrives ends no retry")
        catch_up.run_if_due()
        assert started(running) == {"nginx", "twin"}


def test_a_list_longer_than_its_limit_starts_every_job_of_the_app(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(hub) == set()
    monkeypatch.setattr(deliveries, "MAX_PAGES", 1)
    for _ in range(101):
        hub.github.add_delivery(APP, hub.repo)
    hub.github.forget_requests()
    assert look(hub) == {"nginx", "twin", "other"}
    assert hub.github.count("deliveries") == 1


def test_without_an_app_or_a_webhook_no_list_is_read(hub: SyncEnv) -> None:
    webhook = hub.extra.pop("web")
    hub.write()
    hub.github.forget_requests()
    assert look(hub) == set()
    hub.extra["web"] = webhook
    token = hub.folder / "token"
    token.write_text("ghp_personal00000000000000000000000000")
    token.chmod(0o600)
    hub.identities["ops"] = {"token": {"file": str(token)}, "api": hub.served.url}
    hub.write()
    assert look(hub) == set() and hub.github.count("deliveries") == 0


def test_the_daemon_reads_the_list_on_a_thread_of_its_own_until_it_stops(hub: SyncEnv) -> None:
    asked, service = threading.Event(), CatchUpService()
    hub.github.call_before("deliveries", 1, asked.set)
    with daemon(hub) as (running, _):
        service.start(running)
        assert asked.wait(60)
        service.reload(running.app.config)
        assert [one.name for one in threading.enumerate()].count("syncd-catch-up") == 1
        running.app.stop.set()
        service.stop()
        assert "syncd-catch-up" not in [one.name for one in threading.enumerate()]


def test_a_push_under_a_new_name_starts_the_jobs_of_the_same_repository(hub: SyncEnv) -> None:
    with daemon(hub) as (running, _):
        running.run_all_now()
        assert started(running) == {"nginx", "twin", "deaf", "other"}
        hub.github.rename("acme/infra", "acme/web")
        push = Push("acme/web", "refs/heads/main", hub.repo.head(), number=hub.repo.id)
        running.push_trigger.push_received(push, None, "a push")
        assert started(running) == {"nginx", "twin"}
