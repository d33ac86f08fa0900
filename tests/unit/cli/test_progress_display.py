"""The line of a job that runs, for each step and wait, and the lines that fit into a window."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice

import pytest

from syncd.cli import progress_display
from syncd.cli.progress_display import (
    DrawnLines,
    JobLine,
    ProgressDisplay,
    cut,
    refresh_pauses,
)
from syncd.output import echo
from syncd.progress import Step, Wait
from tests.support.clock import FakeClock

MIB = 1 << 20
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def fetched(line: JobLine, clock: FakeClock) -> None:
    line.step(Step.FETCHING, files=5000, size_bytes=12 * MIB)
    clock.advance(2)
    line.advance(files=1234)
    line.advance(size_bytes=3 * MIB)


def resumed(line: JobLine, clock: FakeClock) -> None:
    line.step(Step.WRITING, files=7)
    line.waiting(Wait.GITHUB_LIMIT, NOON)
    line.resumed()


def listed(line: JobLine, clock: FakeClock) -> None:
    line.step(Step.LISTING)
    line.advance(files=1200)


def hook(line: JobLine, clock: FakeClock) -> None:
    line.step(Step.ON_CHANGE, "systemctl reload nginx")
    clock.advance(12.4)


def locked(seconds: float) -> Callable[[JobLine, FakeClock], None]:
    def told(line: JobLine, clock: FakeClock) -> None:
        line.step(Step.VALIDATE, "nginx -t")
        line.waiting(Wait.OTHER_HOOK)
        clock.advance(seconds)

    return told


LINES: list[tuple[str, Callable[[JobLine, FakeClock], None], str]] = [
    ("asking", lambda line, _: line.asking("main of acme/infra"), "asking for main of acme/infra"),
    ("listing", lambda line, _: line.step(Step.LISTING), "listing the repository"),
    (
        "listing entries",
        listed,
        "listing the repository  1,200 entries",
    ),
    ("comparing", lambda line, _: line.step(Step.COMPARING), "comparing with the disk"),
    (
        "fetching",
        fetched,
        "fetching 1,234 of 5,000 files  3.0 MiB of 12.0 MiB  1.5 MiB/s",
    ),
    ("writing", lambda line, _: line.step(Step.WRITING, files=7), "writing 0 of 7 files"),
    ("syncing", lambda line, _: line.step(Step.SYNCING), "syncing to disk"),
    ("hook", hook, "running on_change  12 s  systemctl reload nginx"),
    ("own hook starts", locked(0.5), "running validate  0 s  nginx -t"),
    ("other hook", locked(2), "waiting: another syncd runs a hook of this job"),
    (
        "limit",
        lambda line, _: line.waiting(Wait.GITHUB_LIMIT, NOON.replace(hour=14, minute=5)),
        "waiting for GitHub's rate limit until 14:05 (GitHub names it)",
    ),
    (
        "limit soon",
        lambda line, _: line.waiting(Wait.GITHUB_LIMIT, NOON.replace(second=50)),
        "waiting for GitHub's rate limit until 12:00:50 (GitHub names it)",
    ),
    (
        "own limit",
        lambda line, _: line.waiting(Wait.OWN_LIMIT, NOON.replace(second=50)),
        "waiting until 12:00:50: at most 900 requests a minute",
    ),
    ("after a wait", resumed, "writing 0 of 7 files"),
    ("hostile", lambda line, _: line.asking("a\x1b[2J\nb"), r"asking for a\x1b[2J\nb"),
]


@pytest.mark.parametrize(
    ("told", "text"), [row[1:] for row in LINES], ids=[row[0] for row in LINES]
)
def test_a_job_has_one_line_for_what_it_does(
    told: Callable[[JobLine, FakeClock], None], text: str
) -> None:
    clock = FakeClock(NOON)
    line = JobLine("nginx", clock)
    told(line, clock)
    assert line.text() == f"nginx  {text}"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = FakeClock(NOON)
    line = JobLine("nginx", clock)
    line.step(Step.FETCHING, files=9, size_bytes=100 * MIB)
    for _ in range(10):
        clock.advance(1)
        line.advance(size_bytes=4 * MIB)
        line.text()
    for _ in range(6):
        clock.advance(1)
        line.advance(size_bytes=MIB)
        shown = line.text()
    assert shown.endswith("  1.0 MiB/s")


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("文文文", 5, "文文…"), ("文文文", 4, "文…")],
)
def test_a_line_is_cut_by_columns_and_not_by_characters(
    text: str, columns: int, shown: str
) -> None:
    assert cut(text, columns) == shown


def test_a_low_window_shows_some_jobs_and_counts_the_others() -> None:
    display = ProgressDisplay(20, threading.Event(), FakeClock(NOON))
    try:
        for number in range(12):
            display.line_of(f"job{number}").step(Step.LISTING)
        display.line_of("idle")
        display.remove("job0")
        assert display.text(80, 5).splitlines() == [
            "job1  listing the repository",
            "job2  listing the repository",
            "job3  listing the repository",
            "1 of 20 jobs done, 8 more running",
        ]
    finally:
        display.close()


def test_lines_are_replaced_where_they_changed_and_leave_nothing() -> None:
    stream = io.StringIO()
    drawn = DrawnLines(stream)
    for text in ("", "one\ntwo", "one\ntwo", "three", ""):
        drawn.draw(text)
    assert stream.getvalue() == "one\ntwo\r\x1b[2K\x1b[1A\x1b[2Kthree\r\x1b[2K"


def test_a_stream_without_a_window_has_the_usual_one() -> None:
    assert DrawnLines(io.StringIO()).window() == (80, 24)


def test_the_display_is_drawn_twice_a_second_and_after_five_seconds_once() -> None:
    assert list(islice(refresh_pauses(), 13)) == [0.5] * 10 + [1.0] * 3


def test_the_display_loads_nothing_of_rich_but_its_widths() -> None:
    program = (
        "import sys; from syncd.cli.progress_display import cut; cut('文文', 3);"
        "print(*[name for name in sys.modules if name in ('rich.cells', 'rich.segment')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"rich.cells\n"


@pytest.mark.parametrize("method", ["window", "draw"])
def test_a_display_that_fails_fails_nothing_else(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unhandled, failed = list[object](), threading.Event()

    def fail(*_: object, **__: object) -> None:
        failed.set()
        raise ValueError("the terminal is odd")

    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    monkeypatch.setattr(progress_display, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(progress_display, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(DrawnLines, method, fail)
    display = ProgressDisplay(1, threading.Event(), FakeClock(NOON))
    try:
        display.line_of("nginx").step(Step.LISTING)
        while not failed.wait(0.03):
            echo("said")
        echo("done")
    finally:
        display.close()
    assert capsys.readouterr().out.endswith("done\n")
    assert unhandled == []
