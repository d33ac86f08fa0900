"""The reports of a fleet's agent: the last one of each job waits until it is written."""

from __future__ import annotations

import logging
import threading

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.daemon.fleet_reports import Reporter
from syncd.errors import AuthError, RemoteUnavailableError
from syncd.models import RunReport, RunStatus

AWAY = RemoteUnavailableError("the database is away")


def report(job: str, changes: int = 0) -> RunReport:
    return RunReport(job, RunStatus.UNCHANGED, "acme/infra", "main", None, None, files=changes)


class Database:
    """Fails with these errors first, then keeps what it is given."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.saved = list(errors), list[RunReport]()

    def save(self, report: RunReport) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.saved.append(report)


def written(database: Database, *reports: RunReport, stopped: bool = True) -> list[RunReport]:
    reporter = Reporter(database.save, lambda _: 0.0)
    for one in reports:
        reporter.add(one)
    thread = threading.Thread(target=reporter.run, daemon=True)
    thread.start()
    while reporter._waiting and thread.is_alive():
        thread.join(0.01)
    reporter.stop()
    thread.join(10)
    assert not thread.is_alive()
    return database.saved


def test_a_report_waits_until_the_database_takes_it(caplog: pytest.LogCaptureFixture) -> None:
    first, second = report("nginx"), report("sshd")
    with caplog.at_level(logging.WARNING):
        assert written(Database(AWAY, AWAY), first, second) == [first, second]
    assert [one.getMessage() for one in caplog.records] == [
        "nginx: the report of the run waits: the database is away"
    ]


def test_the_last_report_of_a_job_takes_the_place_of_the_one_that_waits() -> None:
    last, other = report("nginx", 2), report("sshd")
    assert written(Database(), report("nginx"), other, last) == [other, last]


@pytest.mark.parametrize("error", [AuthError("denied"), ValueError("a bug")])
def test_a_report_that_is_refused_is_not_tried_again(error: Exception) -> None:
    other = report("sshd")
    assert written(Database(error), report("nginx"), other) == [other]


def test_a_stop_does_not_wait_for_a_database_that_is_away() -> None:
    reporter = Reporter(Database(*[AWAY] * 9).save, lambda _: 3600.0)
    reporter.add(report("nginx"))
    thread = threading.Thread(target=reporter.run, daemon=True)
    thread.start()
    reporter.stop()
    thread.join(10)
    assert not thread.is_alive()
