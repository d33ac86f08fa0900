"""What the log says of runs: news once, and nothing of a quiet turn."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from syncd.daemon.run_log import RunLog
from syncd.errors import LockedError, NotFoundError, RemoteUnavailableError, SyncdError
from syncd.models import ActionKind, Change, RunReport, RunStatus
from tests.support.clock import FakeClock

REPORT = RunReport("nginx", RunStatus.UNCHANGED, "acme/infra", "main", "a" * 40, "a" * 40)
WRITTEN = replace(
    REPORT,
    status=RunStatus.CHANGED,
    changes=(
        Change(ActionKind.WRITE, "/a", "a", None, "b"),
        Change(ActionKind.REMOVE, "/b", "b", "c", None),
    ),
    seconds=0.5,
)


def failed(error: SyncdError) -> RunReport:
    return replace(REPORT, status=RunStatus.FAILED, error=error)


class Bench:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.clock, self.caplog = FakeClock(), caplog
        self.telling = RunLog(self.clock)
        caplog.set_level(logging.INFO)

    def hear(self, *reports: RunReport) -> list[str]:
        self.caplog.clear()
        for report in reports:
            self.telling.log_run(report, "run1")
        return [record.getMessage() for record in self.caplog.records]


@pytest.fixture
def bench(caplog: pytest.LogCaptureFixture) -> Bench:
    return Bench(caplog)


def test_a_quiet_run_says_nothing_and_a_change_says_what_and_where(bench: Bench) -> None:
    assert bench.hear(REPORT, REPORT) == []
    assert bench.hear(WRITTEN) == ["nginx: 1 written, 1 removed at aaaaaaa in 0.5 s"]
    fields = vars(bench.caplog.records[0])["fields"]
    assert (
        fields["SYNCD_JOB"] == "nginx"
        and fields["SYNCD_RUN"] == "run1"
        and fields["SYNCD_COMMIT"] == "a" * 40
        and "SYNCD_ERROR" not in fields
    )


def test_a_failure_is_said_once_and_again_when_its_reason_is_another_one(bench: Bench) -> None:
    error = RemoteUnavailableError("502 for request 1234", hint="wait", request_id="AB:12")
    assert bench.hear(failed(error)) == ["nginx: 502 for request 1234 → wait"]
    assert (
        vars(bench.caplog.records[0])["fields"]["SYNCD_REQUEST_ID"] == "AB:12"
        and bench.caplog.records[0].levelno == logging.ERROR
    )
    assert (
        bench.hear(
            failed(RemoteUnavailableError("502 for request 5678")),
            failed(RemoteUnavailableError("502 for request 9")),
        )
        == []
    )
    assert bench.hear(failed(NotFoundError("no such branch"))) == ["nginx: no such branch"]
    assert (
        bench.hear(
            failed(RemoteUnavailableError("502 for request 7")),
            failed(NotFoundError("no such branch")),
        )
        == []
    ), "reasons that take turns"
    assert bench.hear(REPORT) == [
        "nginx: in sync again at aaaaaaa; it had failed 6 times since 2026-11-23T12:00:00Z"
    ]
    assert len(bench.hear(failed(error))) == 1, "a new failure is news"


def test_what_lasts_is_said_once_an_hour_for_all_jobs_together(bench: Bench) -> None:
    for number in range(8):
        bench.telling.log_run(replace(failed(NotFoundError("x")), job=f"job{number}"), "r")
    bench.caplog.clear()
    for _ in range(24 * 60):
        bench.clock.advance(60)
        bench.telling.log_still_failing()
    lines = [record.getMessage() for record in bench.caplog.records]
    assert len(lines) == 24 - 1 or len(lines) == 24
    assert lines[0] == (
        "still failing: job0, job1, job2, job3, job4 and 3 more; the longest since "
        "2026-11-23T12:00:00Z"
    )


def test_another_process_at_work_is_no_failure(bench: Bench) -> None:
    assert bench.hear(failed(LockedError("another syncd is at work on nginx"))) == [
        "nginx: another syncd is at work on nginx"
    ]
    assert bench.caplog.records[0].levelno == logging.INFO and bench.hear(REPORT) == []


def test_a_pause_and_files_left_alone_are_said_when_they_begin(bench: Bench) -> None:
    paused = replace(
        REPORT, status=RunStatus.SKIPPED, notes=("paused: for lunch; syncd resume nginx",)
    )
    assert bench.hear(paused, paused, paused) == [
        "nginx: skipped; paused: for lunch; syncd resume nginx"
    ]
    kept = replace(REPORT, changes=(Change(ActionKind.KEEP, "/etc/a", "a", "b", None),))
    assert bench.hear(kept, kept) == ["nginx: 1 left alone"] and bench.hear(REPORT, kept) == [
        "nginx: 1 left alone"
    ]
