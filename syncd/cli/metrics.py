"""`sync --metrics-file`: metrics for the textfile collector of Prometheus' node exporter.

The counters are those of this run; times of success and the like are from the store. Source:
node_exporter's README, "Textfile Collector": files end in .prom, appear whole by a rename, and are
read by another user.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from syncd.models import RunReport
from syncd.safe_open import replace_file
from syncd.status import ProcessStats, RunCounts, read_status
from syncd.web.metrics import exposition
from syncd.wiring import AppContext

MODE = 0o644


def write_metrics(
    path: str, app: AppContext, reports: Sequence[RunReport], started_at: datetime
) -> None:
    """Replace the file atomically by the present metrics. Raises StoreError, OSError."""
    counts = RunCounts()
    for report in reports:
        counts.add(report)
    process = ProcessStats(
        started_at,
        runs=counts.runs(),
        seconds=counts.seconds(),
        requests=app.request_metrics.by_code(),
        rate_limits=app.observed_limits(),
        expiries=app.token_expiries(),
        skew_seconds=app.request_metrics.skew_seconds,
    )
    replace_file(
        path,
        exposition(read_status(app.config, app.store, app.clock.now(), process)).encode(),
        MODE,
    )
