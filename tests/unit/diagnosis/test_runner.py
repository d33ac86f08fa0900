"""One check never hides the others: not by failing, and not by never ending."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from threading import Event

import pytest

from syncd.diagnosis.finding import Finding, ok
from syncd.diagnosis.runner import Check, run_check, run_checks
from syncd.errors import MirrorError, StoppedError

GOOD = ok("doctor/clock", "clock", "0.1 s from GitHub's")


def fails_after_one() -> Iterator[Finding]:
    yield GOOD
    raise MirrorError("the disk failed", id="mirror/io", hint="dmesg")


def has_a_bug() -> Iterator[Finding]:
    raise KeyError("gone")
    yield GOOD


def test_what_failed_is_a_finding_and_the_other_checks_go_on() -> None:
    checks = [
        Check("space", fails_after_one),
        Check("hook", has_a_bug),
        Check("clock", lambda: [GOOD]),
    ]
    found = list(run_checks(checks))
    assert [(one.id, one.subject, one.exit_code) for one in found] == [
        ("doctor/clock", "clock", 0),
        ("mirror/io", "space", 1),
        ("internal/bug", "hook", 70),
        ("doctor/clock", "clock", 0),
    ]


def test_a_check_that_does_not_end_is_left_behind() -> None:
    hangs = Event()

    def endless() -> Iterator[Finding]:
        yield GOOD
        hangs.wait()

    try:
        found = run_check(Check("destination", endless, 0.05))
    finally:
        hangs.set()
    assert [one.id for one in found] == ["doctor/clock", "doctor/too-slow"]
    assert found[-1].message == "the check did not end within 0.05 s"


def test_a_signal_ends_all_checks() -> None:
    def stopped() -> Iterator[Finding]:
        raise StoppedError("stopped by a signal")
        yield GOOD

    with pytest.raises(StoppedError):
        list(run_checks([Check("repository", stopped), Check("clock", lambda: [GOOD])]))


def test_a_check_that_ends_at_its_limit_keeps_its_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Event()

    def find() -> list[Finding]:
        gate.wait()
        return [ok("doctor/store", "store", "sound")]

    class EndsAtItsLimit(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            return

        def is_alive(self) -> bool:
            gate.set()
            super().join()
            return False

    monkeypatch.setattr(threading, "Thread", EndsAtItsLimit)
    assert [one.id for one in run_check(Check("store", find))] == ["doctor/store"]
