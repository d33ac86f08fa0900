"""Status of every job at one moment: the values, how they are read from the store, and how they are
shown.

`syncd status`, the status page, its JSON, /readyz and the metrics all show one `StatusSnapshot`.
Reading it sends no request to GitHub, and works with a running daemon, beside one and without one.
"""

from syncd.status.daemon_status import DaemonStatus
from syncd.status.model import (
    CONDITIONS,
    DELIVERY_OUTCOMES,
    INTERVALS,
    RUN_OUTCOMES,
    JobSnapshot,
    JobWarning,
    ProcessStats,
    RunCounts,
    StatusSnapshot,
    WebhookStats,
)
from syncd.status.read import load_webhook_stats, nth_run_after, read_status, save_webhook_stats
from syncd.status.remedy import daemon_problem, reasons_of, remedy_of
from syncd.status.render import (
    ago,
    delivery_problem,
    duration,
    job_json,
    pause_reason,
    rate_limit_line,
    rfc3339,
    status_json,
    usage_of,
    webhook_line,
)
from syncd.status.staleness import UNMATCHED_HINT, WARNINGS, unmatched_line

__all__ = [
    "CONDITIONS",
    "DELIVERY_OUTCOMES",
    "INTERVALS",
    "RUN_OUTCOMES",
    "UNMATCHED_HINT",
    "WARNINGS",
    "DaemonStatus",
    "JobSnapshot",
    "JobWarning",
    "ProcessStats",
    "RunCounts",
    "StatusSnapshot",
    "WebhookStats",
    "ago",
    "daemon_problem",
    "delivery_problem",
    "duration",
    "job_json",
    "load_webhook_stats",
    "nth_run_after",
    "pause_reason",
    "rate_limit_line",
    "read_status",
    "reasons_of",
    "remedy_of",
    "rfc3339",
    "save_webhook_stats",
    "status_json",
    "unmatched_line",
    "usage_of",
    "webhook_line",
]
