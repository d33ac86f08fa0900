"""A turn that finds a job at rest says what a run would say, and touches neither store nor disk;
whatever differs is left to a run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.engine.run import run_job
from syncd.engine.unchanged import still_unchanged, unchanged_state
from syncd.github.request_cache import SingleFlight
from syncd.mirror.racy import KernelClock
from syncd.models import RunStatus, Trigger
from syncd.ports import Head, LastError, Pause
from syncd.store.lock import job_lock
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import signatures

HAPPENINGS = int(os.environ.get("SYNCD_HAPPENINGS", "40"))


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "a\n", "files/sub/b": "b\n", "files/c": "c\n"})
        yield made


def test_whatever_happened_still_says_unchanged_only_where_a_run_would(
    days: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random happenings (SYNCD_HAPPENINGS): after each,
    what the short look says is held to what the run then finds.
    """
    # what happens counts as a second old, so that the next run comes to rest
    monkeypatch.setattr(KernelClock, "now_ns", lambda _: time.time_ns() + 1_000_000_000)
    rng = random.Random(12)
    days.add("j", "acme/r", drift="restore")
    days.begin(rng.random)
    app, deadline = days.daemon.app, days.daemon.app.deadline
    dest, said = days.folder / "dest" / "j", {True: 0, False: 0}

    def edit() -> None:
        (dest / "a").write_text(f"{rng.random()}\n")

    def same_bytes_again() -> None:
        text = (dest / "c").read_text()
        (dest / "c").unlink()
        (dest / "c").write_text(text)

    def swap_folder() -> None:
        (dest / "sub").rename(days.folder / f"moved{rng.random()}")
        (dest / "sub").symlink_to(next(days.folder.glob("moved*")))

    def state(**more: object) -> None:
        app.store.change_state("j", lambda now: replace(now, **more))  # type: ignore[arg-type]

    def hand() -> None:
        days.jobs["j"]["mode"] = rng.choice(("0644", "0640", "0600"))
        app.replace_config(days.config)

    happenings = [
        lambda: None,
        lambda: None,
        lambda: None,
        edit,
        lambda: (dest / "c").unlink(missing_ok=True),
        lambda: os.chmod(dest / "a", 0o600),
        lambda: os.chmod(dest / "sub", 0o700),
        same_bytes_again,
        hand,
        lambda: days.github.repos["acme/r"].commit({"files/a": f"{rng.random()}\n"}),
        lambda: days.github.repos["acme/r"].commit({"other": f"{rng.random()}\n"}),
        lambda: state(pause=Pause("x")),
        lambda: state(held=True),
        lambda: state(failures=1, last_error=LastError("store")),
        lambda: state(consistent=False),
        lambda: app.store.forget("j"),
        swap_folder,
        lambda: state(pause=Pause("x", days.clock.now() - timedelta(1))),
    ]
    for _ in range(HAPPENINGS):
        job = app.config.jobs["j"]
        for _ in range(3):  # come to rest
            state(pause=None, held=False)
            if (dest / "sub").is_symlink():
                (dest / "sub").unlink()
            run_job(job, app.run_context(job, SingleFlight()), deadline(job))
        rest = unchanged_state(job, app.run_context(job), deadline(job))
        assert rest is not None
        rng.choice(happenings)()
        days.clock.advance(10)
        job, counter = app.config.jobs["j"], app.store.counter()
        ctx, before = app.run_context(job, SingleFlight()), signatures(dest)
        quick = still_unchanged(rest, job, ctx, deadline(job), Trigger.SCHEDULE)
        assert app.store.counter() == counter and signatures(dest) == before, "it only looks"
        report = run_job(job, ctx, deadline(job))
        said[quick is not None] += 1
        if quick is not None:
            assert (report.status, report.changes, report.error, report.commit) == (
                RunStatus.UNCHANGED,
                (),
                None,
                quick.commit,
            ), report
            assert (
                quick.status is RunStatus.UNCHANGED
                and quick.files == report.files
                and signatures(dest) == before
            )
    assert min(said.values()) > HAPPENINGS / 10, f"both answers were tried: {said}"


def test_what_changed_while_github_took_its_time_is_seen(
    days: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    days.add("j", "acme/r")
    days.begin(lambda: 0.5)
    app = days.daemon.app
    job, deadline = app.config.jobs["j"], app.deadline(app.config.jobs["j"])
    for _ in range(3):
        run_job(job, app.run_context(job, SingleFlight()), deadline)
    ctx = app.run_context(job, SingleFlight())
    known, resolve = unchanged_state(job, ctx, deadline), ctx.source.resolve
    assert known is not None

    def answer(*asked: Any) -> Head:
        (days.folder / "dest" / "j" / "a").write_text("edited\n")
        return resolve(*asked)

    monkeypatch.setattr(ctx.source, "resolve", answer)
    assert still_unchanged(known, job, ctx, deadline, Trigger.SCHEDULE) is None


def test_a_quiet_turn_costs_one_304_and_writes_the_time_later(days: SimulatedDaemon) -> None:
    for name in ("one", "two"):
        days.add(name, "acme/r", "5m")
    days.begin(lambda: 0.5)
    days.run(700)
    store, file = days.daemon.app.store, days.folder / "state" / "syncd.db"
    days.daemon.housekeeping()
    days.github.forget_requests()
    before, counter, stat = len(days.reports), store.counter(), os.stat(file)
    days.guard_seconds = 1e9
    days.run(300)
    assert len(days.reports) - before == 2 and [
        (one.route, one.status) for one in days.github.requests
    ] == [("head", 304)], "one tick, one request"
    assert store.counter() == counter and os.stat(file).st_mtime_ns == stat.st_mtime_ns, (
        "nothing was written"
    )
    last = store.state("one").last_run_at
    days.daemon.housekeeping()
    state = store.state("one")
    assert (
        last is not None and state.last_run_at == state.last_success_at and state.last_run_at > last
    )


def test_a_commit_id_is_looked_after_without_a_request(days: SimulatedDaemon) -> None:
    days.add("pinned", "acme/r", "5m", ref=days.github.repos["acme/r"].head())
    days.begin(lambda: 0.5)
    days.run(700)
    days.github.forget_requests()
    (days.folder / "dest" / "pinned" / "a").write_text("edited\n")
    days.run(300)
    assert (days.folder / "dest" / "pinned" / "a").read_text() == "a\n", "drift is put back"
    days.run(600)
    days.github.forget_requests()
    days.run(3600)
    assert days.github.requests == []


def test_a_job_that_another_process_holds_is_asked_for_again_soon(days: SimulatedDaemon) -> None:
    days.add("j", "acme/r", "1h")
    days.begin(lambda: 0.5)
    with job_lock(days.folder / "state", "j"):
        days.run(20)
        assert [report.error.kind for _, report in days.reports if report.error] == [
            "locked"
        ] * len(days.reports) and days.reports
    days.run(90)
    assert days.settled() == {"j": None} and days.daemon.queue.backoff_of("j") is None
