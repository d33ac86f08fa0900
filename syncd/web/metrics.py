"""Status snapshot as Prometheus metrics, with the names and labels of contract section 4.

A collector of prometheus-client in a registry of its own: every value is read when it is asked for.
`web` answers with the text, and `sync --metrics-file` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector

from syncd import __version__
from syncd.status import (
    DELIVERY_OUTCOMES,
    RUN_OUTCOMES,
    WARNINGS,
    JobSnapshot,
    ProcessStats,
    StatusSnapshot,
)
from syncd.status.fleet import FleetLook
from syncd.web.fleet_metrics import FLEET_METRICS, of_fleet
from syncd.web.metric import Metric, Sample

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "ReadingsCollector", "exposition"]

Family = CounterMetricFamily | GaugeMetricFamily


JOB, IDENTITY, INSTALLATION = ("job",), ("identity",), ("identity", "installation")
LAST_RUN = Metric(
    "syncd_job_last_run_timestamp_seconds",
    "gauge",
    "When the job last ran, whatever came of it; 0 for never.",
    JOB,
)
LAST_SUCCESS = Metric(
    "syncd_job_last_success_timestamp_seconds",
    "gauge",
    "When the job was last found or brought in sync; 0 for never.",
    JOB,
)
LAST_CHANGE = Metric(
    "syncd_job_last_change_timestamp_seconds",
    "gauge",
    "When the job last changed a file; 0 for never.",
    JOB,
)
RUNS = Metric(
    "syncd_job_runs_total",
    "counter",
    "Runs since this process started, by what came of them.",
    ("job", "outcome"),
)
DURATION = Metric(
    "syncd_job_duration_seconds",
    "gauge",
    "How long the job's last run took in this process.",
    JOB,
)
INTERVAL = Metric(
    "syncd_job_interval_seconds",
    "gauge",
    "Seconds between the job's next two scheduled runs.",
    JOB,
)
FILES = Metric("syncd_job_files", "gauge", "Destinations that the ledger names for the job.", JOB)
DRIFTED = Metric(
    "syncd_job_drifted_files",
    "gauge",
    "Files that differ from what was mirrored, and folders that syncd made with "
    "another mode or owner, as the last run found them.",
    JOB,
)
RELOAD_PENDING = Metric(
    "syncd_job_reload_pending",
    "gauge",
    "1 while on_change has not succeeded since the last change.",
    JOB,
)
RELOAD_UNTIL = Metric(
    "syncd_job_reload_waiting_until_timestamp_seconds",
    "gauge",
    "When a pending reload may run that reload: puts off; left out where none waits, and for one "
    "that has failed.",
    JOB,
)
PAUSED = Metric(
    "syncd_job_paused",
    "gauge",
    "1 while the job is paused, or held after a rollback.",
    JOB,
)
CHECKING = Metric(
    "syncd_job_checking",
    "gauge",
    "1 while the health of the last change is being checked.",
    JOB,
)
WAITING_COMMIT = Metric(
    "syncd_job_waiting",
    "gauge",
    "1 while a new commit waits for a window of apply:, or for the end of a freeze.",
    JOB,
)
WAITING_UNTIL = Metric(
    "syncd_job_waiting_until_timestamp_seconds",
    "gauge",
    "When the commit that waits may be applied; left out where none waits or no window comes.",
    JOB,
)
WARNING = Metric(
    "syncd_job_warning",
    "gauge",
    "1 while changes of the job come late though no run fails, by reason.",
    ("job", "reason"),
)
REQUESTS = Metric(
    "syncd_github_requests_total",
    "counter",
    "HTTP exchanges with GitHub since this process started, by status; tokens and "
    "redirects included.",
    ("identity", "code"),
)
REMAINING = Metric(
    "syncd_github_ratelimit_remaining",
    "gauge",
    "Requests left of the hourly limit of an App's installation, or of a token, as "
    "GitHub last said.",
    INSTALLATION,
)
LIMIT = Metric(
    "syncd_github_ratelimit_limit",
    "gauge",
    "The hourly limit of an App's installation, or of a token, as GitHub last said.",
    INSTALLATION,
)
EXPIRY = Metric(
    "syncd_github_token_expiry_timestamp_seconds",
    "gauge",
    "When the identity's token ends, where GitHub says so; an App's is renewed by "
    "itself and not here.",
    IDENTITY,
)
SKEW = Metric(
    "syncd_clock_skew_seconds",
    "gauge",
    "GitHub's clock minus this machine's, as the last answer showed.",
)
RELOAD = Metric(
    "syncd_config_last_reload_successful",
    "gauge",
    "1 when the configuration was last read without a mistake.",
)
NOTIFICATIONS = Metric(
    "syncd_notifications_total",
    "counter",
    "Attempts to send a message to an endpoint of notify, by what came of them; "
    "dropped ones are among the failed.",
    ("endpoint", "outcome"),
)
WAITING = Metric(
    "syncd_notifications_waiting",
    "gauge",
    "Messages that wait to be sent, or sent again.",
    ("endpoint",),
)
DELIVERIES = Metric(
    "syncd_webhook_deliveries_total",
    "counter",
    "Deliveries to the push webhook since this process started, by what came of them.",
    ("outcome",),
)
DELIVERED = Metric(
    "syncd_webhook_last_delivery_timestamp_seconds",
    "gauge",
    "When the last signed delivery came to the push webhook; 0 for never.",
)
BUILD = Metric("syncd_build_info", "gauge", "1, with the version as its label.", ("version",))

METRICS = (
    LAST_RUN,
    LAST_SUCCESS,
    LAST_CHANGE,
    RUNS,
    DURATION,
    INTERVAL,
    FILES,
    DRIFTED,
    RELOAD_PENDING,
    RELOAD_UNTIL,
    PAUSED,
    CHECKING,
    WAITING_COMMIT,
    WAITING_UNTIL,
    WARNING,
    REQUESTS,
    REMAINING,
    LIMIT,
    EXPIRY,
    SKEW,
    RELOAD,
    NOTIFICATIONS,
    WAITING,
    DELIVERIES,
    DELIVERED,
    *FLEET_METRICS,
    BUILD,
)


def exposition(readings: StatusSnapshot, fleet: FleetLook | None = None) -> str:
    """Return every metric that has a value, in a fixed order, in the text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ReadingsCollector(readings, fleet))
    return generate_latest(registry).decode()


