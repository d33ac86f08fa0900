"""PURE: the readings as Prometheus reads them, in the text exposition format 0.0.4; names and labels are contract section 4's.

A writer of our own: every value here is read at the moment of asking, from the store or from what the daemon counts, so there is
nothing for a client library's registry to hold (docs/decisions/0005-what-the-listener-stands-on.md).
Source of the format: prometheus.io, "Exposition formats", "Text-based format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from syncd import __version__
from syncd.readings import HEARD_OUTCOMES, OUTCOMES, JobReading, Life, Readings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


class Metric(NamedTuple):
    name: str
    kind: str
    help: str


LAST_RUN = Metric("syncd_job_last_run_timestamp_seconds", "gauge", "When the job last ran, whatever came of it; 0 for never.")
LAST_SUCCESS = Metric("syncd_job_last_success_timestamp_seconds", "gauge", "When the job was last found or brought in sync; 0 for never.")
LAST_CHANGE = Metric("syncd_job_last_change_timestamp_seconds", "gauge", "When the job last changed a file; 0 for never.")
RUNS = Metric("syncd_job_runs_total", "counter", "Runs since this process started, by what came of them.")
DURATION = Metric("syncd_job_duration_seconds", "gauge", "How long the job's last run took in this process.")
INTERVAL = Metric("syncd_job_interval_seconds", "gauge", "Seconds between the job's next two turns.")
FILES = Metric("syncd_job_files", "gauge", "Destinations that the ledger names for the job.")
DRIFTED = Metric("syncd_job_drifted_files", "gauge", "Files that differ from what was mirrored, and folders that syncd made with another mode or owner, as the last run found them.")
HOOK_OWED = Metric("syncd_job_reload_pending", "gauge", "1 while on_change has not succeeded since the last change.")
PAUSED = Metric("syncd_job_paused", "gauge", "1 while the job is paused, or held after a rollback.")
REQUESTS = Metric("syncd_github_requests_total", "counter", "HTTP exchanges with GitHub since this process started, by status; tokens and redirects included.")
REMAINING = Metric("syncd_github_ratelimit_remaining", "gauge", "Requests left of the hourly limit of an App's installation, or of a token, as GitHub last said.")
LIMIT = Metric("syncd_github_ratelimit_limit", "gauge", "The hourly limit of an App's installation, or of a token, as GitHub last said.")
EXPIRY = Metric("syncd_github_token_expiry_timestamp_seconds", "gauge", "When the identity's token ends, where GitHub says so; an App's is renewed by itself and not here.")
SKEW = Metric("syncd_clock_skew_seconds", "gauge", "GitHub's clock minus this machine's, as the last answer showed.")
RELOAD = Metric("syncd_config_last_reload_successful", "gauge", "1 when the configuration was last read without a mistake.")
TOLD = Metric("syncd_notifications_total", "counter", "Attempts to send a message to an endpoint of notify, by what came of them; dropped ones are among the failed.")
WAITING = Metric("syncd_notifications_waiting", "gauge", "Messages that wait to be sent, or sent again.")
DELIVERIES = Metric("syncd_webhook_deliveries_total", "counter", "Deliveries to the push webhook since this process started, by what came of them.")
DELIVERED = Metric("syncd_webhook_last_delivery_timestamp_seconds", "gauge", "When the last signed delivery came to the push webhook; 0 for never.")
BUILD = Metric("syncd_build_info", "gauge", "1, with the version as its label.")

METRICS = (
    LAST_RUN, LAST_SUCCESS, LAST_CHANGE, RUNS, DURATION, INTERVAL, FILES, DRIFTED, HOOK_OWED, PAUSED, REQUESTS, REMAINING, LIMIT, EXPIRY, SKEW, RELOAD, TOLD, WAITING,
    DELIVERIES, DELIVERED, BUILD,
)  # fmt: skip


def exposition(readings: Readings) -> str:
    """Every metric that has a value, in a fixed order, ending in a line end."""
    return "".join(_family(metric, samples) for metric, samples in [*_of_jobs(readings.jobs), *_of_process(readings)])


def _of_jobs(jobs: Iterable[JobReading]) -> Iterator[tuple[Metric, list[Sample]]]:
    named = [({"job": one.job.name}, one) for one in jobs]
    yield LAST_RUN, [(labels, _seconds(one.state.last_run_at)) for labels, one in named]
    yield LAST_SUCCESS, [(labels, _seconds(one.state.last_success_at)) for labels, one in named]
    yield LAST_CHANGE, [(labels, _seconds(one.state.last_change_at)) for labels, one in named]
    yield INTERVAL, [(labels, one.interval_seconds) for labels, one in named if one.interval_seconds is not None]
    yield FILES, [(labels, one.files) for labels, one in named]
    yield DRIFTED, [(labels, one.state.drifted) for labels, one in named]
    yield HOOK_OWED, [(labels, one.state.hook_owed) for labels, one in named]
    yield PAUSED, [(labels, one.word == "paused") for labels, one in named]


def _of_process(readings: Readings) -> Iterator[tuple[Metric, list[Sample]]]:
    known = [({"identity": one.identity, "installation": str(one.installation or "")}, one.view) for one in readings.budgets]
    yield REMAINING, [(labels, view.remaining) for labels, view in known if view.limit is not None and view.remaining is not None]
    yield LIMIT, [(labels, view.limit) for labels, view in known if view.limit is not None]
    told = [(one, outcome) for one in readings.deliveries for outcome in ("sent", "failed", "dropped")]
    yield TOLD, [({"endpoint": one.endpoint, "outcome": outcome}, getattr(one, outcome)) for one, outcome in told]
    yield WAITING, [({"endpoint": one.endpoint}, one.waiting) for one in readings.deliveries]
    if readings.heard is not None:
        here = readings.life is not None and readings.life.heard is not None
        yield DELIVERIES, [({"outcome": outcome}, readings.heard.counts.get(outcome, 0)) for outcome in HEARD_OUTCOMES] if here else []
        yield DELIVERED, [({}, _seconds(readings.heard.last_at))]
    if readings.life is not None:
        yield from _of_life(readings.life, [one.job.name for one in readings.jobs])
    yield BUILD, [({"version": __version__}, 1)]


def _of_life(life: Life, names: list[str]) -> Iterator[tuple[Metric, list[Sample]]]:
    yield RUNS, [({"job": name, "outcome": outcome}, life.runs.get((name, outcome), 0)) for name in names for outcome in OUTCOMES]
    yield DURATION, [({"job": name}, life.seconds[name]) for name in names if name in life.seconds]
    yield REQUESTS, [({"identity": identity, "code": str(code)}, count) for (identity, code), count in sorted(life.requests.items())]
    yield EXPIRY, [({"identity": identity}, _seconds(moment)) for identity, moment in sorted(life.expiries.items())]
    yield SKEW, [({}, life.skew_seconds)] if life.skew_seconds is not None else []
    yield RELOAD, [({}, life.reload_successful)]


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _family(metric: Metric, samples: list[Sample]) -> str:
    if not samples:
        return ""
    head = f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    return head + "".join(f"{metric.name}{_labels(labels)} {_number(value)}\n" for labels, value in samples)


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """Without an exponent: a time in seconds keeps its milliseconds."""
    return str(int(value)) if value == int(value) else f"{value:.3f}"
