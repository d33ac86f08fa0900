"""Equal questions: one asks, all hear, each waits with its own deadline and counts the price
once.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncd.deadline import Deadline
from syncd.errors import NotFoundError, StoppedError, TimedOutError
from syncd.github.request_cache import NotFoundCache, SingleFlight
from syncd.ports import Head
from tests.contract.doors import QuickClock, deadline
from tests.support.clock import FakeClock

COMMIT = "c" * 40


def test_one_asks_and_all_wait() -> None:
    shared, asked, begun, go = SingleFlight(), [], threading.Event(), threading.Event()

    def ask() -> Head:
        asked.append(1)
        begun.set()
        assert go.wait(10)
        return Head(COMMIT)

    with ThreadPoolExecutor(6) as pool:
        found = [
            pool.submit(shared.get_or_fetch, "head of main", ask, deadline()) for number in range(6)
        ]
        assert begun.wait(10)
        go.set()
        assert [one.result() for one in found] == [Head(COMMIT)] * 6
    assert asked == [1]


def test_other_questions_do_not_wait_and_what_was_answered_is_not_asked_again() -> None:
    shared = SingleFlight()
    assert (
        shared.get_or_fetch("head of main", lambda: Head("1" * 40), deadline()).commit == "1" * 40
    )
    assert shared.get_or_fetch("head", lambda: Head("2" * 40), deadline()).commit == "2" * 40
    assert (
        shared.get_or_fetch("head of main", lambda: Head("3" * 40), deadline()).commit == "1" * 40
    )


def test_an_error_is_everybodys_but_running_out_of_time_is_ones_own() -> None:
    shared = SingleFlight()

    def fail(error: Exception) -> Head:
        raise error

    with pytest.raises(TimedOutError):
        shared.get_or_fetch("head of main", lambda: fail(TimedOutError("late")), deadline())
    with pytest.raises(NotFoundError):
        shared.get_or_fetch("head of main", lambda: fail(NotFoundError("gone")), deadline())
    with pytest.raises(NotFoundError, match="gone"):
        shared.get_or_fetch("head of main", lambda: Head(COMMIT), deadline())


def test_who_waits_for_another_can_be_stopped() -> None:
    shared, begun, go, stop = (
        SingleFlight(),
        threading.Event(),
        threading.Event(),
        threading.Event(),
    )

    def ask() -> Head:
        begun.set()
        assert go.wait(10)
        return Head(COMMIT)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shared.get_or_fetch, "head of main", ask, deadline())
        assert begun.wait(10)
        stop.set()
        with pytest.raises(StoppedError):
            shared.get_or_fetch("head of main", ask, Deadline(QuickClock(), 60, stop))
        go.set()
        assert first.result() == Head(COMMIT)


def test_the_price_of_an_answer_is_everybodys_once() -> None:
    shared, first, other = SingleFlight(), deadline(), deadline()

    def ask() -> Head:
        first.request_count += 3
        raise NotFoundError("gone")

    for one in (first, first, other, other):
        with pytest.raises(NotFoundError):
            shared.get_or_fetch("head of main", ask, one)
    assert [(one.request_count, one.shared_request_count) for one in (first, other)] == [
        (3, 0),
        (0, 3),
    ]


def test_who_shares_an_error_hangs_nothing_on_it() -> None:
    shared, error = SingleFlight(), NotFoundError("gone")

    def ask() -> Head:
        raise error

    depths = []
    for _ in range(5):
        with pytest.raises(NotFoundError) as raised:
            shared.get_or_fetch("head of main", ask, deadline())
        depths.append(len(raised.traceback))
    assert len(set(depths[1:])) == 1


def test_the_others_get_what_is_kept_of_an_answer() -> None:
    shared = SingleFlight()
    assert shared.get_or_fetch(
        "rows", lambda: [1, 2, 3], deadline(), to_share=lambda rows: rows[:1]
    ) == [
        1,
        2,
        3,
    ]
    assert shared.get_or_fetch("rows", list, deadline()) == [1]


def test_an_answer_that_can_not_be_kept_is_an_error_for_all_and_nobody_waits_for_it() -> None:
    shared = SingleFlight()

    def spoilt(_: Head) -> Head:
        raise ValueError("not to be kept")

    with pytest.raises(ValueError, match="not to be kept"):
        shared.get_or_fetch("head of main", lambda: Head(COMMIT), deadline(), spoilt)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="not to be kept"):
        pool.submit(
            shared.get_or_fetch, "head of main", lambda: Head(COMMIT), Deadline(QuickClock(), 5.0)
        ).result(20)


def test_a_missing_path_is_asked_for_after_a_minute_an_hour_and_a_week() -> None:
    clock, cache = FakeClock(), NotFoundCache()
    asked, began = [], clock.monotonic()
    for _ in range(60 * 24 * 9):
        run = Deadline(clock, 60, interactive=False)
        if not cache.contains("path", run):
            asked.append(round((clock.monotonic() - began) / 60))
            cache.add("path", run)
        clock.advance(60)
    assert asked == [0, 1, 61, 61 + 7 * 24 * 60]
