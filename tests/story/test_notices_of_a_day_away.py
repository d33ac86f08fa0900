"""A receiver that is away for a day, GitHub that is, and both: which notices arrive, and how often
syncd tries to send them.

A day of runs every ten minutes, under a clock of ours: the runs are given, the queue and the sender
are the product's own, and the receiver is in this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from syncd.apply_rules import WaitingCommit
from syncd.config.load import load_config
from syncd.errors import HookFailedError, RemoteUnavailableError
from syncd.models import RunReport, RunStatus
from syncd.notifications.sender import NotificationSender
from syncd.ports import JobState, Rejection
from syncd.store.store import SqliteStore
from tests.support.clock import FakeClock

ALL = ["failed", "recovered", "drift", "changed", "rolled_back", "rejected", "waiting", "stale"]
JOBS = ("site", "bad", "frozen", "quiet")
AWAY = RemoteUnavailableError("api.github.com can't be reached")
RUNS_AN_HOUR, STALE_AFTER_RUNS = 6, 3


@dataclass
class Receiver:
    """Answers each post, or is away. `got` are (job, event, commit) in the order of arrival."""

    away: bool = False
    attempts: int = 0
    got: list[tuple[str, str, str | None]] = field(default_factory=list)

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, str | None]:
        self.attempts += 1
        if self.away:
            raise RemoteUnavailableError("can't be reached")
        message = json.loads(body)
        self.got.append((message["job"], message["event"], message["commit"]))
        return 204, None

    def events(self, job: str) -> list[str]:
        return [event for name, event, _ in self.got if name == job]


class Day:
    """Of four jobs, `site` gets a commit each hour, `bad` a bad one at 3:00 and its fix at 6:00,
    `frozen` commits that wait at 2:00 and 13:00, and `quiet` nothing.
    """

    def __init__(self, folder: Path, store: SqliteStore) -> None:
        paths = {job: [{"from": "files/", "to": f"{folder}/dest/{job}/"}] for job in JOBS}
        config = {
            "version": "1",
            "state": str(folder / "state"),
            "github": {"public": {"anonymous": True}},
            "jobs": {
                job: {"repo": "acme/r", "every": "10m", "as": "public", "paths": paths[job]}
                for job in JOBS
            },
            "notify": [{"webhook": {"env": "HOOK_URL"}, "when": ALL}],
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self.receiver, self.clock, self.store = Receiver(), FakeClock(), store
        self.sender = NotificationSender(
            load_config(folder / "config.yaml", {}),
            store,
            self.clock,
            {"HOOK_URL": "https://chat.test/hook/0123456789"},
            lambda _: self.receiver.post,
            jitter=lambda: 1.0,
        )
        self.github_away, self.runs, self.lost_runs = False, 0, 0
        self.applied = dict.fromkeys(JOBS, "first")

    def hours(self, hours: int) -> None:
        """So many hours pass, with a run of each job every ten minutes."""
        for _ in range(hours * RUNS_AN_HOUR):
            for job in JOBS:
                self._run(job, self.runs // RUNS_AN_HOUR)
            self.lost_runs = self.lost_runs + 1 if self.github_away else 0
            if self.lost_runs > STALE_AFTER_RUNS:
                self.sender.queue_stale({job: f"{job}: no success for long" for job in JOBS})
            for _ in range(2):
                self.sender.send_due()
                self.clock.advance(300.0)
            self.runs += 1

    def _run(self, job: str, hour: int) -> None:
        before = self.applied[job]
        report = RunReport(job, RunStatus.UNCHANGED, "acme/r", "main", before, before)
        head, state = self._head(job, hour), JobState(applied_commit=before)
        if self.github_away:
            report = replace(report, status=RunStatus.FAILED, error=AWAY)
        elif head.startswith("BAD"):
            error = HookFailedError("no", rejected=True, commit=head, id="hook/not-healthy")
            report = replace(report, status=RunStatus.REFUSED, commit=head, error=error)
            state = replace(state, rejection=Rejection(head, ""))
        elif head.startswith("waits"):
            waiting = WaitingCommit(head, None, "holidays")
            report = replace(report, status=RunStatus.WAITING, waiting=waiting)
        elif head != before:
            report = replace(report, status=RunStatus.CHANGED, commit=head)
            self.applied[job] = head
            state = JobState(applied_commit=head)
        self.store.change_state(job, lambda old: replace(state, notified_as=old.notified_as))
        self.sender.notify(report)

    def _head(self, job: str, hour: int) -> str:
        if job == "site":
            return f"commit{hour}"
        if job == "bad" and hour >= 3:
            return "BAD" if hour < 6 else "fix"
        if job == "frozen" and hour >= 2:
            return "waits1" if hour < 13 else "waits2"
        return "first"


@pytest.fixture
def day(memory_path: Path) -> Iterator[Day]:
    store = SqliteStore.open(memory_path / "state")
    yield Day(memory_path, store)
    store.close()


def test_with_all_up_each_commit_is_reported_once(day: Day) -> None:
    day.hours(24)
    assert day.receiver.events("site") == ["changed"] * 24
    assert day.receiver.events("bad") == ["rolled_back", "recovered"]
    assert day.receiver.events("frozen") == ["waiting", "waiting"]
    assert day.receiver.events("quiet") == [] and day.receiver.attempts == 28


def test_after_a_day_without_its_receiver_the_newest_of_each_kind_arrives(day: Day) -> None:
    day.receiver.away = True
    day.hours(24)
    assert day.receiver.attempts < 35, "one attempt per pause, and pauses grow to an hour"
    day.receiver.away = False
    day.hours(1)
    assert sorted(day.receiver.got, key=str) == [
        ("bad", "recovered", "fix"),
        ("bad", "rolled_back", "BAD"),
        ("frozen", "waiting", "waits2"),
        ("site", "changed", "commit24"),
    ]


def test_a_day_without_github_is_two_notices_of_each_job_and_one_after_it(day: Day) -> None:
    day.github_away = True
    day.hours(24)
    assert [day.receiver.events(job) for job in JOBS] == [["failed", "stale"]] * 4
    day.github_away = False
    day.hours(1)
    assert {job: day.receiver.events(job)[2:] for job in JOBS} == {
        "site": ["recovered"],
        "bad": ["recovered"],
        "frozen": ["recovered"],
        "quiet": ["recovered"],
    }


def test_after_a_day_without_both_no_notice_arrives_that_is_over(day: Day) -> None:
    day.receiver.away = day.github_away = True
    day.hours(23)
    day.github_away = False
    day.hours(1)
    assert day.receiver.attempts < 35
    day.receiver.away = False
    day.hours(1)
    assert sorted(one[:2] for one in day.receiver.got if one[2] != "commit24") == [
        ("bad", "recovered"),
        ("frozen", "recovered"),
        ("quiet", "recovered"),
        ("site", "recovered"),
    ]


def test_a_receiver_that_is_back_before_github_hears_that_jobs_fail_and_are_late(
    day: Day,
) -> None:
    day.receiver.away = day.github_away = True
    day.hours(20)
    day.receiver.away = False
    day.hours(1)
    assert [sorted(day.receiver.events(job)) for job in JOBS] == [["failed", "stale"]] * 4


def test_a_commit_that_was_applied_meanwhile_is_not_said_to_wait(day: Day) -> None:
    day.receiver.away = True
    day.hours(3)
    day.applied["frozen"] = "waits1"  # with --now, of a one-shot that sent nothing
    state: Any = JobState(applied_commit="waits1")
    day.store.change_state("frozen", lambda old: replace(state, notified_as=old.notified_as))
    day.sender.notify(
        RunReport("frozen", RunStatus.UNCHANGED, "acme/r", "main", "waits1", "waits1")
    )
    day.receiver.away = False
    day.clock.advance(7200.0)
    day.sender.send_due()
    assert day.receiver.events("frozen") == []


def test_what_waits_of_a_job_goes_with_it_to_its_new_name(day: Day) -> None:
    day.receiver.away = True
    day.hours(4)
    day.store.follow_renames({"renamed": "bad"}, lambda job, old, state: state)
    day.store.rename("renamed")
    day.clock.advance(7200.0)
    queued = []
    while one := day.store.notifications.claim(["env:HOOK_URL"], day.clock.now().timestamp()):
        queued.append(one.job)
        day.store.notifications.mark_sent(one, "chat.test", day.clock.now().timestamp())
    assert sorted(queued) == ["frozen@commit", "renamed@verdict", "site@commit"]
