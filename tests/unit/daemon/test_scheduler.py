"""Turns and the clock: nothing is lost, nothing piles up,
and a clock that is set either way costs at most one interval.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.cron import parse_cron
from syncd.daemon.scheduler import Scheduler
from syncd.models import Job, PathRule
from syncd.schedule import ByCron, Every, first_run_after_start, schedules_of
from tests.support.clock import FakeClock
from tests.support.scheduler import under

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def job(
    name: str,
    repo: str = "acme/infra",
    every: float | None = 300.0,
    cron: str | None = None,
    jitter: float = 0.0,
) -> Job:
    return Job(
        name,
        "ops",
        repo,
        "main",
        (PathRule("a", f"/srv/{name}", False),),
        every if cron is None else None,
        cron,
        jitter,
    )


class Bench:
    """A timetable under a clock of ours; `came` is (seconds of monotonic time, job, tick)."""

    def __init__(self, clock: FakeClock, share: Callable[[], float] = lambda: 0.0) -> None:
        self.clock, self.came = clock, list[tuple[float, str, float]]()
        self.timetable = Scheduler(
            clock, lambda name, tick: self.came.append((clock.monotonic(), name, tick)), share
        )

    def set_all(self, *jobs: Job, timezone: str = "UTC", last_run: datetime | None = None) -> None:
        schedules = schedules_of({one.name: one for one in jobs}, timezone)
        for one in jobs:
            self.timetable.set(
                one.name,
                schedules[one.name],
                first_run_after_start(
                    one, schedules[one.name], last_run, self.clock.now(), len(jobs)
                ),
            )

    def run(self, seconds: float) -> list[tuple[float, str, float]]:
        """What came in so much time."""
        begin, end = len(self.came), self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.clock.advance(
                min(self.timetable.tick() + 0.001, max(0.001, end - self.clock.monotonic()))
            )
        return self.came[begin:]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    clock = FakeClock(NOW)
    under(clock, monkeypatch)
    return Bench(clock)


def test_a_job_comes_once_every_interval_and_slow_ticks_move_nothing(bench: Bench) -> None:
    bench.set_all(job("a"))
    came = bench.run(3600)
    assert 12 <= len(came) <= 13
    bench.clock.advance(1000)  # the thread was away: three scheduled runs are one
    assert len(bench.run(1)) == 1
    grid = {round(tick % 300, 3) for _, _, tick in (came + bench.run(3600))[1:]}
    assert len(grid) == 1, "the runs left their grid"


def test_a_job_whose_request_fails_is_logged_and_comes_again_and_stops_no_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    ask = bench.timetable._on_run_due

    def failing(name: str, tick: float) -> object:
        if name == "a":
            raise ValueError("a mistake of ours")
        return ask(name, tick)

    bench.timetable._on_run_due = failing
    bench.set_all(job("a"), job("b"))
    came = bench.run(900)
    assert [name for _, name, _ in came] == ["b"] * 4  # one at once, and three on the grid
    errors = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert errors == ["Error running job a"] * 4


def test_jobs_of_one_repository_come_in_one_tick_and_different_ones_are_spread(
    bench: Bench,
) -> None:
    same = [job(f"same{number}") for number in range(20)] + [job("slow", every=600.0)]
    other = [job(f"other{number}", f"acme/repo{number}") for number in range(300)]
    bench.set_all(*same, *other)
    bench.run(700)
    came = bench.run(600)
    ticks = Counter(name for _, name, _ in came)
    assert all(ticks[one.name] == 2 for one in [*same[:-1], *other]) and ticks["slow"] == 1
    assert len({tick for _, name, tick in came if name.startswith("same")}) == 2
    slow = next(tick for _, name, tick in came if name == "slow")
    assert slow in {tick for _, name, tick in came if name == "same0"}
    minutes = Counter(int(seconds // 60) for seconds, name, _ in came if name.startswith("other"))
    assert max(minutes.values()) < 100, "600 runs in ten minutes are 60 a minute"


def test_jitter_moves_a_run_and_never_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rng = FakeClock(NOW), random.Random(5)
    under(clock, monkeypatch)
    bench = Bench(clock, rng.random)
    bench.set_all(job("a", jitter=60.0), job("b"))
    came = [one for one in bench.run(36_000) if one[2] > NOW.timestamp() + 300]
    a, b = ([(seconds, tick) for seconds, name, tick in came if name == which] for which in "ab")
    assert {tick for _, tick in a} == {tick for _, tick in b}
    late = [seconds - 1000.0 - (tick - NOW.timestamp()) for seconds, tick in a]
    assert min(late) >= 0 and max(late) < 60.1 and max(late) - min(late) > 30, (
        "it is spread over what was asked for"
    )


def test_a_start_honours_the_last_run_and_brings_what_is_overdue_soon(bench: Bench) -> None:
    hourly = [job(f"a{number}", f"acme/r{number}", every=3600.0) for number in range(50)]
    bench.set_all(*hourly, last_run=NOW - timedelta(seconds=1))
    assert len(bench.run(120)) <= 5, "they have just run"
    bench.set_all(*hourly, last_run=NOW - timedelta(days=2))
    begin = bench.clock.monotonic()
    came = bench.run(10)
    assert {name for _, name, _ in came} == {one.name for one in hourly}
    assert (
        max(seconds for seconds, _, _ in came) - begin <= 6
        and len({round(seconds, 1) for seconds, _, _ in came}) > 10
    )
    bench.set_all(job("alone"))
    assert len(bench.run(0.1)) == 1, "one new job does not wait"


def test_a_last_run_in_the_future_counts_as_overdue(bench: Bench) -> None:
    bench.set_all(job("a"), last_run=NOW + timedelta(days=400))
    assert len(bench.run(0.1)) == 1


def test_cron_jobs_wait_for_their_time_even_when_they_never_ran(bench: Bench) -> None:
    bench.set_all(job("a", every=None, cron="30 13 * * *"))
    assert bench.run(5300) == []
    assert [name for _, name, _ in bench.run(200)] == ["a"]
    assert [tick for _, _, tick in bench.run(86_400)] == [
        datetime(2026, 11, 24, 13, 30, tzinfo=UTC).timestamp()
    ]


@pytest.mark.parametrize(
    "step",
    [-86_400.0, -3600.0, 86_400.0, 3600.0, 5.0, -5.0, None],
    ids=lambda step: "to 1970" if step is None else f"{step:+.0f} s",
)
@pytest.mark.parametrize("every", [10.0, 60.0, 3600.0])
def test_a_stepped_clock_delays_no_poll_by_more_than_its_interval_or_a_minute(
    bench: Bench, step: float | None, every: float
) -> None:
    bench.set_all(*(job(f"a{number}", f"acme/r{number}", every=every) for number in range(20)))
    bench.run(every * 2 + 17)
    bench.clock.at = (
        bench.clock.at + timedelta(seconds=step)
        if step is not None
        else datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    )
    begin = bench.clock.monotonic()
    came = bench.run(every * 3 + 60)
    for number in range(20):
        mine = [seconds for seconds, name, _ in came if name == f"a{number}"]
        gaps = [after - before for before, after in zip([begin, *mine], mine, strict=False)]
        assert gaps and max(gaps) <= max(every, 60.0) + 6, (number, gaps)


@pytest.mark.parametrize(
    "steps", [(40.0,), (-7200.0,), (86_400.0, -86_400.0), (None, 1_800_000_000.0)], ids=str
)
def test_what_a_start_owes_comes_within_the_minute_though_the_clock_is_set_meanwhile(
    bench: Bench, steps: tuple[float | None, ...]
) -> None:
    """A machine whose clock is set by NTP right after its start."""
    hourly = [
        job(f"a{number}", f"acme/r{number}", every=3600.0, jitter=300.0) for number in range(50)
    ]
    bench.set_all(*hourly)
    begin = bench.clock.monotonic()
    for step in steps:
        bench.run(1)
        bench.clock.at = (
            bench.clock.at + timedelta(seconds=step)
            if step is not None
            else datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
        )
    bench.run(60)
    first = {name: seconds for seconds, name, _ in reversed(bench.came)}
    assert len(first) == 50 and max(first.values()) - begin <= 60, len(first)
    before = len(bench.came)
    bench.run(3600 * 3)
    assert 3 * 49 <= len(bench.came) - before <= 3 * 51, "and once an hour from then on"
    bench.clock.at += timedelta(seconds=40)
    before = len(bench.came)
    bench.run(60)
    assert len(bench.came) - before <= 5, "nothing is owed any more"


def test_what_a_reload_owes_is_not_put_off_by_a_step_that_it_knows_of(bench: Bench) -> None:
    """The clock was set, and nobody has looked at it since, when the jobs are read anew."""
    bench.run(1)
    bench.clock.at += timedelta(seconds=7200)
    bench.set_all(*(job(f"a{number}", f"acme/r{number}", every=3600.0) for number in range(50)))
    assert len({name for _, name, _ in bench.run(60)}) == 50


def test_many_steps_do_not_make_jobs_come_more_often(bench: Bench) -> None:
    bench.set_all(job("a", every=60.0))
    bench.run(120)
    before = len(bench.came)
    for turn in range(60):
        bench.clock.at += timedelta(seconds=4000 if turn % 2 else -4000)
        bench.run(60)
    assert 55 <= len(bench.came) - before <= 65


@pytest.mark.parametrize(
    ("step", "times"), [(3600.0, 1), (-3600.0, 0), (7 * 3600.0, 0), (-7 * 3600.0, 1)]
)
def test_a_small_step_over_a_cron_time_neither_loses_nor_repeats_it(
    bench: Bench, step: float, times: int
) -> None:
    """cron(8): steps under three hours.

    Forward: 12:30 is skipped and made up for. Back: 12:30 has been and is not repeated; a
    correction repeats it.
    """
    minute = 30
    bench.set_all(job("a", every=None, cron=f"{minute} 12 * * *"))
    bench.run(600 if step > 0 else 2400)
    before = len(bench.came)
    bench.clock.at += timedelta(seconds=step)
    bench.run(8 * 3600)
    assert len(bench.came) - before == times


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_half_past_two_comes_exactly_once_on_every_day_of_three_years_through_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    days: Counter[str] = Counter()
    for year in (2026, 2027, 2028):
        for month in (3, 4, 10, 11):
            clock = FakeClock(datetime(year, month, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC))
            under(clock, monkeypatch)
            bench = Bench(clock)
            bench.set_all(job("a", every=None, cron="30 2 * * *"), timezone=zone)
            for _ in range(30):
                until = bench.timetable.next_run("a")
                assert until is not None
                clock.advance((until - clock.now()).total_seconds())
                bench.timetable.tick()
            days.update(
                f"{datetime.fromtimestamp(tick, ZoneInfo(zone)):%Y-%m-%d}"
                for _, _, tick in bench.came
            )
    expected = {
        f"{year}-{month:02d}-{day:02d}"
        for year in (2026, 2027, 2028)
        for month in (3, 4, 10, 11)
        for day in range(1, 31)
    }
    assert set(days) == expected and set(days.values()) == {1}


def test_a_removed_job_does_not_come_and_a_changed_one_comes_by_its_new_turns(bench: Bench) -> None:
    bench.set_all(job("a", every=10.0), job("b", every=10.0))
    bench.run(20)
    bench.timetable.remove("a")
    assert bench.timetable.next_run("a") is None
    bench.set_all(job("b", every=100.0), last_run=bench.clock.now())
    assert Counter(name for _, name, _ in bench.run(1000)) == {"b": 10}


@given(st.floats(1, 1e7), st.floats(0, 1), st.datetimes(datetime(1970, 1, 3), datetime(2200, 1, 1)))
def test_the_next_turn_is_always_later_and_never_later_than_an_interval(
    seconds: float, share: float, naive: datetime
) -> None:
    moment = naive.replace(tzinfo=UTC)
    found = Every(seconds, share * seconds).next_after(moment)
    assert found is not None and timedelta(0) < found - moment <= timedelta(seconds=seconds + 0.001)


def test_a_cron_turn_is_in_the_configured_zone() -> None:
    schedule = ByCron(parse_cron("15 3 * * *"), ZoneInfo("Europe/Berlin"))
    assert schedule.next_after(NOW) == datetime(2026, 11, 24, 2, 15, tzinfo=UTC)


def test_a_wake_up_comes_once_at_its_moment_besides_the_turns(bench: Bench) -> None:
    bench.set_all(job("a", cron="0 3 * * *"))
    bench.timetable.wake_at("a", NOW + timedelta(seconds=90))
    bench.timetable.wake_at("a", NOW + timedelta(seconds=60))  # in the place of the other
    bench.run(3600.0)
    assert [(name, tick) for _, name, tick in bench.came] == [("a", NOW.timestamp() + 60.0)]


def test_a_wake_up_is_by_the_wall_clock(bench: Bench) -> None:
    bench.set_all(job("a", cron="0 3 * * *"))
    bench.timetable.wake_at("a", NOW + timedelta(hours=2))
    bench.run(60.0)
    bench.clock.at += timedelta(hours=3)
    bench.run(10.0)
    assert len(bench.came) == 1


def test_a_wake_up_goes_with_its_job_and_is_taken_back(bench: Bench) -> None:
    bench.set_all(job("a", cron="0 3 * * *"), job("b", cron="0 3 * * *"))
    for name in ("a", "b"):
        bench.timetable.wake_at(name, NOW + timedelta(seconds=60))
    bench.timetable.remove("a")
    bench.timetable.wake_at("b", None)
    bench.run(3600.0)
    assert bench.came == []


@pytest.mark.parametrize("phase", [0.1234564, 0.9999999, 1 / 3, 0.0])
def test_the_next_time_is_later_also_within_a_microsecond(phase: float) -> None:
    schedule = Every(300.0, phase)
    moment = schedule.next_after(NOW)
    for _ in range(100):
        following = schedule.next_after(moment)
        assert timedelta(seconds=299) < following - moment < timedelta(seconds=301)
        moment = following
