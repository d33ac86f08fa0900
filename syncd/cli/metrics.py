"""`sync --metrics-file`: what a listener would say, as a file for the textfile collector of Prometheus' node exporter.

The counters are this run's; times of success and the like are the store's. Source: node_exporter's README, "Textfile Collector": files
end in .prom, appear whole by a rename, and are read by another user.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from syncd.models import RunReport
from syncd.readings import Life, RunCounts, read
from syncd.web.metrics import exposition
from syncd.wiring import Workshop

MODE = 0o644


def write_metrics(path: str, workshop: Workshop, reports: Sequence[RunReport], started_at: datetime) -> None:
    """The file holds the metrics, whole; who reads it meets the old ones or the new. Raises StoreError, OSError."""
    counts = RunCounts()
    for report in reports:
        counts.add(report)
    life = Life(
        started_at, runs=counts.runs(), seconds=counts.seconds(), requests=workshop.tally.by_code(), budgets=workshop.rate_limits(),
        expiries=workshop.expiries(), skew_seconds=workshop.tally.skew_seconds,
    )  # fmt: skip
    replace_file(path, exposition(read(workshop.config, workshop.store, workshop.clock.now(), life)).encode())


def replace_file(path: str, content: bytes) -> None:
    """`path` holds exactly `content`, readable by all. Its temporary neighbour has a name that no collector takes up, and goes on any failure."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, MODE)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
