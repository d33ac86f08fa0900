"""The whole engine through a day in which everything goes wrong that may: no run is missed, nothing
piles up, and all is in sync when it is over.

SYNCD_SOAK_HOURS and SYNCD_SOAK_JOBS make it longer and wider. The simulator is a process of its
own, so the memory that is counted is the daemon's and this test's. That the test notices a lost run
is shown below it: with each of some mistakes put into the daemon, it says so.
"""

from __future__ import annotations

import errno
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.daemon import worker
from syncd.daemon.backoff import Backoff
from syncd.daemon.malloc import trim_heap
from syncd.daemon.queue import Request as Wanted
from syncd.daemon.scheduler import Scheduler
from syncd.errors import BugError
from syncd.models import Trigger
from tests.support.schedule_checker import HOUR, ScheduleChecker
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import tree_of

JOBS = int(os.environ.get("SYNCD_SOAK_JOBS", "30"))
HOURS = int(os.environ.get("SYNCD_SOAK_HOURS", "24"))
JITTER_SECONDS = 300
MIB = 1 << 20
WRONG: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("status", (502,)),
    ("status", (403, "You have exceeded a secondary rate limit", {"retry-after": "60"})),
    ("status", (401, "Bad credentials")),
    ("html", ()),
    ("reset", ()),
    ("cut", (5,)),
    ("corrupt", ()),
    ("status", (404, "Not Found")),
)
FAULTS = (
    "push",
    "push",
    "push",
    "edit",
    "remove",
    "api",
    "api",
    "network",
    "disk",
    "store lost",
    "store damaged",
    "clock",
)


