"""The budget of an identity, its limits once met, and how many requests are in flight."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.errors import RateLimitedError, StoppedError, TimedOutError
from syncd.github.rate_limit import (
    ConcurrencyLimit,
    RateLimit,
    RateLimitPendingError,
    RateLimits,
    RequestMetrics,
    reserved_requests,
)
from tests.support.clock import FakeClock

HEADERS = {
    "x-ratelimit-limit": "5000",
    "x-ratelimit-remaining": "4990",
    "x-ratelimit-reset": "1795000000",
    "x-ratelimit-resource": "core",
}


def limited(clock: FakeClock, seconds: float) -> RateLimitedError:
    return RateLimitedError(
        "slow down", retry_at=clock.now() + timedelta(seconds=seconds), status=403
    )


def test_no_minute_sees_more_requests_than_it_may() -> None:
    clock = FakeClock()
    budget, deadline, sent = RateLimit(clock, points_a_minute=10), Deadline(clock, 3600), []
    for _ in range(55):
        budget.acquire(deadline)
        sent.append(clock.monotonic())
        clock.advance(0.5)
    for at in sent:
        assert sum(at <= other < at + 60 for other in sent) <= 10
    assert sent[-1] - sent[0] < 5 * 61, "and it waits no longer than it must"


def test_waiting_for_the_minute_ends_with_the_runs_time_and_with_a_signal() -> None:
    clock = FakeClock()
    budget = RateLimit(clock, points_a_minute=1)
    budget.acquire(Deadline(clock, 3600))
    with pytest.raises(TimedOutError):
        budget.acquire(Deadline(clock, 10))
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        budget.acquire(Deadline(clock, 3600, stop))


def test_the_budget_is_what_the_last_answer_said() -> None:
    budget = RateLimit(FakeClock())
    assert (budget.status().limit, budget.status().remaining, budget.status().reset_at) == (
        None,
        None,
        None,
    )
    budget.update_from_headers(HEADERS)
    view = budget.status()
    assert (
        (view.limit, view.remaining) == (5000, 4990)
        and view.reset_at is not None
        and view.reset_at.timestamp() == 1795000000
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**HEADERS, "x-ratelimit-remaining": "many"},
        {**HEADERS, "x-ratelimit-reset": "9" * 40},
        {**HEADERS, "x-ratelimit-reset": "1e400"},
        {**HEADERS, "x-ratelimit-limit": "5000, 5000"},
        {**HEADERS, "x-ratelimit-remaining": "7", "x-ratelimit-resource": "search"},
    ],
)
def test_headers_that_say_nothing_or_speak_of_another_budget_change_nothing(
    headers: dict[str, str],
) -> None:
    budget = RateLimit(FakeClock())
    budget.update_from_headers(HEADERS)
    budget.update_from_headers(headers)
    assert budget.status().remaining == 4990


def test_a_limit_that_was_met_holds_for_everything_of_its_kind_until_its_time() -> None:
    clock = FakeClock()
    budget = RateLimit(clock)
    budget.raise_if_blocked("api", "main of acme/infra")
    budget.block_until("api", limited(clock, 90))
    for _ in range(9):
        with pytest.raises(
            RateLimitedError,
            match=r"request for main of acme/infra was not sent.*try again at 2026-11-23T12:01:30Z",
        ) as caught:
            budget.raise_if_blocked("api", "main of acme/infra")
        assert caught.value.retry_at == limited(clock, 90).retry_at - timedelta(
            seconds=clock.monotonic() - 1000
        )
        budget.raise_if_blocked("token", "a token")  # another bucket of GitHub's
        clock.advance(10)
    budget.raise_if_blocked("api", "main of acme/infra")


def test_of_two_limits_the_longer_one_holds() -> None:
    clock = FakeClock()
    budget = RateLimit(clock)
    budget.block_until("api", limited(clock, 300))
    budget.block_until("api", limited(clock, 5))
    clock.advance(200)
    with pytest.raises(RateLimitedError):
        budget.raise_if_blocked("api", "x")
    clock.advance(101)
    budget.raise_if_blocked("api", "x")


def test_a_stepped_wall_clock_neither_lifts_nor_prolongs_a_limit() -> None:
    clock = FakeClock()
    budget = RateLimit(clock)
    budget.block_until("api", limited(clock, 60))
    clock.at += timedelta(hours=5)
    with pytest.raises(RateLimitedError):
        budget.raise_if_blocked("api", "x")
    clock.at -= timedelta(hours=10)
    clock.seconds += 61
    budget.raise_if_blocked("api", "x")


def test_no_more_are_in_flight_than_the_gate_lets_through() -> None:
    gate, deadline = ConcurrencyLimit(3), Deadline(SystemClock(), 30)
    inside, most, guard, together = 0, 0, threading.Lock(), threading.Barrier(3)

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            gate.acquire(deadline)
            with guard:
                inside += 1
                most = max(most, inside)
            together.wait(30)  # three at a time, so the gate is both kept and used
            with guard:
                inside -= 1
            gate.release()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (most, inside) == (3, 0)


def test_waiting_at_the_gate_ends_with_a_signal() -> None:
    gate, stop = ConcurrencyLimit(1), threading.Event()
    gate.acquire(Deadline(SystemClock(), 30))
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(StoppedError):
        gate.acquire(Deadline(SystemClock(), 30, stop))


def test_every_exchange_is_counted_by_identity_and_status() -> None:
    request_metrics = RequestMetrics()
    threads = [
        threading.Thread(
            target=lambda code=code: [request_metrics.record("ops", code) for _ in range(500)]
        )
        for code in (200, 304, 304, 302)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert request_metrics.totals() == {"total": 2000, "not_modified": 1000}
    assert request_metrics.by_code() == {("ops", 200): 500, ("ops", 304): 1000, ("ops", 302): 500}


def left(clock: FakeClock, remaining: int, limit: int = 5000) -> RateLimit:
    budget = RateLimit(clock)
    resets = int(clock.now().timestamp()) + 1800
    budget.update_from_headers(
        {
            **HEADERS,
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(remaining),
            "x-ratelimit-reset": str(resets),
        }
    )
    return budget


@pytest.mark.parametrize(
    ("limit", "kept"), [(None, 0), (60, 6), (100, 10), (5000, 500), (15000, 500)]
)
def test_timers_leave_a_tenth_of_a_limit_and_never_more_than_500(
    limit: int | None, kept: int
) -> None:
    assert reserved_requests(limit) == kept


def test_a_timer_stops_at_the_reserve_where_a_hand_or_a_push_goes_on() -> None:
    clock = FakeClock()
    budget, timer, hand = (
        left(clock, 503),
        Deadline(clock, 60, interactive=False),
        Deadline(clock, 60),
    )
    for _ in range(3):
        budget.acquire(timer)  # on their way, and so as good as spent
    budget.update_from_headers(
        {
            **HEADERS,
            "x-ratelimit-remaining": "500",
            "x-ratelimit-reset": str(int(clock.now().timestamp()) + 1800),
        }
    )
    for _ in range(3):
        budget.release()
    with pytest.raises(
        RateLimitPendingError,
        match=r"a\.conf was not sent: what is left of the hourly limit, 500 requests at "
        r"most, is kept for pushes and manual runs",
    ) as caught:
        budget.acquire(timer, "a.conf")
    assert caught.value.primary and timedelta(
        seconds=1800
    ) <= caught.value.retry_at - clock.now() <= timedelta(seconds=1802)
    budget.acquire(timer, "main", may_be_free=True)  # what is in sync goes on being known to be
    budget.acquire(hand, "a.conf")


def test_a_hand_may_spend_the_last_request_and_not_one_more() -> None:
    clock = FakeClock()
    budget = left(clock, 1, limit=100)
    budget.acquire(Deadline(clock, 60))
    budget.update_from_headers(
        {
            **HEADERS,
            "x-ratelimit-limit": "100",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(int(clock.now().timestamp()) + 1800),
        }
    )
    budget.release()
    for urgent in (True, False):
        with pytest.raises(RateLimitPendingError, match="used up"):
            budget.acquire(Deadline(clock, 60, interactive=urgent), may_be_free=True)


def test_whoever_waits_for_the_minute_says_so_while_it_lasts() -> None:
    clock, told = FakeClock(), list[bool]()
    budget = RateLimit(clock, points_a_minute=1)
    deadline = Deadline(clock, 3600, on_waiting=told.append)
    budget.acquire(deadline)
    assert told == []
    budget.acquire(deadline)
    assert told == [True, False] and clock.waits == [60.0]


def test_several_threads_of_one_run_rest_as_one() -> None:
    told: list[bool] = []
    deadline = Deadline(FakeClock(), 3600, on_waiting=told.append)
    with deadline.yielding_worker():
        with deadline.yielding_worker():
            assert told == [True]
        assert told == [True]
    assert told == [True, False]


def test_an_installation_that_replaces_another_of_its_account_ends_that_ones_limit() -> None:
    rate_limits = RateLimits(FakeClock())
    for installation, account in ((42, "acme"), (43, "beta"), (57, "Acme")):
        rate_limits.get(installation).update_from_headers(HEADERS)
        rate_limits.set_account(installation, account)
    assert [(one.installation, one.name) for one in rate_limits.snapshot("ops")] == [
        (43, "ops (beta)"),
        (57, "ops (Acme)"),
    ]
