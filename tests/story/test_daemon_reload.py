"""A reload changes what changed and nothing else;
and what the daemon does when something of its own stands still or breaks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load_config
from syncd.daemon import watchdog
from syncd.daemon.daemon import Daemon
from syncd.errors import ConfigError
from syncd.github.rate_limit import ConcurrencyLimit
from syncd.models import RunReport, Trigger
from tests.support.clock import FakeClock
from tests.support.scheduler import under
from tests.support.sync_env import SyncEnv, signatures


class Bench:
    """A daemon over real sockets whose wheels the test turns."""

    def __init__(self, hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub, self.clock = hub, FakeClock()
        under(self.clock, monkeypatch)
        hub.github.clock_offset = self.clock.now().timestamp() - hub.github._real_now()
        self.daemon = Daemon(
            lambda: load_config(hub.config, os.environ),
            os.environ,
            clock=self.clock,
            jitter=lambda: 0.5,
        )
        monkeypatch.setattr(
            self.daemon, "_resize_pool", lambda _workers: None
        )  # the wheels are turned here, and by no thread
        self.reports: list[RunReport] = []

    def begin(self) -> None:
        self.daemon.prepare(load_config(self.hub.config, os.environ))
        self.daemon.job_status.subscribe(lambda report, _: self.reports.append(report))

    def turn(self, seconds: float = 0.0) -> list[tuple[str, Trigger, str]]:
        """What ran in so much time: job, trigger, status."""
        self.reports.clear()
        ends = self.clock.monotonic() + seconds
        while True:
            wait = self.daemon.scheduler.tick()
            while (request := self.daemon.queue.pop()) is not None:
                self.daemon.runner.run(request)
            if self.clock.monotonic() >= ends:
                return [
                    (report.job, report.trigger, report.status.value) for report in self.reports
                ]
            self.clock.advance(min(wait + 0.01, max(0.01, ends - self.clock.monotonic())))

    def reload(self, **jobs: dict[str, Any] | None) -> bool:
        for name, job in jobs.items():
            if job is None:
                del self.hub.jobs[name]
            else:
                self.hub.jobs[name] = {
                    **self.hub.jobs.get(name, self.hub.jobs["nginx"]),
                    "paths": [{"from": "nginx/", "to": f"{self.hub.folder}/{name}/"}],
                    **job,
                }
        self.hub.write()
        return self.daemon.reload()


@pytest.fixture
def bench(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    hub.jobs["other"] = {
        **hub.jobs["nginx"],
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/other/"}],
    }
    hub.write()
    made = Bench(hub, monkeypatch)
    made.begin()
    made.turn(400)
    yield made
    made.daemon.app.close()


def test_a_job_that_changed_runs_now_and_the_others_keep_turns_connections_and_tokens(
    bench: Bench,
) -> None:
    github, app = bench.hub.github, bench.daemon.app
    turn, network, tokens = (
        bench.daemon.scheduler.next_run("nginx"),
        app.connections._networks["ops"],
        github.count("token", 201),
    )
    assert bench.reload(other={"mode": "0600"})
    assert [(job, trigger) for job, trigger, _ in bench.turn()] == [("other", Trigger.START)]
    assert bench.daemon.scheduler.next_run("nginx") == turn
    assert app.connections._networks["ops"] is network and github.count("token", 201) == tokens
    assert [one.status for one in github.requests if one.route == "head"][-1] == 304, (
        "what is known of the head was not forgotten"
    )
    assert (bench.hub.folder / "other" / "nginx.conf").stat().st_mode & 0o777 == 0o600


def test_another_schedule_moves_the_turns_and_runs_nothing(bench: Bench) -> None:
    assert bench.reload(other={"every": "1h"}) and bench.turn() == []
    assert {job for job, *_ in bench.turn(1200)} == {"nginx"}


def test_jobs_come_and_go(bench: Bench) -> None:
    bench.hub.github.add_repo("acme/new", {"nginx/x": "x\n"})
    tokens = bench.hub.github.count("token", 201)
    assert bench.reload(new={"repo": "acme/new"}, other=None)
    assert [(job, status) for job, _, status in bench.turn(30)] == [("new", "changed")]
    assert bench.hub.github.count("token", 201) == tokens + 1, "a token for one more repository"
    assert (
        "other" not in bench.daemon.job_status.statuses()
        and bench.daemon.scheduler.next_run("other") is None
    )
    assert (bench.hub.folder / "other" / "nginx.conf").exists(), "its files stay"
    assert {job for job, *_ in bench.turn(700)} == {"nginx", "new"}


def test_a_configuration_with_a_mistake_changes_nothing(bench: Bench) -> None:
    config, turn = bench.daemon.app.config, bench.daemon.scheduler.next_run("nginx")
    assert not bench.reload(other={"every": "5 parsecs"})
    assert (
        bench.daemon.app.config is config
        and bench.daemon.scheduler.next_run("nginx") == turn
        and bench.turn() == []
    )
    assert (
        "parsecs" in (bench.daemon.job_status.reload_error or "")
        and not bench.daemon.process_stats().reload_successful
        and "refused" in bench.daemon.status()
    )
    assert bench.reload(other={"every": "5m"}) and bench.daemon.process_stats().reload_successful


def test_another_state_folder_needs_a_restart(bench: Bench) -> None:
    bench.hub.extra["x-nothing"] = "1"
    text = bench.hub.config.read_text().replace(
        str(bench.hub.state), str(bench.hub.folder / "elsewhere")
    )
    bench.hub.config.write_text(text)
    assert (
        not bench.daemon.reload()
        and "restart" not in (bench.daemon.job_status.reload_error or "")
        and "elsewhere" in (bench.daemon.job_status.reload_error or "")
    )


def test_a_secret_that_can_not_be_read_refuses_the_reload_and_a_new_key_is_used_after_one(
    bench: Bench,
) -> None:
    key = bench.hub.folder / "app.pem"
    good = key.read_text()
    key.unlink()
    assert not bench.reload(other={"mode": "0640"})
    key.write_text(good)
    key.chmod(0o600)
    assert bench.reload(other={"mode": "0640"})
    app = bench.hub.github.accounts.apps["12345"]
    key.write_text(bench.hub.github.accounts.add_app(12345))
    del app.public_keys[:-1]
    tokens = bench.hub.github.count("token", 201)
    assert bench.daemon.reload()
    assert {status for _, _, status in bench.turn(1)} <= {
        "unchanged",
        "changed",
    } and bench.hub.github.count("token", 201) == tokens + 1
    assert bench.daemon.app.connections._networks.keys() == {"ops"}


def test_a_bug_in_one_job_is_its_failure_and_the_daemon_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import syncd.daemon.worker as work

    real = work.run_job
    monkeypatch.setattr(work, "still_unchanged", lambda *_: None)
    monkeypatch.setattr(
        work,
        "run_job",
        lambda job, *rest: 1 / 0 if job.name == "nginx" else real(job, *rest),
    )  # type: ignore[arg-type]
    bench.daemon.run_all_now()
    assert {(job, status) for job, _, status in bench.turn()} == {
        ("nginx", "failed"),
        ("other", "unchanged"),
    }
    error = next(report.error for report in bench.reports if report.job == "nginx")
    assert error is not None and error.kind == "internal" and "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    bench.daemon.queue.clear_backoff(["nginx"])
    bench.daemon.run_all_now()
    assert {status for _, _, status in bench.turn()} == {"unchanged"}


def test_a_store_that_can_not_be_used_fails_runs_and_not_the_daemon(bench: Bench) -> None:
    locks = bench.hub.state / "locks"
    locks.rename(bench.hub.state / "away")
    locks.write_text("in the way")
    bench.hub.repo.commit({"nginx/nginx.conf": "two\n"})
    bench.daemon.run_all_now()
    assert {status for _, _, status in bench.turn()} == {"failed"} and {
        report.error.kind for report in bench.reports if report.error
    } == {"store"}
    locks.unlink()
    bench.daemon.run_all_now()
    assert {status for _, _, status in bench.turn()} == {"changed"}


# --- standing still -------------------------------------------------------------------------------


def test_no_sign_of_life_is_given_while_something_stands_still(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, alive = bench.daemon, list[int]()
    monkeypatch.setattr(daemon.sd_notify, "alive", lambda: alive.append(1))
    daemon._workers_wanted = 2

    def turn_all() -> None:
        daemon.scheduler.tick()
        daemon.heartbeat()

    turn_all()
    daemon.watchdog_ping()
    assert len(alive) == 1 and daemon.stall_reason() is None
    bench.clock.advance(watchdog.STALL_SECONDS + 1)
    daemon.heartbeat()
    assert "clock" in (daemon.stall_reason() or "")
    daemon.watchdog_ping()
    assert len(alive) == 1
    bench.clock.advance(watchdog.STALL_SECONDS + 1)
    daemon.scheduler.tick()
    assert "main loop" in (daemon.stall_reason() or "")
    turn_all()
    while (request := daemon.queue.pop()) is not None:
        daemon.runner.run(request)
    daemon.queue.enqueue("nginx", Trigger.OPERATOR)
    bench.clock.advance(watchdog.STALL_SECONDS + 1)
    turn_all()
    assert "free workers" in (daemon.stall_reason() or ""), "a run that is due and nobody takes"


def test_a_listener_that_answers_nobody_holds_back_the_sign_of_life(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listener:
        trouble: str | None = None

        def stall_reason(self) -> str | None:
            return self.trouble

    listener, alive = Listener(), list[int]()
    daemon = bench.daemon
    monkeypatch.setattr(daemon, "_services", [listener])
    monkeypatch.setattr(daemon.sd_notify, "alive", lambda: alive.append(1))
    daemon.scheduler.tick()
    daemon.heartbeat()
    daemon.watchdog_ping()
    assert len(alive) == 1 and daemon.stall_reason() is None
    listener.trouble = "the listener has answered no request for 61 s"
    daemon.watchdog_ping()
    assert len(alive) == 1 and daemon.stall_reason() == listener.trouble


def test_a_long_run_is_not_frozen_until_every_worker_is_beyond_its_limits(bench: Bench) -> None:
    from syncd.daemon.worker import ActiveRun

    daemon, now = bench.daemon, bench.clock.monotonic()
    daemon._workers_wanted = 2
    daemon.heartbeat()
    daemon.runner._active[1] = ActiveRun("nginx", now - 1)
    assert daemon.stall_reason() is None and daemon.runner.stuck_jobs() == ["nginx"]
    daemon.runner._active[2] = ActiveRun("other", now + 100)
    assert daemon.stall_reason() is None
    bench.clock.advance(50)
    daemon.scheduler.tick()
    daemon.runner._active[2] = ActiveRun("other", now - 1)
    assert "every worker is stuck" in (daemon.stall_reason() or "")


def test_a_gate_that_is_resized_lets_through_what_it_says_whatever_is_in_flight() -> None:
    from syncd.deadline import Deadline

    deadline = Deadline(FakeClock(), 60)
    gate = ConcurrencyLimit(4)
    for _ in range(3):
        gate.acquire(deadline)
    gate.resize(2)
    assert not gate._free.acquire(blocking=False)
    gate.release()
    assert not gate._free.acquire(blocking=False), "three were in flight, two may be"
    gate.release()
    assert gate._free.acquire(blocking=False) and not gate._free.acquire(blocking=False)
    gate.resize(5)
    assert [gate._free.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


def test_a_daemon_that_can_not_load_says_every_mistake(hub: SyncEnv) -> None:
    hub.config.write_text(hub.config.read_text() + "one: 1\ntwo: 2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Path(hub.config), os.environ)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("taker", ["a-first", "z-last"])
def test_a_reload_that_moves_a_path_to_another_job_never_removes_it(
    bench: Bench, taker: str
) -> None:
    one, both = {"from": "nginx/nginx.conf"}, {"from": "nginx/sites/a.conf"}
    place = f"{bench.hub.folder}/shared"
    paths = [{**one, "to": f"{place}/nginx.conf"}, {**both, "to": f"{place}/a.conf"}]
    assert bench.reload(nginx={"paths": paths})
    bench.turn(600)
    before = signatures(Path(place))
    assert bench.reload(**{"nginx": {"paths": paths[:1]}, taker: {"paths": paths[1:]}})
    bench.turn(600)
    assert signatures(Path(place)) == before
    assert {report.status.value for report in bench.reports} == {"unchanged"}
    bench.hub.repo.commit({"nginx/sites/a.conf": "new\n"})
    bench.turn(600)
    changed = {report.job for report in bench.reports if report.changes} - {"other"}
    assert changed == {taker} and Path(place, "a.conf").read_text() == "new\n"


def test_a_reload_that_renames_a_paused_job_leaves_it_paused(bench: Bench) -> None:
    bench.turn(600)
    assert bench.hub.call("pause", "nginx").code == 0
    bench.hub.jobs["web"] = bench.hub.jobs.pop("nginx")
    assert bench.reload()
    bench.hub.repo.commit({"nginx/nginx.conf": "two\n"})
    bench.turn(900)
    assert {one.status.value for one in bench.reports if one.job == "web"} == {"skipped"}
    assert bench.hub.tree()["nginx.conf"] == b"one\n"
