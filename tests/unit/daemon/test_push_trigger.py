"""What a push starts in the queue: at once, once, rarely when there are many,
and again where GitHub's answer lagged behind.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from syncd.daemon.backoff import Backoff, push_interval_seconds
from syncd.daemon.job_status import JobStatus
from syncd.daemon.push_trigger import (
    DELIVERY_TTL_SECONDS,
    MAX_DELIVERIES,
    RECHECK_SECONDS,
    PushTrigger,
)
from syncd.daemon.queue import Queue
from syncd.errors import LockedError, NotFoundError, SyncdError
from syncd.github.webhook import Push, PushOutcome
from syncd.models import CommitSummary, RunReport, RunStatus, Trigger
from syncd.status import WebhookStats
from tests.support.clock import FakeClock

OLD, NEW = "a" * 40, "b" * 40
PUSH = Push("acme/infra", "refs/heads/main", NEW)


class Tower:
    """A bell with its queue; `run` is the run that the queue gives out now,
    ending with this commit.
    """

    def __init__(self, *jobs: str) -> None:
        self.clock = FakeClock()
        self.queue = Queue(self.clock)
        self.paused: set[str] = set()
        self.summaries: dict[str, CommitSummary] = {}
        self.bell = PushTrigger(
            self.clock,
            self.queue,
            lambda _: jobs,
            WebhookStats(),
            lambda _: self.paused,
            save_summary=lambda commit, summary, at: self.summaries.update({commit: summary}),
        )
        self.number = 0

    def ring(self, push: Push = PUSH) -> int | None:
        self.number += 1
        outcome = self.bell.push_received(push, f"mark {self.number}", "a push")
        return None if outcome is None else outcome.started

    def run(
        self,
        commit: str | None = NEW,
        status: RunStatus = RunStatus.UNCHANGED,
        error: SyncdError | None = None,
        hold: Backoff | None = None,
    ) -> tuple[str, Trigger, float] | None:
        request = self.queue.pop()
        if request is None:
            return None
        report = RunReport(
            request.job,
            status,
            "acme/infra",
            "main",
            commit,
            OLD,
            error=error,
            trigger=request.trigger,
            started_at=self.clock.now(),
        )
        self.queue.finish(request.job, hold)
        self.bell.run_finished(report, JobStatus(request.job))
        return request.job, request.trigger, request.tick

    def idle(self, seconds: float) -> int:
        """So many runs came in that time, each of them good."""
        count, ends = 0, self.clock.monotonic() + seconds
        while self.clock.monotonic() < ends:
            while self.run() is not None:
                count += 1
            self.clock.advance(0.5)
        return count


def test_a_push_is_asked_for_at_once_and_its_jobs_share_what_github_says() -> None:
    tower = Tower("one", "two")
    assert tower.ring() == 2
    first, second = tower.run(), tower.run()
    assert (
        first is not None
        and second is not None
        and {first[0], second[0]} == {"one", "two"}
        and first[1] is second[1] is Trigger.PUSH
        and first[2] == second[2]
    )
    assert tower.run() is None and tower.idle(60) == 0


def test_a_delivery_seen_before_starts_nothing_for_an_hour_and_few_are_remembered() -> None:
    tower = Tower("one")
    assert (
        tower.bell.push_received(PUSH, "mark", "a push") == PushOutcome(1)
        and tower.run() is not None
    )
    for _ in range(1000):
        assert tower.bell.push_received(PUSH, "mark", "a push") is None
    assert tower.run() is None and tower.bell.stats().counts == {"asked": 1, "repeated": 1000}
    tower.clock.advance(DELIVERY_TTL_SECONDS + 1)
    assert tower.bell.push_received(PUSH, "mark", "a push") == PushOutcome(1)
    for number in range(MAX_DELIVERIES):
        tower.bell.push_received(PUSH, f"{number}", "a push")
    assert len(tower.bell._seen) == MAX_DELIVERIES and tower.bell.push_received(
        PUSH, "mark", "a push"
    ) == PushOutcome(1)


def test_many_pushes_are_a_run_every_few_seconds_and_the_last_of_them_is_not_lost() -> None:
    tower = Tower("one")
    runs = 0
    for _ in range(600):
        tower.ring()
        runs += tower.run() is not None
        tower.clock.advance(0.1)
    assert 10 <= runs <= 14, "a minute of ten pushes a second"
    assert tower.idle(10) == 1 and tower.idle(60) == 0


def test_a_failing_job_runs_once_a_minute_at_most_however_many_pushes_follow_the_first() -> None:
    tower, failures, runs = Tower("one"), 0, 0
    for _ in range(7200):
        tower.ring()
        hold = Backoff(failures + 1, tower.clock.monotonic() + 3600)
        if tower.run(None, RunStatus.FAILED, NotFoundError("gone", status=404), hold) is not None:
            failures, runs = failures + 1, runs + 1
            assert runs > 1 or tower.clock.monotonic() == 1000.0
        tower.clock.advance(0.5)
    assert 10 <= runs <= 20, "an hour of two pushes a second"
    assert [
        round(push_interval_seconds(Backoff(count, 0.0))) for count in (1, 2, 3, 4, 5, 500)
    ] == [
        60,
        90,
        135,
        202,
        300,
        300,
    ] and push_interval_seconds(None) == 5


def test_a_limit_that_github_named_is_waited_for() -> None:
    tower = Tower("one")
    tower.ring()
    assert (
        tower.run(
            None,
            RunStatus.FAILED,
            NotFoundError("x", status=404),
            Backoff(1, tower.clock.monotonic() + 1800, hard=True),
        )
        is not None
    )
    tower.clock.advance(600)
    assert tower.ring() == 1 and tower.run() is None
    tower.clock.advance(1200)
    assert tower.run() is not None


def test_where_the_answer_is_an_older_commit_it_is_looked_at_again_twice_at_most() -> None:
    tower = Tower("one", "two")
    tower.ring()
    ticks = []
    for pause in RECHECK_SECONDS:
        ran = [tower.run(OLD), tower.run(OLD)]
        assert {one[0] for one in ran if one} == {"one", "two"} and len(
            {one[2] for one in ran if one}
        ) == 1, "they share that question too"
        ticks += [one[2] for one in ran[:1] if one]
        assert tower.run() is None
        tower.clock.advance(pause - 0.1)
        assert tower.run() is None
        tower.clock.advance(0.1)
    assert tower.run(OLD) is not None and tower.run(OLD) is not None and tower.idle(600) == 0
    assert ticks[0] < ticks[1]


def test_a_new_ref_that_is_not_there_yet_is_looked_for_again_and_a_missing_path_is_not() -> None:
    for status, looks in (
        (422, len(RECHECK_SECONDS)),
        (409, len(RECHECK_SECONDS)),
        (404, 0),
        (None, 0),
    ):
        tower, runs = Tower("one"), 0
        tower.ring()
        for _ in range(100):
            hold = Backoff(runs + 1, tower.clock.monotonic() + 3600)
            runs += (
                tower.run(
                    None,
                    RunStatus.FAILED,
                    NotFoundError("there is no such thing", status=status),
                    hold,
                )
                is not None
            )
            tower.clock.advance(0.5)
        assert runs == 1 + looks, status


def test_an_answer_that_is_the_pushed_commit_or_news_of_any_kind_ends_the_looking() -> None:
    for commit, status, error in (
        (NEW, RunStatus.UNCHANGED, None),
        (OLD, RunStatus.CHANGED, None),
        (OLD, RunStatus.FAILED, NotFoundError("x", status=404)),
        (None, RunStatus.SKIPPED, None),
    ):
        tower = Tower("one")
        tower.ring()
        tower.run(commit, status, error)
        assert tower.idle(60) == 0, (commit, status)
    tower = Tower("one")
    tower.ring(replace(PUSH, commit=None))
    tower.run(OLD)
    assert tower.idle(60) == 0, "a push that names no commit"


def test_a_run_that_began_before_the_push_or_never_asked_says_nothing_about_it() -> None:
    tower = Tower("one")
    tower.ring()
    before = RunReport(
        "one",
        RunStatus.UNCHANGED,
        "acme/infra",
        "main",
        OLD,
        OLD,
        started_at=tower.clock.now() - timedelta(seconds=1),
    )
    tower.bell.run_finished(before, JobStatus("one"))
    tower.bell.run_finished(
        replace(
            before, error=LockedError("held"), status=RunStatus.FAILED, started_at=tower.clock.now()
        ),
        JobStatus("one"),
    )
    tower.clock.advance(1)
    assert tower.run(OLD) is not None
    tower.clock.advance(RECHECK_SECONDS[0])
    assert tower.run(NEW) is not None and tower.idle(60) == 0


def test_a_job_that_is_gone_is_forgotten_and_a_closed_queue_asks_for_nothing() -> None:
    tower = Tower("one")
    tower.ring()
    tower.run(OLD)
    tower.bell.forget("one")
    tower.queue.remove("one")
    assert tower.idle(60) == 0
    tower.queue.close()
    assert tower.ring() == 0


def test_what_was_heard_last_is_told_with_its_time() -> None:
    tower = Tower()
    assert tower.ring() == 0
    tower.clock.advance(60)
    tower.bell.rejected("not ours")
    heard = tower.bell.stats()
    assert (heard.last_event, heard.problem, heard.counts) == (
        "a push",
        "not ours",
        {"unmatched": 1, "refused": 1},
    )
    tower.clock.advance(60)
    tower.bell.rejected(None)
    assert (
        tower.bell.stats().refused_at == heard.refused_at
        and tower.bell.stats().counts["refused"] == 2
    ), "somebody who is hardly GitHub"
    tower.bell.ignored("ping")
    assert (
        tower.bell.stats().problem is None
        and tower.bell.stats().last_event == "ping"
        and tower.bell.stats().last_at == tower.clock.now()
    )


def test_a_push_starts_no_paused_job_and_counts_it() -> None:
    tower = Tower("j", "k")
    tower.paused = {"j"}
    assert tower.bell.push_received(PUSH, "mark 1", "a push") == PushOutcome(1, paused=1)
    assert tower.run() is not None and tower.run() is None
    tower.paused = {"j", "k"}
    assert tower.bell.push_received(PUSH, "mark 2", "a push") == PushOutcome(0, paused=2)
    assert tower.run() is None and tower.bell.stats().counts == {"asked": 1, "ignored": 1}


def test_who_made_a_commit_is_saved_once_a_run_has_found_that_commit() -> None:
    tower, ada = Tower("web"), CommitSummary("Raise the limit", "Ada")
    tower.ring(replace(PUSH, summary=ada))
    tower.run(OLD)
    assert tower.summaries == {}, "GitHub has not said that the ref is at this commit"
    tower.clock.advance(RECHECK_SECONDS[0])
    tower.run(NEW)
    assert tower.summaries == {NEW: ada}


def test_a_push_that_no_job_follows_is_not_remembered() -> None:
    tower = Tower()
    tower.ring(replace(PUSH, summary=CommitSummary("x", "Ada")))
    assert tower.bell._summaries == {}
