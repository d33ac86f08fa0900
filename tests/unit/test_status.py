"""How everything stands: the public word, when a job is due,
and when it is too stale to be ready.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.config.model import Config
from syncd.errors import LockedError, RemoteUnavailableError
from syncd.github.rate_limit import RateLimitStatus, SavedRateLimit
from syncd.identities import AppIdentity, Identity
from syncd.models import Job, RunReport, RunStatus
from syncd.ports import JobState, LastError, Pause, PendingHealth, PendingReload
from syncd.status import (
    ProcessStats,
    RunCounts,
    ago,
    duration,
    nth_run_after,
    read_status,
    status_json,
)
from syncd.store.facts import LimitRow
from syncd.store.store import SqliteStore

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WELL = JobState(applied_commit="a" * 40, last_run_at=NOW, last_success_at=NOW)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore.open(tmp_path / "state")


def job(name: str = "nginx", **more: Any) -> Job:
    return Job(name, "ops", "acme/infra", "main", (), **more)


def config_of(store: SqliteStore, *jobs: Job) -> Config:
    return Config(
        Path("/etc/syncd/config.yaml"),
        (),
        store.file.parent,
        {"ops": Identity("ops")},
        {one.name: one for one in jobs},
    )


def stale(
    store: SqliteStore, one: Job, state: JobState, started_at: datetime = NOW - timedelta(days=9)
) -> str | None:
    store.change_state(one.name, lambda _: state)
    return read_status(config_of(store, one), store, NOW, ProcessStats(started_at)).jobs[0].stale


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (JobState(), "never"),
        (WELL, "in_sync"),
        (replace(WELL, drift_count=1), "drift"),
        (replace(WELL, failures=1), "failing"),
        (replace(WELL, last_error=LastError("auth")), "failing"),
        (replace(WELL, pending_reload=PendingReload()), "failing"),
        (replace(WELL, consistent=False), "failing"),
        (replace(WELL, failures=1, drift_count=1), "failing"),
        (replace(WELL, pending_health=PendingHealth("c", "d", since=NOW)), "checking"),
        (JobState(pending_health=PendingHealth("c", "d", since=NOW)), "checking"),
        (replace(WELL, drift_count=1, pending_health=PendingHealth("c", "d", NOW)), "checking"),
        (replace(WELL, pending_health=PendingHealth("c", "d")), "failing"),
        (replace(WELL, failures=1, pending_health=PendingHealth("c", "d", NOW)), "failing"),
        (
            replace(WELL, consistent=False, pending_health=PendingHealth("c", "d", NOW)),
            "failing",
        ),
        (
            replace(
                WELL,
                pending_reload=PendingReload(),
                pending_health=PendingHealth("c", "d", NOW),
            ),
            "failing",
        ),
        (replace(WELL, held=True, pending_health=PendingHealth("c", "d", NOW)), "paused"),
        (replace(WELL, failures=1, pause=Pause("by hand")), "paused"),
        (replace(WELL, held=True), "paused"),
        (
            replace(WELL, pause=Pause("by hand", NOW - timedelta(seconds=1))),
            "in_sync",
        ),
    ],
)
def test_each_state_has_its_public_word(state: JobState, word: str) -> None:
    assert state.condition_at(NOW) == word


@pytest.mark.parametrize(
    ("minutes", "is_stale"), [(0, False), (15, False), (15.1, True), (600, True)]
)
def test_a_job_is_stale_when_its_last_success_is_more_than_three_intervals_ago(
    store: SqliteStore, minutes: float, is_stale: bool
) -> None:
    state = replace(
        WELL,
        last_success_at=NOW - timedelta(minutes=minutes),
        failures=1,
        last_error=LastError("auth", "a key is missing\nand more"),
    )
    found = stale(store, job(every_seconds=300.0), state)
    assert (found is not None) is is_stale
    if found:
        assert found.startswith("nginx: last success ") and found.endswith(
            "more than 3 intervals (every 5m): a key is missing"
        )


def test_a_cron_job_is_stale_when_three_of_its_turns_have_passed(store: SqliteStore) -> None:
    weekly = job(every_seconds=None, cron="0 3 * * mon")  # NOW is a Tuesday
    assert stale(store, weekly, replace(WELL, last_success_at=NOW - timedelta(days=21))) is not None
    assert stale(store, weekly, replace(WELL, last_success_at=NOW - timedelta(days=15))) is None


def test_a_job_that_never_succeeded_is_stale_three_intervals_after_the_start(
    store: SqliteStore,
) -> None:
    assert stale(store, job(every_seconds=300.0), JobState(), NOW - timedelta(minutes=14)) is None
    found = stale(store, job(every_seconds=300.0), JobState(), NOW - timedelta(minutes=16))
    assert found == (
        "nginx: no success since syncd started 16m ago, which is more than 3 intervals (every 5m)"
    )


@pytest.mark.parametrize(
    ("attempts", "until", "is_stale"), [(0, 1, False), (0, -1, True), (1, 1, True)]
)
def test_a_job_is_not_stale_until_its_reload_may_run_unless_that_has_failed(
    store: SqliteStore, attempts: int, until: int, is_stale: bool
) -> None:
    put_off = PendingReload("c", attempts=attempts, deferred_until=NOW + timedelta(seconds=until))
    state = replace(WELL, last_success_at=NOW - timedelta(minutes=16), pending_reload=put_off)
    assert (stale(store, job(every_seconds=300.0), state) is not None) is is_stale


def test_a_paused_job_is_never_stale(store: SqliteStore) -> None:
    assert (
        stale(
            store,
            job(),
            replace(WELL, last_success_at=NOW - timedelta(days=30), pause=Pause("moving")),
        )
        is None
    )


def test_a_run_that_ends_while_a_copy_is_read_has_not_failed(store: SqliteStore) -> None:
    one = job()
    store.change_state(one.name, lambda _: replace(WELL, consistent=False))
    copy = SqliteStore.open_readonly(store.file.parent)
    assert read_status(config_of(store, one), copy, NOW).jobs[0].condition == "failing", (
        "no run is at work, so it was interrupted"
    )
    store.change_state(one.name, lambda _: WELL)
    assert read_status(config_of(store, one), copy, NOW).jobs[0].condition == "in_sync"


def test_many_pending_reloads_are_looked_at_again_together(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(f"job{number}") for number in range(20)]
    for one in jobs:
        store.change_state(one.name, lambda _: replace(WELL, pending_reload=PendingReload()))
    copy = SqliteStore.open_readonly(store.file.parent)
    looks = []
    monkeypatch.setattr(copy, "refresh", lambda: looks.append(1))
    found = read_status(config_of(store, *jobs), copy, NOW)
    assert [one.condition for one in found.jobs] == ["failing"] * 20 and len(looks) == 2


def test_without_a_life_nothing_is_known_of_the_start(store: SqliteStore) -> None:
    assert read_status(config_of(store, job()), store, NOW).stale == ()


def test_the_next_run_is_the_daemons_word_or_else_follows_from_the_last(store: SqliteStore) -> None:
    one, other, third = job(), job("motd", every_seconds=None, cron="30 3 * * *"), job("fresh")
    for name in ("nginx", "motd"):
        store.change_state(name, lambda _: WELL)
    config = config_of(store, one, other, third)
    assert [reading.next_run for reading in read_status(config, store, NOW).jobs] == [
        NOW + timedelta(minutes=5),
        NOW.replace(day=25, hour=3, minute=30),
        None,
    ]
    process = ProcessStats(NOW, next_runs={"nginx": NOW + timedelta(seconds=7), "motd": None})
    assert [reading.next_run for reading in read_status(config, store, NOW, process).jobs] == [
        NOW + timedelta(seconds=7),
        None,
        None,
    ]


def test_the_interval_is_what_lies_between_two_turns(store: SqliteStore) -> None:
    jobs = [
        job(),
        job("daily", every_seconds=None, cron="30 3 * * *"),
        job("never", every_seconds=None),
    ]
    assert [
        one.interval_seconds for one in read_status(config_of(store, *jobs), store, NOW).jobs
    ] == [
        300.0,
        86400.0,
        None,
    ]


def test_a_schedule_that_never_comes_again_has_no_turn() -> None:
    assert nth_run_after(job(every_seconds=None), "UTC", NOW, 3) is None


def limit(
    installation: int | None,
    account: str | None,
    remaining: int,
    at: datetime = NOW,
    identity: str = "ops",
) -> SavedRateLimit:
    return SavedRateLimit(identity, installation, account, RateLimitStatus(5000, remaining, at))


def test_what_a_living_process_knows_of_a_limit_is_newer_than_the_store(store: SqliteStore) -> None:
    store.facts.save_github([LimitRow("ops", None, None, 5000, 17, NOW)])
    config = config_of(store, job())
    assert read_status(config, store, NOW).rate_limits == (limit(None, None, 17),)
    assert read_status(
        config, store, NOW, ProcessStats(NOW, rate_limits=(limit(None, None, 16),))
    ).rate_limits == (limit(None, None, 16),)
    assert read_status(config, store, NOW, ProcessStats(NOW)).rate_limits == (
        limit(None, None, 17),
    )


OLD = NOW - timedelta(days=8)


@pytest.mark.parametrize(
    ("stored", "living", "shown"),
    [
        ([], [], [(None, None)]),
        ([limit(2, "beta", 1), limit(1, "acme", 1)], [], [(1, "acme"), (2, "beta")]),
        ([limit(1, "acme", 1)], [limit(2, "beta", 1)], [(1, "acme"), (2, "beta")]),
        ([limit(1, "acme", 1)], [limit(9, "acme", 1)], [(9, "acme")]),
        ([limit(1, "acme", 1), limit(9, "acme", 1)], [], [(9, "acme")]),
        ([limit(None, None, 1)], [], [(None, None)]),
        ([limit(1, "acme", 1, OLD), limit(2, "beta", 1)], [], [(2, "beta")]),
        ([limit(1, "acme", 1, identity="gone")], [], [(None, None)]),
    ],
    ids=[
        "nothing",
        "by account",
        "both",
        "replaced, not yet stored",
        "replaced",
        "was a token",
        "long unused",
        "another identity",
    ],
)
def test_each_installation_has_an_entry(
    store: SqliteStore,
    stored: list[SavedRateLimit],
    living: list[SavedRateLimit],
    shown: list[tuple[int | None, str | None]],
) -> None:
    for one in stored:
        row = LimitRow(
            one.identity,
            one.installation,
            one.account,
            one.view.limit,
            one.view.remaining,
            one.view.reset_at,
        )
        store.facts.save_github([row])
    app = AppIdentity("ops")
    config = replace(config_of(store, job()), identities={"ops": app})
    found = read_status(
        config, store, NOW, ProcessStats(NOW, rate_limits=tuple(living))
    ).rate_limits
    assert [(one.installation, one.account) for one in found] == shown


def test_the_object_has_the_keys_of_the_contract_and_times_in_utc(store: SqliteStore) -> None:
    store.change_state(
        "nginx",
        lambda _: replace(WELL, last_error=LastError("hook", "no", "hook/failed", "mend it")),
    )
    found = status_json(read_status(config_of(store, job()), store, NOW))
    assert (
        list(found)[:3] == ["schema", "jobs", "identities"] and found["schema"] == "syncd.status/1"
    )
    assert found["jobs"] == [
        {
            "job": "nginx",
            "state": "failing",
            "since": "2026-11-24T12:00:00Z",
            "commit": "a" * 40,
            "last_run": "2026-11-24T12:00:00Z",
            "last_success": "2026-11-24T12:00:00Z",
            "next_run": "2026-11-24T12:05:00Z",
            "files": 0,
            "drifted": 0,
            "reload_pending": False,
            "paused": None,
            "waiting": None,
            "error": {"kind": "hook", "id": "hook/failed", "message": "no", "hint": "mend it"},
            "hint": "mend it",
            "warnings": [],
        }
    ]
    assert {
        name: found["identities"][0][name] for name in ("identity", "limit", "remaining", "reset")
    } == {"identity": "ops", "limit": None, "remaining": None, "reset": None}


def test_runs_are_counted_by_outcome_and_one_that_could_not_begin_took_no_time() -> None:
    counts = RunCounts()
    done = RunReport("nginx", RunStatus.CHANGED, "acme/infra", "main", None, None, seconds=0.5)
    for report in (
        done,
        replace(done, status=RunStatus.FAILED, error=RemoteUnavailableError("x"), seconds=2.0),
        replace(done, status=RunStatus.FAILED, error=LockedError("x"), seconds=0.0),
    ):
        counts.add(report)
    assert counts.runs() == {
        ("nginx", "changed"): 1,
        ("nginx", "failed"): 2,
    } and counts.seconds() == {"nginx": 2.0}


def test_spans_are_told_to_their_largest_unit() -> None:
    assert [duration(seconds) for seconds in (-3, 0, 59.9, 60, 3599, 3600, 86400, 12 * 86400)] == [
        "0s",
        "0s",
        "59s",
        "1m",
        "59m",
        "1h",
        "1d",
        "12d",
    ]
    assert ago(None, NOW) == "never" and ago(NOW - timedelta(minutes=3), NOW) == "3m ago"
