"""Every hint names the service that is in use, and not always `syncd`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.diagnosis.daemon import judge_daemon, judge_runs
from syncd.errors import LockedError
from syncd.status import StatusSnapshot, daemon_problem
from syncd.status.daemon_status import DaemonStatus
from syncd.store.lock import daemon_lock

AT = datetime(2026, 11, 30, 8, tzinfo=UTC)
SOURCES = sorted((Path(__file__).parents[3] / "syncd").rglob("*.py"))


def daemon(alive: bool = False, stopped: bool = False, late: str = "nginx") -> DaemonStatus:
    beat = AT - timedelta(hours=3)
    return DaemonStatus(alive, beat, beat, stopped, (late,), service="syncd-root")


@pytest.mark.parametrize(
    ("status", "shown", "doctor"),
    [
        (
            daemon(alive=True),
            "look at its log: journalctl -u syncd-root",
            "raise workers:, if all are busy; what it does now: journalctl -u syncd-root -n 50",
        ),
        (
            daemon(stopped=True),
            "systemctl start syncd-root",
            "systemctl start syncd-root, or let a timer run: syncd sync",
        ),
        (
            daemon(),
            "systemctl start syncd-root; why it ended: journalctl -u syncd-root",
            "systemctl restart syncd-root; why it ended: journalctl -u syncd-root -n 50",
        ),
    ],
    ids=["late", "stopped", "dead"],
)
def test_status_and_doctor_name_it(status: DaemonStatus, shown: str, doctor: str) -> None:
    assert (daemon_problem(status) or ("", ""))[1] == shown
    found = list(judge_runs(StatusSnapshot(AT, (), (), None, daemon=status)))
    assert [one.hint for one in found if one.hint is not None] == [doctor]
    assert judge_daemon(status, AT).hint in (None, doctor)


def test_a_second_daemon_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.store.lock.service_in_use", lambda pid: "syncd-root")
    with daemon_lock(tmp_path), pytest.raises(LockedError) as raised, daemon_lock(tmp_path):
        pass
    assert "systemctl status syncd-root`" in str(raised.value.hint)


def test_no_message_names_a_service_by_itself() -> None:
    command = re.compile(r"systemctl (?:start|restart|reload|status) syncd\b|journalctl -u syncd\b")
    assert [file.name for file in SOURCES if command.search(file.read_text())] == []
