"""The queue: one pending and one running run of a job, in the order of urgency, and failed jobs
left alone as long as they should be.
"""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import pytest

from syncd.daemon.backoff import MAX_BACKOFF_SECONDS, Backoff, jitter_window_seconds, next_backoff
from syncd.daemon.queue import Queue
from syncd.errors import (
    AuthError,
    BadResponseError,
    HookFailedError,
    LimitError,
    LockedError,
    MirrorError,
    NotFoundError,
    RateLimitedError,
    RemoteUnavailableError,
    StoppedError,
    SyncdError,
    UnreachableError,
)
from syncd.models import RunReport, RunStatus, Trigger
from tests.support.clock import FakeClock


def names(queue: Queue) -> list[str]:
    found = []
    while (request := queue.pop()) is not None:
        found.append(request.job)
    return found


def report(error: SyncdError | None, status: RunStatus = RunStatus.FAILED) -> RunReport:
    return RunReport("a", status, "acme/infra", "main", None, None, error=error)


def test_whatever_asks_for_a_job_it_is_pending_once() -> None:
    queue = Queue(FakeClock())
    for trigger in (Trigger.SCHEDULE, Trigger.PUSH, Trigger.RETRY, Trigger.OPERATOR, Trigger.START):
        assert queue.enqueue("a", trigger)
    request = queue.pop()
    assert request is not None and request.trigger is Trigger.OPERATOR
    assert queue.pop() is None


def test_what_is_asked_while_a_job_runs_is_run_once_afterwards() -> None:
    queue = Queue(FakeClock())
    queue.enqueue("a", Trigger.SCHEDULE)
    assert queue.pop() is not None
    queue.enqueue("a", Trigger.SCHEDULE)
    queue.enqueue("a", Trigger.PUSH)
    assert queue.pop() is None and queue.running() == {"a"}
    queue.finish("a")
    assert names(queue) == ["a"]
    queue.finish("a")
    assert names(queue) == []


def test_a_hand_goes_before_a_push_and_a_push_before_a_timer() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    for job, trigger in (
        ("t1", Trigger.SCHEDULE),
        ("p1", Trigger.PUSH),
        ("t2", Trigger.START),
        ("h1", Trigger.OPERATOR),
        ("p2", Trigger.PUSH),
        ("h2", Trigger.OPERATOR),
    ):
        queue.enqueue(job, trigger)
        clock.advance(1)
    assert names(queue) == ["h1", "h2", "p1", "p2", "t1", "t2"]


def test_a_job_moves_up_when_it_is_asked_for_more_urgently_and_never_down() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    for job in ("a", "b", "c"):
        queue.enqueue(job, Trigger.SCHEDULE)
        clock.advance(1)
    queue.enqueue("c", Trigger.OPERATOR)
    queue.enqueue("c", Trigger.SCHEDULE)
    queue.enqueue("a", Trigger.SCHEDULE)
    assert names(queue) == ["c", "a", "b"]


def test_pushes_without_end_do_not_starve_a_timer() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    queue.enqueue("timer", Trigger.SCHEDULE)
    for turn in range(200):
        queue.enqueue(f"push{turn}", Trigger.PUSH)
        request = queue.pop()
        assert request is not None
        if request.job == "timer":
            assert 55 <= turn <= 65
            return
        queue.finish(request.job)
        clock.advance(1)
    pytest.fail("the timer never came")


def test_a_request_for_later_waits_for_its_time_and_joins_an_earlier_one() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    queue.enqueue("a", Trigger.RETRY, due_at=clock.monotonic() + 30)
    queue.enqueue("b", Trigger.RETRY, due_at=clock.monotonic() + 30)
    assert queue.pop() is None and queue.seconds_until_due() == 30
    queue.enqueue("b", Trigger.SCHEDULE)
    assert names(queue) == ["b"]
    clock.advance(30)
    assert names(queue) == ["a"]


def test_a_held_job_lets_timers_pass_by_and_answers_pushes_and_hands() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    queue.enqueue("a", Trigger.SCHEDULE)
    queue.pop()
    queue.finish("a", Backoff(1, clock.monotonic() + 100))
    assert not queue.enqueue("a", Trigger.SCHEDULE) and names(queue) == []
    assert queue.enqueue("a", Trigger.PUSH) and names(queue) == ["a"]
    queue.finish("a", Backoff(2, clock.monotonic() + 100))
    clock.advance(100)
    assert queue.enqueue("a", Trigger.SCHEDULE) and names(queue) == ["a"]


def test_until_a_limit_ends_a_push_waits_too_and_a_hand_does_not() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    queue.enqueue("a", Trigger.SCHEDULE)
    queue.pop()
    queue.finish("a", Backoff(1, clock.monotonic() + 100, hard=True))
    assert queue.enqueue("a", Trigger.PUSH) and names(queue) == []
    clock.advance(100)
    assert names(queue) == ["a"]
    queue.finish("a", Backoff(1, clock.monotonic() + 100, hard=True))
    assert queue.enqueue("a", Trigger.OPERATOR) and names(queue) == ["a"]


