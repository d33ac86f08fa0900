"""The screen of `syncd status`, line by line:
every state with its reason and the command to type.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from syncd.cli.status_table import status_lines
from syncd.models import Hook, Job, PathRule
from syncd.ports import Condition, JobState, LastError, Pause, PendingReload
from syncd.status import DaemonStatus, JobSnapshot, StatusSnapshot, WebhookStats
from syncd.status.systemd_timer import SystemdTimer
from syncd.text import on_terminal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
COMMIT = "9d2e11b" + "0" * 33


def before(**age: float) -> datetime:
    return NOW - timedelta(**age)


def one(name: str, state: JobState, **job: object) -> JobSnapshot:
    rule = PathRule("files", f"/srv/{name}", directory=True)
    made = Job(name, "ops", f"acme/{name}", "main", (rule,), every_seconds=300.0)
    made = replace(made, **job)
    state = replace(
        state,
        last_run_at=before(minutes=3),
        last_success_at=before(minutes=3),
        applied_commit=COMMIT,
    )
    next_run = None if state.pause is not None or state.held else NOW + timedelta(minutes=2)
    return JobSnapshot(made, state, state.condition_at(NOW), 4, next_run)


def since(name: str, **age: float) -> Condition:
    return Condition(name, before(**age))


WELL = one("motd", JobState(condition=since("in_sync", days=12)))
DRIFT = one("nginx", JobState(drift_count=1, condition=since("drift", seconds=41)))
PAUSED = one("legacy", JobState(pause=Pause("change freeze"), condition=since("paused", days=3)))
HELD = one("held", JobState(held=True, condition=since("paused", hours=1)))
FAILING = one(
    "postgres",
    JobState(
        failures=3,
        last_error=LastError(
            "hook",
            "validate failed for 8b0b0b0 (exit 1):\npostgres: syntax error in line 41",
            "hook/validate-failed",
            "fix postgresql.conf in acme/infra; the next commit is tried again",
        ),
        condition=since("failing", minutes=14),
    ),
)
PENDING = one(
    "relay",
    JobState(
        pending_reload=PendingReload(commit=COMMIT, since=before(minutes=20), attempts=2),
        condition=since("failing", minutes=20),
    ),
    on_change=Hook("systemctl reload relay", ("systemctl", "reload", "relay")),
)
RUNNING = DaemonStatus(True, before(days=12), before(seconds=2))


def shown(*jobs: JobSnapshot, width: int | None = None, **more: object) -> list[str]:
    snapshot = StatusSnapshot(NOW, jobs, (), **more)
    return [on_terminal(line).replace("\x1b[1m", "") for line in status_lines(snapshot, width)]


def plain(lines: list[str]) -> list[str]:
    for code in ("0", "31", "32", "33", "36"):
        lines = [line.replace(f"\x1b[{code}m", "") for line in lines]
    return lines


def test_every_state_shows_its_reason_and_what_to_type() -> None:
    jobs = (WELL, DRIFT, PAUSED, HELD, FAILING, PENDING)
    assert plain(shown(*jobs, daemon=RUNNING)) == [
        "STATE    JOB       SOURCE              COMMIT   SINCE  LAST    NEXT",
        "failing  postgres  acme/postgres@main  9d2e11b  14m    3m ago  in 2m",
        "         validate failed for 8b0b0b0 (exit 1):",
        "         postgres: syntax error in line 41",
        "         → fix postgresql.conf in acme/infra; the next commit is tried again",
        "failing  relay     acme/relay@main     9d2e11b  20m    3m ago  in 2m",
        "         on_change is pending since 2026-11-24 11:40 UTC: systemctl reload relay",
        "         → syncd sync relay",
        "drift    nginx     acme/nginx@main     9d2e11b  41s    3m ago  in 2m",
        "         1 file or folder differs from what was mirrored",
        "         → syncd plan nginx --diff",
        "paused   legacy    acme/legacy@main    9d2e11b  3d     3m ago  after resume",
        "         paused: change freeze",
        "         → syncd resume legacy",
        "paused   held      acme/held@main      9d2e11b  1h     3m ago  after resume",
        "         held after a rollback",
        "         → syncd resume held",
        "in sync  motd      acme/motd@main      9d2e11b  12d    3m ago  in 2m",
        "daemon: running for 12d, last heartbeat 2s ago",
    ]


def test_a_terminal_of_80_columns_folds_text_and_leaves_out_columns() -> None:
    wide = replace(FAILING.job, name="postgres-primary-west", repo="acme-platform/databases")
    lines = plain(shown(replace(FAILING, job=wide), width=80))
    assert lines == [
        "STATE    JOB                    SINCE  LAST    NEXT",
        "failing  postgres-primary-west  14m    3m ago  in 2m",
        "         validate failed for 8b0b0b0 (exit 1):",
        "         postgres: syntax error in line 41",
        "         → fix postgresql.conf in acme/infra; the next commit is tried again",
    ]
    lines = plain(shown(replace(FAILING, job=wide), width=60))
    assert lines[-2:] == [
        "         → fix postgresql.conf in acme/infra; the next",
        "           commit is tried again",
    ]
    assert max(len(line) for line in plain(shown(WELL, DRIFT, FAILING, PENDING, width=80))) <= 80


@pytest.mark.parametrize(
    ("daemon", "lines"),
    [
        (None, []),
        (DaemonStatus(True), ["daemon: running"]),
        (
            DaemonStatus(False, before(days=1), before(hours=3), stopped=True),
            ["daemon: stopped 3h ago"],
        ),
        (
            DaemonStatus(False, before(days=1), before(hours=3), stopped=True, overdue=("motd",)),
            [
                "daemon: stopped, and motd is overdue; last heartbeat 3h ago",
                "→ systemctl start syncd",
            ],
        ),
        (
            DaemonStatus(False, before(days=1), before(hours=3), overdue=("motd",)),
            [
                "daemon: dead: it ended without being stopped; last heartbeat 3h ago",
                "→ systemctl start syncd; why it ended: journalctl -u syncd",
            ],
        ),
        (
            DaemonStatus(
                True, before(days=1), before(seconds=9), overdue=("a", "b", "c", "d", "e")
            ),
            [
                (
                    "daemon: running, but 5 jobs are overdue (a, b, c and 2 more); last heartbeat "
                    "9s ago"
                ),
                "→ look at its log: journalctl -u syncd",
            ],
        ),
    ],
    ids=["none", "new", "stopped", "stopped too long", "dead", "late"],
)
def test_the_daemons_line(daemon: DaemonStatus | None, lines: list[str]) -> None:
    assert plain(shown(WELL, daemon=daemon))[2:] == lines


def test_an_overdue_job_says_so_instead_of_a_time_in_the_past() -> None:
    dead = DaemonStatus(False, before(days=1), before(hours=3), overdue=("motd",))
    late = replace(WELL, next_run=before(hours=2))
    assert plain(shown(late, daemon=dead))[1].endswith("3m ago  overdue")
    assert plain(shown(late))[1].endswith("3m ago  due")


def test_an_enabled_timer_is_named() -> None:
    assert plain(shown(WELL, timer=SystemdTimer("syncd-sync.timer", True)))[-1] == (
        "timer: syncd-sync.timer is enabled"
    )
    assert len(shown(WELL, timer=SystemdTimer("syncd-sync.timer", False))) == 2


def test_with_a_webhook_a_push_starts_the_job_too() -> None:
    deaf = replace(WELL, job=replace(WELL.job, on_push=False))
    assert plain(shown(WELL, webhook=WebhookStats()))[1].endswith("in 2m, or on push")
    assert plain(shown(deaf, webhook=WebhookStats()))[1].endswith("in 2m")


def test_each_state_has_a_colour_of_its_own() -> None:
    lines = shown(WELL, DRIFT, PAUSED, FAILING)
    assert [line.split("\x1b[0m")[0] for line in lines if line.startswith("\x1b")] == [
        "\x1b[31mfailing",
        "\x1b[33mdrift",
        "\x1b[36mpaused",
        "\x1b[32min sync",
    ]