class Disk:
    """This process's disk: the next calls that make things durable or public may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
        self.failing, self.failed = 0, 0
        for name in ("fsync", "replace", "rename", "mkdir"):
            real = getattr(os, name)

            def call(*arguments: Any, real: Any = real, **more: Any) -> Any:
                if self.failing > 0 and rng.random() < 0.5:
                    self.failing -= 1
                    self.failed += 1
                    where = (
                        arguments[:1] if isinstance(arguments[0], (str, Path)) else ()
                    )  # as Python has it: a call on a descriptor names no file
                    raise OSError(
                        rng.choice((errno.EIO, errno.ENOSPC, errno.EROFS)), "made to fail", *where
                    )
                return real(*arguments, **more)

            monkeypatch.setattr(os, name, call)


class Soak:
    """A daemon of hourly jobs, every second one with a jitter, and what happens to it.

    `watch` has seen every run.
    """

    def __init__(
        self, days: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch, jobs: int, hours: int
    ) -> None:
        assert days.apart is not None
        self.days, self.hub, self.rng = days, days.apart, random.Random(jobs * hours)
        self.disk = Disk(
            monkeypatch, random.Random(jobs * hours)
        )  # threads share it: what happens when must not hang on which of them came first
        self.jobs = jobs
        self.quiet_from = (hours - 3) * 3600.0  # then everything is well again
        self.wanted = [
            {f"f{each}": f"{number} {each}\n" for each in range(4)} for number in range(jobs)
        ]
        for number in range(jobs):
            self.hub.add_repo(
                f"acme/r{number}",
                {f"files/{name}": content for name, content in self.wanted[number].items()},
            )
            days.add(
                f"j{number}",
                f"acme/r{number}",
                "1h",
                **({"jitter": f"{JITTER_SECONDS}s"} if number % 2 else {}),
            )
        days.begin(random.Random(jobs * hours).random)
        self.store_file = days.folder / "state" / "syncd.db"
        self.happened = Counter[str]()
        self.begin, self._next_at = days.clock.monotonic(), 0.0
        self.watch = ScheduleChecker(
            days.clock,
            3600.0,
            {f"j{number}": JITTER_SECONDS if number % 2 else 0 for number in range(jobs)},
        )

    def hour(self) -> None:
        """An hour has passed."""
        self.days.run(3600.0, self._work, self._happen)
        self.hub.forget_requests()
        del self.days.reports[: -2 * self.jobs]

    def _work(self, wanted: Wanted) -> None:
        began, before = self.days.clock.monotonic(), len(self.days.reports)
        self.days.daemon.runner.run(wanted)
        (report,) = (report for _, report in self.days.reports[before:])
        assert report.job == wanted.job
        assert not isinstance(report.error, BugError), report.error
        hold = self.days.daemon.queue.backoff_of(wanted.job)
        self.watch.ran(wanted.job, began, report, hold.until if hold is not None else None)

    def _happen(self) -> None:
        passed = self.days.clock.monotonic() - self.begin
        if passed < self._next_at:
            return
        self._next_at = passed + self.rng.uniform(120, 900)
        self.days.air.away = False
        if passed >= self.quiet_from:
            self.disk.failing = 0
            self.hub.calm()
            return
        what = self.rng.choice(FAULTS)
        self.happened[what] += 1
        getattr(self, f"_{what.replace(' ', '_')}")(self.rng.randrange(self.jobs), passed)

    def _push(self, number: int, passed: float) -> None:
        change = {f"f{self.rng.randrange(6)}": f"{passed}\n"}
        self.wanted[number].update(change)
        self.hub.commit(
            f"acme/r{number}", {f"files/{name}": content for name, content in change.items()}
        )

    def _edit(self, number: int, passed: float) -> None:
        file = self.days.folder / "dest" / f"j{number}" / "f0"
        if file.exists():
            file.write_text("edited\n")

    def _remove(self, number: int, passed: float) -> None:
        (self.days.folder / "dest" / f"j{number}" / "f0").unlink(missing_ok=True)

    def _api(self, number: int, passed: float) -> None:
        self.hub.spoil(*self.rng.choice(WRONG), self.rng.randrange(1, 12))

    def _network(self, number: int, passed: float) -> None:
        self.days.air.away = True

    def _disk(self, number: int, passed: float) -> None:
        self.disk.failing = self.rng.randrange(1, 8)

    def _store_lost(self, number: int, passed: float) -> None:
        if self.rng.random() < 0.3:
            self.store_file.unlink(missing_ok=True)

    def _store_damaged(self, number: int, passed: float) -> None:
        if self.rng.random() < 0.3 and self.store_file.exists():
            with open(self.store_file, "r+b") as opened:
                opened.seek(self.rng.randrange(self.store_file.stat().st_size))
                opened.write(self.rng.randbytes(512))

    def _clock(self, number: int, passed: float) -> None:
        self.days.clock.at += timedelta(seconds=self.rng.choice((-7200, 7200, 40)))
        self.watch.stepped()


def figures() -> tuple[int, int, float]:
    """Open descriptors, threads, and MiB in memory of this process."""
    trim_heap()
    status = Path("/proc/self/status").read_text()
    return (
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024,
    )


def slope(values: list[float]) -> float:
    """Least squares, per step."""
    mean, middle = sum(values) / len(values), (len(values) - 1) / 2
    return sum((index - middle) * (value - mean) for index, value in enumerate(values)) / sum(
        (index - middle) ** 2 for index in range(len(values))
    )


@pytest.fixture
def days(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(memory_path, monkeypatch, apart=True) as made:
        yield made


@pytest.mark.root
@pytest.mark.timeout(3600)
def test_a_day_of_many_jobs_with_everything_that_may_go_wrong(
    days: SimulatedDaemon,
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    soak = Soak(days, monkeypatch, JOBS, HOURS)
    seen, sizes = list[tuple[int, int, float]](), list[int]()
    for _ in range(HOURS):
        soak.hour()
        caplog.clear()  # what the test itself would keep
        seen.append(figures())
        sizes.append(
            sum(file.stat().st_size for file in soak.store_file.parent.rglob("*") if file.is_file())
        )
    soak.watch.ends(days.jobs)
    third = HOURS // 3
    slopes = [slope([one[which] for one in seen[third:]]) for which in range(3)]
    runs, longest = soak.watch.runs, soak.watch.longest
    measured(
        f"{HOURS} h × {JOBS} jobs: {dict(soak.happened)}, {soak.disk.failed} failed calls; slopes "
        f"an hour: descriptors {slopes[0]:+.2f}, threads {slopes[1]:+.2f}, RSS {slopes[2]:+.3f} "
        f"MiB ({seen[third][2]:.0f} → {seen[-1][2]:.0f}); state folder {max(sizes) / MIB:.1f} MiB "
        f"at most, {sizes[-1] / MIB:.1f} at the end; {runs['good']} good runs, {runs['failed']} "
        f"failed, {len(soak.watch.missed)} missed; at most {longest['good']:.0f} s and "
        f"{longest['failed']:.0f} s until the next"
    )
    assert not soak.watch.missed
    assert soak.watch.runs["failed"] > JOBS / 2, "enough has gone wrong"
    assert set(days.settled().values()) == {None}, {
        name: error for name, error in days.settled().items() if error
    }
    assert not days.daemon.status_snapshot().stale and days.daemon.stall_reason() is None
    for number in range(JOBS):
        assert {name: content.encode() for name, content in soak.wanted[number].items()} == tree_of(
            days.folder / "dest" / f"j{number}"
        ), number
    assert not list((days.folder / "dest").rglob(".syncd-*"))
    assert abs(slopes[0]) < 0.5 and abs(slopes[1]) < 0.5 and slopes[2] < 0.25
    assert sizes[-1] <= 1.5 * max(sizes[: third + 1]) + MIB


# --- and that it would notice ---------------------------------------------------------------------

Mistake = Callable[[pytest.MonkeyPatch], None]


def nothing(_: pytest.MonkeyPatch) -> None:
    """No mistake."""


def a_lost_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """When all is well again, and the last failure's hold is over,
    one turn does not reach the queue.
    """
    real, turns = Scheduler._on_due, list[float]()

    def come(self: Scheduler, job: str) -> None:
        if job == "j1":
            turns.append(self._clock.monotonic() - (turns[0] if turns else 0.0))
        if job != "j1" or sum(turn > 12 * HOUR for turn in turns[1:]) != 2:
            real(self, job)

    monkeypatch.setattr(Scheduler, "_on_due", come)


def a_run_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job is taken for running for ever."""
    real = worker.WorkerRunner._after_run

    def follow(self: worker.WorkerRunner, report: Any) -> None:
        real(self, report)
        if report.job == "j2":
            self._queue._running["j2"] = Wanted("j2", Trigger.SCHEDULE, 0.0, 0.0, 0.0)

    monkeypatch.setattr(worker.WorkerRunner, "_after_run", follow)