def test_a_hold_that_began_while_a_timer_waited_lets_that_turn_pass_by_and_keeps_a_hands() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    for trigger, expected in ((Trigger.SCHEDULE, []), (Trigger.OPERATOR, ["a"])):
        queue.clear_backoff(["a"])
        queue.enqueue("a", Trigger.SCHEDULE)
        queue.pop()
        queue.enqueue("a", trigger)
        queue.finish("a", Backoff(1, clock.monotonic() + 50))
        assert names(queue) == expected
        queue.finish("a")


def test_a_success_clears_what_held_a_job() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    queue.enqueue("a", Trigger.SCHEDULE)
    queue.pop()
    queue.finish("a", Backoff(3, clock.monotonic() + 1000))
    queue.enqueue("a", Trigger.OPERATOR)
    queue.pop()
    queue.finish("a")
    assert queue.backoff_of("a") is None and queue.enqueue("a", Trigger.SCHEDULE)


def test_a_dropped_job_is_not_run_and_a_closed_queue_hands_out_nothing() -> None:
    queue = Queue(FakeClock())
    queue.enqueue("a", Trigger.SCHEDULE)
    queue.enqueue("b", Trigger.SCHEDULE)
    queue.remove("a")
    assert queue.pending() == {"b"}
    queue.close()
    assert (
        queue.pop() is None and not queue.enqueue("b", Trigger.OPERATOR) and queue.wait(60) is None
    )


def test_a_waiting_worker_is_woken_by_a_request_and_by_the_end() -> None:
    queue, got = Queue(FakeClock()), []
    threads = [threading.Thread(target=lambda: got.append(queue.wait(60))) for _ in range(2)]
    for thread in threads:
        thread.start()
    queue.enqueue("a", Trigger.OPERATOR)
    while not got:
        threads[0].join(0.01)
        threads[1].join(0.01)
    queue.close()
    for thread in threads:
        thread.join(30)
    assert sorted(request.job if request else "" for request in got) == ["", "a"]


def test_many_threads_never_run_a_job_twice_at_once_and_lose_no_request() -> None:
    queue, guard = Queue(FakeClock()), threading.Lock()
    running: set[str] = set()
    twice, runs, rng = [], [0], random.Random(8)
    asked_last = threading.Event()

    def work() -> None:
        while True:
            request = queue.wait(0.05)
            if request is None:
                if asked_last.is_set() and not queue.pending():
                    return
                continue
            with guard:
                if request.job in running:
                    twice.append(request.job)
                running.add(request.job)
                runs[0] += 1
            with guard:
                running.discard(request.job)
            queue.finish(request.job)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        queue.enqueue(
            f"job{rng.randrange(10)}",
            rng.choice([Trigger.SCHEDULE, Trigger.PUSH, Trigger.OPERATOR]),
        )
    asked_last.set()
    for thread in threads:
        thread.join(30)
    assert not twice and not queue.pending() and not queue.running() and runs[0] >= 10


def test_a_request_that_waits_for_a_worker_is_known_to_wait() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    queue.enqueue("a", Trigger.SCHEDULE)
    queue.enqueue("b", Trigger.RETRY, due_at=clock.monotonic() + 500)
    clock.advance(40)
    assert queue.longest_wait_seconds() == 40
    queue.pop()
    queue.enqueue("a", Trigger.SCHEDULE)
    clock.advance(40)
    assert queue.longest_wait_seconds() == 0, "it waits for its own run, not for a worker"


# --- backoff --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [RemoteUnavailableError("x"), BadResponseError("x")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("interval", "windows"),
    [
        (10.0, [15.0, 22.5, 33.75, 50.625, 75.9375, 113.90625, 120.0, 120.0]),
        (60.0, [90.0, 120.0, 120.0]),
        (300.0, [450.0, 600.0, 600.0]),
        (86_400.0, [3600.0, 3600.0]),
    ],
)
def test_passing_trouble_holds_two_intervals_or_two_minutes(
    error: SyncdError, interval: float, windows: list[float]
) -> None:
    assert [
        jitter_window_seconds(error, failures, interval) for failures in range(1, len(windows) + 1)
    ] == windows
    costly = next_backoff(report(error), Backoff(3, 0.0), interval, clock := FakeClock(), 0.0, 500)
    assert costly is not None and costly.until - clock.monotonic() <= min(
        3600.0, max(120.0, 2 * interval)
    )


@pytest.mark.parametrize(
    "error",
    [NotFoundError("x"), MirrorError("x"), AuthError("x")],
    ids=lambda error: type(error).__name__,
)
def test_the_wait_grows_with_each_failure_up_to_an_hour_and_stays_there(error: SyncdError) -> None:
    windows = [jitter_window_seconds(error, failures, 60.0) for failures in range(1, 60)]
    assert windows == sorted(windows) and windows[-1] == MAX_BACKOFF_SECONDS
    assert windows[0] == (180.0 if isinstance(error, AuthError) else 90.0)


