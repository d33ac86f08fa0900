"""The metrics of contract section 4, in Prometheus' text format,
and the page that explains them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.github.rate_limit import RateLimitStatus, SavedRateLimit
from syncd.models import Job
from syncd.ports import JobState, PendingReload
from syncd.status import RUN_OUTCOMES, JobSnapshot, ProcessStats, StatusSnapshot, WebhookStats
from syncd.store.notification_queue import DeliveryStats
from syncd.web.metrics import METRICS, exposition
from tests.support.fleet_looks import AWAY, HALTED, FixedFleet, agent, fleet
from tests.support.metrics import samples

ROOT = Path(__file__).resolve().parents[3]
AT = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)
CONTRACT = [
    "syncd_job_last_run_timestamp_seconds{job}",
    "syncd_job_last_success_timestamp_seconds{job}",
    "syncd_job_last_change_timestamp_seconds{job}",
    "syncd_job_runs_total{job,outcome}",
    "syncd_job_duration_seconds{job}",
    "syncd_job_files{job}",
    "syncd_job_drifted_files{job}",
    "syncd_job_reload_pending{job}",
    "syncd_job_paused{job}",
    "syncd_github_requests_total{code,identity}",
    "syncd_github_ratelimit_remaining{identity,installation}",
    "syncd_github_ratelimit_limit{identity,installation}",
    "syncd_github_token_expiry_timestamp_seconds{identity}",
    "syncd_clock_skew_seconds",
    "syncd_config_last_reload_successful",
    "syncd_build_info{version}",
]


def readings(name: str = "nginx") -> StatusSnapshot:
    job = Job(name, "ops", "acme/infra", "main", ())
    state = JobState(
        last_run_at=AT,
        last_success_at=AT - timedelta(hours=1),
        drift_count=2,
        pending_reload=PendingReload(),
    )
    process = ProcessStats(
        AT,
        runs={(name, "changed"): 3, ("gone", "failed"): 1},
        seconds={name: 0.8125},
        requests={("ops", 304): 12, ("ops", 200): 4},
        expiries={"ops": AT},
        skew_seconds=-0.5,
        reload_successful=False,
        webhook=WebhookStats(AT, "ping", counts={"asked": 3}),
    )
    reading = JobSnapshot(job, state, "failing", 7, None, interval_seconds=300.0)
    limits = (
        SavedRateLimit("ops", 42, "acme", RateLimitStatus(5000, 4786, AT)),
        SavedRateLimit("ops", 43, "beta", RateLimitStatus(5000, 7, AT)),
        SavedRateLimit("bot", None, None, RateLimitStatus(5000, 12, AT)),
        SavedRateLimit("fresh", None, None, RateLimitStatus(None, None, None)),
    )
    told = (DeliveryStats("env:HOOK_URL", waiting=1, sent=4, failed=2),)
    return StatusSnapshot(AT, (reading,), limits, process, deliveries=told, webhook=process.webhook)


def test_every_metric_of_the_contract_is_there_with_exactly_its_labels() -> None:
    found = {re.sub(r'="[^"]*"', "", name) for name in samples(exposition(readings()))}
    assert set(CONTRACT) <= found
    more = {
        "syncd_job_interval_seconds{job}",
        "syncd_job_checking{job}",
        "syncd_job_waiting{job}",
        "syncd_job_warning{job,reason}",
        "syncd_notifications_total{endpoint,outcome}",
        "syncd_notifications_waiting{endpoint}",
    }
    more |= {
        "syncd_webhook_deliveries_total{outcome}",
        "syncd_webhook_last_delivery_timestamp_seconds",
    }
    assert found == set(CONTRACT) | more


@pytest.mark.parametrize(("attempts", "expected"), [(0, AT.timestamp()), (1, None)])
def test_a_reload_that_is_put_off_says_until_when_unless_it_has_failed(
    attempts: int, expected: float | None
) -> None:
    pending = PendingReload("c", attempts=attempts, deferred_until=AT)
    job = Job("nginx", "ops", "acme/infra", "main", ())
    one = JobSnapshot(job, JobState(pending_reload=pending), "waiting", 7, None)
    found = samples(exposition(StatusSnapshot(AT, (one,), (), None)))
    name = 'syncd_job_reload_waiting_until_timestamp_seconds{job="nginx"}'
    assert found.get(name) == expected and found['syncd_job_reload_pending{job="nginx"}'] == 1


def test_values_are_what_the_readings_say() -> None:
    found = samples(exposition(readings()))
    assert found['syncd_job_last_run_timestamp_seconds{job="nginx"}'] == AT.timestamp()
    assert found['syncd_job_last_change_timestamp_seconds{job="nginx"}'] == 0
    assert found['syncd_job_duration_seconds{job="nginx"}'] == 0.812
    assert (
        found['syncd_job_files{job="nginx"}'],
        found['syncd_job_drifted_files{job="nginx"}'],
        found['syncd_job_reload_pending{job="nginx"}'],
    ) == (7, 2, 1)
    assert (
        found['syncd_job_paused{job="nginx"}'] == 0
        and found["syncd_clock_skew_seconds"] == -0.5
        and found["syncd_config_last_reload_successful"] == 0
    )
    assert (
        found['syncd_webhook_deliveries_total{outcome="asked"}'] == 3
        and found['syncd_webhook_deliveries_total{outcome="refused"}'] == 0
    )
    assert found["syncd_webhook_last_delivery_timestamp_seconds"] == AT.timestamp()
    assert found['syncd_github_requests_total{code="304",identity="ops"}'] == 12
    left = {
        name: value
        for name, value in found.items()
        if name.startswith("syncd_github_ratelimit_remaining")
    }
    assert left == {
        'syncd_github_ratelimit_remaining{identity="ops",installation="42"}': 4786,
        'syncd_github_ratelimit_remaining{identity="ops",installation="43"}': 7,
        'syncd_github_ratelimit_remaining{identity="bot",installation=""}': 12,
    }


def test_a_counter_begins_at_zero_for_every_outcome_and_forgets_jobs_that_are_gone() -> None:
    found = {
        name: value
        for name, value in samples(exposition(readings())).items()
        if name.startswith("syncd_job_runs_total")
    }
    assert found == {
        f'syncd_job_runs_total{{job="nginx",outcome="{outcome}"}}': 3 if outcome == "changed" else 0
        for outcome in RUN_OUTCOMES
    }


def test_what_is_not_known_is_left_out_instead_of_invented() -> None:
    found = exposition(readings())
    assert "fresh" not in found
    assert "syncd_webhook_deliveries_total" not in exposition(
        StatusSnapshot(AT, (), (), ProcessStats(AT), webhook=WebhookStats(AT))
    ), "a one-shot hears nothing"
    bare = exposition(StatusSnapshot(AT, (), (), None))
    assert [line.split("{")[0] for line in bare.splitlines()] == [
        line.split("{")[0] for line in bare.splitlines() if "syncd_build_info" in line
    ]


def test_label_values_are_escaped_as_the_format_says() -> None:
    assert (
        'syncd_job_files{job="a\\"b\\\\c\\nd"} 7.0'
        in exposition(readings('a"b\\c\nd')).splitlines()
    )


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (
            fleet(HALTED),
            {
                "database_up": 1,
                "database_since_timestamp_seconds": 1795780800,
                "leases": 2,
                'polls_total{outcome="published"}': 3,
                'polls_total{outcome="refused"}': 1,
                'job_poll_failures{job="nginx"}': 0,
                'job_rollout{job="nginx",state="stopped"}': 1,
                'job_rollout{job="postgres",state="halted"}': 1,
                'job_rollout{job="haproxy",state="waves"}': 1,
                'job_rollout{job="sshd",state="released"}': 1,
                'job_rollout{job="sshd",state="halted"}': 0,
                'job_lag_seconds{job="nginx"}': 600,
                'job_oldest_report_timestamp_seconds{job="nginx"}': 1796039960,
                'agents{state="failing"}': 1,
                'agents{state="behind"}': 1,
                'agents{state="never"}': 1,
                'agents{state="waiting"}': 0,
                "agents_twin": 0,
                'job_behind_seconds{job="nginx"}': None,
            },
        ),
        (
            fleet(HALTED, AWAY),
            {"database_up": 0, "leases": 2, "agents_twin": None, 'agents{state="failing"}': None},
        ),
        (
            agent(),
            {
                "database_up": 1,
                "leases": None,
                "notices_total": 12,
                'job_behind_seconds{job="nginx"}': 600,
                'job_behind_seconds{job="sshd"}': 0,
            },
        ),
    ],
    ids=["controller", "away", "agent"],
)
def test_metrics_of_a_fleet(look: FixedFleet, expected: dict[str, float | None]) -> None:
    found = samples(exposition(StatusSnapshot(AT, (), (), None), look.look()))
    assert {name: found.get(f"syncd_fleet_{name}") for name in expected} == expected


def test_every_metric_is_on_the_monitoring_page_and_the_reverse() -> None:
    page = (ROOT / "docs/monitoring/README.md").read_text()
    named = set(re.findall(r"\bsyncd_[a-z_]+[a-z]", page))
    assert {metric.name for metric in METRICS} == named


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
def test_promtool_finds_nothing_wrong_with_the_text() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposition(readings(), fleet(HALTED).look()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