def a_hold_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who failed is left alone for three hours."""
    real = worker.next_backoff

    def next_backoff(
        report: Any, before: Any, interval: Any, clock: Any, *rest: Any
    ) -> Backoff | None:
        hold = real(report, before, interval, clock, *rest)
        return hold and Backoff(hold.failures, clock.monotonic() + 3 * 3600.0)

    monkeypatch.setattr(worker, "next_backoff", next_backoff)


def a_hold_that_outlives_its_success(monkeypatch: pytest.MonkeyPatch) -> None:
    real = worker.next_backoff
    monkeypatch.setattr(
        worker,
        "next_backoff",
        lambda report, before, *rest: (
            real(report, before, *rest)
            or (before and Backoff(before.failures, before.until + 3600.0))
        ),
    )


def turns_of_a_clock_that_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step the turns stay where they were."""

    def after_step(self: Scheduler, trigger: Any, now: datetime, step: float) -> datetime | None:
        fires: datetime | None = trigger._fires
        return fires

    monkeypatch.setattr(Scheduler, "_after_step", after_step)


@pytest.mark.parametrize(
    "mistake",
    [
        nothing,
        pytest.param(a_lost_turn, marks=pytest.mark.root),
        pytest.param(a_run_that_never_ends, marks=pytest.mark.root),
        pytest.param(a_hold_too_long, marks=pytest.mark.root),
        pytest.param(a_hold_that_outlives_its_success, marks=pytest.mark.root),
        pytest.param(turns_of_a_clock_that_was_set_back, marks=pytest.mark.root),
    ],
)
def test_a_run_that_is_missed_is_noticed(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Mistake
) -> None:
    mistake(monkeypatch)
    with simulated_daemon(memory_path, monkeypatch, apart=True) as days:
        soak = Soak(days, monkeypatch, jobs=5, hours=14)
        for _ in range(16):  # the last five are quiet
            soak.hour()
        soak.watch.ends(days.jobs)
        assert bool(soak.watch.missed) is (mistake is not nothing), soak.watch.missed
        assert soak.watch.runs["failed"] > 3