def test_identity_failures_slow_down_harder_and_never_come_early() -> None:
    clock = FakeClock()
    for failures in range(1, 20):
        assert (
            jitter_window_seconds(AuthError("x"), failures, 60.0)
            >= jitter_window_seconds(NotFoundError("x"), failures, 60.0)
            >= jitter_window_seconds(RemoteUnavailableError("x"), failures, 60.0)
        )
    hold = next_backoff(report(AuthError("x")), Backoff(4, 0.0), 60.0, clock, 0.0)
    assert (
        hold is not None
        and hold.failures == 5
        and hold.until - clock.monotonic() == MAX_BACKOFF_SECONDS / 2
    )


def test_the_jitter_is_full() -> None:
    clock = FakeClock()
    waits = [
        next_backoff(report(NotFoundError("x")), Backoff(3, 0.0), 60.0, clock, share)
        for share in (0.0, 0.5, 0.999)
    ]
    seconds = [hold.until - clock.monotonic() for hold in waits if hold is not None]
    assert seconds[0] == 0 and seconds[1] == pytest.approx(60 * 1.5**4 / 2) and seconds[2] > 300


def test_the_time_that_github_named_is_kept_by_timers_and_pushes() -> None:
    clock = FakeClock()
    error = RateLimitedError("x", retry_at=clock.now() + timedelta(seconds=900))
    for share in (0.0, 0.99):
        hold = next_backoff(report(error), None, 60.0, clock, share)
        assert hold is not None and hold.hard and 900 <= hold.until - clock.monotonic() <= 960
    past = next_backoff(
        report(RateLimitedError("x", retry_at=clock.now() - timedelta(seconds=5))),
        None,
        60.0,
        clock,
        0.5,
    )
    assert past is not None and past.until == clock.monotonic()


def test_a_run_that_took_several_requests_to_fail_lets_as_many_turns_pass() -> None:
    clock = FakeClock()
    for exchanges in range(1, 6):
        hold = next_backoff(report(NotFoundError("x")), None, 300.0, clock, 0.0, exchanges)
        assert hold is not None and hold.until == clock.monotonic() + (exchanges - 1) * 300
    long = next_backoff(report(NotFoundError("x")), None, 3000.0, clock, 0.0, 9)
    assert long is not None and long.until == clock.monotonic() + MAX_BACKOFF_SECONDS


def test_where_nobody_was_reached_the_next_turn_is_taken() -> None:
    clock = FakeClock()
    for interval in (60.0, 300.0, 3600.0):
        hold = next_backoff(report(UnreachableError("x")), Backoff(20, 0.0), interval, clock, 0.999)
        assert hold is not None and hold.until - clock.monotonic() <= interval / 2


@pytest.mark.parametrize(
    ("interval", "failures", "seconds", "retry"),
    [
        (60.0, 0, 30.0, False),
        (300.0, 0, 60.0, True),
        (3600.0, 0, 60.0, True),
        (3600.0, 2, 135.0, True),
        (3600.0, 20, 1800.0, True),
    ],
)
def test_a_network_that_comes_after_the_daemon_is_tried_again_soon(
    interval: float, failures: int, seconds: float, retry: bool
) -> None:
    clock = FakeClock()
    before = Backoff(failures, 0.0) if failures else None
    hold = next_backoff(report(UnreachableError("x")), before, interval, clock, 0.999999)
    assert hold is not None and hold.retry is retry
    assert hold.until - clock.monotonic() == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    "error",
    [StoppedError("x"), LockedError("x"), HookFailedError("x")],
    ids=lambda error: type(error).__name__,
)
def test_what_costs_github_nothing_holds_nothing(error: SyncdError) -> None:
    assert next_backoff(report(error), Backoff(3, 0.0), 60.0, FakeClock(), 0.5) is None


def test_a_refusal_and_a_success_hold_nothing() -> None:
    assert (
        next_backoff(
            report(LimitError("x"), RunStatus.REFUSED), Backoff(3, 0.0), 60.0, FakeClock(), 0.5
        )
        is None
    )
    assert (
        next_backoff(report(None, RunStatus.UNCHANGED), Backoff(3, 0.0), 60.0, FakeClock(), 0.5)
        is None
    )


def test_a_job_whose_next_turn_is_far_is_asked_again_after_passing_trouble_only() -> None:
    clock = FakeClock()
    passing = next_backoff(report(RemoteUnavailableError("x")), None, None, clock, 0.0)
    lasting = next_backoff(report(NotFoundError("x")), None, None, clock, 0.5)
    often = next_backoff(report(RemoteUnavailableError("x")), None, 300.0, clock, 0.5)
    assert passing is not None and passing.retry and passing.until - clock.monotonic() == 60
    assert lasting is not None and not lasting.retry and often is not None and not often.retry
    queue = Queue(clock)
    queue.enqueue("cron", Trigger.SCHEDULE)
    queue.pop()
    queue.finish("cron", passing)
    assert names(queue) == []
    clock.advance(60)
    assert names(queue) == ["cron"]