class ReadingsCollector(Collector):
    """Collects one snapshot as metric families. A metric without a value is left out."""

    def __init__(self, readings: StatusSnapshot, fleet: FleetLook | None = None) -> None:
        self._readings, self._fleet = readings, fleet

    def collect(self) -> Iterator[Family]:
        """Yield the families in a fixed order."""
        fleet = () if self._fleet is None else of_fleet(self._fleet)
        found = [*_of_jobs(self._readings.jobs), *_of_process(self._readings), *fleet]
        for metric, samples in found:
            if samples:
                yield _family(metric, samples)


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    of_kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = of_kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, round(float(value), 3))
    return family


def _of_jobs(jobs: Iterable[JobSnapshot]) -> Iterator[tuple[Metric, list[Sample]]]:
    named = [((one.job.name,), one) for one in jobs]
    intervals = [(job, one.interval_seconds) for job, one in named]
    yield LAST_RUN, [(job, _seconds(one.state.last_run_at)) for job, one in named]
    yield LAST_SUCCESS, [(job, _seconds(one.state.last_success_at)) for job, one in named]
    yield LAST_CHANGE, [(job, _seconds(one.state.last_change_at)) for job, one in named]
    yield INTERVAL, [(job, seconds) for job, seconds in intervals if seconds is not None]
    yield FILES, [(job, one.files) for job, one in named]
    yield DRIFTED, [(job, one.state.drift_count) for job, one in named]
    yield RELOAD_PENDING, [(job, one.state.pending_reload is not None) for job, one in named]
    planned = [(job, one.state.pending_reload) for job, one in named]
    times = [(job, one.planned_at) for job, one in planned if one is not None]
    yield RELOAD_UNTIL, [(job, _seconds(at)) for job, at in times if at is not None]
    yield PAUSED, [(job, one.condition == "paused") for job, one in named]
    yield CHECKING, [(job, one.condition == "checking") for job, one in named]
    reasons = [((*job, why), one.warnings, why) for job, one in named for why in WARNINGS]
    yield (
        WARNING,
        [(labels, any(one.reason == why for one in found)) for labels, found, why in reasons],
    )
    waiting = [(job, one.state.waiting) for job, one in named]
    ends = [(job, one.until) for job, one in waiting if one is not None]
    yield WAITING_COMMIT, [(job, one is not None) for job, one in waiting]
    yield WAITING_UNTIL, [(job, _seconds(until)) for job, until in ends if until is not None]


def _of_process(readings: StatusSnapshot) -> Iterator[tuple[Metric, list[Sample]]]:
    limits = [
        ((one.identity, str(one.installation or "")), one.view) for one in readings.rate_limits
    ]
    known = [(labels, view) for labels, view in limits if view.limit is not None]
    yield REMAINING, [(one, view.remaining) for one, view in known if view.remaining is not None]
    yield LIMIT, [(labels, view.limit) for labels, view in known if view.limit is not None]
    outcomes = ("sent", "failed", "dropped")
    told = [(one, outcome) for one in readings.deliveries for outcome in outcomes]
    yield NOTIFICATIONS, [((one.endpoint, outcome), getattr(one, outcome)) for one, outcome in told]
    yield WAITING, [((one.endpoint,), one.waiting) for one in readings.deliveries]
    if readings.webhook is not None:
        counts = readings.webhook.counts
        if readings.process is not None and readings.process.webhook is not None:
            yield (
                DELIVERIES,
                [((outcome,), counts.get(outcome, 0)) for outcome in DELIVERY_OUTCOMES],
            )
        yield DELIVERED, [((), _seconds(readings.webhook.last_at))]
    if readings.process is not None:
        yield from _of_life(readings.process, [one.job.name for one in readings.jobs])
    yield BUILD, [((__version__,), 1)]


def _of_life(process: ProcessStats, names: list[str]) -> Iterator[tuple[Metric, list[Sample]]]:
    ends = [(name, outcome) for name in names for outcome in RUN_OUTCOMES]
    requests = sorted(process.requests.items())
    yield RUNS, [(end, process.runs.get(end, 0)) for end in ends]
    yield DURATION, [((name,), process.seconds[name]) for name in names if name in process.seconds]
    yield REQUESTS, [((identity, str(code)), count) for (identity, code), count in requests]
    yield EXPIRY, [((name,), _seconds(moment)) for name, moment in sorted(process.expiries.items())]
    yield SKEW, [((), process.skew_seconds)] if process.skew_seconds is not None else []
    yield RELOAD, [((), process.reload_successful)]


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()
