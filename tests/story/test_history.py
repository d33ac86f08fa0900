"""Past runs by the time they began, on the command line and on the page; times in JSON end in Z."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from syncd.errors import MirrorError
from syncd.models import ActionKind, Change, RunReport, RunStatus
from syncd.ports import RunRecord
from syncd.recent_runs import read_recent_runs
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from tests.support.sync_env import SyncEnv

CHANGE = Change(ActionKind.WRITE, "/etc/motd", "motd", None, "a" * 40)
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:")


def record(store: SqliteStore, job: str, at: str, error: str | None = None) -> None:
    """Record a run that began at that time of 24 November."""
    report = RunReport(
        job,
        RunStatus.FAILED if error else RunStatus.CHANGED,
        "acme/infra",
        "main",
        None,
        None,
        changes=() if error else (CHANGE,),
        error=MirrorError(error) if error else None,
        started_at=datetime.fromisoformat(f"2026-11-24T{at}").replace(tzinfo=UTC),
    )
    store.record(job, RunRecord(report))


@pytest.fixture
def past(hub: SyncEnv) -> SyncEnv:
    """Runs of two jobs that ended in another order than they began; a failure came three times."""
    hub.jobs["motd"] = {
        **hub.jobs["nginx"],
        "paths": [{"from": "nginx/nginx.conf", "to": f"{hub.dest}/motd"}],
    }
    hub.write()
    store = SqliteStore.open(hub.state)
    record(store, "motd", "09:29:37")
    record(store, "nginx", "09:28:10", "a disk")
    record(store, "nginx", "09:30:27", "a disk")
    record(store, "motd", "09:29:40.000001")
    record(store, "motd", "09:29:40")
    record(store, "motd", "09:29:44.500000")
    record(store, "motd", "09:29:44")
    store.close()
    return hub


ORDER = ["nginx 30:27", "motd 29:44", "motd 29:44", "motd 29:40", "motd 29:40", "motd 29:37"]


def test_history_is_ordered_by_start_newest_first(past: SyncEnv) -> None:
    runs = past.call("history", "--json").json["runs"]
    assert [f"{run['job']} {run['started_at'][14:19]}" for run in runs] == ORDER
    assert [run["started_at"] for run in runs[:2]] == [
        "2026-11-24T09:30:27Z",
        "2026-11-24T09:29:44Z",
    ]
    assert [run["id"] for run in runs] == [2, 5, 6, 3, 4, 1]
    lines = [line for line in past.call("history").out.splitlines() if line[0] in "✓✕"]
    assert [f"{line.split()[2]} {line.split()[1][14:19]}" for line in lines] == ORDER
    newest = past.call("history", "--json", "--limit", "2").json["runs"]
    assert [run["id"] for run in newest] == [2, 5]
    of_motd = past.call("history", "motd", "--json").json["runs"]
    assert [run["id"] for run in of_motd] == [5, 6, 3, 4, 1]
    of_path = past.call("history", "--path", "/etc/motd", "--json").json["runs"]
    assert [run["id"] for run in of_path] == [5, 6, 3, 4, 1]


def test_the_page_shows_runs_by_their_start_newest_first(past: SyncEnv) -> None:
    store = SqliteStore.open(past.state)
    runs = read_recent_runs(store, BlobCache(past.state), show_diffs=False)
    store.close()
    assert [f"{run.job} {run.at:%M:%S}" for run in runs if run.at is not None] == ORDER


def times(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Each time in the object, with its place."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from times(inner, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        for inner in value:
            yield from times(inner, where)
    elif isinstance(value, str) and TIME.match(value):
        yield where, value


@pytest.fixture
def used(hub: SyncEnv) -> SyncEnv:
    """A job with a history, an entry in the trash, a rate limit and a set to go back to."""
    assert hub.sync().code == 0
    (hub.dest / "nginx.conf").write_text("theirs")
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0
    return hub


@pytest.mark.parametrize(
    ("command", "places"),
    [
        ("sync", set()),
        ("plan", set()),
        ("rollback nginx", set()),
        ("verify", set()),
        ("doctor", set()),
        ("history", {"runs.started_at", "runs.first_started_at"}),
        ("trash list", {"entries.replaced_at"}),
        (
            "status",
            {
                "jobs.since",
                "jobs.last_run",
                "jobs.last_success",
                "jobs.next_run",
                "identities.reset",
            },
        ),
    ],
)
def test_every_time_in_json_is_utc_to_the_second_and_ends_in_z(
    used: SyncEnv, command: str, places: set[str]
) -> None:
    found = list(times(used.call(*command.split(), "--json").json))
    assert {place for place, _ in found} == places
    for _, time in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time), time
