"""`apply:` from outside: what a daemon applies, when, and what it repairs meanwhile.

Each row of the table is a story of events at moments in UTC; the clock is simulated. What a moment
means is in tests/unit/test_apply_windows.py.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from syncd.daemon import scheduler
from syncd.engine.context import Options
from syncd.engine.reload import run_job_and_reload
from syncd.github.webhook import Push
from syncd.mirror.disk_mirror import DiskMirror
from syncd.models import RunReport, RunStatus, Trigger
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import SyncEnv, sync_env

NIGHTS = {"windows": [{"start": "0 22 * * *", "for": "4h"}]}
HOLIDAYS = {"freeze": [{"from": "2026-12-20", "to": "2027-01-04", "reason": "holidays"}]}
BEGIN = datetime(2026, 12, 1, 22, 0, tzinfo=UTC)


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    monkeypatch.setattr(scheduler, "MAX_SLEEP_SECONDS", 3600.0)  # time jumps to what comes next
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "0\n", "files/kept": "kept\n"})
        made.clock.at = BEGIN
        yield made


@dataclass
class Machine:
    """One job of a daemon. `applied` are the moments at which a file got another version."""

    days: SimulatedDaemon
    version: int = 0
    applied: list[tuple[str, str]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.days.folder / "dest/j/a"

    def begin(self) -> None:
        self.days.begin(random.Random(1).random)
        self.days.daemon.job_status.subscribe(self._note)

    def _note(self, report: RunReport, _: object) -> None:
        content = self.file.read_text().strip() if self.file.is_file() else "-"
        if not self.applied or self.applied[-1][1] != content:
            self.applied.append((f"{self.days.clock.now():%d %H:%M}", content))

    def until(self, moment: str) -> None:
        """Let time pass until `DD HH:MM` of the month."""
        ends = BEGIN.replace(day=int(moment[:2]), hour=int(moment[3:5]), minute=int(moment[6:]))
        seconds = (ends - self.days.clock.now()).total_seconds()
        if seconds > 0:
            self.days.run(seconds)

    def happens(self, event: str) -> None:
        what, _, rest = event.partition(" ")
        getattr(self, what)(*([rest] if rest else []))

    def commit(self) -> None:
        self.version += 1
        self.days.github.repos["acme/r"].commit({"files/a": f"{self.version}\n"})

    def push(self) -> None:
        self.commit()
        head = self.days.github.repos["acme/r"].head()
        push = Push("acme/r", "refs/heads/main", head)
        self.days.daemon.push_trigger.push_received(push, None, "push")

    def now(self) -> None:
        app = self.days.daemon.app
        job = app.config.jobs["j"]
        with app.locked(job):
            report = run_job_and_reload(
                job, app.run_context(job), app.deadline(job), Options(now=True)
            )
        self._note(report, None)

    def edit(self) -> None:
        self.file.write_text("edited\n")

    def delete(self) -> None:
        self.file.unlink()

    def look(self) -> None:
        self._note(self.days.reports[-1][1], None)

    def restart(self) -> None:
        self.days.daemon.app.close()
        self.begin()

    def clock(self, hours: str) -> None:
        self.days.clock.at += timedelta(hours=float(hours))

    def manual(self) -> None:
        self.days.daemon.run_all_now()

    def freeze(self) -> None:
        self.days.jobs["j"]["apply"] = {"freeze": [{"from": "2026-12-01", "to": "2026-12-30"}]}
        self.restart()

    def thaw(self) -> None:
        del self.days.jobs["j"]["apply"]
        self.restart()


EVERY_HOUR: dict[str, Any] = {"every": "1h"}
ONCE_A_WEEK: dict[str, Any] = {"every": "7d"}
FIRST = ("01 22:00", "0")  # the first sync is in the window that is open at the start

# name: (the job, events, the versions that the file had and since when)
STORIES: dict[str, tuple[dict[str, Any], list[tuple[str, str]], list[tuple[str, str]]]] = {
    "a commit inside the window is applied at the next run": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("01 23:30", "commit")],
        [FIRST, ("01 23:34", "1")],
    ),
    "a commit outside waits and is applied as the window opens": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:30", "commit")],
        [FIRST, ("02 22:00", "1")],
    ),
    "the daemon runs a weekly job when the window opens": (
        {**ONCE_A_WEEK, "apply": NIGHTS},
        [("02 10:30", "push")],
        [FIRST, ("02 22:00", "1")],
    ),
    "of two commits that waited the last is applied": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:30", "commit"), ("02 12:30", "commit")],
        [FIRST, ("02 22:00", "2")],
    ),
    "a push waits as well": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:30", "push"), ("02 11:00", "push")],
        [FIRST, ("02 22:00", "2")],
    ),
    "a manual run without --now waits as well": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:30", "commit"), ("02 10:40", "manual")],
        [FIRST, ("02 22:00", "1")],
    ),
    "--now applies the commit at once": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:30", "commit"), ("02 10:40", "now")],
        [FIRST, ("02 10:40", "1")],
    ),
    "--now applies the first set": (
        {**EVERY_HOUR, "apply": {"windows": [{"start": "0 5 * * *", "for": "1h"}]}},
        [("01 23:10", "look"), ("01 23:30", "now")],
        [("01 22:00", "-"), ("01 23:30", "0")],
    ),
    "the first set waits too": (
        {**EVERY_HOUR, "apply": {"windows": [{"start": "0 5 * * *", "for": "1h"}]}},
        [],
        [("01 22:00", "-"), ("02 05:00", "0")],
    ),
    "an edit is put back while a commit waits": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:10", "commit"), ("02 11:10", "edit"), ("02 11:20", "look")],
        [FIRST, ("02 11:20", "edited"), ("02 11:34", "0"), ("02 22:00", "1")],
    ),
    "a deleted file comes back while a commit waits": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:10", "commit"), ("02 11:10", "delete"), ("02 11:20", "look")],
        [FIRST, ("02 11:20", "-"), ("02 11:34", "0"), ("02 22:00", "1")],
    ),
    "an edit is put back while no commit waits": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 11:10", "edit"), ("02 11:20", "look")],
        [FIRST, ("02 11:20", "edited"), ("02 11:34", "0")],
    ),
    "a restart outside the window applies nothing": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:30", "commit"), ("02 12:00", "restart")],
        [FIRST, ("02 22:00", "1")],
    ),
    "a restart outside keeps the time of a weekly job's wake-up": (
        {**ONCE_A_WEEK, "apply": NIGHTS},
        [("02 10:30", "push"), ("02 12:00", "restart")],
        [FIRST, ("02 22:00", "1")],
    ),
    "a restart inside the window applies at once": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 10:30", "push"), ("02 21:59", "clock 0.5"), ("02 22:29", "restart")],
        [FIRST, ("02 22:2", "1")],
    ),
    "a clock set forward into the window opens it": (
        {**ONCE_A_WEEK, "apply": NIGHTS},
        [("02 10:30", "push"), ("02 12:00", "clock 11")],
        [FIRST, ("02 23:00", "1")],
    ),
    "a clock set forward past the window waits for the next": (
        {**ONCE_A_WEEK, "apply": NIGHTS},
        [("02 10:30", "push"), ("02 12:00", "clock 16")],
        [FIRST, ("03 22:00", "1")],
    ),
    "a clock set back out of the window closes it": (
        {**EVERY_HOUR, "apply": NIGHTS},
        [("02 01:30", "clock -6"), ("01 20:00", "commit")],
        [FIRST, ("01 22:00", "1")],
    ),
    "a freeze that the configuration gets holds from then on": (
        {**EVERY_HOUR},
        [("02 10:10", "freeze"), ("02 10:30", "commit")],
        [FIRST],
    ),
    "a freeze that is taken out lets the commit through": (
        {**EVERY_HOUR},
        [("02 10:10", "freeze"), ("02 10:30", "commit"), ("02 12:30", "thaw")],
        [FIRST, ("02 12:3", "1")],
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_the_file_has_the_versions_that_the_story_says(days: SimulatedDaemon, name: str) -> None:
    job, events, expected = STORIES[name]
    machine = Machine(days)
    days.add("j", "acme/r", **job)
    machine.begin()
    days.run(20.0)
    for moment, event in events:
        machine.until(moment)
        machine.happens(event)
    machine.until("03 23:00")
    assert [version for _, version in machine.applied] == [version for _, version in expected]
    for (found, _), (wanted, _) in zip(machine.applied, expected, strict=True):
        assert found.startswith(wanted), f"{machine.applied} is not {expected}"
    assert all(report.error is None for _, report in days.reports)


def test_a_commit_that_waits_costs_one_request_a_run_and_is_validated_once(
    days: SimulatedDaemon,
) -> None:
    log = days.folder / "validated"
    days.add("j", "acme/r", apply=NIGHTS, validate=["sh", "-c", f"echo x >> {log}"])
    machine = Machine(days)
    machine.begin()
    machine.until("02 10:30")
    machine.commit()
    machine.until("02 12:30")
    assert log.read_text().count("x") == 2  # of the first set, and of the commit that waits
    days.github.forget_requests()
    machine.until("02 20:30")
    requests = [one.path for one in days.github.requests]
    assert len(requests) == 8 and len(set(requests)) == 1
    assert log.read_text().count("x") == 2


def test_a_commit_that_validate_rejects_is_refused_before_its_window(
    days: SimulatedDaemon,
) -> None:
    days.add("j", "acme/r", apply=NIGHTS, validate=["sh", "-c", "! grep -rq ^1 {staged}"])
    machine = Machine(days)
    machine.begin()
    machine.until("02 10:30")
    machine.commit()
    machine.until("02 11:30")
    report = days.reports[-1][1]
    assert report.status is RunStatus.REFUSED and report.error is not None
    assert machine.file.read_text() == "0\n"
    machine.commit()  # the next one is good, and waits
    machine.until("02 13:30")
    report = days.reports[-1][1]
    assert report.status is RunStatus.WAITING and report.error is None


class Killed(BaseException):
    """The process is killed in the middle of a run."""


def test_a_set_whose_application_has_begun_is_finished_outside_the_window(
    days: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    days.add("j", "acme/r", apply=NIGHTS)
    machine = Machine(days)
    machine.begin()
    machine.until("02 01:30")
    days.github.repos["acme/r"].commit({"files/a": "1\n", "files/b": "1\n"})
    apply = DiskMirror.apply

    def apply_one_and_die(self: DiskMirror, intent: str, actions: Any, *rest: Any) -> None:
        apply(self, intent, actions[:1], *rest)
        raise Killed

    monkeypatch.setattr(DiskMirror, "apply", apply_one_and_die)
    with pytest.raises(Killed):
        machine.until("02 01:40")
    monkeypatch.setattr(DiskMirror, "apply", apply)
    days.github.repos["acme/r"].commit({"files/a": "2\n", "files/b": "2\n"})
    days.clock.advance(3 * 3600.0)  # the window is over when the machine starts again
    machine.restart()
    machine.until("02 06:30")
    dest = days.folder / "dest/j"
    assert [(dest / name).read_text() for name in ("a", "b")] == ["1\n", "1\n"]
    assert days.reports[-1][1].status is RunStatus.WAITING
    machine.until("02 22:01")
    assert [(dest / name).read_text() for name in ("a", "b")] == ["2\n", "2\n"]


# --- the commands ------------------------------------------------------------------------------

LONG_FREEZE = {"freeze": [{"from": "2000-01-01", "to": "2999-12-31", "reason": "for good"}]}
UNTIL = {"until": "2999-12-31T00:00:00Z", "reason": "freeze: for good"}


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[SyncEnv]:
    """Commit 1 is applied, a freeze has begun, and commit 2 is there."""
    with sync_env(tmp_path) as made:
        assert made.sync().code == 0
        made.write_config(apply=LONG_FREEZE)
        made.repo.commit({"nginx/nginx.conf": "two\n"})
        yield made


def waiting_of(frozen: SyncEnv) -> dict[str, Any]:
    return {"commit": frozen.repo.head(), **UNTIL, "until": "3000-01-01T00:00:00Z"}


def test_sync_says_what_waits_and_exits_0(frozen: SyncEnv) -> None:
    before = frozen.tree()
    done = frozen.sync()
    assert done.code == 0 and done.job["status"] == "waiting" and done.job["changes"] == []
    assert done.job["waiting"] == waiting_of(frozen) and frozen.tree() == before
    line = frozen.call("sync").out
    assert "waits until 3000-01-01T00:00:00Z: freeze: for good" in line and "1 waiting" in line


def test_plan_says_when_the_changes_would_be_applied(frozen: SyncEnv) -> None:
    done = frozen.plan("--exit-code")
    assert done.code == 10 and done.job["status"] == "changed"
    assert [one["path"] for one in done.job["changes"]] == [f"{frozen.dest}/nginx.conf"]
    assert done.job["waiting"] == waiting_of(frozen)
    assert "waits until 3000-01-01T00:00:00Z: freeze: for good" in frozen.call("plan").out


def test_status_has_the_state_waiting_with_until_when_and_exits_0(frozen: SyncEnv) -> None:
    frozen.sync()
    done = frozen.call("status", "--json")
    assert done.code == 0 and done.job["state"] == "waiting"
    assert done.job["waiting"] == waiting_of(frozen)
    assert done.job["hint"] == "to apply it now: syncd sync nginx --now"
    shown = frozen.call("status").out
    assert "waiting" in shown and "waits until 3000-01-01T00:00:00Z" in shown


def test_now_applies_the_commit_and_history_says_so(frozen: SyncEnv) -> None:
    frozen.sync()
    frozen.sync()
    done = frozen.sync("nginx", "--now")
    assert done.code == 0 and done.job["status"] == "changed"
    assert done.job["overrode"] == "until 3000-01-01T00:00:00Z: freeze: for good"
    assert frozen.tree()["nginx.conf"] == b"two\n"
    runs = frozen.call("history", "--json").json["runs"]
    assert [(run["status"], run["overrode"]) for run in runs[:2]] == [
        ("changed", "until 3000-01-01T00:00:00Z: freeze: for good"),
        ("waiting", None),
    ]
    assert "applied with --now, which would have waited" in frozen.call("history").out
    assert frozen.call("status", "--json").job["state"] == "in_sync"


def test_now_without_anything_that_waits_is_recorded_as_nothing(frozen: SyncEnv) -> None:
    frozen.sync("--now")
    done = frozen.sync("--now")
    assert done.job["status"] == "unchanged" and "overrode" not in done.job


def test_a_window_that_opens_applies_the_commit_though_the_head_is_the_same(
    frozen: SyncEnv,
) -> None:
    frozen.sync()
    assert frozen.sync().job["status"] == "waiting"
    frozen.write_config(apply={"windows": [{"start": "* * * * *", "for": "1h"}]})
    done = frozen.sync()
    assert done.job["status"] == "changed" and frozen.tree()["nginx.conf"] == b"two\n"
    assert frozen.call("status", "--json").job["waiting"] is None


def test_the_quick_check_knows_nothing_of_a_job_whose_commit_waits(frozen: SyncEnv) -> None:
    frozen.sync("--now")
    frozen.sync()
    assert (frozen.state / "unchanged.json").exists()
    frozen.repo.commit({"nginx/nginx.conf": "three\n"})
    for _ in range(3):
        assert frozen.sync().job["status"] == "waiting"
        assert not (frozen.state / "unchanged.json").exists()


def test_a_freeze_of_the_defaults_holds_every_job_and_a_job_may_unset_it(frozen: SyncEnv) -> None:
    frozen.write_config(apply=None)
    frozen.extra["defaults"] = {"apply": LONG_FREEZE}
    frozen.write()
    assert frozen.sync().job["status"] == "waiting"
    frozen.jobs["nginx"]["apply"] = None
    frozen.write()
    assert frozen.sync().job["status"] == "changed"


def test_a_rollback_is_not_held_by_a_freeze(frozen: SyncEnv) -> None:
    frozen.sync("--now")
    done = frozen.call("rollback", "nginx", "--json")
    assert done.code == 0 and frozen.tree()["nginx.conf"] == b"one\n"


def test_a_changed_configuration_is_applied_in_a_freeze_unless_a_commit_waits(
    frozen: SyncEnv,
) -> None:
    frozen.sync("--now")
    frozen.write_config(mode="0600")
    assert frozen.sync().job["status"] == "changed"
    frozen.repo.commit({"nginx/nginx.conf": "three\n"})
    frozen.write_config(mode="0640")
    assert frozen.sync().job["status"] == "waiting"
    assert (frozen.dest / "nginx.conf").stat().st_mode & 0o777 == 0o600


# --- a simulated year ----------------------------------------------------------------------------

JOBS = int(os.environ.get("SYNCD_YEAR_JOBS", "3"))
DAYS = int(os.environ.get("SYNCD_YEAR_DAYS", "40"))
ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 3, 1, tzinfo=UTC)  # both changes of the clocks are within a year of it


def openings(hour: int, weekdays: tuple[int, ...], hours: int) -> list[tuple[datetime, datetime]]:
    """Every opening of a window around the time of the simulation, found day by day."""
    found = []
    for number in range(-8, DAYS + 10):
        day = (START + timedelta(days=number)).date()
        if day.weekday() not in weekdays:
            continue
        begins = datetime(day.year, day.month, day.day, hour, 30, tzinfo=ZONE).astimezone(UTC)
        if begins.astimezone(ZONE).hour != hour:  # the clocks skip it: right after the gap
            begins = begins.replace(minute=0)
        found.append((begins, begins + timedelta(hours=hours)))
    return found


@pytest.mark.root
def test_no_commit_of_a_year_is_applied_outside_its_windows_and_none_is_late(
    days: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SYNCD_YEAR_JOBS=50 SYNCD_YEAR_DAYS=365 is the whole year."""
    rng = random.Random(24)
    days.clock.at = START
    freeze = (datetime(2026, 3, 20, tzinfo=UTC), datetime(2026, 3, 24, tzinfo=UTC))
    open_times: dict[str, list[tuple[datetime, datetime]]] = {}
    for number in range(JOBS):
        name, hour, lasts = f"j{number}", rng.choice((1, 2, 3, 22, 23)), rng.choice((1, 4, 30))
        weekdays = tuple(sorted(rng.sample(range(7), rng.choice((1, 3, 7)))))
        days.github.add_repo(f"acme/{name}", {"files/a": "0\n"})
        cron = f"30 {hour} * * {','.join(str((day + 1) % 7) for day in weekdays)}"
        rules = {
            "windows": [{"start": cron, "for": f"{lasts}h"}],
            "freeze": [{"from": "2026-03-20T00:00:00Z", "to": "2026-03-24T00:00:00Z"}],
        }
        days.add(name, f"acme/{name}", "1d", apply=rules)
        open_times[name] = openings(hour, weekdays, lasts)
    days.timezone = "Europe/Berlin"
    days.begin(rng.random)
    daemon, clock = days.daemon, days.clock

    def is_open(job: str, moment: datetime) -> bool:
        if freeze[0] <= moment < freeze[1]:
            return False
        return any(begins <= moment < ends for begins, ends in open_times[job])

    def opens(job: str, moment: datetime) -> datetime:
        edges = [begins for begins, _ in open_times[job]] + [freeze[1]]
        return min(edge for edge in edges if edge > moment and is_open(job, edge))

    applied = waited = 0
    due: dict[str, datetime] = {}  # when the commit that waits has to be applied
    ends, pushes = START + timedelta(days=DAYS), 0
    while clock.now() < ends:
        daemon.scheduler.tick()
        while (wanted := daemon.queue.pop()) is not None:
            moment = clock.now()
            before = daemon.app.store.state(wanted.job).applied_commit
            daemon.runner.run(wanted)
            report = days.reports[-1][1]
            assert report.error is None
            if report.waiting is not None:
                waited += 1
                assert not is_open(wanted.job, moment)
                due[wanted.job] = opens(wanted.job, moment)
                assert report.waiting.until == due[wanted.job]
            elif report.commit != before:
                applied += 1
                assert is_open(wanted.job, moment), f"{wanted.job} at {moment}"
                due.pop(wanted.job, None)
        assert all(moment > clock.now() - timedelta(seconds=1) for moment in due.values())
        if rng.random() < 0.4:
            name = f"j{rng.randrange(JOBS)}"
            pushes += 1
            days.github.repos[f"acme/{name}"].commit({"files/a": f"{pushes}\n"})
            daemon.queue.enqueue(name, Trigger.PUSH)
        following = [one for job in days.jobs if (one := daemon.scheduler.next_run(job))]
        step = min([*following, *due.values()]) - clock.now()
        clock.advance(max(0.001, min(step.total_seconds(), rng.uniform(600.0, 86_400.0))))
    print(f"{applied} commits applied, {waited} runs that waited, {pushes} pushes")
    assert applied > DAYS * JOBS / 20 and waited > applied / 4
